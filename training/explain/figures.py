"""The figures of `crossglg-edge explain`, after Fig. 4, 5 and 6 of the paper; all measures of layout are inches.

Shapes: A actions, L blocks, S strips, V = 25 joints, C = 3 coordinates.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from streams.arrays import Array
from streams.errors import ConfigError
from streams.files import replacing
from streams.layouts import KINECT25_JOINTS, KINECT25_PARENTS
from training.explain.explain import Clips, Explanation

Kind = Literal["joint importance", "spatial attention", "skeletons"]

FILES: dict[Kind, str] = {
    "joint importance": "joint_importance.png", "spatial attention": "spatial_attention.png",
    "skeletons": "skeletons.png",
}  # fmt: skip
_DPI = 150
_MAX_LETTERS = 36
# Height of a strip; width and height of a skeleton; area, in square points, of a sphere with all the attention.
_STRIP, _PANEL, _POINTS2 = 0.23, (2.2, 2.7), 1500.0
# One hue from light to dark, and colors of Okabe and Ito: the color-blind tell them apart.
_COLORS, _SPHERES, _BONES = "Blues", "#F0A56E", "#777777"
_PARTS = {
    "trunk and head": "#444444", "left arm": "#0072B2", "right arm": "#D55E00", "left leg": "#009E73",
    "right leg": "#B0558A",
}  # fmt: skip
# The schematic body, seen from the front; a left joint is the mirror image of the right one.
_BODY = {
    "Head": (0, 15), "Neck": (0, 13.5), "SpineShoulder": (0, 12), "SpineMid": (0, 9.7), "SpineBase": (0, 7.4),
    "Shoulder": (2.2, 11.9), "Elbow": (3.3, 9.8), "Wrist": (4.2, 7.8), "Hand": (4.7, 6.3), "HandTip": (5.4, 4.9),
    "Thumb": (3.7, 5.0), "Hip": (1.4, 6.5), "Knee": (1.6, 3.7), "Ankle": (1.8, 1.3), "Foot": (2.9, 0.3),
}  # fmt: skip


def draw_figures(
    out: Path,
    of: str,
    actions: Sequence[str],
    explanations: Sequence[Explanation],
    key_joints_AV: Array,
    poses: Sequence[tuple[str, Array]],
    *,
    files: Mapping[Kind, str] = FILES,
) -> list[Path]:
    """Write the three figures as PNG, or those that `files` names, and return their paths.

    `of`: what they are drawn of; `actions`: the headings; `key_joints_AV`: shares, NaN where unknown;
    `poses`: of each action a clip's name and a pose (V, C). Raises ConfigError where `out` cannot be written.
    """
    draw: dict[Kind, Callable[[], Figure]] = {
        "joint importance": lambda: joint_importance(of, actions, explanations, key_joints_AV),
        "spatial attention": lambda: spatial_attention(of, actions, explanations),
        "skeletons": lambda: skeletons(of, actions, explanations, poses),
    }
    with matplotlib.rc_context(
        {"font.family": "DejaVu Sans", "font.size": 8.0, "text.parse_math": False, "axes.linewidth": 0.6}
    ):
        for kind, name in files.items():
            _save(draw[kind](), out / name)
    return [out / name for name in files.values()]


def headings(clips: Clips, explanations: Sequence[Explanation]) -> list[str]:
    """Return what stands over each action: its name, whether the runs were trained on it, and its number of clips."""
    found = []
    for action, of_action in clips.items():
        trained = {action in explanation.classes for explanation in explanations}
        kind = "trained on by some" if len(trained) == 2 else "trained on" if trained == {True} else "never trained on"
        name = action if len(action) <= _MAX_LETTERS else action[:_MAX_LETTERS] + "…"
        found.append(f"{name} ({kind}, {len(of_action)} clip{'s' * (len(of_action) > 1)})")
    return found


def joint_importance(
    of: str, actions: Sequence[str], explanations: Sequence[Explanation], key_joints_AV: Array
) -> Figure:
    """Draw for each action K from the text above, and the k_out of each run that has JID below (Fig. 4)."""
    with_jid = [(e.run, e.importance_AV) for e in explanations if e.importance_AV is not None]
    without = ", ".join(e.run for e in explanations if e.importance_AV is None)
    note = f"\nno JID, so no strip below: {without}" if without else ""
    left, width, top, block = 4.6, 25 * 0.26, 2.3, 0.42 + _STRIP * (1 + len(with_jid))
    figure = Figure(figsize=(left + width + 2.3, max(top + block * len(actions) + 0.9, 5.3)))
    _head(figure, "Joint importance: K from the text (above), JID's mean k_out (below)", of + note)
    _draw_body(figure)
    for number, name in enumerate(KINECT25_JOINTS):
        x, color = left + width * (number + 0.5) / 25, _PARTS[_part(name)]
        _text(figure, x, top - 0.08, f"{name} {number + 1}", rotation=90, ha="center", va="bottom", color=color)
    _text(figure, left + width + 0.1, top - 0.08, "largest", va="bottom")
    _text(figure, left + width + 0.75, top - 0.08, "on key joints\n(even share)", va="bottom")
    for a, action in enumerate(actions):
        y = top + a * block
        _text(figure, left, y + 0.19, action, fontsize=9, fontweight="bold")
        values_SV = np.stack([key_joints_AV[a], *(of_run_AV[a] for _, of_run_AV in with_jid)])
        axes = _axes(figure, left, y + 0.24, width, _STRIP * len(values_SV))
        image = _draw_strips(axes, values_SV, ["K", *(f"JID, {_short(run, 20)}" for run, _ in with_jid)])
    label = "share of the importance, over the largest of the strip"
    _color_bar(figure, image, left, top + block * len(actions) + 0.15, label)
    return figure


def _draw_strips(axes: Axes, values_SV: Array, names: Sequence[str]) -> AxesImage:
    """Draw K and what JID makes of it, one strip each, the numbers at their right."""
    image = axes.imshow(values_SV / values_SV.max(axis=1, keepdims=True), _COLORS, vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.hlines(np.arange(1, len(names)) - 0.5, -0.5, 24.5, color="black", linewidth=0.6)
    is_key_V = values_SV[0] > 0
    for s, values_V in enumerate(values_SV):
        if np.isnan(values_V).any():
            axes.text(12, s, "no key joints known", ha="center", va="center", style="italic")
            continue
        axes.text(24.9, s, f"{values_V.max():.3f}", va="center")
        if s and is_key_V.any():
            axes.text(27.4, s, f"{values_V[is_key_V].sum():.0%} ({is_key_V.mean():.0%})", va="center")
    return image


def spatial_attention(of: str, actions: Sequence[str], explanations: Sequence[Explanation]) -> Figure:
    """Draw a matrix for each action and run: rows joints, columns blocks (Fig. 5)."""
    num_blocks = explanations[0].attention_ALV.shape[1]
    left, top, width, height = 4.5, 1.8, max(0.23 * num_blocks, 1.6), 25 * 0.14
    row, column = height + 0.75, width + 0.3
    figure = Figure(figsize=(max(left + column * len(explanations) + 0.3, 9.0), max(top + row * len(actions), 5.8)))
    has_jid = any(explanation.importance_AV is not None for explanation in explanations)
    note = (
        "\ndashed: JID weighs what the blocks after it pass on; these shares are before its weights" if has_jid else ""
    )
    _head(figure, "Spatial attention: how much of it each joint gets in each block", of + note)
    _draw_body(figure)
    shares_RALV = 25 * np.stack([explanation.attention_ALV for explanation in explanations])
    limits = float(shares_RALV.min()), float(shares_RALV.max())
    for a, action in enumerate(actions):
        _text(figure, left - 1.4, top + a * row - 0.27, action, fontsize=9, fontweight="bold")
        for r, explanation in enumerate(explanations):
            x, y = left + r * column, top + a * row
            _text(figure, x + width / 2, y - 0.07, _short(explanation.run, 26), ha="center")
            axes = _axes(figure, x, y, width, height)
            image = _draw_matrix(axes, shares_RALV[r, a], limits, is_named=r == 0)
            if explanation.importance_AV is not None:
                axes.axvline(explanation.num_pre - 0.5, color="black", linewidth=0.9, linestyle="--")
    _color_bar(figure, image, 0.4, 5.25, "times an even share (1/25)", width=2.3)
    return figure


def _draw_matrix(axes: Axes, shares_LV: Array, limits: tuple[float, float], *, is_named: bool) -> AxesImage:
    order = sorted(range(25), key=lambda v: [*_PARTS].index(_part(KINECT25_JOINTS[v])))
    image = axes.imshow(shares_LV[:, order].T, _COLORS, vmin=limits[0], vmax=limits[1], aspect="auto")
    axes.set_xticks(range(len(shares_LV)), [str(number + 1) for number in range(len(shares_LV))])
    axes.set_xlabel("block", labelpad=1)
    axes.set_yticks(range(25), [f"{KINECT25_JOINTS[v]} {v + 1}" if is_named else "" for v in order])
    axes.tick_params(length=0)
    for label, v in zip(axes.get_yticklabels(), order, strict=True):
        label.set_color(_PARTS[_part(KINECT25_JOINTS[v])])
    return image


def skeletons(
    of: str, actions: Sequence[str], explanations: Sequence[Explanation], poses: Sequence[tuple[str, Array]]
) -> Figure:
    """Draw each action's pose from the front, once a run; a sphere's area is the joint's attention (Fig. 6)."""
    left, top, row, column = 0.4, 1.7, _PANEL[1] + 0.55, _PANEL[0] + 0.2
    figure = Figure(figsize=(max(left + column * len(explanations) + 0.2, 8.0), top + row * len(actions) + 0.5))
    what = "area: share of the attention in the blocks after JID, weighed by the k_out of the joint that looks"
    _head(
        figure, "Attention around the joints of a clip", f"{what}\n(without JID: in the same blocks, unweighed)\n{of}"
    )
    for a, (action, (clip, pose_VC)) in enumerate(zip(actions, poses, strict=True)):
        _text(figure, left, top + a * row - 0.24, f"{action}: {clip}", fontsize=9, fontweight="bold")
        for r, explanation in enumerate(explanations):
            x, y = left + r * column, top + a * row
            _text(figure, x + _PANEL[0] / 2, y - 0.07, _short(explanation.run, 28), ha="center")
            _draw_skeleton(_axes(figure, x, y, *_PANEL), pose_VC, explanation.weighed_AV[a])
    legend = _axes(figure, left, top + row * len(actions) - 0.3, 6.0, 0.6)
    legend.set(xlim=(0, 6), ylim=(0, 1), xticks=[], yticks=[], frame_on=False)
    for x, share, text in ((0.3, 1 / 25, "an even share (1/25)"), (2.2, 0.2, "five times as much (1/5)")):
        _draw_spheres(legend, np.array([x]), np.array([0.5]), np.array([share]))
        legend.text(x + 0.3, 0.5, text, va="center")
    return figure


