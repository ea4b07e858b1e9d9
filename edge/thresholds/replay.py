"""Recorded movement played to the recognizer: what each decision finds, and the events that a threshold would give.

Shapes: D decisions, K labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from dataclasses import dataclass

import numpy as np

from edge.config import Config, Events
from edge.live import Active, BodyEvents, Match, Recognizer
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
    """Hold one event that would have been: its span, and when its onset would have been told, seconds."""

    start_s: float
    end_s: float
    onset_s: float


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
    # No array is kept of each decision: small ones between the engine's large blocks of memory hold those back from
    # being used again, 10 GB after ten minutes.
    times_s: list[float] = []
    distances: list[float] = []
    starts_s: list[float] = []
    for frame in frames:
        if is_cancelled():
            raise CancelledError
        decisions = recognizer.feed([frame], frame.timestamp_s).decisions
        if recognizer.engine_error is not None:
            raise recognizer.engine_error
        for decision in decisions:
            window_starts_s = [window.start_s for window in decision.windows] or [0.0]
            times_s.append(decision.time_s)
            distances += decision.distances_K.tolist()
            starts_s += [window_starts_s[window] for window in decision.windows_K.tolist()]
    shape = len(times_s), len(index.labels)
    return Decisions(
        labels=tuple(index.labels),
        times_s=np.array(times_s),
        distances_DK=np.array(distances, np.float32).reshape(shape),
        starts_s_DK=np.array(starts_s).reshape(shape),
    )


def spells(decisions: Decisions, label: str, threshold: float, curve: ScoreCurve, events: Events) -> list[Spell]:
    """Return the events of one label that would have been with this threshold, were it enrolled alone."""
    k = decisions.labels.index(label)
    distances_D = decisions.distances_DK[:, k]
    if not (distances_D <= threshold).any():
        return []
    midpoint = threshold - score_offset(curve, events)
    body = BodyEvents(events.out_of)
    found: list[tuple[Active, float]] = []
    for now_s, distance, start_s in zip(
        decisions.times_s.tolist(), distances_D.tolist(), decisions.starts_s_DK[:, k].tolist(), strict=True
    ):
        match = None
        if math.isfinite(distance):
            score = score_from_distance(distance, curve, midpoint)
            match = Match(
                label=label,
                distance=distance,
                threshold_distance=threshold,
                score=score,
                runner_up=None,
                t_start_s=start_s,
                joints=1.0,
            )
        found += [(active, now_s) for kind, active in body.follow(match, now_s, events) if kind == "onset"]
    return [Spell(start_s=active.t_start_s, end_s=active.last_hit_s, onset_s=onset_s) for active, onset_s in found]


def score_offset(curve: ScoreCurve, events: Events) -> float:
    """Return how much farther away than a score of 0.5 a score of `min_score` is."""
    return distance_at_score(events.min_score, curve) - curve.midpoint
