"""Draws of one-shot recognition and what they give: exemplars and queries, accuracies, intervals. Pure.

Shapes: N clips, P persons of a clip, W windows (one a person), K exemplars of one draw, E exemplars of
all draws, Q queries.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.arrays import Array, Indices
from streams.errors import ArchiveError

Distances = Callable[[Array, Array], Array]

_BLOCK_PAIRS = 250_000
_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """Hold the clip numbers of one draw: `exemplars`, shape (K,), one or more a class; `queries`, shape (Q,)."""

    exemplars: Indices
    queries: Indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Hold an accuracy, 0 to 1, and its 95 % interval by bootstrap over the draws."""

    accuracy: float
    ci95: tuple[float, float]


def leave_out_draws(
    labels: Indices, subjects: Indices, num_draws: int, num_exemplars: int = 1
) -> tuple[list[Draw], list[str]]:
    """Draw one subject's exemplars and the clips of the others, and say where that was not possible.

    `num_exemplars` of each class, or as many as the subject has; the first is the same however many are drawn. The
    subject is drawn among those that have at least 70 % of the classes; classes it lacks are
    left out of that draw. With fewer than two known subjects, the exemplars are drawn among all
    clips, and every other clip is a query.
    """
    known = np.unique(subjects[subjects >= 0])
    classes = np.unique(labels)
    notes = []
    if len(known) < 2:
        notes.append("fewer than two known subjects: exemplars and queries may be of the same person")
        return [_draw_of_all(labels, classes, d, num_exemplars) for d in range(num_draws)], notes
    num_classes = np.array([len(np.unique(labels[subjects == subject])) for subject in known])
    enrolling = known[10 * num_classes >= 7 * len(classes)]
    if not len(enrolling):
        enrolling = known[num_classes == num_classes.max()]
        notes.append(
            f"no subject has 70 % of the {len(classes)} classes: exemplars are of the "
            f"{len(enrolling)} with most of them, {num_classes.max()}"
        )
    if (subjects < 0).any():
        notes.append(f"left out: {(subjects < 0).sum()} clips whose subject is not known")
    draws = [_draw_of_one_subject(labels, subjects, classes, enrolling, d, num_exemplars) for d in range(num_draws)]
    return draws, notes


def protocol_draws(labels: Indices, subjects: Indices, num_draws: int, num_exemplars: int = 1) -> list[Draw]:
    """Draw exemplars of each class among all clips; queries are the clips of other people than its class's.

    Where an exemplar's subject is not known, every other clip of its class is a query.
    """
    draws = []
    for d in range(num_draws):
        exemplars = _some_each(labels, np.unique(labels), d, num_exemplars)
        is_same = np.isin(np.arange(len(labels)), exemplars)
        for exemplar in exemplars[subjects[exemplars] >= 0]:
            is_same |= (labels == labels[exemplar]) & (subjects == subjects[exemplar])
        draws.append(Draw(exemplars=exemplars, queries=np.flatnonzero(~is_same)))
    return draws


def named_draw(labels: Indices, sources: Sequence[str], exemplars: Sequence[str]) -> Draw:
    """Take the clips of those names as exemplars; every other clip is a query, as the authors of NTU-120 have it.

    Raises ArchiveError unless they are one clip of each class.
    """
    named = set(exemplars)
    chosen = np.array([i for i, source in enumerate(sources) if source in named], np.int64)
    missing = sorted(named - {sources[i] for i in chosen})
    if missing:
        raise ArchiveError(
            f"no clip of a novel action has the name of an exemplar of the protocol: {', '.join(missing)}"
        )
    if sorted(labels[chosen]) != np.unique(labels).tolist():
        raise ArchiveError(
            f"the protocol's exemplars are {len(chosen)} clips of {len(np.unique(labels[chosen]))} classes, "
            f"expected one clip of each of {len(np.unique(labels))}"
        )
    chosen = chosen[labels[chosen].argsort()]
    return Draw(exemplars=chosen, queries=np.setdiff1d(np.arange(len(labels)), chosen))


def _draw_of_all(labels: Indices, classes: Indices, d: int, num_exemplars: int) -> Draw:
    exemplars = _some_each(labels, classes, d, num_exemplars)
    return Draw(exemplars=exemplars, queries=np.setdiff1d(np.arange(len(labels)), exemplars))


def _draw_of_one_subject(
    labels: Indices, subjects: Indices, classes: Indices, enrolling: Indices, d: int, num_exemplars: int
) -> Draw:
    rng = np.random.default_rng(d)
    subject = rng.choice(enrolling)
    exemplars = _some_each(np.where(subjects == subject, labels, -1), classes, d, num_exemplars, rng)
    others = (subjects >= 0) & (subjects != subject) & np.isin(labels, labels[exemplars])
    return Draw(exemplars=exemplars, queries=np.flatnonzero(others))


