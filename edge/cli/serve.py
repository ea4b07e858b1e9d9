"""The command `crossglg-edge serve`."""

from __future__ import annotations

import logging
import signal
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from edge.cli.options import ConfigOption
from edge.cli.terminal import err, escape, note
from edge.cli.web import page_process
from edge.config import read_config
from edge.protocol import VERSION
from streams.errors import ControlError

if TYPE_CHECKING:
    from edge.library import Library


def serve(
    camera: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Read frames from demo[:SEED] (a synthetic performer), zmq, replay:PATH, k4a or k4a:FILE.mkv. "
            "Default: the config's camera.",
        ),
    ] = None,
    config: ConfigOption = None,
    page: Annotated[
        bool, typer.Option("--web", help="Serve the page too, in a process of its own. See `crossglg-edge web`.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Play a replay once instead of forever.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run the daemon: read a camera, recognize enrolled actions, publish events."""
    from edge.daemon import Daemon
    from edge.library import open_library
    from streams.cameras import open_camera

    _log_to_stderr(logging.DEBUG if verbose else logging.INFO)
    settings = read_config(config)
    if camera is not None:
        settings = msgspec.structs.replace(settings, camera=camera)
    library = open_library(settings)
    opened = open_camera(settings.camera, frames_endpoint=settings.sockets.frames, loop=not once, k4a=settings.k4a)
    try:
        daemon = Daemon(library, opened, config_path=config)
    except ControlError:
        opened.close()
        raise
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: daemon.stop())
    _introduce(library, takes_frames=opened.socket is not None)
    with page_process(config) if page else nullcontext():
        daemon.run()


def _log_to_stderr(level: int) -> None:
    handler: logging.Handler = logging.StreamHandler()
    line = "%(asctime)s %(levelname)s %(message)s"
    if err().is_terminal:
        from rich.logging import RichHandler

        handler, line = RichHandler(console=err(), show_path=False), "%(message)s"
    logging.basicConfig(level=level, format=line, handlers=[handler])


def _introduce(library: Library, *, takes_frames: bool) -> None:
    """Say what runs, where it listens and what to do next."""
    config = library.config
    note(
        f"[bold]crossglg-edge {VERSION}[/]  camera [cyan]{escape(config.camera)}[/], "
        f"model {escape(library.encoder.info.name)} in {library.encoder.engine.name}, "
        f"{len(library.gallery.labels())} enrolled actions\n"
        f"frames {config.sockets.frames if takes_frames else 'from the camera itself'}, "
        f"events {config.sockets.events}, control {config.sockets.control}\n"
        "In a second terminal: [bold]crossglg-edge enroll wave[/], then [bold]crossglg-edge watch[/]. Ctrl-C stops."
    )
    if config.camera.startswith("demo"):
        note("[yellow]The demo camera is a synthetic performer, made by the program: not a real person.[/]")
