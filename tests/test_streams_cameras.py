"""A camera with a process of its own: real processes that send, die, hang and say why."""

from __future__ import annotations

import json
import math
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.cameras import CameraState, CaptureCamera, Limits, Note, Refused, sensor_command
from streams.errors import CameraError
from streams.frame import SkeletonFrame
from streams.pace import frames_until, wait_until_ready

# What it does is in its settings: frames to send before the end, and how it ends.
SENSOR = """
import os, sys, time
import numpy as np
from streams.frame import body_as_seen
from streams.sensors import SensorError, run_sensor

def watch(sender, start):
    does = start.settings
    print("made for tests", flush=True)
    if does.get("error"):
        raise SensorError(does["error"], code="no_sensor", hint="Plug it in.", is_final=does["final"])
    if does.get("crash"):
        raise ValueError("broken")
    if does.get("hang"):
        time.sleep(3600)
    body = body_as_seen(0, np.zeros((33, 3), np.float32))
    for number in range(does.get("frames", 1_000_000)):
        sender.send([body] if number % 2 else [], layout="mediapipe33", timestamp_s=time.monotonic())
        if number == 2:
            sender.num_skipped = 7
            sender.note("info", "two frames")
        time.sleep(does.get("every_s", 0.005))
    if does.get("then_hang"):
        time.sleep(3600)
    if does.get("then_error"):
        raise SensorError("unplugged", code="unplugged", is_final=True)

run_sensor(watch)
"""
# Small: a process that hangs is killed soon. A start takes long on a busy machine.
LIMITS = Limits(start_s=30.0, hang_s=1.0, backoff_s=0.05, max_backoff_s=0.2, healthy_s=3600.0)

Open = Callable[..., CaptureCamera]


@pytest.fixture
def sensor(tmp_path: Path) -> Path:
    path = tmp_path / "sensor.py"
    path.write_text(SENSOR, encoding="utf-8")
    return path


@pytest.fixture
def open_capture(sensor: Path) -> Iterator[Open]:
    """Return a function that opens a camera whose sensor does as it is told."""
    opened: list[CaptureCamera] = []

    def open_one(limits: Limits = LIMITS, **does: Any) -> CaptureCamera:
        opened.append(CaptureCamera("test", [sys.executable, str(sensor)], source="t", settings=does, limits=limits))
        return opened[-1]

    yield open_one
    for camera in opened:
        camera.close()


def read_until(camera: CaptureCamera, is_so: Callable[[CameraState], bool]) -> list[SkeletonFrame]:
    """Read as the daemon does until the camera's state is so; return the frames."""
    frames: list[SkeletonFrame] = []
    deadline_s = time.monotonic() + 30
    while not is_so(state_of(camera)):
        assert time.monotonic() < deadline_s, state_of(camera)
        read = camera.read(time.monotonic(), 100)
        assert not [message for message in read if isinstance(message, Refused)]
        frames += [message for message in read if isinstance(message, SkeletonFrame)]
        time.sleep(0.01)
    return frames


def state_of(camera: CaptureCamera) -> CameraState:
    state = camera.state(time.monotonic())
    assert state is not None
    return state


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_frames_come_from_the_process_and_its_state_is_told(open_capture: Open) -> None:
    camera = open_capture()
    assert state_of(camera).age_s is None
    frames = read_until(camera, lambda state: state.fps > 0 and state.num_skipped == 7)
    assert [frame.seq for frame in frames] == list(range(len(frames)))
    assert {(frame.source, frame.layout, frame.axes) for frame in frames} == {("t", "mediapipe33", "RDF")}
    assert all(frame.timestamp_s <= frame.t_send_s <= time.monotonic() for frame in frames)
    state = state_of(camera)
    assert (state.kind, state.state, state.num_restarts, state.last_error) == ("test", "runs", 0, "")
    assert state.age_s is not None
    assert state.pid is not None
    assert state.last_lines == ("made for tests",)
    assert [note.message for note in camera.take_notes()] == ["camera test: two frames"]
    assert not camera.take_notes()
    assert not camera.cue("wave", 0.0)
    camera.close()
    assert not is_running(state.pid)


def test_its_endpoint_is_private_and_goes_with_it(open_capture: Open, monkeypatch: Any) -> None:
    # The name of a socket has 107 characters at most.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        monkeypatch.setattr("tempfile.tempdir", name)
        left = Path(name) / "crossglg-edge-camera-4194304999-x"
        left.mkdir()
        camera = open_capture()
        (folder,) = Path(name).glob("crossglg-edge-camera-*")
        assert folder != left, "what a killed daemon left is removed"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        camera.close()
        assert not folder.exists()


