"""The command `crossglg-edge serve`."""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from edge.cli.options import ConfigOption
from edge.cli.terminal import escape, log_handler, note, say
from edge.cli.web import page_process
from edge.config import read_config
from edge.protocol import VERSION
from streams.errors import ConfigError, ControlError

if TYPE_CHECKING:
    from edge.daemon import Daemon, PatientHandler
    from edge.library import Library

# Cameras that show what is there now; "k4a" alone is one, too.
_ENDLESS = ("demo", "zmq", "webcam")


def serve(
    camera: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Read frames from demo[:SEED] (a synthetic performer), zmq, replay:PATH, webcam[:N], video:FILE "
            "or k4a[:FILE.mkv]. Default: the config's camera.",
        ),
    ] = None,
    config: ConfigOption = None,
    page: Annotated[
        bool, typer.Option("--web", help="Serve the page too, in a process of its own. See `crossglg-edge web`.")
    ] = False,
    once: Annotated[
        bool,
        typer.Option("--once", help="Play a file once, say what was recognized, and end. Default: play it forever."),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run the daemon: read a camera, recognize enrolled actions, publish events."""
    from edge.daemon import Daemon
    from edge.library import open_library
    from streams.cameras import open_camera

    handler = _log_to_stderr(logging.DEBUG if verbose else logging.INFO)
    settings = read_config(config)
    if camera is not None:
        settings = msgspec.structs.replace(settings, camera=camera)
    if once and (settings.camera.partition(":")[0] in _ENDLESS or settings.camera == "k4a"):
        raise ConfigError(
            f"--once plays a file to its end: {settings.camera!r} has none",
            hint="Name a file with --camera replay:PATH or video:FILE, or leave out --once.",
        )
    library = open_library(settings)
    opened = open_camera(
        settings.camera,
        frames_endpoint=settings.sockets.frames,
        loop=not once,
        k4a=settings.k4a,
        webcam=settings.webcam,
    )
    try:
        daemon = Daemon(library, opened, config_path=config, ends_with_camera=once)
    except ControlError:
        opened.close()
        raise
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: daemon.stop())
    introduce(library, once=once)
    with page_process(config) if page else nullcontext():
        daemon.run()
    if once:
        say(_outcome(daemon))
    handler.close()
    if handler.is_stuck:
        # Python would wait at its end for the thread that waits for the terminal.
        os._exit(0)


def _log_to_stderr(level: int) -> PatientHandler:
    from edge.daemon import PatientHandler

    patient = PatientHandler(log_handler())
    logging.basicConfig(level=level, handlers=[patient])
    return patient


def introduce(library: Library, *, once: bool) -> None:
    """Say what runs, where it listens and what to do next."""
    config, labels = library.config, library.gallery.labels()
    frames = f"frames {config.sockets.frames}, " if config.camera == "zmq" else ""
    note(
        f"[bold]crossglg-edge {VERSION}[/]  camera [cyan]{escape(config.camera)}[/]{' once' if once else ''}, "
        f"model {escape(library.encoder.info.name)} in {library.encoder.engine.name}, "
        f"{len(labels)} enrolled actions\n"
        f"{frames}events {config.sockets.events}, control {config.sockets.control}\n"
        f"{_next_step(config.camera, has_labels=bool(labels))} Ctrl-C stops."
    )
    if config.camera.startswith("demo"):
        note("[yellow]The demo camera is a synthetic performer, made by the program: not a real person.[/]")


def _next_step(camera: str, *, has_labels: bool) -> str:
    """Return what to do next with a camera."""
    watch = "[bold]crossglg-edge watch[/]"
    kind = camera.partition(":")[0]
    if kind == "demo":
        return f"In a second terminal: [bold]crossglg-edge enroll wave[/], then {watch}."
    if kind == "replay":
        enroll = "[bold]crossglg-edge enroll LABEL --from FILE[/]"
        return (
            f"In a second terminal: {watch}." if has_labels else f"Nothing is enrolled: {enroll} enrolls a recording."
        )
    enroll = f"In a second terminal: [bold]crossglg-edge enroll LABEL[/], then {watch}."
    if kind == "zmq":
        publish = "[bold]crossglg-edge publish FILE[/]"
        return f"It waits for frames: from your tracker (docs/publish.md), or from {publish}.\n{enroll}"
    return enroll


def _outcome(daemon: Daemon) -> str:
    """Return what came of a file that was played once: frames, decisions, events by label, what was dropped."""
    sources = daemon.recognizer.intake.status(0.0).sources.values()
    dropped = sum((Counter(source.dropped) for source in sources), Counter())
    onsets = daemon.num_onsets
    events = ", ".join(f"{number} {escape(label)}" for label, number in onsets.most_common())
    parts = [
        f"{sum(source.frames for source in sources)} frames, {daemon.recognizer.num_decisions} decisions",
        f"{onsets.total()} events: {events}" if onsets else "no event",
        f"dropped: {', '.join(f'{number} {reason}' for reason, number in dropped.items())}" if dropped else "",
    ]
    return "; ".join(filter(None, parts))
