"""`crossglg-edge prepare`: public data sets, as their authors ship them -> skeleton archives and protocols."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from streams.errors import ArchiveError
from streams.layouts import KINECT25_JOINTS, LAYOUTS
from training.data import Sample, prepare_archives
from training.data import kinetics as kinetics_files
from training.data import ntu as ntu_files

prepare = typer.Typer(help="Turn public data sets into skeleton archives.", no_args_is_help=True)

_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The data set, unpacked.")]
_Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the archives; what is finished is kept.")]


@prepare.command("ntu")
def ntu(
    folder: _Folder,
    out: _Out,
    skip: Annotated[
        Path | None,
        typer.Option(metavar="LIST", help="Text file of samples to leave out: the authors' missing skeletons."),
    ] = None,
) -> None:
    """NTU RGB+D 60 or 120 (.skeleton files): an archive a setup, and the one-shot protocols."""
    parts = ntu_files.ntu_parts(folder, ntu_files.read_skip_list(skip) if skip is not None else ())
    _prepare(parts, ntu_files.read_sample, out, KINECT25_JOINTS, ntu_files.FPS, ntu_files.ntu_protocols())


@prepare.command("kinetics")
def kinetics(folder: _Folder, out: _Out) -> None:
    """Kinetics-skeleton (kinetics_train, kinetics_val): archives of 20,000 clips, and the one-shot protocol."""
    parts = kinetics_files.kinetics_parts(folder)
    joints, protocols = LAYOUTS["openpose18"].joints, kinetics_files.kinetics_protocols()
    _prepare(parts, kinetics_files.read_sample, out, joints, kinetics_files.FPS, protocols)


def _prepare(
    parts: Mapping[str, Sequence[Path]],
    read: Callable[[Path], Sample | None],
    out: Path,
    joints: Sequence[str],
    fps: float,
    protocols: Mapping[str, Mapping[str, Any]],
) -> None:
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("files", total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        prepared = prepare_archives(parts, read, out, joints=joints, fps=fps, report=report)
    console = Console(soft_wrap=True, highlight=False)
    for part in prepared:
        lost = f", {len(part.without_body)} files without a body left out" if part.without_body else ""
        console.print(f"{escape(part.name)}: {part.clips:,} clips{lost}")
    console.print(f"{sum(part.clips for part in prepared):,} clips in {escape(str(out))}")
    for name, protocol in protocols.items():
        try:
            (out / name).write_text(json.dumps(protocol, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise ArchiveError(f"{out / name} cannot be written: {error.strerror}") from error
        console.print(f"protocol: {escape(str(out / name))}")
