"""Continuous recordings with truth: read as they are, refused with the row where the truth cannot be true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from streams.continuous import is_continuous, read_continuous
from streams.errors import ArchiveError
from streams.layouts import KINECT25_JOINTS

Arrays = dict[str, npt.NDArray[Any]]


def arrays() -> Arrays:
    """Two recordings of 40 and 60 frames at 10 fps, whose times leap once, with three actions."""
    times_s = [np.arange(40) / 10, 5 + np.arange(60) / 10]
    times_s[0][20:] += 0.5
    return {
        "frames": np.random.default_rng(0).normal(0, 0.3, (100, 25, 3)).astype(np.float32),
        "offsets": np.array([0, 40, 100]),
        "timestamps_s": np.concatenate(times_s),
        "subject": np.array([3, 4]),
        "source": np.array(["one", "two"]),
        "class_names": np.array(["wave", "bow"]),
        "joint_names": np.array(KINECT25_JOINTS),
        "fps": np.array(10.0),
        "truth_stream": np.array([0, 0, 1]),
        "truth_label": np.array([1, 0, 0]),
        "truth_start_s": np.array([0.5, 2.0, 6.0]),
        "truth_end_s": np.array([1.5, 3.0, 7.5]),
        "truth_point_s": np.array([1.0, 2.4, 7.0]),
        "truth_correct": np.array([1, 2, 1]),
        "truth_onset_present": np.array([True, True, False]),
    }


def write(path: Path, **changes: Any) -> Path:
    content = {key: value for key, value in {**arrays(), **changes}.items() if value is not None}
    np.savez(path, **content)
    return path


def test_recordings_are_read_with_their_own_times_and_truth(tmp_path: Path) -> None:
    path = write(tmp_path / "own.npz")
    (tmp_path / "datasets.json").write_text(
        '{"own": {"class_to_action": {"bow": "bend / bow"}, "unlabelled_too": ["wave"]}}', encoding="utf-8"
    )
    archive = read_continuous(path)
    assert is_continuous(path)
    assert (archive.name, archive.class_names, archive.fps) == ("own", ("wave", "bow"), 10.0)
    assert archive.action_of == {"wave": "wave", "bow": "bend / bow"}
    assert archive.never_enrolled == {"wave"}
    one, two = archive.recordings
    assert (one.source, one.subject, len(one.movement)) == ("one", 3, 40)
    assert one.movement.duration_s == pytest.approx(4.4)
    np.testing.assert_array_equal(two.movement.joints_m, arrays()["frames"][40:])
    bow, wave = one.actions
    assert (bow.label, bow.start_s, bow.end_s, bow.point_s, bow.is_correct) == ("bow", 0.5, 1.5, 1.0, True)
    assert (wave.label, wave.is_correct, wave.is_scored) == ("wave", False, True)
    assert not two.actions[0].is_scored


def test_what_a_data_set_does_not_have_has_its_default(tmp_path: Path) -> None:
    missing = ("subject", "source", "truth_point_s", "truth_correct", "truth_onset_present")
    archive = read_continuous(write(tmp_path / "own.npz", **dict.fromkeys(missing)))
    (action, _) = archive.recordings[0].actions
    assert (archive.recordings[1].subject, archive.recordings[1].source) == (-1, "1")
    assert (action.point_s, action.is_correct, action.is_scored) == (None, True, True)


def changed(key: str, row: int, value: float) -> Arrays:
    array = arrays()[key].copy()
    array[row] = value
    return {key: array}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (changed("truth_start_s", 1, 0.2), "row 1 of the truth has a start before that of the row before it"),
        (changed("truth_start_s", 2, 8.0), "row 2 of the truth has an end that is not after its start"),
        (changed("truth_end_s", 0, np.nan), "row 0 of the truth has an end that is not after its start"),
        ({"truth_start_s": np.array([0.5, 9.0, 6.0]), "truth_end_s": np.array([1.5, 9.5, 7.5])}, "row 1 of the truth"),
        (changed("truth_label", 2, 7), "row 2 of the truth has a label that is not one of 0 to 1"),
        (changed("truth_stream", 1, 2), "row 1 of the truth has a recording that is not one of 0 to 1"),
        (changed("truth_point_s", 1, np.inf), "row 1 of the truth has a point that is no time"),
        ({"truth_label": np.array([1, 0])}, "expected as many rows of each"),
        (changed("timestamps_s", 3, 0.2), r"timestamps_s\[3\] is 0.2 in recording 0"),
        (changed("timestamps_s", 40, np.nan), r"timestamps_s\[40\] is nan in recording 1"),
        ({"timestamps_s": np.arange(7.0)}, "7 timestamps_s, expected one for each of 100 frames"),
        ({"timestamps_s": None}, "no timestamps_s in it"),
        ({"subject": np.array([1])}, "1 entries in subject"),
        ({"truth_label": np.array(["wave", "bow", "bow"])}, "truth_label is .*, expected whole numbers"),
    ],
)
def test_what_cannot_be_true_is_refused_with_its_row(tmp_path: Path, changes: Arrays, problem: str) -> None:
    with pytest.raises(ArchiveError, match=problem):
        read_continuous(write(tmp_path / "own.npz", **changes))


@pytest.mark.parametrize("said", ['"wave"', '["jump"]'])
def test_classes_that_are_never_enrolled_must_be_there(tmp_path: Path, said: str) -> None:
    (tmp_path / "datasets.json").write_text(f'{{"own": {{"unlabelled_too": {said}}}}}', encoding="utf-8")
    with pytest.raises(ArchiveError, match=r"unlabelled_too is .*, expected names of classes"):
        read_continuous(write(tmp_path / "own.npz"))


def test_an_archive_of_clips_is_none_of_recordings(tmp_path: Path) -> None:
    clips = {key: value for key, value in arrays().items() if not key.startswith("truth") and key != "timestamps_s"}
    np.savez(tmp_path / "clips.npz", allow_pickle=False, label=np.array([0, 1]), **clips)
    assert not is_continuous(tmp_path / "clips.npz")
    with pytest.raises(ArchiveError, match="no timestamps_s, truth_stream"):
        read_continuous(tmp_path / "clips.npz")
