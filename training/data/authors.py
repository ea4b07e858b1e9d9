"""Windows as InfoGCN's authors make them of NTU RGB+D: what `--preset paper` trains and is tested on.

Source: stnoah1/infogcn (its NTU pipeline); the device's windows are those of `edge.motion`.

Shapes: B clips, M persons, L frames of a clip, T frames of a window, V = 25, C = 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from streams.arrays import Array
from streams.layouts import KINECT25_JOINTS
from streams.movement import Movement

# Who stands for a second person that is missing: nobody (NTU-60), or the first person again (NTU-120).
SecondPerson = Literal["zeros", "first"]
TEST_CROP = 0.95
_BASE, _MID = KINECT25_JOINTS.index("SpineBase"), KINECT25_JOINTS.index("SpineMid")
_HIPS = KINECT25_JOINTS.index("HipLeft"), KINECT25_JOINTS.index("HipRight")


def authors_windows(
    clips: Sequence[tuple[Movement, ...]],
    num_frames: int,
    num_persons: int = 2,
    *,
    second: SecondPerson = "first",
    rng: np.random.Generator | None = None,
    min_crop: float = 0.5,
    min_crop_frames: int = 64,
    has_scores: bool = False,
) -> Array:
    """Return one window of each clip, shape (B, M, T, 25, 3), float32, meters.

    Origin: the first person's SpineMid in the first frame. Each person is turned once, by the first frame: the spine
    becomes z, the line from right to left hip x. `rng`: crop a random part of `min_crop` to all of the clip, but never
    fewer than `min_crop_frames`; without it the middle TEST_CROP. The crop is resized linearly to T frames.
    Movements hold no NaN. `has_scores`: z is the score of a joint of a 2D pose; nothing is turned then, and only x and
    y have an origin.
    """
    windows = np.zeros((len(clips), num_persons, num_frames, len(KINECT25_JOINTS), 3), np.float32)
    for row_MTVC, persons in zip(windows, clips, strict=True):
        length = len(persons[0])
        if rng is None:
            margin = int((1 - TEST_CROP) * length / 2)
            part = slice(margin, length - margin)
        else:
            kept = min(max(int(length * rng.uniform(min_crop, 1)), min_crop_frames), length)
            start = int(rng.integers(0, length - kept + 1))
            part = slice(start, start + kept)
        origin_C = persons[0].joints_m[0, _MID] * ([1, 1, 0] if has_scores else [1, 1, 1])
        for row_TVC, movement in zip(row_MTVC, persons, strict=False):
            centered_LVC = np.asarray(movement.joints_m - origin_C, np.float32)
            row_TVC[:] = _resized((centered_LVC if has_scores else _turned(centered_LVC))[part], num_frames)
        if second == "first":
            row_MTVC[len(persons) :] = row_MTVC[0]
    return windows


def turned_at_random(
    windows_BMTVC: Array, max_turn_rad: float, rng: np.random.Generator, *, has_scores: bool = False
) -> Array:
    """Turn each window, both persons alike, about x, y and z by random angles up to `max_turn_rad`.

    About z alone where z is a score.
    """
    angles_B3 = rng.uniform(-1, 1, (len(windows_BMTVC), 3)) * max_turn_rad * ([0, 0, 1] if has_scores else [1, 1, 1])
    return np.asarray(
        (windows_BMTVC.reshape(len(windows_BMTVC), -1, 3) @ turns(angles_B3)).reshape(windows_BMTVC.shape), np.float32
    )


def turns(angles_B3: npt.NDArray[np.float64]) -> Array:
    """Return rotations about x, then y, then z of points in rows, shape (B, 3, 3)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles_B3).T, np.sin(angles_B3).T
    one, zero = np.ones_like(cx), np.zeros_like(cx)
    about_x = np.array([[one, zero, zero], [zero, cx, -sx], [zero, sx, cx]])
    about_y = np.array([[cy, zero, sy], [zero, one, zero], [-sy, zero, cy]])
    about_z = np.array([[cz, -sz, zero], [sz, cz, zero], [zero, zero, one]])
    about_x, about_y, about_z = (np.moveaxis(turn, 2, 0) for turn in (about_x, about_y, about_z))
    return np.asarray(about_x @ about_y @ about_z, np.float32)


def _turned(joints_LVC: Array) -> Array:
    """Turn one person by the first frame; one without a spine or hips stays as it is."""
    first_VC = joints_LVC[0].astype(np.float64)
    up_C = first_VC[_MID] - first_VC[_BASE]
    across_C = first_VC[_HIPS[0]] - first_VC[_HIPS[1]]
    height = np.linalg.norm(up_C)
    if height == 0:
        return joints_LVC
    up_C = up_C / height
    across_C = across_C - (across_C @ up_C) * up_C
    width = np.linalg.norm(across_C)
    if width < 1e-9:
        return joints_LVC
    across_C = across_C / width
    axes_CC = np.stack((across_C, np.cross(across_C, up_C), up_C), axis=1)
    return np.asarray(joints_LVC @ axes_CC, np.float32)


def _resized(joints_LVC: Array, num_frames: int) -> Array:
    """Resize linearly to T frames, each the middle of its share of the time, as torch's bilinear resizing has it."""
    length = len(joints_LVC)
    at_T = np.clip((np.arange(num_frames) + 0.5) * length / num_frames - 0.5, 0, length - 1)
    before_T = np.minimum(at_T.astype(np.intp), max(length - 2, 0))
    after_T = np.minimum(before_T + 1, length - 1)
    share_T11 = (at_T - before_T)[:, None, None]
    return np.asarray(joints_LVC[before_T] * (1 - share_T11) + joints_LVC[after_T] * share_T11, np.float32)
