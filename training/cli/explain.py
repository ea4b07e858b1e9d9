"""The offline command `crossglg-edge explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streams.errors import ArchiveError, ConfigError, CrossGLGError

# Each is a row of matrices, four inches high.
_MAX_ACTIONS = 12


def explain(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN... ARCHIVE...", help="Runs of `train`, then skeleton archives (.npz) or folders of them."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder for the three figures.")],
    actions: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="Draw these actions in this order. Default: the 4 with the most clips."),
    ] = None,
    clip: Annotated[int, typer.Option(min=0, help="Draw this clip of each action as a skeleton.")] = 0,
) -> None:
    """Draw what runs look at in clips, as in Fig. 4 to 6 of the paper. Needs the extra `explain`."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    try:
        from training.data import archive_paths
        from training.explain import draw_figures, explain_runs, headings, key_joint_shares, most_moving, read_clips
    except ImportError as missing:
        raise CrossGLGError(
            f"the figures need a package that is not installed: {missing.name}",
            code="not_installed",
            hint="Install it with `pip install 'crossglg-edge[explain]'`.",
        ) from missing
    archives = [path for path in paths if path.suffix == ".npz" or any(path.glob("*.npz"))]
    runs = [path for path in paths if path not in archives]
    if not runs:
        raise ConfigError("no run is named", hint="Name folders that `crossglg-edge train` finished, before archives.")
    if not archives:
        raise ArchiveError("no archive is named", hint="Name skeleton archives, .npz, after the runs.")
    files = archive_paths(archives)
    wanted = None if actions is None else [name.strip() for name in actions.split(",")]
    if wanted is not None and len(wanted) > _MAX_ACTIONS:
        raise ConfigError(f"--actions names {len(wanted)}: a figure has room for {_MAX_ACTIONS}")
    clips = read_clips(files, wanted)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out} cannot be made: {error.strerror}", hint="Choose another --out.") from error
    console = Console(stderr=True, highlight=False)
    console.soft_wrap = not console.is_terminal
    num_clips = sum(map(len, clips.values()))
    with Progress(console=console) as progress:
        task = progress.add_task("looking", total=num_clips * len(runs))
        explanations = explain_runs(runs, clips, clip, lambda done: progress.advance(task, done))
    llm = next((e.descriptions for e in explanations if e.importance_AV is not None), explanations[0].descriptions)
    key_joints_AV, notes = key_joint_shares(llm, [*clips])
    of = f"runs: {', '.join(e.run for e in explanations)}; texts: {llm}\narchives: {', '.join(f.stem for f in files)}"
    poses = [(of_action[clip].name, most_moving(of_action[clip])) for of_action in clips.values()]
    for path in draw_figures(out, of, headings(clips, explanations), explanations, key_joints_AV, poses):
        console.print(escape(str(path)))
    for note in notes:
        console.print(escape(note))
