"""How often an action is done in a row, and how far the body is within it. Pure; time is the stream's own.

An action that repeats goes out and back along the axis that its example moves on most. A turn is told by how far the
body goes, so rhythm, tremor and another person's reach do not matter.

Shapes: L moments of the stream, T moments of an example, V = 25, C = 3, K = 75 coordinates.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from edge.motion import BodyTrack, fill_missing, to_body_frame
from streams.arrays import Array, Times
from streams.movement import Movement

# Turns are sought among so many moments a second, each the mean of three of them.
_RATE_FPS = 15.0
_MEAN_OF = 3
# What goes back by so much of the way has turned; a repetition that is so far out counts.
_TURN_SHARE = 0.35
_OUT_SHARE = 0.5
# The way is how far the body went lately: at least and at most so many times as far as in its last repetitions, so that
# neither rest nor a jump aside changes what a turn is. Below the last, in units of a body's size, it is noise.
_LATELY_S = 7.0
_LEAST_WAY, _LARGEST_WAY = 0.5, 1.5
_NOISE = 0.1
# A pose that is farther from that of the first repetition than this share of its way is of another action.
_MAX_UNLIKE = 1.0
# The next repetition is waited for so many times as long as one takes.
_PATIENCE = 1.8
_MIN_PATIENCE_S, _MAX_PATIENCE_S = 1.5, 8.0
# After a longer pause the count begins anew.
_PAUSE_S = 5.0
_REMEMBERED = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """Hold how an example goes along the axis that it moves on most: out and back, once or more often.

    `axis_K`: of length 1, in the body's frame as seen from the hips; away from the start is up. `turns`: when it
    starts, turns and ends, as shares of it; none where it is no example. `num_peaks`: how often it goes out.
    """

    axis_K: Array
    turns: tuple[float, ...]
    num_peaks: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Hold the turns of a course: the number of each peak and of the valley before it.

    `is_rising`: whether it rises since the last turn; `gone`: how far it got since then.
    """

    peaks: list[tuple[int, int]]
    is_rising: bool
    gone: float


def turns_of(heights: Sequence[float], least: float) -> Turns:
    """Return the peaks that are reached by rising `least` or more and left by falling as much."""
    peaks: list[tuple[int, int]] = []
    is_rising, turn, extreme = False, 0, 0
    for number, height in enumerate(heights):
        if is_rising == (height > heights[extreme]):
            extreme = number
        elif abs(height - heights[extreme]) >= least:
            if is_rising:
                peaks.append((extreme, turn))
            is_rising, turn, extreme = not is_rising, extreme, number
    return Turns(peaks=peaks, is_rising=is_rising, gone=abs(heights[extreme] - heights[turn]))


def course_of(movement: Movement) -> Course:
    """Return the course of an example."""
    _, places_TK = _seen_from_hips(movement.timestamps_s, movement.joints_m)
    moved_TK = places_TK - places_TK.mean(axis=0)
    axis_K = np.linalg.svd(moved_TK, full_matrices=False)[2][0]
    heights_T = _smooth(moved_TK @ axis_K)
    if heights_T.max() - heights_T[0] < heights_T[0] - heights_T.min():
        axis_K, heights_T = -axis_K, -heights_T
    peaks = turns_of(heights_T.tolist(), _TURN_SHARE * max(_NOISE, float(np.ptp(heights_T)))).peaks
    last = max(1, len(heights_T) - 1)
    inner = [number for peak, valley in peaks for number in (valley, peak)][1:]
    return Course(
        axis_K=axis_K,
        turns=tuple(number / last for number in (0, *inner, last)),
        num_peaks=max(1, len(peaks)),
        duration_s=movement.duration_s,
    )