@pytest.mark.parametrize(("number", "error"), [(signal.SIGKILL, "signal SIGKILL"), (signal.SIGSTOP, "hung")])
def test_a_process_that_dies_or_hangs_is_started_again_and_told_once(
    open_capture: Open, number: signal.Signals, error: str
) -> None:
    camera = open_capture()
    pids = []
    for _ in range(2):
        read_until(camera, lambda state: state.fps > 0)
        pids.append(state_of(camera).pid)
        assert pids[-1] is not None
        os.kill(pids[-1], number)
        num_restarts = state_of(camera).num_restarts
        frames = read_until(camera, lambda state, num=num_restarts: state.num_restarts > num and state.state == "runs")  # type: ignore[misc]
    assert frames[-1].epoch != frames[0].epoch or len(frames) == 1
    assert error in state_of(camera).last_error
    assert not [pid for pid in pids if pid is not None and is_running(pid)]
    read_until(camera, lambda state: state.fps > 0)
    warnings = [note for note in camera.take_notes() if note.level == "warning"]
    assert len(warnings) == 1
    assert error in warnings[0].message


def test_a_process_that_never_starts_is_killed(open_capture: Open) -> None:
    camera = open_capture(Limits(start_s=0.5, backoff_s=0.05), hang=True)
    read_until(camera, lambda state: state.num_restarts > 0)
    assert state_of(camera).last_error == "the camera test did not start within 0.5 s"


def test_an_error_that_no_restart_mends_ends_the_camera(open_capture: Open) -> None:
    camera = open_capture(error="no sensor is plugged in", final=True)
    with pytest.raises(CameraError) as refused:
        read_until(camera, lambda state: False)
    assert (refused.value.message, refused.value.code, refused.value.hint) == (
        "no sensor is plugged in", "no_sensor", "Plug it in.",
    )  # fmt: skip
    assert state_of(camera).state == "failed"
    assert state_of(camera).num_restarts == 0


def test_what_gave_frames_once_is_tried_again_whatever_its_error(open_capture: Open) -> None:
    camera = open_capture(frames=3, then_error=True)
    read_until(camera, lambda state: state.num_restarts >= 2)
    assert state_of(camera).last_error == "unplugged"
    levels = [note.level for note in camera.take_notes() if "two frames" not in note.message]
    assert levels == ["warning", "info"], "lost, and back; then only counted"


def test_a_process_that_cannot_begin_is_tried_at_longer_intervals_and_its_last_words_are_told(
    open_capture: Open,
) -> None:
    camera = open_capture(Limits(backoff_s=0.1, max_backoff_s=0.2), crash=True)
    read_until(camera, lambda state: state.num_restarts >= 3)
    state = state_of(camera)
    assert "exit code 1: ValueError: broken" in state.last_error
    assert "made for tests" in state.last_lines
    (note,) = camera.take_notes()
    assert "started again after 0.1 s" in note.message


def test_a_sensor_that_is_over_ends_the_camera_after_its_last_frame(open_capture: Open) -> None:
    camera = open_capture(frames=200, every_s=0.0)
    frames = read_until(camera, lambda state: camera.wait_s(time.monotonic()) == math.inf)
    assert [frame.seq for frame in frames] == list(range(200))
    assert state_of(camera).state == "ended"
    assert state_of(camera).num_restarts == 0
    assert camera.read(time.monotonic(), 10) == []


def test_who_waits_for_a_camera_misses_no_frame_and_hears_of_its_trouble(open_capture: Open) -> None:
    camera = open_capture(frames=20, every_s=0.0)
    wait_until_ready(camera)
    frames = list(frames_until(camera, time.monotonic() + 30))
    assert [frame.seq for frame in frames if isinstance(frame, SkeletonFrame)] == list(range(20))
    told: list[Note] = []
    with pytest.raises(CameraError, match="none is plugged in"):
        wait_until_ready(open_capture(error="none is plugged in", final=True), told.append)
    assert not told


def test_a_python_that_is_not_there_is_told() -> None:
    camera = CaptureCamera("test", sensor_command("/not/there/python", "streams.sensors.x"), source="t", settings={})
    with pytest.raises(CameraError, match=r"/not/there/python: No such file"):
        camera.read(time.monotonic(), 10)
    camera.close()


def test_the_process_dies_with_a_daemon_that_is_killed(sensor: Path) -> None:
    code = f"""
import sys, time
from streams.cameras import CaptureCamera
settings = {{"then_hang": True, "frames": 3}}
camera = CaptureCamera("test", [sys.executable, {str(sensor)!r}], source="t", settings=settings)
while (state := camera.state(time.monotonic())).age_s is None:
    camera.read(time.monotonic(), 10)
    time.sleep(0.01)
print(state.pid, flush=True)
time.sleep(3600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
    deadline_s = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_sensor_whose_parent_is_gone_ends_at_once(sensor: Path) -> None:
    start = json.dumps({"endpoint": "ipc:///not/there", "parent": 1, "source": "t"})
    done = subprocess.run([sys.executable, str(sensor), start], timeout=30, check=False)
    assert done.returncode == 3
