"""Calls timed in blocks that take turns, so that what else the machine does meets all ways alike.

Shapes: B blocks, K calls in one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from streams.arrays import Times

Run = Callable[[], object]

_MAX_CALLS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Hold how much is measured: the time for each way, and over which sizes."""

    seconds: float = 0.6
    num_blocks: int = 10
    batches: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    max_threads: int = min(os.cpu_count() or 1, 64)
    galleries: tuple[int, ...] = (10, 1_000, 100_000)
    num_frames: int = 6_000
    num_enrollments: int = 100


QUICK = Effort(
    seconds=0.1, num_blocks=3, batches=(1, 8), max_threads=1, galleries=(10, 1_000), num_frames=400, num_enrollments=10
)


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what many times come to; the unit ends the name of what holds it."""

    p50: float
    p95: float
    p99: float
    count: int


def percentiles(times: Times | Sequence[float]) -> Percentiles:
    """Return the percentiles of times, of at least one."""
    p50, p95, p99 = (float(time) for time in np.percentile(times, (50, 95, 99)))
    return Percentiles(p50=p50, p95=p95, p99=p99, count=int(np.size(times)))


def time_in_turns(ways: Mapping[str, Run], *, seconds: float, num_blocks: int) -> dict[str, Times]:
    """Return the milliseconds of each way's calls, shape (B, K); K is what fits into so many seconds a way."""
    calls = {}
    for name, run in ways.items():
        run()
        calls[name] = max(1, min(_MAX_CALLS, int(1e3 * seconds / _milliseconds(run))) // num_blocks)
    times = {name: np.empty((num_blocks, number)) for name, number in calls.items()}
    for block in range(num_blocks):
        for name, run in ways.items():
            run()  # The caches hold what the way before needed.
            times[name][block] = [_milliseconds(run) for _ in range(calls[name])]
    return times


def ratio(ours_BK: Times, theirs_BK: Times) -> tuple[float, float, float]:
    """Return the median over blocks of the ratio of their p50, and its 95 % interval by bootstrap over blocks."""
    ratios_B = np.median(ours_BK, axis=1) / np.median(theirs_BK, axis=1)
    chosen = np.random.default_rng(0).integers(len(ratios_B), size=(2000, len(ratios_B)))
    low, high = np.percentile(np.median(ratios_B[chosen], axis=1), (2.5, 97.5))
    return float(np.median(ratios_B)), float(low), float(high)


def _milliseconds(run: Run) -> float:
    started_s = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - started_s)
