"""The camera `k4a`: the real libk4a and libk4arecord of pyk4a-bundle's wheel, and stubs of libk4a and libk4abt in C.

No sensor is here, and libk4abt may not be passed on. The stubs (tests/fixtures/k4a) are compiled by these tests; files
in a folder say what they do.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.cameras import CameraState, CaptureCamera, Limits, Note, open_k4a, sensor_command
from streams.errors import CameraError
from streams.frame import SkeletonFrame
from streams.k4a_settings import K4aSettings
from streams.layouts import KINECT25_JOINTS, LAYOUTS
from streams.performer import perform
from streams.sensors.k4a import K4aStart, Part, examine_k4a, find_libraries
from streams.sensors.k4a.clock import DeviceClock
from streams.sockets import EventSubscriber

if TYPE_CHECKING:
    from tests.conftest import MakeConfig, Serve

SCRIPT = Path(sys.executable).with_name("crossglg-edge")
STUBS = Path(__file__).parent / "fixtures" / "k4a"
RECORDING = Path(__file__).parents[2] / "shared" / "k4a" / "recording.mkv"
MODEL = "dnn_model_2_0_op11.onnx"
LIMITS = Limits(hang_s=30.0, backoff_s=0.05, max_backoff_s=0.2)
# As the SDK stores one: a joint is 32 bytes, a body 1028.
JOINT = np.dtype([("position_mm", "<f4", 3), ("orientation", "<f4", 4), ("confidence", "<i4")])
BODY = np.dtype([("id", "<u4"), ("joints", JOINT, 32)])
PICTURE = np.dtype([("num_bodies", "<i4"), ("bodies", BODY, 6)])

needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("pyk4a") is None, reason="libk4a comes with pyk4a-bundle, of the extra `k4a`"
)
needs_recording = pytest.mark.skipif(not RECORDING.exists(), reason="the recording is not here")


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with libk4a, libk4abt and a model, compiled from the stubs."""
    if shutil.which("gcc") is None:
        pytest.skip("the stubs of the SDK are compiled with gcc")
    folder = tmp_path_factory.mktemp("k4a")
    flags = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    for name, needs in {"libk4a.so.1.4": [], "libk4abt.so.1.1": [f"-L{folder}", "-l:libk4a.so.1.4"]}.items():
        source = STUBS / f"{name.removeprefix('lib').partition('.')[0]}.c"
        subprocess.run([*flags, f"-Wl,-soname,{name}", "-o", folder / name, source, *needs], check=True)
    (folder / MODEL).write_bytes(b"\x08\x07as if it were a model")
    return folder


@pytest.fixture
def tracker_only(stubs: Path, tmp_path: Path) -> Path:
    """Return a folder with libk4abt and its model: libk4a and libk4arecord are the wheel's."""
    folder = tmp_path / "tracker"
    folder.mkdir()
    for name in ("libk4abt.so.1.1", MODEL):
        shutil.copy(stubs / name, folder)
    return folder


@pytest.fixture
def sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that tells the stubs what to do: a sensor is plugged in."""
    folder = tmp_path / "sensor"
    folder.mkdir()
    (folder / "plugged").touch()
    monkeypatch.setenv("K4A_STUB", str(folder))
    return folder


Open = Callable[..., CaptureCamera]


@pytest.fixture
def open_sensor(stubs: Path) -> Iterator[Open]:
    """Return a function that opens a camera whose process is soon started again."""
    opened: list[CaptureCamera] = []

    def open_one(limits: Limits = LIMITS, **settings: Any) -> CaptureCamera:
        waits = {name: settings.pop(name) for name in ("no_answer_s", "no_picture_s") if name in settings}
        start = K4aStart(k4a=K4aSettings(**{"libraries": str(stubs), "mode": "cpu", **settings}), **waits)
        command = sensor_command(sys.executable, "streams.sensors.k4a")
        opened.append(CaptureCamera("k4a", command, source="k4a", settings=msgspec.to_builtins(start), limits=limits))
        return opened[-1]

    yield open_one
    for camera in opened:
        camera.close()


def state_of(camera: CaptureCamera) -> CameraState:
    state = camera.state(time.monotonic())
    assert state is not None
    return state


def read_until(
    camera: CaptureCamera, is_so: Callable[[CameraState], bool], notes: list[Note] | None = None
) -> list[SkeletonFrame]:
    """Read as the daemon does until the camera's state is so; return the frames."""
    frames: list[SkeletonFrame] = []
    deadline_s = time.monotonic() + 30
    while not is_so(state_of(camera)):
        assert time.monotonic() < deadline_s, state_of(camera)
        read = camera.read(time.monotonic(), 100)
        frames += [message for message in read if isinstance(message, SkeletonFrame)]
        assert len(frames) < 10_000
        if notes is not None:
            notes += camera.take_notes()
        time.sleep(0.005)
    return frames