def _draw_skeleton(axes: Axes, pose_VC: Array, shares_V: Array) -> None:
    # A person who faces us has the right hand, at the larger x, on our left.
    x_V, y_V = -pose_VC[:, 0], pose_VC[:, 1]
    width, height = _PANEL
    per_inch = 1.3 * max(float(np.ptp(x_V)) / width, float(np.ptp(y_V)) / height, 1e-3)
    axes.set_xlim(_around(x_V, per_inch * width / 2))
    axes.set_ylim(_around(y_V, per_inch * height / 2))
    axes.set(xticks=[], yticks=[], aspect="equal")
    for joint, parent in enumerate(KINECT25_PARENTS):
        axes.plot(x_V[[joint, parent]], y_V[[joint, parent]], color=_BONES, linewidth=1.6, zorder=1)
    _draw_spheres(axes, x_V, y_V, shares_V)


def _around(values_V: Array, reach: float) -> tuple[float, float]:
    middle = float(values_V.max() + values_V.min()) / 2
    return middle - reach, middle + reach


def _draw_spheres(axes: Axes, x_V: Array, y_V: Array, shares_V: Array) -> None:
    # The smallest last: joints that a sensor does not tell apart lie at one place.
    order = np.argsort(-shares_V)
    sizes_V = _POINTS2 * shares_V[order]
    axes.scatter(x_V[order], y_V[order], sizes_V, _SPHERES, edgecolors="black", linewidths=0.5, zorder=2)


