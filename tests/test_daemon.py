"""Bad input and bad moments, each with its defined answer, against real daemon processes over real sockets.

The fixture `serve` looks for tracebacks in every daemon's log.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import resource
import shutil
import signal
import socket as tcp
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_origin

import msgspec
import numpy as np
import pytest
import zmq

from edge import protocol
from edge.config import Review
from edge.gallery.care import check_gallery
from edge.review import Moment, clear_ring, keep_moment
from streams import wire
from streams.arrays import Array
from streams.errors import ControlError
from streams.performer import perform
from streams.recording import read_recording
from streams.sockets import ControlClient, EventSubscriber

if TYPE_CHECKING:
    from tests.conftest import DaemonProcess, MakeConfig, Serve

Message = dict[str, Any]
Answer = TypeVar("Answer")

SCRIPT = Path(sys.executable).with_name("crossglg-edge")
STANDING = perform("wave", seed=1).joints_m[0]
# The same in every process that collects these tests, so that they can be run side by side.
NOISE = np.random.default_rng(0).bytes(1000)


def until(is_so: Callable[[], Any], timeout_s: float = 15.0) -> Any:
    """Return the first true value."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := is_so()):
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.02)
    return value


class Source:
    """Publish under one name, four times as fast as real time; its time goes on from call to call."""

    def __init__(self, endpoint: str, name: str, epoch: str = "e") -> None:
        self.name, self.epoch = name, epoch
        self.seq, self.time_s = 0, 100.0
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.XPUB)
        self.socket.setsockopt(zmq.LINGER, 1000)
        self.socket.connect(endpoint)
        assert self.socket.poll(5000), "no daemon subscribes"

    def message(self, people: dict[int, Array] | None = None, **changes: Any) -> Message:
        """Return the next frame's message; one person stands there where none are named."""
        self.seq += 1
        self.time_s += 1 / 30
        people = {0: STANDING} if people is None else people
        return {
            "v": 1,
            "source": self.name,
            "epoch": self.epoch,
            "seq": self.seq,
            "timestamp": self.time_s,
            "layout": "kinect25",
            "bodies": [{"id": id, "pos": np.asarray(pos, "<f4").tobytes()} for id, pos in people.items()],
        } | changes

    def send(self, people: dict[int, Array] | None = None, **changes: Any) -> None:
        self.send_raw(msgspec.msgpack.encode(self.message(people, **changes)))

    def send_raw(self, payload: bytes) -> None:
        self.socket.send_multipart([f"skeleton.{self.name}".encode(), payload])

    def play(self, joints_LV3: Array, body: int = 0) -> None:
        for joints_V3 in joints_LV3:
            self.send({body: joints_V3})
            time.sleep(1 / 120)


@pytest.fixture(scope="module")
def daemon(serve: Serve) -> DaemonProcess:
    """Serve frames from ZeroMQ; "wave" is enrolled."""
    daemon = serve("zmq")
    enroll_clip(daemon, "wave", "wave")
    return daemon


def enroll_clip(daemon: DaemonProcess, label: str, action: str, seed: int = 0) -> Message:
    return daemon.ask("enroll.clip", **clip(label, action, seed))


def clip(label: str, action: str, seed: int = 0) -> Message:
    shown = perform(action, seed=seed)
    timestamps_s, joints_m = shown.timestamps_s, shown.joints_m
    return {
        "label": label,
        "timestamps_s": timestamps_s.astype("<f8").tobytes(),
        "joints_m": joints_m.astype("<f4").tobytes(),
        "origin": "test",
        "force": True,
    }


def keep_clip(ring: Path) -> str:
    """Keep a clip for review that was taken for bow, and no other; return its id."""
    moment = Moment(
        label="bow", source="test", body=0, movement=perform("kick", seed=3), time_s=1.0, score=0.4, distance=1.0,
        threshold_distance=0.9, why="threshold", nearer="",
    )  # fmt: skip
    clear_ring(ring)
    return keep_moment(ring, moment, Review(), "2030-01-02T03:04:05Z").id


Publish = Callable[..., Source]
_numbers = itertools.count()


@pytest.fixture
def publish(daemon: DaemonProcess) -> Iterator[Publish]:
    """Return a function that opens a source of a new name."""
    sources: list[Source] = []

    def open_source(name: str | None = None, epoch: str = "e", *, of: DaemonProcess = daemon) -> Source:
        sources.append(Source(of.sockets.frames, name or f"source-{next(_numbers)}", epoch))
        return sources[-1]

    yield open_source
    for source in sources:
        source.socket.close()


@pytest.fixture
def events(daemon: DaemonProcess) -> Iterator[EventSubscriber]:
    with closing(EventSubscriber(daemon.sockets.events, ("event.", "log."))) as subscriber:
        yield subscriber


def next_event(events: EventSubscriber, source: Source, timeout_s: float = 10.0) -> Message:
    """Return the next onset or end of a source."""
    deadline_s = time.monotonic() + timeout_s
    while (left_s := deadline_s - time.monotonic()) > 0:
        received = events.receive(left_s)
        if received is not None and received[0].startswith(f"event.{source.name}.") and received[1]["type"] != "update":
            return received[1]
    raise AssertionError("no event came")


def wave_until_onset(events: EventSubscriber, source: Source) -> Message:
    """Wave, again where a loaded machine skipped too many decisions, and stop while the event goes on."""
    for seed in range(1, 6):
        joints_LV3 = perform("wave", seed=seed).joints_m
        for joints_V3 in np.concatenate((np.repeat(joints_LV3[:1], 30, axis=0), joints_LV3)):
            source.send({0: joints_V3})
            received = events.receive(1 / 120)
            if received is not None and received[0].startswith(f"event.{source.name}."):
                assert (received[1]["type"], received[1]["label"]) == ("onset", "wave")
                return received[1]
    raise AssertionError("no wave was recognized")


def state_of(daemon: DaemonProcess, source: Source) -> Message:
    return dict(daemon.ask("status")["sources"].get(source.name) or {"frames": 0, "dropped": {}, "lost": 0})


def error_of(daemon: DaemonProcess, cmd: str, **args: Any) -> ControlError:
    with pytest.raises(ControlError) as refused:
        daemon.ask(cmd, **args)
    assert refused.value.message
    return refused.value


# Frames that are refused


def body(**changes: Any) -> Message:
    return {"bodies": [{"id": 0, "pos": STANDING.tobytes()} | changes]}


