"""The one preprocessing of training and device: joints over time -> a window in the body's own frame.

Shapes: L frames as they came, T frames of a window, V = 25 kinect25 joints, C = 3 in "LUF".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streams.arrays import Array, Mask, Times
from streams.errors import CrossGLGError
from streams.layouts import KINECT25_JOINTS, KINECT25_PARENT_FIRST, KINECT25_PARENTS
from streams.movement import Movement

# Bump it when `window_from_movement` gives other numbers for the same input; bundles carry it.
PREPROCESSING_VERSION = 4
# The bundles it works with. 4 sets bent, still legs straight (`stand_up`) and reckons with bones that are not seen; who
# stands and is seen whole looks as in 3.
COMPATIBLE_VERSIONS = (3, 4)

_J = {name: i for i, name in enumerate(KINECT25_JOINTS)}
_SPINE_MID = _J["SpineMid"]
# Long bones that every sensor sees: spine, shoulder line, upper and lower arms, upper and lower legs.
_BONES = (
    ("SpineBase", "SpineShoulder"), ("ShoulderLeft", "ShoulderRight"),
    ("ShoulderLeft", "ElbowLeft"), ("ElbowLeft", "WristLeft"),
    ("ShoulderRight", "ElbowRight"), ("ElbowRight", "WristRight"),
    ("HipLeft", "KneeLeft"), ("KneeLeft", "AnkleLeft"),
    ("HipRight", "KneeRight"), ("KneeRight", "AnkleRight"),
)  # fmt: skip


def _measures() -> Array:
    """Return the (75, 39) matrix: a frame's coordinates to SpineBase, left to right, ankles to neck, ten bones."""
    rows = np.zeros((3 + len(_BONES), 25), np.float32)
    rows[0, _J["SpineBase"]] = 1
    for joint in ("Shoulder", "Hip"):
        rows[1, _J[joint + "Right"]] += 1
        rows[1, _J[joint + "Left"]] -= 1
    rows[2, _J["SpineShoulder"]] = 1
    rows[2, [_J["AnkleLeft"], _J["AnkleRight"]]] = -0.5
    for row, (a, b) in enumerate(_BONES, start=3):
        rows[row, _J[a]], rows[row, _J[b]] = 1, -1
    # One matrix product for x, y and z is faster than one a frame.
    return np.kron(rows, np.eye(3, dtype=np.float32)).T.copy()


_MEASURES = _measures()
# How far a window's frames are shared out by motion instead of time. Compared frame by frame, joints tell
# 71 % of unseen archives' actions apart so, and 62 % by time alone (benchmarks/results/one_shot_*).
MOTION_SHARE = 0.75
# What share of their sum each is, the medians of three sensors' recordings: it stands in for a bone that is not seen.
_BONE_SHARES = np.array([0.145, 0.1, 0.072, 0.066, 0.072, 0.066, 0.137, 0.103, 0.137, 0.102], np.float32)
_MIN_BONE_M = 0.02
# An adult's ten bones sum to about 3 m; a window's unit is a fifth of the sum, near 0.6 m.
_UNITS_PER_BONE_SUM = 5.0
_MIN_BONE_SUM_M = 0.1
# Hip, knee, ankle and foot of who stands, seen from SpineBase, in units: the left leg, x to the right.
_LEGS = tuple(tuple(_J[part + side] for part in ("Hip", "Knee", "Ankle", "Foot")) for side in ("Left", "Right"))
_STANDING_4C = np.array(
    [[-0.11, 0, -0.02], [-0.15, -0.67, 0.05], [-0.15, -1.2, 0.08], [-0.17, -1.29, -0.02]], np.float32
)
# A knee or ankle that stays within the first way is still, units (9 cm); beyond the second (30 cm) the leg moves.
_STILL, _MOVING = 0.15, 0.5
# From hip to ankle straight on, as a share of the way by the knee: whose legs are below the first sits.
_BENT, _STRAIGHT = 0.9, 0.96
# A shank that is not seen is so much of the thigh.
_SHANK_SHARE = 0.7
# A body that leans by less than about 5 degrees may really do so; one that leans by 35 to 60 does more and more surely.
# What is between is the sensor's: it stands on a shelf and looks down.
_STANCE_RAD, _LEANING_RAD, _LYING_RAD = np.deg2rad([5.0, 35.0, 60.0])


