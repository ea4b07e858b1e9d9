"""What one look at a body found: the windows that were compared, the distance to each label, the best match.

Shapes: W windows, P prototypes, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from streams.arrays import Array
from streams.event import Event, Latency, RunnerUp
from streams.frame import SkeletonFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Name a stretch of a body's movement that ends with the newest frame.

    `start_s`: of its first frame; `length_s`: as the configuration asks for it; `joints`: the share of them seen.
    """

    start_s: float
    length_s: float
    joints: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Hold the best label of one decision, and where in the stream it was seen.

    `threshold_distance`: the distance at which this label's score is `events.min_score`.
    """

    label: str
    distance: float
    threshold_distance: float
    score: float
    runner_up: RunnerUp | None
    t_start_s: float
    joints: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """Hold what was found about one body at the moment of `frame`, the newest of its source, in kinect25.

    `windows`: those that were compared; none where the body is still, fits no prototype, or the engine failed.
    `distances_K`: to each of `labels`, float32, infinite where nothing was compared. `windows_K`: the number of the
    window in which that distance was found, 0 where it is infinite. `match`: None without windows.
    Keep none of many decisions: their small arrays fragment memory (edge.thresholds.replay).
    """

    frame: SkeletonFrame
    body: int
    windows: tuple[Window, ...]
    labels: Sequence[str]
    distances_K: Array
    windows_K: npt.NDArray[np.intp]
    match: Match | None
    latency: Latency

    @property
    def source(self) -> str:
        """The name of the source that the frame came from."""
        return self.frame.source

    @property
    def time_s(self) -> float:
        """The frame's timestamp, seconds of the publisher's clock."""
        return self.frame.timestamp_s


# A struct, as one is made of each frame: a dataclass takes a microsecond longer, of sixteen in all.
class Turn(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Hold what became of the frames that were fed at once.

    `native`: those that were accepted, as they came; `frames`: the same in kinect25. `events`: in the order in
    which they are to be told.
    """

    native: Sequence[SkeletonFrame]
    frames: Sequence[SkeletonFrame]
    decisions: Sequence[Decision]
    events: Sequence[Event]
