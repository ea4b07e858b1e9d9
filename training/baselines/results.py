"""What a row gave, in the file of its run, and the table over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from streams import files
from streams.errors import ConfigError
from training.evaluate import Score, score

DTW = "dtw"


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold what one row gave with so many base actions and a seed: accuracies of each draw, none if it diverged."""

    row: str
    base: int
    seed: int
    parameters: int
    steps: int
    seconds: float
    loss: float | None
    balanced: tuple[float, ...]
    plain: tuple[float, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Hold a row's result with so many base actions, over its seeds; `by_seed` are balanced accuracies.

    Each draw counts by its mean over the seeds; intervals are over draws. None where no seed's training ended.
    """

    parameters: int
    steps: int
    seconds: float
    balanced: Score | None
    plain: Score | None
    by_seed: tuple[float, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Hold the table: `cells` by row and number of base actions, `runs` are its seeds'."""

    protocol: str
    ways: int
    clips: int
    draws: int
    notes: tuple[str, ...]
    dtw: Cell
    cells: dict[tuple[str, int], Cell]
    runs: dict[tuple[str, int], list[Run]]

    @property
    def chance(self) -> float:
        """The accuracy of guessing, 0 to 1."""
        return 1 / self.ways


def make_cell(runs: Sequence[Run], notes: Sequence[str]) -> Cell:
    """Return what a row gave over its seeds; `notes` come before those of the runs."""
    ended = [run for run in runs if run.balanced]
    said = dict.fromkeys(note for run in runs for note in run.notes)

    def over_seeds(name: str) -> Score | None:
        return score(np.mean([getattr(run, name) for run in ended], axis=0)) if ended else None

    return Cell(
        parameters=runs[0].parameters,
        steps=runs[0].steps,
        seconds=sum(run.seconds for run in runs),
        balanced=over_seeds("balanced"),
        plain=over_seeds("plain"),
        by_seed=tuple(float(np.mean(run.balanced)) for run in ended),
        notes=(*notes, *said),
    )


def keep(out: Path | None, row: str, base: int, seed: int, make: Callable[[], Run]) -> Run:
    """Return a run that the folder keeps, or make it and keep it. Raises ConfigError."""
    if out is None:
        return make()
    path = out / (f"{row}.json" if row == DTW else f"{row}-base{base}-seed{seed}.json")
    try:
        if path.exists():
            return msgspec.json.decode(path.read_bytes(), type=Run)
        run = make()
        files.replace_file(path, msgspec.json.encode(run) + b"\n")
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} is damaged: {error}", hint="Remove it: that run is then done again.") from error
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read or written: {error.strerror}", hint="Make room, or name another --out."
        ) from error
    return run
