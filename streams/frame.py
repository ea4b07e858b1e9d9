"""One skeleton frame: what a sensor saw at one moment, and the bodies in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from streams.layouts import KINECT25_MIRROR, LAYOUTS, Layout, layout_by_name, to_kinect25

NO_CONFIDENCE, LOW, MEDIUM, HIGH = 0, 1, 2, 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Body:
    """Hold one tracked person.

    `joints_m`: shape (J, 3), float32, meters, in the frame's axes, NaN where missing.
    `confidence`: shape (J,), uint8, 0 none, 1 low (predicted), 2 medium, 3 high.
    """

    id: int
    joints_m: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.uint8]


def body_as_seen(id: int, joints_m: npt.NDArray[np.float32]) -> Body:
    """Return a body of joints (J, 3) in meters: high confidence in those that are there, none in those that are NaN."""
    is_seen = np.isfinite(joints_m).all(axis=-1)
    return Body(id=id, joints_m=joints_m, confidence=np.where(is_seen, np.uint8(HIGH), np.uint8(NO_CONFIDENCE)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SkeletonFrame:
    """Hold what one source sent for one exposure; no bodies means: sensor alive, nobody there.

    `timestamp_s`: the publisher's monotonic clock at exposure; `t_send_s`: the same clock when it
    was sent. `epoch` is new at each start of the publisher, `clock` names the clock (host:boot).
    """

    source: str
    epoch: str
    seq: int
    timestamp_s: float
    t_send_s: float
    clock: str = ""
    layout: str = "kinect25"
    axes: str = "LUF"
    mirrored: bool = False
    fps: float = 0.0
    bodies: tuple[Body, ...] = ()

    def to_kinect25(self) -> SkeletonFrame:
        """Return the same frame in kinect25 joints and axes, the form that the device works on: missing joints are NaN.

        A native joint of no confidence counts as missing. A joint's confidence becomes the lowest
        among the native joints it is made of, as far as they are there. Raises LayoutError for an
        unknown layout or unknown axes.
        """
        native = layout_by_name(self.layout)
        if native is LAYOUTS["kinect25"] and self.axes == native.axes and not self.mirrored:
            if not any(map(_has_hidden_joints, self.bodies)):
                return self
            return replace(self, bodies=tuple(map(_without_hidden_joints, self.bodies)))
        bodies = tuple(_body_to_kinect25(body, native, self.axes, self.mirrored) for body in self.bodies)
        return replace(self, layout="kinect25", axes="LUF", mirrored=False, bodies=bodies)


def _body_to_kinect25(body: Body, native: Layout, axes: str, mirrored: bool) -> Body:
    present = np.isfinite(body.joints_m).all(axis=1) & (body.confidence > NO_CONFIDENCE)
    joints_m = np.where(present[:, None], body.joints_m, np.float32(np.nan))
    used = (native.kinect25_weights > 0) & present
    lowest = np.where(used, body.confidence, np.uint8(HIGH)).min(axis=1)
    confidence = np.where(used.any(axis=1), lowest, np.uint8(NO_CONFIDENCE))
    return Body(
        id=body.id,
        joints_m=to_kinect25(joints_m, native, axes=axes, mirrored=mirrored),
        confidence=confidence[KINECT25_MIRROR] if mirrored else confidence,
    )


def _has_hidden_joints(body: Body) -> bool:
    """Return whether a joint has a place but no confidence: most sensors guess where a hidden one is."""
    return not body.confidence.all() and bool((np.isfinite(body.joints_m[body.confidence == NO_CONFIDENCE])).any())


def _without_hidden_joints(body: Body) -> Body:
    is_hidden_J1 = (body.confidence == NO_CONFIDENCE)[:, None]
    return replace(body, joints_m=np.where(is_hidden_J1, np.float32(np.nan), body.joints_m))
