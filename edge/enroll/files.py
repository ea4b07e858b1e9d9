"""Movement in a file, as the requests `enroll.clip` and `enroll.negative` carry it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge.config import Config
from edge.enroll.capture import one_body
from edge.enroll.negatives import cut_pieces, validate_pieces
from streams.frame import SkeletonFrame
from streams.movement import Movement
from streams.playback import is_archive, read_clip, read_frames


def clip_request(spec: str, *, source: str | None, body: int | None) -> dict[str, Any]:
    """Return the movement of one body, and its origin, as ClipArgs has them.

    `spec`: RECORDING.mcap or ARCHIVE.npz:CLIP. Raises ArchiveError, EnrollError, RecordingError.
    """
    return {**_bytes(one_body(_frames(spec), source=source, body=body)), "origin": _origin(spec)}


def negative_request(spec: str, config: Config, *, source: str | None, body: int | None) -> dict[str, Any]:
    """Return everybody's movement, and its origin, as NegativeArgs; otherwise as `clip_request`."""
    pieces = validate_pieces(cut_pieces(_frames(spec), config, source=source, body=body), config)
    return {"pieces": [_bytes(piece) for piece in pieces], "origin": _origin(spec)}


def _frames(spec: str) -> Iterator[SkeletonFrame]:
    return read_clip(spec).frames() if is_archive(spec) else read_frames(spec)


def _origin(spec: str) -> str:
    return f"file:{Path(spec).name}"


def _bytes(movement: Movement) -> dict[str, bytes]:
    return {
        "timestamps_s": np.asarray(movement.timestamps_s, "<f8").tobytes(),
        "joints_m": np.asarray(movement.joints_m, "<f4").tobytes(),
    }
