"""The prototypes ordered by label, and which of them is nearest to the windows of a decision.

Shapes: W windows, P prototypes, K labels, E values of an embedding, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from edge.gallery import Described, Prototype
from edge.match.distances import Comparison, Prototypes
from edge.match.distribution import Classifier
from edge.model import BundleInfo
from streams.arrays import Array, Mask
from streams.movement import Movement


class PrototypeIndex:
    """Hold the prototypes ordered by label, ready for matching.

    `counters`: counter-examples, each with the label that it is not. `midpoints_K`: the distance at which each label's
    score is 0.5: the bundle's, or a label's own of `midpoints`.
    `classifier`, where there is one, chooses the label. `compare` makes of the prototypes' embeddings what tells
    the distances to them.
    """

    def __init__(
        self,
        prototypes: Sequence[Prototype | Described],
        info: BundleInfo,
        revision: int = 0,
        midpoints: Mapping[str, float] = MappingProxyType({}),
        *,
        counters: Sequence[Prototype] = (),
        compare: Callable[[Sequence[Array], BundleInfo], Comparison] = Prototypes,
    ) -> None:
        ordered = sorted(prototypes, key=lambda prototype: prototype.label)
        self.revision = revision
        self.durations_s = np.array([p.duration_s for p in ordered])
        self._examples = {p.label: p.movement for p in reversed(ordered) if isinstance(p, Prototype)}
        firsts: dict[str, int] = {}
        for number, prototype in enumerate(ordered):
            firsts.setdefault(prototype.label, number)
        self.labels = list(firsts)
        self.midpoints_K = np.array([midpoints.get(label, info.score_curve.midpoint) for label in self.labels])
        self.classifier: Classifier | None = None
        self._first = np.array(list(firsts.values()), np.intp)
        self._wants: dict[tuple[float, float], Mask] = {}
        held = sorted((c for c in counters if c.label in firsts), key=lambda counter: counter.label)
        of_label = [counter.label for counter in held]
        self._counted = np.array([self.labels.index(label) for label in dict.fromkeys(of_label)], np.intp)
        self._first_counter = np.array([of_label.index(label) for label in dict.fromkeys(of_label)], np.intp)
        self._comparison = compare([p.embedding for p in (*ordered, *held)], info)
        self._words_KD = _words(ordered, self.labels, info.num_learned)

    def example(self, label: str) -> Movement | None:
        """Return the movement of a label's first example; None where it has none, as words alone have."""
        return self._examples.get(label)

    def __len__(self) -> int:
        return len(self.durations_s)

    def wants(self, length_s: float, max_stretch: float) -> Mask:
        """Return which prototypes are compared with windows of a length, shape (P,)."""
        if (length_s, max_stretch) not in self._wants:
            ratio = length_s / np.maximum(self.durations_s, 1e-3)
            self._wants[length_s, max_stretch] = np.asarray((ratio <= max_stretch) & (ratio >= 1 / max_stretch))
        return self._wants[length_s, max_stretch]

    def distances(self, embeddings_WE: Array, comparable_WP: Mask) -> tuple[Array, npt.NDArray[np.intp]]:
        """Return for each label the smallest distance (edge.match.distances) and the window it was found in.

        A label is infinitely far where any of the windows is nearer to a counter-example of it than all are to its
        examples.
        """
        distances_WA = self._comparison.distances(embeddings_WE)
        distances_WP = np.where(comparable_WP, distances_WA[:, : len(self)], np.float32(np.inf))
        by_label = np.minimum.reduceat(distances_WP, self._first, axis=1)
        window = by_label.argmin(axis=0)
        nearest_K = by_label[window, np.arange(len(self.labels))]
        if len(self._counted):
            countered = np.minimum.reduceat(distances_WA[:, len(self) :].min(axis=0), self._first_counter)
            nearest_K[self._counted] = np.where(countered < nearest_K[self._counted], np.inf, nearest_K[self._counted])
        return nearest_K, window

    def said(self, embeddings_WE: Array, windows_K: npt.NDArray[np.intp]) -> Array:
        """Return how much nearer each label's window is to its examples by what the label's words say, shape (K,).

        It helps to choose between labels. Whether a window is any of them is for the examples alone to say: of pairs of
        clips of held-out base actions words tell no more of the same, at any rate of false matches.
        """
        if self._words_KD is None:
            return np.zeros(len(self.labels), np.float32)
        said_WK = embeddings_WE[:, : self._words_KD.shape[1]] @ self._words_KD.T
        return np.asarray(said_WK[windows_K, np.arange(len(self.labels))])

    def ranking(self, distances_K: Array, windows_K: npt.NDArray[np.intp], features_WF: Array) -> list[int]:
        """Return the numbers of the two best labels: of the highest score, or, with a classifier, the most probable.

        A label's probability is that in the window that is nearest to it; 0 where none may be compared with it.
        """
        if self.classifier is None:
            return list(np.argsort(distances_K - self.midpoints_K)[:2])
        assert list(self.classifier.labels) == self.labels
        p_K = self.classifier.probabilities(features_WF)[windows_K, np.arange(len(self.labels))]
        # Several labels may be certain, each in its own window: then the one of the highest score.
        return list(np.lexsort((distances_K - self.midpoints_K, -np.where(np.isfinite(distances_K), p_K, 0)))[:2])


def _words(ordered: Sequence[Prototype | Described], labels: Sequence[str], num_learned: int) -> Array | None:
    """Return what words add to the learned part of a label's examples, the mean, shape (K, D); None: nothing to any.

    `ordered`: by label.
    """
    if all(isinstance(p, Described) or p.mixed is None for p in ordered):
        return None
    words_KD, counts_K = np.zeros((len(labels), num_learned), np.float32), np.zeros(len(labels))
    number_of = {label: number for number, label in enumerate(labels)}
    for p in ordered:
        counts_K[number_of[p.label]] += 1
        if isinstance(p, Prototype) and p.mixed is not None:
            words_KD[number_of[p.label]] += (p.mixed - p.embedding)[:num_learned]
    return np.asarray(words_KD / counts_K[:, None], np.float32)
