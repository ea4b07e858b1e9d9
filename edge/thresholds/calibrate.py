"""Each label's own threshold: for so many false alarms an hour, by the bundle's rates and the user's own movement.

A threshold is the distance at which a match scores `events.min_score`: farther away nothing begins. (An event's field
`threshold` is that score, and `threshold_distance` this distance.)

Shapes: D decisions, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge.config import Config, Events
from edge.gallery import Negative, Prototype
from edge.match import PrototypeIndex
from edge.model import Encoder, Rates, ScoreCurve
from edge.thresholds.file import Limit, Thresholds
from edge.thresholds.replay import Decisions, decisions_of, score_offset, spells
from streams.movement import frames_of

# An action missed so often cannot be called recognized.
MAX_MISSED = 0.9


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


def thresholds_for(rates: Rates, false_alarms_per_hour: float, labels: Sequence[str]) -> dict[str, float]:
    """Return for each label the largest distance of `rates` with its share of the false alarms, or the strictest."""
    distance = rates.distances[_place(rates, false_alarms_per_hour / max(1, len(labels)))]
    return dict.fromkeys(labels, distance)


def _place(rates: Rates, false_alarms_per_hour: float) -> int:
    return max(0, int(np.searchsorted(rates.alarms_per_hour, false_alarms_per_hour, side="right")) - 1)


def thresholds_in_force(
    asked: Thresholds | None, labels: Sequence[str], curve: ScoreCurve, rates: Rates | None, events: Events
) -> list[Threshold]:
    """Return the threshold of each label: set by hand, or by rates and negatives, or else the bundle's own."""
    default = curve.midpoint + score_offset(curve, events)
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
    per_hour, missed = (None, None) if rates is None else cost_of(distance, rates)
    return Threshold(label=label, distance=distance, origin=origin, false_alarms_per_hour=per_hour, missed=missed)


def cost_of(distance: float, rates: Rates) -> tuple[float, float]:
    """Return the false alarms an hour and the share of performances missed that rates expect of a threshold."""
    per_hour, missed = (np.interp(distance, rates.distances, curve) for curve in (rates.alarms_per_hour, rates.missed))
    return round(float(per_hour), 4), round(float(missed), 4)


def midpoints(thresholds: Iterable[Threshold], curve: ScoreCurve, events: Events) -> dict[str, float]:
    """Return the distance at which each label scores 0.5, as PrototypeIndex takes it."""
    return {found.label: found.distance - score_offset(curve, events) for found in thresholds}


def limits_by_negatives(
    prototypes: Sequence[Prototype],
    negatives: Sequence[Negative],
    false_alarms_per_hour: float,
    rates: Rates,
    encoder: Encoder,
    config: Config,
    *,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Limit]:
    """Return the labels that alarm in the user's ordinary movement more often than their share allows.

    Each gets the largest distance of `rates` at which it does not, or else the strictest. Raises as `decisions_of`.
    """
    index = PrototypeIndex(prototypes, encoder.info)
    played = [
        decisions_of(frames_of([piece.movement], source=piece.id), index, encoder, config, is_cancelled)
        for piece in negatives
    ]
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
    return sum(negative.movement.duration_s for negative in negatives) / 3600


def _num_alarms(played: Sequence[Decisions], label: str, distance: float, encoder: Encoder, config: Config) -> int:
    return sum(len(spells(d, label, distance, encoder.info.score_curve, config.events)) for d in played)
