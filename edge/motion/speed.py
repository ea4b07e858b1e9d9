"""How fast and how far joints move, and where a movement begins and ends.

Shapes: L frames, V = 25 kinect25 joints, C = 3, meters; W windows; J points.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streams.arrays import Array, Times
from streams.movement import Movement

# Times that differ by less are the same: 3 frames at 30 fps are 0.1 s.
TIE_S = 1e-6
# Slower than this is rest: people sway, and sensors are noisy.
REST_M_S = 0.25
_EXTREMITIES = [3, 6, 7, 10, 11, 14, 18]  # head, wrists, hands, ankles
_SPINE = [0, 1, 20]  # from the hips up


def travel_m(joints_LV3: Array) -> float:
    """Return how far the extremity that moved most is spread out: the largest diagonal of their boxes.

    A joint counts in the frames in which it was seen.
    """
    return float(travels_m(joints_LV3, np.zeros(1, np.intp))[0])


def travels_m(joints_LV3: Array, firsts_W: npt.NDArray[np.intp]) -> Array:
    """Return `travel_m` of the frames from each of `firsts_W` to the last, shape (W,), in one pass."""
    newest_first = joints_LV3[::-1, _EXTREMITIES]
    upper, lower = np.fmax.accumulate(newest_first), np.fmin.accumulate(newest_first)
    spread = (upper - lower)[len(joints_LV3) - 1 - firsts_W]
    # fmax: a joint that was never seen has not moved.
    farthest = np.fmax.reduce(np.einsum("wec,wec->we", spread, spread), axis=1, initial=0.0)
    return np.asarray(np.sqrt(farthest), np.float32)


def trim_rest(movement: Movement, *, margin_s: float = 0.15) -> slice:
    """Return the frames from the first movement to the return to rest.

    Moving: some extremity is faster than a quarter of the clip's own top speed and than REST_M_S,
    over 0.2 s, so that a sensor's jitter does not count. The whole clip where nothing moves.
    """
    timestamps_s = movement.timestamps_s
    if len(timestamps_s) < 3:
        return slice(0, len(timestamps_s))
    speed_m_s = extremity_speed_m_s(timestamps_s, movement.joints_m)
    fast = np.flatnonzero(speed_m_s > max(REST_M_S, 0.25 * float(np.quantile(speed_m_s, 0.95))))
    if not len(fast):
        return slice(0, len(timestamps_s))
    begin_s, end_s = timestamps_s[fast[0]] - margin_s - TIE_S, timestamps_s[fast[-1]] + margin_s + TIE_S
    return slice(int(np.searchsorted(timestamps_s, begin_s)), int(np.searchsorted(timestamps_s, end_s, side="right")))


def extremity_speed_m_s(timestamps_s: Times, joints_LV3: Array, *, over_s: float = 0.2) -> Array:
    """Return the speed of the fastest extremity at each frame, relative to the hips, shape (L,).

    A speed is the net way over about `over_s`, divided by that time. NaN joints count as still;
    where the hips are hidden, behind a desk say, a higher joint of the spine stands for them.
    """
    speeds_LJ = speeds_m_s(timestamps_s, from_hips(joints_LV3)[:, _EXTREMITIES], over_s)
    return np.asarray(speeds_LJ.max(axis=1), np.float32)


def from_hips(joints_LV3: Array) -> Array:
    """Return the joints as seen from the hips; where those are hidden, from the joint of the spine seen most."""
    hips = _SPINE[int(np.isfinite(joints_LV3[:, _SPINE, 0]).sum(axis=0).argmax())]
    return joints_LV3 - joints_LV3[:, hips : hips + 1]


def speeds_m_s(timestamps_s: Times, points_LJ3: Array, over_s: float = 0.2) -> Array:
    """Return the speed of each point at each frame, shape (L, J): the net way over about `over_s`, by that time."""
    half = np.float64(over_s / 2)
    # At the ends as well a way is as long as elsewhere, or a sensor's noise would look twice as fast.
    middle_s = np.clip(timestamps_s, timestamps_s[0] + half, max(timestamps_s[-1] - half, timestamps_s[0] + half))
    before = np.searchsorted(timestamps_s, middle_s - half - TIE_S)
    after = np.minimum(np.searchsorted(timestamps_s, middle_s + half - TIE_S), len(timestamps_s) - 1)
    way = np.sqrt(((points_LJ3[after] - points_LJ3[before]) ** 2).sum(axis=2))
    time_s = np.maximum(timestamps_s[after] - timestamps_s[before], 1e-3)[:, None]
    return np.asarray(np.nan_to_num(way / time_s), np.float32)
