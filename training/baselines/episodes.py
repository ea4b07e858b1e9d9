"""Episodes: batches of a few windows of each of some classes, one of which stands for its class.

Shapes: N windows of a batch, K classes, Q queries.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from streams.arrays import Indices


def class_batch(labels: Indices, num_classes: int, per_class: int, rng: np.random.Generator) -> Indices:
    """Draw so many clips of each of so many classes, those of a class together; a small class repeats its clips."""
    present = np.unique(labels)
    chosen = rng.choice(present, min(num_classes, len(present)), replace=False)
    drawn = []
    for label in chosen.tolist():
        clips = np.flatnonzero(labels == label)
        drawn.append(rng.choice(clips, per_class, replace=len(clips) < per_class))
    return np.concatenate(drawn)


def split_episode(labels_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first window of each class (K,), the other windows (Q,), and which of the K each other is of."""
    classes, number_N = labels_N.unique(return_inverse=True)
    positions_N = torch.arange(len(labels_N), device=labels_N.device)
    first_K = torch.full_like(classes, len(labels_N)).scatter_reduce(0, number_N, positions_N, "amin")
    is_query_N = torch.ones_like(labels_N, dtype=torch.bool)
    is_query_N[first_K] = False
    return first_K, positions_N[is_query_N], number_N[is_query_N]
