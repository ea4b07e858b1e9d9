"""The ZeroMQ sockets: frames in (SUB), events out (XPUB), control (ROUTER), all bound; and their peers."""

from __future__ import annotations

from typing import Any

import msgspec
import zmq

from streams import wire
from streams.clients import CONTROL, EVENTS, FRAMES, ControlClient, EventSubscriber, connect, is_served, terminate
from streams.errors import ControlError
from streams.event import Event
from streams.frame import SkeletonFrame
from streams.messages import encode_scores, encode_skeleton
from streams.scores import Scores
from streams.skeleton import Skeleton

__all__ = [
    "CONTROL",
    "EVENTS",
    "FRAMES",
    "ControlClient",
    "ControlServer",
    "EventPublisher",
    "EventSubscriber",
    "FramePublisher",
    "FrameSubscriber",
    "terminate",
]

# Above this libzmq drops the peer, to protect the memory; between this and wire.MAX_FRAME_BYTES a
# message is read and counted.
_MAX_FRAME_BYTES = 4 * wire.MAX_FRAME_BYTES
# A clip of 20 minutes; a subscription names a topic.
_MAX_REQUEST_BYTES = 16 * 1024 * 1024
_MAX_SUBSCRIPTION_BYTES = 4096
# How long the last events and answers may take to leave when the daemon stops.
_LINGER_MS = 500
# A full second of thirty publishers at 30 fps; what overflows shows as gaps in `seq`.
_FRAMES_HWM = 1000
_EVENTS_HWM = 1000
# Subscriptions that are taken in at once, and remembered.
_SUBSCRIPTIONS = 1000


def _bind(kind: int, endpoint: str, hwm: int, max_bytes: int) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    socket.setsockopt(zmq.LINGER, _LINGER_MS)
    socket.setsockopt(zmq.RCVHWM, hwm)
    socket.setsockopt(zmq.SNDHWM, hwm)
    socket.setsockopt(zmq.MAXMSGSIZE, max_bytes)
    try:
        # libzmq would take an ipc endpoint away from whoever has it.
        if endpoint.startswith("ipc://") and is_served(endpoint):
            raise zmq.ZMQError(zmq.EADDRINUSE)
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        socket.close(linger=0)
        if error.errno == zmq.EADDRINUSE:
            raise ControlError(
                f"{endpoint} cannot be bound: another program has it",
                code="address_in_use",
                hint="Is another daemon running (`crossglg-edge status`)? "
                "Stop it, or give other endpoints under [sockets] in the config.",
            ) from error
        raise ControlError(
            f"{endpoint} cannot be bound: {zmq.strerror(error.errno or 0)}",
            code="bad_endpoint",
            hint="Under [sockets] in the config, give endpoints of this machine, such as tcp://127.0.0.1:5560.",
        ) from error
    return socket


class FrameSubscriber:
    """Take in frame messages from any number of publishers."""

    def __init__(self, endpoint: str = FRAMES) -> None:
        self.socket = _bind(zmq.SUB, endpoint, _FRAMES_HWM, _MAX_FRAME_BYTES)
        # All topics: one that is misspelt is to be counted, not to vanish.
        self.socket.setsockopt(zmq.SUBSCRIBE, b"")

    def receive(self, limit: int) -> list[list[bytes]]:
        """Return the messages that are waiting, `limit` at most, oldest first."""
        messages: list[list[bytes]] = []
        while len(messages) < limit:
            try:
                messages.append(self.socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                break
        return messages

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class FramePublisher:
    """Send skeleton frames to a daemon."""

    def __init__(self, endpoint: str = FRAMES) -> None:
        # XPUB sees subscriptions come in, so the first frames are not lost to a slow joiner.
        self._socket = connect(zmq.XPUB, endpoint, linger_ms=1000)
        self._socket.setsockopt(zmq.SNDHWM, _FRAMES_HWM)

    def wait_for_subscriber(self, timeout_s: float) -> bool:
        """Return whether a daemon subscribed within the time."""
        return bool(self._socket.poll(int(timeout_s * 1000))) and self._socket.recv()[:1] == b"\x01"

    def send(self, frame: SkeletonFrame) -> None:
        """Publish a frame; where nobody listens or a listener is too slow, it is dropped."""
        self._socket.send_multipart(wire.encode_frame(frame))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class EventPublisher:
    """Send events, status and log lines to whoever listens; scores and skeletons only to who asks for them by name."""

    def __init__(self, endpoint: str = EVENTS) -> None:
        # To subscribers it is a PUB; only an XPUB knows what they want.
        self.socket = _bind(zmq.XPUB, endpoint, _EVENTS_HWM, _MAX_SUBSCRIPTION_BYTES)
        self._wanted: set[str] = set()

    def take_subscriptions(self) -> None:
        """Take in who began to listen to what, or stopped; a peer that is gone has stopped."""
        for _ in range(_SUBSCRIPTIONS):
            try:
                message = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            topic = message[1:].decode(errors="replace")
            # Who listens to all topics at once wants what there is, not what is made on request.
            if message[:1] == b"\x01" and topic and len(self._wanted) < _SUBSCRIPTIONS:
                self._wanted.add(topic)
            elif message[:1] == b"\x00":
                self._wanted.discard(topic)

    def is_wanted(self, topic: str) -> bool:
        """Return whether somebody asked for a topic by its name or the beginning of it."""
        return any(topic.startswith(wanted) for wanted in self._wanted)

    def send(self, event: Event) -> None:
        """Publish an event."""
        self.socket.send_multipart(wire.encode_event(event))

    def send_scores(self, scores: Scores) -> None:
        """Publish what a decision found."""
        self.socket.send_multipart(encode_scores(scores))

    def send_skeleton(self, skeleton: Skeleton) -> None:
        """Publish what was seen."""
        self.socket.send_multipart(encode_skeleton(skeleton))

    def send_map(self, topic: str, message: dict[str, Any]) -> None:
        """Publish a status or a log line."""
        self.socket.send_multipart([topic.encode(), wire.encode_map(message)])

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class ControlServer:
    """Take in control requests; works with REQ and DEALER peers, and a dead one cannot block it."""

    def __init__(self, endpoint: str = CONTROL) -> None:
        self.socket = _bind(zmq.ROUTER, endpoint, 100, _MAX_REQUEST_BYTES)

    def receive(self) -> tuple[list[bytes], bytes] | None:
        """Return (return address, payload) of a waiting request, or None."""
        try:
            parts = self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        return parts[:-1], parts[-1]

    def send(self, address: list[bytes], message: dict[str, Any] | msgspec.Struct) -> None:
        """Answer a request; an answer to a peer that has gone is dropped by ROUTER."""
        self.socket.send_multipart([*address, wire.encode_map(message)])

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
