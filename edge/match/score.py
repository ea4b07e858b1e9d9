"""A distance becomes a score, 0 to 1, and a score a distance."""

from __future__ import annotations

import math

from edge.model import Calibration


def score_from_distance(distance: float, calibration: Calibration, midpoint: float | None = None) -> float:
    """Return the calibrated score, 0 to 1; 0.5 at the calibration's midpoint, or at another where it is given."""
    midpoint = calibration.midpoint if midpoint is None else midpoint
    return 1.0 / (1.0 + math.exp(min(calibration.slope * (distance - midpoint), 700.0)))


def distance_at_score(score: float, calibration: Calibration, midpoint: float | None = None) -> float:
    """Return the distance that has this score: the inverse of `score_from_distance`."""
    # 0 and 1 are at no distance: nearly so is near enough.
    score = min(max(score, 1e-6), 1 - 1e-6)
    midpoint = calibration.midpoint if midpoint is None else midpoint
    return midpoint - math.log(score / (1 - score)) / calibration.slope


def is_same_action(distance: float, calibration: Calibration) -> bool:
    """Return whether two examples so far apart are taken for the same action: nearer than the midpoint.

    Of seven data sets, three people each, 89 % of a person's repetitions of an action are, and 0.9 % of her pairs
    of different actions (of 20 that the shipped encoder was not trained on): a tenth label is refused one time in
    twelve.
    """
    return distance < calibration.midpoint
