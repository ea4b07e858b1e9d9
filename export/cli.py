"""The offline command that makes bundles and engines: `crossglg-edge export`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streams.errors import ConfigError, CrossGLGError, EngineError

if TYPE_CHECKING:
    from rich.console import Console

    from edge.model import BundleInfo

Target = Literal["onnx", "onnx-fp16", "tensorrt", "tensorrt-rtx", "torch-tensorrt", "openvino", "triton", "words"]
# What a run's bundle goes through, in order.
_PHASES = {
    "read": "reading the archives",
    "fit": "fitting the score to clips of actions that the encoder was not trained on",
    "export": "exporting and comparing with torch",
    "measure": "counting false alarms and misses on streams",
}


def export(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[BUNDLE|RUN]",
            help="With --to: a model bundle. Default: the shipped one. Without --to: the folder of a finished "
            "`crossglg-edge train`, or a bundle whose score is to be set anew.",
        ),
    ] = None,
    to: Annotated[Target | None, typer.Option(help="Turn a bundle's encoder into this. `words` adds words.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The folder to write. Default: an engine goes where `serve` looks for it. A run's bundle and a Triton "
            "repository have no default.",
        ),
    ] = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X.Y",
            help="With --to tensorrt-rtx: build for this GPU, such as 8.6. Repeat it for more. Default: all.",
        ),
    ] = None,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="ARCHIVE", help="Without --to or --to words: fit to this archive's clips. Repeat it for more."
        ),
    ] = None,
    recordings: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="STREAMS",
            help="Without --to: real recordings with truth, of sensors that the encoder has not seen, that set the "
            "default threshold. Repeat it for more.",
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(help="With a run: the name of the bundle. Default: that of the run's folder.")
    ] = "",
    embedding: Annotated[
        Literal["joints", "pooled"],
        typer.Option(help="With a run: features by joint and quarter of the window, or their mean."),
    ] = "joints",
) -> None:
    """Turn a bundle's encoder into an engine, or freeze a trained encoder into a bundle.

    `--to words` writes the bundle anew, with what the words of labels say, fitted to the trained actions' clips.

    The command compares an engine with ONNX Runtime in fp32. Where the engine cannot run, `serve` compares it
    before its first use.

    The score of a run's bundle is fitted to clips of actions that the encoder was not trained on, each person
    against other people. The features' mean, projection and statistics come from clips of the training actions.
    A bundle in place of the run keeps its weights and gets another score. Needs the extra `train`.
    """
    try:
        if to == "words":
            _export_words(source, out, calibrate or [])
        elif to is not None:
            _export_bundle(source, to, out, compute_capability or [])
        elif source is None or out is None or not calibrate:
            needed = {"RUN or BUNDLE": source, "--out FOLDER": out, "--calibrate ARCHIVE": calibrate}
            lacking = ", ".join(name for name, given in needed.items() if not given)
            raise ConfigError(
                f"without --to, export makes a bundle: {lacking} is missing",
                hint="--to TARGET makes an engine of a bundle: `crossglg-edge export --help` lists the targets.",
            )
        else:
            _make_bundle(source, out, calibrate, recordings or [], name, embedding)
    except ImportError as missing:
        raise CrossGLGError(
            f"export needs a package that is not installed: {missing.name}",
            code="not_installed",
            hint="Install it with `pip install 'crossglg-edge[train]'`.",
        ) from missing


def _export_bundle(source: Path | None, to: Target, out: Path | None, compute_capabilities: list[str]) -> None:
    if source is not None and (source / "run.json").is_file():
        raise ConfigError(
            f"{source} is a training run: expected a bundle",
            hint="Make one first: `crossglg-edge export RUN --out BUNDLE --calibrate ARCHIVE`.",
        )
    if to == "triton" and out is None:
        raise ConfigError("--to triton needs --out FOLDER, the model repository")
    if compute_capabilities and to != "tensorrt-rtx":
        raise ConfigError(f"--compute-capability is of --to tensorrt-rtx: --to {to} builds for the GPU that is here")
    from rich.console import Console

    from edge.model import read_bundle
    from edge.model.engines import engine_file

    info, onnx = read_bundle(source)
    bundle = onnx.parent
    folder = out or engine_file.default_folder(info)
    _make_folder(folder)
    console = Console(stderr=True)
    if to == "triton":
        from export.engines import triton

        _, model = triton.write_triton_repository(source, folder)
        console.print(
            f"{model}: the model {info.name}, sha256 {info.onnx_sha256[:12]}...", soft_wrap=not console.is_terminal
        )
        return
    path = _write_engine(info, bundle, to, folder, compute_capabilities, console)
    about = engine_file.read(path)
    size = sum(file.stat().st_size for file in (path, path.with_suffix(".bin")) if file.is_file())
    console.print(
        f"{path}: {size / 1e6:.2f} MB, {about.precision}; what it is for: {path.name}.json",
        soft_wrap=not console.is_terminal,
    )
    if about.parity is None:
        console.print("it runs on a GPU only: there it is compared with ONNX Runtime before its first use")
    else:
        parity = about.parity
        console.print(
            f"against {parity.against} in fp32: cosine {parity.cosine:.7f}, largest error {parity.largest:.1e}, "
            f"relative error of the features {parity.features:.1e}",
            soft_wrap=not console.is_terminal,
        )


def _export_words(source: Path | None, out: Path | None, calibrate: list[Path]) -> None:
    if out is None or not calibrate:
        raise ConfigError("--to words needs --out FOLDER, the bundle to write, and --calibrate ARCHIVE")
    from rich.console import Console

    from export.words import add_words

    info = add_words(source, calibrate, out)
    console = Console(stderr=True)
    console.print(
        f"{out}: the bundle {info.name} with words, sha256 {info.words_sha256[:12]}...",
        soft_wrap=not console.is_terminal,
    )


def _write_engine(
    info: BundleInfo, bundle: Path, to: Target, folder: Path, compute_capabilities: list[str], console: Console
) -> Path:
    if to == "onnx":
        from export.engines import onnx_fp32

        return onnx_fp32.write_fp32(info, bundle, folder)
    if to == "onnx-fp16":
        from export.engines import onnx_fp16

        return onnx_fp16.write_fp16(info, bundle, folder)
    if to == "openvino":
        from export.engines import open_vino

        return open_vino.write_ir(info, bundle, folder)
    if to == "torch-tensorrt":
        from export.engines import torch_tensor_rt

        return torch_tensor_rt.write_engine(info, bundle, folder)
    from rich.progress import Progress

    from export.engines import tensor_rt

    with Progress(console=console, transient=True) as progress:
        if to == "tensorrt":
            return tensor_rt.write_tensorrt(info, bundle, folder, progress)
        return tensor_rt.write_tensorrt_rtx(info, bundle, folder, progress, compute_capabilities)


def _make_folder(folder: Path) -> None:
    """Make sure that it can be written to, before a minute of work is lost. Raises EngineError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise EngineError(
            f"{folder} cannot be written to: {error.strerror}",
            hint="Name a folder that can be, or a new one, with --out.",
        ) from error


