"""Parts of the body, and an encoder's features by part and by time.

Shapes: N windows, C channels, T frames, V = 25 joints, P parts, S segments of a window.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from streams.layouts import KINECT25_JOINTS
from training.model import SkeletonEncoder

# GAP's parts (MartinXM/GAP), by joint numbers of kinect25.
GAP_PARTS = {
    "head": (2, 3, 20),
    "hand": (4, 5, 6, 7, 8, 9, 10, 11, 21, 22, 23, 24),
    "hip": (0, 1, 2, 12, 16),
    "foot": (12, 13, 14, 15, 16, 17, 18, 19),
}


def _limb(side: str, *names: str) -> tuple[int, ...]:
    return tuple(KINECT25_JOINTS.index(f"{name}{side}") for name in names)


LIMBS = (
    tuple(map(KINECT25_JOINTS.index, ("SpineBase", "SpineMid", "SpineShoulder"))),
    tuple(map(KINECT25_JOINTS.index, ("Neck", "Head"))),
    *(_limb(side, "Shoulder", "Elbow", "Wrist", "Hand", "HandTip", "Thumb") for side in ("Left", "Right")),
    *(_limb(side, "Hip", "Knee", "Ankle", "Foot") for side in ("Left", "Right")),
)


def encode(encoder: SkeletonEncoder, x_NTVC: Tensor) -> Tensor:
    """Return the last block's features of one person's windows, shape (N, C, T', V), float32."""
    x = encoder.embed_joints(x_NTVC[:, None])
    for number in range(encoder.num_blocks):
        x = encoder.run_block(number, x, None)
    return x.float()


def pool_parts(features_NCTV: Tensor, parts: Sequence[Sequence[int]]) -> Tensor:
    """Return the mean over each part's joints and over time, shape (N, P, C)."""
    over_time_NCV = features_NCTV.mean(dim=2)
    return torch.stack([over_time_NCV[:, :, list(part)].mean(dim=2) for part in parts], dim=1)


def pool_segments(features_NCTV: Tensor, parts: Sequence[Sequence[int]], num_segments: int) -> Tensor:
    """Return the mean over each part's joints in each segment of the time, shape (N, S * P, C)."""
    segments = features_NCTV.tensor_split(num_segments, dim=2)
    return torch.cat([pool_parts(segment, parts) for segment in segments], dim=1)
