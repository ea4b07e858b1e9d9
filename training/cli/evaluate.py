"""The offline command on archives: `crossglg-edge evaluate`."""

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

from edge.config import Config, Model, read_config
from edge.model import BundleEncoder, open_encoder
from streams.archive import read_archive
from streams.errors import BundleError
from training.evaluate import By, Report, Result, Score, evaluate_archives, evaluate_protocol
from training.evaluate.live import SLICES, Build, evaluate_streams, print_streams, stream_json

evaluate = typer.Typer(
    help="Measure one-shot recognition on recordings, with plain DTW beside it.", no_args_is_help=True
)

_Draws = Annotated[int, typer.Option(min=1, help="How many times exemplars are drawn; draw d has seed d.")]
_Bundle = Annotated[
    Path | None, typer.Option("--encoder", metavar="BUNDLE", help="A bundle's folder; default: that shipped.")
]
_Calibrated = Annotated[
    bool, typer.Option("--calibrated", help="Also choose by the paper's distribution calibration; slow.")
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, accuracies 0 to 1, and nothing else.")]


@evaluate.command("one-shot")
def one_shot(
    archives: Annotated[list[Path], typer.Argument(metavar="ARCHIVE", help="Skeleton archives, .npz.")],
    draws: _Draws = 100,
    by: Annotated[By, typer.Option(help="Tell classes apart, or merge them by action.")] = By.CLASS,
    encoder: _Bundle = None,
    calibrated: _Calibrated = False,
    as_json: _AsJson = False,
) -> None:
    """Enroll one clip a class from one person, name the clips of the others; all classes at once."""
    onnx = _encoder(encoder, calibrated)
    with _progress() as report:
        results = evaluate_archives(archives, onnx, num_draws=draws, by=by, report=report, calibrated=calibrated)
    mean = {method: fmean(result.scores[method].accuracy for result in results) for method in results[0].scores}
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
    calibrated: _Calibrated = False,
    as_json: _AsJson = False,
) -> None:
    """Tell apart a protocol's novel actions, from one clip each, over all its archives."""
    path = protocol or (data or Path()) / "protocol.json"
    onnx = _encoder(encoder, calibrated)
    folder = data or path.parent
    with _progress() as report:
        result = evaluate_protocol(path, onnx, data=folder, num_draws=draws, report=report, calibrated=calibrated)
    if as_json:
        _print_json({"protocol": result.name, **_as_dict(result)})
    else:
        _print_table(onnx.info.name, "protocol", [result], {})


@evaluate.command("stream")
def stream(
    archives: Annotated[list[Path], typer.Argument(metavar="ARCHIVE", help="Skeleton archives, .npz.")],
    negatives: Annotated[
        list[Path] | None,
        typer.Option(metavar="ARCHIVE", help="Recordings in which nothing enrolled is done, for false alarms."),
    ] = None,
    slices: Annotated[
        list[str] | None, typer.Option("--slice", help=f"Also: {', '.join(list(SLICES)[1:])}; or all.")
    ] = None,
    num_labels: Annotated[int, typer.Option(min=1, help="How many classes are enrolled, one clip each.")] = 5,
    num_streams: Annotated[int, typer.Option(min=1, help="Of each archive so many, each another person's.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="What all is drawn by.")] = 0,
    config: Annotated[
        Path | None, typer.Option(help="Whose windows and events are used; default: the defaults, not your own.")
    ] = None,
    encoder: _Bundle = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Recognize live: streams made of clips, one person acts what another enrolled; sliding DTW beside it."""
    known = list(SLICES)[1:]
    names = known if slices and "all" in slices else list(dict.fromkeys(slices or []))
    if unknown := [name for name in names if name not in known]:
        raise typer.BadParameter(f"{', '.join(unknown)}: expected some of {', '.join(known)}, or all")
    onnx = _encoder(encoder, calibrated=False)
    with _progress() as report:
        found = evaluate_streams(
            [read_archive(path) for path in archives],
            onnx,
            read_config(config) if config else Config(),
            build=Build(seed=seed, num_labels=num_labels, num_streams=num_streams),
            slices=names,
            negatives=[read_archive(path) for path in negatives or []],
            report=report,
        )
    if as_json:
        _print_json(stream_json(found))
    else:
        print_streams(found, onnx.info.name)


def _encoder(bundle: Path | None, calibrated: bool) -> BundleEncoder:
    encoder = open_encoder(bundle, Model(engine="onnxruntime", num_threads=os.cpu_count() or 1))
    if calibrated and encoder.statistics is None:
        raise BundleError(
            f"--calibrated needs a model bundle with base statistics, {encoder.info.name!r} has none",
            hint="`crossglg-edge export` writes them.",
        )
    return encoder


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
    """Return what scripts read: each method beside the counts."""
    content = asdict(result)
    del content["name"]
    scores, notes = content.pop("scores"), content.pop("notes")
    return {**content, **scores, "notes": notes}


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content, indent=2))


def _print_table(encoder: str, kind: str, results: list[Result], mean: dict[str, float]) -> None:
    table = Table(
        title="Balanced accuracy in %, one example a class, with its 95 % interval",
        caption=f"encoder: {escape(encoder)}",
    )
    table.add_column(kind, overflow="fold")
    for column in ("ways", "draws", "clips"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("method", no_wrap=True)
    table.add_column("accuracy", justify="right", no_wrap=True)

    def add(head: tuple[str, str, str, str], numbers: dict[str, str]) -> None:
        for row, (method, number) in enumerate(numbers.items()):
            table.add_row(*(("", "", "", "") if row else head), method.replace("dtw", "DTW"), number)
        table.add_section()

    for result in results:
        head = (escape(result.name), f"{result.ways}", f"{result.draws}", f"{result.clips}")
        add(head, {method: _percent(score) for method, score in result.scores.items()})
    if len(results) > 1:
        add(("mean", "", "", ""), {method: f"{100 * accuracy:.1f}" for method, accuracy in mean.items()})
    console = Console()
    console.print(table)
    for result in results:
        used = [f"{result.ways_used:.1f} classes enrolled in the mean draw"]
        for note in (*(used if result.ways_used != result.ways else ()), *result.notes):
            console.print(f"{escape(result.name)}: {escape(note)}", soft_wrap=True)


def _percent(score: Score) -> str:
    low, high = score.ci95
    return f"{100 * score.accuracy:.1f} ({100 * low:.1f}–{100 * high:.1f})"
