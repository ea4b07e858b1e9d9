"""Ordinary movement, in which no action is shown: captured from the live stream, or cut from a recording.

Shapes: L frames of a piece, V = 25 kinect25 joints, C = 3, meters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from edge.config import Config
from edge.enroll.capture import NOBODY_S, State, check_rate_and_joints, nobody_seen
from edge.gallery import Gallery
from edge.protocol import MAX_NEGATIVES_S, StoredNegatives
from streams.arrays import Array
from streams.errors import CrossGLGError, EnrollError
from streams.frame import SkeletonFrame
from streams.movement import Movement


class NegativeCapture:
    """Capture everybody's movement from the live stream for a time, told the frames and this machine's clock.

    States: countdown -> capture -> captured (`pieces` are there) or failed (`error` is there).
    """

    label = "ordinary movement"
    message = ""

    def __init__(
        self,
        config: Config,
        *,
        now_s: float,
        countdown_s: float,
        seconds: float,
        source: str | None = None,
        body: int | None = None,
    ) -> None:
        self.state: State = "countdown"
        self.pieces: list[Movement] = []
        self.error: CrossGLGError | None = None
        self.source = source
        self.body = body
        self._config = config
        self._seconds = seconds
        self._until_s = now_s + countdown_s
        self._frames: list[SkeletonFrame] = []

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come: the movement was captured, or why not is known."""
        return self.state in ("captured", "failed")

    @property
    def seen_source(self) -> str:
        """Name the sources that movement was captured from."""
        return ", ".join(sorted({frame.source for frame in self._frames}))

    def left_s(self, now_s: float) -> float:
        """Return the seconds left in the present state."""
        return max(0.0, self._until_s - now_s)

    def step(self, frames: Sequence[SkeletonFrame], now_s: float) -> None:
        """Take in the frames (kinect25) that came, and go on to the next state when it is time."""
        if self.state == "countdown" and now_s >= self._until_s:
            self.state, self._until_s = "capture", self._until_s + self._seconds
        if self.state != "capture":
            return
        self._frames += [
            frame
            for frame in frames
            if self.source in (None, frame.source) and any(self.body in (None, person.id) for person in frame.bodies)
        ]
        waited_s = self._seconds - (self._until_s - now_s)
        try:
            if not self._frames and waited_s >= NOBODY_S:
                raise nobody_seen(self.source, self.body)
            if now_s >= self._until_s:
                pieces = cut_pieces(self._frames, self._config, source=self.source, body=self.body)
                self.pieces = validate_pieces(pieces, self._config)
                self.state = "captured"
        except CrossGLGError as error:
            self.state, self.error = "failed", error


def cut_pieces(
    frames: Iterable[SkeletonFrame], config: Config, *, source: str | None = None, body: int | None = None
) -> list[Movement]:
    """Return each body's movement, cut where it was not seen for `stream.max_gap_s`, or its time ran backwards."""
    pieces: list[list[tuple[float, Array]]] = []
    current: dict[tuple[str, int], list[tuple[float, Array]]] = {}
    for native in frames:
        if source not in (None, native.source):
            continue
        frame = native.to_kinect25()
        for person in frame.bodies:
            if body not in (None, person.id):
                continue
            piece = current.get((frame.source, person.id), [])
            if not piece or not 0 < frame.timestamp_s - piece[-1][0] <= config.stream.max_gap_s:
                piece = current[frame.source, person.id] = []
                pieces.append(piece)
            piece.append((frame.timestamp_s, person.joints_m))
    return [_movement(piece) for piece in pieces]


def _movement(frames: Sequence[tuple[float, Array]]) -> Movement:
    timestamps_s, joints_m = zip(*frames, strict=True)
    return Movement(timestamps_s=np.array(timestamps_s), joints_m=np.array(joints_m)).from_zero()


def validate_pieces(pieces: Sequence[Movement], config: Config) -> list[Movement]:
    """Return the pieces that hold a window at least. Raises EnrollError: too_short, too_long, low_quality."""
    shortest_s = min(config.windows.lengths_s)
    kept = [piece for piece in pieces if len(piece) > 1 and piece.duration_s >= shortest_s]
    seconds = sum(piece.duration_s for piece in kept)
    if not kept or seconds > MAX_NEGATIVES_S:
        raise EnrollError(
            f"somebody was seen for {seconds:.1f} s in one go: expected {shortest_s:g} to {MAX_NEGATIVES_S:g} s",
            code="too_long" if kept else "too_short",
            hint="Move as on any day for a minute, in full view of the camera.",
        )
    report = pieces_report(kept)
    check_rate_and_joints(report["fps"], report["joints"], config)
    return kept


def pieces_report(pieces: Sequence[Movement]) -> dict[str, Any]:
    """Return what a person wants to know about movement that was captured."""
    seconds = sum(piece.duration_s for piece in pieces)
    return {
        "pieces": len(pieces),
        "duration_s": round(seconds, 3),
        "frames": sum(map(len, pieces)),
        "fps": round(sum(len(piece) - 1 for piece in pieces) / seconds, 1),
        "joints": round(float(np.concatenate([np.isfinite(piece.joints_m[:, :, 0]) for piece in pieces]).mean()), 3),
    }


def store_negatives(gallery: Gallery, pieces: Sequence[Movement], *, origin: str, created: str) -> StoredNegatives:
    """Store ordinary movement in one change; return what was stored. Raises GalleryError."""
    ids = gallery.add_negatives(pieces, origin=origin, created=created)
    return StoredNegatives(ids=tuple(ids), **pieces_report(pieces), gallery_revision=gallery.revision)
