"""What runs gave, as the cells of a table: means with intervals, differences paired by seed and draw.

Shapes: S seeds, D draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from training.reproduce.measure import Accuracies

_RESAMPLES = 2_000
MEASURES = ("plain", "balanced")
Shares = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Hold a mean, 0 to 1, and its 95 % interval; None where one seed and one draw give none."""

    mean: float
    ci95: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Hold what a row has in a column, by method and measure.

    `scores`: the accuracy; `less`: how much more than each row that it is held against, by that row's title; `by_seed`:
    each seed's mean over the draws.
    """

    scores: dict[str, dict[str, Interval]]
    less: dict[str, dict[str, dict[str, Interval]]]
    by_seed: dict[str, dict[str, tuple[float, ...]]]


Seeds = Sequence[dict[str, Accuracies]]


def make_cell(runs: Seeds, others: Mapping[str, Seeds] = MappingProxyType({})) -> Cell:
    """Return a cell of its seeds' accuracies, by method; `others`: of the rows that it is held against, by title."""
    scores: dict[str, dict[str, Interval]] = {}
    less: dict[str, dict[str, dict[str, Interval]]] = {}
    by_seed: dict[str, dict[str, tuple[float, ...]]] = {}
    for method in runs[0]:
        for measure in MEASURES:
            own_SD = _shares(runs, method, measure)
            scores.setdefault(method, {})[measure] = interval(own_SD)
            by_seed.setdefault(method, {})[measure] = tuple(own_SD.mean(axis=1).tolist())
            for title, other in others.items():
                if len(other) != len(runs) or method not in other[0]:
                    continue
                other_SD = _shares(other, method, measure)
                if other_SD.shape == own_SD.shape:
                    less.setdefault(title, {}).setdefault(method, {})[measure] = interval(own_SD - other_SD)
    return Cell(scores=scores, less=less, by_seed=by_seed)


def interval(shares_SD: Shares) -> Interval:
    """Return the mean and its 95 % interval by bootstrap over seeds and over draws, the same draws for all seeds."""
    num_seeds, num_draws = shares_SD.shape
    if shares_SD.size == 1:
        return Interval(mean=float(shares_SD.mean()), ci95=None)
    rng = np.random.default_rng(0)
    means = [
        shares_SD[rng.integers(num_seeds, size=num_seeds)][:, rng.integers(num_draws, size=num_draws)].mean()
        for _ in range(_RESAMPLES)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(mean=float(shares_SD.mean()), ci95=(float(low), float(high)))


def _shares(runs: Seeds, method: str, measure: str) -> Shares:
    return np.array([getattr(run[method], measure) for run in runs], np.float64)
