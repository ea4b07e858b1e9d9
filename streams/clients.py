"""The connecting ends of the sockets that send and get no frames: ask a daemon, listen to its events. No numpy here."""

from __future__ import annotations

import socket as plain
import time
import uuid
from typing import Any

import zmq

from streams import messages
from streams.errors import ControlError

FRAMES = "tcp://127.0.0.1:5560"
EVENTS = "tcp://127.0.0.1:5561"
CONTROL = "tcp://127.0.0.1:5562"


def connect(kind: int, endpoint: str, linger_ms: int = 0) -> zmq.Socket[bytes]:
    """Return a socket that is connected, or will be once somebody listens there. Raises ControlError."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    socket.setsockopt(zmq.LINGER, linger_ms)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        raise ControlError(
            f"{endpoint} is not an endpoint: {zmq.strerror(error.errno or 0)}",
            code="bad_endpoint",
            hint="An endpoint looks like tcp://127.0.0.1:5562.",
        ) from error
    return socket


def is_served(endpoint: str) -> bool:
    """Return whether somebody listens at an ipc or tcp endpoint; true for others."""
    transport, _, address = endpoint.partition("://")
    try:
        if transport == "ipc":
            with plain.socket(plain.AF_UNIX) as probe:
                probe.connect(address)
        elif transport == "tcp":
            host, _, port = address.rpartition(":")
            plain.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def terminate() -> None:
    """Close this process's sockets; wait until what they sent has left, at most each one's linger time.

    Without it the process may end before ZeroMQ's own thread has sent the last messages.
    """
    zmq.Context.instance().destroy()


class EventSubscriber:
    """Listen to a daemon's events."""

    def __init__(self, endpoint: str = EVENTS, topics: tuple[str, ...] = ("event.",)) -> None:
        self._socket = connect(zmq.SUB, endpoint)
        for topic in topics:
            self._socket.setsockopt(zmq.SUBSCRIBE, topic.encode())

    def receive(self, timeout_s: float) -> tuple[str, dict[str, Any]] | None:
        """Return the next (topic, message), or None when the time is over."""
        if not self._socket.poll(int(timeout_s * 1000)):
            return None
        topic, payload = self._socket.recv_multipart()
        return topic.decode(), messages.decode_map(payload)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class ControlClient:
    """Ask a daemon in plain maps; edge.protocol.ask does it in types."""

    def __init__(self, endpoint: str = CONTROL, *, timeout_s: float = 5.0) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self._socket = connect(zmq.DEALER, endpoint)

    def ask(self, cmd: str, **args: Any) -> dict[str, Any]:
        """Return the result of a command. Raises ControlError, with the daemon's code and hint."""
        request = messages.Request(id=str(uuid.uuid4()), cmd=cmd, args=args)
        self._socket.send(messages.encode_map({"v": request.v, "id": request.id, "cmd": cmd, "args": args}))
        deadline = time.monotonic() + self.timeout_s
        # Who waits in vain should not wait long.
        if not self._socket.poll(100) and not is_served(self.endpoint):
            raise self._unreachable("nobody listens there")
        while (left_s := deadline - time.monotonic()) > 0:
            if not self._socket.poll(int(left_s * 1000) + 1):
                break
            answer = messages.decode_map(self._socket.recv())
            if answer.get("id") != request.id:
                continue  # the late answer to an earlier request that timed out
            if answer.get("ok"):
                return dict(answer.get("result") or {})
            error = answer.get("error") or {}
            raise ControlError(
                str(error.get("message", "refused without a reason")),
                code=str(error.get("code", "error")),
                hint=str(error.get("hint", "")),
            )
        raise self._unreachable(f"none within {self.timeout_s:g} s")

    def _unreachable(self, why: str) -> ControlError:
        return ControlError(
            f"no daemon answers at {self.endpoint}: {why}",
            hint="Start one with `crossglg-edge serve`, or name its endpoint with `--endpoint` or in the config.",
        )

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
