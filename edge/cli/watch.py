"""The command `crossglg-edge watch`."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from edge.cli.ask import daemon
from edge.cli.options import ConfigOption, EndpointOption, JsonOption
from edge.cli.terminal import escape, note, print_json, say
from edge.config import Config, read_config
from edge.protocol import Status, ask
from streams.clients import EventSubscriber
from streams.errors import ControlError

_MARKS = {"onset": "[bold green]began[/]", "update": "[dim]goes on[/]", "end": "[dim]ended[/]"}

_GATES = {
    "": "told",
    "still": "rests",
    "not_compared": "not compared",
    "threshold": "too far",
    "nearer": "another is nearer",
    "rules": "not yet",
}


def watch(
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
    seconds: Annotated[float | None, typer.Option(help="Stop after this many seconds. Default: at Ctrl-C.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also show updates and log lines.")] = False,
    scores: Annotated[
        bool, typer.Option("--scores", help="Also show the score of each action at every decision, and what stops it.")
    ] = False,
) -> None:
    """Show events as they happen."""
    settings = read_config(config, endpoint)
    _tell_enrolled(settings, quiet=as_json)
    topics = ("event.", *(("log.",) if everything else ()), *(("scores.",) if scores else ()))
    events = EventSubscriber(settings.sockets.events, topics)
    end_s = time.monotonic() + seconds if seconds is not None else float("inf")
    try:
        while (left_s := end_s - time.monotonic()) > 0:
            received = events.receive(min(left_s, 1.0))
            if received is None:
                continue
            topic, message = received
            if as_json:
                print_json({"topic": topic, **message})
            elif topic.startswith("log."):
                say(f"[dim]{escape(message['level'])}[/] {escape(message['message'])}")
            elif topic.startswith("scores."):
                say(_scores(message))
            elif everything or message["type"] != "update":
                say(_line(message))
    except KeyboardInterrupt:
        return
    finally:
        events.close()


def _tell_enrolled(config: Config, *, quiet: bool) -> None:
    with daemon(config, timeout_s=1.0) as client:
        try:
            labels = ", ".join(ask(client, Status()).gallery.labels)
            if not quiet:
                note(f"[dim]enrolled: {escape(labels) or 'nothing yet'}; waiting for events, Ctrl-C stops[/]")
        except ControlError as error:
            note(f"[yellow]{escape(error.message)}; waiting for one[/]")


def _line(event: dict[str, Any]) -> str:
    return (
        f"{time.strftime('%H:%M:%S')} {_MARKS[event['type']]} [bold]{escape(event['label'])}[/]  "
        f"score {event['score']:.2f}, body {event['body']} of {escape(event['source'])}, "
        f"{event['t_end'] - event['t_start']:.1f} s, latency {event['latency_ms']['total']:.1f} ms"
    )


def _scores(message: dict[str, Any]) -> str:
    """Return a line of all labels, the best first: score, distance and threshold, and what stops an event."""
    labels = []
    for found in message["labels"]:
        distance = "-" if found["distance"] is None else f"{found['distance']:.2f}"
        text = f"{escape(found['label'])} {found['score']:.2f} ({distance} of {found['threshold_distance']:.2f})"
        labels.append(f"{'[bold green]' if not found['gate'] else '[dim]'}{text} {_GATES[found['gate']]}[/]")
    who = f"{time.strftime('%H:%M:%S')} body {message['body']} of {escape(message['source'])}"
    return f"[dim]{who}[/]  {'; '.join(labels)}"
