"""How like each other the enrolled actions are, and whether a new one is too like another.

Shapes: N embeddings, E values of one, P prototypes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.gallery import Described, Prototype
from edge.match.distances import Prototypes
from edge.match.score import is_same_action, score_from_distance
from edge.model import BundleInfo, ScoreCurve
from edge.protocol import Likeness
from streams.arrays import Array

_NUM_NEAREST = 5


def likenesses(
    embeddings_NE: Array, prototypes: Sequence[Prototype], comparison: Prototypes, curve: ScoreCurve
) -> list[Likeness]:
    """Return for each label its smallest distance to any of the embeddings, and the score, the nearest first.

    `comparison`: what `prototypes` are compared by.
    """
    nearest: dict[str, float] = {}
    if len(embeddings_NE) and prototypes:
        for prototype, distance in zip(prototypes, comparison.distances(embeddings_NE).min(axis=0), strict=True):
            nearest[prototype.label] = min(float(distance), nearest.get(prototype.label, math.inf))
    return [
        Likeness(label=label, distance=round(distance, 4), score=round(score_from_distance(distance, curve), 3))
        for label, distance in sorted(nearest.items(), key=lambda item: item[1])
        if math.isfinite(distance)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Separability:
    """Say how well a label's examples keep together and apart from those of the others.

    `apart`: the distance from an example to the next one of its label, the median; None where there is one.
    `margin`: how much less than itself (1) the nearest other label scores. `confused_with`: the labels
    that its examples will be confused with.
    """

    apart: float | None
    margin: float
    confused_with: tuple[str, ...]
    nearest: tuple[Likeness, ...]


def separability(label: str, prototypes: Sequence[Prototype], comparison: Prototypes, info: BundleInfo) -> Separability:
    """Return how well a label's examples keep together and apart; `comparison`: what `prototypes` are compared by."""
    own = [number for number, prototype in enumerate(prototypes) if prototype.label == label]
    embeddings_NE = np.array([prototypes[number].embedding for number in own])
    between_own = comparison.distances(embeddings_NE)[:, own]
    np.fill_diagonal(between_own, np.inf)
    apart = float(np.median(between_own.min(axis=1)))
    others = [
        other for other in likenesses(embeddings_NE, prototypes, comparison, info.score_curve) if other.label != label
    ]
    return _separability(round(apart, 4) if math.isfinite(apart) else None, others, info.score_curve)


def separability_of_words(
    words: Described, prototypes: Sequence[Prototype], comparison: Prototypes, curve: ScoreCurve
) -> Separability:
    """Return how well what words alone predict keeps apart from the examples of other labels, as `separability`."""
    embeddings_NE = words.embedding[None] if len(words.embedding) else np.zeros((0, 0), np.float32)
    return _separability(None, likenesses(embeddings_NE, prototypes, comparison, curve), curve)


def _separability(apart: float | None, others: Sequence[Likeness], curve: ScoreCurve) -> Separability:
    return Separability(
        apart=apart,
        margin=round(1 - others[0].score, 3) if others else 1.0,
        confused_with=tuple(other.label for other in others if is_same_action(other.distance, curve)),
        nearest=tuple(others[:_NUM_NEAREST]),
    )
