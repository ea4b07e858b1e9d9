"""The command `crossglg-edge bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli.exit_codes import ExitCode
from edge.cli.options import JsonOption
from edge.cli.terminal import err, print_json


def bench(
    bundle: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="The folder of a model bundle. Default: the shipped one.")
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ENGINE", help="An engine as in the config. Repeat it for more. Default: all that run here."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Give a rough answer in seconds: one thread, small sizes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure this machine: the encoder in each engine, frame to decision, enrollment, matching, sizes.

    In the same run it measures the authors' InfoGCN laid out the plain way in ONNX Runtime, if the package onnx is
    installed. `ratio` divides our p50 by its p50. The exit code is 1 if the model is larger than it may be.
    """
    from edge.bench import QUICK, Effort, machine, markdown, measure

    with err().status("") as status:
        measured = measure(
            bundle, engine or (), QUICK if quick else Effort(), tell=lambda what: status.update(f"measuring {what}")
        )
    measured = {"machine": machine(), **measured}
    if as_json:
        print_json(measured)
    else:
        typer.echo(markdown(measured), nl=False)
    if measured["broken"]:
        raise typer.Exit(ExitCode.BAD_NEWS)
