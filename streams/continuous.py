"""Continuous recordings with truth: one .npz a data set, as an archive of clips, but each recording has its own truth.

Beside `frames`, `offsets`, `class_names`, `joint_names`, `fps`, `subject` and `source` there are `timestamps_s`, the
frames' own times, and of each action a row of `truth_stream` (which recording), `truth_label`, `truth_start_s`,
`truth_end_s`, and where the data set has them `truth_point_s` (the action's point), `truth_correct` (1: done right) and
`truth_onset_present` (false: the recording begins within the action, which does not count).

Shapes: L frames of one recording, A actions, V = 25 kinect25 joints.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.archive import actions_of, check_arrays, joints_of_persons, read_arrays, read_beside
from streams.arrays import Mask
from streams.errors import ArchiveError
from streams.movement import Movement

_KEYS = (
    "frames", "offsets", "class_names", "joint_names", "fps", "timestamps_s",
    "truth_stream", "truth_label", "truth_start_s", "truth_end_s",
)  # fmt: skip
_OPTIONAL_KEYS = ("subject", "source", "truth_point_s", "truth_correct", "truth_onset_present")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueAction:
    """Name what was done between two moments of a recording, seconds.

    `point_s`: the data set's own point in it, None where it has none. `is_correct`: it was done as it should be.
    `is_scored`: false where it counts neither as missed nor as recognized.
    """

    label: str
    start_s: float
    end_s: float
    point_s: float | None = None
    is_correct: bool = True
    is_scored: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """Hold a recording of one person: the movement, and what they did, in its order. `subject` -1: unknown."""

    source: str
    subject: int
    movement: Movement
    actions: tuple[TrueAction, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ContinuousArchive:
    """Hold the recordings of one data set.

    `action_of`: each class's action in the vocabulary over all data sets. `never_enrolled`: the classes that also
    happen where nothing is labeled (`unlabelled_too` in datasets.json).
    """

    name: str
    path: Path
    fps: float
    class_names: tuple[str, ...]
    action_of: dict[str, str]
    never_enrolled: frozenset[str]
    recordings: tuple[Recording, ...]


def is_continuous(path: Path) -> bool:
    """Return whether a file holds recordings with truth, not clips. Raises ArchiveError."""
    return "truth_stream" in read_arrays(path, (), ("truth_stream",))


def read_continuous(path: Path) -> ContinuousArchive:
    """Read continuous recordings and map them to kinect25, as `read_archive` does. Raises ArchiveError."""
    data = read_arrays(path, _KEYS, _OPTIONAL_KEYS)
    check_arrays(path, data)
    _check_times(path, data)
    _check_truth(path, data)
    (joints_m, *others) = joints_of_persons(path, data)
    if others:
        raise ArchiveError(f"{path}: {1 + len(others)} persons a recording: expected one")
    class_names = tuple(str(name) for name in data["class_names"])
    never = read_beside(path, "datasets.json").get("unlabelled_too") or []
    if not isinstance(never, list) or not {str(name) for name in never} <= {*class_names}:
        raise ArchiveError(f"{path.with_name('datasets.json')}: unlabelled_too is {never!r}, expected names of classes")
    num, offsets = len(data["offsets"]) - 1, data["offsets"].tolist()
    subjects = data.get("subject", np.full(num, -1)).tolist()
    sources = [str(source) for source in data.get("source", np.arange(num))]
    recordings = []
    for i, (first, end) in enumerate(pairwise(offsets)):
        movement = Movement(timestamps_s=data["timestamps_s"][first:end], joints_m=joints_m[first:end])
        rows = np.flatnonzero(data["truth_stream"] == i)
        actions = tuple(_action(data, row, class_names) for row in rows.tolist())
        recordings.append(Recording(source=sources[i], subject=subjects[i], movement=movement, actions=actions))
    return ContinuousArchive(
        name=path.name.removesuffix(".npz"),
        path=path,
        fps=float(data["fps"].item()),
        class_names=class_names,
        action_of=dict(zip(class_names, actions_of(path, class_names), strict=True)),
        never_enrolled=frozenset(str(name) for name in never),
        recordings=tuple(recordings),
    )


def _action(data: dict[str, npt.NDArray[Any]], row: int, class_names: tuple[str, ...]) -> TrueAction:
    point_s = float(data["truth_point_s"][row]) if "truth_point_s" in data else None
    return TrueAction(
        label=class_names[data["truth_label"][row]],
        start_s=float(data["truth_start_s"][row]),
        end_s=float(data["truth_end_s"][row]),
        point_s=point_s,
        is_correct="truth_correct" not in data or int(data["truth_correct"][row]) == 1,
        is_scored="truth_onset_present" not in data or bool(data["truth_onset_present"][row]),
    )


def _check_times(path: Path, data: dict[str, npt.NDArray[Any]]) -> None:
    times_s, offsets = data["timestamps_s"], data["offsets"]
    if len(times_s) != len(data["frames"]):
        raise ArchiveError(
            f"{path}: {len(times_s)} timestamps_s, expected one for each of {len(data['frames'])} frames"
        )
    is_first = np.zeros(len(times_s), np.bool_)
    is_first[offsets[:-1]] = True
    wrong = ~np.isfinite(times_s)
    wrong[1:] |= ~(np.diff(times_s) > 0) & ~is_first[1:]
    if wrong.any():
        frame = int(wrong.argmax())
        recording = int(np.searchsorted(offsets, frame, side="right")) - 1
        raise ArchiveError(
            f"{path}: timestamps_s[{frame}] is {times_s[frame]:g} in recording {recording}: expected finite seconds "
            "that rise within a recording",
            code="bad_timestamp",
        )


def _check_truth(path: Path, data: dict[str, npt.NDArray[Any]]) -> None:
    """Refuse rows of truth that cannot be true, and name the first."""
    streams, labels = data["truth_stream"], data["truth_label"]
    starts_s, ends_s = data["truth_start_s"], data["truth_end_s"]
    rows = {key: len(value) for key, value in data.items() if key.startswith("truth_")}
    if len(set(rows.values())) > 1:
        raise ArchiveError(f"{path}: the truth has {rows}: expected as many rows of each", code="bad_truth")

    def refuse(wrong: Mask, problem: str, values: npt.NDArray[Any]) -> None:
        if wrong.any():
            row = int(wrong.argmax())
            raise ArchiveError(f"{path}: row {row} of the truth has {problem}: {values[row]}", code="bad_truth")

    num_streams, num_labels = len(data["offsets"]) - 1, len(data["class_names"])
    refuse((streams < 0) | (streams >= num_streams), f"a recording that is not one of 0 to {num_streams - 1}", streams)
    refuse((labels < 0) | (labels >= num_labels), f"a label that is not one of 0 to {num_labels - 1}", labels)
    spans_s = np.stack([starts_s, ends_s], axis=1)
    refuse(~(np.isfinite(spans_s).all(axis=1) & (ends_s > starts_s)), "an end that is not after its start", spans_s)
    first_s = data["timestamps_s"][data["offsets"][:-1]][streams]
    last_s = data["timestamps_s"][data["offsets"][1:] - 1][streams]
    is_early = np.zeros(len(streams), np.bool_)
    is_early[1:] = (streams[1:] == streams[:-1]) & (starts_s[1:] < starts_s[:-1])
    refuse(is_early, "a start before that of the row before it", spans_s)
    # Truth is often rounded to the next frame's time, or made at a rate of its own.
    refuse((ends_s < first_s) | (starts_s > last_s), "a span outside of its recording", spans_s)
    if "truth_point_s" in data:
        refuse(~np.isfinite(data["truth_point_s"]), "a point that is no time", data["truth_point_s"])
