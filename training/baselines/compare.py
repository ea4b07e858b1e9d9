"""Train and measure the rows on a protocol: one-shot accuracy of novel actions, beside DTW and chance.

Shapes: N clips, W windows (one a person), D draws, P parts.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from edge.motion import PREPROCESSING_VERSION, dtw_distances
from streams.arrays import Array, Indices
from streams.errors import ConfigError
from training.baselines.fit import DivergedError, Size, embed, fit
from training.baselines.ingredients import Sources, Texts
from training.baselines.local import PartRelevance
from training.baselines.results import DTW, Comparison, Run, keep, make_cell
from training.baselines.rows import Method, Row, num_parameters
from training.data import TrainingSet, load_training_set
from training.evaluate import (
    ClipSet,
    Draw,
    Report,
    balanced_accuracy,
    clip_distances,
    dtw_features,
    name_queries,
    open_protocol,
    plain_accuracy,
    read_protocol,
)
from training.run import begin_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Name what is trained and how it is measured; `bases`: numbers of base actions, None for all of them."""

    bases: tuple[int, ...] | None = None
    seeds: tuple[int, ...] = (0,)
    size: Size
    num_draws: int = 100
    sources: Sources = field(default_factory=Sources)


def evaluate_baselines(
    protocol: Path, rows: Sequence[Row], setup: Setup, *, data: Path, report: Report, out: Path | None = None
) -> Comparison:
    """Train each row on a protocol's first base actions, and name the clips of its novel ones.

    `data`: the folder of its archives. `out`: a folder that keeps each finished run; what is there already is not done
    again. What rows need is checked before the first is trained. Raises ArchiveError, ConfigError, DescriptionError,
    TextToolError.
    """
    content = read_protocol(protocol)
    order, bases = content.base_order, _check_bases(protocol, content.base_order, setup.bases)
    texts = Texts(rows, order[: max(bases)], content.novel, setup.sources)
    for row in rows:
        row.make(texts.ingredients(order[:2]))
    clips, draws, notes = open_protocol(protocol, data=data, num_draws=setup.num_draws)
    paths = [data / f"{name}.npz" for name in sorted(set(content.sets))]
    if out is not None:
        begin_run(out, _describe([protocol, *paths], setup), is_first=True)
    work = _Work(clips=clips, draws=draws, texts=texts, size=setup.size, report=report)
    dtw = keep(out, DTW, 0, 0, work.align)

    @lru_cache(maxsize=1)
    def read(num_base: int) -> TrainingSet:
        return load_training_set(paths, actions=order[:num_base])

    todo = [(num_base, row, seed) for num_base in bases for row in rows for seed in setup.seeds]
    runs: dict[tuple[str, int], list[Run]] = {}
    for num_done, (num_base, row, seed) in enumerate(todo):
        report("all runs", num_done, len(todo))
        run = keep(out, row.name, num_base, seed, partial(work.train, row, read, num_base, seed))
        runs.setdefault((row.name, num_base), []).append(run)
    report("all runs", len(todo), len(todo))
    said = {row.name: row.notes for row in rows}
    return Comparison(
        protocol=clips.name, ways=len(clips.classes), clips=len(clips), draws=len(draws), notes=notes,
        dtw=make_cell([dtw], ()), cells={key: make_cell(found, said[key[0]]) for key, found in runs.items()},
        runs=runs,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Work:
    """Hold what all runs are measured on."""

    clips: ClipSet
    draws: Sequence[Draw]
    texts: Texts
    size: Size
    report: Report

    def align(self) -> Run:
        """Measure DTW of the joints, which learns nothing."""
        started = time.monotonic()
        tell = partial(self.report, "DTW: comparing")
        balanced, plain = self._measure(dtw_features(self.clips), dtw_distances, tell)
        return Run(
            row=DTW, base=0, seed=0, parameters=0, steps=0, seconds=round(time.monotonic() - started, 1), loss=None,
            balanced=balanced, plain=plain,
        )  # fmt: skip

    def train(self, row: Row, read: Callable[[int], TrainingSet], num_base: int, seed: int) -> Run:
        """Train one row and measure it."""
        data, started, clips = read(num_base), time.monotonic(), self.clips

        def tell(what: str) -> Callable[[int, int], None]:
            return partial(self.report, f"{row.name}, {num_base} base actions, seed {seed}: {what}")

        torch.manual_seed(seed)
        method = row.make(self.texts.ingredients(data.classes))
        cast(nn.Module, method).to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        notes, loss = self.texts.notes(row), None
        balanced: tuple[float, ...] = ()
        plain: tuple[float, ...] = ()
        try:
            loss = fit(method, row, data, self.size, seed, tell("training"))
        except DivergedError as error:
            notes.append(f"{num_base} base actions, seed {seed}: diverged, {error}")
        else:
            embedded = embed(method, row, clips.movements, self.size, tell("embedding"))
            if isinstance(method, PartRelevance):
                embedded = _weigh(method, embedded, clips, self.texts.relevance(clips.classes))
            compare = partial(_distances, method)
            balanced, plain = self._measure(embedded.cpu().numpy(), compare, tell("comparing"))
        return Run(
            row=row.name, base=num_base, seed=seed, parameters=num_parameters(method),
            steps=self.size.num_steps(row.recipe, len(data)), seconds=round(time.monotonic() - started, 1), loss=loss,
            balanced=balanced, plain=plain, notes=tuple(notes),
        )  # fmt: skip

    def _measure(
        self, features: Array, compare: Callable[[Array, Array], Array], report: Callable[[int, int], None]
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return each draw's balanced and plain accuracy, 0 to 1."""
        labels, persons = self.clips.labels, self.clips.persons

        def between(exemplars: Indices, queries: Indices) -> Array:
            return clip_distances(features, persons[exemplars], persons[queries], compare)

        named = name_queries(labels, self.draws, between, report)
        pairs = [(labels[draw.queries], row[draw.queries]) for draw, row in zip(self.draws, named, strict=True)]
        return tuple(balanced_accuracy(*pair) for pair in pairs), tuple(plain_accuracy(*pair) for pair in pairs)


def _distances(method: Method, exemplars: Array, queries: Array) -> Array:
    device = next(cast(nn.Module, method).parameters()).device
    with torch.inference_mode():
        a, b = (torch.from_numpy(np.ascontiguousarray(x)).to(device) for x in (exemplars, queries))
        return np.asarray(method.distances(a, b).cpu().numpy(), np.float32)


def _weigh(method: PartRelevance, embedded_WPC: Tensor, clips: ClipSet, relevance_KP: Tensor) -> Tensor:
    """Give each window the weights of its action's name; only those of exemplars are read, whose names are known."""
    label_W = np.empty(len(embedded_WPC), np.int64)
    label_W[clips.persons] = clips.labels[:, None]
    return method.weigh(embedded_WPC, relevance_KP[torch.from_numpy(label_W)].to(embedded_WPC.device))


def _check_bases(protocol: Path, order: Sequence[str], bases: Sequence[int] | None) -> list[int]:
    if len(order) < 2:
        raise ConfigError(
            f"{protocol} names {len(order)} base actions, expected two or more",
            hint="Rows are trained on `base_order`.",
        )
    for number in bases or ():
        if not 2 <= number <= len(order):
            raise ConfigError(f"--base {number}: expected 2 to {len(order)}, the base actions of {protocol}")
    return list(bases or [len(order)])


def _describe(paths: Sequence[Path], setup: Setup) -> dict[str, Any]:
    """Return what must be the same for the runs of a folder to stand in one table."""
    sources = setup.sources
    return {
        "files": {path.name: _sha256(path) for path in paths},
        "draws": setup.num_draws,
        "size": asdict(setup.size),
        "imagenet_sha256": _sha256(sources.imagenet) if sources.imagenet else None,
        "text_encoder": sources.text_encoder.resolve().name if sources.text_encoder else None,
        "descriptions": sources.descriptions,
        "part_texts_sha256": _sha256(sources.part_texts) if sources.part_texts else None,
        "preprocessing_version": PREPROCESSING_VERSION,
        "torch": torch.__version__,
    }


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="Name a file that is there.") from error
