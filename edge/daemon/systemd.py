"""What the daemon tells systemd of itself, by sd_notify(3): ready, alive, stopping, and a line of status."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger("crossglg_edge")


class Systemd:
    """Tell systemd how the daemon is, where systemd has started it and asks; elsewhere do nothing.

    NOTIFY_SOCKET names the socket; WATCHDOG_USEC says how often systemd wants to hear, and WATCHDOG_PID of whom. No
    message waits: one that systemd has no room for is left out, and the next one follows.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # An address that begins with @ is in the abstract namespace, which the kernel marks by a zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        # Twice as often as systemd asks, as it advises.
        self._interval_s = _watchdog_s(environment) / 2
        self._due_s = 0.0
        self._status = ""

    def ready(self) -> None:
        """Tell that frames and requests are served from now on."""
        self._tell("READY=1")

    def alive(self, now_s: float) -> None:
        """Tell that the loop turns, when that is due; `now_s` is of a monotonic clock."""
        if self._interval_s and now_s >= self._due_s:
            self._due_s = now_s + self._interval_s
            self._tell("WATCHDOG=1")

    def status(self, line: str) -> None:
        """Tell what `systemctl status` is to show, where that has changed."""
        if line != self._status:
            self._status = line
            self._tell(f"STATUS={line}")

    def stopping(self) -> None:
        """Tell that the daemon ends of its own accord."""
        self._tell("STOPPING=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), socket.MSG_DONTWAIT, self._address)
        except BlockingIOError:
            log.debug("systemd has no room for %s", message)
        except OSError as error:
            log.warning("systemd cannot be told %s by %r: %s", message, self._address, error.strerror)
            self.close()


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """Return how long systemd waits for a sign of life, in seconds; 0 where it waits for none of this process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return max(0.0, int(environment.get("WATCHDOG_USEC", "0")) / 1e6)
    except ValueError:
        log.warning("WATCHDOG_USEC is %r: expected microseconds", environment["WATCHDOG_USEC"])
        return 0.0
