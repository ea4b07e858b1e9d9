"""Uncertainty-DTW (Wang and Koniusz, ECCV 2022): an alignment that trusts some frames less, learned in episodes.

The distance is as in the authors' code (LeiWangR/uDTW); its gradient is autograd's, which is exact. Public besides
the distance is only the paper's text, so what is open is ours: blocks of 8 frames every 4, an MLP with two hidden
layers for each, cross-entropy over episodes, and which of the two parts ranks.

Shapes: N pairs, A, B sequences, T, S blocks of the two of a pair, C channels, F frames of a window, K classes of an
episode, Q queries.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.baselines.episodes import split_episode

GAMMA, BETA = 0.01, 1.0
# sigma is _SCALE * sigmoid + _LEAST: 0.5 to 2.
_SCALE, _LEAST = 1.5, 0.5
# Stands for infinity: a path that leaves the grid costs so much.
_FAR = 1e10
_BLOCK, _STRIDE = 8, 4
_MAX_PAIRS = 1_000


def udtw(
    x_NTC: Tensor, y_NSC: Tensor, sigma_x_NT: Tensor, sigma_y_NS: Tensor, *, gamma: float = GAMMA, beta: float = BETA
) -> tuple[Tensor, Tensor]:
    """Return the distance D and the penalty O of uncertainty along the softly shortest paths, both (N,).

    A cell costs |x - y|^2 / (C (sigma_x^2 + sigma_y^2)), and beta / 2 * ln(sigma_x^2 + sigma_y^2) as penalty. The
    soft minimum is the expectation over the three cells before, by exp(-cost / gamma); the penalty goes with it.
    """
    variance_NTS = sigma_x_NT.square()[:, :, None] + sigma_y_NS.square()[:, None, :]
    # Not by torch.cdist, whose gradient at zero distance is none.
    squares = x_NTC.square().sum(2)[:, :, None] + y_NSC.square().sum(2)[:, None, :] - 2 * x_NTC @ y_NSC.transpose(1, 2)
    cost = squares.clamp(min=0) / (x_NTC.shape[2] * variance_NTS)
    costs_KNT = _diagonals(cost, _FAR)
    penalties_KNT = _diagonals(0.5 * beta * variance_NTS.log(), 0.0)
    before, last = None, (costs_KNT[0], penalties_KNT[0])
    for cost_NT, penalty_NT in zip(costs_KNT[1:], penalties_KNT[1:], strict=True):
        far, none = torch.full_like(cost_NT, _FAR), torch.zeros_like(penalty_NT)
        diagonal = before if before is not None else (far, none)
        ways_3NT = torch.stack((_down(diagonal[0], _FAR), _down(last[0], _FAR), last[0]))
        carried_3NT = torch.stack((_down(diagonal[1], 0.0), _down(last[1], 0.0), last[1]))
        shares_3NT = (-ways_3NT / gamma).softmax(dim=0)
        now = (cost_NT + (shares_3NT * ways_3NT).sum(0), penalty_NT + (shares_3NT * carried_3NT).sum(0))
        before, last = last, now
    return last[0][:, -1], last[1][:, -1]


def _diagonals(cells_NTS: Tensor, outside: float) -> Tensor:
    """Return the cells by i + j, shape (T + S - 1, N, T): row k holds cell (i, k - i) at i."""
    n, t, s = cells_NTS.shape
    # A row of T more cells, read as one fewer: each row then begins one further on than the one above.
    padded = nn.functional.pad(cells_NTS, (0, t), value=outside).reshape(n, t * (s + t))[:, : t * (s + t - 1)]
    return padded.view(n, t, s + t - 1).permute(2, 0, 1)


def _down(row_NT: Tensor, outside: float) -> Tensor:
    """Return what is one row up of each cell."""
    return nn.functional.pad(row_NT[:, :-1], (1, 0), value=outside)


class SigmaNet(nn.Module):
    """Say how uncertain each frame is, 0.5 to 2: a 2-layer MLP, the mean over its channels, a sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels))

    def forward(self, x_NTC: Tensor) -> Tensor:
        """Return sigma, shape (N, T)."""
        sigma: Tensor = _SCALE * self.layers(x_NTC).mean(dim=2).sigmoid() + _LEAST
        return sigma


class UncertaintyDTW(nn.Module):
    """Match windows (N, F, 25, 3) by uDTW between temporal blocks, each encoded by an MLP."""

    training_only: tuple[str, ...] = ()

    def __init__(self, channels: int = 128, hidden: int = 256) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            nn.Linear(_BLOCK * 75, hidden), nn.LayerNorm(hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, channels),
        )  # fmt: skip
        self.sigma = SigmaNet(channels)

    def encode(self, x_NFVC: Tensor) -> Tensor:
        """Return the blocks' channels and, last, their sigma: (N, T, C + 1)."""
        encoded_NTC = self.blocks(x_NFVC.flatten(2).unfold(1, _BLOCK, _STRIDE).transpose(2, 3).flatten(2))
        return torch.cat((encoded_NTC, self.sigma(encoded_NTC)[..., None]), dim=2).float()

    def loss(self, encoded_NTC: Tensor, labels_N: Tensor) -> Tensor:
        """Return an episode's cross-entropy by D, with the penalty O, a cell, of queries with their own exemplars.

        The first window of each class is its exemplar. O keeps the sigma from growing where windows differ; it does
        not say who is near: between unlike windows the soft paths are shorter, and O smaller.
        """
        exemplars, queries, targets_Q = split_episode(labels_N)
        first_KTC, other_QTC = encoded_NTC[exemplars], encoded_NTC[queries]
        penalty_Q = _udtw(first_KTC[targets_Q], other_QTC)[1]
        entropy = nn.functional.cross_entropy(-self.distances(first_KTC, other_QTC).T, targets_Q)
        return entropy + penalty_Q.mean() / encoded_NTC.shape[1] ** 2

    def embed(self, encoded_NTC: Tensor) -> Tensor:
        """Return what is compared: the same."""
        return encoded_NTC

    def distances(self, a_ATC: Tensor, b_BTC: Tensor) -> Tensor:
        """Return D of each pair, less half of those of each sequence with itself, shape (A, B)."""
        own_A, own_B = _udtw(a_ATC, a_ATC)[0], _udtw(b_BTC, b_BTC)[0]
        rows = torch.arange(len(a_ATC) * len(b_BTC), device=a_ATC.device)
        # A few pairs at once stay in the processor's cache.
        parts = [_udtw(a_ATC[part // len(b_BTC)], b_BTC[part % len(b_BTC)])[0] for part in rows.split(_MAX_PAIRS)]
        return torch.cat(parts).view(len(a_ATC), len(b_BTC)) - (own_A[:, None] + own_B[None, :]) / 2


def _udtw(x_NTC: Tensor, y_NTC: Tensor) -> tuple[Tensor, Tensor]:
    """Return D and O, both (N,), of sequences whose last channel is sigma."""
    return udtw(x_NTC[..., :-1], y_NTC[..., :-1], x_NTC[..., -1], y_NTC[..., -1])
