"""The commands `crossglg-edge bridge`."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from edge.cli.options import ConfigOption, JsonOption
from edge.cli.terminal import escape, log_handler, print_json, say
from edge.config import Config, read_config
from streams.errors import BridgeError

if TYPE_CHECKING:
    from edge.bridge import Bridge

S = TypeVar("S", bound=msgspec.Struct)

bridge = typer.Typer(
    no_args_is_help=True,
    help="Take events to other programs: each command is a process of its own beside the daemon.",
)

SecondsOption = Annotated[float | None, typer.Option(help="Stop after this many seconds. Default: at Ctrl-C.")]
LabelOption = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="LABEL", help="Take events of this label alone. Repeat it for more."),
]
AddressArgument = Annotated[
    str | None, typer.Argument(metavar="HOST[:PORT]", help="Use this address. Default: the config's.")
]


@bridge.command()
def mqtt(
    broker: AddressArgument = None,
    config: ConfigOption = None,
    seconds: SecondsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish events to an MQTT broker, where Home Assistant finds each action by itself.

    Section `bridge.mqtt` of the config. While the broker is away, events are kept for `keep_s`. Needs the extra
    `bridge`.
    """
    from edge.bridge import Mqtt

    settings = read_config(config)
    own = at_address(settings.bridge.mqtt, broker)
    _run(settings, lambda: Mqtt(own), seconds, as_json=as_json)


@bridge.command()
def osc(
    listener: AddressArgument = None,
    config: ConfigOption = None,
    seconds: SecondsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send events as Open Sound Control over UDP.

    Section `bridge.osc` of the config. Needs the extra `bridge`.
    """
    from edge.bridge import Osc

    settings = read_config(config)
    own = at_address(settings.bridge.osc, listener)
    _run(settings, lambda: Osc(own), seconds, as_json=as_json)


@bridge.command()
def lsl(config: ConfigOption = None, seconds: SecondsOption = None, as_json: JsonOption = False) -> None:
    """Offer events as a marker stream of Lab Streaming Layer, stamped with when they happened.

    Section `bridge.lsl` of the config. Needs the extra `bridge`.
    """
    from edge.bridge import Lsl

    settings = read_config(config)
    _run(settings, lambda: Lsl(settings.bridge.lsl), seconds, as_json=as_json)


@bridge.command()
def prometheus(
    address: AddressArgument = None,
    config: ConfigOption = None,
    seconds: SecondsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the daemon's counters at /metrics for Prometheus, on this machine alone unless told otherwise.

    Section `bridge.prometheus` of the config. Needs the extra `bridge`.
    """
    from edge.bridge import Prometheus

    settings = read_config(config)
    own = at_address(settings.bridge.prometheus, address)
    _run(settings, lambda: Prometheus(own), seconds, as_json=as_json)


@bridge.command()
def webhook(
    url: Annotated[str | None, typer.Argument(metavar="URL", help="Call this URL. Default: the config's.")] = None,
    label: LabelOption = None,
    config: ConfigOption = None,
    seconds: SecondsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Post each event as JSON to a URL.

    Section `bridge.webhook` of the config. What the server does not take is sent again a few times.
    """
    from edge.bridge import Webhook

    settings = read_config(config)
    own = settings.bridge.webhook
    if url is not None:
        own = msgspec.structs.replace(own, url=url, url_file="")
    if label:
        own = msgspec.structs.replace(own, labels=tuple(label))
    _run(settings, lambda: Webhook(own), seconds, as_json=as_json)


@bridge.command()
def command(
    argv: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- PROGRAM [ARGUMENT]...", help="Start this program. Default: the config's argv."),
    ] = None,
    label: LabelOption = None,
    config: ConfigOption = None,
    seconds: SecondsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a program for each event, without a shell, with the event as JSON on its stdin.

    Section `bridge.command` of the config. A program that takes longer than `timeout_s` is ended.
    """
    from edge.bridge import Command

    settings = read_config(config)
    own = settings.bridge.command
    if argv:
        own = msgspec.structs.replace(own, argv=tuple(argv))
    if label:
        own = msgspec.structs.replace(own, labels=tuple(label))
    _run(settings, lambda: Command(own), seconds, as_json=as_json)


def at_address(section: S, address: str | None) -> S:
    """Return a section with another host, and another port where one is named. Raises BridgeError."""
    if address is None:
        return section
    is_bare = address.endswith("]") or (address.count(":") > 1 and not address.startswith("["))  # IPv6 without a port
    host, colon, port = (address, "", "") if is_bare else address.rpartition(":")
    if not colon:
        return msgspec.structs.replace(section, host=address.strip("[]"))
    if not (port.isdecimal() and 1 <= int(port) <= 65535 and host):
        raise BridgeError(f"{address} is no address: expected HOST or HOST:PORT")
    return msgspec.structs.replace(section, host=host.strip("[]"), port=int(port))


def _run(config: Config, open_bridge: Callable[[], Bridge], seconds: float | None, *, as_json: bool) -> None:
    """Open a bridge, listen until told to stop, and tell what became of the events."""
    from edge.bridge import describe_counts, listen

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: stop.set())
    logging.basicConfig(level=logging.INFO, handlers=[log_handler()])
    opened = open_bridge()
    end_s = float("inf") if seconds is None else time.monotonic() + seconds
    try:
        listen(opened, config.sockets.events, stop=stop, end_s=end_s)
    finally:
        opened.close()
        opened.counts.stop()
    counts = opened.counts.as_dict()
    if as_json:
        print_json(counts)
    else:
        say(escape(describe_counts(counts)))
