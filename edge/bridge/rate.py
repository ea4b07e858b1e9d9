"""At most so many events in any minute."""

from __future__ import annotations

from collections import deque


class RateLimit:
    """Remember when events were let through in the last minute."""

    def __init__(self, max_per_minute: int) -> None:
        self._max_per_minute = max_per_minute
        self._times_s: deque[float] = deque()

    def allows(self, now_s: float) -> bool:
        """Return whether one more may pass now, and remember that it does."""
        while self._times_s and self._times_s[0] <= now_s - 60:
            self._times_s.popleft()
        if len(self._times_s) >= self._max_per_minute:
            return False
        self._times_s.append(now_s)
        return True
