"""Train and measure what a table lacks: each run once, however often and by however many commands it is asked for."""

from __future__ import annotations

import csv
import fcntl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import msgspec

from streams.errors import ConfigError
from streams.files import replace_file
from training.data import TrainingSet, load_training_set, take_actions
from training.evaluate import open_protocol
from training.model import SkeletonBranch
from training.reproduce.measure import Accuracies, Novel, measure, measure_dtw, num_parameters
from training.reproduce.rows import Arm
from training.reproduce.setup import NUM_CALIBRATED_DRAWS, Setup
from training.run import (
    CHECKPOINT,
    CURVE,
    RUN,
    WEIGHTS,
    Ranks,
    TrainConfig,
    find_changes,
    load_guidance,
    load_run,
    train,
)

S = TypeVar("S", bound=msgspec.Struct)

SCORES = "scores.json"
_POLL_S = 1.0


class Scores(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold what a run gave: accuracies by method, its size, its last epoch's losses, seconds of training.

    `diverged`: how its training ended, where it did so before its time; there are no accuracies and losses then.
    """

    accuracies: dict[str, Accuracies]
    parameters: int
    epochs: int
    clips: int
    losses: dict[str, float]
    seconds: float
    diverged: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Name one training of a table, and its folder, which all tables of a folder share."""

    arm: Arm
    num_base: int
    seed: int
    folder: Path

    @property
    def is_measured(self) -> bool:
        """Whether its scores are there."""
        return (self.folder / SCORES).exists()

    def scores(self) -> Scores:
        """Read what it gave. Raises ConfigError."""
        return read_scores(self.folder / SCORES, Scores)


class Progress(Protocol):
    """Name what is told while runs are made."""

    def began(self, run: Run, number: int, total: int) -> None:
        """Tell which run begins."""
        ...

    def did(self, run: Run, share: float) -> None:
        """Tell which share of a run is done, 0 to 1."""
        ...

    def waits(self) -> None:
        """Tell that another command makes all that is left."""
        ...


def plan_runs(setup: Setup, arms: Iterable[Arm]) -> dict[tuple[Arm, int, int], Run]:
    """Return the runs of some arms, by arm, number of base actions and seed, in the order in which they are made."""
    runs = {}
    for num_base in setup.columns:
        for seed in setup.seeds:
            for arm in arms:
                parts = [arm.name(setup.preset(arm.encoder)), *_texts_part(setup, arm, num_base)]
                folder = setup.choices.out / "runs" / "_".join((*parts, f"base{num_base}", f"seed{seed}"))
                runs[arm, num_base, seed] = Run(arm=arm, num_base=num_base, seed=seed, folder=folder)
    return runs


def _texts_part(setup: Setup, arm: Arm, num_base: int) -> list[str]:
    """Return how a run's folder names its texts: not at all where they are those of the preset."""
    if arm.texts is None:
        return []
    usual = setup.train_config(replace(arm, texts=None), num_base, 0).descriptions
    return [] if arm.texts == usual else [f"texts-{Path(arm.texts).resolve().name}"]


def check_runs(setup: Setup, runs: Iterable[Run]) -> None:
    """Refuse folders in which another configuration was trained. Raises ConfigError."""
    for run in runs:
        file = run.folder / RUN
        if not file.exists():
            continue
        before = msgspec.json.decode(file.read_bytes())
        config = asdict(setup.train_config(run.arm, run.num_base, run.seed))
        now = msgspec.json.decode(msgspec.json.encode({"config": config}))
        # A size makes the epochs; the folder says which.
        changed = [key for key in find_changes({"config": before["config"]}, now) if key != "config.epochs"]
        if changed:
            raise ConfigError(
                f"{run.folder} holds a run with another {', '.join(changed)}",
                hint="Remove that folder, and it is trained anew; or choose another --out.",
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Material:
    """Read the protocol's clips when the first run needs them, and only then."""

    setup: Setup
    _read: dict[Any, Any] = field(default_factory=dict)

    def base(self, num_base: int, config: TrainConfig) -> TrainingSet:
        """Return a run's training set of the first so many base actions. Raises ArchiveError."""
        kind = config.num_persons, config.takes_scores
        if kind not in self._read:
            actions = self.setup.base(max(self.setup.columns))
            self._read[kind] = load_training_set(
                self.setup.training_archives(), actions=actions, num_persons=kind[0], scores=kind[1]
            )
        key = *kind, num_base
        if key not in self._read:
            self._read[key] = take_actions(self._read[kind], self.setup.base(num_base))
        found: TrainingSet = self._read[key]
        return found

    def novel(self, *, scores: bool = False) -> Novel:
        """Return what runs are measured on; `scores`: see `read_archive`. Raises ArchiveError."""
        key = "novel", scores
        if key not in self._read:
            choices = self.setup.choices
            clips, draws, notes = open_protocol(
                self.setup.protocol_file, data=choices.data, num_draws=choices.draws, scores=scores
            )
            self._read[key] = Novel(
                clips=clips, draws=draws, num_calibrated=min(NUM_CALIBRATED_DRAWS, len(draws)), notes=notes
            )
        found: Novel = self._read[key]
        return found

    def config(self, run: Run) -> TrainConfig:
        """Return a run's configuration, with the epochs of its size."""
        config = self.setup.train_config(run.arm, run.num_base, run.seed)
        if not run.arm.is_trained:
            return config
        num_clips = len(self.base(run.num_base, config))
        return replace(config, epochs=self.setup.choices.size.epochs(config, num_clips))


def make_runs(material: Material, runs: Sequence[Run], ranks: Ranks, progress: Progress) -> None:
    """Train and measure the runs that lack it; one that another command is at is left to it.

    Of several processes, all train, and the first alone measures. Raises ArchiveError, ConfigError, DescriptionError.
    """
    left = [run for run in runs if not ranks.share(run.is_measured)]
    total = len(left)
    while left:
        lock = _lock_one(left) if ranks.rank == 0 else None
        number = ranks.share(lock[0] if lock else -1)
        if number < 0:
            progress.waits()
            time.sleep(_POLL_S)
            continue
        run = left.pop(number)
        try:
            if not ranks.share(run.is_measured):
                progress.began(run, total - len(left), total)
                _make(material, run, ranks, progress)
        finally:
            if lock:
                lock[1].close()


def _lock_one(runs: Sequence[Run]) -> tuple[int, IO[bytes]] | None:
    """Lock the folder of the first run that no other command is at; a killed one's lock is gone with it."""
    for number, run in enumerate(runs):
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            file = (run.folder / ".lock").open("wb")
        except OSError as error:
            raise ConfigError(f"{run.folder} cannot be written: {error.strerror}", hint="Make room.") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            continue
        return number, file
    return None


def _make(material: Material, run: Run, ranks: Ranks, progress: Progress) -> None:
    config = material.config(run)
    base = material.base(run.num_base, config)
    # How much of a run its training is, roughly: what is told is no more than that.
    share = 0.8
    try:
        branch = _trained(run, config, base, ranks, lambda done: progress.did(run, share * done))
    except ConfigError as error:
        if error.code != "diverged":
            raise
        # The others are made: a row says which of its trainings ended so.
        if ranks.rank == 0:
            write_scores(run.folder / SCORES, _diverged(config, base, error.message))
        return
    if ranks.rank == 0:
        report = lambda done, total: progress.did(run, share + (1 - share) * done / total)  # noqa: E731
        accuracies = measure(branch, config, base, material.novel(scores=config.takes_scores), report)
        losses, seconds = _read_curve(run.folder / CURVE)
        scores = Scores(
            accuracies=accuracies, parameters=num_parameters(branch), epochs=config.epochs, clips=len(base),
            losses=losses, seconds=round(seconds, 1),
        )  # fmt: skip
        write_scores(run.folder / SCORES, scores)
        # It has nothing more to go on with, and is three times as large as the weights.
        (run.folder / CHECKPOINT).unlink(missing_ok=True)


def _diverged(config: TrainConfig, base: TrainingSet, how: str) -> Scores:
    parameters = num_parameters(config.make_branch(len(base.classes)))
    return Scores(
        accuracies={},
        parameters=parameters,
        epochs=config.epochs,
        clips=len(base),
        losses={},
        seconds=0.0,
        diverged=how,
    )


def _trained(
    run: Run, config: TrainConfig, base: TrainingSet, ranks: Ranks, did: Callable[[float], None]
) -> SkeletonBranch:
    if ranks.share((run.folder / WEIGHTS).exists()):
        return load_run(run.folder)[0]
    guidance = load_guidance(config.descriptions, base.classes, config.text_encoder) if config.needs_texts else None
    return train(base, config, run.folder, guidance=guidance, on_batch=lambda done, total: did(done / total))


def _read_curve(path: Path) -> tuple[dict[str, float], float]:
    """Return the last epoch's losses and accuracy, and the seconds of all."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = {name: float(value) for name, value in rows[-1].items() if name.startswith("loss") or name == "accuracy"}
    return kept, sum(float(row["seconds"]) for row in rows)


def dtw_scores(material: Material) -> Accuracies:
    """Return DTW's accuracies, measured once in a folder."""
    path = material.setup.choices.out / "dtw.json"
    if not path.exists():
        write_scores(path, measure_dtw(material.novel()))
    return read_scores(path, Accuracies)


def read_scores(path: Path, kind: type[S]) -> S:
    """Read a file of scores. Raises ConfigError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="Remove it: it is then made anew.") from error


def write_scores(path: Path, scores: msgspec.Struct) -> None:
    """Write a file of scores, whole or not at all. Raises ConfigError."""
    try:
        replace_file(path, msgspec.json.encode(scores) + b"\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", hint="Make room.") from error