def read_frames(camera: CaptureCamera, count: int, notes: list[Note] | None = None) -> list[SkeletonFrame]:
    frames: list[SkeletonFrame] = []
    deadline_s = time.monotonic() + 30
    while len(frames) < count:
        assert time.monotonic() < deadline_s, (len(frames), state_of(camera))
        read = camera.read(time.monotonic(), 100)
        frames += [message for message in read if isinstance(message, SkeletonFrame)]
        if notes is not None:
            notes += camera.take_notes()
        time.sleep(0.005)
    return frames


def read_to_the_end(camera: CaptureCamera, notes: list[Note] | None = None) -> list[SkeletonFrame]:
    """Read as the daemon does until the camera has no more frames."""
    frames = read_until(camera, lambda state: state.state == "ended", notes)
    while not math.isinf(camera.wait_s(time.monotonic())):
        frames += [message for message in camera.read(time.monotonic(), 100) if isinstance(message, SkeletonFrame)]
    return frames


def k4a_bodies(joints_m: npt.NDArray[np.floating], ids: Sequence[int] = (1,)) -> npt.NDArray[Any]:
    """Return pictures of bodies as the SDK gives them, of kinect25 joints (L, 25, 3) in meters, a meter apart."""
    nearest = {
        "Pelvis": "SpineBase", "SpineNavel": "SpineMid", "SpineChest": "SpineMid", "ClavicleLeft": "SpineShoulder",
        "ClavicleRight": "SpineShoulder", "Nose": "Head", "EyeLeft": "Head", "EarLeft": "Head", "EyeRight": "Head",
        "EarRight": "Head",
    }  # fmt: skip
    order = [KINECT25_JOINTS.index(nearest.get(name, name)) for name in LAYOUTS["k4a32"].joints]
    pictures = np.zeros(len(joints_m), PICTURE)
    pictures["num_bodies"] = len(ids)
    for index, id_ in enumerate(ids):
        pictures["bodies"]["id"][:, index] = id_
        positions_mm = (joints_m[:, order] + [float(index), 0, 0]) * [-1000, -1000, 1000]
        pictures["bodies"]["joints"]["position_mm"][:, index] = positions_mm
        pictures["bodies"]["joints"]["confidence"][:, index] = 2
    return pictures


def write_bodies(sensor: Path, pictures: npt.NDArray[Any]) -> None:
    (sensor / "bodies").write_bytes(np.int32(len(pictures)).tobytes() + pictures.tobytes())


# The clock


@given(drift=st.floats(-3e-4, 3e-4), start_s=st.floats(0, 1e5), seed=st.integers(0, 2**32))
def test_a_drifting_clock_is_followed_and_times_rise(drift: float, start_s: float, seed: int) -> None:
    clock, rng = DeviceClock(), np.random.default_rng(seed)
    taken_s = np.arange(400) / 15
    # A picture in three is not delayed, and none overtakes another. All need 0.03 s, which cannot be seen.
    delays_s = rng.exponential(0.1, 400) * (np.arange(400) % 3 > 0)
    arrivals_s = np.maximum.accumulate(taken_s + 0.03 + delays_s + 1e-6 * np.arange(400))
    host_s = [
        clock.host_s(start_s + (1 + drift) * float(t), float(a)) for t, a in zip(taken_s, arrivals_s, strict=True)
    ]
    assert all(a < b for a, b in itertools.pairwise(host_s))
    assert all(t <= a for t, a in zip(host_s, arrivals_s, strict=True))
    # In 10 s the clocks drift apart by 3 ms, and a first picture that came late is made good meanwhile.
    np.testing.assert_allclose(host_s[150:], taken_s[150:] + 0.03, atol=0.0045)


@pytest.mark.parametrize("leap_s", [-1e4, -50.0, 0.8, 3600.0])
def test_a_clock_that_begins_anew_or_leaps_is_followed_at_once(leap_s: float) -> None:
    clock, host_s = DeviceClock(), []
    for i in range(300):
        device_s = 20_000.0 + i / 30 + (leap_s if i >= 150 else 0.0)
        host_s.append(clock.host_s(device_s, 5.0 + i / 30 + 0.02 * (i % 4 == 1)))
    assert all(a < b for a, b in itertools.pairwise(host_s))
    np.testing.assert_allclose(host_s[151:], 5.0 + np.arange(151, 300) / 30, atol=0.021)