def _draw_body(figure: Figure) -> None:
    """Draw the schematic body with the joints' numbers, colored by part."""
    axes = _axes(figure, 0.2, 1.2, 2.7, 3.9)
    places = [_place(name) for name in KINECT25_JOINTS]
    for joint, parent in enumerate(KINECT25_PARENTS):
        xs, ys = zip(places[joint], places[parent], strict=True)
        axes.plot(xs, ys, color=_BONES, linewidth=1.4, zorder=1)
    for number, (name, (x, y)) in enumerate(zip(KINECT25_JOINTS, places, strict=True), start=1):
        axes.scatter(x, y, 130, _PARTS[_part(name)], zorder=2)
        axes.text(x, y, str(number), color="white", ha="center", va="center_baseline", fontsize=6.5, zorder=3)
    axes.set(xticks=[], yticks=[], aspect="equal", frame_on=False, xlim=(-6.2, 6.2), ylim=(-3.2, 15.8))
    for part, color in _PARTS.items():
        row = ["head", "arm", "leg"].index(part.split()[-1])
        axes.text(0.6 if "left" in part else -5.8, -0.9 - 0.9 * row, part, color=color, fontweight="bold")


def _place(joint: str) -> tuple[float, float]:
    name = joint.removesuffix("Left").removesuffix("Right")
    x, y = _BODY[name]
    return (-x if joint.endswith("Right") else x), y


def _part(joint: str) -> str:
    side = next((side for side in ("Left", "Right") if joint.endswith(side)), None)
    if side is None:
        return "trunk and head"
    return f"{side.lower()} {'leg' if joint.startswith(('Hip', 'Knee', 'Ankle', 'Foot')) else 'arm'}"


def _short(name: str, num_letters: int) -> str:
    return name if len(name) <= num_letters else name[: num_letters - 1] + "…"


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))


def _text(figure: Figure, left: float, top: float, text: str, **style: Any) -> None:
    w, h = figure.get_size_inches()
    figure.text(left / w, 1 - top / h, text, **style)


def _head(figure: Figure, title: str, of: str) -> None:
    _text(figure, 0.2, 0.3, title, fontsize=12, fontweight="bold")
    num_letters = int(13 * figure.get_figwidth())
    lines = [part for line in of.splitlines() for part in textwrap.wrap(line, num_letters)]
    _text(figure, 0.2, 0.42, "\n".join(lines), va="top")


def _color_bar(figure: Figure, image: AxesImage, left: float, top: float, label: str, width: float = 3.0) -> None:
    figure.colorbar(image, cax=_axes(figure, left, top, width, 0.12), orientation="horizontal", label=label)


def _save(figure: Figure, path: Path) -> None:
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=_DPI)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", hint="Choose another --out.") from error
