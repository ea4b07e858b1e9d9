"""A training set -> the batches of an epoch.

Shapes: N windows of a batch, M persons, T frames, V = 25, C = 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streams.arrays import Array
from training.data import (
    Augmentation,
    Persons,
    TrainingSet,
    augmented_windows,
    authors_windows,
    paired_order,
    sampling_order,
    turned_at_random,
    with_twins,
)
from training.run.config import TrainConfig

_WHOLE = Augmentation(min_crop=1.0, max_turn_rad=0.0, axis_scale=0.0, joint_noise=0.0, joint_drop=0.0)


class Batch(NamedTuple):
    """Hold windows (N, M, T, V, C), float32, also undistorted, the numbers of their classes, and which twin each is."""

    x_NMTVC: Tensor
    undistorted_NMTVC: Tensor
    labels_N: Tensor
    twins_N: Tensor


def batches(data: TrainingSet, config: TrainConfig, epoch: int, rank: int = 0, num_ranks: int = 1) -> Iterator[Batch]:
    """Yield an epoch's batches, the same for the same seed and epoch; of `num_ranks` processes, each its share.

    The last batch is cut to a multiple of `num_ranks`, so that all weigh the same; one of fewer than two
    windows a process is left out: batch normalization needs two. So is one that is not whole with `drop_last`.
    """
    order, size = _order(data, config, np.random.default_rng((config.seed, epoch)))
    rng = np.random.default_rng((config.seed, epoch, rank))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        if config.drop_last and start and len(chosen) < size:
            continue
        chosen = chosen[rank : len(chosen) // num_ranks * num_ranks : num_ranks]
        if len(chosen) < 2:
            continue
        clips = [data.clips[i] for i in chosen]
        views = _views(clips, config, rng, has_scores=data.has_scores)
        both, twins = with_twins(np.concatenate(views, axis=1), config.augmentation, rng)
        x_NMTVC, undistorted_NMTVC = torch.from_numpy(both).split(config.num_persons, dim=1)
        yield Batch(x_NMTVC, undistorted_NMTVC, torch.from_numpy(data.labels[chosen]), torch.from_numpy(twins))


def _order(data: TrainingSet, config: TrainConfig, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], int]:
    """Return an epoch's clip numbers, and how many of them are a batch."""
    if config.classifier != "supcon":
        return sampling_order(data.labels, config.balance, rng), config.batch
    order = paired_order(data.labels, config.batch, config.samples_per_class, rng)
    return order, len(order) // max(1, len(data) // config.batch)


def _views(
    clips: Sequence[Persons], config: TrainConfig, rng: np.random.Generator, *, has_scores: bool
) -> tuple[Array, Array]:
    """Return one random view of each clip, (B, M, T, 25, 3), and the same before it was distorted."""
    augmentation = config.augmentation
    if config.windows == "device":
        return augmented_windows(clips, config.num_frames, augmentation, rng, config.num_persons)
    windows = authors_windows(
        clips,
        config.num_frames,
        config.num_persons,
        second=config.second_person,
        rng=rng,
        min_crop=augmentation.min_crop,
        min_crop_frames=augmentation.min_crop_frames,
        has_scores=has_scores,
    )
    return turned_at_random(windows, augmentation.max_turn_rad, rng, has_scores=has_scores), windows


def whole_windows(clips: Sequence[Persons], config: TrainConfig, *, has_scores: bool = False) -> Array:
    """Return a run's window of each clip as a test has it, shape (B, M, T, 25, 3), float32: nothing is random.

    A person who is missing is as in training. `has_scores`: z is a joint's score.
    """
    if config.windows == "authors":
        return authors_windows(
            clips, config.num_frames, config.num_persons, second=config.second_person, has_scores=has_scores
        )
    nothing = np.random.default_rng(0)
    return augmented_windows(clips, config.num_frames, _WHOLE, nothing, config.num_persons)[1]
