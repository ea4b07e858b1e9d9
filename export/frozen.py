"""The skeleton branch as it is frozen for the device, and what torch makes of windows with it.

Shapes: N windows, T frames, V = 25, C = 3, E values of an embedding, D features.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from streams.arrays import Array
from training.model import SkeletonBranch, quarters

Embedding = Literal["joints", "pooled"]

# What alignment compares: the joints in so many frames of a window.
ALIGNED_FRAMES = 16
# A window's distance to what is known is the mean of those to the nearest so many of the trained actions, by share.
# The nearest five, weight 0.5 and an alignment that spreads as far as the cosine tell as well which of the enrolled
# actions it is, but worse whether it is any of them: 0.76 instead of 0.79 of F1 on streams at five alarms an hour.
_COHORT_SHARE = 0.4


class FrozenBranch(nn.Module):
    """What is left for the device: windows (N, T, V, C) -> embeddings (N, E) and features (N, D).

    An embedding is a learned part of length 1, then ALIGNED_FRAMES frames of joints as SpineBase sees
    them, then, where there are any, the distance of the learned part to the nearest of `cohort_KE`, the mean ones of
    trained actions. Learned part: with `joints` the last block's features averaged over each quarter of the time,
    for each joint; with `pooled` the paper's f_out, or, of an encoder that was trained by SupCon, the embedding of its
    head. `mean_C` and `projection` (C, channels) make those of
    training clips zero-mean, and with `joints` uncorrelated and of like variance, so that the cosine
    compares what differs between actions. `features`: the last block's mean over time and joints, raised so that none
    can be negative, for the distribution classifier.
    """

    mean_C: Tensor
    projection: Tensor
    cohort_KE: Tensor

    def __init__(self, branch: SkeletonBranch, embedding: Embedding) -> None:
        super().__init__()
        self.branch = branch
        self.embedding = embedding
        self.by_head = embedding == "pooled" and branch.encoder.embedding_size > 0
        channels = branch.encoder.embedding_size if self.by_head else branch.encoder.num_features
        self.register_buffer("mean_C", torch.zeros(channels))
        self.register_buffer("projection", torch.zeros(channels, 0) if self.by_head else torch.eye(channels))
        self.register_buffer("cohort_KE", torch.zeros(0, 0))

    @property
    def num_parameters(self) -> int:
        """Count what inference uses; the latent, the classifier and what another embedding would need is not."""
        used = sum(p.numel() for name, p in self.named_parameters() if self.is_used(name))
        return used + self.projection.numel() + self.cohort_KE.numel()

    def is_used(self, name: str) -> bool:
        """Say whether inference uses a parameter or buffer of that name."""
        layers = [layer for layer in self.branch.encoder.classifier_layers if not (self.by_head and layer == "head")]
        dropped = ["place", *(f"encoder.{layer}" for layer in layers)]
        if self.embedding == "joints":
            dropped.append("project")
        return not f"{name}.".startswith(tuple(f"branch.{part}." for part in dropped))

    def places(self, features_NCTV: Tensor) -> Tensor:
        """Return (N, places, C): one place for `pooled`, quarter x joint for `joints`."""
        if self.by_head:
            return self.branch.encoder.classify(self.branch.to_classify(features_NCTV))[0][:, None]
        if self.embedding == "pooled":
            return self.branch.pool(features_NCTV)[:, None]
        return quarters(features_NCTV)

    def forward(self, windows_NTVC: Tensor) -> tuple[Tensor, Tensor]:
        features_NCTV, _ = self.branch.features(windows_NTVC[:, None])
        projected = self.places(features_NCTV) - self.mean_C
        if self.projection.numel():
            projected = projected @ self.projection
        learned = nn.functional.normalize(projected.flatten(1), dim=1)
        parts = [learned, self.aligned_joints(windows_NTVC)]
        if len(self.cohort_KE):
            parts.append(self.cohort_distance(learned @ self.cohort_KE.T))
        return torch.cat(parts, dim=1), features_NCTV.mean(dim=(2, 3)) - self.branch.encoder.lowest_feature

    @staticmethod
    def cohort_distance(cosines_NK: Tensor) -> Tensor:
        """Return the distance (N, 1) to the nearest of the cohort, from the cosines with all of them."""
        nearest_NK, _ = cosines_NK.topk(max(1, round(_COHORT_SHARE * cosines_NK.shape[1])), dim=1)
        return 1 - nearest_NK.mean(dim=1, keepdim=True)

    @staticmethod
    def aligned_joints(windows_NTVC: Tensor) -> Tensor:
        """Return the joints of ALIGNED_FRAMES frames as SpineBase sees them, (N, ALIGNED_FRAMES * V * C)."""
        n, t, v, c = windows_NTVC.shape
        frames = (windows_NTVC - windows_NTVC[:, :, :1]).reshape(n, ALIGNED_FRAMES, t // ALIGNED_FRAMES, v * c)
        return frames.mean(dim=2).flatten(1)


@torch.inference_mode()
def embed(branch: nn.Module, windows_NTVC: Array, batch: int = 64) -> tuple[Array, Array]:
    """Run a frozen or folded branch over many windows, returning embeddings (N, E) and features (N, D), float32."""
    parts = [branch(torch.from_numpy(windows_NTVC[i : i + batch])) for i in range(0, len(windows_NTVC), batch)]
    embeddings, features = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return np.asarray(embeddings, np.float32), np.asarray(features, np.float32)