def _make_bundle(
    source: Path,
    out: Path,
    calibrate: list[Path],
    recordings: list[Path],
    name: str,
    embedding: Literal["joints", "pooled"],
) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from export.recipe import Phase, make_bundle, measure_again

    console = Console(stderr=True)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=None)

        def report(phase: Phase, done: int, total: int) -> None:
            if not done:
                console.print(f"{_PHASES[phase]} ...", soft_wrap=not console.is_terminal)
            progress.update(task, description=_PHASES[phase], completed=done, total=total or None)

        if (source / "bundle.json").is_file():
            made = measure_again(source, calibrate, out, recordings=recordings, report=report)
        else:
            made = make_bundle(
                source, calibrate, out, name=name, embedding=embedding, recordings=recordings, report=report
            )
    info = made.info
    console.print(
        f"{out}: {info.parameters:,} parameters, sha256 {info.onnx_sha256[:12]}..., {info.score_curve.source}",
        soft_wrap=not console.is_terminal,
    )
    if made.no_words:
        console.print(f"no words: {made.no_words}", soft_wrap=not console.is_terminal)
    if info.rates is None:
        console.print(f"no rates of false alarms: {made.no_rates}", soft_wrap=not console.is_terminal)
    else:
        console.print(f"rates of false alarms: {info.rates.source}", soft_wrap=not console.is_terminal)
