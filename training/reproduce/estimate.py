"""How long the missing runs will take, from a few steps of each kind of training on the protocol's own clips."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from edge.match import fit
from edge.model import base_statistics
from training.data import TrainingSet
from training.reproduce.measure import CLIPS_OF_A_CLASS
from training.reproduce.rows import Arm
from training.reproduce.runner import Material, Run
from training.run import CURVE, Ranks, TrainConfig, load_guidance, train, whole_windows

# The first step of a training takes longer than the others.
_STEPS, _BATCH = 4, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Hold the seconds that each missing run will take, and of each kind of training those of a window and step."""

    seconds: dict[Run, float]
    steps: dict[str, tuple[float, int]]

    @property
    def total(self) -> float:
        """The seconds of all runs."""
        return sum(self.seconds.values())


class _EnoughError(Exception):
    """End a training that was only begun to be timed."""


def estimate(material: Material, runs: Sequence[Run], ranks: Ranks) -> Estimate:
    """Time a few steps of each kind of training among these runs.

    Raises ArchiveError, ConfigError, DescriptionError.
    """
    step_s: dict[Arm, tuple[float, float]] = {}
    seconds, steps = {}, {}
    for run in runs:
        config = material.config(run)
        base = material.base(run.num_base, config)
        kind = _kind(run.arm)
        if kind not in step_s:
            window_s = _time_steps(config, base, ranks)
            step_s[kind] = window_s, _time_window(config, base)
            steps[kind.name(material.setup.preset(kind.encoder))] = window_s, config.batch
        window_s, test_s = step_s[kind]
        novel = material.novel(scores=config.takes_scores)
        tested = len(novel.clips.movements) + CLIPS_OF_A_CLASS * len(base.classes)
        training = window_s * len(base) * max(config.epochs - _epochs_done(run), 0)
        seconds[run] = training + test_s * tested
    if runs:
        of_draws = _time_draw(material, runs[0]) * novel.num_calibrated
        seconds = {run: value + of_draws for run, value in seconds.items()}
    return Estimate(seconds=ranks.share(seconds), steps=steps)


def _kind(arm: Arm) -> Arm:
    """Return what of an arm its speed depends on."""
    return Arm(
        encoder=arm.encoder, global_to_local=arm.global_to_local, local_to_global=arm.local_to_global,
        alpha_contrast=arm.alpha_contrast and 1.0,
    )  # fmt: skip


def _time_steps(config: TrainConfig, base: TrainingSet, ranks: Ranks) -> float:
    """Return the seconds that training takes for a window."""
    config = replace(config, compile=False)
    guidance = load_guidance(config.descriptions, base.classes, config.text_encoder) if config.needs_texts else None
    times: list[tuple[float, int]] = [(time.monotonic(), 0)]

    def on_batch(done: int, total: int) -> None:
        times.append((time.monotonic(), done))
        if len(times) > _STEPS:
            raise _EnoughError

    with tempfile.TemporaryDirectory(prefix="crossglg-") as folder:
        with suppress(_EnoughError):
            train(base, config, Path(ranks.share(folder)), guidance=guidance, on_batch=on_batch)
        ranks.wait()
    (first_s, before), (last_s, after) = times[1 if len(times) > 2 else 0], times[-1]
    return (last_s - first_s) / max(after - before, 1)


@torch.inference_mode()
def _time_window(config: TrainConfig, base: TrainingSet) -> float:
    """Return the seconds that measuring takes for a window."""
    branch = config.make_branch(len(base.classes)).eval()
    torch.set_flush_denormal(True)
    started = time.monotonic()
    clips = base.clips[:_BATCH]
    branch.features(torch.from_numpy(whole_windows(clips, config, has_scores=base.has_scores)))
    torch.set_flush_denormal(False)
    return (time.monotonic() - started) / len(clips)


def _time_draw(material: Material, run: Run) -> float:
    """Return the seconds that a draw takes by the distribution classifier."""
    config = material.config(run)
    num_features = config.make_branch(2).encoder.num_features
    rng = np.random.default_rng(0)
    classes = [f"{number}" for number in range(20)]
    features_NF = rng.uniform(0, 1, (200, num_features)).astype(np.float32)
    statistics = base_statistics(features_NF, np.arange(200) % 20, classes, encoder_sha256="")
    started = time.monotonic()
    fit(features_NF[:20], classes, statistics, rng)
    return time.monotonic() - started


def _epochs_done(run: Run) -> int:
    path = run.folder / CURVE
    return max(len(path.read_text(encoding="utf-8").splitlines()) - 1, 0) if path.exists() else 0
