"""A browser's clock on this machine's: the fastest message tells how far the two are apart."""

from __future__ import annotations

import math

# A crystal drifts by 3 ms in a minute at most; older messages say little about now.
_WINDOW_S = 60.0
# No network holds a message back for so long: the browser's clock stood still, in a device that slept.
_STOOD_STILL_S = 5.0


class BrowserClock:
    """Turn a page's performance.now() into time.monotonic() of here, late by the fastest message's way."""

    def __init__(self) -> None:
        self._lowest_s = self._former_lowest_s = math.inf
        self._window_end_s = -math.inf

    def hear(self, sent_s: float, arrival_s: float) -> None:
        """Take in when a message was sent, by the browser's clock, and when it came, by this machine's."""
        apart_s = arrival_s - sent_s
        if apart_s > min(self._lowest_s, self._former_lowest_s) + _STOOD_STILL_S:
            self._lowest_s, self._window_end_s = math.inf, -math.inf
        if arrival_s >= self._window_end_s:
            self._former_lowest_s, self._lowest_s = self._lowest_s, math.inf
            self._window_end_s = arrival_s + _WINDOW_S
        self._lowest_s = min(self._lowest_s, apart_s)

    def here_s(self, browser_s: float) -> float:
        """Return the time here of a time there; `hear` was called before."""
        return browser_s + min(self._lowest_s, self._former_lowest_s)
