"""What one browser is still to be sent: bounded, whatever the browser does."""

from __future__ import annotations

import asyncio
from collections import deque

# Some minutes of events; whoever is that far behind begins anew.
_MAX_WAITING = 256
# Sources times bodies; a browser draws no more anyway.
_MAX_NEWEST = 128


class Outbox:
    """Keep messages for one browser: of what changes all the time the newest, of everything else each, in order."""

    def __init__(self) -> None:
        self._each: deque[str] = deque()
        self._newest: dict[str, str] = {}
        self._has_some = asyncio.Event()

    @property
    def is_waiting(self) -> bool:
        """Whether a message waits to be taken."""
        return bool(self._each or self._newest)

    def put(self, text: str) -> bool:
        """Add a message that must not be lost; return whether there was room for it."""
        if len(self._each) >= _MAX_WAITING:
            return False
        self._each.append(text)
        self._has_some.set()
        return True

    def put_newest(self, topic: str, text: str) -> None:
        """Add a message that takes the place of an older one of its topic."""
        if topic in self._newest or len(self._newest) < _MAX_NEWEST:
            self._newest[topic] = text
            self._has_some.set()

    async def take(self) -> str:
        """Return the next message; wait for it."""
        while not self.is_waiting:
            self._has_some.clear()
            await self._has_some.wait()
        if self._each:
            return self._each.popleft()
        return self._newest.pop(next(iter(self._newest)))