def window_from_movement(movement: Movement, num_frames: int, motion_share: float = MOTION_SHARE) -> Array:
    """Return a window: missing joints filled, resampled, paced by motion, turned into the body's frame.

    `motion_share`: see `pace_by_motion`. Returns shape (T, 25, 3), float32, in the unit of `to_body_frame`.
    Raises CrossGLGError("no_joints") if no joint was ever seen.
    """
    times_s, joints_m = movement.timestamps_s, movement.joints_m
    (window,) = windows_from_joints(times_s, joints_m, np.zeros(1, np.intp), num_frames, motion_share)
    return np.asarray(window, np.float32)


def windows_from_joints(
    timestamps_s: Times,
    joints_LV3: Array,
    firsts_W: npt.NDArray[np.intp],
    num_frames: int,
    motion_share: float = MOTION_SHARE,
) -> Array:
    """Return the windows from each of the frames `firsts_W` to the last, shape (W, T, 25, 3).

    `timestamps_s`, `joints_LV3`: as in Movement; arrays alone, as they may be views that the next frame changes.
    All are cut at once, in a third of the time of one after another. A missing joint is filled from
    all frames given, otherwise each is what `window_from_movement` makes of its frames.
    """
    if not np.isfinite(joints_LV3).all():
        joints_LV3 = fill_missing(Movement(timestamps_s=timestamps_s, joints_m=joints_LV3)).joints_m
    windows = resample(timestamps_s, joints_LV3, firsts_W, num_frames)
    return stand_up(to_body_frame(pace_by_motion(windows, motion_share) if motion_share else windows))


def fill_missing(movement: Movement) -> Movement:
    """Return a copy without NaN: a joint is interpolated in time; one never seen takes its parent's place.

    Raises CrossGLGError("no_joints") if no joint was ever seen.
    """
    timestamps_s, joints = movement.timestamps_s, movement.joints_m.copy()
    present_LV: Mask = np.asarray(np.isfinite(joints).all(axis=2))
    ever_V: Mask = np.asarray(present_LV.any(axis=0))
    if not ever_V.any():
        raise CrossGLGError("no joint was seen in the whole window", code="no_joints")
    for v in np.flatnonzero(ever_V & ~present_LV.all(axis=0)).tolist():
        seen = present_LV[:, v]
        for c in range(3):
            joints[:, v, c] = np.interp(timestamps_s, timestamps_s[seen], joints[seen, v, c])
    if not ever_V[_SPINE_MID]:
        joints[:, _SPINE_MID] = joints[:, ever_V].mean(axis=1)
        ever_V[_SPINE_MID] = True
    for v in KINECT25_PARENT_FIRST:
        if not ever_V[v]:
            joints[:, v] = joints[:, KINECT25_PARENTS[v]]
    return Movement(timestamps_s=timestamps_s, joints_m=joints)


def resample(timestamps_s: Times, joints_LV3: Array, firsts_W: npt.NDArray[np.intp], num_frames: int) -> Array:
    """Interpolate linearly at `num_frames` moments, evenly from each first frame to the last: (W, T, 25, 3)."""
    starts_W1, end_s = timestamps_s[firsts_W][:, None], timestamps_s[-1]
    moments_WT = starts_W1 + (end_s - starts_W1) * np.linspace(0.0, 1.0, num_frames)
    # A window of one frame has nothing to interpolate, and rounding must not lead past either end.
    before_WT = np.searchsorted(timestamps_s, moments_WT, side="right") - 1
    before_WT = np.minimum(np.maximum(before_WT, firsts_W[:, None]), max(len(timestamps_s) - 2, 0))
    after_WT = np.minimum(before_WT + 1, len(timestamps_s) - 1)
    start_s = timestamps_s[before_WT]
    step_s = np.maximum(timestamps_s[after_WT] - start_s, np.finfo(np.float64).tiny)
    share = np.clip((moments_WT - start_s) / step_s, 0.0, 1.0).astype(np.float32)
    # Flat coordinates: numpy is slow where the last axis has only three.
    between = _between(joints_LV3.reshape(-1, 75), before_WT, after_WT, share)
    return np.asarray(between.reshape(*before_WT.shape, 25, 3), np.float32)


def frames_at(frames_LK: Array, at: npt.NDArray[np.float64]) -> Array:
    """Interpolate linearly at frame numbers with a fraction, 0 to L - 1: (L, ...) to the shape of `at`, then (...)."""
    before, share = _frame_and_share(at, len(frames_LK))
    return _between(frames_LK, before, before + 1, share)


