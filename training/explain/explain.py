"""What runs look at in real clips: the joints that JID and the spatial attention of each block weigh.

Shapes: A actions, N clips, L blocks, T frames, H heads, V = 25 joints, C = 3 coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from edge.motion import fill_missing, to_body_frame, window_from_movement
from streams.archive import read_archive
from streams.arrays import Array
from streams.errors import ArchiveError, DescriptionError
from streams.movement import Movement
from training.data import authors_windows
from training.model import SkeletonBranch
from training.run import load_run
from training.texts import chosen_texts, read_key_joints

# Actions where none are named: so many, those with most clips.
NUM_ACTIONS = 4
_BATCH = 16
_NUM_JOINTS = 25


class PersonClip(NamedTuple):
    """Hold one person of a clip: "archive:number", and a movement without NaN."""

    name: str
    movement: Movement


class Look(NamedTuple):
    """Hold what a branch looks at in N windows.

    `attention_NLV`: the share of a block's attention that a joint gets. Attention: the size of what the spatial
    layer multiplies the joints' features by, softmax times topology, its mean over frames, heads and the
    joints that look. `weighed_NV`: the same over the blocks after JID, where a joint that looks counts by
    its k_out, as its features do there (paper, Eq. 1). `importance_NV`: JID's k_out; without JID, ones.
    """

    attention_NLV: Array
    weighed_NV: Array
    importance_NV: Array


Clips = dict[str, list[PersonClip]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """Hold what one run looks at, in shares that sum to 1 over the joints.

    `attention_ALV`, `importance_AV`: see `look`, the mean over an action's clips (of a sigmoid's k_out: of its
    shares); `weighed_AV`: that of one clip of each action. Without JID `importance_AV` is None; JID comes
    after block `num_pre`. `classes`: what it was trained on; `descriptions`: whose texts led it.
    """

    run: str
    classes: tuple[str, ...]
    descriptions: str
    num_pre: int
    attention_ALV: Array
    weighed_AV: Array
    importance_AV: Array | None


def read_clips(paths: Sequence[Path], actions: Sequence[str] | None = None) -> Clips:
    """Return each action's clips, every person that is seen alone; by default of the actions with most.

    Raises ArchiveError where an action has no clip, naming those that have.
    """
    found: Clips = {}
    for path in paths:
        archive = read_archive(path)
        for clip in map(archive.__getitem__, range(len(archive))):
            for movement in clip.persons:
                if movement.is_seen:
                    person = PersonClip(f"{archive.name}:{clip.index}", fill_missing(movement))
                    found.setdefault(clip.action, []).append(person)
    by_size = sorted(found, key=lambda action: -len(found[action]))
    wanted = list(dict.fromkeys(by_size[:NUM_ACTIONS] if actions is None else actions))
    unknown = [action for action in wanted if action not in found]
    if unknown or not wanted:
        raise ArchiveError(
            f"no clip of {', '.join(map(repr, unknown)) or 'any action'} in {', '.join(map(str, paths))}",
            code="no_action",
            hint=f"The actions there: {', '.join(sorted(found)) or 'none'}.",
        )
    return {action: found[action] for action in wanted}


def explain_runs(
    runs: Sequence[Path], clips: Clips, shown: int = 0, report: Callable[[int], None] = lambda _: None
) -> list[Explanation]:
    """Look at what finished runs look at; `shown`: a clip's number in its action; `report` gets how many are done.

    Raises ConfigError for a run that is not finished, ArchiveError where an action has no clip `shown`.
    """
    for action, of_action in clips.items():
        if not 0 <= shown < len(of_action):
            last = len(of_action) - 1
            raise ArchiveError(f"{action!r} has no clip {shown}: expected 0 to {last}", code="no_clip")
    # All are loaded before the first is looked at, so that a bad one is refused before the long work.
    loaded = [(run.resolve().name, *load_run(run)) for run in runs]
    return [_explain(*run, clips, shown, report) for run in loaded]


def _explain(
    name: str,
    branch: SkeletonBranch,
    about: dict[str, Any],
    clips: Clips,
    shown: int,
    report: Callable[[int], None],
) -> Explanation:
    looks = [_look(branch, of_action, about["config"], report) for of_action in clips.values()]
    importance_AV = None
    if branch.jid is not None:
        shares = [each.importance_NV / each.importance_NV.sum(axis=1, keepdims=True) for each in looks]
        importance_AV = np.stack([shares_NV.mean(axis=0) for shares_NV in shares])
    return Explanation(
        run=name,
        classes=tuple(about["classes"]),
        descriptions=about["config"]["descriptions"],
        num_pre=branch.guidance.num_pre,
        attention_ALV=np.stack([each.attention_NLV.mean(axis=0) for each in looks]),
        weighed_AV=np.stack([each.weighed_NV[shown] for each in looks]),
        importance_AV=importance_AV,
    )


def _look(
    branch: SkeletonBranch, clips: Sequence[PersonClip], config: dict[str, Any], report: Callable[[int], None]
) -> Look:
    looks = []
    for start in range(0, len(clips), _BATCH):
        batch = clips[start : start + _BATCH]
        num_frames = config["num_frames"]
        if config["windows"] == "authors":
            windows = authors_windows([(clip.movement,) for clip in batch], num_frames, 1)[:, 0]
        else:
            windows = np.stack([window_from_movement(clip.movement, num_frames) for clip in batch])
        looks.append(look(branch, windows))
        report(len(batch))
    return Look(*map(np.concatenate, zip(*looks, strict=True)))


@torch.inference_mode()
def look(branch: SkeletonBranch, windows_NTVC: Array) -> Look:
    """Return what the branch looks at in each window. Of an encoder of two persons, the second is left empty."""
    seen: list[Tensor] = []
    encoder, num_persons = branch.encoder, branch.encoder.config.num_persons
    x_NMTVC = torch.zeros(len(windows_NTVC), num_persons, *windows_NTVC.shape[1:])
    x_NMTVC[:, 0] = torch.from_numpy(windows_NTVC)
    _, importance_BV = branch.features(x_NMTVC, lambda number, x_BCTV: seen.append(encoder.attention(number, x_BCTV)))
    seen_NLVV = torch.stack(seen, dim=1)[::num_persons]
    importance_NV = (
        torch.ones(len(windows_NTVC), seen_NLVV.shape[2]) if importance_BV is None else importance_BV[::num_persons]
    )
    # Where JID comes last, it weighs what the last block has looked at.
    after_NLVV = seen_NLVV[:, min(branch.guidance.num_pre, encoder.num_blocks - 1) :]
    weighed_NV = _share_attention(after_NLVV * importance_NV[:, None, :, None]).mean(dim=1)
    return Look(
        *(_on_kinect25(each, encoder.joints) for each in (_share_attention(seen_NLVV), weighed_NV, importance_NV))
    )


def _on_kinect25(shares: Tensor, joints: Sequence[int]) -> Array:
    """Return what each of an encoder's joints (last axis) has as kinect25's; 0 for those that it does not see."""
    all_joints = shares.new_zeros(*shares.shape[:-1], _NUM_JOINTS)
    all_joints[..., list(joints)] = shares
    return np.asarray(all_joints.numpy(), np.float32)


def _share_attention(seen_NLVV: Tensor) -> Tensor:
    return seen_NLVV.sum(dim=2) / seen_NLVV.sum(dim=(2, 3))[..., None]


def key_joint_shares(llm: str, actions: Sequence[str]) -> tuple[Array, list[str]]:
    """Return K / sum(K), shape (A, V), which is what JID is to find, NaN where there is none; and why there is none."""
    llm = chosen_texts(llm, actions)
    shares_AV, notes = np.full((len(actions), _NUM_JOINTS), np.nan, np.float32), []
    for row_V, action in zip(shares_AV, actions, strict=True):
        try:
            (key_joints_V,) = read_key_joints(llm, [action])
        except DescriptionError as error:
            notes.append(f"no key joints of {action!r}: {error.message}")
            continue
        if not key_joints_V.any():
            notes.append(f"no key joints of {action!r}: its text in {llm} names none")
            continue
        row_V[:] = key_joints_V / key_joints_V.sum()
    return shares_AV, notes


def most_moving(clip: PersonClip) -> Array:
    """Return the pose amid the half second in which the joints go the longest way, in the body's frame, (V, C)."""
    joints_TVC = clip.movement.joints_m
    way_S = np.linalg.norm(np.diff(joints_TVC, axis=0), axis=2).sum(axis=1)
    span = max(1, round(0.5 * len(clip.movement) / max(clip.movement.duration_s, 1e-6)))
    middle = int(np.convolve(way_S, np.ones(min(span, len(way_S))), mode="same").argmax()) if len(way_S) else 0
    return np.asarray(to_body_frame(joints_TVC[None])[0, middle], np.float32)
