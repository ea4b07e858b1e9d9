"""The wire format: what goes out comes back, and whatever else comes is refused with a reason.

Shapes: J joints of a native layout.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import msgpack
import numpy as np
import pytest

from streams import wire
from streams.errors import WireError
from streams.event import Event, Latency, Quality, RunnerUp
from streams.frame import HIGH, LOW, MEDIUM, NO_CONFIDENCE, Body, SkeletonFrame
from streams.layouts import LAYOUTS

_NESTED = b"\x91" * 10_000 + b"\xc0"


def message(**changes: Any) -> dict[str, Any]:
    """Make a frame as a publisher in another language writes it; a change to None leaves a key out."""
    fields = {
        "v": 1,
        "source": "kinect",
        "epoch": "a1",
        "seq": 4,
        "timestamp": 12.5,
        "layout": "kinect25",
        "bodies": [{"id": 3, "pos": np.ones((25, 3), "<f4").tobytes()}],
    } | changes
    return {key: value for key, value in fields.items() if value is not None}


def body(**changes: Any) -> list[dict[str, Any]]:
    return [message()["bodies"][0] | changes]


def decoded(**changes: Any) -> SkeletonFrame:
    return wire.decode_frame(msgpack.packb(message(**changes)))


def refused(payload: bytes) -> WireError:
    with pytest.raises(WireError) as refusal:
        wire.decode_frame(payload)
    return refusal.value


def random_frame(rng: np.random.Generator, layout: str) -> SkeletonFrame:
    num_joints = LAYOUTS[layout].num_joints
    bodies = []
    for i in range(rng.integers(0, 4)):
        joints_m = rng.normal(scale=3, size=(num_joints, 3)).astype(np.float32)
        joints_m[rng.random(num_joints) < 0.2] = np.nan
        bodies.append(Body(id=i, joints_m=joints_m, confidence=rng.integers(0, 4, num_joints, np.uint8)))
    timestamp_s = float(rng.uniform(-10, 1e9))
    return SkeletonFrame(
        source=str(rng.choice(["kinect", "kamera.2", "カメラ 1"])),
        epoch=str(rng.integers(1 << 60)),
        seq=int(rng.integers(1 << 63)),
        timestamp_s=timestamp_s,
        t_send_s=timestamp_s + float(rng.random()),
        clock=str(rng.choice(["", "host:boot"])),
        layout=layout,
        axes=str(rng.choice(["LUF", "RDF", "FLU"])),
        mirrored=bool(rng.integers(2)),
        fps=float(rng.choice([0, 12.5, 30])),
        bodies=tuple(bodies),
    )


def event(**changes: Any) -> Event:
    fields: dict[str, Any] = {
        "id": "e1",
        "type": "onset",
        "label": "手を振る",
        "source": "kinect",
        "body": 2**64 - 1,
        "score": 0.9,
        "distance": 0.1,
        "threshold": 0.5,
        "threshold_distance": 0.4,
        "margin": 0.3,
        "runner_up": RunnerUp(label="clap", score=0.6),
        "t_start": 1.0,
        "t_end": 2.0,
        "t_emit": 2.1,
        "clock": "host:boot",
        "seq_last": 60,
        "gallery_revision": 4,
        "model_sha256": "0" * 64,
        "latency_ms": Latency(sensor=1.0, queue=2.0, encode=3.0, match=4.0, total=10.0),
        "quality": Quality(joints=1.0, fps=30.0, dropped=2),
    }
    return Event(**fields | changes)


def assert_same(a: SkeletonFrame, b: SkeletonFrame) -> None:
    for field in dataclasses.fields(SkeletonFrame):
        if field.name != "bodies":
            assert getattr(a, field.name) == getattr(b, field.name), field.name
    assert len(a.bodies) == len(b.bodies)
    for one, other in zip(a.bodies, b.bodies, strict=True):
        assert one.id == other.id
        assert one.joints_m.dtype == other.joints_m.dtype == np.float32
        assert one.joints_m.tobytes() == other.joints_m.tobytes()
        assert one.confidence.dtype == other.confidence.dtype == np.uint8
        assert one.confidence.tolist() == other.confidence.tolist()


# Frames that are taken


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_frame_comes_back_as_it_was_sent(layout: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        frame = random_frame(rng, layout)
        topic, payload = wire.encode_frame(frame)
        assert topic == f"skeleton.{frame.source}".encode()
        assert_same(wire.decode_frame(payload), frame)


def test_the_messagepack_package_reads_a_frame() -> None:
    frame = random_frame(np.random.default_rng(1), "k4a32")
    read = msgpack.unpackb(wire.encode_frame(frame)[1])
    assert read["v"] == 1
    assert read["units"] == "m"
    assert (read["source"], read["seq"], read["timestamp"]) == (frame.source, frame.seq, frame.timestamp_s)
    assert [b["pos"] for b in read["bodies"]] == [b.joints_m.astype("<f4").tobytes() for b in frame.bodies]


def test_a_frame_of_the_messagepack_package_is_taken() -> None:
    frame = decoded()
    assert (frame.source, frame.epoch, frame.seq, frame.timestamp_s) == ("kinect", "a1", 4, 12.5)
    assert (frame.layout, frame.axes, frame.mirrored, frame.fps, frame.clock) == ("kinect25", "LUF", False, 0.0, "")
    assert frame.t_send_s == 12.5
    assert frame.bodies[0].joints_m.shape == (25, 3)


def test_the_largest_frame_that_is_allowed_fits() -> None:
    joints_m, confidence = np.zeros((33, 3), np.float32), np.zeros(33, np.uint8)
    bodies = tuple(Body(id=2**63 + i, joints_m=joints_m, confidence=confidence) for i in range(wire.MAX_BODIES))
    name = "名" * wire.MAX_NAME
    frame = SkeletonFrame(
        source=name,
        epoch=name,
        clock=name,
        seq=2**64 - 1,
        timestamp_s=0.0,
        t_send_s=0.0,
        layout="mediapipe33",
        axes="RDF",
        bodies=bodies,
    )
    payload = wire.encode_frame(frame)[1]
    assert len(payload) < wire.MAX_FRAME_BYTES / 2
    assert_same(wire.decode_frame(payload), frame)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_axes_are_the_layouts_own_unless_named(layout: str) -> None:
    assert decoded(layout=layout, bodies=[]).axes == LAYOUTS[layout].axes
    assert decoded(layout=layout, bodies=[], axes="FLU").axes == "FLU"


def test_unknown_keys_are_ignored() -> None:
    frame = decoded(color={"r": [1]}, bodies=body(orientation=[0] * 100))
    assert_same(frame, decoded())


def test_positions_may_be_nested_lists() -> None:
    joints = np.random.default_rng(0).normal(size=(25, 3)).tolist()
    joints[2], joints[3], joints[4] = [1, 2, -3], [None, None, None], [float("nan"), 0, 0]
    read = decoded(bodies=body(pos=joints)).bodies[0]
    assert read.joints_m.dtype == np.float32
    assert read.joints_m[2].tolist() == [1, 2, -3]
    assert np.isnan(read.joints_m[3:5]).any(axis=1).all()
    others = [i for i in range(25) if i not in (2, 3, 4)]
    np.testing.assert_array_equal(read.joints_m[others], np.array([joints[i] for i in others], np.float32))
    assert np.flatnonzero(read.confidence == NO_CONFIDENCE).tolist() == [3, 4]


def test_confidence_may_be_bytes_or_shares_or_absent() -> None:
    levels = np.arange(25, dtype=np.uint8) % 4
    assert decoded(bodies=body(conf=levels.tobytes())).bodies[0].confidence.tolist() == levels.tolist()
    beyond = decoded(bodies=body(conf=bytes([0, 1, 2, 3, 4, 255] + [0] * 19))).bodies[0].confidence
    assert beyond[:6].tolist() == [0, 1, 2, 3, HIGH, HIGH]
    shares = [0, -1, 0.01, 0.33, 0.34, 0.66, 0.67, 1, 1.05, float("nan")] + [0.5] * 15
    assert decoded(bodies=body(conf=shares)).bodies[0].confidence.tolist() == [
        NO_CONFIDENCE, NO_CONFIDENCE, LOW, LOW, MEDIUM, MEDIUM, HIGH, HIGH, HIGH, NO_CONFIDENCE,
        *[MEDIUM] * 15,
    ]  # fmt: skip
    joints_m = np.ones((25, 3), "<f4")
    joints_m[5, 1] = np.nan
    absent = decoded(bodies=body(pos=joints_m.tobytes())).bodies[0].confidence
    assert absent.tolist() == [HIGH] * 5 + [NO_CONFIDENCE] + [HIGH] * 19


def test_whole_numbers_are_taken_where_seconds_are_expected() -> None:
    frame = decoded(timestamp=7, t_send=8, fps=30)
    assert (frame.timestamp_s, frame.t_send_s, frame.fps) == (7.0, 8.0, 30.0)


@pytest.mark.parametrize("fps", [float("nan"), float("inf"), -30.0])
def test_a_rate_that_is_none_is_unknown(fps: float) -> None:
    assert decoded(fps=fps).fps == 0.0


# Frames that are refused

_REFUSALS: list[tuple[str, dict[str, Any]]] = [
    ("unsupported_version", {"v": 2}),
    ("unsupported_version", {"v": 0}),
    ("unsupported_version", {"v": 2, "source": 5, "bodies": "none", "seq": None}),
    ("unsupported_version", {"v": 2**64 - 1, "timestamp": {}}),
    ("unknown_layout", {"layout": "kinect26"}),
    ("unknown_layout", {"layout": ""}),
    ("unknown_layout", {"layout": "x" * 100_000}),
    ("unknown_axes", {"axes": "XYZ"}),
    ("unknown_axes", {"axes": ""}),
    ("unknown_axes", {"axes": "LUB" * 30_000}),
    ("bad_shape", {"bodies": body(pos=b"")}),
    ("bad_shape", {"bodies": body(pos=bytes(299))}),
    ("bad_shape", {"bodies": body(pos=bytes(20 * 12))}),
    ("bad_shape", {"layout": "k4a32"}),
    ("bad_shape", {"bodies": body(pos=[])}),
    ("bad_shape", {"bodies": body(pos=[[0.0, 0.0, 0.0]] * 24)}),
    ("bad_shape", {"bodies": body(pos=[[0.0, 0.0, 0.0]] * 24 + [[0.0, 0.0]])}),
    ("bad_shape", {"bodies": body(conf=bytes(24))}),
    ("bad_shape", {"bodies": body(conf=[])}),
    ("bad_confidence", {"bodies": body(conf=[99.0] * 25)}),
    ("bad_confidence", {"bodies": body(conf=[0.9] * 24 + [2])}),
    ("bad_confidence", {"bodies": body(conf=[float("inf")] * 25)}),
    ("bad_timestamp", {"timestamp": float("nan")}),
    ("bad_timestamp", {"timestamp": float("-inf")}),
    ("bad_timestamp", {"t_send": float("inf")}),
    ("bad_timestamp", {"timestamp": 1_700_000_000_000}),
    ("bad_timestamp", {"timestamp": 2.0**70}),
    ("not_metres", {"units": "mm"}),
    ("not_metres", {"units": "x" * 100_000}),
    ("not_metres", {"bodies": body(pos=np.full((25, 3), 900, "<f4").tobytes())}),
    ("not_metres", {"bodies": body(pos=np.full((25, 3), 1e30, "<f4").tobytes())}),
    ("not_metres", {"bodies": body(pos=np.full((25, 3), np.inf, "<f4").tobytes())}),
    ("not_metres", {"bodies": body(pos=[[0, 0, 1e300]] * 25)}),
    ("not_metres", {"bodies": body(pos=[[0, 0, 2**64 - 1]] * 25)}),
    ("not_metres", {"bodies": body(pos=[[0, None, float("-inf")]] * 25)}),
    ("too_large", {"junk": bytes(wire.MAX_FRAME_BYTES)}),
    ("too_many_bodies", {"bodies": [{"id": i, "pos": bytes(300)} for i in range(65)]}),
    ("repeated_body_id", {"bodies": 2 * body()}),
    ("bad_name", {"source": ""}),
    ("bad_name", {"source": "x" * 101}),
    ("bad_name", {"source": "a\nb"}),
    ("bad_name", {"epoch": ""}),
    ("bad_name", {"epoch": "\x1b[2J"}),
    ("bad_message", {"seq": -1}),
    ("bad_message", {"seq": 2.0**70}),
    ("bad_message", {"seq": None}),
    ("bad_message", {"v": None}),
    ("bad_message", {"v": "1"}),
    ("bad_message", {"timestamp": "now"}),
    ("bad_message", {"mirrored": 1}),
    ("bad_message", {"bodies": {}}),
    ("bad_message", {"bodies": [5]}),
    ("bad_message", {"bodies": body(id=1.5)}),
    ("bad_message", {"bodies": body(id=2.0**70)}),
    ("bad_message", {"bodies": body(pos="x" * 300)}),
    ("bad_message", {"bodies": body(pos=[["0", "0", "0"]] * 25)}),
    ("bad_message", {"bodies": body(pos=[0.0] * 75)}),
]


@pytest.mark.parametrize(("code", "changes"), _REFUSALS)
def test_a_frame_that_cannot_be_used_is_refused_with_its_own_code(code: str, changes: dict[str, Any]) -> None:
    error = refused(msgpack.packb(message(**changes)))
    assert error.code == code
    # It is logged: what a stranger sent does not fill the log.
    assert len(error.message) < 400


def test_a_message_that_is_no_map_is_refused() -> None:
    for payload in (b"", b"\xc1", b"\xc0", b"\x93\x01\x02\x03", b"{}", b"hello", b"\xdf\xff\xff\xff\xff", b"\x81"):
        assert refused(payload).code == "bad_message"


def test_deeply_nested_messages_are_refused() -> None:
    head = msgpack.packb(message())
    assert head[0] & 0xF0 == 0x80
    grown = bytes([head[0] + 1])
    unknown_key = grown + head[1:] + b"\xa1x" + _NESTED
    position = head.replace(msgpack.packb(message()["bodies"][0]["pos"]), _NESTED)
    for payload in (_NESTED, b"\x81\xa1x" + _NESTED, b"\x81\xa1v" + _NESTED, unknown_key, position):
        assert refused(payload).code == "bad_message"
    for decode in (wire.decode_map, wire.decode_request, wire.decode_event):
        for payload in (_NESTED, b"\x81\xa1x" + _NESTED, b"\x81\xa4args" + _NESTED):
            with pytest.raises(WireError):
                decode(payload)


def test_damaged_messages_raise_nothing_but_a_refusal() -> None:
    rng = np.random.default_rng(0)
    good = [wire.encode_frame(random_frame(rng, layout))[1] for layout in LAYOUTS]
    good += [
        msgpack.packb(message(bodies=body(pos=[[0.1, 2, None]] * 25, conf=[0.5] * 25))),
        wire.encode_event(event())[1],
        wire.encode_map({"v": 1, "id": "a", "cmd": "time", "args": {"t0": 1.0, "names": ["a"], "map": {"b": None}}}),
    ]
    decoders = (wire.decode_frame, wire.decode_event, wire.decode_map, wire.decode_request)
    num_refused = 0
    for round_ in range(4000):
        payload = bytearray(good[round_ % len(good)])
        if round_ % 3 == 0:
            payload = payload[: rng.integers(len(payload))]
        elif round_ % 3 == 1:
            for _ in range(rng.integers(1, 6)):
                payload[rng.integers(len(payload))] = rng.integers(256)
        else:
            payload = bytearray(rng.bytes(int(rng.integers(1, 60))))
        for decode in decoders:
            try:
                decode(bytes(payload))
            except WireError:
                num_refused += 1
    assert 4000 < num_refused < 16000


def test_a_frame_that_passes_has_joints_that_arithmetic_can_bear() -> None:
    rng = np.random.default_rng(3)
    num_taken = 0
    for _ in range(2000):
        bits = rng.integers(0, 1 << 32, size=75, dtype=np.uint32)
        is_small = rng.random(75) < 0.995
        joints_m = np.where(is_small, np.float32(0.5), bits.view(np.float32))
        try:
            read = decoded(bodies=body(pos=joints_m.astype("<f4").tobytes())).bodies[0]
        except WireError:
            continue
        num_taken += 1
        assert np.fmax.reduce(np.abs(read.joints_m), axis=None) <= wire.MAX_COORDINATE_M
    assert 0 < num_taken < 2000


# Events, status, requests


@pytest.mark.parametrize("changes", [{}, {"runner_up": None}, {"type": "end", "score": 1}])
def test_an_event_comes_back_as_it_was_sent(changes: dict[str, Any]) -> None:
    sent = event(**changes)
    topic, payload = wire.encode_event(sent)
    assert topic == b"event.kinect.18446744073709551615"
    assert wire.decode_event(payload) == sent


def test_an_event_says_on_both_scales_what_it_had_to_reach() -> None:
    told = msgpack.unpackb(wire.encode_event(event(threshold_distance=0.45))[1])
    assert (told["score"], told["threshold"]) == (0.9, 0.5)
    assert (told["distance"], told["threshold_distance"]) == (0.1, 0.45)


def test_an_event_of_a_daemon_that_tells_no_threshold_distance_is_read() -> None:
    told = msgpack.unpackb(wire.encode_event(event(threshold_distance=0.45))[1])
    del told["threshold_distance"]
    assert wire.decode_event(msgpack.packb(told)) == event(threshold_distance=None)


def test_the_messagepack_package_reads_events_and_status() -> None:
    sent = event()
    assert msgpack.unpackb(wire.encode_event(sent)[1]) == dataclasses.asdict(sent)
    status = {"v": 1, "sources": {"kinect": {"fps": 29.9, "slow": False}}, "recording": None, "labels": ["a", "ß"]}
    assert msgpack.unpackb(wire.encode_map(status)) == status
    assert wire.decode_map(msgpack.packb(status)) == status


def test_a_request_needs_no_version_and_no_arguments() -> None:
    request = wire.decode_request(msgpack.packb({"id": "1", "cmd": "ping"}))
    assert (request.id, request.cmd, request.v, request.args) == ("1", "ping", 1, {})
    request = wire.decode_request(msgpack.packb({"v": 1, "id": "2", "cmd": "time", "args": {"t0": 3}, "extra": 0}))
    assert request.args == {"t0": 3}


@pytest.mark.parametrize(
    ("code", "request_"),
    [
        ("unsupported_version", {"v": 2, "id": 1, "command": "ping"}),
        ("unsupported_version", {"v": 3, "id": "1", "cmd": "ping"}),
        ("bad_message", {"id": "1"}),
        ("bad_message", {"id": 1, "cmd": "ping"}),
        ("bad_message", {"id": "1", "cmd": "ping", "args": [1]}),
        ("bad_message", [1]),
        ("bad_message", {"id": "1", "cmd": "ping", "args": {5: 1}}),
    ],
)
def test_a_request_that_cannot_be_read_is_refused(code: str, request_: Any) -> None:
    with pytest.raises(WireError) as refusal:
        wire.decode_request(msgpack.packb(request_))
    assert refusal.value.code == code


def test_a_map_is_expected_where_a_map_is_due() -> None:
    for payload in (b"\x90", b"\x01", b"\xa1x"):
        with pytest.raises(WireError, match="expected a map"):
            wire.decode_map(payload)
