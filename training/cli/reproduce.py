"""The offline command `crossglg-edge reproduce`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.errors import CrossGLGError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from training.reproduce import Choices, Estimate, Run


class Table(StrEnum):
    """Name the paper's tables and figures, and one of ours."""

    TABLE_1 = "table1"
    TABLE_2 = "table2"
    TABLE_3 = "table3"
    TABLE_4 = "table4"
    TABLE_5 = "table5"
    TABLE_6 = "table6"
    TABLE_7 = "table7"
    APPENDIX_3 = "appendix3"
    GUIDANCE = "guidance"
    FIGURE_4 = "figure4"
    FIGURE_5 = "figure5"
    FIGURE_6 = "figure6"
    FIGURE_A1 = "figureA1"


class Protocol(StrEnum):
    """Name the one-shot protocols."""

    OPEN = "open"
    NTU120 = "ntu120"
    NTU60 = "ntu60"
    KINETICS = "kinetics"


class Preset(StrEnum):
    """Name a set of settings."""

    PAPER = "paper"
    TWO_CORES = "2-cores"


def reproduce(
    table: Annotated[Table, typer.Argument(metavar="TABLE", help=f"One of {', '.join(Table)}.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="The folder of the protocol and its archives.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder for trainings and results, which tables share.")
    ] = Path("reproduced"),
    protocol: Annotated[
        Protocol | None, typer.Option(help="Default: the paper's own of that table, or the one that --data holds.")
    ] = None,
    preset: Annotated[Preset, typer.Option(help="Settings as in the paper, or for two CPU cores.")] = Preset.TWO_CORES,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read any key of TrainConfig from this TOML file.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="N[,N...]", help="Only these numbers of base actions. Default: the protocol's."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Train each arm with so many seeds, from 0 on.")] = 1,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Train for so many steps, in whole epochs. Default: the preset's epochs.")
    ] = None,
    windows: Annotated[
        int | None, typer.Option(min=1, help="Train for so many windows, in whole epochs, instead.")
    ] = None,
    draws: Annotated[
        int, typer.Option(min=1, help="Draw exemplars this many times, where the protocol does not name them.")
    ] = 100,
    texts: Annotated[
        list[str] | None,
        typer.Option(metavar="FOLDER", help="For table7: also compare this folder of texts. Repeat it for more."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what --out holds.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is missing, and how long it takes.")
    ] = False,
) -> None:
    """Make a table or figure of the paper: train what is missing, measure it, write Markdown, JSON and drawings.

    A command that was stopped goes on with --resume; trainings that are finished are not made again. On several
    GPUs: torchrun --nproc-per-node 2 --no-python crossglg-edge reproduce ...
    """
    if steps is not None and windows is not None:
        raise typer.BadParameter("--steps and --windows: expected one of them")
    try:
        from training.reproduce import Choices, Size
    except ImportError as missing:
        raise CrossGLGError(
            f"training needs a package that is not installed: {missing.name}",
            code="not_installed",
            hint="Install it with `pip install 'crossglg-edge[train]'`.",
        ) from missing
    choices = Choices(
        data=data,
        out=out,
        protocol=protocol.value if protocol else None,
        preset=preset.value,
        config=config,
        columns=_numbers(columns),
        seeds=seeds,
        draws=draws,
        size=Size(num_windows=windows, num_steps=steps),
        texts=tuple(str(Path(text).resolve()) if Path(text).is_dir() else text for text in texts or ()),
        resume=resume,
    )
    _reproduce(table.value, choices, dry_run=dry_run)


def _reproduce(name: str, choices: Choices, *, dry_run: bool) -> None:
    from rich.console import Console
    from rich.markup import escape

    from training import reproduce as room
    from training.run import join_ranks

    setup = room.open_setup(name, choices)
    is_figure = name in room.read_paper().figures
    arms = [*room.figure_arms(name).values()] if is_figure else room.arms_of(setup)
    room.check_texts(setup, arms)
    runs = room.plan_runs(setup, arms)
    room.check_runs(setup, runs.values())
    material = room.Material(setup=setup)
    with join_ranks() as ranks:
        is_first = ranks.rank == 0
        console = Console(stderr=True, quiet=not is_first, highlight=False)
        console.soft_wrap = not console.is_terminal
        if is_first and not dry_run:
            room.begin(setup)
        missing = ranks.share([run for run in runs.values() if not run.is_measured])
        console.print(f"{len(missing)} of {len(runs)} trainings are missing; timing a few steps" if missing else "")
        estimate = room.estimate(material, missing, ranks)
        _tell(console, estimate)
        others = [] if is_figure else room.baseline_names(setup)
        if others:
            console.print(f"the other systems, {', '.join(others)}, come first and are not timed")
        if dry_run:
            return
        baselines = {}
        if is_first and others:
            # The first to be made, so that what they lack is told before hours of training.
            with _bars(console) as report:
                baselines = room.make_baselines(setup, report)
        with _Told.on(console, estimate) as told:
            room.make_runs(material, missing, ranks, told)
        if is_first:
            with _bars(console) as report:
                if is_figure:
                    paths = room.make_figure(material, runs, report)
                else:
                    paths = room.make_table(material, runs, baselines)
            for path in paths:
                console.print(escape(str(path)))


def _tell(console: Console, estimate: Estimate) -> None:
    if not estimate.seconds:
        return
    for kind, (window_s, batch) in estimate.steps.items():
        console.print(f"  {kind}: {1000 * window_s:.2f} ms a window, batches of {batch}")
    end = datetime.now() + timedelta(seconds=estimate.total)  # local time, as a clock on the wall
    console.print(f"{len(estimate.seconds)} trainings: about {_duration(estimate.total)}, until {end:%d %b %H:%M}")


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


class _Told:
    """Show how far the runs are; a second of the estimate is the unit."""

    def __init__(self, bars: Bars, task: TaskID, estimate: Estimate) -> None:
        self.bars, self.task, self.seconds = bars, task, estimate.seconds
        self.before = 0.0
        self.waited_at = 0.0

    @classmethod
    @contextmanager
    def on(cls, console: Console, estimate: Estimate) -> Iterator[_Told]:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console) as bars:
            yield cls(bars, bars.add_task("", total=estimate.total or None), estimate)

    def began(self, run: Run, number: int, total: int) -> None:
        self.bars.console.print(f"[dim]{number} of {total}:[/] {run.folder.name}")
        self.bars.update(self.task, description=f"{number} of {total}", completed=self.before)
        self.before += self.seconds.get(run, 0.0)

    def did(self, run: Run, share: float) -> None:
        left = (1 - share) * self.seconds.get(run, 0.0)
        self.bars.update(self.task, completed=self.before - left)

    def waits(self) -> None:
        if time.monotonic() - self.waited_at > 60:
            self.waited_at = time.monotonic()
            self.bars.console.print("another command is at the trainings that are left: waiting for it")


@contextmanager
def _bars(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    from rich.progress import Progress

    with Progress(console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield report


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"--columns {text!r}: expected whole numbers, such as 20,40")
    return tuple(map(int, parts))
