"""What the page's camera loads: the pose model, served from where `setup browser-camera` has put it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
from aiohttp import web

from edge.web.browser_camera import BrowserCameras
from edge.web.camera_files import FILES, default_folder, find_camera
from streams.errors import CameraError

_STATIC = Path(__file__).with_name("static")
# A worker has rules of its own. It runs WebAssembly, which the pages may not, and loads from here alone.
_WORKER_RULES = "; ".join(
    ("default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "connect-src 'self'", "base-uri 'none'")
)
# Not left to the system's table: a browser takes no script and no module of another type.
_TYPES = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}


def add_camera(app: web.Application, frames_endpoint: str) -> None:
    """Add the model and the door for frames to the page's application."""
    cameras = BrowserCameras(frames_endpoint)

    async def closed(_app: web.Application) -> AsyncIterator[None]:
        yield
        cameras.close()

    async def dismissed(_app: web.Application) -> None:
        await cameras.dismiss()

    app.router.add_get("/camera/state", _state)
    app.router.add_get("/camera/worker.js", _worker)
    app.router.add_get("/camera/model/{name}", _model)
    app.router.add_get("/camera/frames", cameras.welcome)
    app.on_shutdown.append(dismissed)
    app.cleanup_ctx.append(closed)


async def _state(_request: web.Request) -> web.StreamResponse:
    """Tell whether the model is there; 20 MB are read and checked."""
    problem = None
    try:
        await asyncio.to_thread(find_camera)
    except CameraError as error:
        problem = {"code": error.code, "message": error.message, "hint": error.hint}
    return web.Response(body=msgspec.json.encode({"problem": problem}), content_type="application/json")


async def _worker(_request: web.Request) -> web.StreamResponse:
    headers = {"Content-Security-Policy": _WORKER_RULES, "Content-Type": "text/javascript"}
    return web.FileResponse(_STATIC / "js" / "camera_worker.js", headers=headers)


async def _model(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    path = default_folder() / name
    if name not in FILES or not path.is_file():
        raise web.HTTPNotFound(text=f"{name[:100]!r} is not there: run crossglg-edge setup browser-camera\n")
    return web.FileResponse(path, headers={"Content-Type": _TYPES.get(path.suffix, "application/octet-stream")})
