"""The recipe of a bundle: a finished training run and archives in, the whole bundle out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, cast

import msgspec
import numpy as np

from edge.model import BundleEncoder, BundleInfo, ScoreCurve, read_bundle
from edge.model.engines import OnnxRuntime
from edge.motion import PREPROCESSING_VERSION
from edge.words import open_text_encoder
from export import bundle, fit
from export.frozen import Embedding, embed
from export.rates import add_rates
from export.words import Shown, write_words
from streams.arrays import Array
from streams.errors import BundleError, TextToolError
from training.run import load_run

Phase = Literal["read", "fit", "export", "measure"]
# A phase begins with 0 done; the total is 0 where it is not known.
Report = Callable[[Phase, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Say what a run became; `no_rates`, `no_words`: why the bundle has none, empty where it has them."""

    info: BundleInfo
    no_rates: str = ""
    no_words: str = ""


def make_bundle(
    run: Path,
    archives: Sequence[Path],
    out: Path,
    *,
    name: str = "",
    embedding: Embedding = "joints",
    recordings: Sequence[Path] = (),
    report: Report = lambda phase, done, total: None,
) -> Made:
    """Make a bundle of a training run and put it in place as a whole; where that fails, OUT stays as it was.

    `name`: of the bundle; by default that of the run's folder.

    The clips of trained actions in `archives` give mean, projection, cohort and statistics; those of other actions give
    the score; the rates of false alarms are measured on streams of both. `recordings`: see `add_rates`. Words are
    fitted to the trained actions where a text encoder is set up. All of it is in bundle.json when that is written, the
    last of the files. The same run and archives give the same bytes.
    Raises ArchiveError, BundleError, ConfigError.
    """
    report("read", 0, 0)
    known, unseen = _read(run, archives)
    report("fit", 0, 0)
    branch, about = fit.branch_from_run(run, embedding, known.windows_NTVC, known.actions)
    weight, score_curve = _fit_score(embed(branch, unseen.windows_NTVC)[0], unseen)
    report("export", 0, 0)
    with bundle.replacing(out) as folder:
        onnx_sha256 = bundle.write_encoder(branch, known.windows_NTVC.shape[1], folder)
        embeddings_NE, features_ND = embed(branch, known.windows_NTVC)
        info = bundle.describe(
            branch,
            about,
            name=name or run.resolve().name,
            score_curve=score_curve,
            alignment_weight=weight,
            onnx_sha256=onnx_sha256,
            statistics_sha256=bundle.write_base_statistics(features_ND, known.actions, onnx_sha256, folder),
        )
        made = _measure(info, folder, archives, recordings, report)
        made = _add_words(made, embeddings_NE, known, folder)
        bundle.write_description(made.info, folder)
    return made


def measure_again(
    source: Path,
    archives: Sequence[Path],
    out: Path,
    *,
    recordings: Sequence[Path] = (),
    report: Report = lambda phase, done, total: None,
) -> Made:
    """Set the score and rates of a bundle anew, by this version's rules and other archives; its weights stay.

    Those of clips of actions that it was not trained on give the score, as in `make_bundle`. SOURCE and OUT may be one
    folder. Raises ArchiveError, BundleError.
    """
    report("read", 0, 0)
    info, onnx = read_bundle(source)
    clips = fit.read_clips(archives, info.num_frames)
    trained = cast("list[str]", info.training["actions"])
    unseen = clips.take(np.flatnonzero(~np.isin(clips.actions, trained)))
    if not unseen.actions:
        raise BundleError(
            f"every action in {', '.join(map(str, archives))} is one that {info.name!r} was trained on",
            hint="Give archives that also hold others.",
        )
    # All pairs of them are compared.
    unseen = unseen.take(fit.some_of_each(unseen.actions, fit.CLIPS_OF_A_CLASS, np.random.default_rng(0)))
    report("fit", 0, 0)
    with bundle.replacing(out) as folder:
        for file in (onnx, *onnx.parent.glob("statistics.npz"), *onnx.parent.glob("words.npz")):
            shutil.copy2(file, folder)
        encoder = BundleEncoder(info, folder, OnnxRuntime(folder / "encoder.onnx"))
        weight, score_curve = _fit_score(_encoded(encoder, unseen.windows_NTVC), unseen)
        info = msgspec.structs.replace(
            info,
            alignment_weight=weight,
            score_curve=score_curve,
            preprocessing_version=PREPROCESSING_VERSION,
            rates=None,
            dtw_midpoint=None,
        )
        made = _measure(info, folder, archives, recordings, report)
        bundle.write_description(made.info, folder)
    return made


def _add_words(made: Made, embeddings_NE: Array, known: fit.Clips, folder: Path) -> Made:
    shown = Shown(
        embeddings_NE=embeddings_NE, actions=known.actions, people=known.people, durations_s=known.durations_s
    )
    try:
        return replace(made, info=write_words(made.info, shown, folder, open_text_encoder()))
    except (BundleError, TextToolError) as error:  # the bundle is whole without them
        return replace(made, no_words=error.message)


def _read(run: Path, archives: Sequence[Path]) -> tuple[fit.Clips, fit.Clips]:
    """Return clips of the actions that the run was trained on, some of each, and all clips of other actions."""
    _, about = load_run(run)
    clips = fit.read_clips(archives, int(about["config"]["num_frames"]))
    is_known_N = np.isin(clips.actions, about["classes"])
    known, unseen = clips.take(np.flatnonzero(is_known_N)), clips.take(np.flatnonzero(~is_known_N))
    if not known.actions or not unseen.actions:
        lacking = "was trained on" if not known.actions else "was not trained on"
        raise BundleError(
            f"{len(known.actions)} clips of trained and {len(unseen.actions)} of other actions in "
            f"{', '.join(map(str, archives))}: expected some of both",
            hint=f"Give archives that also hold actions which the encoder {lacking}.",
        )
    return known.take(fit.some_of_each(known.actions, fit.CLIPS_OF_A_CLASS, np.random.default_rng(0))), unseen


def _encoded(encoder: BundleEncoder, windows_NTVC: Array) -> Array:
    return np.concatenate([encoder.encode(windows_NTVC[i : i + 64]) for i in range(0, len(windows_NTVC), 64)])


def _fit_score(embeddings_NE: Array, unseen: fit.Clips) -> tuple[float, ScoreCurve]:
    weight = fit.fit_alignment_weight(embeddings_NE)
    source = ", ".join(sorted({archive for archive, _ in unseen.people}))
    return weight, fit.fit_score_curve(embeddings_NE, unseen.actions, unseen.people, source, alignment_weight=weight)


def _measure(
    info: BundleInfo, folder: Path, archives: Sequence[Path], recordings: Sequence[Path], report: Report
) -> Made:
    """Measure with ONNX Runtime, as a device would, what the archives allow."""
    report("measure", 0, 0)
    encoder = BundleEncoder(info, folder, OnnxRuntime(folder / "encoder.onnx"))
    try:
        return Made(info=add_rates(encoder, archives, recordings, partial(report, "measure")))
    except BundleError as error:  # the bundle is whole without them
        return Made(info=info, no_rates=error.message)
