"""What moves in an example: which joints, how far, on which side; and the example as of the other side.

Shapes: L frames, V = 25 kinect25 joints, C = 3, meters.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from edge.motion.speed import from_hips, speeds_m_s
from edge.protocol import Side
from streams.arrays import Array, Times
from streams.layouts import KINECT25_JOINTS, mirrored_view
from streams.movement import Movement

# One joint for each part of the body; the others ride along with it.
_PARTS = ("Head", "SpineBase", "Shoulder", "Elbow", "Hand", "Knee", "Ankle")
_TOLD = [i for i, name in enumerate(KINECT25_JOINTS) if name.removesuffix("Left").removesuffix("Right") in _PARTS]
_LEFT, _RIGHT = ([i for i, name in enumerate(KINECT25_JOINTS) if name.endswith(side)] for side in ("Left", "Right"))
# A joint that goes less than this share of what the first does is not worth telling.
_MIN_SHARE = 0.3
# Sides whose paths differ by less of their sum moved alike: a jump, a bow, a clap.
_MIN_DIFFERENCE = 0.15


def moved_most(movement: Movement, limit: int = 4) -> list[tuple[str, float]]:
    """Return the joints that moved most, (name, length of its path in meters), the longest path first."""
    paths_V = _paths_m(movement.timestamps_s, movement.joints_m)
    longest = sorted(_TOLD, key=lambda joint: -paths_V[joint])[:limit]
    return [(KINECT25_JOINTS[i], float(paths_V[i])) for i in longest if paths_V[i] >= _MIN_SHARE * paths_V[longest[0]]]


def side_that_moved(movement: Movement) -> Literal["left", "right"] | None:
    """Return the side that moved more, as seen from the hips; None where both moved alike."""
    paths_V = _paths_m(movement.timestamps_s, from_hips(movement.joints_m))
    left_m, right_m = float(paths_V[_LEFT].sum()), float(paths_V[_RIGHT].sum())
    if abs(left_m - right_m) <= _MIN_DIFFERENCE * (left_m + right_m):
        return None
    return "left" if left_m > right_m else "right"


def on_side(movement: Movement, side: Side | None) -> tuple[list[Movement], str]:
    """Return the movements to store for an action of that side, and what a person should be told about it.

    None: as shown. "either": as shown, and mirrored. "left", "right": mirrored if the other side moved.
    """
    if side is None:
        return [movement], ""
    mirrored = replace(movement, joints_m=mirrored_view(movement.joints_m))
    if side == "either":
        return [movement, mirrored], "stored twice: as shown, and mirrored"
    moved = side_that_moved(movement)
    if moved is None:
        return [movement], "both sides moved alike: stored as shown"
    if moved == side:
        return [movement], ""
    return [mirrored], f"shown with the {moved} side: stored mirrored, as of the {side}"


def _paths_m(timestamps_s: Times, joints_LV3: Array) -> Array:
    """Return how far each joint went in all, shape (V,). Jitter within 0.2 s counts little: see `speeds_m_s`."""
    speeds_LV = speeds_m_s(timestamps_s, joints_LV3)
    return np.asarray(np.diff(timestamps_s) @ (speeds_LV[1:] + speeds_LV[:-1]) / 2, np.float32)
