"""The command `crossglg-edge stop`."""

from __future__ import annotations

from edge.cli.ask import daemon
from edge.cli.options import ConfigOption
from edge.cli.terminal import say
from edge.config import read_config


def stop(config: ConfigOption = None) -> None:
    """Stop the daemon."""
    with daemon(read_config(config)) as client:
        say(f"stopped, process {client.ask('shutdown')['pid']}")
