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
    """Return whether two examples so far apart may be taken for the same action live: nearer than the midpoint.

    Of 20 actions that the shipped encoder was not trained on (seven data sets, three people each), 66 % of a person's
    repetitions are, and 0.8 % of pairs of different actions; of exercises that look alike, on a sensor that it has
    not seen (irds, ui_prmd), 7 to 8 % of these.
    """
    return distance < curve.midpoint


def too_similar_distance(curve: ScoreCurve) -> float:
    """Return the distance below which a new label's example is another label's action.

    The midpoint is loose, so that the same action is found by other people; one person's examples lie nearer. At four
    fifths of it 0.01 % of the pairs of different actions above are refused, and 2 to 3 % of those exercises.
    """
    return 0.8 * curve.midpoint
