"""What was seen a moment ago, body by body: sent only to whoever subscribes to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.frame import SkeletonFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class SkeletonBody:
    """Hold one body. `joints`: 25 of kinect25, each [x, y, z] in meters, axes LUF, or None where it was not seen."""

    id: int
    joints: list[list[float] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Skeleton:
    """Hold the bodies of one frame, as the daemon works on them. `timestamp`: seconds of the publisher's clock."""

    v: int = 1
    source: str
    timestamp: float
    clock: str
    bodies: list[SkeletonBody]


def skeleton_of(frame: SkeletonFrame) -> Skeleton:
    """Return what is told of a frame in kinect25, as SkeletonFrame.to_kinect25 gives it."""
    return Skeleton(
        source=frame.source,
        timestamp=frame.timestamp_s,
        clock=frame.clock,
        bodies=[
            SkeletonBody(
                id=body.id,
                joints=[joint if math.isfinite(sum(joint)) else None for joint in body.joints_m.tolist()],
            )
            for body in frame.bodies
        ],
    )
