"""What every bridge is: something that takes events and the daemon's status at once, and counts what it lost."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

import msgspec

from edge.config import EventType
from edge.protocol import StatusAnswer
from streams import BridgeError, Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Hold an event as the daemon sent it. `message`: all its keys, those of a newer daemon too.

    `received_s`: this machine's monotonic clock. `time`: the same moment for people and other machines, ISO 8601, UTC.
    """

    event: Event
    message: dict[str, Any]
    received_s: float
    time: str

    def json(self, **more: object) -> bytes:
        """Return the event as JSON, with `time` and further keys."""
        return msgspec.json.encode({**more, **self.message, "time": self.time})


def told_from(message: dict[str, Any], received_s: float) -> Told:
    """Return an event that was received. Raises msgspec.ValidationError."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Told(event=msgspec.convert(message, Event), message=message, received_s=received_s, time=now)


class Counts:
    """Count what became of the events that a bridge took: `received` is what was sent, waits, and was dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.num_received = 0
        self.num_sent = 0
        self.dropped: Counter[str] = Counter()
        self._is_closed = False

    def receive(self) -> None:
        """Count an event that came."""
        with self._lock:
            self.num_received += 1

    def send(self) -> None:
        """Count an event that has arrived where it should."""
        with self._lock:
            self.num_sent += not self._is_closed

    def drop(self, reason: str, num_events: int = 1) -> None:
        """Count events that will not arrive, by a stable word."""
        with self._lock:
            if num_events and not self._is_closed:
                self.dropped[reason] += num_events

    def stop(self) -> None:
        """Count what still waits as dropped: `stopped`. What becomes of it afterwards counts no more."""
        with self._lock:
            self._is_closed = True
            self.dropped["stopped"] += self.num_received - self.num_sent - self.dropped.total()
            self.dropped += Counter()

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as JSON has them."""
        with self._lock:
            waiting = self.num_received - self.num_sent - self.dropped.total()
            return {
                "received": self.num_received,
                "sent": self.num_sent,
                "waiting": waiting,
                "dropped": dict(self.dropped),
            }


class Bridge(Protocol):
    """Take events somewhere. No method waits: what takes time, another thread or process does."""

    counts: Counts
    target: str
    """Where events go, for people; no secrets."""
    types: tuple[EventType, ...]
    labels: tuple[str, ...]
    """Which events it takes; no labels: of all."""

    def take(self, told: Told) -> None:
        """Take an event that was counted as received: send it, keep it or drop it."""

    def see(self, status: StatusAnswer | None) -> None:
        """Take the daemon's status, which comes every second; None: the daemon has fallen silent."""

    def step(self, now_s: float) -> None:
        """Go on with what is under way; called ten times a second. `now_s`: the monotonic clock."""

    def close(self) -> None:
        """Send what can be sent within two seconds, and end."""


def library(module: str, package: str) -> ModuleType:
    """Import what a bridge speaks with. Raises BridgeError("not_installed")."""
    try:
        return import_module(module)
    except (ImportError, RuntimeError, OSError) as error:  # pylsl without liblsl raises RuntimeError
        raise BridgeError(
            f"this bridge needs {package}: {error}",
            code="not_installed",
            hint="pip install 'crossglg-edge[bridge]'",
        ) from error
