"""From a sensor's clock to this machine's: when a picture was taken, as far as its arrivals tell."""

from __future__ import annotations

from collections import deque

# Long enough for an undelayed picture among them, short enough that a drift of 100 ppm stays below 1 ms.
_WINDOW_S = 10.0
# The share by which time may be stretched to follow a better estimate: timestamps must rise.
_SLEW = 0.1
# An estimate that is so far off is of another clock: the sensor was started anew.
_JUMP_S = 0.5


class DeviceClock:
    """Put a sensor's timestamps on this machine's monotonic clock.

    Both clocks run about as fast; their offset is the smallest difference between arrival and timestamp in the last
    seconds, since transport can only delay. What every picture needs on its way, the sensor's own share of the latency,
    cannot be seen and stays in the offset. The times rise, and none is after its arrival.
    """

    def __init__(self) -> None:
        # Arrivals and differences that rise: the first one is the smallest of the window.
        self._differences: deque[tuple[float, float]] = deque()
        self._offset_s = 0.0
        self._last_s = 0.0

    def host_s(self, device_s: float, arrival_s: float) -> float:
        """Return when a picture was taken, on the clock of `arrival_s`; to be called in the order of arrival."""
        difference_s = arrival_s - device_s
        if self._differences and device_s <= self._last_s:
            self._differences.clear()
        is_new = not self._differences
        while self._differences and self._differences[0][0] < arrival_s - _WINDOW_S:
            self._differences.popleft()
        while self._differences and self._differences[-1][1] >= difference_s:
            self._differences.pop()
        self._differences.append((arrival_s, difference_s))
        target_s = self._differences[0][1]
        if is_new or abs(target_s - self._offset_s) > _JUMP_S:
            self._offset_s = target_s
        else:
            most_s = _SLEW * (device_s - self._last_s)
            self._offset_s += min(most_s, max(-most_s, target_s - self._offset_s))
        self._last_s = device_s
        return min(device_s + self._offset_s, arrival_s)
