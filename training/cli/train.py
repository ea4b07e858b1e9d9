"""The offline command `crossglg-edge train`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.errors import ConfigError, CrossGLGError

if TYPE_CHECKING:
    from training.run import TrainConfig


class Preset(StrEnum):
    """Name a set of settings."""

    PAPER = "paper"
    TWO_CORES = "2-cores"
    SMOKE = "smoke"


class EncoderName(StrEnum):
    """Name an encoder; as in TrainConfig, which a command line that only speaks does not import."""

    INFOGCN = "infogcn"
    HD_GCN = "hd-gcn"
    MOTIONBERT = "motionbert"
    MOTIONBERT_LITE = "motionbert-lite"


def train(
    archives: Annotated[
        list[Path], typer.Argument(metavar="ARCHIVE", help="Skeleton archives, .npz, or folders of them.")
    ],
    out: Annotated[Path, typer.Option(help="The folder of the run. A run that was stopped continues.")],
    preset: Annotated[
        Preset,
        typer.Option(help="Settings as in the paper, for two CPU cores, or of one small epoch, to see that all works."),
    ] = Preset.TWO_CORES,
    encoder: Annotated[
        EncoderName | None, typer.Option(help="Train this encoder, with its authors' recipe. Default: infogcn.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read any key of TrainConfig from this TOML file. Flags override it."),
    ] = None,
    base_of: Annotated[
        Path | None, typer.Option(metavar="PROTOCOL.json", help="Train only on this protocol's base actions.")
    ] = None,
    base: Annotated[int | None, typer.Option(min=1, metavar="N", help="Train only on the first N of them.")] = None,
    descriptions: Annotated[
        str | None,
        typer.Option(
            metavar="LLM",
            help="Be guided by the texts of this language model, which ship with the program, or by a folder of texts. "
            "Default: the shipped texts of the data set.",
        ),
    ] = None,
    global_to_local: Annotated[
        bool | None, typer.Option("--global-to-local/--no-global-to-local", help="Let texts say which joints matter.")
    ] = None,
    local_to_global: Annotated[
        bool | None,
        typer.Option("--local-to-global/--no-local-to-global", help="Compare joint texts with joint features."),
    ] = None,
    num_pre: Annotated[int | None, typer.Option(min=1, max=10, help="Weigh the joints after this many blocks.")] = None,
    num_frames: Annotated[int | None, typer.Option(min=4, help="Frames per window, T.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Train for this many epochs.")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Clips per batch.")] = None,
    lr: Annotated[float | None, typer.Option(min=0.0, help="The highest learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed of the weights and of the clips' order.")] = None,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(metavar="BUNDLE", help="Also imitate the embeddings of this bundle. Repeat it for more."),
    ] = None,
    pretrained: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With MotionBERT: begin with its authors' weights, such as best_epoch.bin."),
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile first, which takes minutes, then train faster.")
    ] = False,
) -> None:
    """Train the encoder on archives, guided by texts (CrossGLG). Needs the extra `train`.

    On several GPUs or machines: torchrun --nproc-per-node 2 --no-python crossglg-edge train ...
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    try:
        from edge.model import open_encoder
        from training import run
        from training.data import archive_paths, load_training_set
        from training.run import deviations, load_guidance, read_train_config
        from training.texts import chosen_texts, read_descriptions
    except ImportError as missing:
        raise CrossGLGError(
            f"training needs a package that is not installed: {missing.name}",
            code="not_installed",
            hint="Install it with `pip install 'crossglg-edge[train]'`.",
        ) from missing
    guiding = {"global_to_local": global_to_local, "local_to_global": local_to_global, "num_pre": num_pre}
    flags = {
        "encoder": encoder.value if encoder is not None else None,
        "descriptions": descriptions, "num_frames": num_frames, "epochs": epochs, "batch": batch, "lr": lr,
        "seed": seed, "compile": compiled or None,
        "guidance": {name: value for name, value in guiding.items() if value is not None},
    }  # fmt: skip
    given = {name: value for name, value in flags.items() if value is not None}
    chosen = read_train_config(preset.value, config, given)
    actions = _base_actions(base_of, base)
    # Reading archives takes minutes: what is missing is told before.
    if chosen.needs_texts and actions is not None:
        read_descriptions(chosen_texts(chosen.descriptions, actions), actions)
    teachers = [open_encoder(bundle) for bundle in teacher or ()]
    paths = archive_paths(archives)
    if chosen.needs_texts:
        chosen = _with_texts(chosen, paths, actions)
    data = load_training_set(paths, actions=actions, num_persons=chosen.num_persons, scores=chosen.takes_scores)
    guidance = load_guidance(chosen.descriptions, data.classes, chosen.text_encoder) if chosen.needs_texts else None
    console = Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0", highlight=False)
    console.soft_wrap = not console.is_terminal
    guided = f", guided by the texts of {chosen.descriptions}" if guidance else ""
    guided += f", taught by {' and '.join(each.info.name for each in teachers)}" if teachers else ""
    console.print(
        f"{chosen.encoder}: {len(data):,} clips of {len(data.classes)} actions from {len(data.archives)} archives"
        f"{escape(guided)} -> {escape(str(out))}"
    )
    if preset is Preset.PAPER:
        for told in deviations(chosen):
            console.print(f"not as in the paper: {escape(told)}")
    columns = TextColumn("training"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=None, rate="")
        began: list[tuple[float, int]] = []

        def on_batch(done: int, total: int) -> None:
            if not began:
                # A run that goes on does not begin at nought.
                began.append((time.monotonic(), done))
                progress.reset(task, completed=done, total=total)
            seconds = max(time.monotonic() - began[0][0], 1e-9)
            progress.update(task, completed=done, rate=f"{(done - began[0][1]) / seconds:.0f} samples/s")

        def on_epoch(row: run.Row) -> None:
            parts = ", ".join(f"{name} {row[name]:.4f}" for name in run.LOSSES if row[name])
            progress.console.print(f"epoch {row['epoch']:.0f}: {parts}, accuracy {row['accuracy']:.3f}")

        run.train(
            data, chosen, out,
            guidance=guidance, teachers=teachers, pretrained=pretrained, on_epoch=on_epoch, on_batch=on_batch,
        )  # fmt: skip
    weights = escape(str(out / run.WEIGHTS))
    export = f"crossglg-edge export {escape(str(out))} --out BUNDLE --calibrate ARCHIVE"
    console.print(f"done: {weights}; `{export}` makes a bundle of it")


def _with_texts(config: TrainConfig, paths: Sequence[Path], actions: Sequence[str] | None) -> TrainConfig:
    """Return a configuration that names the texts of all actions in archives; what has none is refused."""
    from streams.archive import read_actions
    from training.run import load_guidance, text_encoder_at_hand
    from training.texts import chosen_texts

    held = frozenset[str]().union(*map(read_actions, paths))
    classes = sorted(held if actions is None else held.intersection(actions))
    llm = chosen_texts(config.descriptions, classes)
    named = replace(config, descriptions=llm, text_encoder=text_encoder_at_hand(llm, config.text_encoder))
    load_guidance(named.descriptions, classes, named.text_encoder)
    return named


def _base_actions(protocol: Path | None, num_base: int | None) -> tuple[str, ...] | None:
    if protocol is None:
        if num_base is not None:
            raise ConfigError("--base N takes the first N base actions of a protocol", hint="Name it with --base-of.")
        return None
    from training.evaluate import read_protocol

    order = read_protocol(protocol).base_order
    if not order or len(order) < (num_base or 0):
        raise ConfigError(f"{protocol} has {len(order)} base actions, expected {num_base or 'some'}")
    return order[:num_base]
