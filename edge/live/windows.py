"""The windows of a body that are worth a comparison: filled, moving, and of a length that a prototype has.

Shapes: W windows, P prototypes, L frames, T frames of a window, V = 25, C = 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge import config
from edge.live.decision import Window
from edge.match import PrototypeIndex
from edge.motion import BodyTrack, travels_m, windows_from_joints
from streams.arrays import Array, Mask


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """Hold a body's windows, ready for the encoder, and which prototypes each is compared with."""

    windows: tuple[Window, ...] = ()
    windows_WTVC: Array
    comparable_WP: Mask


NOTHING = Cut(windows_WTVC=np.zeros((0, 0, 25, 3), np.float32), comparable_WP=np.zeros((0, 0), np.bool_))


def cut_windows(track: BodyTrack, prototypes: PrototypeIndex, settings: config.Windows, num_frames: int) -> Cut:
    """Cut the windows of a body that prototypes ask for, of `num_frames` each."""
    wanted = [(length_s, prototypes.wants(length_s, settings.max_stretch)) for length_s in settings.lengths_s]
    wanted = [(length_s, comparable_P) for length_s, comparable_P in wanted if comparable_P.any()]
    if not wanted:
        return NOTHING
    lengths_s = np.array([length_s for length_s, _ in wanted])
    timestamps_s, joints_LV3 = track.latest(float(lengths_s.max()))
    firsts_W = np.searchsorted(timestamps_s, timestamps_s[-1] - lengths_s - 1e-6)
    recent_s = timestamps_s[-1] - settings.recent_s - 1e-6
    is_filled = timestamps_s[-1] - timestamps_s[firsts_W] >= settings.min_filled * lengths_s
    is_filled &= len(timestamps_s) - firsts_W >= 4
    if not is_filled.any():
        return NOTHING
    traveled_m = travels_m(joints_LV3, np.append(firsts_W, np.searchsorted(timestamps_s, recent_s)))
    if traveled_m[-1] < settings.min_recent_motion_m:
        return NOTHING
    chosen = np.flatnonzero(is_filled & (traveled_m[:-1] >= settings.min_motion_m))
    if not len(chosen):
        return NOTHING
    is_seen = np.isfinite(joints_LV3[:, :, 0])
    return Cut(
        windows=tuple(
            Window(
                start_s=float(timestamps_s[firsts_W[i]]),
                length_s=wanted[i][0],
                joints=float(is_seen[firsts_W[i] :].mean()),
            )
            for i in chosen.tolist()
        ),
        windows_WTVC=windows_from_joints(timestamps_s, joints_LV3, firsts_W[chosen], num_frames),
        comparable_WP=np.stack([wanted[i][1] for i in chosen.tolist()]),
    )
