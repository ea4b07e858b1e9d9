"""Movement in a file, as the requests `enroll.clip` and `enroll.negative` carry it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge.config import Config
from edge.enroll.capture import one_body
from edge.enroll.negatives import cut_pieces, validate_pieces
from edge.protocol import EnrollClip, EnrollNegative, EnrollStart, Piece
from streams.frame import SkeletonFrame
from streams.movement import Movement
from streams.playback import is_archive, read_clip, read_frames


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
    )


def negative_request(spec: str, start: EnrollStart, config: Config) -> EnrollNegative:
    """Return the request that stores everybody's movement in a file; otherwise as `clip_request`."""
    pieces = validate_pieces(cut_pieces(_frames(spec), config, source=start.source, body=start.body), config)
    return EnrollNegative(pieces=[_piece(piece) for piece in pieces], origin=_origin(spec))


def _frames(spec: str) -> Iterator[SkeletonFrame]:
    return read_clip(spec).frames() if is_archive(spec) else read_frames(spec)


def _origin(spec: str) -> str:
    return f"file:{Path(spec).name}"


def _piece(movement: Movement) -> Piece:
    return Piece(
        timestamps_s=np.asarray(movement.timestamps_s, "<f8").tobytes(),
        joints_m=np.asarray(movement.joints_m, "<f4").tobytes(),
    )
