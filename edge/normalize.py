"""The one preprocessing of training and device: joints over time -> a window in the body's own frame.

Shapes: L frames as they came, T frames of a window, V = 25 kinect25 joints, C = 3 in "LUF".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streams.errors import CrossGLGError
from streams.layouts import KINECT25_JOINTS, KINECT25_PARENTS

Array = npt.NDArray[np.float32]
Times = npt.NDArray[np.float64]

# Raise it when `window_from_joints` gives other numbers for the same input; bundles carry it.
PREPROCESSING_VERSION = 1

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
    """Return the (12, 25) matrix that takes joints to SpineBase, left-to-right, and the ten bones."""
    rows = np.zeros((2 + len(_BONES), 25), np.float32)
    rows[0, _J["SpineBase"]] = 1
    for joint in ("Shoulder", "Hip"):
        rows[1, _J[joint + "Right"]] += 1
        rows[1, _J[joint + "Left"]] -= 1
    for row, (a, b) in enumerate(_BONES, start=2):
        rows[row, _J[a]], rows[row, _J[b]] = 1, -1
    return rows


_MEASURES = _measures()
# An adult's ten bones sum to about 3 m; a window's unit is a fifth of the sum, near 0.6 m.
_UNITS_PER_BONE_SUM = 5.0
_MIN_BONE_SUM_M = 0.1
# Joints in an order in which a parent comes before its children, without the root.
_PARENT_FIRST = [0, 20, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24]


def window_from_joints(timestamps_s: Times, joints_LV3: Array, num_frames: int) -> Array:
    """Return a window: missing joints filled, resampled in time, turned into the body's frame.

    `timestamps_s`: shape (L,), rising, seconds. `joints_LV3`: shape (L, 25, 3), float32, metres,
    "LUF", NaN where missing. Returns shape (T, 25, 3), float32, in the unit of `to_body_frame`.
    Raises CrossGLGError("no_joints") if no joint was ever seen.
    """
    if not np.isfinite(joints_LV3).all():
        joints_LV3 = fill_missing(timestamps_s, joints_LV3)
    return to_body_frame(resample(timestamps_s, joints_LV3, num_frames))


def fill_missing(timestamps_s: Times, joints_LV3: Array) -> Array:
    """Return a copy without NaN: a joint is interpolated in time; one never seen takes its parent's place.

    Shapes as in `window_from_joints`. Raises CrossGLGError("no_joints") if no joint was ever seen.
    """
    joints = joints_LV3.copy()
    present_LV: npt.NDArray[np.bool_] = np.asarray(np.isfinite(joints).all(axis=2))
    ever_V: npt.NDArray[np.bool_] = np.asarray(present_LV.any(axis=0))
    if not ever_V.any():
        raise CrossGLGError("no joint was seen in the whole window", code="no_joints")
    for v in np.flatnonzero(ever_V & ~present_LV.all(axis=0)).tolist():
        seen = present_LV[:, v]
        for c in range(3):
            joints[:, v, c] = np.interp(timestamps_s, timestamps_s[seen], joints[seen, v, c])
    if not ever_V[_SPINE_MID]:
        joints[:, _SPINE_MID] = joints[:, ever_V].mean(axis=1)
        ever_V[_SPINE_MID] = True
    for v in _PARENT_FIRST:
        if not ever_V[v]:
            joints[:, v] = joints[:, KINECT25_PARENTS[v]]
    return joints


def resample(timestamps_s: Times, joints_LV3: Array, num_frames: int) -> Array:
    """Interpolate linearly at `num_frames` moments, evenly from the first to the last timestamp."""
    if len(timestamps_s) == 1:
        return np.repeat(joints_LV3, num_frames, axis=0)
    moments = np.linspace(timestamps_s[0], timestamps_s[-1], num_frames)
    after = np.searchsorted(timestamps_s, moments[1:-1], side="right")
    after = np.concatenate(([1], after, [len(timestamps_s) - 1]))
    before = after - 1
    share = (moments - timestamps_s[before]) / (timestamps_s[after] - timestamps_s[before])
    share_T11 = share.astype(np.float32)[:, None, None]
    start = joints_LV3[before]
    return np.asarray(start + (joints_LV3[after] - start) * share_T11, np.float32)


def to_body_frame(joints_TV3: Array) -> Array:
    """Turn joints into the body's own frame: where it stands, which way it faces, how big it is.

    Origin: the median SpineBase, so that jumping and walking stay visible. Turn about the vertical
    axis: the median direction from left to right shoulder and hip becomes x. Unit: a fifth of the
    summed median lengths of ten long bones. Medians, so that a noisy first frame or a bend does
    not tilt the whole window. `joints_TV3`: shape (T, 25, 3), float32, metres, no NaN.
    """
    measures_T12C = _MEASURES @ joints_TV3
    bones = measures_T12C[:, 2:]
    lengths = np.sqrt(np.einsum("tbc,tbc->tb", bones, bones))
    medians = _median(np.concatenate((measures_T12C[:, 0], measures_T12C[:, 1], lengths), axis=1))
    x, z = float(medians[3]), float(medians[5])
    norm = max((x * x + z * z) ** 0.5, 1e-6)
    scale = _UNITS_PER_BONE_SUM / max(float(medians[6:].sum()), _MIN_BONE_SUM_M)
    x, z = scale * x / norm, scale * z / norm
    turn = np.array([[x, 0, -z], [0, scale, 0], [z, 0, x]], np.float32)
    turned = (joints_TV3 - medians[:3]).reshape(-1, 3) @ turn
    return np.asarray(turned.reshape(joints_TV3.shape), np.float32)


def _median(values_TK: Array) -> Array:
    """np.median over axis 0 in a fifth of its time; for even T the upper of the two middle values."""
    return np.asarray(np.partition(values_TK, len(values_TK) // 2, axis=0)[len(values_TK) // 2], np.float32)