BAD_FRAMES: dict[str, tuple[Message, str]] = {
    "another major version": ({"v": 2}, "unsupported_version"),
    "a layout that is not known": ({"layout": "kinect99"}, "unknown_layout"),
    "joints of another layout": ({"layout": "k4a32"}, "bad_shape"),
    "a byte too few": (body(pos=STANDING.tobytes()[:-1]), "bad_shape"),
    "a joint too many": (body(pos=bytes(26 * 12)), "bad_shape"),
    "a confidence too few": (body(conf=bytes(24)), "bad_shape"),
    "lists of another shape": (body(pos=[[0.0, 0.0]] * 25), "bad_shape"),
    "confidence in percent": (body(conf=[99.0] * 25), "bad_confidence"),
    "a send time of another clock": ({"t_send": 1.79e9}, "wrong_clock"),
    "a timestamp that is NaN": ({"timestamp": float("nan")}, "bad_timestamp"),
    "a timestamp that is infinite": ({"timestamp": float("inf")}, "bad_timestamp"),
    "a send time that is NaN": ({"t_send": float("nan")}, "bad_timestamp"),
    "an infinite joint": (body(pos=np.where(np.eye(25, 3), np.inf, STANDING).astype("<f4").tobytes()), "not_metres"),
    "millimeters": (body(pos=(1000 * STANDING).tobytes()), "not_metres"),
    "millimeters that say so": ({"units": "mm"}, "not_metres"),
    "axes that are none": ({"axes": "XYZ"}, "unknown_axes"),
    "a body twice": ({"bodies": 2 * body()["bodies"]}, "repeated_body_id"),
    "a crowd": ({"bodies": [{"id": i, "pos": STANDING.tobytes()} for i in range(65)]}, "too_many_bodies"),
    "a negative number": ({"seq": -1}, "bad_message"),
    "another name than the topic's": ({"source": "somebody"}, "topic_mismatch"),
    "an empty epoch": ({"epoch": ""}, "bad_name"),
    "bodies that are no list": ({"bodies": 5}, "bad_message"),
    "no bodies at all": ({"bodies": None}, "bad_message"),
    "a megabyte": ({"note": bytes(1_000_000)}, "too_large"),
}


@pytest.fixture(scope="module")
def unsound(daemon: DaemonProcess) -> Iterator[Source]:
    """Return a source whose first frame was good."""
    source = Source(daemon.sockets.frames, "unsound")
    source.send()
    until(lambda: state_of(daemon, source)["frames"] == 1)
    yield source
    source.socket.close()


def dropped_of(daemon: DaemonProcess, source: Source) -> Counter[str]:
    return Counter(state_of(daemon, source)["dropped"])


def send_good(daemon: DaemonProcess, source: Source) -> None:
    num_frames = state_of(daemon, source)["frames"]
    source.send()
    until(lambda: state_of(daemon, source)["frames"] == num_frames + 1)


@pytest.mark.parametrize("what", BAD_FRAMES)
def test_a_bad_frame_is_counted_under_its_reason_and_the_next_is_taken(
    daemon: DaemonProcess, unsound: Source, what: str
) -> None:
    changes, reason = BAD_FRAMES[what]
    before = dropped_of(daemon, unsound)
    unsound.send(**changes)
    send_good(daemon, unsound)
    assert dropped_of(daemon, unsound) - before == {reason: 1}


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x00", NOISE, b"\x91" * 5000, b"\xdf\xff\xff\xff\xff", b"GET / HTTP/1.1"]
)
def test_bytes_that_are_no_frame_are_counted(daemon: DaemonProcess, unsound: Source, payload: bytes) -> None:
    before = dropped_of(daemon, unsound)
    unsound.send_raw(payload)
    send_good(daemon, unsound)
    assert (dropped_of(daemon, unsound) - before).total() == 1


def test_frames_of_a_source_that_never_sent_a_good_one_are_counted_under_its_name(
    daemon: DaemonProcess, publish: Publish
) -> None:
    source = publish()
    source.send(layout="mine")
    source.send({0: 50 * STANDING}, timestamp=1.0)
    until(lambda: state_of(daemon, source)["dropped"] == {"unknown_layout": 1, "not_metres": 1})
    assert state_of(daemon, source)["frames"] == 0
    source.send()
    until(lambda: state_of(daemon, source)["frames"] == 1)
    assert state_of(daemon, source)["lost"] == 0


def test_a_source_in_centimeters_is_refused_and_the_log_says_why(
    daemon: DaemonProcess, publish: Publish, events: EventSubscriber
) -> None:
    source = publish()
    for _ in range(5):
        source.send({0: 100 * (STANDING - STANDING[0])})
    until(lambda: state_of(daemon, source)["dropped"] == {"not_metres": 5})
    told = [received for received in iter(lambda: events.receive(0.2), None) if source.name in str(received)]
    assert [topic for topic, _ in told] == ["log.warning"]
    assert "expected 0.08 to 0.8 m; send meters (centimeters / 100)" in told[0][1]["message"]


def test_the_first_drop_of_a_kind_is_told_in_the_log(
    daemon: DaemonProcess, publish: Publish, events: EventSubscriber
) -> None:
    source = publish()
    source.send()
    for _ in range(5):
        source.send(layout="kinect99")
    source.send()
    until(lambda: state_of(daemon, source)["frames"] == 2)
    told = [received for received in iter(lambda: events.receive(0.2), None) if source.name in str(received)]
    assert [(topic, message["level"]) for topic, message in told] == [("log.warning", "warning")]
    assert "kinect99" in told[0][1]["message"]


def test_missing_joints_are_taken_as_missing(daemon: DaemonProcess, publish: Publish) -> None:
    source = publish()
    before = daemon.ask("status")["bodies_without_joints"]
    half = STANDING.copy()
    half[12:] = np.nan
    source.send({0: half})
    source.send({0: np.full((25, 3), np.nan)})
    until(lambda: state_of(daemon, source)["frames"] == 2)
    assert state_of(daemon, source)["dropped"] == {}
    assert daemon.ask("status")["bodies_without_joints"] == before + 1


# Time and identity


def test_a_body_that_comes_and_goes_ends_its_event_and_may_return(
    daemon: DaemonProcess, publish: Publish, events: EventSubscriber
) -> None:
    source = publish()
    onset = wave_until_onset(events, source)
    for _ in range(30):
        source.send({})
        time.sleep(1 / 120)
    end = next_event(events, source)
    assert (end["type"], end["id"]) == ("end", onset["id"])
    assert end["t_start"] == onset["t_start"] < end["t_end"] <= end["t_emit"]
    again = wave_until_onset(events, source)
    assert (again["body"], again["id"] != onset["id"]) == (0, True)


def test_a_source_that_falls_silent_ends_its_event(publish: Publish, events: EventSubscriber) -> None:
    source = publish()
    onset = wave_until_onset(events, source)
    end = next_event(events, source, timeout_s=5)
    assert (end["type"], end["id"]) == ("end", onset["id"])


