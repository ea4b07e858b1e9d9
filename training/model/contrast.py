"""Contrast with texts (ours, after GAP and PGFA): each joint's features name the sentence of their class at that joint.

Shapes: N windows, A classes, V joints, S = V + 1 sentences of a class, its joints' and the global one, C channels of
the features, P of a text's embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.model.crossglg import Guidance


class Speaker(nn.Module):
    """Map features to where texts are embedded: each joint's, and the mean over the joints; used in training only."""

    def __init__(self, channels: int, text_channels: int) -> None:
        super().__init__()
        self.joint, self.whole = nn.Linear(channels, text_channels), nn.Linear(channels, text_channels)

    def forward(self, joints_NVC: Tensor) -> Tensor:
        """Return what the features say, shape (N, S, P)."""
        return torch.cat([self.joint(joints_NVC), self.whole(joints_NVC.mean(dim=1, keepdim=True))], dim=1)


def sentences(guidance: Guidance) -> Tensor:
    """Return what the texts say of each class beside the others, shape (A, S, P), each of length 1.

    Sentences of a joint are alike whatever the class: their mean over the classes is taken off. What is left of those
    that all classes share is rounding, and stays near 0.
    """
    all_ASP = torch.cat([guidance.texts_AVC, guidance.global_AC[:, None]], dim=1)
    return nn.functional.normalize(all_ASP - all_ASP.mean(dim=0), dim=2, eps=1e-3)


def contrast_loss(spoken_NSP: Tensor, sentences_ASP: Tensor, labels_N: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy between classes as the features name them and as their texts resemble each other.

    Soft, since many joints rest in many actions, and their sentences say so in nearly the same words. The mean over
    windows and sentences; 0 without a window.
    """
    logits_NSA = torch.einsum("nsp,asp->nsa", nn.functional.normalize(spoken_NSP.float(), dim=2), sentences_ASP)
    alike_NSA = torch.einsum("nsp,asp->nsa", sentences_ASP[labels_N], sentences_ASP)
    target_NSA = (alike_NSA / temperature).softmax(dim=2)
    each_NS = -(target_NSA * (logits_NSA / temperature).log_softmax(dim=2)).sum(dim=2)
    return each_NS.sum() / max(each_NS.numel(), 1)
