"""A POST for each event, by a thread of its own: a server that hangs holds up nobody but itself."""

from __future__ import annotations

import http.client
import logging
import socket
import ssl
import threading
import time
from urllib.parse import SplitResult, urlsplit

from edge.bridge.backlog import Backlog
from edge.bridge.bridge import Counts, Told
from edge.bridge.rate import RateLimit
from edge.bridge.secret import read_secret, trust
from edge.config import WebhookBridge as WebhookConfig
from edge.protocol import VERSION, StatusAnswer
from streams import BridgeError

log = logging.getLogger("crossglg_edge")

_POLL_S = 0.2
# What is waiting when the bridge stops gets so long.
_GRACE_S = 2.0
_FIRST_RETRY_S = 1.0
_MAX_ANSWER_BYTES = 64 * 1024
_BUSY = (408, 425, 429)


class _FailedError(Exception):
    """A call that failed; `is_final`: another one would fail as well."""

    def __init__(self, why: str, *, is_final: bool) -> None:
        super().__init__(why)
        self.is_final = is_final


class Webhook:
    """Post events one by one, in order, with retries; what waits is bounded by number and age."""

    def __init__(self, config: WebhookConfig) -> None:
        self.counts = Counts()
        self.types = config.types
        self.labels = config.labels
        self._config = config
        self._url = _parsed(read_secret(config.url_file, "URL") if config.url_file else config.url)
        # Whoever gives out such addresses often puts a secret into the path.
        self.target = f"{self._url.scheme}://{self._url.hostname}{f':{self._url.port}' if self._url.port else ''}/..."
        self._headers = {"Content-Type": "application/json", "User-Agent": f"crossglg-edge/{VERSION}"}
        if config.header_file:
            self._headers[config.header] = _header(config.header, read_secret(config.header_file, "header"))
        self._tls = _tls(config.ca_file) if self._url.scheme == "https" else None
        self._rate = RateLimit(config.max_per_minute)
        self._backlog = Backlog(config.keep_events, config.keep_s, self.counts)
        self._stopping = threading.Event()
        self._said = ""
        # A daemon thread: looking up a name cannot be broken off, and must not keep the process.
        self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
        self._thread.start()

    def take(self, told: Told) -> None:
        """Keep an event for the thread that posts."""
        if self._rate.allows(told.received_s):
            self._backlog.put(told)
        else:
            self.counts.drop("rate")

    def see(self, status: StatusAnswer | None) -> None:
        """Post nothing: only events are."""

    def step(self, now_s: float) -> None:
        """Drop what waited for too long."""
        self._backlog.drop_old()
        if not self._thread.is_alive():
            raise RuntimeError("the thread that posts has ended")

    def close(self) -> None:
        """Post what is waiting, for two seconds at most."""
        self._stopping.set()
        self._thread.join(timeout=_GRACE_S)

    def _work(self) -> None:
        while True:
            told = self._backlog.take(_POLL_S)
            if told is not None:
                self._deliver(told)
            elif self._stopping.is_set():
                return

    def _deliver(self, told: Told) -> None:
        """Post an event, again where that may help; count what became of it."""
        for attempt in range(self._config.retries + 1):
            try:
                self._post(told.json())
            except _FailedError as error:
                self._say(str(error))
                if error.is_final:
                    self.counts.drop("refused")
                    return
                if attempt < self._config.retries:
                    self._stopping.wait(_FIRST_RETRY_S * 2**attempt)
                    if self._backlog.is_old(told):
                        self.counts.drop("old")
                        return
            else:
                self._say("")
                self.counts.send()
                return
        self.counts.drop("failed")

    def _say(self, why: str) -> None:
        """Log a failure once, and once that calls arrive again."""
        if why != self._said:
            if why:
                log.warning("%s: %s; more are only counted", self.target, why)
            else:
                log.info("%s answers", self.target)
            self._said = why

    def _post(self, body: bytes) -> None:
        """Call once. Raises _FailedError; it takes no longer than `timeout_s`, but for a name that is looked up."""
        call = _Call(self._url, self._tls, self._config.timeout_s)
        try:
            status = call.post(body, self._headers)
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a host that is no name
            why = f"no answer within {self._config.timeout_s:g} s" if call.is_late() else str(error) or repr(error)
            raise _FailedError(why, is_final=False) from error
        finally:
            call.close()
        if not 200 <= status < 300:
            raise _FailedError(f"answers {status}", is_final=status < 500 and status not in _BUSY)


class _Call:
    """One call with a deadline for all of it: a server that sends a byte now and then is cut off as well."""

    def __init__(self, url: SplitResult, tls: ssl.SSLContext | None, timeout_s: float) -> None:
        self._url, self._tls, self._timeout_s = url, tls, timeout_s
        self._end_s = time.monotonic() + timeout_s
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(timeout_s, self._cut_off)
        self._timer.daemon = True

    def post(self, body: bytes, headers: dict[str, str]) -> int:
        """Return the status of the answer. Raises OSError, HTTPException."""
        url = self._url
        host = url.hostname or ""
        port = url.port or (443 if self._tls else 80)
        self._timer.start()
        self._socket = socket.create_connection((host, port), timeout=self._timeout_s)
        if self.is_late():  # a host may have several addresses, and each may keep us waiting
            raise TimeoutError
        if self._tls is not None:
            self._socket = self._tls.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
            self._socket.do_handshake()
        connection = http.client.HTTPConnection(host, port)
        connection.sock = self._socket
        # Standing in the headers, the port is left out where it is the usual one.
        headers = {"Host": url.netloc, **headers}
        connection.request("POST", (url.path or "/") + (f"?{url.query}" if url.query else ""), body, headers)
        answer = connection.getresponse()
        answer.read(_MAX_ANSWER_BYTES)
        return answer.status

    def is_late(self) -> bool:
        """Return whether the time was over."""
        return time.monotonic() >= self._end_s

    def _cut_off(self) -> None:
        if self._socket is not None:
            try:
                # Not SSLSocket's own, which would take the session from under the thread that reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                return

    def close(self) -> None:
        """Close the connection."""
        self._timer.cancel()
        if self._socket is not None:
            self._socket.close()


def _parsed(url: str) -> SplitResult:
    """Return the parts of a URL. Raises BridgeError."""
    hint = "Name one: crossglg-edge bridge webhook http://192.0.2.7/hook, or url in [bridge.webhook] of the config."
    if not url:
        raise BridgeError("there is no URL to call", code="no_target", hint=hint)
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    # The url itself may be a secret.
    if not is_good or not url.isascii() or not url.isprintable() or " " in url:
        raise BridgeError("the URL is none: expected http://HOST/... or https://HOST/...", hint=hint)
    if parts.username is not None:
        raise BridgeError(
            "the URL holds a user or a password", hint="Put `Basic ...` into the file that header_file names."
        )
    return parts


def _header(name: str, value: str) -> str:
    """Return the value of a header. Raises BridgeError where it or the name cannot stand in one."""
    if not name.isascii() or not name.replace("-", "").isalnum():
        raise BridgeError(f"header is {name!r}: expected a name such as Authorization")
    if not value.isascii():
        raise BridgeError(f"the value of the header {name} is not ASCII", code="bad_secret")
    return value


def _tls(ca_file: str) -> ssl.SSLContext:
    try:
        return trust(ca_file)
    except OSError as error:
        raise BridgeError(f"ca_file {ca_file} cannot be used: {error.strerror or error}") from error
