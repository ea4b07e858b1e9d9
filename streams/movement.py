"""One body over time: what a clip, an example, a prototype and ordinary movement all are made of.

Shapes: L frames, V = 25 kinect25 joints, C = 3 in "LUF".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from streams.arrays import Array, Times
from streams.frame import SkeletonFrame, body_as_seen


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Movement:
    """Hold the joints of one body over time.

    `timestamps_s`: shape (L,), float64, seconds, rising. `joints_m`: shape (L, 25, 3), float32, meters, "LUF",
    NaN where missing and in no other way.
    """

    timestamps_s: Times
    joints_m: Array

    def __len__(self) -> int:
        return len(self.timestamps_s)

    @property
    def duration_s(self) -> float:
        """The time from the first frame to the last."""
        return float(self.timestamps_s[-1] - self.timestamps_s[0]) if len(self) else 0.0

    @property
    def fps(self) -> float:
        """The mean rate of the frames; 0 where there are fewer than two."""
        return (len(self) - 1) / self.duration_s if len(self) > 1 else 0.0

    @property
    def joints_seen(self) -> float:
        """The share of the joints that were seen, 0 to 1, over all frames."""
        return float(np.isfinite(self.joints_m[:, :, 0]).mean()) if len(self) else 0.0

    @property
    def is_seen(self) -> bool:
        """Whether any joint was ever seen."""
        return bool(np.isfinite(self.joints_m).all(axis=2).any())

    def part(self, frames: slice) -> Movement:
        """Return some of the frames, as views; the timestamps stay."""
        return Movement(timestamps_s=self.timestamps_s[frames], joints_m=self.joints_m[frames])

    def from_zero(self) -> Movement:
        """Return the same movement with timestamps that begin at 0."""
        return Movement(timestamps_s=self.timestamps_s - self.timestamps_s[:1], joints_m=self.joints_m)


def frames_of(
    persons: Sequence[Movement], *, source: str, epoch: str = "", body: int = 0, fps: float = 0.0
) -> Iterator[SkeletonFrame]:
    """Yield movements that share their timestamps as frames of one source, as bodies `body`, `body` + 1, ..."""
    for i, timestamp_s in enumerate(persons[0].timestamps_s.tolist()):
        yield SkeletonFrame(
            source=source,
            epoch=epoch,
            seq=i,
            timestamp_s=timestamp_s,
            t_send_s=timestamp_s,
            fps=fps,
            bodies=tuple(body_as_seen(body + n, movement.joints_m[i]) for n, movement in enumerate(persons)),
        )
