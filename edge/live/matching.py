"""Which label the windows of a body match best, and how far they are from each.

Shapes: W windows, P prototypes, K labels, E values of an embedding, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.live.decision import Match
from edge.live.windows import Cut
from edge.match import PrototypeIndex, distance_at_score, score_from_distance
from edge.model import ScoreCurve
from streams.arrays import Array
from streams.event import RunnerUp


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """Hold a body's distance to each label, the number of the window it was found in, and the best match."""

    distances_K: Array
    windows_K: npt.NDArray[np.intp]
    match: Match | None


def find_match(
    index: PrototypeIndex, cut: Cut, embeddings_WE: Array, features_WF: Array, curve: ScoreCurve, min_score: float
) -> Found:
    """Hold the windows of a body, of these embeddings and features, against the prototypes."""
    if not cut.windows:
        num_labels = len(index.labels)
        distances_K, windows_K = np.full(num_labels, np.inf, np.float32), np.zeros(num_labels, np.intp)
        return Found(distances_K=distances_K, windows_K=windows_K, match=None)
    distances_K, windows_K = index.distances(embeddings_WE, cut.comparable_WP)
    best, *others = index.ranking(distances_K - index.said(embeddings_WE, windows_K), windows_K, features_WF)

    def score(label: int) -> float:
        return score_from_distance(float(distances_K[label]), curve, float(index.midpoints_K[label]))

    runner_up = None
    if others and np.isfinite(distances_K[others[0]]):
        runner_up = RunnerUp(label=index.labels[others[0]], score=score(others[0]))
    window = cut.windows[windows_K[best]]
    match = Match(
        label=index.labels[best],
        distance=float(distances_K[best]),
        threshold_distance=distance_at_score(min_score, curve, float(index.midpoints_K[best])),
        score=score(best),
        runner_up=runner_up,
        t_start_s=window.start_s,
        joints=window.joints,
    )
    return Found(distances_K=distances_K, windows_K=windows_K, match=match)
