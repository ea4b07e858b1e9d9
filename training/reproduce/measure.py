"""A finished run -> how many of the novel actions' clips it names rightly, in three ways; and DTW, without any run.

Shapes: N clips, W windows, M persons, B persons of windows, P persons of a clip, D draws, T frames, C features, E
values of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edge.model import base_statistics
from edge.motion import dtw_distances, fill_missing
from streams.arrays import Array, Indices
from training.data import Persons, TrainingSet
from training.evaluate import (
    ClipSet,
    Draw,
    balanced_accuracy,
    clip_distances,
    dtw_features,
    name_by_distribution,
    name_queries,
    plain_accuracy,
)
from training.model import NUM_QUARTERS, SkeletonBranch, quarters, whitening
from training.run import TrainConfig, whole_windows

# The paper's distribution classifier; the nearest by the cosine of the features' mean; the nearest by the device's.
METHODS = ("calibrated", "pooled", "cosine")
# So many clips of a class tell its mean and covariance, as in a bundle.
CLIPS_OF_A_CLASS = 30
_BATCH = 32

Report = Callable[[int, int], None]


class Accuracies(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the accuracy of each draw, 0 to 1: the mean over the classes, and over all queries."""

    balanced: tuple[float, ...]
    plain: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Novel:
    """Hold what every run is measured on; `calibrated_draws` are the first of `draws`."""

    clips: ClipSet
    draws: Sequence[Draw]
    num_calibrated: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Features:
    """Hold what a branch makes of windows: the mean over time and joints, not negative, and `pooled_features`."""

    mean_BC: Array
    pooled_BC: Array


def measure(
    branch: SkeletonBranch,
    config: TrainConfig,
    base: TrainingSet,
    novel: Novel,
    report: Report = lambda done, total: None,
) -> dict[str, Accuracies]:
    """Return the accuracies by each of METHODS; "cosine" is left out where the window cannot be quartered."""
    known, labels_N = _some_of_each(base)
    has_quarters = branch.encoder.config.frames_after(config.num_frames) % NUM_QUARTERS == 0
    total = len(known) + len(novel.clips) + novel.num_calibrated
    tell = partial(_tell, report, total)
    seen, sums = [], _Sums()
    for features, x_BCTV in _run(branch, config, known, tell(0), base.has_scores):
        seen.append(features)
        if has_quarters:
            sums.add(quarters(x_BCTV))
    known_features = _joined(seen)
    projection = sums.projection() if has_quarters else None
    clips, persons_NP = _clips_of(novel.clips, config)
    seen, learned = [], []
    for features, x_BCTV in _run(branch, config, clips, tell(len(known)), base.has_scores):
        seen.append(features)
        if projection is not None:
            learned.append(projection(x_BCTV))
    found = _joined(seen)
    known_NC = known_features.mean_BC[_rows(known, config)].mean(axis=1)
    statistics = base_statistics(known_NC, labels_N, base.classes, encoder_sha256="")
    # A clip's features are the mean over its persons, as InfoGCN has it.
    named = name_by_distribution(
        replace(novel.clips, persons=persons_NP), novel.draws[: novel.num_calibrated], found.mean_BC, statistics,
        tell(total - novel.num_calibrated),
    )  # fmt: skip
    pooled_NC = found.pooled_BC[persons_NP].mean(axis=1)
    if config.classifier != "supcon":
        # Features that are not negative are all alike until their mean is taken off; an embedding is trained as it is.
        pooled_NC -= known_features.pooled_BC.mean(axis=0)
    alone_N1 = np.arange(len(pooled_NC))[:, None]
    accuracies = {
        "calibrated": _accuracies(novel, named),
        "pooled": _nearest(novel, _unit(pooled_NC), alone_N1, _one_minus_cosine),
    }
    if learned:
        accuracies["cosine"] = _nearest(novel, np.concatenate(learned), persons_NP, _one_minus_cosine)
    return accuracies


def measure_dtw(novel: Novel) -> Accuracies:
    """Return the accuracies of the nearest example by dynamic time warping of the joints."""
    return _nearest(novel, dtw_features(novel.clips), novel.clips.persons, dtw_distances)


def num_parameters(branch: SkeletonBranch) -> int:
    """Count the skeleton branch with its classifier, as the paper does; the head of the embedding is ours."""
    return sum(p.numel() for name, p in branch.named_parameters() if not name.startswith("place."))