def test_a_clock_that_stood_still_is_followed_after_the_window() -> None:
    clock = DeviceClock()
    host_s = [clock.host_s(i / 30, 5.0 + i / 30 + (2.0 if i >= 100 else 0.0)) for i in range(600)]
    assert all(a < b for a, b in itertools.pairwise(host_s))
    np.testing.assert_allclose(host_s[-1], 5.0 + 599 / 30 + 2.0, atol=1e-6)


# The libraries


def test_libraries_are_found_where_the_user_says_then_in_the_wheel(stubs: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "packages"
    for below in (f"usr/lib/{platform.machine()}-linux-gnu", "usr/lib", "usr/bin"):
        (unpacked / below).mkdir(parents=True, exist_ok=True)
    shutil.copy(stubs / "libk4a.so.1.4", unpacked / f"usr/lib/{platform.machine()}-linux-gnu/libk4a.so.1.4.1")
    shutil.copy(stubs / "libk4abt.so.1.1", unpacked / "usr/lib/libk4abt.so.1.1.2")
    shutil.copy(stubs / MODEL, unpacked / "usr/bin")
    for settings, environment in (
        (K4aSettings(libraries=str(unpacked)), {}),
        (K4aSettings(), {"CROSSGLG_EDGE_K4A": str(unpacked)}),
    ):
        libraries = find_libraries(settings, environment)
        assert libraries.file("libk4a").name == "libk4a.so.1.4.1"
        assert libraries.file("libk4abt").parent == unpacked / "usr/lib"
        assert libraries.model == unpacked / "usr/bin" / MODEL
        if importlib.util.find_spec("pyk4a") is not None:
            assert libraries.file("libk4arecord").parent.name == "pyk4a_bundle.libs"
    assert "pyk4a" not in sys.modules, "its module needs numpy 1"


def write_elf(path: Path, machine: int) -> None:
    path.write_bytes(b"\x7fELF\x02\x01\x01".ljust(18, b"\0") + machine.to_bytes(2, "little") + bytes(44))


def refused(code: str, **settings: Any) -> CameraError:
    file = settings.pop("file", "")
    with pytest.raises(CameraError) as refusal:
        open_k4a(K4aSettings(**settings), file=file).close()
    assert refusal.value.code == code, refusal.value.message
    assert refusal.value.hint
    return refusal.value


def test_what_no_restart_mends_is_refused_at_once(stubs: Path, tracker_only: Path, tmp_path: Path) -> None:
    machine = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    assert "no folder" in refused("no_k4a_folder", libraries=str(tmp_path / "none")).message
    folder = tmp_path / "wrong"
    shutil.copytree(stubs, folder)
    write_elf(folder / "libk4a.so.1.4", 183 if machine == "aarch64" else 62)
    error = refused("bad_libk4a", libraries=str(folder))
    assert f"is made for {machine}, this machine is {platform.machine()}" in error.message
    (folder / "libk4a.so.1.4").write_bytes(b"<html>")
    assert "is no library" in refused("bad_libk4a", libraries=str(folder)).message
    shutil.copy(stubs / "libk4a.so.1.4", folder)
    (folder / MODEL).write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    assert "is no ONNX model" in refused("bad_k4abt_model", libraries=str(folder)).message
    (folder / MODEL).unlink()
    assert MODEL in refused("no_k4abt_model", libraries=str(folder)).hint
    assert "No such file" in refused("no_k4abt_model", libraries=str(folder), model=str(tmp_path / "x.onnx")).message
    (folder / "libk4abt.so.1.1").unlink()
    error = refused("no_libk4abt", libraries=str(folder))
    assert "license" in error.hint
    assert "docs/cameras.md" in error.hint
    assert "k4arecorder" in refused("no_recording", libraries=str(stubs), file=str(tmp_path / "none.mkv")).hint


@pytest.mark.skipif(importlib.util.find_spec("pyk4a") is not None, reason="libk4a is installed here")
def test_without_libk4a_its_hint_says_how_to_get_it() -> None:
    assert "pip install 'crossglg-edge[k4a]'" in refused("no_libk4a").hint


def test_the_widest_view_has_no_thirty_pictures_a_second() -> None:
    with pytest.raises(ValueError, match="15 pictures a second"):
        K4aSettings(depth_mode="wfov_unbinned")


# A sensor, by the stub of libk4a


def test_six_people_come_with_their_ids_and_confidences_and_ages(sensor: Path, open_sensor: Open) -> None:
    joints_m = perform("wave", seed=1).joints_m[:1]
    pictures = k4a_bodies(joints_m, (1, 2, 3, 4, 7, 0xFFFFFFFF))
    pictures["bodies"]["joints"]["confidence"][0, 0, :5] = [0, 1, 2, 3, 99]
    pictures["bodies"]["joints"]["position_mm"][0, 1, 3] = [np.inf, 0, 0]
    write_bodies(sensor, pictures)
    frames = read_frames(open_sensor(), 20)
    assert {(frame.source, frame.layout, frame.axes, frame.fps) for frame in frames} == {("k4a", "k4a32", "RDF", 30.0)}
    bodies = frames[0].bodies
    assert [body.id for body in bodies] == [1, 2, 3, 4, 7], "the last one is no body"
    assert bodies[0].confidence[:6].tolist() == [0, 1, 2, 3, 3, 2]
    assert np.isnan(bodies[1].joints_m[3]).all(), "a joint that is nowhere costs no frame"
    (seen, *_) = frames[0].to_kinect25().bodies[2:]
    np.testing.assert_allclose(seen.joints_m[9], joints_m[0, 9] + [2, 0, 0], atol=1e-5)
    times_s = [frame.timestamp_s for frame in frames]
    assert all(a < b for a, b in itertools.pairwise(times_s))
    assert np.median(np.diff(times_s)) == pytest.approx(1 / 30, abs=0.003)
    assert all(0 <= frame.t_send_s - frame.timestamp_s < 0.5 for frame in frames)
    assert abs(frames[-1].timestamp_s - time.monotonic()) < 5, "its clock began at 5 s"


def test_the_settings_arrive_in_the_libraries(stubs: Path, sensor: Path, open_sensor: Open, tmp_path: Path) -> None:
    model = tmp_path / "lite.onnx"
    shutil.copy(stubs / MODEL, model)
    camera = open_sensor(
        mode="tensorrt", gpu=3, smoothing=0.25, depth_mode="wfov_2x2binned", fps=15, orientation="clockwise90",
        model=str(model), serial="000123456789",
    )  # fmt: skip
    (frame, *_) = read_frames(camera, 1)
    assert frame.axes == "URF", "the SDK names the turn as who faces the sensor sees it"
    assert frame.bodies == ()
    # orientation, mode, GPU, model, smoothing; then depth mode, rate, color, synchronized
    assert (sensor / "tracker").read_text(encoding="utf-8") == f"1 3 3 {model} 0.25"
    assert (sensor / "device").read_text(encoding="utf-8") == "3 1 0 0"
    camera.close()
    assert (sensor / "closed").exists(), "it lets go of the sensor in order"


def test_a_slow_tracker_gets_the_newest_picture_and_the_rest_is_counted(sensor: Path, open_sensor: Open) -> None:
    (sensor / "tracker_slow").touch()
    camera = open_sensor()
    frames = read_frames(camera, 8)
    assert all(frame.t_send_s - frame.timestamp_s < 0.4 for frame in frames), "no picture waits for the ones before it"
    assert np.median(np.diff([frame.timestamp_s for frame in frames])) > 0.09
    assert read_until(camera, lambda state: state.num_skipped > 0) is not None


def test_a_sensor_that_is_unplugged_is_told_once_and_comes_back(sensor: Path, open_sensor: Open) -> None:
    camera = open_sensor()
    notes: list[Note] = []
    before = read_frames(camera, 3, notes)
    assert notes == []
    (sensor / "plugged").unlink()
    read_until(camera, lambda state: state.num_restarts >= 2, notes)
    assert "no sensor is plugged in" in state_of(camera).last_error
    (sensor / "taken").touch()
    (sensor / "plugged").touch()
    read_until(camera, lambda state: "cannot be opened" in state.last_error, notes)
    assert "libusb device(s) are all unavailable" in state_of(camera).last_error
    (sensor / "taken").unlink()
    (after, *_) = read_frames(camera, 1, notes)
    assert after.epoch != before[0].epoch
    assert [note.level for note in notes] == ["warning", "info"]
    assert notes[0].message.startswith("the sensor is gone (it says: USB device was removed)")


def test_a_driver_that_hangs_and_a_tracker_that_crashes_are_started_again(sensor: Path, open_sensor: Open) -> None:
    camera = open_sensor(replace(LIMITS, hang_s=1.0))
    read_frames(camera, 2)
    for name, error in (("driver_hangs", "hung"), ("tracker_crashes", "signal SIGSEGV"), ("tracker_hangs", "hung")):
        (sensor / name).touch()
        read_until(camera, lambda state, error=error: error in state.last_error)  # type: ignore[misc]
        (sensor / name).unlink()
        assert read_frames(camera, 2)


def test_silence_of_sensor_or_tracker_ends_the_process_with_its_name(sensor: Path, open_sensor: Open) -> None:
    camera = open_sensor(no_answer_s=0.5, no_picture_s=0.5)
    read_frames(camera, 2)
    for name, error in (
        ("frozen", "the sensor gave no picture for 0.5 s"),
        ("tracker_silent", "the body tracker gave no answer for 0.5 s"),
        ("tracker_fails", "the body tracker failed"),
    ):
        (sensor / name).touch()
        read_until(camera, lambda state, error=error: error in state.last_error)  # type: ignore[misc]
        (sensor / name).unlink()
        assert read_frames(camera, 1)


def test_a_depth_engine_without_a_display_is_told(sensor: Path, open_sensor: Open) -> None:
    (sensor / "no_depth_engine").touch()
    camera = open_sensor()
    notes: list[Note] = []
    read_until(camera, lambda state: bool(state.last_error), notes)
    assert "does not start (it says: depth engine create and initialize failed" in state_of(camera).last_error
    assert "DISPLAY" in notes[0].message


def test_a_model_that_the_tracker_refuses_is_told_with_its_own_words(
    stubs: Path, sensor: Path, open_sensor: Open, tmp_path: Path
) -> None:
    model = tmp_path / "damaged.onnx"
    model.write_bytes(b"\x08\x07DAMAGED")
    camera = open_sensor(model=str(model))
    read_until(camera, lambda state: bool(state.last_error))
    state = state_of(camera)
    assert "the body tracker cannot be made, mode cpu" in state.last_error
    assert any("Protobuf parsing failed" in line for line in state.last_lines)
    shutil.copy(stubs / MODEL, model)
    assert read_frames(camera, 1), "it is tried again"


def test_a_serial_number_that_nobody_has_is_told_with_those_there_are(sensor: Path, open_sensor: Open) -> None:
    camera = open_sensor(serial="42")
    read_until(camera, lambda state: bool(state.last_error))
    assert state_of(camera).last_error.startswith("no sensor has the serial number 42; free ones: 000123456789")


def test_a_library_without_the_functions_is_refused(stubs: Path, open_sensor: Open, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(stubs, folder)
    shutil.copy(stubs / "libk4a.so.1.4", folder / "libk4abt.so.1.1")
    camera = open_sensor(libraries=str(folder))
    with pytest.raises(CameraError, match="has no function k4abt_tracker_create") as refusal:
        read_until(camera, lambda state: False)
    assert refusal.value.code == "bad_libk4abt"


# The real libk4a and libk4arecord


@needs_wheel
def test_the_real_libk4a_says_that_there_is_no_sensor(tracker_only: Path, open_sensor: Open) -> None:
    if next(part for part in examine_k4a(K4aSettings()) if part.what == "Azure Kinect").state == "ok":
        pytest.skip("a sensor is plugged in")
    camera = open_sensor(libraries=str(tracker_only))
    notes: list[Note] = []
    read_until(camera, lambda state: state.num_restarts >= 1, notes)
    assert "no sensor is plugged in (it says: " in state_of(camera).last_error
    assert "No devices found" in state_of(camera).last_error
    assert len(notes) == 1
    assert "USB 3" in notes[0].message


@needs_wheel
@needs_recording
def test_a_recording_plays_through_the_real_libraries(tracker_only: Path, sensor: Path) -> None:
    write_bodies(sensor, k4a_bodies(perform("wave", seed=1).joints_m[:1]))
    camera = open_k4a(K4aSettings(libraries=str(tracker_only), mode="cpu"), file=str(RECORDING), loop=False)
    try:
        (frame,) = read_to_the_end(camera)
        assert (frame.fps, frame.layout, len(frame.bodies), frame.clock) == (5.0, "k4a32", 1, "")
        assert frame.timestamp_s == frame.t_send_s
    finally:
        camera.close()


class DeviceConfiguration(ctypes.Structure):
    """As k4atypes.h has it, written down a second time."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("color_format", "color_resolution", "depth_mode", "camera_fps")),
        ("synchronized_images_only", ctypes.c_bool),
        ("depth_delay_off_color_usec", ctypes.c_int32),
        ("wired_sync_mode", ctypes.c_int),
        ("subordinate_delay_off_master_usec", ctypes.c_uint32),
        ("disable_streaming_indicator", ctypes.c_bool),
    )


DEPTH, INFRARED = 4, 5
BINNED, PASSIVE_INFRARED = 1, 5


def write_recording(
    path: Path, num_pictures: int, *, depth_mode: int = BINNED, image: int = DEPTH, is_calibrated: bool = True
) -> Path:
    """Write 15 empty pictures a second with the real libk4arecord, and the calibration of another recording."""
    libraries = find_libraries(K4aSettings(), {})
    k4a, record = (ctypes.CDLL(str(libraries.file(name))) for name in ("libk4a", "libk4arecord"))
    handle, size, reference = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.byref

    def call(function: Any, *arguments: Any) -> None:
        assert function(*arguments) == 0, function.__name__

    call(record.k4a_playback_open, str(RECORDING).encode(), reference(handle))
    record.k4a_playback_get_raw_calibration(handle, None, reference(size))
    calibration = ctypes.create_string_buffer(size.value)
    call(record.k4a_playback_get_raw_calibration, handle, calibration, reference(size))
    record.k4a_playback_close(handle)
    configuration = DeviceConfiguration(depth_mode=depth_mode, camera_fps=1)
    call(record.k4a_record_create, str(path).encode(), None, configuration, reference(handle))
    if is_calibrated:
        call(record.k4a_record_add_attachment, handle, b"calibration.json", calibration, size)
        call(record.k4a_record_add_tag, handle, b"K4A_CALIBRATION_FILE", b"calibration.json")
    call(record.k4a_record_write_header, handle)
    width, height = (320, 288) if depth_mode == BINNED else (1024, 1024)
    for number in range(num_pictures):
        capture, picture = ctypes.c_void_p(), ctypes.c_void_p()
        call(k4a.k4a_capture_create, reference(capture))
        call(k4a.k4a_image_create, image, width, height, 2 * width, reference(picture))
        k4a.k4a_image_set_device_timestamp_usec(picture, ctypes.c_uint64(round(1e6 * (number + 1) / 15)))
        put = k4a.k4a_capture_set_depth_image if image == DEPTH else k4a.k4a_capture_set_ir_image
        put(capture, picture)
        k4a.k4a_image_release(picture)
        call(record.k4a_record_write_capture, handle, capture)
        k4a.k4a_capture_release(capture)
    call(record.k4a_record_flush, handle)
    record.k4a_record_close(handle)
    return path


@needs_wheel
@needs_recording
def test_a_recording_goes_on_at_its_pace_and_begins_again(tracker_only: Path, sensor: Path, tmp_path: Path) -> None:
    write_bodies(sensor, k4a_bodies(perform("wave", seed=1).joints_m))
    (sensor / "by_time").touch()
    path = write_recording(tmp_path / "recording.mkv", 6)
    camera = open_k4a(K4aSettings(libraries=str(tracker_only), mode="cpu"), file=str(path))
    try:
        frames = read_frames(camera, 14)
    finally:
        camera.close()
    steps_s = np.diff([frame.timestamp_s for frame in frames])
    np.testing.assert_allclose(np.delete(steps_s, [5, 11]), 1 / 15, atol=1e-4)
    np.testing.assert_allclose(steps_s[[5, 11]], 1.0, atol=1e-4)
    assert len({frame.epoch for frame in frames}) == 1
    joints_m = [frame.bodies[0].joints_m for frame in frames]
    np.testing.assert_array_equal(joints_m[0], joints_m[6])
    assert not np.array_equal(joints_m[0], joints_m[1])


@needs_wheel
@needs_recording
@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"is_calibrated": False}, "has no calibration"),
        ({"depth_mode": PASSIVE_INFRARED, "image": INFRARED}, "has no depth pictures"),
    ],
)
def test_a_recording_that_lacks_what_the_tracker_needs_is_refused(
    settings: Mapping[str, Any], error: str, tracker_only: Path, tmp_path: Path
) -> None:
    assert error in failure_of(write_recording(tmp_path / "recording.mkv", 2, **settings), tracker_only).message


@needs_wheel
@needs_recording
def test_a_damaged_recording_plays_as_far_as_it_goes_and_a_cut_one_is_refused(
    tracker_only: Path, sensor: Path, tmp_path: Path
) -> None:
    path = write_recording(tmp_path / "recording.mkv", 8)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 5 // 8])
    assert "cannot be played" in failure_of(path, tracker_only).message
    # Each cluster holds a picture.
    clusters = [found.start() for found in re.finditer(b"\x1fC\xb6u", content)]
    assert len(clusters) == 8
    path.write_bytes(content[: clusters[5]] + bytes(100) + content[clusters[5] + 100 :])
    camera = open_k4a(K4aSettings(libraries=str(tracker_only), mode="cpu"), file=str(path), loop=False)
    try:
        assert len(read_to_the_end(camera)) == 5
    finally:
        camera.close()


def failure_of(file: Path, libraries: Path) -> CameraError:
    camera = open_k4a(K4aSettings(libraries=str(libraries), mode="cpu"), file=str(file))
    try:
        with pytest.raises(CameraError) as refusal:
            read_until(camera, lambda state: False)
        assert refusal.value.code == "bad_recording"
        return refusal.value
    finally:
        camera.close()


@needs_wheel
def test_a_file_that_is_no_recording_is_refused(tracker_only: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.mkv"
    file.write_bytes(b"no recording")
    assert "is no .mkv" in refused("bad_recording", libraries=str(tracker_only), file=str(file)).message
    file.write_bytes(b"\x1aE\xdf\xa3\x80")
    assert "cannot be played" in failure_of(file, tracker_only).message


# What a machine has and lacks


def parts_of(settings: K4aSettings, root: Path = Path("/")) -> dict[str, Part]:
    return {part.what: part for part in examine_k4a(settings, root=root)}


def test_the_parts_are_found_and_each_missing_one_is_named(
    stubs: Path, tracker_only: Path, sensor: Path, tmp_path: Path
) -> None:
    parts = parts_of(K4aSettings(libraries=str(stubs), mode="cpu"))
    assert {what for what, part in parts.items() if part.state == "ok"} >= {
        "libk4a", "libk4abt", "k4abt model", "Azure Kinect",
    }  # fmt: skip
    assert parts["Azure Kinect"].found == "1 of 1 can be opened"
    assert parts["k4abt mode cpu"].state == "missing", "the stub has no ONNX Runtime"
    (sensor / "taken").touch()
    (stubs / "libonnxruntime.so.1.10.0").touch()
    parts = parts_of(K4aSettings(libraries=str(stubs), mode="cpu"))
    (stubs / "libonnxruntime.so.1.10.0").unlink()
    assert parts["Azure Kinect"].found == "1 found, none can be opened"
    assert "udev" in parts["Azure Kinect"].remedy
    assert parts["k4abt mode cpu"].state == "ok"
    assert parts_of(K4aSettings(libraries=str(stubs), mode="directml"))["k4abt mode directml"].state == "broken"
    (tracker_only / MODEL).write_bytes(b"<html>")
    write_elf(tracker_only / "libk4abt.so.1.1", 62 if platform.machine() == "aarch64" else 183)
    parts = parts_of(K4aSettings(libraries=str(tracker_only), mode="tensorrt"))
    assert "is made for" in parts["libk4abt"].found
    assert "is no ONNX model" in parts["k4abt model"].found
    assert "libcudart.so.11.0" in parts["k4abt mode tensorrt"].found
    assert "libnvinfer.so.8" in parts["k4abt mode tensorrt"].found
    (broken,) = examine_k4a(K4aSettings(libraries=str(tmp_path / "none")))
    assert (broken.state, broken.what) == ("broken", "libk4a")


def test_a_library_that_crashes_when_it_is_loaded_is_told(stubs: Path, sensor: Path, tmp_path: Path) -> None:
    folder, source = tmp_path / "crashes", tmp_path / "crashes.c"
    shutil.copytree(stubs, folder)
    source.write_text("__attribute__((constructor)) static void crash(void) { *(volatile int *)8 = 1; }\n", "utf-8")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "libk4abt.so.1.1", source], check=True)
    part = parts_of(K4aSettings(libraries=str(folder)))["libk4abt"]
    assert (part.state, part.found) == ("broken", f"{folder / 'libk4abt.so.1.1'} crashes with SIGSEGV")


def test_the_udev_rule_and_what_is_plugged_in_are_looked_for(
    stubs: Path, sensor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sensor / "plugged").unlink()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    settings = K4aSettings(libraries=str(stubs))
    device = tmp_path / "sys/bus/usb/devices/2-1"
    device.mkdir(parents=True)
    (device / "idVendor").write_text("2bc5\n", encoding="utf-8")
    (device / "idProduct").write_text("066b\n", encoding="utf-8")
    rules = tmp_path / "etc/udev/rules.d"
    rules.mkdir(parents=True)
    (rules / "10-other.rules").write_text('ATTRS{idVendor}=="045e"\n', encoding="utf-8")
    parts = parts_of(settings, tmp_path)
    assert parts["udev rule"].state == "missing"
    assert "99-k4a.rules" in parts["udev rule"].remedy
    assert parts["Azure Kinect"].found == "no sensor found; on USB: 2bc5:066b"
    assert "Orbbec's K4A wrapper" in parts["Azure Kinect"].remedy
    (rules / "99-k4a.rules").write_text('ATTRS{idVendor}=="045e", ATTRS{idProduct}=="097c"\n', encoding="utf-8")
    assert parts_of(settings, tmp_path)["udev rule"].found == str(rules / "99-k4a.rules")


# The daemon


def test_an_action_is_enrolled_and_recognized_through_the_sensor_and_from_a_recording(
    serve: Serve, make_config: MakeConfig, stubs: Path, tracker_only: Path, sensor: Path, tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery.db"

    def config(libraries: Path) -> Path:
        path = make_config(gallery=gallery)
        with path.open("a", encoding="utf-8") as file:
            file.write(f'[k4a]\nlibraries = "{libraries}"\nmode = "cpu"\n')
        return path

    write_bodies(sensor, k4a_bodies(perform("wave", seed=3).joints_m))
    daemon = serve("k4a", config=config(stubs))
    process = wait_for(lambda: daemon.ask("status")["camera_process"], lambda process: process["fps"] > 15)
    assert (process["kind"], process["state"], process["last_error"]) == ("k4a", "runs", "")
    assert process["age_s"] < 1
    daemon.ask("enroll.start", label="wave", countdown_s=0.0)
    (sensor / "perform").touch()
    done = wait_for(lambda: daemon.ask("enroll.status"), lambda status: status["state"] in ("done", "failed"))
    assert done["state"] == "done", done

    # Unplugged and plugged in again, there is another person.
    (sensor / "plugged").unlink()
    wait_for(lambda: daemon.ask("status")["camera_process"], lambda process: "plugged" in process["last_error"])
    assert daemon.ask("ping")
    write_bodies(sensor, k4a_bodies(perform("wave", seed=4).joints_m, (9,)))
    (sensor / "plugged").touch()
    wait_for(lambda: daemon.ask("status")["camera_process"], lambda process: process["state"] == "runs")
    with closing(EventSubscriber(daemon.sockets.events, ("event.",))) as events:
        wait_for(lambda: daemon.ask("status")["bodies"], lambda bodies: bodies == 1)
        for _ in range(5):  # a busy machine may skip too many decisions
            time.sleep(1.0)  # the person stands still before they move
            (sensor / "perform").touch()
            event = next_event(events, 6.0)
            if event is not None:
                break
    assert event is not None
    assert (event["label"], event["source"], event["body"]) == ("wave", "k4a", 9)
    assert daemon.stop() == 0
    log = daemon.log.read_text(encoding="utf-8")
    told = [line for line in log.splitlines() if "WARNING" in line and "sensor" in line]
    assert len(told) == 1, "unplugging is told once"
    if not RECORDING.exists() or importlib.util.find_spec("pyk4a") is None:
        return

    joints_m = perform("wave", seed=5).joints_m
    write_bodies(sensor, k4a_bodies(joints_m))
    (sensor / "by_time").touch()
    recording = write_recording(tmp_path / "wave.mkv", len(joints_m) // 2)
    daemon = serve(f"k4a:{recording}", config=config(tracker_only))
    with closing(EventSubscriber(daemon.sockets.events, ("event.",))) as events:
        event = next_event(events, 30.0)
    assert event is not None
    assert event["label"] == "wave"


def wait_for(look: Callable[[], Any], is_so: Callable[[Any], bool]) -> Any:
    deadline_s = time.monotonic() + 30
    while not is_so(found := look()):
        assert time.monotonic() < deadline_s, found
        time.sleep(0.05)
    return found


def next_event(events: EventSubscriber, timeout_s: float) -> dict[str, Any] | None:
    received = events.receive(timeout_s)
    return None if received is None else received[1]


def test_a_part_that_is_missing_is_refused_and_doctor_names_it(
    make_config: MakeConfig, tracker_only: Path, tmp_path: Path
) -> None:
    config = make_config()
    (tracker_only / MODEL).unlink()
    with config.open("a", encoding="utf-8") as file:
        file.write(f'[k4a]\nlibraries = "{tracker_only}"\nmode = "cpu"\n')
    text = config.read_text(encoding="utf-8")
    config.write_text(f'camera = "k4a"\n{text}', encoding="utf-8")

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [str(SCRIPT), *args, "--config", str(config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    code = "no_k4abt_model" if importlib.util.find_spec("pyk4a") is not None else "no_libk4a"
    served = run("serve")
    assert served.returncode == 2
    assert served.stderr.startswith(f"error ({code})")
    diagnosed = run("doctor", "--json")
    assert diagnosed.returncode == 1
    found = {finding["what"]: finding for finding in json.loads(diagnosed.stdout)}
    assert found["k4abt model"]["state"] == "broken"
    assert "libk4abt1.1" in found["k4abt model"]["remedy"]
