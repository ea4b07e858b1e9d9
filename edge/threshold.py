"""Each label's own threshold: for so many false alarms an hour, by the bundle's rates and the user's own movement.

A threshold is the distance at which a match scores `events.min_score`: farther away nothing begins.

Shapes: D decisions, K labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edge.bundle import Calibration, Rates
from edge.config import Config, Events
from edge.encoder import Encoder
from edge.events import Active, BodyEvents, Match
from edge.gallery import Negative, Prototype
from edge.intake import Intake
from edge.recognizer import PrototypeIndex, Recognizer, score_from_distance
from edge.similarity import distance_at_score
from edge.threshold_file import Limit, Thresholds
from streams.arrays import Array, Times
from streams.frame import HIGH, Body, SkeletonFrame

# An action missed so often cannot be called recognised.
MAX_MISSED = 0.9
_CONFIDENCE = np.full(25, HIGH, np.uint8)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Hold a label's threshold and where it is from.

    `false_alarms_per_hour`, `missed`: what the bundle's rates expect of it; None without rates. `warning`:
    why it does not do what was asked, "" where it does.
    """

    label: str
    distance: float
    origin: Literal["bundle", "hand", "rates", "negatives"]
    false_alarms_per_hour: float | None
    missed: float | None
    warning: str = ""


class _Listener(Recognizer):
    """Note what each decision finds, and let no event begin."""

    heard: tuple[Array, Times] | None = None

    def _match(self, embeddings_WE: Array, features_WF: Array, spans: Sequence[Any]) -> None:
        distances_K, windows_K = self.prototypes.distances(embeddings_WE, np.array([span[1] for span in spans]))
        self.heard = distances_K, np.array([spans[window][2] for window in windows_K])


