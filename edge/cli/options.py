"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Read this TOML file instead of your own. See `config`."),
]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        metavar="ADDRESS",
        help="Ask the daemon at this control endpoint, such as tcp://192.0.2.7:5562. "
        "Default: CROSSGLG_EDGE_CONTROL, or else the config's.",
    ),
]
CountdownOption = Annotated[
    float | None, typer.Option(min=0, max=60, help="Seconds to get ready. Default: the config's countdown_s.")
]
SourceOption = Annotated[str | None, typer.Option(help="Capture from this source if several publish.")]
BodyOption = Annotated[int | None, typer.Option(help="Capture this body if several are in view.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Do not beep, and show no progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
