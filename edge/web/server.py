"""The page's HTTP server: static files, one WebSocket for what is live, one door for requests to the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from edge.config import Config
from edge.web.access import Access, open_access, own_address
from edge.web.camera_routes import add_camera
from edge.web.daemon_link import DaemonLink
from edge.web.guard import LOOPBACK, add_headers, guard
from edge.web.login import add_login
from streams.errors import ControlError, CrossGLGError

STATIC = Path(__file__).with_name("static")
_LINK = web.AppKey("link", DaemonLink)
_MAX_REQUEST_BYTES = 64 * 1024
_SHUTDOWN_S = 1.0

# What a page may ask the daemon for: nothing that names a file on its machine, or stops it.
PAGE_COMMANDS = frozenset({
    "status", "config.get",
    "enroll.start", "enroll.status", "enroll.movement", "enroll.trim", "enroll.commit", "enroll.cancel",
    "gallery.list", "gallery.get", "gallery.movement", "gallery.rename", "gallery.remove", "gallery.undo",
    "gallery.history",
    "review.list", "review.movement", "review.answer", "review.undo",
    "threshold.get", "threshold.preview", "threshold.reset", "threshold.calibrate", "threshold.undo",
})  # fmt: skip


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    cmd: str
    args: dict[str, Any] = {}


def make_app(link: DaemonLink, frames_endpoint: str, access: Access | None = None) -> web.Application:
    """Return the application: what it serves, and who may ask; `access`: what other devices must show."""
    app = web.Application(middlewares=[guard(LOOPBACK if access is None else None)], client_max_size=_MAX_REQUEST_BYTES)
    if access is not None:
        add_login(app, access)
    app[_LINK] = link
    app.router.add_get("/", _index)
    app.router.add_get("/live", link.audience.welcome)
    app.router.add_post("/ask", _ask)
    app.router.add_static("/static", STATIC)
    add_camera(app, frames_endpoint)
    app.on_response_prepare.append(add_headers)
    app.cleanup_ctx.append(_linked)
    return app


async def _linked(app: web.Application) -> AsyncIterator[None]:
    link = app[_LINK]
    tasks = [asyncio.create_task(link.listen()), asyncio.create_task(link.watch())]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    link.close()


async def _index(_request: web.Request) -> web.StreamResponse:
    return web.FileResponse(STATIC / "index.html")


async def _ask(request: web.Request) -> web.StreamResponse:
    """Pass a request on to the daemon; what it refuses is an answer too."""
    # A form of another site cannot send this type without asking first.
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="expected application/json\n")
    try:
        asked = msgspec.json.decode(await request.read(), type=_Asked)
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(text=f"expected {{cmd, args}}: {error}\n") from error
    try:
        if asked.cmd not in PAGE_COMMANDS:
            raise ControlError(f"a page may not ask for {asked.cmd[:100]!r}", code="not_for_pages")
        answer: dict[str, Any] = {"ok": True, "result": await request.app[_LINK].ask(asked.cmd, asked.args)}
    except CrossGLGError as error:
        answer = {"ok": False, "error": {"code": error.code, "message": error.message, "hint": error.hint}}
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")


def run_page(config: Config, *, tell: Callable[[str], None], with_parent: bool = False) -> None:
    """Serve the page until SIGINT, SIGTERM, or, `with_parent`, until stdin is closed. Raises ControlError, ConfigError.

    `tell` is told the page's address once it is served.
    """
    access = None
    if config.web.host not in LOOPBACK:
        access = open_access(config.web.token, config.web.certificate, config.web.key)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(config, access, tell, with_parent=with_parent))


async def _serve(config: Config, access: Access | None, tell: Callable[[str], None], *, with_parent: bool) -> None:
    link = DaemonLink(config.sockets.events, config.sockets.control)
    runner = web.AppRunner(make_app(link, config.sockets.frames, access), access_log=None, shutdown_timeout=_SHUTDOWN_S)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    if with_parent:
        loop.add_reader(sys.stdin.fileno(), _stop_at_the_end, stopped)
    try:
        await runner.setup()
        tls = None if access is None else access.tls
        site = web.TCPSite(runner, config.web.host, config.web.port, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            raise ControlError(
                f"the page cannot be served at {config.web.host}, port {config.web.port}: {error.strerror}",
                code="address_in_use",
                hint="Is it served already? Give another port: `crossglg-edge web --port`, or [web] in the config.",
            ) from error
        tell(_address(runner, is_private=access is not None))
        await stopped.wait()
        await link.audience.dismiss()
    finally:
        await runner.cleanup()


def _stop_at_the_end(stopped: asyncio.Event) -> None:
    """Stop when whoever started this process has ended, in whatever way."""
    if not os.read(sys.stdin.fileno(), 1024):
        stopped.set()


def _address(runner: web.AppRunner, *, is_private: bool) -> str:
    host, port = runner.addresses[0][:2]
    # "Every address" is none that a browser can open.
    host = own_address() if host in ("0.0.0.0", "::") else host
    return f"{'https' if is_private else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/"