class Repetitions:
    """Count how often one body does one action in a row, from an event's onset on.

    `progress`: how far the newest repetition is, 0 to 1; None where there is no example that says so.
    """

    def __init__(self, course: Course, track: BodyTrack, *, begun_s: float, since_s: float = -math.inf) -> None:
        """Take in how the body has moved until the onset of an event that began at `begun_s`.

        What came right before it counts as well, but not what came before `since_s`, which was another action.
        """
        self.progress: float | None = None
        self.last_s = since_s
        self._course = course
        self._seen_s = track.newest_s
        self._num_peaks = self._told = 0
        self._is_rising = False
        # Of the last repetitions: how far each went, and how long after the one before.
        self._ways: deque[float] = deque(maxlen=_REMEMBERED)
        self._steps_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._pose_K: Array | None = None
        self._far = 0.0
        moments_s, places_LK, heights_L = self._course_of(track, math.inf)
        self._ways.append(float(np.ptp(heights_L[moments_s >= min(begun_s, track.newest_s) - 1e-6])))
        self._take(moments_s, places_LK, heights_L, is_first=True)
        if not self._num_peaks:
            self.last_s = begun_s

    @property
    def count(self) -> int:
        """The repetitions so far, 1 or more, with the one that is on its way back or half out."""
        return max(1, self._told)

    def repeats(self, now_s: float) -> bool:
        """Whether another repetition has begun, or is expected by the rhythm of those before."""
        is_expected = self._is_rising or len(self._steps_s) > 0
        return self._num_peaks > 0 and is_expected and now_s - self.last_s <= self._patience_s

    def may_go_on(self, begun_s: float) -> bool:
        """Whether what began then may be one of these repetitions."""
        return abs(begun_s - self._seen_s) <= _PAUSE_S

    def follow(self, track: BodyTrack) -> None:
        """Take in how the body has moved since."""
        self._seen_s = track.newest_s
        self._take(*self._course_of(track, max(_LATELY_S, track.newest_s - self.last_s + 0.5)))

    @property
    def _patience_s(self) -> float:
        step_s = median(self._steps_s) if self._steps_s else self._course.duration_s / self._course.num_peaks
        return min(max(_PATIENCE * step_s, _MIN_PATIENCE_S), _MAX_PATIENCE_S)

    def _course_of(self, track: BodyTrack, length_s: float) -> tuple[Times, Array, Array]:
        moments_s, places_LK = _seen_from_hips(*track.latest(length_s))
        return moments_s, places_LK, _smooth(places_LK @ self._course.axis_K)

    def _take(self, moments_s: Times, places_LK: Array, heights_L: Array, *, is_first: bool = False) -> None:
        low, high = np.percentile(heights_L, (5, 95))
        usual = median(self._ways)
        way = max(_NOISE, min(max(float(high - low), _LEAST_WAY * usual), _LARGEST_WAY * usual))
        # From the last peak on, of which it is known that it was one.
        start = min(int(np.searchsorted(moments_s, self.last_s - 1e-6)), len(moments_s) - 1)
        found = turns_of(heights_L[start:].tolist(), _TURN_SHARE * way)
        peaks = [(start + peak, start + valley) for peak, valley in found.peaks]
        for peak, valley in self._right_before(moments_s, peaks) if is_first else peaks:
            if self._is_like(_around(places_LK, peak), _around(places_LK, valley)):
                if self._num_peaks:
                    self._steps_s.append(float(moments_s[peak]) - self.last_s)
                self._ways.append(float(heights_L[peak] - heights_L[valley]))
                self.last_s = float(moments_s[peak])
                self._num_peaks += 1
        self._is_rising = found.is_rising
        gone = min(1.0, found.gone / way)
        is_out = found.is_rising and gone >= _OUT_SHARE
        # What was half out and comes back otherwise was told: a count never falls.
        self._told = max(self._told, (self._num_peaks + is_out) // self._course.num_peaks)
        self.progress = self._progress(gone)

    def _right_before(self, moments_s: Times, peaks: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Return the last of the peaks, as far back as none is waited for longer than for a repetition."""
        kept: list[tuple[int, int]] = []
        after_s = moments_s[-1]
        for peak, valley in reversed(peaks):
            if after_s - moments_s[peak] > self._patience_s:
                break
            kept.insert(0, (peak, valley))
            after_s = moments_s[peak]
        return kept

    def _is_like(self, pose_K: Array, before_K: Array) -> bool:
        """Whether the pose at a peak is that of the first repetition, which the first one says."""
        if self._pose_K is None:
            self._pose_K, self._far = pose_K, float(np.linalg.norm(pose_K - before_K))
        return float(np.linalg.norm(pose_K - self._pose_K)) <= _MAX_UNLIKE * self._far

    def _progress(self, gone: float) -> float | None:
        if not self._course.turns:
            return None
        if not self._is_rising and not self._num_peaks:
            return 0.0
        done = self._num_peaks if self._is_rising else self._num_peaks - 1
        turn = 2 * (done % self._course.num_peaks) + (not self._is_rising)
        turns = (*self._course.turns, 1.0, 1.0)
        return turns[turn] + gone * (turns[turn + 1] - turns[turn])


def _seen_from_hips(timestamps_s: Times, joints_LV3: Array) -> tuple[Times, Array]:
    """Return moments at an even rate, no more than there are frames, and the joints in the body's frame, (L, 75)."""
    num = max(2, int((timestamps_s[-1] - timestamps_s[0]) * _RATE_FPS) + 1)
    chosen = np.unique(np.searchsorted(timestamps_s, np.linspace(timestamps_s[0], timestamps_s[-1], num)))
    moments_s, joints_m = timestamps_s[chosen], joints_LV3[chosen]
    if not np.isfinite(joints_m).all():
        joints_m = fill_missing(Movement(timestamps_s=moments_s, joints_m=joints_m)).joints_m
    (placed_LV3,) = to_body_frame(joints_m[None])
    return moments_s, (placed_LV3 - placed_LV3[:, :1]).reshape(len(moments_s), -1)


def _smooth(heights_L: Array) -> Array:
    padded = np.pad(heights_L, _MEAN_OF // 2, mode="edge")
    return np.convolve(padded, np.full(_MEAN_OF, 1 / _MEAN_OF, np.float32), mode="valid")


def _around(places_LK: Array, number: int) -> Array:
    return np.asarray(places_LK[max(0, number - 1) : number + 2].mean(axis=0), np.float32)
