"""The command `crossglg-edge record`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from edge.cli.ask import daemon
from edge.cli.options import ConfigOption, EndpointOption
from edge.cli.terminal import clock_progress, escape, note, say
from edge.config import Config, read_config
from edge.protocol import RecordStart, RecordStop, Status, ask

if TYPE_CHECKING:
    from streams.cameras import Note

_LOOK_S = 0.5


def record(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The .mcap file to write.")],
    camera: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Record this camera without a daemon: demo[:SEED], zmq, replay:PATH, webcam[:N], video:FILE "
            "or k4a[:FILE.mkv].",
        ),
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after this many seconds. Default: at Ctrl-C.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
) -> None:
    """Record skeleton frames as MCAP, for Foxglove, the mcap tools, `publish` and `enroll --from`."""
    settings = read_config(config, endpoint)
    path = path.absolute()
    length_s = seconds if seconds is not None else float("inf")
    if camera is None:
        num_frames = _by_the_daemon(settings, path, length_s, overwrite=overwrite)
    else:
        num_frames = _from_camera(settings, camera, path, length_s, overwrite=overwrite)
    say(f"{num_frames} frames in {escape(str(path))}")


def _by_the_daemon(config: Config, path: Path, length_s: float, *, overwrite: bool) -> int:
    with daemon(config) as client:
        ask(client, RecordStart(path=str(path), overwrite=overwrite))
        end_s = time.monotonic() + length_s
        note(f"[dim]the daemon records to {escape(str(path))}; Ctrl-C stops[/]")
        try:
            while time.monotonic() < end_s:
                time.sleep(min(0.2, max(0.0, end_s - time.monotonic())))
        except KeyboardInterrupt:
            pass
        recording = ask(client, RecordStop())
        if recording.state:
            note("[dim]the disk is slow; waiting until all is written[/]")
        while recording.state:
            time.sleep(_LOOK_S)
            recording = ask(client, Status()).recording or msgspec.structs.replace(recording, state="")
        if recording.dropped:
            note(f"[yellow]{recording.dropped} frames were not recorded: the disk was too slow[/]")
        return recording.frames


def _from_camera(config: Config, name: str, path: Path, length_s: float, *, overwrite: bool) -> int:
    from streams.cameras import Refused, open_camera
    from streams.pace import frames_until, wait_until_ready
    from streams.recording import RecordingWriter

    opened = open_camera(name, frames_endpoint=config.sockets.frames, loop=False, k4a=config.k4a, webcam=config.webcam)
    num_refused = 0

    def tell(told: Note) -> None:
        note(escape(told.message))

    try:
        # To open a camera may take a while, which is not recorded; where it fails, a file that is there stays.
        wait_until_ready(opened, tell)
        end_s = time.monotonic() + length_s
        with clock_progress() as progress, RecordingWriter(path, overwrite=overwrite) as writer:
            task = progress.add_task("recording")
            try:
                for frame in frames_until(opened, end_s, tell):
                    if isinstance(frame, Refused):
                        num_refused += 1
                    else:
                        writer.write(frame, log_time_ns=time.time_ns())
                    progress.update(task, description=f"{writer.num_frames} frames, {num_refused} refused")
            except KeyboardInterrupt:
                pass
        return writer.num_frames
    finally:
        opened.close()
