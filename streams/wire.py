"""The wire format `cglg/1`: multipart [topic, MessagePack map]. Frames are here, all else is in streams.messages.

Shapes: J joints of the layout that the message names.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

from streams.errors import LayoutError, WireError
from streams.frame import HIGH, LOW, MEDIUM, NO_CONFIDENCE, Body, SkeletonFrame
from streams.layouts import Layout, axes_matrix, layout_by_name
from streams.messages import (
    WIRE_VERSION,
    Request,
    decode,
    decode_event,
    decode_map,
    decode_request,
    encode_event,
    encode_map,
)

__all__ = [
    "FRAME_TOPIC",
    "MAX_BODIES",
    "MAX_COORDINATE_M",
    "MAX_FRAME_BYTES",
    "MAX_NAME",
    "MAX_TIMESTAMP_S",
    "WIRE_VERSION",
    "BodyMessage",
    "FrameMessage",
    "Request",
    "decode_event",
    "decode_frame",
    "decode_map",
    "decode_request",
    "encode_event",
    "encode_frame",
    "encode_map",
    "validate_frame",
]

FRAME_TOPIC = "skeleton."
# 64 bodies of 33 joints are 28 kB; nothing honest comes near this.
MAX_FRAME_BYTES = 256 * 1024
MAX_BODIES = 64
MAX_NAME = 100
# A room is smaller; millimeters sent as meters are not.
MAX_COORDINATE_M = 100.0
# No clock of seconds gets here in 3000 years; one of milliseconds since 1970 is beyond it.
MAX_TIMESTAMP_S = 1e11
# A pose estimator's peaks may exceed 1 a little; levels and percents do by more.
_MAX_SHARE = 1.5
# MessagePack has no larger number; a recording, which is JSON, may.
_MAX_NUMBER = 2**64 - 1


class BodyMessage(msgspec.Struct):
    """Carry one body: `pos` as little-endian float32 (J, 3) or as lists, `conf` as bytes 0 to 3 or as shares 0 to 1."""

    id: int
    pos: bytes | list[list[float | None]]
    conf: bytes | list[float] | None = None


class FrameMessage(msgspec.Struct):
    """Carry a frame as it came: `validate_frame` tells whether it is one."""

    v: int
    source: str
    epoch: str
    seq: int
    timestamp: float
    layout: str
    bodies: list[BodyMessage]
    t_send: float | None = None
    clock: str = ""
    units: str = "m"
    axes: str | None = None
    mirrored: bool = False
    fps: float = 0.0


_frame_decoder = msgspec.msgpack.Decoder(FrameMessage)


def encode_frame(frame: SkeletonFrame) -> list[bytes]:
    """Return the two parts of a frame message; positions as little-endian float32."""
    bodies = [
        {"id": body.id, "pos": body.joints_m.astype("<f4").tobytes(), "conf": body.confidence.tobytes()}
        for body in frame.bodies
    ]
    message = {
        "v": WIRE_VERSION,
        "source": frame.source,
        "epoch": frame.epoch,
        "seq": frame.seq,
        "timestamp": frame.timestamp_s,
        "t_send": frame.t_send_s,
        "clock": frame.clock,
        "layout": frame.layout,
        "units": "m",
        "axes": frame.axes,
        "mirrored": frame.mirrored,
        "fps": frame.fps,
        "bodies": bodies,
    }
    return [f"{FRAME_TOPIC}{frame.source}".encode(), encode_map(message)]


def decode_frame(payload: bytes) -> SkeletonFrame:
    """Return the frame in a message's second part, every field checked.

    Raises WireError; its code is the reason under which the dropped frame is counted.
    """
    if len(payload) > MAX_FRAME_BYTES:
        raise WireError(
            f"a frame message of {len(payload)} bytes: expected at most {MAX_FRAME_BYTES}", code="too_large"
        )
    message: FrameMessage = decode(_frame_decoder, payload)
    return validate_frame(message)


def validate_frame(message: FrameMessage) -> SkeletonFrame:
    """Return the frame that a message carries, every field checked. Raises WireError as `decode_frame` does."""
    t_send = message.timestamp if message.t_send is None else message.t_send
    _validate_head(message, t_send)
    layout, axes = _layout_and_axes(message)
    return SkeletonFrame(
        source=_name(message.source, "source"),
        epoch=_name(message.epoch, "epoch"),
        seq=message.seq,
        timestamp_s=message.timestamp,
        t_send_s=t_send,
        clock=message.clock[:MAX_NAME],
        layout=layout.name,
        axes=axes,
        mirrored=message.mirrored,
        fps=message.fps if 0 < message.fps < math.inf else 0.0,
        bodies=tuple(_body(body, layout.num_joints) for body in message.bodies),
    )


def _validate_head(message: FrameMessage, t_send: float) -> None:
    if message.units != "m":
        raise WireError(f"units {message.units[:20]!r}: expected 'm'", code="not_metres", hint="Send meters.")
    if not (abs(message.timestamp) <= MAX_TIMESTAMP_S and abs(t_send) <= MAX_TIMESTAMP_S):
        raise WireError(
            f"timestamp {message.timestamp}, t_send {t_send}: expected seconds, at most {MAX_TIMESTAMP_S:g}",
            code="bad_timestamp",
            hint="Send seconds (nanoseconds / 1e9) of the clock that stamps your frames.",
        )
    if not 0 <= message.seq <= _MAX_NUMBER:
        raise WireError(f"seq {message.seq}: expected 0 or more (ints of 64 bits)", code="bad_message")
    if len(message.bodies) > MAX_BODIES:
        raise WireError(f"{len(message.bodies)} bodies: expected at most {MAX_BODIES}", code="too_many_bodies")
    if len({body.id for body in message.bodies}) < len(message.bodies):
        raise WireError("two bodies with the same id in one frame", code="repeated_body_id")
    if any(abs(body.id) > _MAX_NUMBER for body in message.bodies):
        raise WireError("a body id that is too large: expected ints of 64 bits", code="bad_message")


def _layout_and_axes(message: FrameMessage) -> tuple[Layout, str]:
    try:
        layout = layout_by_name(message.layout[:MAX_NAME])
        axes = layout.axes if message.axes is None else message.axes[:MAX_NAME]
        if axes != layout.axes:
            axes_matrix(axes)
    except LayoutError as error:
        raise WireError(error.message, code=error.code, hint=error.hint) from error
    return layout, axes


def _name(name: str, field: str) -> str:
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise WireError(f"{field} {name[:20]!r}: expected 1 to {MAX_NAME} printable characters", code="bad_name")
    return name


def _body(body: BodyMessage, num_joints: int) -> Body:
    if isinstance(body.pos, bytes):
        if len(body.pos) != num_joints * 12:
            raise WireError(
                f"body {body.id}: pos has {len(body.pos)} bytes, expected {num_joints * 12} "
                f"for {num_joints} joints of 3 float32",
                code="bad_shape",
                hint="Check that `layout` names the joints that you send.",
            )
        joints_m: npt.NDArray[np.floating] = np.frombuffer(body.pos, "<f4").reshape(num_joints, 3)
    else:
        if len(body.pos) != num_joints or any(len(joint) != 3 for joint in body.pos):
            raise WireError(
                f"body {body.id}: pos has {len(body.pos)} joints, expected {num_joints} of 3 numbers",
                code="bad_shape",
            )
        joints_m = np.array(body.pos, np.float64)
    # NaN compares false with everything, so a missing joint passes and an infinite one does not.
    too_far = np.abs(joints_m[np.abs(joints_m) > MAX_COORDINATE_M])
    if len(too_far):
        raise WireError(
            f"body {body.id}: a joint is {too_far.max():.0f} m away, expected at most {MAX_COORDINATE_M:.0f}",
            code="not_metres",
            hint="Send meters (millimeters / 1000), NaN for a missing joint.",
        )
    # One kind of NaN: numpy's own minima and maxima do not pass over a signaling one.
    joints_m = np.where(np.isnan(joints_m), np.float32(np.nan), joints_m).astype(np.float32, copy=False)
    return Body(id=body.id, joints_m=joints_m, confidence=_confidence(body, joints_m, num_joints))


def _confidence(body: BodyMessage, joints_m: npt.NDArray[np.float32], num_joints: int) -> npt.NDArray[np.uint8]:
    """Read 0..3 from bytes, or from floats 0..1 in thirds; without it a joint that is there is HIGH."""
    if body.conf is None:
        return np.where(np.isfinite(joints_m).all(axis=1), np.uint8(HIGH), np.uint8(NO_CONFIDENCE))
    if len(body.conf) != num_joints:
        raise WireError(f"body {body.id}: conf has {len(body.conf)} entries, expected {num_joints}", code="bad_shape")
    if isinstance(body.conf, bytes):
        return np.minimum(np.frombuffer(body.conf, np.uint8), HIGH)
    share = np.nan_to_num(np.array(body.conf, np.float64))
    if share.max() > _MAX_SHARE:
        raise WireError(
            f"body {body.id}: conf has {share.max():g}, expected numbers from 0 to 1",
            code="bad_confidence",
            hint="Divide percents by 100; send levels, 0 to 3, as bytes.",
        )
    levels = np.select([share <= 0, share < 1 / 3, share < 2 / 3], [NO_CONFIDENCE, LOW, MEDIUM], HIGH)
    return levels.astype(np.uint8)
