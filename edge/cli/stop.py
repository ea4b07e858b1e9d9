"""The command `crossglg-edge stop`."""

from __future__ import annotations

from edge.cli.ask import daemon
from edge.cli.options import ConfigOption, EndpointOption
from edge.cli.terminal import say
from edge.config import read_config
from edge.protocol import Shutdown, ask


def stop(config: ConfigOption = None, endpoint: EndpointOption = None) -> None:
    """Stop the daemon."""
    with daemon(read_config(config, endpoint)) as client:
        say(f"stopped, process {ask(client, Shutdown()).pid}")
