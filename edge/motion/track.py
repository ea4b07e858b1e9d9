"""The last seconds of one body, by timestamps.

Shapes: L frames kept, V = 25 kinect25 joints, C = 3, meters.
"""

from __future__ import annotations

import math

import numpy as np

from edge.motion.speed import TIE_S
from streams.arrays import Array, Times

# A sensor's clock jitters: frames may come by so much faster than the highest rate.
_RATE_MARGIN = 1.03


class BodyTrack:
    """Keep one body's joints for as long as the longest window.

    The buffer has twice the room it needs: when full, the newer half moves to the front, so a
    window is always one slice and costs no copy.
    """

    def __init__(self, keep_s: float, max_rate_fps: float) -> None:
        self._room = math.ceil(keep_s * max_rate_fps * _RATE_MARGIN) + 2
        self._timestamps_s = np.empty(2 * self._room, np.float64)
        self._joints_m = np.empty((2 * self._room, 25, 3), np.float32)
        self._end = 0
        self._start = 0

    def push(self, timestamp_s: float, joints_m: Array) -> None:
        """Append the joints (25, 3) of a later moment."""
        if self._end == len(self._timestamps_s):
            keep = self._end - self._start
            self._timestamps_s[:keep] = self._timestamps_s[self._start :]
            self._joints_m[:keep] = self._joints_m[self._start :]
            self._start, self._end = 0, keep
        self._timestamps_s[self._end] = timestamp_s
        self._joints_m[self._end] = joints_m
        self._end += 1
        self._start = max(self._start, self._end - self._room)

    @property
    def newest_s(self) -> float:
        """The timestamp of the newest frame; minus infinity where there is none."""
        return float(self._timestamps_s[self._end - 1]) if self._end else -float("inf")

    def latest(self, length_s: float) -> tuple[Times, Array]:
        """Return the frames of the last `length_s`, as views valid until the next push."""
        first = self._start + int(
            np.searchsorted(self._timestamps_s[self._start : self._end], self.newest_s - length_s - TIE_S)
        )
        return self._timestamps_s[first : self._end], self._joints_m[first : self._end]
