"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Read this TOML file instead of your own. See `config`."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
