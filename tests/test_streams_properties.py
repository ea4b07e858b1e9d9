"""What holds of every frame on the wire, and of every other bytes.

Shapes: J joints of a native layout.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from typing import Any

import msgpack
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streams import wire
from streams.arrays import Array
from streams.errors import WireError
from streams.frame import HIGH, NO_CONFIDENCE, Body, SkeletonFrame
from streams.layouts import LAYOUTS

_AXES = [
    "".join(axes)
    for letters in itertools.product("LR", "UD", "FB")
    for axes in itertools.permutations(letters)
]  # fmt: skip
_NAMES = st.text(min_size=1, max_size=wire.MAX_NAME).filter(str.isprintable)
_TIMES = st.floats(-wire.MAX_TIMESTAMP_S, wire.MAX_TIMESTAMP_S)


def _joints_m(num_joints: int) -> st.SearchStrategy[Array]:
    far = wire.MAX_COORDINATE_M
    return arrays(np.float32, (num_joints, 3), elements=st.floats(-far, far, width=32) | st.just(float("nan")))


@st.composite
def frames(draw: st.DrawFn) -> SkeletonFrame:
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    num_joints = LAYOUTS[layout].num_joints
    bodies = [
        Body(
            id=id,
            joints_m=draw(_joints_m(num_joints)),
            confidence=draw(arrays(np.uint8, num_joints, elements=st.integers(NO_CONFIDENCE, HIGH))),
        )
        for id in draw(st.sets(st.integers(-(2**63), 2**63 - 1), max_size=3))
    ]
    return SkeletonFrame(
        source=draw(_NAMES),
        epoch=draw(_NAMES),
        seq=draw(st.integers(0, 2**63 - 1)),
        timestamp_s=draw(_TIMES),
        t_send_s=draw(_TIMES),
        clock=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=wire.MAX_NAME)),
        layout=layout,
        axes=draw(st.sampled_from(_AXES)),
        mirrored=draw(st.booleans()),
        fps=draw(st.just(0.0) | st.floats(0, exclude_min=True, allow_infinity=False)),
        bodies=tuple(bodies),
    )


@given(frames())
def test_every_frame_comes_back_as_it_was_sent(frame: SkeletonFrame) -> None:
    topic, payload = wire.encode_frame(frame)
    assert topic.decode() == f"{wire.FRAME_TOPIC}{frame.source}"
    back = wire.decode_frame(payload)
    for field in dataclasses.fields(SkeletonFrame):
        if field.name != "bodies":
            assert getattr(back, field.name) == getattr(frame, field.name), field.name
    assert [body.id for body in back.bodies] == [body.id for body in frame.bodies]
    for one, other in zip(frame.bodies, back.bodies, strict=True):
        np.testing.assert_array_equal(other.joints_m, one.joints_m, strict=True)
        np.testing.assert_array_equal(other.confidence, one.confidence, strict=True)


def _takes_or_refuses(payload: bytes) -> None:
    for decode in (wire.decode_frame, wire.decode_event, wire.decode_request, wire.decode_map):
        with contextlib.suppress(WireError):
            decode(payload)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_taken_or_refused(payload: bytes) -> None:
    _takes_or_refuses(payload)


@given(frames(), st.data())
def test_a_frame_that_is_damaged_on_its_way_is_taken_or_refused(frame: SkeletonFrame, data: st.DataObject) -> None:
    payload = bytearray(wire.encode_frame(frame)[1])
    for _ in range(data.draw(st.integers(1, 4), label="flips")):
        payload[data.draw(st.integers(0, len(payload) - 1), label="at")] = data.draw(st.integers(0, 255), label="byte")
    _takes_or_refuses(bytes(payload[: data.draw(st.integers(0, len(payload)), label="length")]))
    _takes_or_refuses(bytes(payload))


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=30)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=120),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "pos", "conf"]), inner),
    max_leaves=10,
)  # fmt: skip


@given(frames(), st.data())
def test_a_frame_with_any_value_in_a_field_is_taken_or_refused(frame: SkeletonFrame, data: st.DataObject) -> None:
    message: dict[str, Any] = msgpack.unpackb(wire.encode_frame(frame)[1])
    changed: Any = message
    if data.draw(st.booleans(), label="in a body"):
        assume(message["bodies"])
        changed = message["bodies"][0]
    changed[data.draw(st.sampled_from(sorted(changed)), label="field")] = data.draw(_ANYTHING, label="value")
    _takes_or_refuses(msgpack.packb(message))


@given(frames(), st.data())
def test_a_joint_that_nobody_saw_is_missing_in_kinect25(frame: SkeletonFrame, data: st.DataObject) -> None:
    hidden = [body for body in frame.bodies if data.draw(st.booleans(), label="hidden")]
    bodies = [
        dataclasses.replace(body, confidence=np.zeros_like(body.confidence)) if body in hidden else body
        for body in frame.bodies
    ]
    converted = dataclasses.replace(frame, bodies=tuple(bodies)).to_kinect25()
    assert (converted.layout, converted.axes, converted.mirrored) == ("kinect25", "LUF", False)
    for native, body in zip(frame.bodies, converted.bodies, strict=True):
        assert body.joints_m.shape == (25, 3)
        assert body.confidence.shape == (25,)
        if native in hidden:
            assert not np.isfinite(body.joints_m).any()
