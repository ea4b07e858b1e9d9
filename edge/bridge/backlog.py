"""Events that wait for somebody who is away or slow: bounded by number and by age, in order, losses counted."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from edge.bridge.bridge import Counts, Told


class Backlog:
    """Hand events from the thread that listens to the one that delivers them.

    Drops, and counts as `full` the oldest beyond `max_events`, as `old` what waited for longer than `max_age_s`.
    """

    def __init__(
        self, max_events: int, max_age_s: float, counts: Counts, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_events, self._max_age_s = max_events, max_age_s
        self._counts, self._clock = counts, clock
        self._waiting: deque[Told] = deque()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, told: Told) -> None:
        """Add the newest event."""
        with self._changed:
            self._waiting.append(told)
            if len(self._waiting) > self._max_events:
                self._waiting.popleft()
                self._counts.drop("full")
            self._drop_old()
            self._changed.notify()

    def take(self, timeout_s: float) -> Told | None:
        """Remove and return the oldest event that is not too old; None where none comes in time."""
        with self._changed:
            self._drop_old()
            if not self._waiting:
                self._changed.wait(timeout_s)
                self._drop_old()
            return self._waiting.popleft() if self._waiting else None

    def give_back(self, told: Told) -> None:
        """Put an event that could not be delivered back to where it was."""
        with self._changed:
            if len(self._waiting) >= self._max_events:
                self._counts.drop("full")
            else:
                self._waiting.appendleft(told)

    def is_old(self, told: Told) -> bool:
        """Return whether an event waited for too long."""
        return self._clock() - told.received_s > self._max_age_s

    def drop_old(self) -> None:
        """Drop what waited for too long, so that the counts are right while nobody takes."""
        with self._changed:
            self._drop_old()

    def _drop_old(self) -> None:
        while self._waiting and self.is_old(self._waiting[0]):
            self._waiting.popleft()
            self._counts.drop("old")
