"""A figure, from finished runs: the drawing, and what it shows in numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streams.arrays import Array
from streams.errors import CrossGLGError
from streams.layouts import KINECT25_JOINTS
from training.reproduce.paper import read_paper
from training.reproduce.rows import Arm, figure_arms
from training.reproduce.runner import Material, Run
from training.reproduce.setup import Setup
from training.reproduce.write import write_figure
from training.run import load_run

if TYPE_CHECKING:
    from training.explain import Clips, Explanation, Kind

_KINDS: dict[str, Kind] = {
    "figure4": "joint importance", "figure5": "spatial attention", "figure6": "skeletons",
    "figureA1": "spatial attention",
}  # fmt: skip
# As many as the paper shows.
_NUM_ACTIONS = {"figure4": 10, "figure5": 4, "figure6": 4, "figureA1": 3}
_OF_NOVEL = ("figure6", "figureA1")


def make_figure(
    material: Material, runs: Mapping[tuple[Arm, int, int], Run], report: Callable[[str, int, int], None]
) -> list[Path]:
    """Draw a figure of the first seed's runs; return the paths of its files. Raises ArchiveError, ConfigError."""
    try:
        from training.explain import draw_figures, explain_runs, headings, key_joint_shares, most_moving
    except ImportError as missing:
        raise CrossGLGError(
            f"figures need a package that is not installed: {missing.name}",
            code="not_installed",
            hint="Install it with `pip install 'crossglg-edge[explain]'`.",
        ) from missing
    setup, arms = material.setup, figure_arms(material.setup.name)
    (num_base, *_) = setup.columns
    folders = [runs[arm, num_base, 0].folder for arm in arms.values()]
    clips = _clips(setup, runs[next(iter(arms.values())), num_base, 0])
    total, done = sum(map(len, clips.values())) * len(folders), 0

    def looked(number: int) -> None:
        nonlocal done
        done += number
        report("looking", done, total)

    explanations = [
        replace(explanation, run=title)
        for title, explanation in zip(arms, explain_runs(folders, clips, 0, looked), strict=True)
    ]
    llm = setup.train_config(Arm(), num_base, 0).descriptions
    key_joints_AV, notes = key_joint_shares(llm, [*clips])
    title = read_paper().figures[setup.name].title
    of = f"{setup.protocol_name}, {num_base} base actions, seed 0, {setup.choices.size.words}; texts: {Path(llm).name}"
    poses = [(of_action[0].name, most_moving(of_action[0])) for of_action in clips.values()]
    name = f"{setup.name}_{setup.protocol_name}.png"
    (drawing,) = draw_figures(
        setup.choices.out, of, headings(clips, explanations), explanations, key_joints_AV, poses,
        files={_KINDS[setup.name]: name},
    )  # fmt: skip
    content = {
        "of": of,
        "joints": list(KINECT25_JOINTS),
        "notes": notes,
        **_numbers(clips, explanations, key_joints_AV),
    }
    lines = [f"- {of}", *(f"- {note}" for note in notes), "", f"![{title}]({name})", ""]
    return [drawing, *write_figure(setup, title, content, [*lines, *_lines(clips, explanations, key_joints_AV)])]


def _clips(setup: Setup, run: Run) -> Clips:
    """Return the clips of the paper's actions, or of those of this protocol that have most."""
    from training.explain import read_clips

    paper = read_paper().figures[setup.name]
    is_novel = setup.name in _OF_NOVEL
    among = setup.protocol.novel if is_novel else load_run(run.folder)[1]["classes"]
    named = [action for action in paper.actions if action in among]
    if paper.protocol == setup.protocol_name and named:
        return read_clips(_archives(setup, is_novel), named)
    found = read_clips(_archives(setup, is_novel), among)
    most = sorted(found, key=lambda action: -len(found[action]))[: _NUM_ACTIONS[setup.name]]
    return {action: found[action] for action in most}


def _archives(setup: Setup, is_novel: bool) -> list[Path]:
    sets = [setup.choices.data / f"{name}.npz" for name in sorted(set(setup.protocol.sets))]
    return sets if is_novel else setup.training_archives()


def _numbers(clips: Clips, explanations: Sequence[Explanation], key_joints_AV: Array) -> dict[str, Any]:
    """Return what the drawing shows: shares that sum to 1 over the joints."""
    runs = {
        each.run: {
            "importance": each.importance_AV.tolist() if each.importance_AV is not None else None,
            "attention": each.attention_ALV.tolist(),
            "weighed": each.weighed_AV.tolist(),
        }
        for each in explanations
    }
    keys = [None if row_V[0] != row_V[0] else row_V.tolist() for row_V in key_joints_AV]
    return {
        "actions": {action: len(of_action) for action, of_action in clips.items()},
        "key_joints": keys,
        "runs": runs,
    }


def _lines(clips: Clips, explanations: Sequence[Explanation], key_joints_AV: Array) -> list[str]:
    """Return a table of how much of each run's attention, and of its JID's weight, falls on the key joints."""
    columns = [
        (f"{each.run}: {what}", values)
        for each in explanations
        for what, values in (("JID", each.importance_AV), ("attention", each.attention_ALV.mean(axis=1)))
        if values is not None
    ]
    lines = ["Share in % that falls on the key joints that the texts name; an even share is that of their number.", ""]
    lines.append("| action | clips | even share | " + " | ".join(title for title, _ in columns) + " |")
    lines.append("| --- " * (3 + len(columns)) + "|")
    for a, (action, of_action) in enumerate(clips.items()):
        is_key_V = key_joints_AV[a] > 0
        shares = [is_key_V.mean(), *(values[a][is_key_V].sum() for _, values in columns)]
        lines.append(f"| {action} | {len(of_action)} | " + " | ".join(f"{100 * share:.1f}" for share in shares) + " |")
    return lines