def _some_each(
    labels: Indices, classes: Indices, d: int, num_exemplars: int, rng: np.random.Generator | None = None
) -> Indices:
    """Draw clips of each class: the first of each with `rng`, the d-th draw's own by default, then the others."""
    rng = np.random.default_rng(d) if rng is None else rng
    own = [clips for label in classes if len(clips := np.flatnonzero(labels == label))]
    drawn = [[int(clips[rng.integers(len(clips))])] for clips in own]
    # From a source of their own: the first exemplars, and so one-shot numbers, do not hang on how many are drawn.
    more = np.random.default_rng([d, 1])
    for clips, chosen in zip(own, drawn, strict=True):
        others = more.permutation(clips[clips != chosen[0]])
        chosen += others[: num_exemplars - 1].tolist()
    return np.array([clip for chosen in drawn for clip in chosen], np.int64)


def clip_distances(features: Array, persons_EP: Indices, persons_QP: Indices, compare: Distances) -> Array:
    """Return the distances between clips, shape (E, Q): the sum over persons, paired the better way.

    `features`: shape (W, ...), one row a window; `persons`: the windows of each clip.
    """
    num_persons = persons_EP.shape[1]
    rows, row_of = np.unique(persons_EP, return_inverse=True)
    columns, column_of = np.unique(persons_QP, return_inverse=True)
    row_of, column_of = row_of.reshape(persons_EP.shape), column_of.reshape(persons_QP.shape)
    windows = compare(features[rows], features[columns])
    pairings = [
        np.sum([windows[np.ix_(row_of[:, a], column_of[:, b])] for a, b in enumerate(order)], axis=0)
        for order in itertools.permutations(range(num_persons))
    ]
    return np.asarray(np.min(pairings, axis=0), np.float32)


def accuracies(
    labels: Indices,
    draws: Sequence[Draw],
    distances: Callable[[Indices, Indices], Array],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> npt.NDArray[np.float64]:
    """Name each draw's queries by the nearest exemplar; return each draw's balanced accuracy, 0 to 1."""
    return accuracies_of(name_queries(labels, draws, distances, report), labels, draws)


def accuracies_of(
    named_DN: npt.NDArray[np.int32],
    labels: Indices,
    draws: Sequence[Draw],
    accuracy: Callable[[Indices, npt.NDArray[np.integer]], float] | None = None,
) -> npt.NDArray[np.float64]:
    """Return each draw's accuracy, 0 to 1, of what `name_queries` returned; balanced unless told."""
    measure = accuracy or balanced_accuracy
    return np.array([measure(labels[draw.queries], named_DN[d, draw.queries]) for d, draw in enumerate(draws)])


def name_queries(
    labels: Indices,
    draws: Sequence[Draw],
    distances: Callable[[Indices, Indices], Array],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> npt.NDArray[np.int32]:
    """Return the label of each draw's nearest exemplar, shape (D, N), for every clip that any draw asks for; else -1.

    `distances` gives those of exemplars to queries, (E,) and (Q,) clip numbers to shape (E, Q); it is
    asked once for each pair that any draw needs, a block of queries at a time to bound the memory.
    """
    exemplars = np.unique(np.concatenate([draw.exemplars for draw in draws]))
    queries = np.unique(np.concatenate([draw.queries for draw in draws]))
    rows = [np.searchsorted(exemplars, draw.exemplars) for draw in draws]
    named = np.full((len(draws), len(labels)), -1, np.int32)
    size = max(1, _BLOCK_PAIRS // len(exemplars))
    for start in range(0, len(queries), size):
        block = queries[start : start + size]
        distances_EQ = distances(exemplars, block)
        for d, draw in enumerate(draws):
            named[d, block] = labels[draw.exemplars[distances_EQ[rows[d]].argmin(axis=0)]]
        report(start + len(block), len(queries))
    return named


def balanced_accuracy(labels: Indices, named: npt.NDArray[np.integer]) -> float:
    """Return the mean over the classes in `labels` of the share that was named right, 0 to 1."""
    num_asked = np.bincount(labels)
    num_right = np.bincount(labels[labels == named], minlength=len(num_asked))
    return float((num_right[num_asked > 0] / num_asked[num_asked > 0]).mean())


def plain_accuracy(labels: Indices, named: npt.NDArray[np.integer]) -> float:
    """Return the share of all queries that was named right, 0 to 1, as papers have it: large classes count more."""
    return float((labels == named).mean())


def score(accuracies: npt.NDArray[np.float64]) -> Score:
    """Return the mean over draws with its 95 % interval: percentiles of 2,000 resampled means, seed 0."""
    rng = np.random.default_rng(0)
    num_draws = len(accuracies)
    means = [accuracies[rng.integers(num_draws, size=num_draws)].mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Score(accuracy=float(accuracies.mean()), ci95=(float(low), float(high)))
