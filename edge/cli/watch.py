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

# Log lines that everybody who watches is to see.
_LEVELS = {"warning": "yellow", "error": "bold red"}
# So long a daemon is silent that is gone, or hangs.
_SILENT_S = 3.0

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
    everything: Annotated[
        bool, typer.Option("--all", help="Also show updates, and log lines that only inform.")
    ] = False,
    scores: Annotated[
        bool, typer.Option("--scores", help="Also show the score of each action at every decision, and what stops it.")
    ] = False,
) -> None:
    """Show events as they happen."""
    settings = read_config(config, endpoint)
    _tell_enrolled(settings, quiet=as_json)
    topics = ("event.", "log.", "status.", *(("scores.",) if scores else ()))
    events, heard = EventSubscriber(settings.sockets.events, topics), _Heard()
    end_s = time.monotonic() + seconds if seconds is not None else float("inf")
    try:
        while (left_s := end_s - time.monotonic()) > 0:
            received = events.receive(min(left_s, 1.0))
            heard.tell(is_message=received is not None)
            if received is None:
                continue
            topic, message = received
            if topic.startswith("status.") or (as_json and topic.startswith("log.") and not everything):
                continue
            if as_json:
                print_json({"topic": topic, **message})
            elif line := _line(topic, message, everything=everything):
                say(line)
    except KeyboardInterrupt:
        return
    finally:
        events.close()


def _tell_enrolled(config: Config, *, quiet: bool) -> None:
    with daemon(config, timeout_s=1.0) as client:
        try:
            labels = ", ".join(ask(client, Status()).gallery.labels)
            if not quiet:
                hint = "waiting for events, Ctrl-C stops; --scores shows what was nearly one"
                note(f"[dim]enrolled: {escape(labels) or 'nothing yet'}; {hint}[/]")
        except ControlError as error:
            note(f"[yellow]{escape(error.message)}; waiting for one[/]")


class _Heard:
    """Say once that a daemon which was heard is silent, and once that it is back; its status comes every second."""

    def __init__(self) -> None:
        self._heard_s: float | None = None
        self._is_lost = False

    def tell(self, *, is_message: bool) -> None:
        now_s = time.monotonic()
        if is_message:
            if self._is_lost:
                note("[dim]the daemon is there again[/]")
            self._heard_s, self._is_lost = now_s, False
        elif self._heard_s is not None and not self._is_lost and now_s - self._heard_s > _SILENT_S:
            self._is_lost = True
            note(f"[yellow]the daemon was not heard for {_SILENT_S:g} s; waiting for it[/]")


def _line(topic: str, message: dict[str, Any], *, everything: bool) -> str:
    """Return the line that a message is shown as, "" for one that is not: updates, and log lines that only inform."""
    if topic.startswith("log."):
        level = message["level"]
        color = _LEVELS.get(level, "dim")
        return f"[{color}]{escape(level)}[/] {escape(message['message'])}" if everything or level in _LEVELS else ""
    if topic.startswith("scores."):
        return _scores(message)
    return _event(message) if everything or message["type"] != "update" else ""


def _event(event: dict[str, Any]) -> str:
    """Return a line about an event: its score, and on the scale of `threshold get` its distance and threshold.

    An event that ends since nobody is seen any more has no decision that took time.
    """
    latency_ms = event["latency_ms"]["total"]
    return (
        f"{time.strftime('%H:%M:%S')} {_MARKS[event['type']]} [bold]{escape(event['label'])}[/]  "
        f"{_repetitions(event)}score {event['score']:.2f} "
        f"({event['distance']:.2f} of {event['threshold_distance']:.2f}), "
        f"body {event['body']} of {escape(event['source'])}, {event['t_end'] - event['t_start']:.1f} s"
        f"{f', latency {latency_ms:.1f} ms' if latency_ms else ''}"
    )


def _repetitions(event: dict[str, Any]) -> str:
    """Return how often the action was done, and how far the newest time is; "" of a daemon that counts nothing."""
    if "count" not in event:
        return ""
    progress = "" if event["progress"] is None or event["type"] == "end" else f" ({event['progress']:.0%} of it)"
    return f"{event['count']} time{'s' * (event['count'] != 1)}{progress}, "


def _scores(message: dict[str, Any]) -> str:
    """Return a line of all labels, the best first: score, distance and threshold, and what stops an event."""
    labels = []
    for found in message["labels"]:
        distance = "-" if found["distance"] is None else f"{found['distance']:.2f}"
        text = f"{escape(found['label'])} {found['score']:.2f} ({distance} of {found['threshold_distance']:.2f})"
        labels.append(f"{'[bold green]' if not found['gate'] else '[dim]'}{text} {_GATES[found['gate']]}[/]")
    who = f"{time.strftime('%H:%M:%S')} body {message['body']} of {escape(message['source'])}"
    return f"[dim]{who}[/]  {'; '.join(labels)}"
