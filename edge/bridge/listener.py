"""A bridge's loop: listen to a daemon's events and status, hand them on, and say what was lost."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import msgspec

from edge.bridge.bridge import Bridge, told_from
from edge.protocol import StatusAnswer
from streams import EventSubscriber, WireError

log = logging.getLogger("crossglg_edge")

_STEP_S = 0.1
# The status comes every second.
_SILENT_S = 5.0
_REPORT_EVERY_S = 60.0


def listen(bridge: Bridge, endpoint: str, *, stop: threading.Event, end_s: float) -> None:
    """Hand on what a daemon tells at `endpoint`, until `stop` is set or the monotonic clock reaches `end_s`.

    A daemon that is not there, stops or starts again is waited for. Raises ControlError for what is no endpoint.
    """
    subscriber = EventSubscriber(endpoint, ("event.", "status."))
    log.info("events of %s go to %s", endpoint, bridge.target)
    listener = _Listener(bridge, endpoint)
    try:
        while not stop.is_set() and (now_s := time.monotonic()) < end_s:
            try:
                received = subscriber.receive(_STEP_S)
            except (WireError, UnicodeDecodeError, ValueError) as error:
                listener.refuse(str(error))
                continue
            now_s = time.monotonic()
            if received is not None:
                listener.hear(*received, now_s)
            listener.tick(now_s)
    finally:
        subscriber.close()


class _Listener:
    """Follow whether the daemon is there, and what was lost since it was last said."""

    def __init__(self, bridge: Bridge, endpoint: str) -> None:
        self._bridge, self._endpoint = bridge, endpoint
        self._labels = {label.strip().casefold() for label in bridge.labels}
        self._heard_s: float | None = None
        self._started_s = self._stepped_s = self._reported_s = time.monotonic()
        self._is_missed = False
        self._num_reported = 0
        self._is_status_known = True

    def hear(self, topic: str, message: dict[str, Any], now_s: float) -> None:
        if self._heard_s is None or self._is_missed:
            log.info("the daemon at %s is there", self._endpoint)
        self._heard_s, self._is_missed = now_s, False
        if topic == "status.daemon":
            self._see(message)
        elif topic.startswith("event."):
            self._take(message, now_s)

    def _see(self, message: dict[str, Any]) -> None:
        try:
            self._bridge.see(msgspec.convert(message, StatusAnswer))
        except msgspec.ValidationError as error:
            if self._is_status_known:
                log.error("the daemon's status is not as this version expects it: %s; use the same version", error)
            self._is_status_known = False

    def _take(self, message: dict[str, Any], now_s: float) -> None:
        try:
            told = told_from(message, now_s)
        except msgspec.ValidationError as error:
            self.refuse(str(error))
            return
        event = told.event
        if event.type in self._bridge.types and (not self._labels or event.label.casefold() in self._labels):
            self._bridge.counts.receive()
            self._bridge.take(told)

    def refuse(self, why: str) -> None:
        """Count what is no event of this version."""
        if "bad_message" not in self._bridge.counts.dropped:
            log.warning("a message that cannot be read: %s; more are only counted", why)
        self._bridge.counts.receive()
        self._bridge.counts.drop("bad_message")

    def tick(self, now_s: float) -> None:
        if now_s - self._stepped_s >= _STEP_S:
            self._stepped_s = now_s
            self._bridge.step(now_s)
        if not self._is_missed and now_s - (self._heard_s or self._started_s) > _SILENT_S:
            log.warning("the daemon at %s is silent", self._endpoint)
            self._is_missed = True
            self._bridge.see(None)
        if now_s - self._reported_s >= _REPORT_EVERY_S:
            self._reported_s = now_s
            self._report()

    def _report(self) -> None:
        """Say what was lost, where more was lost since the last time."""
        counts = self._bridge.counts.as_dict()
        if (num_dropped := sum(counts["dropped"].values())) > self._num_reported:
            self._num_reported = num_dropped
            log.warning("%s", describe_counts(counts))


def describe_counts(counts: dict[str, Any]) -> str:
    """Return the counts of a bridge in one line for people."""
    dropped = ", ".join(f"{num} {reason}" for reason, num in counts["dropped"].items())
    parts = (f"{counts['received']} events", f"{counts['sent']} sent", f"{counts['waiting']} waiting")
    return ", ".join(parts) + (f"; dropped: {dropped}" if dropped else "")
