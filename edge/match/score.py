"""A distance becomes a score, 0 to 1, and a score a distance.

The words, here and on the wire:
distance: how far a window is from an enrolled example, from 0, smaller is more alike (edge.match.distances).
score: the same from 0 to 1, larger is more alike: 0.5 at the midpoint of the bundle's ScoreCurve, or of a label's own.
threshold: a distance, each label's own: that at which it scores `events.min_score`; beyond it no event begins. Only
an event's `threshold` is a score, `events.min_score` itself; its `threshold_distance` is the threshold.
calibrate: to find thresholds by false alarms an hour, as `threshold calibrate` does (edge.thresholds).
distribution: the paper's few-shot classifier, named Distribution Calibration there (edge.match.distribution).

Older words are kept where they are stored or sent: "calibration" in bundle.json is the ScoreCurve, and
`matching = "calibrated"` in a configuration chooses labels by the distribution classifier.
"""

from __future__ import annotations

import math

from edge.model import ScoreCurve


def score_from_distance(distance: float, curve: ScoreCurve, midpoint: float | None = None) -> float:
    """Return the score, 0 to 1: 0.5 at the curve's midpoint, or at another where it is given."""
    midpoint = curve.midpoint if midpoint is None else midpoint
    return 1.0 / (1.0 + math.exp(min(curve.slope * (distance - midpoint), 700.0)))


def distance_at_score(score: float, curve: ScoreCurve, midpoint: float | None = None) -> float:
    """Return the distance that has this score: the inverse of `score_from_distance`."""
    # 0 and 1 are at no distance: nearly so is near enough.
    score = min(max(score, 1e-6), 1 - 1e-6)
    midpoint = curve.midpoint if midpoint is None else midpoint
    return midpoint - math.log(score / (1 - score)) / curve.slope


def is_same_action(distance: float, curve: ScoreCurve) -> bool:
    """Return whether two examples so far apart are taken for the same action: nearer than the midpoint.

    Of seven data sets, three people each, 89 % of a person's repetitions of an action are, and 0.9 % of their pairs
    of different actions (of 20 that the shipped encoder was not trained on): a tenth label is refused one time in
    twelve.
    """
    return distance < curve.midpoint
