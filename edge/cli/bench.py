"""The command `crossglg-edge bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edge.bench import QUICK, Effort, machine, markdown, measure

_LIMIT_BROKEN = 1


def bench(
    bundle: Annotated[Path | None, typer.Option(help="A model bundle's folder; default: that shipped.")] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="As in the configuration; may be repeated. Default: all that run here.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A rough answer in seconds, one thread, small sizes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Measure this machine: encoder by engine, frame to decision, enrollment, gallery match, sizes.

    Beside it in the same run: the authors' InfoGCN laid out the plain way in ONNX Runtime (where the package
    onnx is installed), whose p50 `ratio` divides ours by. Exit code 1 where the model is larger than it may be.
    """
    err = Console(stderr=True)
    with err.status("") as status:
        measured = measure(
            bundle, engine or (), QUICK if quick else Effort(), tell=lambda what: status.update(f"measuring {what}")
        )
    measured = {"machine": machine(), **measured}
    if as_json:
        typer.echo(json.dumps(measured))
    else:
        typer.echo(markdown(measured), nl=False)
    if measured["broken"]:
        raise typer.Exit(_LIMIT_BROKEN)
