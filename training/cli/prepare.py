"""`crossglg-edge prepare`: public data sets, as their authors ship them -> skeleton archives and protocols."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.errors import ArchiveError
from streams.files import replace_file

if TYPE_CHECKING:
    from training.data import Sample

prepare = typer.Typer(help="Turn public data sets into skeleton archives.", no_args_is_help=True)

_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the unpacked data set.")]
_Out = Annotated[Path, typer.Option(metavar="DIR", help="The folder for the archives. Finished archives are kept.")]


@prepare.command("ntu")
def ntu(
    folder: _Folder,
    out: _Out,
    skip: Annotated[
        Path | None,
        typer.Option(
            metavar="LIST", help="A text file of samples to leave out, such as the authors' list of missing skeletons."
        ),
    ] = None,
) -> None:
    """Turn NTU RGB+D 60 or 120 (.skeleton files) into one archive per setup, and write the one-shot protocols."""
    from streams.layouts import KINECT25_JOINTS
    from training.data import ntu as ntu_files

    parts = ntu_files.ntu_parts(folder, ntu_files.read_skip_list(skip) if skip is not None else ())
    _prepare(parts, ntu_files.read_sample, out, KINECT25_JOINTS, ntu_files.FPS, ntu_files.ntu_protocols())


@prepare.command("kinetics")
def kinetics(folder: _Folder, out: _Out) -> None:
    """Turn Kinetics-skeleton (kinetics_train, kinetics_val) into archives of 20,000 clips, and write the protocol."""
    from streams.layouts import LAYOUTS
    from training.data import kinetics as kinetics_files

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
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    from training.data import prepare_archives

    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("files", total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        prepared = prepare_archives(parts, read, out, joints=joints, fps=fps, report=report)
    console = Console(highlight=False)
    console.soft_wrap = not console.is_terminal
    for part in prepared:
        lost = f", {len(part.without_body)} files without a body left out" if part.without_body else ""
        console.print(f"{escape(part.name)}: {part.clips:,} clips{lost}")
    console.print(f"{sum(part.clips for part in prepared):,} clips in {escape(str(out))}")
    for name, protocol in protocols.items():
        try:
            replace_file(out / name, f"{json.dumps(protocol, indent=1)}\n".encode())
        except OSError as error:
            raise ArchiveError(f"{out / name} cannot be written: {error.strerror}") from error
        console.print(f"protocol: {escape(str(out / name))}")
