"""The browsers that have the page open: what each gets, who looks, and who was dropped because it did not read."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from edge.web.outbox import Outbox

log = logging.getLogger("crossglg_edge")

MAX_BROWSERS = 16
# A browser that takes nothing for so long is given up.
_STUCK_S = 5.0
# Small: what waits in the kernel is old when it arrives, and hides that nobody reads.
_SEND_BUFFER_BYTES = 64 * 1024
_HEARTBEAT_S = 20.0
_MAX_SAID_BYTES = 4096
# Events that a page shows which was opened after them.
_REMEMBERED_EVENTS = 200
_GOING_AWAY = 1001
_FAREWELL_S = 1.0


class _Said(msgspec.Struct, forbid_unknown_fields=True):
    """What a page says of itself: whether anybody can see it."""

    visible: bool


class _Browser:
    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.socket = socket
        self.transport = transport
        self.outbox = Outbox()
        self.is_visible = False


class Audience:
    """Send each browser what it is to see; one that does not read costs the others nothing, and is dropped.

    `on_looking`: called whenever the answer to "does anybody look?" changes.
    """

    def __init__(self, on_looking: Callable[[bool], None]) -> None:
        self.num_stuck = 0
        self._on_looking = on_looking
        self._browsers: set[_Browser] = set()
        self._events: deque[str] = deque(maxlen=_REMEMBERED_EVENTS)
        self._state: dict[str, str] = {}

    @property
    def num_browsers(self) -> int:
        """How many browsers have the page open."""
        return len(self._browsers)

    @property
    def is_looking(self) -> bool:
        """Whether a page is open and visible."""
        return any(browser.is_visible for browser in self._browsers)

    def tell_event(self, topic: str, message: Any) -> None:
        """Send every browser an event or a line of the log, each one; pages that open later get it too."""
        text = _text(topic, message)
        self._events.append(text)
        for browser in [*self._browsers]:
            if not browser.outbox.put(text):
                self._drop(browser)

    def tell_state(self, topic: str, message: Any) -> None:
        """Send every visible browser how something is now; the others get it once they are looked at."""
        self._state[topic] = text = _text(topic, message)
        self._to_visible(topic, text)

    def tell_live(self, topic: str, message: Any) -> None:
        """Send every visible browser what it has missed already if it does not see it now."""
        self._to_visible(topic, _text(topic, message))

    def _to_visible(self, topic: str, text: str) -> None:
        for browser in self._browsers:
            if browser.is_visible:
                browser.outbox.put_newest(topic, text)

    async def welcome(self, request: web.Request) -> web.StreamResponse:
        """Serve one browser's WebSocket until it is closed."""
        if len(self._browsers) >= MAX_BROWSERS:
            raise web.HTTPServiceUnavailable(text=f"{MAX_BROWSERS} browsers have the page open: close one\n")
        response = web.WebSocketResponse(heartbeat=_HEARTBEAT_S, max_msg_size=_MAX_SAID_BYTES, compress=False)
        await response.prepare(request)
        browser = _Browser(response, request.transport)
        _keep_short(browser.transport)
        for text in self._events:
            browser.outbox.put(text)
        self._browsers.add(browser)
        writing = asyncio.create_task(self._write(browser))
        try:
            async for received in response:
                if received.type is WSMsgType.TEXT:
                    self._hear(browser, received.data)
        finally:
            writing.cancel()
            self._browsers.discard(browser)
            self._tell_looking()
        return response

    def _hear(self, browser: _Browser, text: str) -> None:
        try:
            said = msgspec.json.decode(text, type=_Said)
        except msgspec.DecodeError as error:
            log.warning("a page said what this version does not understand: %s", error)
            return
        if said.visible and not browser.is_visible:
            for topic, state in self._state.items():
                browser.outbox.put_newest(topic, state)
        browser.is_visible = said.visible
        self._tell_looking()

    def _tell_looking(self) -> None:
        self._on_looking(self.is_looking)

    async def _write(self, browser: _Browser) -> None:
        try:
            while True:
                text = await browser.outbox.take()
                async with asyncio.timeout(_STUCK_S):
                    await browser.socket.send_str(text)
        except TimeoutError:
            self._drop(browser)
        except ConnectionError:  # it has gone, which its reader hears too
            return

    def _drop(self, browser: _Browser) -> None:
        if browser in self._browsers:
            self._browsers.discard(browser)
            self.num_stuck += 1
            log.warning("a browser that did not read was dropped")
            if browser.transport is not None:
                # No farewell: it would wait behind what the browser does not read.
                browser.transport.abort()
            self._tell_looking()

    async def dismiss(self) -> None:
        """Close every WebSocket; a browser that does not answer is not waited for."""
        closing = [
            asyncio.create_task(browser.socket.close(code=_GOING_AWAY, message=b"the page's server stops"))
            for browser in self._browsers
        ]
        if closing:
            await asyncio.wait(closing, timeout=_FAREWELL_S)


def _text(topic: str, message: Any) -> str:
    """Return a message as JSON; numbers that are none become null."""
    return msgspec.json.encode({"topic": topic, "message": message}).decode()


def _keep_short(transport: asyncio.Transport | None) -> None:
    """Let little wait between here and the browser."""
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    transport.set_write_buffer_limits(high=_SEND_BUFFER_BYTES)
