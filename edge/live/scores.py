"""What one decision found, label by label, for whoever wants to see why there is an event, or none."""

from __future__ import annotations

import math

from edge.live.decision import Decision
from edge.match import PrototypeIndex, distance_at_score, score_from_distance
from edge.model import ScoreCurve
from streams.scores import Gate, LabelScore, Scores


def scores_of(
    decision: Decision, index: PrototypeIndex, curve: ScoreCurve, min_score: float, active: str | None
) -> Scores:
    """Return the best score of each label, the best first, and which gate stopped it.

    `index`: what the decision was matched with; `active`: the label whose event goes on, None where none does.
    """
    labels = []
    for number, label in enumerate(decision.labels):
        distance, midpoint = float(decision.distances_K[number]), float(index.midpoints_K[number])
        threshold = distance_at_score(min_score, curve, midpoint)
        labels.append(
            LabelScore(
                label=label,
                score=score_from_distance(distance, curve, midpoint),
                distance=distance if math.isfinite(distance) else None,
                threshold_distance=threshold,
                gate=_gate(decision, label, distance, threshold, active),
            )
        )
    return Scores(
        source=decision.source,
        body=decision.body,
        timestamp=decision.time_s,
        clock=decision.frame.clock,
        labels=tuple(sorted(labels, key=lambda found: -found.score)),
    )


def _gate(decision: Decision, label: str, distance: float, threshold: float, active: str | None) -> Gate:
    if label == active:
        return ""
    if not decision.windows:
        return "still"
    if not math.isfinite(distance):
        return "not_compared"
    if distance > threshold:
        return "threshold"
    return "nearer" if decision.match is None or decision.match.label != label else "rules"
