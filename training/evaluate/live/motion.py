"""Movement between clips: how a person gets from one pose to another, rests, and turns. Pure.

Shapes: L frames, V = 25 kinect25 joints, S poses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge.motion import frames_at
from streams.arrays import Array
from streams.layouts import KINECT25_JOINTS

# A bridge lasts so long, and longer where some joint would be faster than this on average.
_BRIDGE_S = (0.4, 1.0)
_BRIDGE_M_S = 1.2
# A resting person stays in a pose and then shifts slowly to another; meanwhile they sway by so much at the head.
_STAY_S = (1.0, 4.0)
_SHIFT_S = (1.2, 3.0)
_SWAY_M = 0.01

_LEFT, _RIGHT = ([KINECT25_JOINTS.index(part + side) for part in ("Shoulder", "Hip")] for side in ("Left", "Right"))
_HIPS = [_LEFT[1], _RIGHT[1]]
_FLOOR = np.array([1, 0, 1], np.float32)


def has_torso(poses_SV3: Array) -> bool:
    """Return whether the shoulders and hips are seen in all poses, so that they can be turned."""
    return bool(np.isfinite(poses_SV3[:, [*_LEFT, *_RIGHT]]).all())


def turn(joints_LV3: Array, like_V3: Array | None = None) -> Array:
    """Turn and move joints over the floor so that the first pose stands and faces as `like_V3`; None: at 0, along x."""
    first_V3, there_3, yaw = joints_LV3[0], np.zeros(3, np.float32), _yaw(joints_LV3[0])
    if like_V3 is not None:
        there_3, yaw = like_V3[_HIPS].mean(axis=0), yaw - _yaw(like_V3)
    turn = np.array([[np.cos(yaw), 0, -np.sin(yaw)], [0, 1, 0], [np.sin(yaw), 0, np.cos(yaw)]], np.float32)
    here_3 = first_V3[_HIPS].mean(axis=0)
    return np.asarray((joints_LV3 - here_3 * _FLOOR) @ turn + there_3 * _FLOOR, np.float32)


def _yaw(pose_V3: Array) -> float:
    """Return the direction from left to right over the floor, radians from x to z."""
    x, _, z = (pose_V3[_RIGHT] - pose_V3[_LEFT]).sum(axis=0).tolist()
    return float(np.arctan2(z, x))


def at_speed(joints_LV3: Array, speed: float) -> Array:
    """Play joints so many times faster, at the same rate of frames."""
    if speed == 1:
        return joints_LV3
    return frames_at(joints_LV3, np.arange(0, len(joints_LV3) - 1, speed))


def bridge(a_V3: Array, b_V3: Array, noise_m: Array, fps: float, rng: np.random.Generator) -> Array:
    """Lead from one pose to another, both left out: (L, 25, 3). `noise_m`: shape (25, 1), of the sensor."""
    num_frames = max(2, round(_bridge_s(a_V3, b_V3, rng) * fps))
    return _seen(_eased(a_V3, b_V3, num_frames)[:-1], noise_m, rng)


def rest(
    before_V3: Array, poses_SV3: Array, noise_m: Array, rest_s: float, fps: float, rng: np.random.Generator
) -> Array:
    """Go from a pose (left out) to one of those of rest and stay, now and then shifting to another: (L, 25, 3)."""
    num_frames = max(1, round(rest_s * fps))
    parts: list[Array] = []
    pose_V3 = before_V3
    while _length(parts) < num_frames:
        (next_V3,) = turn(poses_SV3[[rng.integers(len(poses_SV3))]], pose_V3)
        shift_s = rng.uniform(*_SHIFT_S) if parts else _bridge_s(pose_V3, next_V3, rng)
        parts.append(_eased(pose_V3, next_V3, max(1, round(shift_s * fps))))
        parts.append(np.repeat(next_V3[None], round(rng.uniform(*_STAY_S) * fps), axis=0))
        pose_V3 = next_V3
    joints = np.concatenate(parts)[:num_frames]
    times_L1 = np.arange(len(joints))[:, None] / fps
    waves_L2 = sum(
        (np.sin(2 * np.pi * rng.uniform(0.1, 0.4) * times_L1 + rng.uniform(0, 2 * np.pi, 2)) for _ in range(3)),
        start=np.zeros((len(joints), 2)),
    )
    # It begins from where the person stands, and the feet stay: what is higher sways farther.
    waves_L2 *= _SWAY_M / 3**0.5 * np.minimum(times_L1, 1)
    height_LV = joints[:, :, 1] - np.nanmin(joints[:, :, 1], axis=1, keepdims=True)
    height_LV /= np.nanmax(height_LV, axis=1, keepdims=True)
    joints[:, :, [0, 2]] += waves_L2[:, None] * height_LV[:, :, None]
    return _seen(joints, noise_m, rng)


def _length(parts: Sequence[Array]) -> int:
    return sum(map(len, parts))


def _bridge_s(a_V3: Array, b_V3: Array, rng: np.random.Generator) -> float:
    way_m = float(np.nan_to_num(np.linalg.norm(b_V3 - a_V3, axis=1)).max())
    return max(rng.uniform(*_BRIDGE_S), way_m / _BRIDGE_M_S)


def _eased(a_V3: Array, b_V3: Array, num_frames: int) -> Array:
    """Go from one pose (left out) to another along a minimum-jerk course: (num_frames, 25, 3)."""
    u = np.arange(1, num_frames + 1, dtype=np.float32)[:, None, None] / num_frames
    return np.asarray(a_V3 + (b_V3 - a_V3) * (u**3 * (10 - 15 * u + 6 * u * u)), np.float32)


def _seen(joints: Array, noise_m: Array, rng: np.random.Generator) -> Array:
    return np.asarray(joints + noise_m * rng.standard_normal(joints.shape, np.float32), np.float32)
