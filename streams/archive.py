"""Skeleton archives: one .npz a data set, with joint_maps.json and datasets.json beside it.

Shapes: N clips, L frames of one clip, V = 25 kinect25 joints, J native joints.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.arrays import Array, Times
from streams.errors import ArchiveError, LayoutError
from streams.frame import SkeletonFrame
from streams.layouts import KINECT25_AXES, KINECT25_JOINTS, LAYOUTS, Layout, layout_from_map, to_kinect25
from streams.movement import Movement, frames_of

_KEYS = ("frames", "offsets", "label", "class_names", "joint_names", "fps")
_OPTIONAL_KEYS = ("subject", "source")
# How sure a 2D pose estimator is of each joint; read on demand.
_SCORES = "scores"
# Kinds of dtype, and dimensions.
_KINDS = {
    "frames": ("fiu", 3), "offsets": ("iu", 1), "label": ("iu", 1), "class_names": ("U", 1),
    "joint_names": ("U", 1), "fps": ("fiu", 0), "subject": ("iu", 1), "source": ("U", 1),
    "timestamps_s": ("f", 1), "truth_stream": ("iu", 1), "truth_label": ("iu", 1), "truth_start_s": ("f", 1),
    "truth_end_s": ("f", 1), "truth_point_s": ("f", 1), "truth_correct": ("iu", 1), "truth_onset_present": ("b", 1),
    "scores": ("f", 2),
}  # fmt: skip
_KIND_NAMES = {"fiu": "numbers", "f": "floating-point numbers", "iu": "whole numbers", "U": "text", "b": "booleans"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """Hold one clip: the movement of each person in it, and what is known about it.

    `persons`: at least one; all have the same timestamps, from 0 at the rate `fps`.
    `subject` is -1 where unknown; `action` is the class in the vocabulary over all data sets.
    """

    archive: str
    index: int
    source: str
    label: str
    action: str
    subject: int
    fps: float
    persons: tuple[Movement, ...]

    @property
    def timestamps_s(self) -> Times:
        """The timestamps that all persons share, shape (L,), float64, seconds."""
        return self.persons[0].timestamps_s

    def frames(self, source: str | None = None, epoch: str = "archive", body: int = 0) -> Iterator[SkeletonFrame]:
        """Yield the clip as skeleton frames; persons become bodies `body`, `body` + 1, ..."""
        return frames_of(self.persons, source=source or self.archive, epoch=epoch, body=body, fps=self.fps)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Archive:
    """Hold one data set, mapped to kinect25 on reading; clips are cut from it on demand.

    `persons`: one array per person, shape (sum L, 25, 3), float32, meters. `has_scores`: z is the score of a joint.
    """

    name: str
    path: Path
    fps: float
    persons: tuple[Array, ...]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    subjects: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    actions: tuple[str, ...]
    sources: tuple[str, ...]
    has_scores: bool = False

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Clip:
        if not 0 <= index < len(self):
            raise ArchiveError(f"{self.path.name} has no clip {index}: expected 0 to {len(self) - 1}", code="no_clip")
        part = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        timestamps_s = np.arange(part.stop - part.start) / self.fps
        return Clip(
            archive=self.name,
            index=index,
            source=self.sources[index],
            label=self.class_names[self.labels[index]],
            action=self.actions[self.labels[index]],
            subject=int(self.subjects[index]),
            fps=self.fps,
            persons=tuple(Movement(timestamps_s=timestamps_s, joints_m=joints[part]) for joints in self.persons),
        )

    def find(self, clip: str) -> Clip:
        """Return the clip named by its number or by its `source`. Raises ArchiveError."""
        for names in ([str(i) for i in range(len(self))], self.sources):
            if clip in names:
                return self[names.index(clip)]
        raise ArchiveError(
            f"{self.path.name} has no clip {clip!r}: expected a number from 0 to {len(self) - 1}, "
            f"or a source name such as {self.sources[0]!r}",
            code="no_clip",
        )


def read_archive(path: Path | str, *, scores: bool = False) -> Archive:
    """Read an archive and map it to kinect25.

    The map is the entry of that name in joint_maps.json beside the archive, or, where there is
    none, the known layout that has the same joint names, or has them twice: first all as P1_NAME,
    then all as P2_NAME, for two persons. A joint at exactly (0, 0, 0) is a sensor's
    mark for "not tracked" and becomes NaN. `scores`: where the archive has them, a joint's score stands in the place of
    its z, as papers train on 2D poses. Raises ArchiveError.
    """
    path = Path(path)
    name = path.name.removesuffix(".npz")
    data = read_arrays(path, _KEYS, (*_OPTIONAL_KEYS, *((_SCORES,) if scores else ())))
    check_arrays(path, data)
    if _SCORES in data:
        data["frames"] = _with_scores(path, data["frames"], data[_SCORES])
    labels, num_clips = data["label"], len(data["offsets"]) - 1
    if len(labels) != num_clips:
        raise ArchiveError(f"{path}: {len(labels)} entries in label, expected one for each of {num_clips} clips")
    if labels.min() < 0 or labels.max() >= len(data["class_names"]):
        raise ArchiveError(
            f"{path}: labels are {labels.min()} to {labels.max()}, expected 0 to {len(data['class_names']) - 1}"
        )
    class_names = tuple(str(label) for label in data["class_names"])
    return Archive(
        name=name,
        path=path,
        fps=float(data["fps"].item()),
        persons=joints_of_persons(path, data),
        offsets=data["offsets"].astype(np.int64),
        labels=labels.astype(np.int64),
        subjects=data.get("subject", np.full(num_clips, -1)).astype(np.int64),
        class_names=class_names,
        actions=actions_of(path, class_names),
        sources=tuple(str(s) for s in data.get("source", np.arange(num_clips))),
        has_scores=_SCORES in data,
    )


def read_actions(path: Path | str) -> frozenset[str]:
    """Return the actions that an archive has clips of, without its frames, which take long. Raises ArchiveError."""
    path = Path(path)
    data = read_arrays(path, ("label", "class_names"), ())
    actions = actions_of(path, [str(label) for label in data["class_names"]])
    return frozenset(actions[label] for label in np.unique(data["label"]).tolist() if 0 <= label < len(actions))


def _with_scores(path: Path, frames: npt.NDArray[Any], scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if scores.shape != frames.shape[:2]:
        raise ArchiveError(f"{path}: scores are {scores.shape}, expected {frames.shape[:2]}, one for each joint")
    return np.concatenate((frames[..., :2], scores[..., None]), axis=2)


def joints_of_persons(path: Path, data: Mapping[str, npt.NDArray[Any]]) -> tuple[Array, ...]:
    """Return the joints of each person in kinect25, shape (sum L, 25, 3), NaN where missing. Raises ArchiveError."""
    layouts = _layouts(path, path.name.removesuffix(".npz"), tuple(str(joint) for joint in data["joint_names"]))
    # Whatever float32 cannot hold becomes infinite, and that is no joint.
    with np.errstate(over="ignore"):
        joints = data["frames"].astype(np.float32)
    joints[(joints == 0).all(axis=-1)] = np.nan
    joints[~np.isfinite(joints)] = np.nan
    # An archive is in "LUF" whatever the axes of the sensor that it was recorded with.
    return tuple(to_kinect25(joints, layout, axes=KINECT25_AXES) for layout in layouts)


def actions_of(path: Path, class_names: Sequence[str]) -> tuple[str, ...]:
    """Return each class's action in the vocabulary over all data sets. Raises ArchiveError."""
    name = path.name.removesuffix(".npz")
    to_action = read_beside(path, "datasets.json").get("class_to_action") or {}
    if not isinstance(to_action, dict):
        raise ArchiveError(f"{path.with_name('datasets.json')}: class_to_action of {name!r} is not a map")
    return tuple(str(to_action.get(label) or label) for label in class_names)


