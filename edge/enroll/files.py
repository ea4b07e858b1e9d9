"""Movement in a file, and as requests and answers carry it.

Shapes: L frames, V = 25 kinect25 joints.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge.config import Config
from edge.enroll.capture import one_body
from edge.enroll.negatives import cut_pieces, validate_pieces
from edge.protocol import EnrollClip, EnrollNegative, EnrollStart, Piece, PlayedMovement
from streams.errors import EnrollError
from streams.frame import SkeletonFrame
from streams.movement import Movement
from streams.playback import is_archive, read_clip, read_frames
from streams.wire import MAX_COORDINATE_M


def clip_request(spec: str, start: EnrollStart, *, trim: bool) -> EnrollClip:
    """Return the request that enrolls from a file what `start` enrolls live: one body's movement.

    `spec`: RECORDING.mcap or ARCHIVE.npz:CLIP. Raises ArchiveError, EnrollError, RecordingError.
    """
    piece = _piece(one_body(_frames(spec), source=start.source, body=start.body))
    return EnrollClip(
        label=start.label or "",
        timestamps_s=piece.timestamps_s,
        joints_m=piece.joints_m,
        origin=_origin(spec),
        mode=start.mode,
        trim=trim,
        side=start.side,
        force=start.force,
        words=start.words,
        description=start.description,
    )


def negative_request(spec: str, start: EnrollStart, config: Config) -> EnrollNegative:
    """Return the request that stores everybody's movement in a file; otherwise as `clip_request`."""
    pieces = validate_pieces(cut_pieces(_frames(spec), config, source=start.source, body=start.body), config)
    return EnrollNegative(pieces=[_piece(piece) for piece in pieces], origin=_origin(spec))


def movement_from_bytes(timestamps: bytes, joints: bytes) -> Movement:
    """Return the movement that a request carries. Raises EnrollError."""
    num_frames = len(timestamps) // 8
    if len(timestamps) % 8 or len(joints) != num_frames * 25 * 3 * 4:
        raise EnrollError(
            f"{len(timestamps)} bytes of timestamps and {len(joints)} of joints: expected 8 and 300 bytes a frame",
            code="bad_shape",
        )
    timestamps_s = np.frombuffer(timestamps, "<f8")
    joints_LV3 = np.frombuffer(joints, "<f4").reshape(num_frames, 25, 3)
    if (np.abs(joints_LV3) > MAX_COORDINATE_M).any():
        raise EnrollError(
            f"a joint is {float(np.nanmax(np.abs(joints_LV3))):.0f} m away: expected at most {MAX_COORDINATE_M:.0f}",
            code="not_metres",
            hint="Give meters (millimeters / 1000), NaN for a missing joint.",
        )
    if not (np.isfinite(timestamps_s).all() and (np.diff(timestamps_s) > 0).all()):
        raise EnrollError("the timestamps do not rise: expected finite, rising seconds", code="bad_timestamp")
    return Movement(timestamps_s=timestamps_s, joints_m=joints_LV3)


def movement_to_bytes(movement: Movement, start_s: float = 0.0, end_s: float | None = None) -> PlayedMovement:
    """Return a movement as an answer carries it, to be shown; of it counts `start_s` to `end_s`, None: to its end."""
    piece = _piece(movement.from_zero())
    end_s = movement.duration_s if end_s is None else end_s
    return PlayedMovement(timestamps_s=piece.timestamps_s, joints_m=piece.joints_m, start_s=start_s, end_s=end_s)


def _frames(spec: str) -> Iterator[SkeletonFrame]:
    return read_clip(spec).frames() if is_archive(spec) else read_frames(spec)


def _origin(spec: str) -> str:
    return f"file:{Path(spec).name}"


def _piece(movement: Movement) -> Piece:
    return Piece(
        timestamps_s=np.asarray(movement.timestamps_s, "<f8").tobytes(),
        joints_m=np.asarray(movement.joints_m, "<f4").tobytes(),
    )
