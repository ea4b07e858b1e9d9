"""Archives -> a training set, and its augmentation.

Shapes: B windows of a batch, M persons, L frames of a clip, T frames of a window, V = 25.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.motion import MOTION_SHARE, fill_missing, pace_by_motion, resample, stand_up, to_body_frame
from streams.archive import read_archive
from streams.arrays import Array
from streams.errors import ArchiveError
from streams.layouts import mirrored_view
from streams.movement import Movement
from training.data.authors import turns

Labels = npt.NDArray[np.int64]
# The movement of one person or two at the same moments, without NaN.
Persons = tuple[Movement, ...]

NUM_TWINS = 4
_FROM_THE_FIRST = np.zeros(1, np.intp)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSet:
    """Hold the clips that an encoder learns from.

    `archives`: name -> sha256 of each archive it came from, for the model card. `has_scores`: z is a joint's score.
    """

    clips: tuple[Persons, ...]
    labels: Labels
    classes: tuple[str, ...]
    archives: dict[str, str]
    has_scores: bool = False

    def __len__(self) -> int:
        return len(self.clips)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Name each random change of a training window.

    Crop and turn are the authors' (source: stnoah1/infogcn); the others stand for what sensors and
    people differ in. `min_crop`: the smallest part of a clip that is kept, `min_crop_frames`: and of frames. Sizes are
    standard deviations.
    `reversed_share`, `mirrored_share`: the shares of windows that run backwards, and whose left and right are
    exchanged; such a window is of a class of its own, its class's twin (ours: more classes to learn from).
    """

    min_crop: float = 0.5
    min_crop_frames: int = 64
    max_turn_rad: float = 0.3
    axis_scale: float = 0.0
    joint_noise: float = 0.0
    joint_drop: float = 0.0
    reversed_share: float = 0.0
    mirrored_share: float = 0.0

    @property
    def has_twins(self) -> bool:
        """Whether some windows run backwards or are mirrored, as classes of their own."""
        return self.reversed_share > 0 or self.mirrored_share > 0

    @property
    def has_more_than_theirs(self) -> bool:
        """Whether it does more than InfoGCN's authors, who crop and turn."""
        return self.has_twins or max(self.axis_scale, self.joint_noise, self.joint_drop) > 0


