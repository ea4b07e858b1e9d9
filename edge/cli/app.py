"""The command line: `crossglg-edge`."""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from edge.cli.bench import bench
from edge.cli.doctor import examine
from edge.cli.guide import confirmed, guide, negative_summary, summary
from edge.config import Config, config_toml, read_config
from edge.daemon import LIBRARY_COMMANDS, Daemon, call
from edge.enroll import checked_pieces, one_body, pieces_of
from edge.library import open_library
from edge.protocol import VERSION, Mode, Side
from streams import sockets
from streams.cameras import Refused, clock_name, open_camera
from streams.errors import ControlError, CrossGLGError
from streams.frame import SkeletonFrame
from streams.playback import is_archive, read_clip, read_frames, repeated
from streams.recording import RecordingWriter, describe_recording
from streams.sockets import ControlClient, EventSubscriber, FramePublisher

# Exit codes: 0 done, 1 done but the answer is bad news (doctor), 2 refused, 3 no daemon answers,
# 130 broken off by Ctrl-C.
_BAD_NEWS, _REFUSED, _UNREACHABLE, _BROKEN_OFF = 1, 2, 3, 130

app = typer.Typer(
    name="crossglg-edge",
    help="Show it an action once: live one-shot recognition of skeleton actions.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
gallery_app = typer.Typer(no_args_is_help=True, help="The enrolled actions: list, show, change, move.")
app.add_typer(gallery_app, name="gallery")
threshold_app = typer.Typer(no_args_is_help=True, help="How near a match must be: by false alarms an hour, or by hand.")
app.add_typer(threshold_app, name="threshold")
app.command()(bench)

out = Console()
err = Console(stderr=True)
# Lines stay lines in a pipe, and only our own markup has colors.
_PLAIN: Any = {"soft_wrap": True, "highlight": False}

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file; default: the user's own, see `config`.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def main() -> None:
    """Run the command line; errors become one message, a hint and an exit code."""
    add_offline_commands()
    # A closed terminal or a `kill` is to end a recording or an enrollment as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        app()
    except CrossGLGError as error:
        err.print(f"[bold red]error[/] [dim]({escape(error.code)})[/] {escape(error.message)}", **_PLAIN)
        if error.hint:
            err.print(escape(error.hint), style="yellow", **_PLAIN)
        is_lost = isinstance(error, ControlError) and error.code == "unreachable"
        sys.exit(_UNREACHABLE if is_lost else _REFUSED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    finally:
        sockets.terminate()


def add_offline_commands() -> None:
    """Add the commands that live above this package: evaluate, train, export."""
    for command in entry_points(group="crossglg_edge.commands"):
        loaded = command.load()
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=command.name)
        else:
            app.command(command.name)(loaded)


def _say(text: str) -> None:
    out.print(text, **_PLAIN)


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


@contextmanager
def _client(config: Config, timeout_s: float = 5.0) -> Iterator[ControlClient]:
    client = ControlClient(config.sockets.control, timeout_s=timeout_s)
    try:
        yield client
    finally:
        client.close()


def _on_gallery(config: Config, cmd: str, **args: Any) -> dict[str, Any]:
    """Ask the daemon, or, where none runs, do it on the gallery file itself."""
    with _client(config, timeout_s=0.5) as client:
        try:
            client.ask("ping")
        except ControlError as error:
            if error.code != "unreachable":
                raise
        else:
            client.timeout_s = 30.0
            return client.ask(cmd, **args)
    library = open_library(config)
    with library.gallery:
        return call(LIBRARY_COMMANDS, library, cmd, args)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        out.print(VERSION)
        raise typer.Exit


@app.command()
def serve(
    camera: Annotated[
        str | None,
        typer.Option(help="demo[:SEED] (a synthetic performer), zmq, replay:PATH, k4a; default: the config's."),
    ] = None,
    config: ConfigOption = None,
    once: Annotated[bool, typer.Option("--once", help="Play a replay once instead of for ever.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v")] = False,
) -> None:
    """Run the daemon: read a camera, recognize enrolled actions, publish events."""
    handler: logging.Handler = RichHandler(console=err, show_path=False) if err.is_terminal else logging.StreamHandler()
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(message)s" if err.is_terminal else "%(asctime)s %(levelname)s %(message)s",
        handlers=[handler],
    )
    settings = read_config(config)
    if camera is not None:
        settings = msgspec.structs.replace(settings, camera=camera)
    library = open_library(settings)
    opened = open_camera(settings.camera, frames_endpoint=settings.sockets.frames, loop=not once)
    try:
        daemon = Daemon(library, opened, config_path=config)
    except ControlError:
        opened.close()
        raise
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: daemon.stop())
    err.print(
        f"[bold]crossglg-edge {VERSION}[/]  camera [cyan]{escape(settings.camera)}[/], "
        f"model {escape(library.encoder.info.name)} in {library.encoder.engine.name}, "
        f"{len(library.gallery.labels())} enrolled actions\n"
        f"frames {settings.sockets.frames if opened.socket is not None else 'from the camera itself'}, "
        f"events {settings.sockets.events}, control {settings.sockets.control}\n"
        "In a second terminal: [bold]crossglg-edge enroll wave[/], then [bold]crossglg-edge watch[/]. "
        "Ctrl-C stops.",
        **_PLAIN,
    )
    if settings.camera.startswith("demo"):
        err.print(
            "[yellow]The demo camera is a synthetic performer, made by the program: not a real person.[/]", **_PLAIN
        )
    daemon.run()


