"""The page's end of the daemon's sockets: one subscriber, and one request at a time in each of a few threads."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import zmq
import zmq.asyncio

from edge.protocol import VERSION
from edge.web.audience import Audience
from streams.clients import ControlClient, connect
from streams.errors import ControlError, WireError
from streams.messages import decode_map

log = logging.getLogger("crossglg_edge")

# Made by the daemon only while somebody subscribes to them.
_LIVE = ("skeleton.", "scores.")
_ALWAYS = ("event.", "log.", "status.")
# The daemon tells its status each second; after so many it is gone.
_SILENT_S = 3.0
_LOOK_EVERY_S = 0.5
_HEARTBEAT_MS = 2000
_TIMEOUT_S = 10.0
_NUM_THREADS = 4
_MAX_ASKING = 32
# A coordinate to the millimeter.
_DIGITS = 3


class DaemonLink:
    """Hear what a daemon publishes, and ask it, wherever it is; it may come and go."""

    def __init__(self, events: str, control: str) -> None:
        self.audience = Audience(self._look)
        self._control = control
        socket = connect(zmq.SUB, events)
        # What was a daemon on a machine that has lost its network is found again.
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        for topic in _ALWAYS:
            socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self._socket: zmq.asyncio.Socket = zmq.asyncio.Socket.from_socket(socket)
        self._is_looking = False
        self._heard_s: float | None = None
        self._num_unreadable = 0
        self._asking = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="ask")
        self._num_asking = 0

    def _look(self, is_looking: bool) -> None:
        """Have skeletons and scores made while somebody looks, and only then."""
        if is_looking == self._is_looking:
            return
        self._is_looking = is_looking
        for topic in _LIVE:
            self._socket.setsockopt(zmq.SUBSCRIBE if is_looking else zmq.UNSUBSCRIBE, topic.encode())

    async def listen(self) -> None:
        """Pass on what the daemon publishes, for ever."""
        while True:
            parts = await self._socket.recv_multipart()
            self._heard_s = time.monotonic()
            try:
                topic, message = parts[0].decode(), decode_map(parts[1])
            except (WireError, UnicodeDecodeError, IndexError) as error:
                self._num_unreadable += 1
                log.warning("the daemon sent what this version cannot read: %s", error)
                continue
            self._pass_on(topic, message)

    def _pass_on(self, topic: str, message: dict[str, Any]) -> None:
        if topic.startswith("skeleton."):
            self.audience.tell_live(topic, _rounded(message))
        elif topic.startswith("scores."):
            self.audience.tell_live(topic, message)
        elif topic.startswith(("event.", "log.")):
            self.audience.tell_event(topic, {**message, "heard_at": time.time()})
        else:
            self.audience.tell_state(topic, message)

    async def watch(self) -> None:
        """Tell, for ever, whether the daemon is heard, and how the page's own server is."""
        while True:
            silent_s = None if self._heard_s is None else time.monotonic() - self._heard_s
            page = {
                "version": VERSION,
                "now": time.time(),
                "is_heard": silent_s is not None and silent_s < _SILENT_S,
                "silent_s": silent_s,
                "control": self._control,
                "browsers": self.audience.num_browsers,
                "stuck": self.audience.num_stuck,
                "unreadable": self._num_unreadable,
            }
            self.audience.tell_state("page", page)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def ask(self, cmd: str, args: dict[str, Any]) -> dict[str, Any]:
        """Return the daemon's answer as it came. Raises ControlError, WireError."""
        if self._num_asking >= _MAX_ASKING:
            raise ControlError(f"{_MAX_ASKING} requests wait for the daemon already", code="busy", hint="Try again.")
        self._num_asking += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._asking, self._ask, cmd, args)
        finally:
            self._num_asking -= 1

    def _ask(self, cmd: str, args: dict[str, Any]) -> dict[str, Any]:
        # A socket of its own: what a daemon that is gone was asked for must not reach the next one.
        client = ControlClient(self._control, timeout_s=_TIMEOUT_S)
        try:
            return client.ask(cmd, **args)
        finally:
            client.close()

    def close(self) -> None:
        """Close the sockets; requests that wait are given up."""
        self._asking.shutdown(wait=False, cancel_futures=True)
        self._socket.close(linger=0)


def _rounded(message: dict[str, Any]) -> dict[str, Any]:
    """Return a skeleton in millimeters: half the bytes, and nobody sees less."""
    bodies = [
        {
            **body,
            "joints": [joint and [round(coordinate, _DIGITS) for coordinate in joint] for joint in body["joints"]],
        }
        for body in message["bodies"]
    ]
    return {**message, "bodies": bodies}