def load_training_set(
    paths: Sequence[Path], *, actions: Sequence[str] | None = None, num_persons: int = 1, scores: bool = False
) -> TrainingSet:
    """Read archives; the classes are the actions of the common vocabulary, sorted.

    `actions`, where given, are the only ones kept. With `num_persons` 1 each person that is seen is a clip
    of its own: which of two acts is not recorded. With 2, both are one clip. `scores`: see `read_archive`.
    Raises ArchiveError if nothing is left, or some archives have scores and others none.
    """
    clips: list[Persons] = []
    names, archives = [], {}
    scored: set[bool] = set()
    for path in paths:
        archive = read_archive(path, scores=scores)
        scored.add(archive.has_scores)
        archives[archive.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        for i in range(len(archive)):
            clip = archive[i]
            if actions is None or clip.action in actions:
                # Filled before a crop is cut from it, in which a person may not be seen at all.
                filled = tuple(fill_missing(movement) for movement in clip.persons if movement.is_seen)
                for first in range(0, len(filled), num_persons):
                    clips.append(filled[first : first + num_persons])
                    names.append(clip.action)
    if not clips:
        raise ArchiveError(f"no clip of the wanted actions in {', '.join(str(p) for p in paths) or 'no archive'}")
    if len(scored) > 1:
        raise ArchiveError(
            "some archives have scores of their joints and others none: expected one kind in a training",
            hint='Train on one kind, or with windows = "device", which takes no scores.',
        )
    classes = tuple(sorted(set(names)))
    order = {name: i for i, name in enumerate(classes)}
    return TrainingSet(
        clips=tuple(clips),
        labels=np.array([order[name] for name in names], np.int64),
        classes=classes,
        archives=archives,
        has_scores=scored == {True},
    )


def take_actions(data: TrainingSet, actions: Sequence[str]) -> TrainingSet:
    """Return the clips of these actions, as `load_training_set` with these would. Raises ArchiveError without any."""
    classes = tuple(name for name in data.classes if name in actions)
    kept = [i for i, label in enumerate(data.labels) if data.classes[label] in classes]
    if not kept:
        raise ArchiveError(f"no clip of the wanted actions in {', '.join(data.archives)}")
    order = {name: i for i, name in enumerate(classes)}
    return TrainingSet(
        clips=tuple(data.clips[i] for i in kept),
        labels=np.array([order[data.classes[data.labels[i]]] for i in kept], np.int64),
        classes=classes,
        archives=data.archives,
        has_scores=data.has_scores,
    )


def archive_paths(paths: Sequence[Path]) -> list[Path]:
    """Return the archives named, and those in the folders named. Raises ArchiveError."""
    found = []
    for path in paths:
        inside = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not inside:
            raise ArchiveError(f"{path} holds no skeleton archive (*.npz)", code="not_found")
        found += inside
    return found


def sampling_order(labels: Labels, balance: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return an epoch's clip numbers: each clip drawn by its class's size to the power -balance.

    0 is every clip once, 1 is every class alike.
    """
    if balance == 0:
        return rng.permutation(len(labels))
    weight = np.bincount(labels).astype(np.float64)[labels] ** -balance
    return rng.choice(len(labels), len(labels), p=weight / weight.sum())


def paired_order(labels: Labels, batch: int, num_samples: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return an epoch's clip numbers, in batches of a few classes with at least `num_samples` clips of each.

    Of a class with fewer, clips come twice, each time as another view. In a batch each class comes once before any
    comes again, so that processes which share its classes have pairs.
    """
    of_class = [np.flatnonzero(labels == number) for number in np.unique(labels)]
    num_classes = max(1, min(batch // num_samples, len(of_class)))
    num_each = max(1, batch // num_classes)

    def one_batch() -> npt.NDArray[np.int64]:
        chosen = [of_class[number] for number in rng.permutation(len(of_class))[:num_classes]]
        drawn = [rng.choice(clips, num_each, replace=len(clips) < num_each) for clips in chosen]
        return np.stack(drawn, axis=1).ravel()

    return np.concatenate([one_batch() for _ in range(max(1, len(labels) // batch))])


def augmented_windows(
    clips: Sequence[Persons],
    num_frames: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
    num_persons: int = 1,
) -> tuple[Array, Array]:
    """Return one random view of each clip, shape (B, M, T, 25, 3), and the same before it was turned and made noisy.

    The first person is in the body's own frame (`edge.motion.preprocess`), a second one in that of the first; a person
    who is missing is all zero.
    """
    lengths_B = np.array([len(persons[0]) for persons in clips])
    keep_B = np.rint(lengths_B * rng.uniform(augmentation.min_crop, 1, len(clips))).astype(np.int64)
    keep_B = np.minimum(np.maximum(keep_B, max(augmentation.min_crop_frames, 2)), lengths_B)
    start_B = rng.integers(0, lengths_B - keep_B + 1)
    dropped_BV = rng.random((len(clips), 25)) < augmentation.joint_drop
    joints = np.zeros((len(clips), num_persons, num_frames, 25, 3), np.float32)
    frames_T = np.arange(num_frames, dtype=np.float64)
    present_BM = np.zeros((len(clips), num_persons), np.bool_)
    for i, persons in enumerate(clips):
        part = slice(start_B[i], start_B[i] + keep_B[i])
        for m, movement in enumerate(persons):
            kept = movement.part(part)
            (view,) = resample(kept.timestamps_s, kept.joints_m, _FROM_THE_FIRST, num_frames)
            if dropped_BV[i].any():
                view[:, dropped_BV[i]] = np.nan
                view = fill_missing(Movement(timestamps_s=frames_T, joints_m=view)).joints_m
            joints[i, m], present_BM[i, m] = view, True
    # Both persons of a clip are paced alike, by what both do.
    shape = (len(clips), num_frames, num_persons, 25, 3)
    together = joints.swapaxes(1, 2).reshape(len(clips), num_frames, -1, 3)
    joints = np.asarray(pace_by_motion(together, MOTION_SHARE).reshape(shape).swapaxes(1, 2), np.float32)
    windows = np.zeros_like(joints)
    windows[:, 0] = to_body_frame(joints[:, 0])
    for i, m in np.argwhere(present_BM[:, 1:]).tolist():
        windows[i, m + 1] = _in_frame_of(joints[i, 0], windows[i, 0], joints[i, m + 1])
    windows[:, 0] = stand_up(windows[:, 0])
    turn_B33 = turns(rng.uniform(-1, 1, (len(clips), 3)) * augmentation.max_turn_rad)
    scale_B13 = rng.normal(1, augmentation.axis_scale, (len(clips), 1, 3)).astype(np.float32)
    changed = (windows.reshape(len(clips), -1, 3) @ (turn_B33 * scale_B13)).reshape(windows.shape)
    changed += augmentation.joint_noise * rng.standard_normal(windows.shape, np.float32)
    return np.asarray(changed * present_BM[:, :, None, None, None], np.float32), windows


def with_twins(windows_BMTVC: Array, augmentation: Augmentation, rng: np.random.Generator) -> tuple[Array, Labels]:
    """Reverse some windows and mirror some; return them and which twin each is: 0 to 3, 1 reversed + 2 mirrored."""
    is_reversed_B, is_mirrored_B = (
        rng.random(len(windows_BMTVC)) < share for share in (augmentation.reversed_share, augmentation.mirrored_share)
    )
    windows = np.where(is_reversed_B[:, None, None, None, None], windows_BMTVC[:, :, ::-1], windows_BMTVC)
    windows = np.where(is_mirrored_B[:, None, None, None, None], mirrored_view(windows), windows)
    return np.ascontiguousarray(windows), is_reversed_B.astype(np.int64) + 2 * is_mirrored_B


def _in_frame_of(first_TV3: Array, window_TV3: Array, second_TV3: Array) -> Array:
    """Return the second person, moved, turned and scaled as the first was to become a window."""

    def with_one(joints_TV3: Array) -> Array:
        return np.pad(joints_TV3.reshape(-1, 3), ((0, 0), (0, 1)), constant_values=1)

    moved, *_ = np.linalg.lstsq(with_one(first_TV3), window_TV3.reshape(-1, 3), rcond=None)
    return np.asarray((with_one(second_TV3) @ moved).reshape(second_TV3.shape), np.float32)
