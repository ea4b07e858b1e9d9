"""What was found, as Markdown and JSON, with the paper's own numbers beside, and how it was made."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from edge.bench import machine
from streams.errors import ConfigError
from streams.files import replace_file
from training.reproduce.measure import CLIPS_OF_A_CLASS, METHODS
from training.reproduce.paper import PaperTable, read_paper
from training.reproduce.results import MEASURES, Cell, Interval
from training.reproduce.rows import Arm, Row
from training.reproduce.setup import NUM_CALIBRATED_DRAWS, Setup

OWN = "own"
_METHODS = {
    "calibrated": "By the paper's classifier (distribution calibration, `calibrated`)",
    "pooled": "By the nearest example, features averaged over joints and time (`pooled`)",
    "cosine": "By the nearest example, as a device compares it (`cosine`: each joint in each quarter of the window)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRow:
    """Hold a row: a cell a column; `missing` says why it has none. `endings`: how its trainings ended, by column."""

    row: Row
    cells: dict[int, Cell] = field(default_factory=dict)
    parameters: int | None = None
    missing: str = ""
    endings: dict[int, dict[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def command(setup: Setup) -> str:
    """Return the command that makes it, with words for the folders."""
    choices = setup.choices
    parts = ["crossglg-edge reproduce", setup.name, "--data DATA --out OUT", f"--protocol {setup.protocol_name}"]
    parts += [f"--preset {choices.preset}", f"--seeds {choices.seeds}"]
    parts.append(f"--columns {','.join(map(str, setup.columns))}")
    if choices.config:
        parts.append(f"--config {shlex.quote(choices.config.name)}")
    for option, value in (("--windows", choices.size.num_windows), ("--steps", choices.size.num_steps)):
        parts += [f"{option} {value}"] if value is not None else []
    parts += [f"--draws {choices.draws}"]
    return " ".join([*parts, *(f"--texts {shlex.quote(Path(text).name)}" for text in choices.texts)])


def made(setup: Setup) -> dict[str, Any]:
    """Return how it was made: command, date, machine, versions."""
    return {
        "command": command(setup),
        "date": datetime.now(UTC).date().isoformat(),
        **machine(),
        "torch": torch.__version__,
        "crossglg-edge": version("crossglg-edge"),
        "threads": torch.get_num_threads(),
    }


def write_table(setup: Setup, rows: Sequence[FoundRow], notes: Sequence[str]) -> list[Path]:
    """Write a table as NAME_PROTOCOL.md and .json beside the runs; return their paths. Raises ConfigError."""
    paper, how = read_paper().tables[setup.name], made(setup)
    content = {
        "table": setup.name, "title": paper.title, "protocol": setup.protocol_name, "columns": setup.columns,
        "seeds": list(setup.seeds), "size": setup.choices.size.words, "made": how,
        "rows": [_as_json(found, setup, paper) for found in rows],
        "paper": {"source": read_paper().source, "protocol": paper.protocol, "columns": paper.columns,
                  "rows": {row.row: row.values for row in paper.rows}},
        "notes": list(notes),
    }  # fmt: skip
    lines = [f"# {paper.title}", "", *_head(setup, paper, how), *(f"- {note}" for note in notes), ""]
    for measure in MEASURES:
        for method, title in _METHODS.items():
            lines += [f"## {title}, {measure} accuracy", "", *_table(setup, rows, method, measure, paper), ""]
    if paper.rows:
        lines += ["## The paper's own numbers", "", *_paper_table(paper), ""]
    lines += [*_endings(setup, rows), *_missing(rows)]
    return _write(setup, {".md": "\n".join(lines).rstrip() + "\n", ".json": json.dumps(content, indent=1) + "\n"})


def write_figure(setup: Setup, title: str, content: Mapping[str, Any], lines: Sequence[str]) -> list[Path]:
    """Write what a figure shows in numbers, as Markdown and JSON; return their paths. Raises ConfigError."""
    how = made(setup)
    text = [f"# {title}", "", f"- made by: {_how(how)}", "", *lines]
    whole = {"figure": setup.name, "title": title, "protocol": setup.protocol_name, "made": how, **content}
    return _write(setup, {".md": "\n".join(text) + "\n", ".json": json.dumps(whole, indent=1) + "\n"})


def _write(setup: Setup, texts: Mapping[str, str]) -> list[Path]:
    paths = [setup.choices.out / f"{setup.name}_{setup.protocol_name}{ending}" for ending in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        try:
            replace_file(path, text.encode())
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}", hint="Make room.") from error
    return paths


def _how(how: Mapping[str, Any]) -> str:
    return (
        f"`{how['command']}`, {how['date']}, {how['cpu']}, {how['cores']} cores, {how['threads']} "
        f"thread{'s' * (how['threads'] > 1)} a training, "
        f"crossglg-edge {how['crossglg-edge']}, torch {how['torch']}, numpy {how['numpy']}, Python {how['python']}"
    )


def _head(setup: Setup, paper: PaperTable, how: Mapping[str, Any]) -> list[str]:
    choices, seeds = setup.choices, setup.choices.seeds
    drawn = f"{choices.draws} draws (calibrated: {min(choices.draws, NUM_CALIBRATED_DRAWS)})"
    draws = "the protocol's own exemplars" if setup.protocol.exemplars else drawn
    is_same = paper.protocol == setup.protocol_name
    beside = "the paper's own numbers, of other data, below"
    if not paper.rows:
        beside = "the paper has no such table"
    elif is_same:
        beside = "the paper's own number in brackets in the first table"
    return [
        f"- made by: {_how(how)}",
        f"- protocol `{setup.protocol_name}`: {len(setup.protocol.novel)} novel actions, one example each (chance "
        f"{100 / len(setup.protocol.novel):.3g} %), {draws}; "
        f"columns: numbers of base actions; {beside}",
        f"- preset `{choices.preset}`{', changed by a config file' if choices.config else ''}, {choices.size.words}, "
        f"seed{'s' * (seeds > 1)} {', '.join(map(str, setup.seeds))}",
        "- accuracy in %: plain, the share of all queries, as the paper has it; balanced, the mean over the classes",
        "- 95 % intervals by bootstrap over seeds and draws"
        + (": with one seed they say nothing of chance in training" if seeds == 1 else ""),
        '- "less": the difference to another row, paired by seed and draw',
        f"- means and covariances of base classes are of {CLIPS_OF_A_CLASS} clips each at most",
    ]


def _table(setup: Setup, rows: Sequence[FoundRow], method: str, measure: str, paper: PaperTable) -> list[str]:
    lines = [_line(["", "parameters", *map(str, setup.columns)]), _line(["---"] * (2 + len(setup.columns)))]
    # What the paper prints: by its classifier, the share of all queries.
    is_same = paper.protocol == setup.protocol_name and (method, measure) == (METHODS[0], MEASURES[0])
    for found in rows:
        row = found.row
        size = f"{found.parameters / 1e6:.2f} M" if found.parameters else ""
        cells = []
        for num_base in setup.columns:
            cell = found.cells.get(num_base)
            scores = _of(cell.scores, method) if cell else None
            without = "not built" if found.missing else "diverged" if cell is None else ""
            text = _percent(scores[measure]) if scores else without
            number = paper.number(row.title, num_base) if is_same else None
            cells.append(f"{text} [{number:g}]" if number is not None else text)
        lines.append(_line([f"{row.title}{' (not in the paper)' * (row.is_ours and bool(paper.rows))}", size, *cells]))
        for title in row.less:
            cells_of = [found.cells.get(num_base) for num_base in setup.columns]
            less = [_of(cell.less.get(title, {}), method) if cell else None for cell in cells_of]
            if any(less):
                signed = [_percent(each[measure], "+") if each else "" for each in less]
                lines.append(_line([f"... less {title}", "", *signed]))
    return lines


def _of(by_method: Mapping[str, Mapping[str, Interval]], method: str) -> Mapping[str, Interval] | None:
    """Return what a row has by a method; a system that compares in one way of its own has it in the first table."""
    return by_method.get(method) or (by_method.get(OWN) if method == METHODS[0] else None)


def _percent(value: Interval, sign: str = "") -> str:
    mean = f"{100 * value.mean:{sign}.1f}"
    return (
        mean if value.ci95 is None else f"{mean} ({100 * value.ci95[0]:{sign}.1f} to {100 * value.ci95[1]:{sign}.1f})"
    )


def _paper_table(paper: PaperTable) -> list[str]:
    lines = [
        f"{read_paper().source}; on `{paper.protocol}`, plain accuracy.",
        "",
        _line(["", "parameters", *map(str, paper.columns)]),
        _line(["---"] * (2 + len(paper.columns))),
    ]
    for row in paper.rows:
        size = f"{row.parameters_millions} M" if row.parameters_millions else ""
        lines.append(_line([row.row, size, *(f"{value:g}" for value in row.values)]))
    return lines


def _endings(setup: Setup, rows: Sequence[FoundRow]) -> list[str]:
    """Return how trainings ended: whether L_calibrate fell tells whether global-to-local was tried at all."""
    trained = [found for found in rows if found.endings]
    if not trained:
        return []
    names = ("loss_skeleton", "loss_calibrate", "fixed_calibrate", "loss_cross", "loss_contrast", "accuracy")
    lines = ["## How the trainings ended", "", "Means over the seeds, of the last epoch; accuracy on its own windows."]
    lines += ["`fixed_calibrate` is the least `loss_calibrate` of joint weights that are the same for every class:"]
    lines += ["a training above it did not learn any class's key joints."]
    lines += ["", _line(["", "base actions", "epochs", *names]), _line(["---"] * (3 + len(names)))]
    for found in trained:
        for num_base, ending in found.endings.items():
            values = [f"{ending.get(name, 0.0):.4g}" for name in names]
            lines.append(_line([found.row.title, str(num_base), f"{ending['epochs']:g}", *values]))
    return [*lines, ""]


def _missing(rows: Sequence[FoundRow]) -> list[str]:
    lines = [f"- {found.row.title}: {found.missing}" for found in rows if found.missing]
    lines += [f"- {found.row.title}: {note}" for found in rows for note in found.notes]
    return ["## Notes on rows", "", *lines, ""] if lines else []


def _as_json(found: FoundRow, setup: Setup, paper: PaperTable) -> dict[str, Any]:
    cells = {
        str(num_base): {**asdict(cell), "paper": paper.number(found.row.title, num_base)}
        for num_base, cell in found.cells.items()
    }
    return {
        "row": found.row.title, "arm": _arm(found.row.arm), "less": found.row.less,
        "in_paper": not found.row.is_ours, "parameters": found.parameters, "cells": cells,
        "endings": {str(num_base): ending for num_base, ending in found.endings.items()},
        "missing": found.missing, "notes": list(found.notes),
    }  # fmt: skip


def _arm(arm: Arm | None) -> dict[str, Any] | None:
    """Return what an arm changes; of a folder of texts only its name."""
    return asdict(replace(arm, texts=Path(arm.texts).name if arm.texts else None)) if arm else None


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
