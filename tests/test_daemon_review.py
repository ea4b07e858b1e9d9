"""Review, counter-examples and scores in a real daemon, over real sockets, and what goes wrong with the ring's file.

The fixture `serve` looks for tracebacks in every daemon's log.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import zmq

from streams.arrays import Array
from streams.errors import ControlError
from streams.performer import perform
from streams.scores import Scores
from streams.skeleton import Skeleton
from streams.sockets import EventSubscriber

if TYPE_CHECKING:
    from tests.conftest import DaemonProcess, MakeConfig, Serve

Message = dict[str, Any]
SCRIPT = Path(sys.executable).with_name("crossglg-edge")


def until(is_so: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Return the first true value."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := is_so()):
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.05)
    return value


class Camera:
    """Publish one person, four times as fast as real time."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.seq, self.time_s = 0, 100.0
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
        self.socket.setsockopt(zmq.LINGER, 1000)
        self.socket.connect(daemon.sockets.frames)
        assert self.socket.poll(5000), "no daemon subscribes"

    def play(self, joints_LV3: Array) -> None:
        for joints_V3 in joints_LV3:
            self.seq += 1
            self.time_s += 1 / 30
            message = {
                "v": 1, "source": "cam", "epoch": "e", "seq": self.seq, "timestamp": self.time_s, "layout": "kinect25",
                "bodies": [{"id": 0, "pos": np.asarray(joints_V3, "<f4").tobytes()}],
            }  # fmt: skip
            self.socket.send_multipart([b"skeleton.cam", msgspec.msgpack.encode(message)])
            time.sleep(1 / 120)

    def perform(self, action: str, seed: int) -> None:
        joints_LV3 = perform(action, seed=seed).joints_m
        rest = np.repeat(joints_LV3[:1], 60, axis=0)
        self.play(np.concatenate((rest, joints_LV3, np.repeat(joints_LV3[-1:], 90, axis=0))))


def enroll(daemon: DaemonProcess, label: str, action: str) -> None:
    shown = perform(action, seed=0)
    daemon.ask(
        "enroll.clip",
        label=label,
        timestamps_s=shown.timestamps_s.astype("<f8").tobytes(),
        joints_m=shown.joints_m.astype("<f4").tobytes(),
        origin="test",
        force=True,
    )


@pytest.fixture
def daemon(serve: Serve) -> DaemonProcess:
    """Serve frames from ZeroMQ; "wave" is enrolled."""
    daemon = serve("zmq")
    enroll(daemon, "wave", "wave")
    return daemon


@pytest.fixture
def camera(daemon: DaemonProcess) -> Iterator[Camera]:
    opened = Camera(daemon)
    yield opened
    opened.socket.close()


def clips_of(daemon: DaemonProcess) -> list[Message]:
    return list(daemon.ask("review.list")["clips"])


def wave_until_kept(daemon: DaemonProcess, camera: Camera, count: int = 1) -> list[Message]:
    """Wave, again where a loaded machine skipped too many decisions, until so many clips are kept."""
    for seed in range(1, 12):
        camera.perform("wave", seed)
        if len(clips := clips_of(daemon)) >= count:
            return clips
    raise AssertionError("nothing was kept")


def gates_of(daemon: DaemonProcess, camera: Camera) -> set[str]:
    """Do the same waves as before; return what stopped an event meanwhile."""
    with closing(EventSubscriber(daemon.sockets.events, ("scores.",))) as subscriber:
        time.sleep(0.3)
        for seed in (1, 2, 3):
            camera.perform("wave", seed)
        gates: set[str] = set()
        while (received := subscriber.receive(0.5)) is not None:
            gates |= {found["gate"] for found in received[1]["labels"]}
    assert gates
    return gates


def ring_of(daemon: DaemonProcess) -> Path:
    return Path(daemon.ask("status")["review"]["path"])


def test_what_was_told_is_kept_and_answered_while_the_daemon_runs(daemon: DaemonProcess, camera: Camera) -> None:
    clip = wave_until_kept(daemon, camera)[-1]
    assert (clip["label"], clip["source"], clip["body"], clip["answer"]) == ("wave", "cam", 0, "")
    assert clip["distance"] <= 1.35 * clip["threshold_distance"]
    assert 0.3 < clip["duration_s"] < 7
    status = daemon.ask("status")["review"]
    assert (status["kept"] >= 1, status["not_kept"], status["state"]) == (True, {}, "")
    answered = daemon.ask("review.answer", id=clip["id"], answer="wrong")
    assert answered["answer"] == "is not wave"
    until(lambda: daemon.ask("status")["gallery"]["counters"] == 1)
    assert "not_compared" in gates_of(daemon, camera), "what was said not to be a wave is held against it"
    assert daemon.ask("review.undo")["id"] == clip["id"]
    assert daemon.ask("status")["gallery"]["counters"] == 0
    assert "not_compared" not in gates_of(daemon, camera)
    daemon.ask("review.answer", id=clip["id"], answer="right")
    assert len(daemon.ask("gallery.get", label="wave")["examples"]) == 2


