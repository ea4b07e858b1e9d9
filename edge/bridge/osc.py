"""Events as Open Sound Control over UDP: for sound, light and stage programs."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence

from edge.bridge.bridge import Counts, Told, library
from edge.bridge.names import address_name
from edge.config import EventType
from edge.config import OscBridge as OscConfig
from edge.protocol import StatusAnswer
from streams import BridgeError

log = logging.getLogger("crossglg_edge")


class Osc:
    """Send three kinds of messages; docs/bridges.md describes them.

    /PREFIX/event              type, label, source, body, score, distance, seconds, count, progress, id
    /PREFIX/label/LABEL        1 when somebody begins the action, 0 when the last one who does it ends
    /PREFIX/up                 1 every second while the daemon is there, 0 once it is silent
    """

    def __init__(self, config: OscConfig) -> None:
        self.counts = Counts()
        self.target = f"osc://{config.host}:{config.port}"
        self.types: tuple[EventType, ...] = ("onset", "update", "end")
        self.labels = config.labels
        self._prefix = f"/{config.prefix}"
        self._active: dict[str, str] = {}
        self._is_failing = False
        client = library("pythonosc.udp_client", "python-osc")
        try:
            # Names are looked up once, here: UDP never waits afterwards.
            family, *_, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_DGRAM)[0]
        except OSError as error:
            raise BridgeError(
                f"{config.host} is not found: {error.strerror}",
                code="bad_target",
                hint="Name a host under [bridge.osc] in the config.",
            ) from error
        self._client = client.SimpleUDPClient(address[0], config.port, allow_broadcast=True, family=family)

    def take(self, told: Told) -> None:
        """Send an event, and its label's switch where it turns."""
        event = told.event
        was_active = event.label in self._active.values()
        if event.type == "end":
            self._active.pop(event.id, None)
        else:
            self._active[event.id] = event.label
        is_sent = self._send("event", _arguments(told))
        if was_active != (is_active := event.label in self._active.values()):
            is_sent &= self._send(f"label/{address_name(event.label)}", [int(is_active)])
        if is_sent:
            self.counts.send()
        else:
            self.counts.drop("not_sent")

    def see(self, status: StatusAnswer | None) -> None:
        """Send whether the daemon is there; an action that it can't end any more has ended."""
        if status is None:
            for label in sorted({*self._active.values()}):
                self._send(f"label/{address_name(label)}", [0])
            self._active.clear()
        self._send("up", [int(status is not None)])

    def step(self, now_s: float) -> None:
        """Do nothing: a message is sent at once."""

    def close(self) -> None:
        """Turn everything off, and close the socket."""
        self.see(None)
        self._client.close()

    def _send(self, address: str, arguments: Sequence[str | int | float]) -> bool:
        try:
            self._client.send_message(f"{self._prefix}/{address}", arguments)
        except OSError as error:
            if not self._is_failing:
                log.warning("nothing can be sent to %s: %s; more are only counted", self.target, error.strerror)
            self._is_failing = True
            return False
        self._is_failing = False
        return True


def _arguments(told: Told) -> list[str | int | float]:
    """Return an event's arguments, of types sssifffifs; -1 stands for a progress that there is not."""
    event = told.event
    seconds, progress = event.t_end - event.t_start, -1.0 if event.progress is None else event.progress
    return [
        event.type, event.label, event.source, event.body, float(event.score), float(event.distance), float(seconds),
        event.count, float(progress), event.id,
    ]  # fmt: skip