class _Sums:
    """Gather the mean and the covariance of places, and make of them the projection that the device's cosine uses."""

    def __init__(self) -> None:
        self.count = 0
        self.total_C: Tensor | float = 0.0
        self.products_CC: Tensor | float = 0.0

    def add(self, places_BKC: Tensor) -> None:
        places = places_BKC.flatten(0, 1).double()
        self.count += len(places)
        self.total_C = self.total_C + places.sum(dim=0)
        self.products_CC = self.products_CC + places.T @ places

    def projection(self) -> Callable[[Tensor], Array]:
        assert isinstance(self.total_C, Tensor)
        mean_C = self.total_C / self.count
        whitening_CE = whitening(self.products_CC / self.count - torch.outer(mean_C, mean_C)).float()
        mean_C = mean_C.float()

        def project(x_BCTV: Tensor) -> Array:
            learned_BE = ((quarters(x_BCTV) - mean_C) @ whitening_CE).flatten(1)
            return np.asarray(nn.functional.normalize(learned_BE, dim=1).numpy(), np.float32)

        return project


@torch.inference_mode()
def _run(
    branch: SkeletonBranch, config: TrainConfig, clips: Sequence[Persons], report: Report, has_scores: bool
) -> Iterator[tuple[_Features, Tensor]]:
    """Yield the features of some windows, and what they are the mean of, (B, C, T, V)."""
    for start in range(0, len(clips), _BATCH):
        batch = clips[start : start + _BATCH]
        x_BCTV, _ = branch.features(torch.from_numpy(whole_windows(batch, config, has_scores=has_scores)))
        mean_BC = x_BCTV.mean(dim=(2, 3)) - branch.encoder.lowest_feature
        pooled_BC = pooled_features(branch, config, x_BCTV) if config.classifier != "cosine" else mean_BC
        yield _Features(mean_BC=mean_BC.numpy(), pooled_BC=pooled_BC.numpy()), x_BCTV
        report(start + len(batch), len(clips))


def pooled_features(branch: SkeletonBranch, config: TrainConfig, x_BCTV: Tensor) -> Tensor:
    """Return f_out, (B, C); of an encoder trained by SupCon its head's embedding of a window, for each of its persons.

    Beside the cosine's classifier the projection learns nothing.
    """
    if not branch.encoder.embedding_size:
        return branch.pool(x_BCTV)
    together_NC = branch.to_classify(x_BCTV).unflatten(0, (-1, config.num_persons)).mean(dim=1)
    return branch.encoder.classify(together_NC)[0].repeat_interleave(config.num_persons, dim=0)


def _joined(parts: Sequence[_Features]) -> _Features:
    return _Features(
        mean_BC=np.concatenate([part.mean_BC for part in parts]),
        pooled_BC=np.concatenate([part.pooled_BC for part in parts]),
    )


def _some_of_each(base: TrainingSet) -> tuple[list[Persons], Indices]:
    """Return CLIPS_OF_A_CLASS clips of each class at most, drawn at random, and their labels."""
    order = np.random.default_rng(0).permutation(len(base))
    drawn = base.labels[order]
    chosen = np.concatenate([order[drawn == label][:CLIPS_OF_A_CLASS] for label in range(len(base.classes))])
    return [base.clips[i] for i in chosen], base.labels[chosen]


def _clips_of(clips: ClipSet, config: TrainConfig) -> tuple[list[Persons], Indices]:
    """Return what is run, and which persons of it are a clip's, shape (N, P).

    An encoder of one person sees each alone, one of two persons both at once.
    """
    filled = [fill_missing(movement) for movement in clips.movements]
    if config.num_persons == 1:
        return [(movement,) for movement in filled], clips.persons
    together = [tuple(filled[i] for i in dict.fromkeys(row.tolist())) for row in clips.persons]
    return together, _rows(together, config)


def _rows(clips: Sequence[Persons], config: TrainConfig) -> Indices:
    """Return the rows of each clip's persons, shape (W, M); in the place of one who is missing is the last again."""
    size = config.num_persons
    return np.array([[n * size + min(m, len(own) - 1) for m in range(size)] for n, own in enumerate(clips)], np.int64)


def _nearest(novel: Novel, features: Array, persons: Indices, compare: Callable[[Array, Array], Array]) -> Accuracies:
    def between(exemplars: Indices, queries: Indices) -> Array:
        return clip_distances(features, persons[exemplars], persons[queries], compare)

    return _accuracies(novel, name_queries(novel.clips.labels, novel.draws, between))


def _accuracies(novel: Novel, named_DN: npt.NDArray[np.int32]) -> Accuracies:
    labels = novel.clips.labels
    draws = novel.draws[: len(named_DN)]
    pairs = [(labels[draw.queries], named_DN[d, draw.queries]) for d, draw in enumerate(draws)]
    return Accuracies(
        balanced=tuple(balanced_accuracy(*pair) for pair in pairs),
        plain=tuple(plain_accuracy(*pair) for pair in pairs),
    )


def _one_minus_cosine(a_NE: Array, b_ME: Array) -> Array:
    return np.asarray(1 - a_NE @ b_ME.T, np.float32)


def _unit(x_NC: Array) -> Array:
    return np.asarray(x_NC / np.maximum(np.linalg.norm(x_NC, axis=1, keepdims=True), 1e-12), np.float32)


def _tell(report: Report, total: int, before: int) -> Report:
    return lambda done, _: report(before + done, total)
