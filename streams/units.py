"""Whether a body can be in meters, by the lengths of its limbs."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from streams.frame import Body
from streams.layouts import KINECT25_JOINTS, layout_by_name

_LIMBS = tuple(
    (f"{upper}{side}", f"{lower}{side}")
    for side in ("Left", "Right")
    for upper, lower in (("Shoulder", "Elbow"), ("Elbow", "Wrist"), ("Hip", "Knee"), ("Knee", "Ankle"))
)
# The shortest and the longest that the median of a person's limbs may be. In every seventh frame of 22 data sets it is
# 0.16 to 0.50 m; a small child's is about 0.12.
LIMB_M = (0.08, 0.8)
# Fewer limbs say little.
_MIN_LIMBS = 3


def limb_length_m(body: Body, layout: str) -> float | None:
    """Return the median length of the upper and lower arms and legs that are seen; None where they are too few.

    A limb without any length is one that the tracker made up, and does not count.
    """
    upper_L, lower_L = _ends(layout)
    with np.errstate(over="ignore"):
        lengths_L = np.sqrt(np.square(body.joints_m[upper_L] - body.joints_m[lower_L]).sum(axis=1))
    seen = sorted(length for length in lengths_L.tolist() if length > 0)
    return seen[len(seen) // 2] if len(seen) >= _MIN_LIMBS else None


@cache
def _ends(layout: str) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the native joints at both ends of each limb."""
    native = [int(weights_J.argmax()) for weights_J in layout_by_name(layout).kinect25_weights]
    ends = [[native[KINECT25_JOINTS.index(joint)] for joint in limb] for limb in _LIMBS]
    upper_L, lower_L = np.array(ends).T
    return upper_L, lower_L
