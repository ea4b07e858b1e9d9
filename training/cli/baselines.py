"""The offline command `crossglg-edge evaluate baselines`."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streams.errors import CrossGLGError
from training.cli.progress import show_progress

if TYPE_CHECKING:
    from training.baselines import Cell, Comparison, Row
    from training.evaluate import Score

# As training.baselines.ROWS has them, which takes seconds to import.
ROW_NAMES = (
    "apsr", "udtw", "sl-dml", "skeleton-dml", "alca-gcn", "infogcn", "gap-infogcn", "ctr-gcn", "gap-ctr-gcn",
)  # fmt: skip


def baselines(
    data: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder of the protocol's archives.")],
    protocol: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The protocol. Default: protocol.json in --data.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="N[,N...]", help="Train on the first N base actions, one column each. Default: all."),
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="N[,N...]", help="Train by each of these seeds.")] = "0",
    rows: Annotated[
        str | None,
        typer.Option(metavar="ROW[,ROW...]", help=f"Only these rows: {', '.join(ROW_NAMES)}. Default: all."),
    ] = None,
    preset: Annotated[
        Literal["paper", "2-cores"], typer.Option(help="Sizes as in each paper, or for two CPU cores.")
    ] = "2-cores",
    steps: Annotated[int | None, typer.Option(min=1, help="Train each row for this many steps.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draw exemplars this many times. Draw d has seed d.")] = 100,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep each finished run here. A stopped command continues.")
    ] = None,
    imagenet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Start SL-DML and Skeleton-DML from torchvision's ResNet-18 weights."),
    ] = None,
    text_encoder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Embed texts by this model, such as a copy of CLIP. Default: MiniLM."),
    ] = None,
    descriptions: Annotated[
        str | None,
        typer.Option(
            metavar="LLM",
            help="Make GAP's part texts of this language model's texts. Default: the shipped texts of the data set.",
        ),
    ] = None,
    part_texts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read GAP's part texts: lines of name;head;hand;arm;hip;leg;foot."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for a script, with accuracies from 0 to 1.")
    ] = False,
) -> None:
    """Train the other systems of the paper on a protocol's base actions, and name its novel ones from one clip each.

    DTW and chance stand beside them. Needs the extras `train`, `text` and `baselines`.
    """
    try:
        from training.baselines import PRESETS, Setup, Sources, choose_rows, evaluate_baselines
    except ImportError as missing:
        raise CrossGLGError(
            f"baselines need a package that is not installed: {missing.name}",
            code="not_installed",
            hint="Install it with `pip install 'crossglg-edge[text,baselines]'`.",
        ) from missing
    chosen = choose_rows(_split(rows) if rows is not None else None)
    size = PRESETS[preset] if steps is None else replace(PRESETS[preset], steps=steps)
    sources = Sources(imagenet=imagenet, text_encoder=text_encoder, part_texts=part_texts)
    if descriptions is not None:
        sources = replace(sources, descriptions=descriptions)
    setup = Setup(
        bases=_whole_numbers("--base", base) if base is not None else None,
        seeds=_whole_numbers("--seeds", seeds),
        size=size,
        num_draws=draws,
        sources=sources,
    )
    with show_progress() as report:
        found = evaluate_baselines(protocol or data / "protocol.json", chosen, setup, data=data, report=report, out=out)
    if as_json:
        typer.echo(json.dumps(_as_json(found, chosen), indent=2))
    else:
        _print_table(found, chosen)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _whole_numbers(option: str, text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text):
        raise typer.BadParameter(f"{option} {text!r}: expected whole numbers, such as 20,40")
    return tuple(dict.fromkeys(int(part) for part in text.split(",")))


def _as_json(found: Comparison, rows: list[Row]) -> dict[str, Any]:
    columns = sorted({num_base for _, num_base in found.cells})
    return {
        "protocol": found.protocol,
        "ways": found.ways,
        "clips": found.clips,
        "draws": found.draws,
        "chance": found.chance,
        "notes": found.notes,
        "dtw": asdict(found.dtw),
        "rows": {
            row.name: {"title": row.title, "base": {str(n): asdict(found.cells[row.name, n]) for n in columns}}
            for row in rows
        },
    }


def _print_table(found: Comparison, rows: list[Row]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    columns = sorted({num_base for _, num_base in found.cells})
    table = Table(
        title="One-shot accuracy of novel actions in %, balanced over classes, then plain, each with its 95 % interval",
        caption=f"{escape(found.protocol)}: {found.ways} ways, {found.clips} clips, {found.draws} draws",
    )
    table.add_column("row", overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True)
    for num_base in columns:
        table.add_column(f"{num_base} base actions", justify="right", no_wrap=True)
    chance = f"{100 * found.chance:.1f}"
    table.add_row("chance", "", *[chance] * len(columns))
    table.add_row("DTW", "", *[_percent(found.dtw)] * len(columns))
    table.add_section()
    for row in rows:
        cells = [found.cells[row.name, num_base] for num_base in columns]
        table.add_row(escape(row.title), f"{cells[0].parameters:,}", *map(_percent, cells))
    console = Console()
    console.print(table)
    for row in rows:
        for note in dict.fromkeys(note for n in columns for note in found.cells[row.name, n].notes):
            console.print(f"{escape(row.title)}: {escape(note)}", soft_wrap=not console.is_terminal)
    for note in found.notes:
        console.print(escape(note), soft_wrap=not console.is_terminal)


def _percent(cell: Cell) -> str:
    if cell.balanced is None or cell.plain is None:
        return "diverged"
    return "\n".join(_interval(score) for score in (cell.balanced, cell.plain))


def _interval(score: Score) -> str:
    low, high = score.ci95
    return f"{100 * score.accuracy:.1f} ({100 * low:.1f}–{100 * high:.1f})"
