"""A training set -> the batches of an epoch.

Shapes: N windows of a batch, M persons, T frames, V = 25, C = 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.data import TrainingSet, augmented_windows, sampling_order, with_twins
from training.run.config import TrainConfig


class Batch(NamedTuple):
    """Hold windows (N, M, T, V, C), float32, also undistorted, the numbers of their classes, and which twin each is."""

    x_NMTVC: Tensor
    undistorted_NMTVC: Tensor
    labels_N: Tensor
    twins_N: Tensor


def batches(data: TrainingSet, config: TrainConfig, epoch: int, rank: int = 0, num_ranks: int = 1) -> Iterator[Batch]:
    """Yield an epoch's batches, the same for the same seed and epoch; of `num_ranks` processes, each its share.

    The last batch is cut to a multiple of `num_ranks`, so that all weigh the same; one of fewer than two
    windows a process is left out: batch normalization needs two.
    """
    order = sampling_order(data.labels, config.balance, np.random.default_rng((config.seed, epoch)))
    rng = np.random.default_rng((config.seed, epoch, rank))
    for start in range(0, len(order), config.batch):
        chosen = order[start : start + config.batch]
        chosen = chosen[rank : len(chosen) // num_ranks * num_ranks : num_ranks]
        if len(chosen) < 2:
            continue
        clips = [data.clips[i] for i in chosen]
        views = augmented_windows(clips, config.num_frames, config.augmentation, rng, config.num_persons)
        both, twins = with_twins(np.concatenate(views, axis=1), config.augmentation, rng)
        x_NMTVC, undistorted_NMTVC = torch.from_numpy(both).split(config.num_persons, dim=1)
        yield Batch(x_NMTVC, undistorted_NMTVC, torch.from_numpy(data.labels[chosen]), torch.from_numpy(twins))