def test_a_time_that_stands_still_is_counted_and_ends_the_event(
    daemon: DaemonProcess, publish: Publish, events: EventSubscriber
) -> None:
    source = publish()
    onset = wave_until_onset(events, source)
    num_frames, sent = state_of(daemon, source)["frames"], 0
    end = None
    while end is None:
        source.send(timestamp=source.time_s)
        source.time_s -= 1 / 30
        sent += 1
        assert sent < 500
        received = events.receive(0.02)
        end = received[1] if received is not None and received[0].startswith(f"event.{source.name}.") else None
    assert (end["type"], end["id"]) == ("end", onset["id"])
    state = state_of(daemon, source)
    assert state["frames"] - num_frames <= 3, "those on their way and the first of this time"
    assert state["dropped"]["time_still"] >= sent - 3


def test_a_time_that_runs_backwards_is_counted_until_it_is_a_restart(daemon: DaemonProcess, publish: Publish) -> None:
    source = publish()
    for _ in range(3):
        source.send()
    source.time_s = 50.0
    for _ in range(5):
        source.send()
    until(lambda: state_of(daemon, source)["dropped"] == {"time_backwards": 5})
    for _ in range(40):
        source.send()
    until(lambda: state_of(daemon, source)["frames"] > 3 + 10)
    state = state_of(daemon, source)
    assert (state["restarts"], state["lost"]) == (1, 0)
    assert state["frames"] + sum(state["dropped"].values()) == 48


def test_two_publishers_of_one_name_are_told_apart_and_the_second_waits_its_turn(
    daemon: DaemonProcess, publish: Publish
) -> None:
    first = publish()
    second = publish(first.name, epoch="another")
    for _ in range(10):
        first.send()
        until(lambda: state_of(daemon, first)["frames"] > 0)
        second.send()
    until(lambda: state_of(daemon, first)["dropped"].get("duplicate_source") == 10)
    assert state_of(daemon, first)["epoch"] == "e"

    def taken_over() -> bool:
        second.send()
        return bool(state_of(daemon, second)["epoch"] == "another")

    until(taken_over)


def test_ten_thousand_frames_a_second_neither_pile_up_nor_vanish(daemon: DaemonProcess, publish: Publish) -> None:
    source = publish()
    source.send()
    until(lambda: state_of(daemon, source)["frames"] == 1)
    before_kb = resident_kb(daemon)
    started_s, slowest_s = time.monotonic(), 0.0
    for second in (1, 2):
        for tenth in range(10):
            for _ in range(1000):
                source.time_s += 0.0001 - 1 / 30
                source.send()
            time.sleep(max(0.0, started_s + second - 1 + (tenth + 1) / 10 - time.monotonic()))
        asked_s = time.monotonic()
        daemon.ask("status")
        slowest_s = max(slowest_s, time.monotonic() - asked_s)
    assert slowest_s < 2

    until(lambda: is_all_accounted_for(daemon, source), timeout_s=5)
    assert source.seq > 20_000
    state = state_of(daemon, source)
    assert set(state["dropped"]) == {"too_fast"}
    assert 100 < state["frames"] < 500
    assert resident_kb(daemon) - before_kb < 50_000


def is_all_accounted_for(daemon: DaemonProcess, source: Source) -> bool:
    """Send one more frame, which shows what was lost before it; return whether each frame is counted somewhere."""
    source.send()
    state = state_of(daemon, source)
    return bool(state["frames"] + state["lost"] + sum(state["dropped"].values()) == source.seq)


def resident_kb(daemon: DaemonProcess) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0])


# Enrollment


def enrolled(daemon: DaemonProcess, source: Source | None = None, people: dict[int, Array] | None = None) -> Message:
    """Let the source send what it sees until the enrollment is over."""
    while (state := daemon.ask("enroll.status"))["state"] in ("stillness", "countdown", "capture"):
        if source is not None:
            source.send(people)
        time.sleep(0.02)
    return state


def test_an_action_that_is_shown_once_is_stored(daemon: DaemonProcess, publish: Publish) -> None:
    source = publish()
    source.send()
    started = daemon.ask("enroll.start", label=" bow  ", countdown_s=0.0, source=source.name)
    assert started == {"id": started["id"], "label": "bow", "countdown_s": 0.0, "cued": False}
    joints_LV3 = perform("bow", seed=1).joints_m
    source.play(np.concatenate((np.repeat(joints_LV3[:1], 10, axis=0), joints_LV3, np.repeat(joints_LV3[-1:], 60, 0))))
    state = enrolled(daemon, source)
    assert state["state"] == "done", state
    result = state["result"]
    assert (result["label"], result["similar"]) == ("bow", None)
    assert 2 < result["duration_s"] < 4
    assert result["fps"] == pytest.approx(30, abs=0.2)
    found = daemon.ask("gallery.get", label="BOW")
    assert found["examples"][0]["id"] == result["id"]
    assert found["examples"][0]["origin"] == f"live:{source.name}"
    daemon.ask("gallery.remove", label="bow")


def test_with_nobody_in_view_an_enrollment_fails(daemon: DaemonProcess, publish: Publish) -> None:
    source = publish()
    daemon.ask("enroll.start", label="ghost", countdown_s=0.0, source=source.name)
    state = enrolled(daemon, source, {})
    assert (state["state"], state["label"], state["error"]["code"]) == ("failed", "ghost", "no_body")
    assert state["error"]["message"]
    assert state["error"]["hint"]


def test_with_two_people_in_view_an_enrollment_fails(daemon: DaemonProcess, publish: Publish) -> None:
    source = publish()
    daemon.ask("enroll.start", label="pair", countdown_s=0.0, source=source.name)
    state = enrolled(daemon, source, {3: STANDING, 4: STANDING})
    assert (state["state"], state["error"]["code"]) == ("failed", "multiple_bodies")
    assert "body 3" in state["error"]["message"]
    assert "--body" in state["error"]["hint"]
    assert "pair" not in daemon.ask("status")["gallery"]["labels"]


def test_a_label_that_exists_is_refused_before_anybody_moves(daemon: DaemonProcess) -> None:
    error = error_of(daemon, "enroll.start", label="WAVE")
    assert error.code == "label_exists"
    assert "wave" in error.message
    assert error.hint
    assert daemon.ask("status")["enrolling"] is None


