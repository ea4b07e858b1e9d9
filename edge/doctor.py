"""What a machine has and lacks: packages, model, gallery, sockets, sensor."""

from __future__ import annotations

import dataclasses
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from edge.config import DEFAULT_PATH, Config, read_config
from edge.control import VERSION, open_library
from streams.cameras import open_k4a
from streams.errors import ControlError, CrossGLGError
from streams.sockets import ControlClient, ControlServer, EventPublisher, FrameSubscriber


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Say what was looked at, what was found, and what to do about it."""

    what: str
    state: Literal["ok", "missing", "broken"]
    found: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        return dataclasses.asdict(self)


def examine(config_path: Path | None) -> list[Finding]:
    """Look at everything that `serve` needs (broken where it fails) or can use (missing).

    `config_path`: as for `read_config`, which may raise ConfigError.
    """
    config = read_config(config_path)
    path = config_path or DEFAULT_PATH
    return [
        _ok(
            "crossglg-edge",
            f"{VERSION}, Python {platform.python_version()}, {platform.machine()} {sys.platform}",
        ),
        *(_package(name) for name in ("numpy", "pyzmq", "msgspec", "onnxruntime", "mcap")),
        _package("torch", "only for training: pip install 'crossglg-edge[train]'"),
        _ok("config", str(path) if path.exists() else f"defaults; {path} would be read"),
        _tried("model and gallery", lambda: _library(config)),
        *_daemon_or_sockets(config),
        _sensor(),
    ]


def _ok(what: str, found: str) -> Finding:
    return Finding(what=what, state="ok", found=found)


def _package(name: str, remedy: str | None = None) -> Finding:
    try:
        return _ok(name, version(name))
    except PackageNotFoundError:
        state: Literal["missing", "broken"] = "broken" if remedy is None else "missing"
        return Finding(what=name, state=state, found="not installed", remedy=remedy or f"pip install {name}")


def _tried(what: str, look: Callable[[], str]) -> Finding:
    try:
        return _ok(what, look())
    except CrossGLGError as error:
        return Finding(what=what, state="broken", found=error.message, remedy=error.hint)


def _library(config: Config) -> str:
    library = open_library(config)
    with library.gallery as gallery:
        return f"{library.encoder.info.name} runs; {len(gallery.prototypes)} examples in {gallery.path}"


def _daemon_or_sockets(config: Config) -> list[Finding]:
    client = ControlClient(config.sockets.control, timeout_s=0.5)
    try:
        return [_ok("daemon", f"running, process {client.ask('ping')['pid']}")]
    except ControlError as error:
        if error.code != "unreachable":
            return [Finding(what="daemon", state="broken", found=error.message, remedy=error.hint)]
    finally:
        client.close()
    opened = (
        ("frames", FrameSubscriber, config.sockets.frames),
        ("events", EventPublisher, config.sockets.events),
        ("control", ControlServer, config.sockets.control),
    )

    def bind(kind: Callable[[str], FrameSubscriber | EventPublisher | ControlServer], endpoint: str) -> str:
        kind(endpoint).close()
        return f"{endpoint} is free"

    return [
        _tried(f"socket for {name}", lambda kind=kind, endpoint=endpoint: bind(kind, endpoint))  # type: ignore[misc]
        for name, kind, endpoint in opened
    ]


def _sensor() -> Finding:
    try:
        open_k4a().close()
        return _ok("Azure Kinect", "opened")
    except CrossGLGError as error:
        return Finding(what="Azure Kinect", state="missing", found=error.message, remedy=error.hint)
