"""Who comes from another device shows the token once and gets a cookie; without one there is only the login page."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from pathlib import Path

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from edge.web.access import Access

log = logging.getLogger("crossglg_edge")

# With this prefix a browser keeps a cookie from TLS only, for this host alone.
COOKIE = "__Host-crossglg-edge"
_COOKIE_S = 90 * 24 * 3600
_STATIC = Path(__file__).with_name("static")
_OPEN_PATHS = frozenset({"/login", "/static/page.css", "/static/icon.svg", "/static/js/login.js"})
# Wrong tokens of one address in a minute; nobody guesses 100 bits, and nobody is to fill the log.
_MAX_WRONG = 10
_WINDOW_S = 60.0
_MAX_ADDRESSES = 1000


def add_login(app: web.Application, access: Access) -> None:
    """Ask everybody who comes to the application for the token, or the cookie that it gave."""
    login = Login(access)
    app.middlewares.append(login.check)
    app.router.add_post("/login", login.welcome)


class _Shown(msgspec.Struct, forbid_unknown_fields=True):
    token: str


class Login:
    """Let in who has the cookie, and give one to who shows the token."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer with the login page, or 401, whoever has no cookie."""
        if request.path in _OPEN_PATHS or self._access.is_cookie(request.cookies.get(COOKIE, "")):
            return await handler(request)
        if request.path == "/" and request.method == "GET":
            return web.Response(body=(_STATIC / "login.html").read_bytes(), status=401, content_type="text/html")
        raise web.HTTPUnauthorized(text="log in first: open the page in this browser\n")

    async def welcome(self, request: web.Request) -> web.StreamResponse:
        """Serve POST /login: {token} gives the cookie, 403 for a wrong one, 429 after too many of them."""
        # A form of another site cannot send this type without asking first.
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="expected application/json\n")
        address = request.remote or ""
        now_s = time.monotonic()
        if self._has_guessed(address, now_s):
            raise web.HTTPTooManyRequests(text="too many wrong tokens: wait a minute\n")
        try:
            shown = msgspec.json.decode(await request.read(), type=_Shown)
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text="expected {token}\n") from error
        if not self._access.is_token(shown.token):
            self._note_wrong(address, now_s)
            raise web.HTTPForbidden(text="this is not the token\n")
        log.info("%s has logged in to the page", address)
        response = web.Response(status=204)
        response.set_cookie(
            COOKIE,
            self._access.cookie,
            max_age=_COOKIE_S,
            path="/",
            secure=True,
            httponly=True,
            samesite="Strict",
        )
        return response

    def _has_guessed(self, address: str, now_s: float) -> bool:
        times = self._wrong.get(address, deque())
        while times and now_s - times[0] > _WINDOW_S:
            times.popleft()
        return len(times) >= _MAX_WRONG

    def _note_wrong(self, address: str, now_s: float) -> None:
        times = self._wrong.setdefault(address, deque())
        times.append(now_s)
        self._wrong.move_to_end(address)
        while len(self._wrong) > _MAX_ADDRESSES:
            self._wrong.popitem(last=False)
        log.warning("%s showed the page a wrong token, %d within a minute", address, len(times))