def test_two_enrollments_at_once_are_refused_and_one_can_be_cancelled(daemon: DaemonProcess) -> None:
    daemon.ask("enroll.start", label="first", countdown_s=30.0)
    error = error_of(daemon, "enroll.start", label="second")
    assert error.code == "busy"
    assert "first" in error.message
    assert daemon.ask("status")["enrolling"] == "first"
    state = daemon.ask("enroll.status")
    assert (state["state"], state["message"]) == ("stillness", "nobody is in view")
    assert 0 < state["left_s"] <= 4
    assert daemon.ask("enroll.cancel") == {"cancelled": "first"}
    assert daemon.ask("enroll.status")["error"]["code"] == "cancelled"
    assert daemon.ask("enroll.cancel") == {"cancelled": None}


def test_an_example_is_previewed_and_stored_when_it_is_committed(daemon: DaemonProcess, publish: Publish) -> None:
    source = publish()
    for _ in range(5):
        source.send()
    daemon.ask("enroll.start", label="hello", countdown_s=0.2, source=source.name, commit=False, side="either")
    seen = []
    while (state := daemon.ask("enroll.status"))["state"] in ("stillness", "countdown"):
        seen.append(state["state"])
        source.send()
        time.sleep(1 / 120)
    assert list(dict.fromkeys(seen)) == ["stillness", "countdown"]
    joints_LV3 = perform("wave", seed=1).joints_m
    source.play(np.concatenate((joints_LV3, np.repeat(joints_LV3[-1:], 60, axis=0))))
    state = enrolled(daemon, source)
    assert state["state"] == "captured", state
    assert 50 < state["left_s"] <= 60
    preview = state["preview"]
    assert (preview["moved"][0]["joint"], preview["similar"]["label"]) == ("HandRight", "wave")
    assert preview["notes"] == ["stored twice: as shown, and mirrored"]
    assert daemon.ask("status")["enrolling"] == "hello"
    assert error_of(daemon, "enroll.start", label="other").code == "busy"
    error = error_of(daemon, "enroll.commit")
    assert error.code == "too_similar"
    assert "'wave'" in error.message
    assert daemon.ask("enroll.commit", force=True)["stored"] == 2
    assert daemon.ask("enroll.status")["state"] == "done"
    assert error_of(daemon, "enroll.commit").code == "nothing_to_commit"
    found = daemon.ask("gallery.get", label="hello")
    assert [example["origin"].endswith(", mirrored") for example in found["examples"]] == [False, True]
    assert found["confused_with"] == ["wave"]
    everything = daemon.ask("gallery.get")
    assert [label["label"] for label in everything["labels"]] == ["wave", "hello"]
    daemon.ask("gallery.remove", label="hello")


def test_a_disk_that_is_full_fails_the_enrollment_and_the_daemon_goes_on(serve: Serve, publish: Publish) -> None:
    daemon = serve("zmq")
    enroll_clip(daemon, "wave", "wave")
    gallery = Path(daemon.ask("status")["gallery"]["path"])
    limits = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    # No room for a second's frames in the log.
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (8192, limits[1]))
    source = publish(of=daemon)
    source.send()
    daemon.ask("enroll.start", negative_s=1.0, countdown_s=0.0, source=source.name)
    state = enrolled(daemon, source)
    assert (state["state"], state["error"]["code"]) == ("failed", "bad_gallery")
    assert "space" in state["error"]["hint"]
    assert daemon.ask("gallery.list")["negatives"] == []
    assert check_gallery(gallery).is_sound
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, limits)
    enroll_clip(daemon, "bow", "bow")
    assert daemon.ask("status")["gallery"]["labels"] == ["wave", "bow"]
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"label": ""}, "bad_label"),
        ({"label": "a\nb"}, "bad_label"),
        ({"label": "x" * 1000}, "bad_label"),
        ({}, "bad_args"),
        ({"label": 5}, "bad_args"),
        ({"label": "x", "countdown_s": -1}, "bad_args"),
        ({"label": "x", "countdown_s": float("nan")}, "bad_args"),
        ({"label": "x", "countdown_s": 1e9}, "bad_args"),
        ({"label": "x", "mode": "often"}, "bad_args"),
        ({"label": "x", "color": "red"}, "bad_args"),
        ({"label": "x", "negative_s": 60.0}, "bad_args"),
        ({"negative_s": 0.0}, "bad_args"),
        ({"negative_s": 1e6}, "bad_args"),
        ({"label": "x", "side": "upper"}, "bad_args"),
    ],
)
def test_an_enrollment_that_cannot_be_is_refused(daemon: DaemonProcess, args: Message, code: str) -> None:
    assert error_of(daemon, "enroll.start", **args).code == code
    assert daemon.ask("status")["enrolling"] is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"joints_m": b"123"}, "bad_shape"),
        ({"timestamps_s": b"", "joints_m": b""}, "too_short"),
        ({"timestamps_s": np.zeros(9).tobytes(), "joints_m": bytes(9 * 300)}, "bad_timestamp"),
        ({"timestamps_s": np.full(9, np.nan).tobytes(), "joints_m": bytes(9 * 300)}, "bad_timestamp"),
        ({"timestamps_s": np.arange(9.0).tobytes(), "joints_m": bytes(9 * 300)}, "low_quality"),
        ({"timestamps_s": np.arange(2.0).tobytes(), "joints_m": np.full(150, np.inf, "<f4").tobytes()}, "not_metres"),
        ({"timestamps_s": np.arange(2.0).tobytes(), "joints_m": np.full(150, 1e3, "<f4").tobytes()}, "not_metres"),
        ({"label": "wave"}, "label_exists"),
    ],
)
def test_a_clip_that_is_no_example_is_refused(daemon: DaemonProcess, changes: Message, code: str) -> None:
    assert error_of(daemon, "enroll.clip", **clip("clip", "wave") | changes).code == code


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ([], "too_short"),
        ([{"timestamps_s": b"", "joints_m": b""}], "too_short"),
        ([{"timestamps_s": b"", "joints_m": b"123"}], "bad_shape"),
        ([{"timestamps_s": np.zeros(9).tobytes(), "joints_m": bytes(9 * 300)}], "bad_timestamp"),
        ([{"timestamps_s": np.arange(9.0).tobytes(), "joints_m": bytes(9 * 300)}], "low_quality"),
        ([{"timestamps_s": np.arange(0, 3, 0.1).tobytes(), "joints_m": np.full(2250, np.nan, "<f4").tobytes()}],
         "low_quality"),
        ([{"timestamps_s": b""}], "bad_args"),
        ("pieces", "bad_args"),
    ],
)  # fmt: skip
def test_pieces_that_are_no_ordinary_movement_are_refused(daemon: DaemonProcess, pieces: Any, code: str) -> None:
    assert error_of(daemon, "enroll.negative", pieces=pieces, origin="test").code == code
    assert daemon.ask("status")["gallery"]["negatives"] == 0


