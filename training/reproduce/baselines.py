"""The other systems of the paper's tables: `training.baselines` trains and measures them, in a folder of their own."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streams.errors import ConfigError
from training.reproduce.measure import Accuracies
from training.reproduce.rows import rows_of
from training.reproduce.setup import Setup

if TYPE_CHECKING:
    from training.baselines import Setup as BaselineSetup

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Hold what a baseline gave: each seed's accuracies by number of base actions, none where it diverged."""

    accuracies: dict[int, list[Accuracies]]
    parameters: int | None = None
    notes: tuple[str, ...] = ()
    missing: str = ""


def baseline_names(setup: Setup) -> list[str]:
    """Return the baselines among a table's rows."""
    return [row.baseline for row in rows_of(setup.name, setup.texts) if row.baseline is not None]


def make_baselines(setup: Setup, report: Report) -> dict[str, Baseline]:
    """Train and measure the baselines among a table's rows, or read what is there, by name.

    What they need is checked before the first is trained. Raises ArchiveError, ConfigError, DescriptionError,
    TextToolError.
    """
    names = baseline_names(setup)
    if not names:
        return {}
    try:
        from training.baselines import ROWS, evaluate_baselines
    except ImportError as missing:
        said = f"not built: the package {missing.name} is not installed (extras `text` and `baselines`)"
        return {name: Baseline(accuracies={}, missing=said) for name in names}
    out = setup.choices.out / "baselines"
    try:
        out.mkdir(parents=True, exist_ok=True)
        # Another command that makes them is waited for: they are then there.
        with (out / ".lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            found = evaluate_baselines(
                setup.protocol_file, [ROWS[name] for name in names], _setup(setup),
                data=setup.choices.data, report=report, out=out,
            )  # fmt: skip
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}", hint="Make room.") from error
    baselines = {}
    for name in names:
        runs = {num_base: found.runs[name, num_base] for num_base in setup.columns}
        baselines[name] = Baseline(
            accuracies={
                num_base: [Accuracies(balanced=run.balanced, plain=run.plain) for run in of_seeds]
                for num_base, of_seeds in runs.items()
                if all(run.balanced for run in of_seeds)
            },
            parameters=runs[setup.columns[-1]][0].parameters,
            notes=found.cells[name, setup.columns[-1]].notes,
        )
    return baselines


def _setup(setup: Setup) -> BaselineSetup:
    from training.baselines import PRESETS
    from training.baselines import Setup as BaselineSetup

    choices, size = setup.choices, PRESETS[setup.choices.preset]
    infogcn = setup.preset("infogcn")
    steps = choices.size.num_steps
    if choices.size.num_windows is not None:
        steps = max(1, round(choices.size.num_windows / infogcn.batch))
    size = replace(size, num_frames=infogcn.num_frames, steps=steps or size.steps)
    if choices.config is not None:
        size = replace(size, batch=infogcn.batch, bf16=infogcn.bf16)
    return BaselineSetup(
        bases=setup.columns, seeds=tuple(setup.seeds), size=size, num_draws=choices.draws
    )  # fmt: skip
