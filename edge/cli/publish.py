"""The command `crossglg-edge publish`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli.ask import daemon
from edge.cli.options import ConfigOption
from edge.cli.terminal import clock_progress, escape, note, say
from edge.config import Config, read_config
from edge.protocol import Status, ask
from streams.errors import ControlError

if TYPE_CHECKING:
    from streams.frame import SkeletonFrame
    from streams.sockets import FramePublisher


def publish(
    spec: Annotated[
        str, typer.Argument(metavar="RECORDING|ARCHIVE:CLIP", help="A recording, an archive or one of its clips.")
    ],
    speed: Annotated[float, typer.Option(min=0.01, max=1000, help="Send this many times as fast as real time.")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Start again at the end.")] = False,
    source: Annotated[str | None, typer.Option(help="Publish under this source name.")] = None,
    config: ConfigOption = None,
) -> None:
    """Send the frames of a recording or an archive to a daemon (`serve --camera zmq`)."""
    from streams.pace import pace_frames
    from streams.playback import is_archive, repeat_frames
    from streams.sockets import FramePublisher

    settings = read_config(config)
    if not is_archive(spec):
        _tell_recording(Path(spec))
    publisher = FramePublisher(settings.sockets.frames)
    try:
        if not publisher.wait_for_subscriber(5.0):
            raise _nobody_listens(settings)
        num_frames = _send(publisher, pace_frames(repeat_frames(spec, loop=loop), speed=speed, source=source))
    finally:
        publisher.close()
    say(f"{num_frames} frames sent")


def _nobody_listens(config: Config) -> ControlError:
    """Return why nobody takes frames: no daemon runs, or one that has another camera."""
    start = "Start one with `crossglg-edge serve --camera zmq`."
    nobody = f"no daemon takes frames at {config.sockets.frames} within 5 s"
    try:
        with daemon(config, timeout_s=1.0) as client:
            camera = ask(client, Status()).camera
    except ControlError:
        return ControlError(nobody, hint=start)
    if camera == "zmq":
        return ControlError(
            nobody, hint="A daemon runs and waits for frames: give both the same [sockets] frames in the config."
        )
    return ControlError(
        f"{nobody}: the one that runs takes them from --camera {camera}",
        code="other_camera",
        hint=f"Stop it with `crossglg-edge stop`. {start}",
    )


def _tell_recording(path: Path) -> None:
    from streams.recording import describe_recording

    about = describe_recording(path)
    whole = "" if about.complete else "; it was cut off, and is read as far as it is whole"
    sources = escape(", ".join(about.sources))
    note(f"[dim]{about.num_frames} frames of {sources}, {about.duration_s:.1f} s{whole}[/]")


def _send(publisher: FramePublisher, frames: Iterator[SkeletonFrame]) -> int:
    num_frames = 0
    with clock_progress() as progress:
        task = progress.add_task("")
        try:
            for frame in frames:
                publisher.send(frame)
                num_frames += 1
                progress.update(task, description=f"{num_frames} frames, the last of {frame.source}")
        except KeyboardInterrupt:
            pass
    return num_frames
