"""The offline command that makes a bundle: `crossglg-edge export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.console import Console

from streams.errors import BundleError, ConfigError, CrossGLGError


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished `crossglg-edge train`.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write.")],
    calibrate: Annotated[
        list[Path],
        typer.Option("--calibrate", metavar="ARCHIVE", help="Archive whose clips set the score; repeat for more."),
    ],
    name: Annotated[str, typer.Option(help="The bundle's name.")] = "crossglg-edge",
    embedding: Annotated[
        Literal["joints", "pooled"], typer.Option(help="Features by joint and quarter, or their mean.")
    ] = "joints",
) -> None:
    """Freeze a trained encoder into a model bundle, checked against torch. Needs the extra `train`.

    The score is calibrated on clips of actions that the encoder was not trained on, by people against
    other people; the features' mean and projection, and the statistics of distribution calibration, are
    those of the training actions' clips.
    """
    try:
        from export import bundle
    except ImportError as missing:
        raise CrossGLGError(
            f"export needs a package that is not installed: {missing.name}",
            code="not_installed",
            hint="Install it with `pip install 'crossglg-edge[train]'`.",
        ) from missing
    console = Console(stderr=True)
    try:
        about = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{run} is not a training run: {error.strerror}: {error.filename}") from error
    trained = set(about["classes"])
    num_frames = int(about["config"]["num_frames"])
    known, base_actions, _ = bundle.windows_of(calibrate, num_frames, keep=lambda clip: clip.action in trained)
    unseen, actions, people = bundle.windows_of(calibrate, num_frames, keep=lambda clip: clip.action not in trained)
    if not len(known) or not len(unseen):
        raise BundleError(
            f"{len(known)} clips of trained and {len(unseen)} of other actions: expected some of both",
            hint="Give archives that also hold actions which the encoder was not trained on.",
        )
    # A thousand clips say as much about the features' mean and spread as all.
    branch, about = bundle.branch_from_run(
        run, embedding, known[np.random.default_rng(0).permutation(len(known))[:1000]]
    )
    base = bundle.some_of_each(base_actions, bundle.CLIPS_OF_A_CLASS, np.random.default_rng(0))
    _, base_features = bundle.embed(branch, known[base])
    console.print(f"calibrating on {len(unseen)} clips of {len(set(actions))} actions that it was not trained on")
    embeddings, _ = bundle.embed(branch, unseen)
    weight = bundle.fit_alignment_weight(embeddings)
    source = ", ".join(sorted({archive for archive, _ in people}))
    calibration = bundle.fit_calibration(embeddings, actions, people, source, alignment_weight=weight)
    console.print("exporting and comparing with torch ...")
    info = bundle.write_bundle(
        branch,
        about,
        out,
        name=name,
        calibration=calibration,
        alignment_weight=weight,
        base_features_ND=base_features,
        base_actions=[base_actions[i] for i in base],
    )
    console.print(f"{out}: {info.parameters:,} parameters, sha256 {info.onnx_sha256[:12]}..., {calibration.source}")
