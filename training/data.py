"""Archives -> a training set, and its augmentation.

Shapes: N clips, B windows of a batch, L frames of a clip, T frames of a window, V = 25, C = 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.normalize import window_from_joints
from streams.archive import read_archive
from streams.errors import ArchiveError

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSet:
    """Hold the clips that an encoder learns from, one person each.

    `clips`: per clip its timestamps (L,), seconds, and joints (L, 25, 3), metres.
    `archives`: name -> sha256 of each archive it came from, for the model card.
    """

    clips: tuple[tuple[npt.NDArray[np.float64], Array], ...]
    labels: Labels
    classes: tuple[str, ...]
    archives: dict[str, str]

    def __len__(self) -> int:
        return len(self.clips)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Name each random change of a training window.

    Crop and turn are the authors' (source: stnoah1/infogcn); the others stand for what sensors and
    people differ in. A share is the part of the clip kept; sizes are standard deviations.
    """

    min_crop: float = 0.5
    max_turn_rad: float = 0.3
    axis_scale: float = 0.08
    joint_noise: float = 0.01
    joint_drop: float = 0.02


def load_training_set(paths: Sequence[Path], *, actions: Sequence[str] | None = None) -> TrainingSet:
    """Read archives; the classes are the actions of the common vocabulary, sorted.

    `actions`, where given, are the only ones kept. Of two persons in a clip both are kept: which of
    them acts is not recorded. Raises ArchiveError if nothing is left.
    """
    clips, names, archives = [], [], {}
    for path in paths:
        archive = read_archive(path)
        archives[archive.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        for i in range(len(archive)):
            clip = archive[i]
            if actions is None or clip.action in actions:
                clips += [(clip.timestamps_s, joints) for joints in clip.persons]
                names += [clip.action] * len(clip.persons)
    if not clips:
        raise ArchiveError(f"no clip of the wanted actions in {', '.join(str(p) for p in paths) or 'no archive'}")
    classes = tuple(sorted(set(names)))
    order = {name: i for i, name in enumerate(classes)}
    return TrainingSet(
        clips=tuple(clips),
        labels=np.array([order[name] for name in names], np.int64),
        classes=classes,
        archives=archives,
    )


def sampling_order(labels: Labels, balance: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return an epoch's clip numbers: each clip drawn by its class's size to the power -balance.

    0 is every clip once, 1 is every class alike.
    """
    if balance == 0:
        return rng.permutation(len(labels))
    weight = np.bincount(labels).astype(np.float64)[labels] ** -balance
    return rng.choice(len(labels), len(labels), p=weight / weight.sum())


def augmented_window(
    timestamps_s: npt.NDArray[np.float64],
    joints_LV3: Array,
    num_frames: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> Array:
    """Return one random view of a clip as a window, shape (T, 25, 3)."""
    length = len(timestamps_s)
    keep = max(2, round(length * rng.uniform(augmentation.min_crop, 1)))
    start = int(rng.integers(0, length - keep + 1))
    joints = joints_LV3[start : start + keep]
    if augmentation.joint_drop > 0:
        joints = np.where(rng.random((1, 25, 1)) < augmentation.joint_drop, np.float32(np.nan), joints)
    window = window_from_joints(timestamps_s[start : start + keep], joints, num_frames)
    turn = _turn(rng.uniform(-1, 1, 3) * augmentation.max_turn_rad)
    window = window @ turn * rng.normal(1, augmentation.axis_scale, (1, 1, 3)).astype(np.float32)
    noise = rng.normal(0, augmentation.joint_noise, window.shape).astype(np.float32)
    return np.asarray(window + noise, np.float32)


def _turn(angles_rad: npt.NDArray[np.float64]) -> Array:
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles_rad), np.sin(angles_rad)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_x @ about_y @ about_z, np.float32)