def test_an_action_that_was_just_shown_is_not_recognized_at_once(
    daemon: DaemonProcess, publish: Publish, events: EventSubscriber
) -> None:
    source = publish()
    onset = wave_until_onset(events, source)
    enroll_clip(daemon, "raise_arms", "raise_arms")
    daemon.ask("enroll.start", label="again", countdown_s=0.0, source=source.name, force=True)
    joints_LV3 = perform("raise_arms", seed=1).joints_m
    source.play(np.concatenate((joints_LV3, np.repeat(joints_LV3[-1:], 60, axis=0))))
    state = enrolled(daemon, source)
    assert state["state"] == "done", state
    assert state["result"]["similar"]["label"] == "raise_arms"
    source.play(np.repeat(joints_LV3[-1:], 60, axis=0))
    told = [onset]
    while (received := events.receive(0.5)) is not None:
        told += [received[1]] if received[0].startswith(f"event.{source.name}.") else []
    assert "again" not in {event["label"] for event in told}
    begun, ended = ({event["id"] for event in told if event["type"] == kind} for kind in ("onset", "end"))
    assert begun == ended, "what went on before has its end"
    for label in ("raise_arms", "again"):
        daemon.ask("gallery.remove", label=label)


# The control socket


def raw(daemon: DaemonProcess, *payloads: bytes) -> list[Message]:
    """Ask with plain bytes and return the answers."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.connect(daemon.sockets.control)
        answers = []
        for payload in payloads:
            peer.send(payload)
            assert peer.poll(5000), "no answer"
            answers.append(wire.decode_map(peer.recv()))
    return answers


def request(cmd: str, id: str = "1", **args: Any) -> bytes:
    return msgspec.msgpack.encode({"v": 1, "id": id, "cmd": cmd, "args": args})


@pytest.mark.parametrize(
    ("payload", "id"),
    [
        (b"", ""),
        (b"\xc1", ""),
        (NOISE[:100], ""),
        (b"\x91" * 5000, ""),
        (msgspec.msgpack.encode(5), ""),
        (msgspec.msgpack.encode({"id": 5, "cmd": "ping"}), ""),
        (msgspec.msgpack.encode({"id": "7"}), "7"),
        (msgspec.msgpack.encode({"id": "7", "cmd": "ping", "args": []}), "7"),
    ],
)
def test_garbage_is_answered_with_an_error(daemon: DaemonProcess, payload: bytes, id: str) -> None:
    (answer,) = raw(daemon, payload)
    assert (answer["ok"], answer["id"]) == (False, id)
    assert answer["error"]["code"] == "bad_message"
    assert answer["error"]["message"]


def test_another_major_version_is_refused_by_its_id(daemon: DaemonProcess) -> None:
    (answer,) = raw(daemon, msgspec.msgpack.encode({"v": 2, "id": "7", "cmd": "ping"}))
    assert (answer["ok"], answer["id"], answer["error"]["code"]) == (False, "7", "unsupported_version")
    assert "cglg/1" in answer["error"]["message"]


def test_an_unknown_command_is_refused_with_the_known_ones(daemon: DaemonProcess) -> None:
    error = error_of(daemon, "gallery.burn")
    assert error.code == "unknown_command"
    assert "gallery.list" in error.message
    assert "enroll.start" in error.message


@pytest.mark.parametrize(
    ("cmd", "args", "named"),
    [
        ("gallery.get", {"label": 5}, "label"),
        ("gallery.rename", {"old": "a", "new": 5}, "new"),
        ("gallery.remove", {}, "label or an id"),
        ("gallery.remove", {"label": "wave", "id": "x"}, "label or an id"),
        ("gallery.revert", {"revision": "x"}, "revision"),
        ("ping", {"loud": True}, "loud"),
        ("gallery.export", {"path": ""}, "path"),
        ("gallery.import", {"path": "a\0b"}, "path"),
        ("record.start", {"path": "a\0b"}, "path"),
        ("time", {"t0": None}, "t0"),
    ],
)
def test_bad_arguments_are_refused_by_name(daemon: DaemonProcess, cmd: str, args: Message, named: str) -> None:
    error = error_of(daemon, cmd, **args)
    assert error.code == "bad_args"
    assert cmd in error.message
    assert named in error.message


def test_a_request_that_is_sent_again_is_carried_out_once(daemon: DaemonProcess) -> None:
    mine = "a name that nobody else has"
    payload = request("enroll.clip", mine, **clip("twice", "bow") | {"mode": "add"})
    first, again = raw(daemon, payload), raw(daemon, payload, payload)
    assert first[0]["ok"], first[0]
    assert again == [first[0], first[0]], "from another connection, too"
    assert len(daemon.ask("gallery.get", label="twice")["examples"]) == 1
    removal = request("gallery.remove", mine, label="twice")
    (removed, refused) = raw(daemon, removal, request("gallery.remove", "other", label="twice"))
    assert removed["ok"], "another request, though of the same id"
    assert refused["error"]["code"] == "unknown_label"
    assert raw(daemon, removal) == [removed]


def test_requests_without_an_id_are_each_carried_out(daemon: DaemonProcess) -> None:
    payload = request("enroll.clip", "", **clip("nameless", "bow") | {"mode": "add"})
    assert all(answer["ok"] for answer in raw(daemon, payload, payload))
    assert len(daemon.ask("gallery.get", label="nameless")["examples"]) == 2
    daemon.ask("gallery.remove", label="nameless")


def test_two_that_number_their_requests_alike_both_get_what_they_ask_for(serve: Serve) -> None:
    daemon = serve("zmq")
    for label in ("wave", "bow", "kick"):
        enroll_clip(daemon, label, label)
    (first,), (second,) = (raw(daemon, request("gallery.undo", "1")) for _ in range(2))
    assert (first["result"]["undone"], second["result"]["undone"]) == (
        "revision 3: add 'kick'",
        "revision 2: add 'bow'",
    )
    assert daemon.ask("status")["gallery"]["labels"] == ["wave"]
    # From the same connection it is the same request, sent again.
    first, again = raw(daemon, request("gallery.undo", "2"), request("gallery.undo", "2"))
    assert first == again
    assert daemon.stop() == 0


def test_a_question_that_is_sent_again_is_answered_anew(daemon: DaemonProcess) -> None:
    first, again = raw(daemon, *[request("time", "a name that nobody else has", t0=0.0)] * 2)
    assert again["result"]["t1"] > first["result"]["t1"]


def test_every_command_is_answered_as_its_type_says(serve: Serve, tmp_path: Path) -> None:
    daemon = serve("demo:1")
    asked, told = set(), []
    with closing(ControlClient(daemon.sockets.control, timeout_s=10)) as client:

        def ask(request: protocol.Request[Any]) -> Any:
            name = protocol.command_of(request).name
            result = client.ask(name, **protocol.arguments(request))
            answer = protocol.answer_from(request, result)
            assert wire.decode_map(wire.encode_map(answer)) == result, "nothing is missing, nothing is more"
            asked.add(name)
            told.append(answer)
            return answer

        assert ask(protocol.Ping()).pid == daemon.process.pid
        ask(protocol.Version())
        ask(protocol.Time(t0=1.0))
        ask(protocol.EnrollClip(**clip("bow", "bow") | {"side": "either"}))
        ask(protocol.EnrollClip(**clip("kick", "kick")))
        times = np.arange(0.0, 3.0, 0.1)
        piece = protocol.Piece(timestamps_s=times.tobytes(), joints_m=np.tile(STANDING, (len(times), 1, 1)).tobytes())
        ask(protocol.EnrollNegative(pieces=[piece], origin="test"))
        assert ask(protocol.EnrollStatus()) == protocol.EnrollIdle()
        ask(protocol.EnrollStart(label="wave", countdown_s=0.0, commit=False))
        assert isinstance(ask(protocol.EnrollStatus()), protocol.EnrollUnderWay)
        assert ask(protocol.Status()).enrolling == "wave"
        until(lambda: isinstance(ask(protocol.EnrollStatus()), protocol.EnrollCaptured))
        waiting = ask(protocol.EnrollStatus())
        assert isinstance(waiting, protocol.EnrollCaptured)
        captured = ask(protocol.EnrollMovement(id=waiting.id))
        part = protocol.EnrollTrim(start_s=captured.start_s, end_s=captured.end_s, id=waiting.id)
        assert ask(part).duration_s == waiting.preview.duration_s
        stored = ask(protocol.EnrollCommit(force=True, id=waiting.id))
        done = protocol.EnrollDone(label="wave", result=stored, id=waiting.id)
        assert ask(protocol.EnrollStatus()) == done
        shown = ask(protocol.GalleryMovement(id=stored.id[:6]))
        assert len(shown.timestamps_s) == 8 * stored.frames
        ask(protocol.EnrollStart(label="clap", countdown_s=9.0))
        assert ask(protocol.EnrollCancel()).cancelled == "clap"
        assert isinstance(ask(protocol.EnrollStatus()), protocol.EnrollFailed)
        assert [label.label for label in ask(protocol.GalleryList()).labels] == ["bow", "kick", "wave"]
        assert isinstance(ask(protocol.GalleryGet()), protocol.GalleryGetAnswer)
        assert isinstance(ask(protocol.GalleryGet(label="bow")), protocol.LabelDetails)
        ask(protocol.GalleryRename(old="kick", new="high kick"))
        ask(protocol.GalleryRemove(id=stored.id))
        ask(protocol.GalleryUndo())
        ask(protocol.GalleryRemove(label="wave"))
        ask(protocol.EnrollUndo())
        ask(protocol.GalleryHistory())
        ask(protocol.GalleryRevert(revision=2))
        ask(protocol.GalleryExport(path=str(tmp_path / "export.npz")))
        ask(protocol.GalleryImport(path=str(tmp_path / "export.npz"), mode="replace"))
        ask(protocol.GalleryVacuum(keep_revisions=1))
        kept = keep_clip(Path(ask(protocol.Status()).review.path))
        assert [clip.id for clip in ask(protocol.ReviewList()).clips] == [kept]
        assert ask(protocol.ReviewMovement(id=kept)).start_s == 0
        assert ask(protocol.ReviewAnswer(id=kept, answer="wrong")).answer == "is not bow"
        assert ask(protocol.ReviewUndo()).id == kept
        assert ask(protocol.ReviewClear()).deleted == 1
        ask(protocol.ThresholdSet(label="bow", distance=0.05))
        ask(protocol.ThresholdGet())
        assert ask(protocol.ThresholdUndo()).notes[0] == "undone: the threshold of 'bow' was set to 0.05"
        ask(protocol.ThresholdReset())
        ask(protocol.ModelInfoGet())
        ask(protocol.ConfigGet())
        ask(protocol.ConfigReload())
        ask(protocol.RecordStart(path=str(tmp_path / "a.mcap")))
        assert ask(protocol.Status()).recording is not None
        ask(protocol.RecordStop())
        with pytest.raises(ControlError) as refused:
            ask(protocol.ThresholdCalibrate(false_alarms_per_hour=5.0))
        assert refused.value.code == "no_rates", "the test's model has none; tests/test_thresholds.py calibrates"
        with pytest.raises(ControlError) as refused:
            ask(protocol.ThresholdPreview(false_alarms_per_hour=[5.0]))
        assert refused.value.code == "no_rates"
        with pytest.raises(ControlError) as refused:
            ask(protocol.EnrollWords(label="kick"))
        assert refused.value.code == "no_words", "nor has it words; tests/test_enroll_words.py enrolls by them"
        ask(protocol.Shutdown())
    assert asked | {"threshold.calibrate", "threshold.preview", "enroll.words"} == {
        command.name for command in protocol.COMMANDS
    }
    not_here = {protocol.StoredWords, protocol.ThresholdPreviewAnswer}
    kinds = {kind for command in protocol.COMMANDS for kind in command.answers} - not_here
    assert {type(answer) for answer in told} == {get_origin(kind) or kind for kind in kinds}
    assert daemon.process.wait(timeout=10) == 0


def test_a_peer_that_dies_before_its_answer_harms_nobody(daemon: DaemonProcess) -> None:
    for _ in range(20):
        with zmq.Context() as context, context.socket(zmq.REQ) as peer:
            peer.setsockopt(zmq.LINGER, 1000)
            peer.connect(daemon.sockets.control)
            peer.send(request("status"))
    assert daemon.ask("ping")["pid"] == daemon.process.pid


def test_a_peer_that_asks_without_end_keeps_nobody_waiting(daemon: DaemonProcess, publish: Publish) -> None:
    source = publish()
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.setsockopt(zmq.LINGER, 0)
        peer.connect(daemon.sockets.control)
        deadline_s = time.monotonic() + 1
        while time.monotonic() < deadline_s:
            peer.send(request("gallery.list"))
            source.send()
        asked_s = time.monotonic()
        daemon.ask("ping")
        assert time.monotonic() - asked_s < 2
    until(lambda: is_all_accounted_for(daemon, source))


def test_the_clocks_of_daemon_and_peer_can_be_compared(daemon: DaemonProcess) -> None:
    before_s = time.monotonic()
    answer = daemon.ask("time", t0=before_s)
    assert answer["t0"] == before_s <= answer["t1"] <= answer["t2"] <= time.monotonic()
    assert ":" in answer["clock"]


# Recording


def test_what_is_recorded_is_what_came(daemon: DaemonProcess, publish: Publish, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    assert daemon.ask("record.start", path=str(path)) == {"path": str(path)}
    assert error_of(daemon, "record.start", path=str(path)).code == "busy"
    source = publish()
    joints_LV3 = perform("clap", seed=1).joints_m[:40]
    source.play(joints_LV3)
    until(lambda: state_of(daemon, source)["frames"] == 40)
    assert daemon.ask("status")["recording"]["path"] == str(path)
    num_frames = daemon.ask("record.stop")["frames"]
    assert error_of(daemon, "record.stop").code == "not_recording"
    assert len(list(read_recording(path))) == num_frames
    frames = list(read_recording(path, source=source.name))
    np.testing.assert_array_equal([frame.bodies[0].joints_m for frame in frames], joints_LV3)


def test_a_recording_over_a_file_or_to_nowhere_is_refused(daemon: DaemonProcess, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_bytes(b"precious")
    for path, code in ((taken, "exists"), (tmp_path / "no" / "a.mcap", "write_failed"), (tmp_path, "exists")):
        error = error_of(daemon, "record.start", path=str(path))
        assert error.code == code
        assert str(path) in error.message
    assert taken.read_bytes() == b"precious"
    assert daemon.ask("status")["recording"] is None


# Configuration and gallery


def test_a_changed_configuration_is_taken_over_and_counters_go_on(serve: Serve, publish: Publish) -> None:
    daemon = serve("zmq")
    enroll_clip(daemon, "wave", "wave")
    source = publish(of=daemon)
    with closing(EventSubscriber(daemon.sockets.events)) as events:
        onset = wave_until_onset(events, source)
        frames = state_of(daemon, source)["frames"]
        text = daemon.config.read_text(encoding="utf-8")
        daemon.config.write_text(text + "hits = 3\nout_of = 4\n", encoding="utf-8")
        answer = daemon.ask("config.reload")
        assert (answer["events"]["hits"], answer["camera"]) == (3, "zmq")
        end = next_event(events, source, timeout_s=0.9)
        assert (end["type"], end["id"]) == ("end", onset["id"])
        assert wave_until_onset(events, source)["label"] == "wave"
    assert state_of(daemon, source)["frames"] > frames
    daemon.config.write_text(text.replace("gallery.db", "other.db"), encoding="utf-8")
    error = error_of(daemon, "config.reload")
    assert error.code == "bad_config"
    assert "[gallery]" in error.message
    daemon.config.write_text(text + "hits = 0\n", encoding="utf-8")
    assert "hits" in error_of(daemon, "config.reload").message
    assert daemon.ask("config.get")["events"]["hits"] == 3
    daemon.config.write_text(text, encoding="utf-8")


def test_labels_are_chosen_by_distribution_calibration_once_it_is_fitted(
    serve: Serve, make_config: MakeConfig, publish: Publish
) -> None:
    daemon = serve("zmq", config=make_config(matching="calibrated"))

    def matching() -> str:
        return str(daemon.ask("status")["model"]["matching"])

    enroll_clip(daemon, "wave", "wave")
    until(lambda: matching() == "calibrated: cosine, as 2 to 100 labels can be fitted, not 1")
    for action in ("bow", "raise_arms", "squat"):
        enroll_clip(daemon, action, action)
    daemon.ask("gallery.remove", label="squat")
    until(lambda: matching() == "calibrated")
    source = publish(of=daemon)
    with closing(EventSubscriber(daemon.sockets.events)) as events:
        assert wave_until_onset(events, source)["label"] == "wave"
    daemon.ask("gallery.remove", label="bow")
    daemon.ask("gallery.remove", label="raise_arms")
    until(lambda: "not 1" in matching())
    assert daemon.stop() == 0


def test_a_daemon_stops_though_a_classifier_is_being_fitted(serve: Serve, make_config: MakeConfig) -> None:
    daemon = serve("zmq", config=make_config(matching="calibrated"))
    for i in range(30):
        enroll_clip(daemon, f"label {i}", "wave", seed=i)
    until(lambda: daemon.ask("status")["model"]["matching"].startswith("calibrated: being fitted"))
    assert daemon.stop() == 0


def test_what_another_program_changes_in_the_gallery_is_seen(
    daemon: DaemonProcess, make_config: MakeConfig, serve: Serve
) -> None:
    gallery = Path(daemon.ask("status")["gallery"]["path"])
    neighbor = serve("zmq", config=make_config(gallery=gallery))
    enroll_clip(neighbor, "shared", "bow")
    until(lambda: "shared" in daemon.ask("status")["gallery"]["labels"])
    daemon.ask("gallery.remove", label="shared")
    until(lambda: "shared" not in neighbor.ask("status")["gallery"]["labels"])
    assert neighbor.stop() == 0


def test_a_gallery_of_another_model_is_embedded_again(
    serve: Serve, make_config: MakeConfig, other_bundle: Path, tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery.db"
    first = serve("zmq", config=make_config(gallery=gallery))
    enroll_clip(first, "wave", "wave")
    enroll_clip(first, "bow", "bow")
    sha256 = first.ask("model.info")["onnx_sha256"]
    assert first.stop() == 0
    second = serve("zmq", config=make_config(gallery=gallery, bundle=other_bundle))
    status = second.ask("status")
    assert status["model"]["sha256"] != sha256
    assert (status["gallery"]["labels"], status["gallery"]["reembedded"]) == (["wave", "bow"], 2)
    assert second.stop() == 0
    assert "2 examples were embedded again" in second.log.read_text(encoding="utf-8")


def test_a_gallery_that_is_damaged_meanwhile_stops_nothing(serve: Serve) -> None:
    daemon = serve("zmq")
    enroll_clip(daemon, "wave", "wave")
    gallery = Path(daemon.ask("status")["gallery"]["path"])
    for path in gallery.parent.glob("gallery.db*"):
        path.write_bytes(os.urandom(path.stat().st_size))
    error = error_of(daemon, "gallery.remove", label="wave")
    assert error.code == "bad_gallery"
    uptime_s = daemon.ask("status")["uptime_s"]
    until(lambda: daemon.ask("status")["uptime_s"] > uptime_s + 1.5)
    assert daemon.ask("status")["gallery"]["labels"] == ["wave"], "what is in memory still serves"
    assert daemon.stop() == 0


def test_a_backup_put_in_the_gallerys_place_is_told_and_used(serve: Serve, tmp_path: Path) -> None:
    daemon = serve("zmq")
    enroll_clip(daemon, "wave", "wave")
    gallery, copy = Path(daemon.ask("status")["gallery"]["path"]), tmp_path / "copy.db"
    shutil.copy(gallery, copy)
    enroll_clip(daemon, "bow", "bow")
    copy.replace(gallery)
    until(lambda: daemon.ask("status")["gallery"]["replaced"] == 1)
    assert daemon.ask("status")["gallery"]["labels"] == ["wave"]
    enroll_clip(daemon, "kick", "kick")
    assert daemon.stop() == 0
    log = daemon.log.read_text(encoding="utf-8")
    assert "was replaced by another file while it was in use: now revision 1, enrolled: wave" in log
    heir = serve("zmq", config=daemon.config)
    assert heir.ask("status")["gallery"]["labels"] == ["wave", "kick"]
    assert heir.stop() == 0


def test_a_gallery_that_is_gone_is_told_once_and_comes_back(serve: Serve, tmp_path: Path) -> None:
    daemon = serve("zmq")
    enroll_clip(daemon, "wave", "wave")
    gallery = Path(daemon.ask("status")["gallery"]["path"])
    gallery.replace(tmp_path / "moved.db")
    until(lambda: "was removed or moved away" in daemon.log.read_text(encoding="utf-8"))
    assert error_of(daemon, "gallery.remove", label="wave").code == "gallery_missing"
    assert daemon.ask("gallery.export", path=str(tmp_path / "saved.npz"))["examples"] == 1
    assert not gallery.exists()
    (tmp_path / "moved.db").replace(gallery)
    until(lambda: "the gallery can be read again: revision 1" in daemon.log.read_text(encoding="utf-8"))
    daemon.ask("gallery.remove", label="wave")
    assert daemon.stop() == 0
    assert daemon.log.read_text(encoding="utf-8").count("was removed or moved away") == 1


def test_what_was_acknowledged_survives_a_kill(serve: Serve) -> None:
    victim = serve("zmq")
    for label in ("one", "two", "three"):
        enroll_clip(victim, label, "wave", seed=len(label))
    victim.process.kill()
    victim.process.wait()
    heir = serve("zmq", config=victim.config)
    labels = heir.ask("gallery.list")["labels"]
    assert [label["label"] for label in labels] == ["one", "two", "three"]
    assert all(len(label["examples"]) == 1 for label in labels)
    assert heir.stop() == 0


# Starting and stopping


def test_a_log_that_nobody_reads_does_not_stop_the_daemon(serve: Serve) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    daemon = serve("zmq", terminal=writing)
    os.close(writing)
    with closing(Source(daemon.sockets.frames, "cam").socket) as stranger:
        for number in range(300):
            stranger.send_multipart([f"skeleton.{number}".encode(), b"no frame"])
        until(lambda: sum(sum(reasons.values()) for reasons in dropped(daemon)) == 300)
    enroll_clip(daemon, "wave", "wave")
    daemon.process.terminate()
    assert daemon.process.wait(timeout=20) == 0
    os.close(reading)


def dropped(daemon: DaemonProcess) -> list[dict[str, int]]:
    status = daemon.ask("status")
    return [status["dropped"], *(source["dropped"] for source in status["sources"].values())]


def refused_start(config: Path, camera: str) -> str:
    """Return the stderr of a daemon that must not start: exit code 2, one message, no traceback."""
    command = [str(SCRIPT), "serve", "--camera", camera, "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error (")
    return done.stderr


@pytest.mark.parametrize(
    ("camera", "expected"),
    [
        ("camera", "expected demo, demo:SEED, zmq, replay:PATH, webcam[:N], video:FILE or k4a[:FILE.mkv]"),
        ("replay:/not/there.mcap", "/not/there.mcap does not exist"),
    ],
)
def test_a_camera_that_cannot_be_opened_is_told(make_config: MakeConfig, camera: str, expected: str) -> None:
    assert expected in refused_start(make_config(), camera)


def test_distribution_calibration_by_a_bundle_without_statistics_is_told(
    make_config: MakeConfig, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    info = json.loads((bundle / "bundle.json").read_bytes())
    (bundle / "bundle.json").write_text(json.dumps(info | {"statistics_sha256": ""}))
    message = refused_start(make_config(bundle=bundle, matching="calibrated"), "zmq")
    assert "needs a model bundle with base statistics" in message
    assert "crossglg-edge export" in message


def test_a_gallery_that_cannot_be_written_is_told(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    message = refused_start(make_config(gallery=tmp_path / "file" / "gallery.db"), "zmq")
    assert str(tmp_path / "file") in message


@pytest.mark.parametrize("camera", ["zmq", "demo:1"])
def test_a_second_daemon_on_the_same_endpoints_is_told(daemon: DaemonProcess, camera: str) -> None:
    message = refused_start(daemon.config, camera)
    assert "address_in_use" in message
    assert "Is another daemon running" in message
    assert daemon.ask("ping")["pid"] == daemon.process.pid


def test_over_tcp_too_a_second_daemon_is_told_and_strangers_do_no_harm(serve: Serve, make_config: MakeConfig) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(tcp.create_server(("127.0.0.1", 0))) for _ in range(3)]
        ports = tuple(server.getsockname()[1] for server in servers)
    daemon = serve("zmq", config=make_config(ports=ports))
    assert "address_in_use" in refused_start(daemon.config, "zmq")
    for port in ports:
        for payload in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(1000)):
            with tcp.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(payload)
    with closing(Source(daemon.sockets.frames, "cam").socket):
        pass
    assert daemon.ask("ping")["pid"] == daemon.process.pid
    assert daemon.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_cleanly(serve: Serve, tmp_path: Path, number: signal.Signals) -> None:
    daemon = serve("demo:1")
    assert error_of(daemon, "enroll.start", label="fly").code == "unknown_action"
    path = tmp_path / "a.mcap"
    daemon.ask("record.start", path=str(path))
    until(lambda: daemon.ask("status")["recording"]["frames"] > 3)
    daemon.process.send_signal(number)
    asked_s = time.monotonic()
    assert daemon.process.wait(timeout=10) == 0
    assert time.monotonic() - asked_s < 3
    assert len(list(read_recording(path))) > 3


def test_an_event_that_goes_on_is_ended_when_the_daemon_stops(serve: Serve, publish: Publish) -> None:
    daemon = serve("zmq")
    enroll_clip(daemon, "wave", "wave")
    source = publish(of=daemon)
    with closing(EventSubscriber(daemon.sockets.events)) as events:
        onset = wave_until_onset(events, source)
        assert daemon.stop() == 0
        end = next_event(events, source, timeout_s=2)
        assert (end["type"], end["id"]) == ("end", onset["id"])
