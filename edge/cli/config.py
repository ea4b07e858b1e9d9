"""The command `crossglg-edge config`."""

from __future__ import annotations

import sys

from edge.cli.options import ConfigOption
from edge.config import config_toml, read_config


def config(config: ConfigOption = None) -> None:
    """Print the configuration in force, as a TOML file that explains every key."""
    sys.stdout.write(config_toml(read_config(config)))