def test_an_answer_while_somebody_enrolls_harms_neither(daemon: DaemonProcess, camera: Camera) -> None:
    clip = wave_until_kept(daemon, camera)[0]
    daemon.ask("enroll.start", label="kick", countdown_s=0.0, commit=False)
    camera.play(np.repeat(perform("kick", seed=1).joints_m[:1], 5, axis=0))
    daemon.ask("review.answer", id=clip["id"], answer="right")
    joints_LV3 = perform("kick", seed=1).joints_m
    camera.play(np.concatenate((joints_LV3, np.repeat(joints_LV3[-1:], 60, axis=0))))
    until(lambda: daemon.ask("enroll.status")["state"] == "captured")
    daemon.ask("review.undo", id=clip["id"])
    assert daemon.ask("enroll.commit", force=True)["label"] == "kick"
    labels = {label["label"]: len(label["examples"]) for label in daemon.ask("gallery.list")["labels"]}
    assert labels == {"wave": 1, "kick": 1}


def test_clips_survive_kill_9_and_the_next_daemon_lists_them(
    daemon: DaemonProcess, camera: Camera, serve: Serve
) -> None:
    kept = wave_until_kept(daemon, camera, 2)
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.process.wait()
    heir = serve("zmq", config=daemon.config)
    assert [clip["id"] for clip in clips_of(heir)][-len(kept) :] == [clip["id"] for clip in kept]
    heir.ask("review.answer", id=kept[0]["id"], answer="right")


def test_a_disk_that_is_full_costs_clips_and_nothing_else(daemon: DaemonProcess, camera: Camera) -> None:
    limits = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (8192, limits[1]))
    camera.perform("wave", 1)
    camera.perform("wave", 2)
    status = until(lambda: (now := daemon.ask("status")) and now["review"]["not_kept"].get("failed") and now)
    assert "review.db cannot be used" in status["review"]["state"]
    assert status["review"]["kept"] == 0
    assert "More are only counted" in daemon.log.read_text(encoding="utf-8")
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, limits)
    wave_until_kept(daemon, camera)
    until(lambda: daemon.ask("status")["review"]["state"] == "")


def test_where_no_file_may_be_the_daemon_goes_on_and_says_so(make_config: MakeConfig, serve: Serve) -> None:
    config = make_config()
    ring = config.with_name("gallery.db.review.db")
    ring.mkdir()
    daemon = serve("zmq", config=config)
    assert ring_of(daemon) == ring
    enroll(daemon, "wave", "wave")
    with closing(Camera(daemon).socket) as socket:
        camera = Camera(daemon)
        camera.perform("wave", 1)
        camera.socket.close()
        assert not socket.closed
    until(lambda: "cannot be used" in daemon.ask("status")["review"]["state"])
    with pytest.raises(ControlError) as refused:
        daemon.ask("review.list")
    assert refused.value.code == "bad_review"
    assert daemon.ask("status")["decisions"] > 0


def test_a_ring_that_is_damaged_while_it_is_used_is_said_and_cleared(daemon: DaemonProcess, camera: Camera) -> None:
    wave_until_kept(daemon, camera)
    ring = ring_of(daemon)
    for path in ring.parent.glob(f"{ring.name}*"):
        path.write_bytes(b"damaged " * 1000)
    with pytest.raises(ControlError) as refused:
        daemon.ask("review.list")
    assert (refused.value.code, "review clear" in refused.value.hint) == ("bad_review", True)
    camera.perform("wave", 1)
    camera.perform("wave", 2)
    until(lambda: daemon.ask("status")["review"]["not_kept"].get("failed"))
    assert daemon.ask("review.clear")["deleted"] == 0
    wave_until_kept(daemon, camera)
    until(lambda: daemon.ask("status")["review"]["state"] == "")


