"""The sockets and what `--camera` names: real sockets, files and clocks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq

from streams import wire
from streams.cameras import Camera, Refused, open_camera
from streams.errors import CameraError, ControlError, CrossGLGError
from streams.frame import SkeletonFrame
from streams.performer import ACTIONS, Performer
from streams.recording import RecordingWriter
from streams.sockets import (
    ControlClient,
    ControlServer,
    EventPublisher,
    EventSubscriber,
    FramePublisher,
    FrameSubscriber,
)

Bound = FrameSubscriber | EventPublisher | ControlServer


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path / 's'}"


def frames(num_frames: int, source: str = "cam") -> list[SkeletonFrame]:
    performer = Performer(seed=1, source=source)
    return [performer.frame() for _ in range(num_frames)]


def until(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline_s


def poll(camera: Camera) -> bool:
    """Wait a little; a bound socket takes new publishers only while it is polled. Return whether a message is there."""
    assert camera.socket is not None
    return bool(camera.socket.poll(10))


def read_all(camera: Camera, num: int) -> list[SkeletonFrame | Refused]:
    """Read until there are so many messages."""
    read: list[SkeletonFrame | Refused] = []
    while len(read) < num:
        until(lambda: poll(camera))
        read += camera.read(time.monotonic(), 100)
    return read


def refusal_of(action: Callable[[], object]) -> CrossGLGError:
    with pytest.raises(CrossGLGError) as refused:
        action()
    assert refused.value.message
    return refused.value


# Frames and events


def test_frames_arrive_whole_and_in_order(endpoint: str) -> None:
    sent = frames(50)
    with (
        closing(open_camera("zmq", frames_endpoint=endpoint)) as camera,
        closing(FramePublisher(endpoint)) as publisher,
    ):
        until(lambda: poll(camera) or publisher.wait_for_subscriber(0))
        for frame in sent:
            publisher.send(frame)
        arrived = read_all(camera, 50)
    assert [wire.encode_frame(frame) for frame in arrived if isinstance(frame, SkeletonFrame)] == [
        wire.encode_frame(frame) for frame in sent
    ]


def test_without_a_daemon_a_publisher_is_told_so(endpoint: str) -> None:
    with closing(FramePublisher(endpoint)) as publisher:
        assert not publisher.wait_for_subscriber(0.05)


def test_what_is_no_frame_is_refused_with_the_reason_to_count(endpoint: str) -> None:
    topic, payload = wire.encode_frame(frames(1)[0])
    messages = [
        ([b"skeleton.cam"], ("cam", "bad_parts")),
        ([topic, payload, b""], ("cam", "bad_parts")),
        ([b"skeleton.other", payload], ("other", "topic_mismatch")),
        ([b"skeletons/cam", payload], (None, "bad_topic")),
        ([b"", payload], (None, "bad_topic")),
        ([b"skeleton.\xff" + bytes(1_000_000), payload], ("\ufffd" + 99 * "\0", "topic_mismatch")),
        ([topic, b"\xc1"], ("cam", "bad_message")),
    ]
    with (
        closing(open_camera("zmq", frames_endpoint=endpoint)) as camera,
        zmq.Context() as context,
        context.socket(zmq.XPUB) as publisher,
    ):
        publisher.connect(endpoint)
        until(lambda: poll(camera) or bool(publisher.poll(0)))
        for parts, _ in messages:
            publisher.send_multipart(parts)
        arrived = read_all(camera, len(messages))
    refused = [(message.source, message.reason) for message in arrived if isinstance(message, Refused)]
    assert refused == [expected for _, expected in messages]
    assert all(len(message.message) < 500 for message in arrived if isinstance(message, Refused))


def test_a_listener_gets_the_topics_that_it_asked_for(endpoint: str) -> None:
    with (
        closing(EventPublisher(endpoint)) as publisher,
        closing(EventSubscriber(endpoint, ("event.", "log."))) as subscriber,
    ):
        received: list[tuple[str, dict[str, Any]] | None] = [None]

        def hears() -> bool:
            publisher.send_map("status.daemon", {})
            publisher.send_map("log.info", {"message": "hello"})
            received[0] = subscriber.receive(0.02)
            return received[0] is not None

        until(hears)
        assert received == [("log.info", {"message": "hello"})]


def test_a_publisher_knows_what_is_asked_for_by_name(endpoint: str) -> None:
    with closing(EventPublisher(endpoint)) as publisher:

        def is_wanted(topic: str = "scores.cam.0") -> bool:
            publisher.take_subscriptions()
            return publisher.is_wanted(topic)

        assert not is_wanted()
        with closing(EventSubscriber(endpoint, ("", "event."))):
            until(lambda: is_wanted("event.cam.0"))
            assert not is_wanted(), "who listens to all topics does not ask for it"
        with closing(EventSubscriber(endpoint, ("scores.cam.",))), closing(EventSubscriber(endpoint, ("scores.",))):
            until(is_wanted)
            until(lambda: is_wanted("scores.other.1"))
        until(lambda: not is_wanted())
        until(lambda: not is_wanted("event.cam.0"))


# Endpoints


@pytest.mark.parametrize("kind", [FrameSubscriber, EventPublisher, ControlServer])
@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_a_second_program_is_refused_an_endpoint_that_is_taken(
    kind: Callable[[str], Bound], transport: str, endpoint: str
) -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as other:
        if transport == "tcp":
            endpoint = f"tcp://127.0.0.1:{other.bind_to_random_port('tcp://127.0.0.1')}"
        else:
            other.bind(endpoint)
        error = refusal_of(lambda: kind(endpoint))
        assert (type(error), error.code) == (ControlError, "address_in_use")
        assert endpoint in error.message
        assert "crossglg-edge status" in error.hint


def test_an_ipc_file_that_a_dead_program_left_behind_is_taken_over(endpoint: str) -> None:
    path = Path(endpoint.removeprefix("ipc://"))
    context = zmq.Context()
    with context.socket(zmq.PUB) as dead:
        dead.bind(endpoint)
        assert path.is_socket()
        left_behind = path.with_name("left")
        path.rename(left_behind)
    context.term()
    left_behind.rename(path)
    with closing(ControlServer(endpoint)), closing(ControlClient(endpoint, timeout_s=0.01)) as client:
        assert refusal_of(lambda: client.ask("ping")).code == "unreachable"


@pytest.mark.parametrize("bad", ["", "here", "tcp://127.0.0.1", "tcp://192.0.2.1:5560", "ipc:///not/there/s"])
def test_a_bad_endpoint_is_named_with_what_one_looks_like(bad: str) -> None:
    error = refusal_of(lambda: ControlServer(bad))
    assert error.code == "bad_endpoint"
    assert "tcp://127.0.0.1:55" in error.hint
    if bad in ("", "here", "tcp://127.0.0.1"):
        assert refusal_of(lambda: ControlClient(bad)).code == "bad_endpoint"


# Control


@pytest.fixture
def answering(endpoint: str) -> Iterator[Callable[[list[list[dict[str, Any]]]], None]]:
    """Return a function that lets a server give, to each request in turn, these answers (its id filled in)."""
    server = ControlServer(endpoint)
    threads: list[Thread] = []

    def answer(script: list[list[dict[str, Any]]]) -> None:
        def serve() -> None:
            for answers in script:
                assert server.socket.poll(5000)
                received = server.receive()
                assert received is not None
                address, payload = received
                for message in answers:
                    server.send(address, {"id": wire.decode_request(payload).id} | message)

        threads.append(Thread(target=serve))
        threads[-1].start()

    yield answer
    for thread in threads:
        thread.join()
    server.close()


Answering = Callable[[list[list[dict[str, Any]]]], None]


def test_a_client_gets_the_result_or_the_daemons_error(answering: Answering, endpoint: str) -> None:
    refused = {"ok": False, "error": {"code": "busy", "message": "later", "hint": "Wait."}}
    answering([[{"ok": True, "result": {"n": 1}}], [refused], [{"ok": True}]])
    with closing(ControlClient(endpoint)) as client:
        assert client.ask("one") == {"n": 1}
        error = refusal_of(lambda: client.ask("two"))
        assert (error.code, error.message, error.hint) == ("busy", "later", "Wait.")
        assert client.ask("three") == {}


def test_a_late_answer_to_an_earlier_request_is_not_taken_for_this_ones(answering: Answering, endpoint: str) -> None:
    late = {"id": "an earlier one", "ok": True, "result": {"n": 0}}
    answering([[late, {"ok": True, "result": {"n": 1}}]])
    with closing(ControlClient(endpoint)) as client:
        assert client.ask("one") == {"n": 1}


def test_without_a_daemon_a_client_is_told_where_none_answers(endpoint: str) -> None:
    with closing(ControlClient(endpoint, timeout_s=0.05)) as client:
        started_s = time.monotonic()
        error = refusal_of(lambda: client.ask("ping"))
        assert time.monotonic() - started_s < 1
    assert error.code == "unreachable"
    assert endpoint in error.message
    assert "crossglg-edge serve" in error.hint


def test_an_answer_to_a_peer_that_has_gone_is_dropped(endpoint: str) -> None:
    with closing(ControlServer(endpoint)) as server:
        with zmq.Context() as context, context.socket(zmq.REQ) as peer:
            peer.connect(endpoint)
            peer.send(b"x")
            assert server.socket.poll(5000)
        received = server.receive()
        assert received is not None
        server.send(received[0], {"ok": True})
        assert server.receive() is None


# Cameras


@pytest.mark.parametrize("name", ["", "camera", "video:", "demo:", "demo:x", "demo:-1", "zmq:1", "replay", "k4a:"])
def test_an_unknown_camera_is_refused_with_the_known_ones(name: str, endpoint: str) -> None:
    error = refusal_of(lambda: open_camera(name, frames_endpoint=endpoint))
    assert (type(error), error.code) == (CameraError, "no_camera")
    assert "demo, demo:SEED, zmq, replay:PATH, webcam[:N], video:FILE or k4a[:FILE.mkv]" in error.message


def test_the_demo_comes_in_real_time_and_a_seed_repeats_it(endpoint: str) -> None:
    def joints(name: str) -> list[bytes]:
        camera = open_camera(name, frames_endpoint=endpoint)
        now_s = time.monotonic()
        assert camera.socket is None
        assert 0 <= camera.wait_s(now_s + 0.001) < 0.034
        read = camera.read(now_s + 0.5, 100)
        assert 15 <= len(read) <= 16
        assert camera.read(now_s + 0.5, 100) == []
        assert len(camera.read(now_s + 0.8, 4)) == 4, "no more than asked for"
        camera.close()
        frames = [frame for frame in read if isinstance(frame, SkeletonFrame)]
        assert [frame.seq for frame in frames] == list(range(len(read)))
        assert np.diff([frame.timestamp_s for frame in frames]) == pytest.approx(1 / 30)
        assert all(frame.timestamp_s <= frame.t_send_s == now_s + 0.5 for frame in frames)
        return [frame.bodies[0].joints_m.tobytes() for frame in frames]

    assert joints("demo:7")[:15] == joints("demo:7")[:15]
    assert joints("demo:7")[:15] != joints("demo:8")[:15]


def test_a_camera_that_was_not_read_for_long_goes_on_from_now(endpoint: str) -> None:
    camera = open_camera("demo:1", frames_endpoint=endpoint)
    later_s = time.monotonic() + 60
    (frame,) = camera.read(later_s, 100)
    assert isinstance(frame, SkeletonFrame)
    assert frame.timestamp_s == pytest.approx(later_s)
    assert len(camera.read(later_s + 0.1, 100)) == 3


def test_the_demos_performer_takes_a_cue_for_what_it_knows_and_refuses_the_rest(endpoint: str) -> None:
    camera = open_camera("demo:1", frames_endpoint=endpoint)
    assert camera.cue(" Wave ", 1.0)
    error = refusal_of(lambda: camera.cue("fly", 1.0))
    assert error.code == "unknown_action"
    assert all(action in error.message for action in ACTIONS)


def test_a_replay_numbers_each_source_and_says_when_it_is_over(tmp_path: Path, endpoint: str) -> None:
    path = tmp_path / "two.mcap"
    with RecordingWriter(path) as writer:
        for i, pair in enumerate(zip(frames(10), frames(10, "other"), strict=True)):
            for frame in pair:
                writer.write(replace(frame, epoch="e"), log_time_ns=10**18 + i)
    camera = open_camera(f"replay:{path}", frames_endpoint=endpoint, loop=False)
    now_s = time.monotonic()
    assert camera.wait_s(now_s) == 0
    read = camera.read(now_s + 0.9, 100)
    for source in ("cam", "other"):
        numbers = [frame.seq for frame in read if isinstance(frame, SkeletonFrame) and frame.source == source]
        assert numbers == list(range(10))
    assert camera.wait_s(now_s) == math.inf
    assert camera.read(now_s + 100, 100) == []
    assert not camera.cue("wave", 0.0)


def test_a_replay_can_go_round_for_ever_with_rising_time(tmp_path: Path, endpoint: str) -> None:
    path = tmp_path / "one.mcap"
    with RecordingWriter(path) as writer:
        for i, frame in enumerate(frames(5)):
            writer.write(frame, log_time_ns=10**18 + i)
    camera = open_camera(f"replay:{path}", frames_endpoint=endpoint)
    start_s, read = time.monotonic(), []
    for step in range(50):
        read += camera.read(start_s + 0.1 * step, 100)
    times_s = [frame.timestamp_s for frame in read if isinstance(frame, SkeletonFrame)]
    assert len(times_s) > 15
    assert (np.diff(times_s) > 0).all()


@pytest.mark.parametrize("name", ["replay:not-there.mcap", "replay:not-there.npz", "replay:not-there.npz:0", "replay:"])
def test_a_replay_of_what_is_not_there_is_refused(name: str, endpoint: str, tmp_path: Path) -> None:
    error = refusal_of(lambda: open_camera(name, frames_endpoint=endpoint))
    assert error.code in ("not_found", "bad_recording")
    assert msgspec.json.encode(error.message)


@pytest.mark.parametrize(("kind", "max_bytes"), [("frames", 1024 * 1024), ("control", 16 * 1024 * 1024)])
def test_who_sends_too_much_loses_the_connection_and_nobody_else(endpoint: str, kind: str, max_bytes: int) -> None:
    server = FrameSubscriber(endpoint) if kind == "frames" else ControlServer(endpoint)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    polite, greedy = (context.socket(zmq.DEALER if kind == "control" else zmq.PUB) for _ in range(2))
    for peer in (polite, greedy):
        peer.setsockopt(zmq.LINGER, 0)
        peer.connect(endpoint)

    def received() -> list[int]:
        if isinstance(server, ControlServer):
            found = server.receive()
            return [len(found[1])] if found else []
        return [len(parts[-1]) for parts in server.receive(10)]

    def arrives(peer: zmq.Socket[bytes], size: int, timeout_s: float) -> bool:
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            peer.send(bytes(size))
            time.sleep(0.02)
            if size in received():
                return True
        return False

    try:
        assert arrives(polite, 100, 10)
        greedy.send(bytes(max_bytes + 1))
        assert not arrives(greedy, max_bytes + 1, 0.3)
        assert arrives(polite, 100, 10)
        assert arrives(polite, 5000, 10)
    finally:
        for peer in (polite, greedy):
            peer.close()
        server.close()
