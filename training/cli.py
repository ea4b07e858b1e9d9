"""The offline commands on archives: `crossglg-edge evaluate` and `crossglg-edge train`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from edge.encoder import OnnxEncoder
from streams.errors import CrossGLGError
from training.draws import Score
from training.evaluate import By, Report, Result, evaluate_archives, evaluate_protocol, read_protocol

evaluate = typer.Typer(
    help="Measure one-shot recognition on recordings, with plain DTW beside it.", no_args_is_help=True
)

_Draws = Annotated[int, typer.Option(min=1, help="How many times exemplars are drawn; draw d has seed d.")]
_Bundle = Annotated[
    Path | None, typer.Option("--encoder", metavar="BUNDLE", help="A bundle's folder; default: that shipped.")
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, accuracies 0 to 1, and nothing else.")]


@evaluate.command("one-shot")
def one_shot(
    archives: Annotated[list[Path], typer.Argument(metavar="ARCHIVE", help="Skeleton archives, .npz.")],
    draws: _Draws = 100,
    by: Annotated[By, typer.Option(help="Tell classes apart, or merge them by action.")] = By.CLASS,
    encoder: _Bundle = None,
    as_json: _AsJson = False,
) -> None:
    """Enrol one clip a class from one person, name the clips of the others; all classes at once."""
    onnx = _encoder(encoder)
    with _progress() as report:
        results = evaluate_archives(archives, onnx, num_draws=draws, by=by, report=report)
    mean = {
        "encoder": fmean(result.encoder.accuracy for result in results),
        "dtw": fmean(result.dtw.accuracy for result in results),
    }
    if as_json:
        _print_json({"archives": {result.name: _as_dict(result) for result in results}, "mean": mean})
    else:
        _print_table(onnx.info.name, "archive", results, mean)


@evaluate.command("protocol")
def protocol(
    protocol: Annotated[
        Path | None,
        typer.Argument(metavar="PROTOCOL.json", help="Default: protocol.json in --data, or here."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where its archives lie; default: beside it.")
    ] = None,
    draws: _Draws = 100,
    encoder: _Bundle = None,
    as_json: _AsJson = False,
) -> None:
    """Tell apart a protocol's novel actions, from one clip each, over all its archives."""
    path = protocol or (data or Path()) / "protocol.json"
    onnx = _encoder(encoder)
    with _progress() as report:
        result = evaluate_protocol(path, onnx, data=data or path.parent, num_draws=draws, report=report)
    if as_json:
        _print_json({"protocol": result.name, **_as_dict(result)})
    else:
        _print_table(onnx.info.name, "protocol", [result], {})


def _encoder(bundle: Path | None) -> OnnxEncoder:
    return OnnxEncoder(bundle, num_threads=os.cpu_count() or 1)


@contextmanager
def _progress() -> Iterator[Report]:
    with Progress(console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(escape(what), total=total)
            bars.update(tasks[what], completed=done)

        yield report


def _as_dict(result: Result) -> dict[str, Any]:
    return {key: value for key, value in asdict(result).items() if key != "name"}


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content, indent=2))


def _print_table(encoder: str, kind: str, results: list[Result], mean: dict[str, float]) -> None:
    table = Table(
        title="Balanced accuracy in %, one example a class, with its 95 % interval",
        caption=f"encoder: {escape(encoder)}",
    )
    table.add_column(kind, overflow="fold")
    for column in ("ways", "draws", "clips", "encoder", "DTW"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in results:
        counts = f"{result.ways}", f"{result.draws}", f"{result.clips}"
        table.add_row(escape(result.name), *counts, _percent(result.encoder), _percent(result.dtw))
    if len(results) > 1:
        table.add_section()
        table.add_row("mean", "", "", "", *(f"{100 * mean[method]:.1f}" for method in ("encoder", "dtw")))
    console = Console()
    console.print(table)
    for result in results:
        used = [f"{result.ways_used:.1f} classes enrolled in the mean draw"]
        for note in (*(used if result.ways_used != result.ways else ()), *result.notes):
            console.print(f"{escape(result.name)}: {escape(note)}", soft_wrap=True)


def _percent(score: Score) -> str:
    low, high = score.ci95
    return f"{100 * score.accuracy:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def train(
    archives: Annotated[list[Path], typer.Argument(metavar="ARCHIVE", help="Skeleton archives, .npz.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; a run that was stopped goes on.")],
    base_of: Annotated[
        Path | None,
        typer.Option(metavar="PROTOCOL.json", help="Only this protocol's base actions."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 110,
    num_frames: Annotated[int, typer.Option(min=4, help="Frames of a window, T.")] = 64,
    batch: Annotated[int, typer.Option(min=2)] = 128,
    lr: Annotated[float, typer.Option(min=0.0, help="Learning rate before the milestones.")] = 0.1,
    balance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="0: every clip once an epoch; 1: every class alike.")
    ] = 0.0,
    k: Annotated[int, typer.Option(min=1, max=8, help="1: bone vectors, 8: joints.")] = 1,
    seed: int = 0,
    bf16: Annotated[bool, typer.Option("--bf16", help="Matrix products in bfloat16.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile first: minutes, then faster.")] = False,
) -> None:
    """Train the skeleton encoder (InfoGCN) on archives; defaults are the authors'. Needs the extra `train`."""
    try:
        from training import train as training
        from training.data import load_training_set
    except ImportError as missing:
        raise CrossGLGError(
            f"training needs a package that is not installed: {missing.name}",
            code="not_installed",
            hint="Install it with `pip install 'crossglg-edge[train]'`.",
        ) from missing
    config = training.TrainConfig(
        num_frames=num_frames, epochs=epochs, batch=batch, lr=lr, balance=balance, k=k, seed=seed,
        bf16=bf16, compile=compiled,
    )  # fmt: skip
    data = load_training_set(archives, actions=read_protocol(base_of).base_order if base_of is not None else None)
    console = Console(stderr=True)
    console.print(f"{len(data)} clips of {len(data.classes)} actions from {len(data.archives)} archives -> {out}")
    with Progress(console=console) as progress:
        task = progress.add_task("training", total=epochs)

        def on_epoch(epoch: int, loss: float, accuracy: float) -> None:
            progress.console.print(f"epoch {epoch}: loss {loss:.4f}, accuracy {accuracy:.3f}")
            progress.update(task, completed=epoch + 1)

        training.train(data, config, out, on_epoch=on_epoch)
    console.print(f"done: {out / training.WEIGHTS}; `crossglg-edge export {out} --out BUNDLE` makes a bundle of it")
