"""Recorded movement played to the recognizer: what each decision finds, and the events that a threshold would give.

Shapes: D decisions, K labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass

import numpy as np

from edge.config import Config, Events
from edge.live import Active, BodyEvents, Decision, Match, Recognizer
from edge.match import PrototypeIndex, distance_at_score, score_from_distance
from edge.model import Encoder, ScoreCurve
from streams.arrays import Array, Times
from streams.frame import SkeletonFrame


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decisions:
    """Hold what each decision about one body found, whatever it is worth.

    `times_s`: when, shape (D,); `distances_DK`: to each of `labels`, infinite where nothing was compared;
    `starts_s_DK`: where the window began in which that distance was found.
    """

    labels: tuple[str, ...]
    times_s: Times
    distances_DK: Array
    starts_s_DK: Times


@dataclass(frozen=True, slots=True, kw_only=True)
class Spell:
    """Hold one event that would have been: its label, its span, and when its onset would have been told, seconds."""

    label: str
    start_s: float
    end_s: float
    onset_s: float


class DecisionLog:
    """Keep what decisions about one body found, in flat lists.

    No array is kept of each: small ones between the engine's large blocks of memory hold those back from being used
    again, 10 GB after ten minutes.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self._times_s: list[float] = []
        self._distances: list[float] = []
        self._starts_s: list[float] = []

    def add(self, decision: Decision) -> None:
        """Keep what a decision found, about the labels that the log was made for."""
        window_starts_s = [window.start_s for window in decision.windows] or [0.0]
        self._times_s.append(decision.time_s)
        self._distances += decision.distances_K.tolist()
        self._starts_s += [window_starts_s[window] for window in decision.windows_K.tolist()]

    def decisions(self) -> Decisions:
        """Return all that was kept."""
        shape = len(self._times_s), len(self._labels)
        return Decisions(
            labels=self._labels,
            times_s=np.array(self._times_s),
            distances_DK=np.array(self._distances, np.float32).reshape(shape),
            starts_s_DK=np.array(self._starts_s).reshape(shape),
        )


def decisions_of(
    frames: Iterable[SkeletonFrame],
    index: PrototypeIndex,
    encoder: Encoder,
    config: Config,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Decisions:
    """Play frames of one body as fast as it goes; return what was found in them.

    Raises EngineError where the engine fails, CancelledError once `is_cancelled`.
    """
    recognizer = Recognizer(config, encoder, index, clock=lambda: 0.0)
    log = DecisionLog(index.labels)
    for frame in frames:
        if is_cancelled():
            raise CancelledError
        decisions = recognizer.feed([frame], frame.timestamp_s).decisions
        if recognizer.engine_error is not None:
            raise recognizer.engine_error
        for decision in decisions:
            log.add(decision)
    return log.decisions()


def spells(decisions: Decisions, label: str, threshold: float, curve: ScoreCurve, events: Events) -> list[Spell]:
    """Return the events of one label that would have been with this threshold, were it enrolled alone."""
    k = decisions.labels.index(label)
    own = slice(k, k + 1)
    alone = Decisions(
        labels=(label,),
        times_s=decisions.times_s,
        distances_DK=decisions.distances_DK[:, own],
        starts_s_DK=decisions.starts_s_DK[:, own],
    )
    return all_spells(alone, threshold, curve, events)


def all_spells(decisions: Decisions, threshold: float, curve: ScoreCurve, events: Events) -> list[Spell]:
    """Return the events that would have been with this threshold for all labels, in the order of their onsets."""
    if not (decisions.distances_DK <= threshold).any():
        return []
    midpoint = threshold - score_offset(curve, events)
    best_D = decisions.distances_DK.argmin(axis=1)
    rows = np.arange(len(best_D))
    body, now_s = BodyEvents(), 0.0
    found: list[tuple[Active, float]] = []
    for now_s, k, distance, start_s in zip(
        decisions.times_s.tolist(),
        best_D.tolist(),
        decisions.distances_DK[rows, best_D].tolist(),
        decisions.starts_s_DK[rows, best_D].tolist(),
        strict=True,
    ):
        match = None
        if math.isfinite(distance):
            match = Match(
                label=decisions.labels[k],
                distance=distance,
                threshold_distance=threshold,
                score=score_from_distance(distance, curve, midpoint),
                runner_up=None,
                t_start_s=start_s,
                joints=1.0,
            )
        found += [(active, now_s) for kind, active in body.follow(match, now_s, events) if kind == "onset"]
    found += [(active, now_s) for kind, active in body.finish(now_s, events) if kind == "onset"]
    return [
        Spell(label=active.match.label, start_s=active.t_start_s, end_s=active.last_hit_s, onset_s=onset_s)
        for active, onset_s in found
    ]


def score_offset(curve: ScoreCurve, events: Events) -> float:
    """Return how much farther away than a score of 0.5 a score of `min_score` is."""
    return distance_at_score(events.min_score, curve) - curve.midpoint
