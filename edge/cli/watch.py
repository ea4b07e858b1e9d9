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


def watch(
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
    seconds: Annotated[float | None, typer.Option(help="Stop after this many seconds. Default: at Ctrl-C.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also show updates and log lines.")] = False,
) -> None:
    """Show events as they happen."""
    settings = read_config(config, endpoint)
    _tell_enrolled(settings, quiet=as_json)
    events = EventSubscriber(settings.sockets.events, ("event.", "log.") if everything else ("event.",))
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