def _frame_and_share(
    at: npt.NDArray[np.float64], num_frames: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    before = np.minimum(at.astype(np.intp), num_frames - 2)
    return before, (at - before).astype(np.float32)


def _between(
    frames_LK: Array, before: npt.NDArray[np.intp], after: npt.NDArray[np.intp], share: npt.NDArray[np.float32]
) -> Array:
    found: Array = frames_LK[before]
    found += (frames_LK[after] - found) * share.reshape(*share.shape, *[1] * (frames_LK.ndim - 1))
    return found


def pace_by_motion(joints_WTVC: Array, motion_share: float) -> Array:
    """Share out each window's frames anew: the more moves, the more frames, (W, T, V, 3) to the same.

    A step counts for 1 - `motion_share` by its time, and for the rest by the way that all joints go in
    it. So a pause, a slow start and another person's rhythm, which every
    example has in its own way, are mostly gone; a window without motion stays as it is.
    """
    num_windows, num_frames = joints_WTVC.shape[:2]
    flat_WTK = joints_WTVC.reshape(num_windows, num_frames, -1)
    # The median of three neighbors, so that a joint that leaps away for one frame makes no way.
    padded = np.concatenate((flat_WTK[:, 1:2], flat_WTK, flat_WTK[:, -2:-1]), axis=1)
    before, after = padded[:, :-2], padded[:, 2:]
    middle = np.maximum(np.minimum(before, after), np.minimum(np.maximum(before, after), flat_WTK))
    ways_WTK = middle[:, 1:] - middle[:, :-1]
    way_WT = np.sqrt(np.einsum("wtk,wtk->wt", ways_WTK, ways_WTK))
    mean_W1 = way_WT.mean(axis=1, keepdims=True)
    # Below a millimeter a frame over all joints there is nothing to go by.
    pace_WT = np.where(mean_W1 > 1e-3, way_WT / np.maximum(mean_W1, 1e-3), 1.0)
    ends_WT = np.cumsum((1 - motion_share) + motion_share * pace_WT, axis=1, dtype=np.float64)
    passed_WT = np.concatenate((np.zeros((num_windows, 1)), ends_WT / ends_WT[:, -1:]), axis=1)
    frames_T, moments_T = np.arange(num_frames), np.linspace(0.0, 1.0, num_frames)
    at_WT = np.stack([np.interp(moments_T, passed_T, frames_T) for passed_T in passed_WT])
    before_WT, share_WT = _frame_and_share(at_WT, num_frames)
    # All windows' frames in one row: window by window it takes twice the time.
    before_WT += num_frames * np.arange(num_windows)[:, None]
    paced = _between(flat_WTK.reshape(num_windows * num_frames, -1), before_WT, before_WT + 1, share_WT)
    return np.asarray(paced.reshape(joints_WTVC.shape), np.float32)


def to_body_frame(joints_WTVC: Array) -> Array:
    """Turn windows into the body's own frame: where it stands, which way is up and it faces, how big it is.

    Origin: the median SpineBase, so that jumping and walking stay visible. Upright: the median direction from
    the ankles to the neck becomes y, as far as that is the sensor's tilt (`_leveling`). Turn about the vertical
    axis: the median direction from left to right shoulder and hip becomes x. Unit: a fifth of the
    summed median lengths of ten long bones. Medians, so that a noisy first frame or a bend does
    not tilt the whole window. `joints_WTVC`: shape (W, T, 25, 3), float32, meters, no NaN.
    """
    num_windows, num_frames = joints_WTVC.shape[:2]
    flat_WTK = joints_WTVC.reshape(num_windows, num_frames, 75)
    measures = (flat_WTK.reshape(-1, 75) @ _MEASURES).reshape(num_windows, num_frames, 39)
    bones = measures[:, :, 9:].reshape(num_windows, num_frames, len(_BONES), 3)
    lengths = np.sqrt(np.einsum("wtbc,wtbc->wtb", bones, bones))
    medians_WK = _median(np.concatenate((measures[:, :, :9], lengths), axis=2))
    level_W33 = _leveling(medians_WK[:, 6:9])
    x, _, z = (medians_WK[:, None, 3:6] @ level_W33)[:, 0].T
    is_seen_WB = medians_WK[:, 9:] > _MIN_BONE_M
    seen_share_W = np.where(is_seen_WB.any(axis=1), is_seen_WB @ _BONE_SHARES, 1) / _BONE_SHARES.sum()
    scale = _UNITS_PER_BONE_SUM / np.maximum(medians_WK[:, 9:].sum(axis=1) / seen_share_W, _MIN_BONE_SUM_M)
    width = np.sqrt(x * x + z * z)
    unit = scale / np.maximum(width, 1e-6)
    turn = np.zeros((num_windows, 3, 3), np.float32)
    # A side that was never seen lies on the other: no direction, and x would be lost with it.
    turn[:, 0, 0] = turn[:, 2, 2] = np.where(width > 1e-6, x * unit, scale)
    turn[:, 2, 0] = z * unit
    turn[:, 0, 2] = -turn[:, 2, 0]
    turn[:, 1, 1] = scale
    centered = (flat_WTK - np.tile(medians_WK[:, None, :3], 25)).reshape(num_windows, num_frames * 25, 3)
    return np.asarray((centered @ (level_W33 @ turn)).reshape(joints_WTVC.shape), np.float32)


def stand_up(windows_WTVC: Array) -> Array:
    """Set legs straight that are bent and still: who waves on a chair is as one who waves and stands.

    A leg that moves stays as it is, and so does one that is straight. So are legs that were never seen, as at a table.
    Takes and returns windows of `to_body_frame`, shape (W, T, 25, 3).
    """
    result = windows_WTVC
    for leg, side in zip(_LEGS, (1, -1), strict=True):
        straight_W = _straightness(windows_WTVC, leg)
        bent = np.flatnonzero(straight_W < 1)
        if not len(bent):
            continue
        if result is windows_WTVC:
            result = windows_WTVC.copy()
        bases_WT13, legs_WT43 = windows_WTVC[bent, :, :1], windows_WTVC[bent][:, :, leg]
        kept_W = np.maximum(straight_W[bent], _motion((legs_WT43 - bases_WT13)[:, :, 1:3]))
        standing_WT43 = bases_WT13 + _STANDING_4C * np.array([side, 1, 1], np.float32)
        changed_WT43 = standing_WT43 + kept_W[:, None, None, None] * (legs_WT43 - standing_WT43)
        result[bent[:, None], :, leg] = changed_WT43.swapaxes(1, 2)
    return result


def _straightness(windows_WTVC: Array, leg: Sequence[int]) -> Array:
    """Return 0 for a leg as bent as one who sits has it, to 1 for a straight one, shape (W,)."""
    hip, knee, ankle = (windows_WTVC[:, :, joint] for joint in leg[:3])
    ways = (knee - hip, ankle - knee, ankle - hip)
    thigh_WT, shank_WT, direct_WT = (np.sqrt(np.einsum("wtc,wtc->wt", way, way)) for way in ways)
    share_WT = direct_WT / np.maximum(thigh_WT + np.maximum(shank_WT, _SHANK_SHARE * thigh_WT), 1e-3)
    share_W = _median(share_WT[:, :, None])[:, 0]
    return np.asarray(np.clip((share_W - _BENT) / (_STRAIGHT - _BENT), 0, 1), np.float32)


def _motion(joints_WTV3: Array) -> Array:
    """Return 0 where all joints are still, to 1 where one moves, shape (W,).

    Of 16 frames the outermost at either end does not count: a joint that leaps away for one frame does not move.
    """
    num_frames = joints_WTV3.shape[1]
    low, high = num_frames // 16, num_frames - 1 - num_frames // 16
    ordered = np.partition(joints_WTV3, (low, high), axis=1)
    way_WV3 = ordered[:, high] - ordered[:, low]
    moved_W = np.sqrt(np.einsum("wvc,wvc->wv", way_WV3, way_WV3)).max(axis=1)
    return np.asarray(np.clip((moved_W - _STILL) / (_MOVING - _STILL), 0, 1), np.float32)


def _leveling(up_W3: Array) -> Array:
    """Return rotations (W, 3, 3) of points in rows, which set upright what points along `up_W3`, as far as it leans."""
    x, y, z = up_W3.T
    across = np.sqrt(x * x + z * z)
    lean = np.arctan2(across, y)
    share = lean**2 / (lean**2 + _STANCE_RAD**2) * np.clip((_LYING_RAD - lean) / (_LYING_RAD - _LEANING_RAD), 0, 1)
    sin, cos = np.sin(share * lean), np.cos(share * lean)
    # Along the lean's horizontal direction (x, z) and y a point turns, across them it stays.
    x, z = x / np.maximum(across, 1e-6), z / np.maximum(across, 1e-6)
    level = np.empty((len(up_W3), 3, 3), np.float32)
    level[:, 0, 0], level[:, 2, 2] = 1 - (1 - cos) * x * x, 1 - (1 - cos) * z * z
    level[:, 0, 2] = level[:, 2, 0] = -(1 - cos) * x * z
    level[:, 0, 1], level[:, 2, 1] = sin * x, sin * z
    level[:, 1, 0], level[:, 1, 2], level[:, 1, 1] = -sin * x, -sin * z, cos
    return level


def _median(values_WTK: Array) -> Array:
    """np.median over T in a fifth of its time; for even T the upper of the two middle values."""
    middle = values_WTK.shape[1] // 2
    return np.asarray(np.partition(values_WTK, middle, axis=1)[:, middle], np.float32)