def read_arrays(path: Path, required: Sequence[str], optional: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """Return arrays of a file by name, all that are required and the optional ones it has. Raises ArchiveError."""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise zipfile.BadZipFile("it is no zip file of arrays")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                data = {key: arrays[key] for key in (*required, *optional) if key in arrays}
    except FileNotFoundError as error:
        raise ArchiveError(f"{path} does not exist", code="not_found") from error
    except Exception as error:  # damage makes zipfile, zlib and numpy raise a dozen unrelated types
        raise ArchiveError(f"{path} cannot be read as an .npz archive: {error}") from error
    missing = [key for key in required if key not in data]
    if missing:
        raise ArchiveError(
            f"{path}: no {', '.join(missing)} in it; expected an archive with {', '.join(required)}",
            hint="The format is described in docs/data-format.md under 'Archives'.",
        )
    return data


def check_arrays(path: Path, data: Mapping[str, npt.NDArray[Any]]) -> None:
    """Check what every archive has: types, shapes, offsets, joints, the rate. Raises ArchiveError."""
    for key, array in data.items():
        kinds, num_dimensions = _KINDS[key]
        if array.dtype.kind not in kinds or (array.ndim != num_dimensions and key != "fps"):
            raise ArchiveError(
                f"{path}: {key} is {array.dtype} of shape {array.shape}, expected {_KIND_NAMES[kinds]} "
                f"in {num_dimensions} dimensions"
            )
    frames, offsets, num_joints = data["frames"], data["offsets"], len(data["joint_names"])
    if frames.shape[1:] != (num_joints, 3):
        raise ArchiveError(
            f"{path}: frames are {frames.shape}, expected (frames, {num_joints}, 3) for its {num_joints} joint names"
        )
    num_clips = len(offsets) - 1
    if num_clips < 1 or offsets[0] != 0 or offsets[-1] != len(frames) or (offsets[1:] <= offsets[:-1]).any():
        raise ArchiveError(f"{path}: offsets must rise from 0 to the {len(frames)} frames, one step a clip")
    for key in _OPTIONAL_KEYS:
        if key in data and len(data[key]) != num_clips:
            raise ArchiveError(f"{path}: {len(data[key])} entries in {key}, expected one for each of {num_clips} clips")
    if data["fps"].size != 1 or not 0 < data["fps"].item() < math.inf:
        raise ArchiveError(f"{path}: fps is {data['fps']}, expected one rate above 0")


def read_beside(path: Path, file_name: str) -> dict[str, Any]:
    """Return what a JSON file beside an archive says of the data set of its name. Raises ArchiveError."""
    name = path.name.removesuffix(".npz")
    file = path.with_name(file_name)
    if not file.exists():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArchiveError(f"{file} cannot be read as JSON: {error}") from error
    entry = content.get(name, {}) if isinstance(content, dict) else None
    if not isinstance(entry, dict):
        raise ArchiveError(
            f"{file}: expected a map from data sets to maps, got {type(content).__name__} "
            f"with {type(entry).__name__} for {name!r}"
        )
    return entry


def _layouts(path: Path, name: str, native: tuple[str, ...]) -> tuple[Layout, ...]:
    entry = read_beside(path, "joint_maps.json")
    if entry:
        people = ("_p1", "_p2") if "map_p1" in entry else ("",)
        try:
            return tuple(layout_from_map(name, native, entry, person) for person in people)
        except LayoutError as error:
            file = path.with_name("joint_maps.json")
            raise ArchiveError(f"{file}: {error.message}", code=error.code, hint=error.hint) from error
    for layout in LAYOUTS.values():
        if layout.joints == native:
            return (layout,)
        if native == tuple(f"{person}_{joint}" for person in ("P1", "P2") for joint in layout.joints):
            weights = np.kron(np.eye(2, dtype=np.float32), layout.kinect25_weights)
            return tuple(replace(layout, kinect25_weights=half) for half in (weights[:25], weights[25:]))
    if set(KINECT25_JOINTS) <= set(native):
        return (layout_from_map(name, native, {"map": list(KINECT25_JOINTS)}),)
    raise ArchiveError(
        f"{path}: its {len(native)} joints ({', '.join(native[:6])}, ...) are not those of a known layout, "
        f"and joint_maps.json beside it has no entry {name!r}",
        code="unknown_layout",
        hint="Add an entry with `map`: a native joint for each of the 25 kinect25 joints.",
    )