def decisions_of(
    frames: Iterable[SkeletonFrame],
    index: PrototypeIndex,
    encoder: Encoder,
    config: Config,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Decisions:
    """Play frames (kinect25, one body) as fast as it goes; return what was found in them.

    Raises EngineError where the engine fails, CancelledError once `is_cancelled`.
    """
    intake = Intake(config.stream)
    listener = _Listener(config, encoder, intake, clock=lambda: 0.0)
    listener.prototypes = index
    nothing = np.full(len(index.labels), np.inf, np.float32), np.zeros(len(index.labels))
    # No array is kept of each decision: small ones between the engine's large blocks of memory hold those back from
    # being used again, 10 GB after ten minutes.
    times_s: list[float] = []
    distances: list[float] = []
    starts_s: list[float] = []
    for frame in frames:
        if is_cancelled():
            raise CancelledError
        if not intake.accept(frame, frame.timestamp_s):
            continue
        listener.heard, num_before = None, listener.num_decisions
        listener.step([frame], frame.timestamp_s)
        if listener.engine_error is not None:
            raise listener.engine_error
        if listener.num_decisions > num_before:
            distances_K, starts_s_K = listener.heard or nothing
            times_s.append(frame.timestamp_s)
            distances += distances_K.tolist()
            starts_s += starts_s_K.tolist()
    shape = len(times_s), len(index.labels)
    return Decisions(
        labels=tuple(index.labels),
        times_s=np.array(times_s),
        distances_DK=np.array(distances, np.float32).reshape(shape),
        starts_s_DK=np.array(starts_s).reshape(shape),
    )


def spells(decisions: Decisions, label: str, threshold: float, calibration: Calibration, events: Events) -> list[Spell]:
    """Return the events of one label that would have been with this threshold, were it enrolled alone."""
    k = decisions.labels.index(label)
    distances_D = decisions.distances_DK[:, k]
    if not (distances_D <= threshold).any():
        return []
    midpoint = threshold - _offset(calibration, events)
    body = BodyEvents(events.out_of)
    found: list[tuple[Active, float]] = []
    for now_s, distance, start_s in zip(
        decisions.times_s.tolist(), distances_D.tolist(), decisions.starts_s_DK[:, k].tolist(), strict=True
    ):
        match = None
        if math.isfinite(distance):
            score = score_from_distance(distance, calibration, midpoint)
            match = Match(label=label, distance=distance, score=score, runner_up=None, t_start_s=start_s, joints=1.0)
        found += [(active, now_s) for kind, active in body.follow(match, now_s, events) if kind == "onset"]
    return [Spell(start_s=active.t_start_s, end_s=active.last_hit_s, onset_s=onset_s) for active, onset_s in found]


def thresholds_for(rates: Rates, false_alarms_per_hour: float, labels: Sequence[str]) -> dict[str, float]:
    """Return for each label the largest distance of `rates` with its share of the false alarms, or the strictest."""
    distance = rates.distances[_place(rates, false_alarms_per_hour / max(1, len(labels)))]
    return dict.fromkeys(labels, distance)


def _place(rates: Rates, false_alarms_per_hour: float) -> int:
    return max(0, int(np.searchsorted(rates.alarms_per_hour, false_alarms_per_hour, side="right")) - 1)


def _offset(calibration: Calibration, events: Events) -> float:
    """Return how much farther away than a score of 0.5 a score of `min_score` is."""
    # 0 and 1 are at no distance: nearly so is near enough.
    score = min(max(events.min_score, 1e-6), 1 - 1e-6)
    return distance_at_score(score, calibration) - calibration.midpoint


def thresholds_in_force(
    asked: Thresholds | None, labels: Sequence[str], calibration: Calibration, rates: Rates | None, events: Events
) -> list[Threshold]:
    """Return the threshold of each label: set by hand, or by rates and negatives, or else the bundle's own."""
    default = calibration.midpoint + _offset(calibration, events)
    per_hour = asked.false_alarms_per_hour if asked is not None else None
    found = []
    for label in labels:
        if asked is not None and label in asked.by_hand:
            found.append(_threshold(label, asked.by_hand[label], "hand", rates))
        elif asked is None or per_hour is None or rates is None:
            found.append(_threshold(label, default, "bundle", rates))
        else:
            found.append(_asked_for(label, asked, per_hour / len(labels), rates))
    return found


def _asked_for(label: str, asked: Thresholds, share: float, rates: Rates) -> Threshold:
    """Return the threshold for a label's share of the false alarms, and say where no threshold can meet it."""
    distance = rates.distances[_place(rates, share)]
    limit = asked.limits.get(label)
    is_lower = limit is not None and limit.distance < distance
    found = _threshold(label, limit.distance, "negatives", rates) if limit and is_lower else None
    found = found or _threshold(label, distance, "rates", rates)
    reasons = []
    if rates.alarms_per_hour[0] > share:
        reasons.append(f"the strictest has {rates.alarms_per_hour[0]:.2g} false alarms an hour")
    if found.missed is not None and found.missed > MAX_MISSED:
        reasons.append(f"{found.missed:.0%} of the same action by others are missed")
    if limit is not None and limit.num_alarms > share * asked.negative_hours:
        reasons.append(f"the strictest still alarms {limit.num_alarms} times in your ordinary movement")
    warning = f"no threshold can meet it: {'; '.join(reasons)}" if reasons else ""
    return Threshold(
        label=label,
        distance=found.distance,
        origin=found.origin,
        false_alarms_per_hour=found.false_alarms_per_hour,
        missed=found.missed,
        warning=warning,
    )


def _threshold(
    label: str, distance: float, origin: Literal["bundle", "hand", "rates", "negatives"], rates: Rates | None
) -> Threshold:
    per_hour = missed = None
    if rates is not None:
        per_hour, missed = (
            round(float(np.interp(distance, rates.distances, curve)), 4)
            for curve in (rates.alarms_per_hour, rates.missed)
        )
    return Threshold(label=label, distance=distance, origin=origin, false_alarms_per_hour=per_hour, missed=missed)


def midpoints(thresholds: Iterable[Threshold], calibration: Calibration, events: Events) -> dict[str, float]:
    """Return the distance at which each label scores 0.5, as PrototypeIndex takes it."""
    return {found.label: found.distance - _offset(calibration, events) for found in thresholds}


def limits_by_negatives(
    prototypes: Sequence[Prototype],
    negatives: Sequence[Negative],
    false_alarms_per_hour: float,
    rates: Rates,
    encoder: Encoder,
    config: Config,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Limit]:
    """Return the labels that alarm in the user's ordinary movement more often than their share allows.

    Each gets the largest distance of `rates` at which it does not, or else the strictest. Raises as `decisions_of`.
    """
    index = PrototypeIndex(prototypes, encoder.info)
    played = [decisions_of(_frames(piece), index, encoder, config, is_cancelled) for piece in negatives]
    allowed = false_alarms_per_hour / max(1, len(index.labels)) * negative_hours(negatives)
    limits = {}
    for label, distance in thresholds_for(rates, false_alarms_per_hour, index.labels).items():
        nearer = [other for other in rates.distances if other <= distance]
        counts = {distance: _num_alarms(played, label, distance, encoder, config)}
        while counts[nearer[-1]] > allowed and len(nearer) > 1:
            nearer.pop()
            counts[nearer[-1]] = _num_alarms(played, label, nearer[-1], encoder, config)
        if counts[distance] > allowed:
            limits[label] = Limit(distance=nearer[-1], num_alarms=counts[nearer[-1]], num_before=counts[distance])
    return limits


def negative_hours(negatives: Sequence[Negative]) -> float:
    """Return how long ordinary movement lasts, all pieces together."""
    return sum(float(piece.timestamps_s[-1] - piece.timestamps_s[0]) for piece in negatives) / 3600


def _num_alarms(played: Sequence[Decisions], label: str, distance: float, encoder: Encoder, config: Config) -> int:
    return sum(len(spells(d, label, distance, encoder.info.calibration, config.events)) for d in played)


def _frames(piece: Negative) -> Iterator[SkeletonFrame]:
    for seq, (timestamp_s, joints_m) in enumerate(zip(piece.timestamps_s.tolist(), piece.joints_m, strict=True)):
        yield SkeletonFrame(
            source=piece.id,
            epoch="",
            seq=seq,
            timestamp_s=timestamp_s,
            t_send_s=timestamp_s,
            bodies=(Body(id=0, joints_m=joints_m, confidence=_CONFIDENCE),),
        )