@app.command()
def enroll(
    label: Annotated[str | None, typer.Argument(help="The action's name.")] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="RECORDING.mcap or ARCHIVE.npz:CLIP instead of the live stream."),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, max=20, help="So many in one go, each counted down.")] = 1,
    add: Annotated[bool, typer.Option("--add", help="One more example of a label that exists.")] = False,
    replace_: Annotated[bool, typer.Option("--replace", help="Instead of a label's examples so far.")] = False,
    side: Annotated[
        Side | None,
        typer.Option(help="Of which side the action is, whichever is shown; either: stored as shown and mirrored."),
    ] = None,
    negative: Annotated[
        bool, typer.Option("--negative", help="Ordinary movement that is no action, instead of an action.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="With --negative: for so long.")] = 60,
    countdown: Annotated[float | None, typer.Option(min=0, max=60, help="Seconds to get ready.")] = None,
    confirm: Annotated[bool, typer.Option("--confirm", help="Show what was captured, and ask before storing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Though it is too like another action.")] = False,
    source: Annotated[str | None, typer.Option(help="Which source, where several publish.")] = None,
    body: Annotated[int | None, typer.Option(help="Which body, where several are in view.")] = None,
    no_trim: Annotated[bool, typer.Option("--no-trim", help="With --from: keep rest at the ends.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No beeps and no progress.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an action once: waits till you stand still, counts down, captures it, cuts off the rest, stores it."""
    if add and replace_:
        raise typer.BadParameter("--add and --replace exclude each other")
    if negative == (label is not None):
        raise typer.BadParameter("expected either the action's name or --negative")
    if negative and (add or replace_ or side or force or confirm or no_trim or examples > 1):
        raise typer.BadParameter("--negative goes with --from, --seconds, --countdown, --source and --body")
    if from_ is not None and (confirm or examples > 1):
        raise typer.BadParameter("--confirm and --examples are for the live stream, not for --from")
    settings = read_config(config)
    mode: Mode = "add" if add else "replace" if replace_ else "new"
    wish: dict[str, Any] = {"source": source, "body": body}
    if label is None:
        wish["negative_s"] = seconds
    else:
        wish |= {"label": label, "side": side, "force": force}
    for number in range(examples):
        if label is not None:
            wish["mode"] = "add" if number else mode
        if from_ is not None:
            result = _enroll_from(settings, from_, wish, trim=not no_trim)
        else:
            args = {**wish, "countdown_s": countdown, "commit": not confirm}
            result = _enroll_live(settings, args, num_stored=number, quiet=quiet or as_json)
        if as_json:
            _print_json(result)
        elif label is None:
            _say(f"[green]stored[/] {negative_summary(result)}")
        else:
            _say(f"[green]enrolled[/] {summary(result)}")


def _enroll_live(config: Config, args: dict[str, Any], *, num_stored: int, quiet: bool) -> dict[str, Any]:
    with _client(config) as client:
        try:
            status = guide(client, err, args, quiet=quiet)
            if status["state"] == "done":
                return dict(status["result"])
            if confirmed(err, status["preview"]):
                # Whoever has seen what it is like, and still wants it, is not asked again.
                return client.ask("enroll.commit", force=True)
            client.ask("enroll.cancel")
            err.print("not stored")
            raise typer.Exit(_BAD_NEWS)
        except (KeyboardInterrupt, EOFError):
            client.ask("enroll.cancel")
            is_stored = client.ask("enroll.status")["state"] == "done"
            before = f"the {num_stored} before it stored" if num_stored else "nothing was stored"
            err.print("it was stored already: see `gallery undo`" if is_stored else f"cancelled, {before}")
            raise typer.Exit(_BROKEN_OFF) from None


def _enroll_from(config: Config, spec: str, wish: dict[str, Any], *, trim: bool) -> dict[str, Any]:
    def clip(timestamps_s: Any, joints_m: Any) -> dict[str, Any]:
        return {
            "timestamps_s": np.asarray(timestamps_s, "<f8").tobytes(),
            "joints_m": np.asarray(joints_m, "<f4").tobytes(),
        }

    frames = read_clip(spec).frames() if is_archive(spec) else read_frames(spec)
    source, body, origin = wish["source"], wish["body"], f"file:{Path(spec).name}"
    if "negative_s" in wish:
        pieces = checked_pieces(pieces_of(frames, config, source=source, body=body), config)
        return _on_gallery(config, "enroll.negative", pieces=[clip(*piece) for piece in pieces], origin=origin)
    timestamps_s, joints_m = one_body(frames, source=source, body=body)
    args = {key: wish[key] for key in ("label", "mode", "side", "force")}
    return _on_gallery(config, "enroll.clip", **args, **clip(timestamps_s, joints_m), origin=origin, trim=trim)


@app.command()
def watch(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    seconds: Annotated[float | None, typer.Option(help="Stop after this long.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Log lines and updates, too.")] = False,
) -> None:
    """Show events as they come."""
    settings = read_config(config)
    with _client(settings, timeout_s=1.0) as client:
        try:
            labels = ", ".join(client.ask("status")["gallery"]["labels"])
            if not as_json:
                enrolled = escape(labels) or "nothing yet"
                err.print(f"[dim]enrolled: {enrolled}; waiting for events, Ctrl-C stops[/]", **_PLAIN)
        except ControlError as error:
            err.print(f"[yellow]{escape(error.message)}; waiting for one[/]", **_PLAIN)
    events = EventSubscriber(settings.sockets.events, ("event.", "log.") if everything else ("event.",))
    end_s = time.monotonic() + seconds if seconds is not None else float("inf")
    marks = {"onset": "[bold green]began[/]", "update": "[dim]goes on[/]", "end": "[dim]ended[/]"}
    try:
        while (left_s := end_s - time.monotonic()) > 0:
            received = events.receive(min(left_s, 1.0))
            if received is None:
                continue
            topic, message = received
            if as_json:
                _print_json({"topic": topic, **message})
            elif topic.startswith("log."):
                _say(f"[dim]{escape(message['level'])}[/] {escape(message['message'])}")
            elif everything or message["type"] != "update":
                _say(
                    f"{time.strftime('%H:%M:%S')} {marks[message['type']]} [bold]{escape(message['label'])}[/]  "
                    f"score {message['score']:.2f}, body {message['body']} of {escape(message['source'])}, "
                    f"{message['t_end'] - message['t_start']:.1f} s, latency {message['latency_ms']['total']:.1f} ms"
                )
    except KeyboardInterrupt:
        return
    finally:
        events.close()


@app.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show what the daemon does: sources, rates, what was dropped and why, the gallery, the model."""
    with _client(read_config(config)) as client:
        answer = client.ask("status")
    if as_json:
        _print_json(answer)
        return
    table = Table(show_header=False, box=None)
    for key in (
        "version", "pid", "uptime_s", "camera", "enrolling", "bodies", "bodies_refused", "bodies_without_joints",
        "decisions", "windows", "hops_skipped", "encodes_failed",
    ):  # fmt: skip
        table.add_row(key, escape(str(answer[key])))
    table.add_row("model", escape(answer["model"]["name"]))
    table.add_row("engine", escape(_engine_line(answer["model"]["engine"])))
    table.add_row("matching", answer["model"]["matching"])
    gallery = answer["gallery"]
    table.add_row("gallery", escape(f"{gallery['path']}, revision {gallery['revision']}"))
    table.add_row("enrolled", escape(", ".join(gallery["labels"])) or "nothing yet")
    table.add_row("events", ", ".join(f"{n} {kind}" for kind, n in answer["events"].items()) or "none yet")
    table.add_row("per frame", f"p50 {answer['per_frame_us']['p50']} us, p99 {answer['per_frame_us']['p99']} us")
    recording = answer["recording"]
    table.add_row("recording", escape(f"{recording['path']}, {recording['frames']} frames") if recording else "no")
    out.print(table)
    sources = Table("source", "frames", "fps", "last seen", "lost on the way", "dropped, by reason")
    for name, source in answer["sources"].items():
        rate = f"[red]{source['fps']} (slow)[/]" if source["slow"] else str(source["fps"])
        dropped = ", ".join(f"{n} {reason}" for reason, n in source["dropped"].items()) or "none"
        seen = f"{source['age_s']:.1f} s ago"
        sources.add_row(escape(name), str(source["frames"]), rate, seen, str(source["lost"]), dropped)
    if answer["dropped"]:
        sources.add_row("(unknown)", "", "", "", "", ", ".join(f"{n} {r}" for r, n in answer["dropped"].items()))
    out.print(sources)


def _engine_line(engine: dict[str, Any]) -> str:
    details = ", ".join(f"{key} {value}" for key, value in engine["details"].items() if value != "")
    not_used = "".join(f"; not {name}: {reason}" for name, reason in engine["not_used"].items())
    return f"{engine['runs']} ({details}), asked for: {engine['asked']}{not_used}"


@app.command()
def stop(config: ConfigOption = None) -> None:
    """Stop the daemon."""
    with _client(read_config(config)) as client:
        _say(f"stopped, process {client.ask('shutdown')['pid']}")


@app.command()
def record(
    path: Annotated[Path, typer.Argument(help="The .mcap file to write.")],
    camera: Annotated[
        str | None,
        typer.Option(help="Record this camera here, without a daemon: demo[:SEED], zmq, replay:PATH, k4a."),
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after this long; default: at Ctrl-C.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    config: ConfigOption = None,
) -> None:
    """Record skeleton frames as MCAP, for Foxglove, the mcap tools, `publish` and `enroll --from`."""
    settings = read_config(config)
    path = path.absolute()
    end_s = time.monotonic() + seconds if seconds is not None else float("inf")
    if camera is not None:
        num_frames = _record_camera(settings, camera, path, end_s, overwrite=overwrite)
    else:
        with _client(settings) as client:
            client.ask("record.start", path=str(path), overwrite=overwrite)
            err.print(f"[dim]the daemon records to {escape(str(path))}; Ctrl-C stops[/]", **_PLAIN)
            try:
                while time.monotonic() < end_s:
                    time.sleep(min(0.2, max(0.0, end_s - time.monotonic())))
            except KeyboardInterrupt:
                pass
            num_frames = client.ask("record.stop")["frames"]
    _say(f"{num_frames} frames in {escape(str(path))}")


def _record_camera(config: Config, name: str, path: Path, end_s: float, *, overwrite: bool) -> int:
    opened = open_camera(name, frames_endpoint=config.sockets.frames, loop=False)
    num_refused = 0
    with _clock_progress() as progress, RecordingWriter(path, overwrite=overwrite) as writer:
        task = progress.add_task("recording")
        try:
            while (now_s := time.monotonic()) < end_s and opened.wait_s(now_s) < math.inf:
                for message in opened.read(now_s, 512):
                    if isinstance(message, Refused):
                        num_refused += 1
                        continue
                    writer.write(message, log_time_ns=time.time_ns())
                progress.update(task, description=f"{writer.num_frames} frames, {num_refused} refused")
                time.sleep(min(0.01, opened.wait_s(now_s)))
        except KeyboardInterrupt:
            pass
        finally:
            opened.close()
    return writer.num_frames


def _clock_progress() -> Progress:
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


@app.command()
def publish(
    spec: Annotated[str, typer.Argument(metavar="RECORDING|ARCHIVE:CLIP", help="What to send.")],
    speed: Annotated[float, typer.Option(min=0.01, max=1000, help="Times real time.")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Again and again.")] = False,
    source: Annotated[str | None, typer.Option(help="Publish under this name.")] = None,
    config: ConfigOption = None,
) -> None:
    """Send the frames of a recording or an archive's clip to a daemon (`serve --camera zmq`)."""
    settings = read_config(config)
    if not is_archive(spec):
        about = describe_recording(Path(spec))
        whole = "" if about.complete else "; it was cut off, and is read as far as it is whole"
        sources = escape(", ".join(about.sources))
        err.print(f"[dim]{about.num_frames} frames of {sources}, {about.duration_s:.1f} s{whole}[/]", **_PLAIN)
    publisher = FramePublisher(settings.sockets.frames)
    try:
        if not publisher.wait_for_subscriber(5.0):
            raise ControlError(
                f"no daemon takes frames at {settings.sockets.frames} within 5 s",
                hint="Start one with `crossglg-edge serve --camera zmq`.",
            )
        num_frames = _send_paced(publisher, repeated(spec, loop=loop), speed, source)
    finally:
        publisher.close()
    _say(f"{num_frames} frames sent")


def _send_paced(publisher: FramePublisher, frames: Iterator[SkeletonFrame], speed: float, source: str | None) -> int:
    epoch, start_s, num_sent = uuid.uuid4().hex, time.monotonic(), Counter[str]()
    # At another speed the frames' time is not this machine's, so no clock is named.
    clock = clock_name() if speed == 1.0 else ""
    with _clock_progress() as progress:
        task = progress.add_task("")
        try:
            for frame in frames:
                wait_s = start_s + frame.timestamp_s / speed - time.monotonic()
                if wait_s > 0:
                    time.sleep(wait_s)
                timestamp_s, name = start_s + frame.timestamp_s, source or frame.source
                publisher.send(
                    replace(
                        frame,
                        source=name,
                        epoch=epoch,
                        seq=num_sent[name],
                        timestamp_s=timestamp_s,
                        t_send_s=time.monotonic() if clock else timestamp_s,
                        clock=clock,
                    )
                )
                num_sent[name] += 1
                progress.update(task, description=f"{num_sent.total()} frames, the last of {frame.source}")
        except KeyboardInterrupt:
            pass
    return num_sent.total()


@app.command("config")
def show_config(config: ConfigOption = None) -> None:
    """Print the configuration in force, as a TOML file with every key explained."""
    sys.stdout.write(config_toml(read_config(config)))


@app.command()
def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check packages, model, gallery, sockets and sensor; say what is missing and how to get it."""
    findings = examine(config)
    if as_json:
        _print_json([finding.as_dict() for finding in findings])
    else:
        marks = {"ok": "[green]ok[/]", "missing": "[yellow]missing[/]", "broken": "[bold red]broken[/]"}
        table = Table("", "what", "found", "what to do")
        for finding in findings:
            table.add_row(marks[finding.state], finding.what, escape(finding.found), escape(finding.remedy))
        out.print(table)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(_BAD_NEWS)


def _tell(answer: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print an answer as JSON, or else as a line."""
    if as_json:
        _print_json(answer)
    else:
        _say(escape(text))


@gallery_app.command("list")
def gallery_list(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the enrolled actions."""
    answer = _on_gallery(read_config(config), "gallery.list")
    if as_json:
        _print_json(answer)
        return
    table = Table("action", "examples", "seconds", "from", title=f"revision {answer['gallery_revision']}")
    for label in answer["labels"]:
        examples = label["examples"]
        table.add_row(
            escape(label["label"]),
            str(len(examples)),
            ", ".join(f"{example['duration_s']:.1f}" for example in examples),
            escape(", ".join(sorted({example["origin"] for example in examples}))),
        )
    out.print(table)
    if answer["negatives"]:
        out.print(_example_table("ordinary movement", answer["negatives"]))


@gallery_app.command("show")
def gallery_show(
    label: Annotated[str | None, typer.Argument(help="Which action; default: all of them.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the examples are, how well each action keeps apart, and which will be confused."""
    answer = _on_gallery(read_config(config), "gallery.get", label=label)
    if as_json:
        _print_json(answer)
        return
    shown = answer["labels"] if label is None else [answer]
    if label is not None:
        out.print(_example_table(answer["label"], answer["examples"]))
        nearest = Table("most like it", "distance", "score")
        for other in answer["nearest"]:
            nearest.add_row(escape(other["label"]), f"{other['distance']:.2f}", f"{other['score']:.2f}")
        out.print(nearest)
    else:
        table = Table("action", "seconds", "moves", "most like", "distance", "margin")
        for action in shown:
            nearest_one = action["nearest"][0] if action["nearest"] else None
            table.add_row(
                escape(action["label"]),
                ", ".join(f"{example['duration_s']:.1f}" for example in action["examples"]),
                _moves(action),
                escape(nearest_one["label"]) if nearest_one else "",
                f"{nearest_one['distance']:.2f}" if nearest_one else "",
                f"{action['margin']:.2f}",
            )
        out.print(table)
    for action in shown:
        if label is not None:
            apart = "" if action["apart"] is None else f"; its own examples are {action['apart']:.2f} apart"
            _say(f"moves {_moves(action)}; margin to the others {action['margin']:.2f}{apart}")
        if action["confused_with"]:
            others = escape(", ".join(action["confused_with"]))
            _say(f"[yellow][bold]{escape(action['label'])}[/] will be confused with [bold]{others}[/][/]")


def _moves(action: dict[str, Any]) -> str:
    return ", ".join(dict.fromkeys(joint for example in action["examples"] for joint in example["moved"]))


def _example_table(title: str, examples: list[dict[str, Any]]) -> Table:
    table = Table("id", "seconds", "frames", "joints", "from", "enrolled", title=escape(title))
    for example in examples:
        table.add_row(
            example["id"][:8], f"{example['duration_s']:.2f}", str(example["frames"]),
            f"{100 * example['joints']:.0f} %", escape(example["origin"]), escape(example["created"]),
        )  # fmt: skip
    return table


@gallery_app.command("remove")
def gallery_remove(
    label: Annotated[str | None, typer.Argument(help="The action, with all its examples.")] = None,
    id: Annotated[
        str | None, typer.Option(help="One example, or ordinary movement: the beginning of its id, see show and list.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove an action, or one example (undo brings it back)."""
    if (label is None) == (id is None):
        raise typer.BadParameter("expected either an action or --id")
    answer = _on_gallery(read_config(config), "gallery.remove", label=label, id=id)
    _tell(answer, f"removed {label or id}; `crossglg-edge gallery undo` brings it back", as_json=as_json)


@gallery_app.command("rename")
def gallery_rename(old: str, new: str, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Rename an action."""
    answer = _on_gallery(read_config(config), "gallery.rename", old=old, new=new)
    _tell(answer, f"{old} is now {new}", as_json=as_json)


@gallery_app.command("undo")
def gallery_undo(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Take back the latest change; again for the one before."""
    answer = _on_gallery(read_config(config), "gallery.undo")
    _tell(answer, f"undone: {answer['undone']}", as_json=as_json)


@gallery_app.command("history")
def gallery_history(
    config: ConfigOption = None, as_json: JsonOption = False, limit: Annotated[int, typer.Option(min=1)] = 20
) -> None:
    """List the latest changes."""
    answer = _on_gallery(read_config(config), "gallery.history", limit=limit)
    if as_json:
        _print_json(answer)
        return
    table = Table("revision", "when", "what", "action")
    for change in answer["history"]:
        table.add_row(str(change["revision"]), *(escape(change[key]) for key in ("created", "action", "label")))
    out.print(table)


@gallery_app.command("revert")
def gallery_revert(revision: int, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Go back to the set of actions as of a revision."""
    answer = _on_gallery(read_config(config), "gallery.revert", revision=revision)
    text = f"now as in revision {revision}: {', '.join(answer['labels']) or 'nothing enrolled'}"
    _tell(answer, text, as_json=as_json)


@gallery_app.command("vacuum")
def gallery_vacuum(
    keep: Annotated[int, typer.Option(min=0, help="How many of the latest changes can still be undone.")] = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete removed examples for good; until then they stay in the file, so that undo can bring them back."""
    answer = _on_gallery(read_config(config), "gallery.vacuum", keep_revisions=keep)
    _tell(answer, f"{answer['deleted']} examples deleted for good", as_json=as_json)


@gallery_app.command("export")
def gallery_export(
    path: Path,
    label: Annotated[list[str] | None, typer.Option(help="Only this action; may be repeated.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the actions to one portable file."""
    answer = _on_gallery(read_config(config), "gallery.export", path=str(path.absolute()), labels=label)
    negatives = f" and {answer['negatives']} of ordinary movement" if answer["negatives"] else ""
    _tell(answer, f"{answer['examples']} examples{negatives} in {path}", as_json=as_json)


@gallery_app.command("import")
def gallery_import(
    path: Path,
    add: Annotated[bool, typer.Option("--add", help="Add to labels that exist.")] = False,
    replace_: Annotated[bool, typer.Option("--replace", help="Replace labels that exist.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read the actions of a file that `gallery export` wrote."""
    if add and replace_:
        raise typer.BadParameter("--add and --replace exclude each other")
    mode: Mode = "add" if add else "replace" if replace_ else "new"
    answer = _on_gallery(read_config(config), "gallery.import", path=str(path.absolute()), mode=mode)
    negatives = f"; {answer['negatives']} of ordinary movement are here now" if answer["negatives"] else ""
    _tell(answer, f"imported: {', '.join(answer['labels']) or 'no action'}{negatives}", as_json=as_json)


@threshold_app.command("calibrate")
def threshold_calibrate(
    false_alarms_per_hour: Annotated[float, typer.Option(help="Of all actions together; 1: one an hour.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give each action the threshold for so many false alarms, and tell how often it will be missed.

    By the rates that ship with the model, and by your own ordinary movement, see `enroll --negative`. Actions
    enrolled later get theirs by the same wish.
    """
    settings = read_config(config)
    answer = _on_gallery(settings, "threshold.calibrate", false_alarms_per_hour=false_alarms_per_hour)
    with _clock_progress() as progress:
        progress.add_task("looking through your ordinary movement")
        while answer["state"] == "calibrating":
            time.sleep(0.1)
            answer = _on_gallery(settings, "threshold.get")
    if answer["state"]:
        raise ControlError(f"the calibration {answer['state']}", code="not_calibrated")
    _tell_thresholds(answer, as_json=as_json)


@threshold_app.command("get")
def threshold_get(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show each action's threshold, where it is from, and what it costs."""
    _tell_thresholds(_on_gallery(read_config(config), "threshold.get"), as_json=as_json)


@threshold_app.command("set")
def threshold_set(
    label: str,
    distance: Annotated[float, typer.Argument(help="The farthest at which a match begins an event.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set one action's threshold by hand."""
    answer = _on_gallery(read_config(config), "threshold.set", label=label, distance=distance)
    _tell_thresholds(answer, as_json=as_json)


@threshold_app.command("reset")
def threshold_reset(
    label: Annotated[str | None, typer.Argument(help="What was set by hand for it; default: everything.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go back to what the calibration gives, or, without an action, to the model's own threshold."""
    _tell_thresholds(_on_gallery(read_config(config), "threshold.reset", label=label), as_json=as_json)


_ORIGINS = {"bundle": "the model", "hand": "hand", "rates": "the model's rates", "negatives": "your movement"}


def _tell_thresholds(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json(answer)
        return
    per_hour = answer["false_alarms_per_hour"]
    asked = "" if per_hour is None else f"at most {per_hour:g} false alarms an hour, all actions together"
    table = Table("action", "threshold", "from", "false alarms/h", "missed", "your own movement", title=asked)
    for label in answer["labels"]:
        told = label["false_alarms_per_hour"] is not None
        table.add_row(
            escape(label["label"]),
            f"{label['distance']:.3f}",
            _ORIGINS[label["origin"]],
            f"{label['false_alarms_per_hour']:.2f}" if told else "",
            f"{100 * label['missed']:.0f} %" if told else "",
            label["negatives"],
        )
    out.print(table)
    for label in answer["labels"]:
        if label["warning"]:
            _say(f"[yellow][bold]{escape(label['label'])}[/]: {escape(label['warning'])}[/]")
    if answer["negative_hours"]:
        _say(f"your ordinary movement speaks for {60 * answer['negative_hours']:.1f} minutes: it can only forbid")
    if answer["unused"]:
        _say(escape(f"thresholds of actions that are not enrolled: {', '.join(answer['unused'])}"))
    for note in answer["notes"]:
        _say(f"[dim]{escape(note)}[/]")
