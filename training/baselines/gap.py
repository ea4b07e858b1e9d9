"""GAP (Xiang et al., ICCV 2023): features of body parts are drawn to what a language model says of these parts.

Source: MartinXM/GAP. The text tower is frozen here, and trained there. All of it but the encoder is dropped after
training. Without texts it is the plain encoder, trained alike.

Shapes: N windows, C channels of features, E channels of a text, A classes, P = 5 texts of a class, W wordings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.baselines.body import GAP_PARTS, encode, pool_parts
from training.model import SkeletonEncoder
from training.run import TrainConfig, infogcn_loss

LAMBDA = 0.8
# What the target's same-class pairs weigh before the softmax, and the logits' factor at first.
_SHARPNESS, _FIRST_SCALE = 10.0, 2.6593


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassTexts:
    """Hold the texts of each class, embedded.

    `names_AWE`: the wordings of its name, of which `num_names_A` are filled; one is drawn for each window.
    `parts_APE`: a text for each of GAP_PARTS.
    """

    names_AWE: Tensor
    num_names_A: Tensor
    parts_APE: Tensor


class GAP(nn.Module):
    """An encoder with its classifier; with texts, also five linear heads and five learned factors."""

    training_only: tuple[str, ...] = ("whole", "parts", "scales")
    names_AWE: Tensor
    num_names_A: Tensor
    parts_APE: Tensor

    def __init__(self, encoder: SkeletonEncoder, texts: ClassTexts | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.has_texts = texts is not None
        if texts is not None:
            channels = texts.parts_APE.shape[2]
            self.whole = nn.Linear(encoder.num_features, channels)
            nn.init.kaiming_normal_(self.whole.weight, mode="fan_out")
            nn.init.zeros_(self.whole.bias)
            self.parts = nn.ModuleList(nn.Linear(encoder.num_features, channels) for _ in GAP_PARTS)
            self.scales = nn.Parameter(torch.full((1 + len(GAP_PARTS),), _FIRST_SCALE))
            for name in ("names_AWE", "num_names_A", "parts_APE"):
                self.register_buffer(name, getattr(texts, name), persistent=False)

    def encode(self, x_NTVC: Tensor) -> Tensor:
        """Return the last block's features, shape (N, C, T, V)."""
        return encode(self.encoder, x_NTVC)

    def loss(self, features_NCTV: Tensor, labels_N: Tensor) -> Tensor:
        """Return the encoder's own class loss + 0.8 * the mean contrast with the five texts."""
        pooled_NC = features_NCTV.mean(dim=(2, 3))
        logits_NA, z_ND = self.encoder.classify(pooled_NC)
        if z_ND is None or self.encoder.z_prior is None:
            loss = nn.functional.cross_entropy(logits_NA, labels_N)
        else:
            loss = infogcn_loss(logits_NA, z_ND, labels_N, self.encoder.z_prior, TrainConfig())
        if not self.has_texts:
            return loss
        parts_NPC = pool_parts(features_NCTV, list(GAP_PARTS.values()))
        seen = [self.whole(pooled_NC), *(head(parts_NPC[:, i]) for i, head in enumerate(self.parts))]
        drawn_N = (torch.rand(len(labels_N), device=labels_N.device) * self.num_names_A[labels_N]).long()
        said = [self.names_AWE[labels_N, drawn_N], *self.parts_APE[labels_N].unbind(dim=1)]
        contrasts = [contrast(a, b, scale, labels_N) for a, b, scale in zip(seen, said, self.scales, strict=True)]
        return loss + LAMBDA * torch.stack(contrasts).mean()

    def embed(self, features_NCTV: Tensor) -> Tensor:
        """Return the features' mean over time and joints, of length 1, shape (N, C)."""
        return nn.functional.normalize(features_NCTV.mean(dim=(2, 3)), dim=1)

    def distances(self, a_AC: Tensor, b_BC: Tensor) -> Tensor:
        """Return 1 - cosine, shape (A, B)."""
        return 1 - a_AC @ b_BC.T


def contrast(seen_NE: Tensor, said_NE: Tensor, scale: Tensor, labels_N: Tensor) -> Tensor:
    """Return half of KL(windows -> texts) + KL(texts -> windows) within a batch.

    Logits are cosines times `scale`, which is not exponentiated. All windows of a class share a target: the softmax
    of 10 where the classes are the same. The divergence is the mean over all pairs times the windows: that of a window.
    """
    logits_NN = scale * nn.functional.normalize(seen_NE, dim=1) @ nn.functional.normalize(said_NE, dim=1).T
    target_NN = (_SHARPNESS * (labels_N[:, None] == labels_N).float()).softmax(dim=1)
    ways = (logits_NN.log_softmax(dim=1), logits_NN.T.log_softmax(dim=1))
    return torch.stack([nn.functional.kl_div(way, target_NN, reduction="batchmean") for way in ways]).mean()
