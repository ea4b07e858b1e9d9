"""Comparing by parts of the body: after ALCA-GCN and after APSR, as far as their texts say how.

Neither has public code. After ALCA-GCN (Zhu et al., WACV 2023): a sum of similarities of aligned local embeddings,
weighed by what the exemplar shows to matter. Open, and ours: the encoder, six parts by four segments, one linear layer
for all local embeddings and one for their weights, cross-entropy over episodes.

After APSR (Liu et al., TPAMI 2019): the parts' features count by how near the part's name is to the action's, as word
embeddings. Open, and ours: the encoder in the place of a 2D spatio-temporal LSTM, GAP's four parts, the text
encoder, a softmax of the cosines, cross-entropy over episodes.

Shapes: N windows, A, B windows that are compared, C channels, L local embeddings, P parts, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.baselines.body import GAP_PARTS, LIMBS, encode, pool_parts, pool_segments
from training.baselines.episodes import split_episode
from training.model import SkeletonEncoder

_CHANNELS, _NUM_SEGMENTS, _FIRST_SCALE = 64, 4, 10.0
# The softmax of cosines of 0.1 to 0.5 would be flat without it.
_TEMPERATURE = 0.1
PART_NAMES = tuple(GAP_PARTS)


class LocalComponents(nn.Module):
    """Compare windows by 24 local embeddings, weighed by the exemplar."""

    def __init__(self, encoder: SkeletonEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.training_only = _dropped(encoder)
        self.local = nn.Linear(encoder.num_features, _CHANNELS)
        self.weight = nn.Linear(_CHANNELS, 1)
        self.scale = nn.Parameter(torch.tensor(_FIRST_SCALE))

    def encode(self, x_NTVC: Tensor) -> Tensor:
        """Return the last block's features, shape (N, C, T, V)."""
        return encode(self.encoder, x_NTVC)

    def loss(self, features_NCTV: Tensor, labels_N: Tensor) -> Tensor:
        """Return the cross-entropy of an episode: the first window of each class is its exemplar."""
        exemplars, queries, targets_Q = split_episode(labels_N)
        embedded = self.embed(features_NCTV)
        logits_QK = -self.scale * self.distances(embedded[exemplars], embedded[queries]).T
        return nn.functional.cross_entropy(logits_QK, targets_Q)

    def embed(self, features_NCTV: Tensor) -> Tensor:
        """Return the local embeddings, each of length 1, and last what each weighs: (N, L, C + 1)."""
        local_NLC = self.local(pool_segments(features_NCTV, LIMBS, _NUM_SEGMENTS))
        weight_NL1 = self.weight(local_NLC).softmax(dim=1)
        return torch.cat((nn.functional.normalize(local_NLC, dim=2), weight_NL1), dim=2)

    def distances(self, a_ALC: Tensor, b_BLC: Tensor) -> Tensor:
        """Return 1 - the weighed sum of cosines, by the weights of the first, shape (A, B)."""
        weighed = a_ALC[..., :-1] * a_ALC[..., -1:]
        return 1 - weighed.flatten(1) @ b_BLC[..., :-1].flatten(1).T


class PartRelevance(nn.Module):
    """Compare windows by four parts, weighed by how near each is to the name of the exemplar's action.

    `relevance_KP`: of the base classes, as `part_relevance` has it.
    """

    relevance_KP: Tensor

    def __init__(self, encoder: SkeletonEncoder, relevance_KP: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.training_only = _dropped(encoder)
        self.part = nn.Linear(encoder.num_features, _CHANNELS)
        self.scale = nn.Parameter(torch.tensor(_FIRST_SCALE))
        self.register_buffer("relevance_KP", relevance_KP, persistent=False)

    def encode(self, x_NTVC: Tensor) -> Tensor:
        """Return the last block's features, shape (N, C, T, V)."""
        return encode(self.encoder, x_NTVC)

    def loss(self, features_NCTV: Tensor, labels_N: Tensor) -> Tensor:
        """Return the cross-entropy of an episode; a query's own name is not read."""
        exemplars, queries, targets_Q = split_episode(labels_N)
        embedded = self.embed(features_NCTV)
        enrolled = self.weigh(embedded[exemplars], self.relevance_KP[labels_N[exemplars]])
        logits_QK = -self.scale * self.distances(enrolled, embedded[queries]).T
        return nn.functional.cross_entropy(logits_QK, targets_Q)

    def embed(self, features_NCTV: Tensor) -> Tensor:
        """Return the parts' embeddings, and last an equal weight for each: (N, P, C + 1)."""
        parts_NPC = self.part(pool_parts(features_NCTV, list(GAP_PARTS.values())))
        equal_NP = parts_NPC.new_full(parts_NPC.shape[:2], 1 / parts_NPC.shape[1])
        return self.weigh(torch.cat((parts_NPC, equal_NP[..., None]), dim=2), equal_NP)

    def weigh(self, embedded_NPC: Tensor, relevance_NP: Tensor) -> Tensor:
        """Return exemplars' embeddings with the weights of their actions' names."""
        return torch.cat((embedded_NPC[..., :-1], relevance_NP[..., None]), dim=2)

    def distances(self, a_APC: Tensor, b_BPC: Tensor) -> Tensor:
        """Return 1 - the cosine of both windows' weighed parts, by the weights of the first, shape (A, B)."""
        weights_AP = a_APC[..., -1]
        first_AC = nn.functional.normalize((a_APC[..., :-1] * weights_AP[..., None]).sum(dim=1), dim=1)
        # |sum of weighed parts|, by the products of the parts: a row for each pair would be too large.
        products_BPP = b_BPC[..., :-1] @ b_BPC[..., :-1].transpose(1, 2)
        squares_AB = torch.einsum("ap,bpq,aq->ab", weights_AP, products_BPP, weights_AP)
        across_ABP = torch.einsum("ac,bpc->abp", first_AC, b_BPC[..., :-1])
        dots_AB = (across_ABP * weights_AP[:, None]).sum(dim=2)
        return 1 - dots_AB / squares_AB.clamp(min=1e-12).sqrt()


def part_relevance(actions_KE: Tensor, parts_PE: Tensor) -> Tensor:
    """Return how much each part matters to each action, the softmax of the cosines of their names, shape (K, P)."""
    cosines = nn.functional.normalize(actions_KE, dim=1) @ nn.functional.normalize(parts_PE, dim=1).T
    return (cosines / _TEMPERATURE).softmax(dim=1)


def _dropped(encoder: SkeletonEncoder) -> tuple[str, ...]:
    """Return what a device would not have: the encoder's own classifier, never used, and what makes logits."""
    return ("scale", *(f"encoder.{name}" for name in encoder.classifier_layers))