def test_nothing_is_kept_where_review_is_off_and_reload_turns_it_on(make_config: MakeConfig, serve: Serve) -> None:
    config = make_config()
    text = config.read_text(encoding="utf-8")
    config.write_text(f"{text}[review]\nenabled = false\n", encoding="utf-8")
    daemon = serve("zmq", config=config)
    enroll(daemon, "wave", "wave")
    camera = Camera(daemon)
    with closing(camera.socket):
        camera.perform("wave", 1)
        assert daemon.ask("status")["review"]["state"] == "off"
        assert clips_of(daemon) == []
        assert not ring_of(daemon).exists()
        config.write_text(text, encoding="utf-8")
        daemon.ask("config.reload")
        wave_until_kept(daemon, camera)


# Scores


def test_scores_are_sent_to_whoever_asks_for_them_and_to_nobody_else(daemon: DaemonProcess, camera: Camera) -> None:
    enroll(daemon, "bow", "bow")
    gates, labels = set(), set()
    with closing(EventSubscriber(daemon.sockets.events, ("",))) as everything:
        camera.perform("wave", 1)
        topics = set()
        while (received := everything.receive(0.3)) is not None:
            topics.add(received[0].split(".")[0])
        assert "scores" not in topics
        assert "event" in topics or "status" in topics
    with closing(EventSubscriber(daemon.sockets.events, ("scores.cam.",))) as subscriber:
        time.sleep(0.3)
        for seed in (1, 2, 3):
            camera.perform("wave", seed)
        while (received := subscriber.receive(0.5)) is not None:
            topic, message = received
            assert topic == "scores.cam.0"
            scores = msgspec.convert(message, Scores)
            assert [found.score for found in scores.labels] == sorted(
                (found.score for found in scores.labels), reverse=True
            )
            labels |= {found.label for found in scores.labels}
            gates |= {found.gate for found in scores.labels}
            for found in scores.labels:
                assert (found.distance is None) == (found.gate in {"still", "not_compared"}) or found.gate == ""
    assert labels == {"wave", "bow"}
    assert {"still", "threshold"} <= gates
    with closing(EventSubscriber(daemon.sockets.events, ("scores.other.",))) as subscriber:
        time.sleep(0.3)
        camera.perform("wave", 1)
        assert subscriber.receive(0.2) is None


def test_a_person_watches_the_scores_with_their_thresholds(daemon: DaemonProcess, camera: Camera) -> None:
    command = [str(SCRIPT), "watch", "--scores", "--seconds", "6", "--config", str(daemon.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as watching:
        time.sleep(1.5)
        camera.perform("wave", 1)
        camera.perform("wave", 2)
        said = watching.communicate(timeout=30)[0]
    lines = [line for line in said.splitlines() if " body 0 of cam  " in line]
    assert lines, said
    assert {line.rpartition(") ")[2] for line in lines} <= {
        "told", "rests", "not compared", "too far", "another is nearer", "not yet",
    }  # fmt: skip


# Skeletons


def test_what_was_seen_is_sent_to_whoever_asks_for_it_and_to_nobody_else(daemon: DaemonProcess, camera: Camera) -> None:
    joints_LV3 = perform("wave", seed=1).joints_m.copy()
    joints_LV3[:, 7] = np.nan
    with closing(EventSubscriber(daemon.sockets.events, ("", "event.", "skeleton.other"))) as others:
        time.sleep(0.3)
        camera.play(joints_LV3)
        topics = set()
        while (received := others.receive(0.3)) is not None:
            topics.add(received[0].split(".")[0])
        assert "skeleton" not in topics
    with closing(EventSubscriber(daemon.sockets.events, ("skeleton.cam",))) as subscriber:
        time.sleep(0.3)
        started_s = time.monotonic()
        camera.play(joints_LV3)
        took_s = time.monotonic() - started_s
        seen = []
        while (received := subscriber.receive(0.5)) is not None:
            assert received[0] == "skeleton.cam"
            seen.append(msgspec.convert(received[1], Skeleton))
    assert 2 <= len(seen) <= 15 * took_s + 2
    assert [one.timestamp for one in seen] == sorted({one.timestamp for one in seen})
    for skeleton in seen:
        ((body,), source) = skeleton.bodies, skeleton.source
        assert (source, body.id, len(body.joints), body.joints[7]) == ("cam", 0, 25, None)
        shown = [joint for joint in body.joints if joint is not None]
        expected_V3 = np.delete(joints_LV3, 7, axis=1)
        assert len(shown) == 24
        assert np.abs(expected_V3 - np.asarray(shown, np.float32)).max(axis=(1, 2)).min() == 0
