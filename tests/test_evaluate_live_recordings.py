"""`crossglg-edge evaluate recordings`: who enrolls, what counts, and what is printed.

Shapes: L frames, V = 25 kinect25 joints.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from edge.config import Config, Events
from edge.model.choose import open_encoder
from streams.archive import read_archive
from streams.continuous import read_continuous
from streams.errors import ArchiveError
from streams.layouts import KINECT25_JOINTS
from streams.performer import perform
from training.cli.evaluate import evaluate
from training.evaluate.live.recordings import (
    Enrollment,
    evaluate_recordings,
    streams_with_gallery,
    streams_with_own_examples,
)
from training.evaluate.live.score import Emitted, match_events, outcome
from training.evaluate.live.stream import Action

if TYPE_CHECKING:
    from tests.conftest import WriteRecordings


STREAMS = Path(__file__).parents[2] / "shared" / "streams"
ACTIONS = ("wave", "bow", "raise_arms", "squat", "kick")
FPS = 30.0
# Of the tiny bundle's scores 0.85 tells the performer's actions apart.
CONFIG = Config(events=Events(min_score=0.85))


def write_clips(path: Path, actions: tuple[str, ...]) -> Path:
    joints = [perform(action, seed=90 + i, fps=FPS).joints_m for i, action in enumerate(actions)]
    np.savez(
        path,
        frames=np.concatenate(joints),
        offsets=np.cumsum([0, *map(len, joints)]),
        label=np.arange(len(actions)),
        class_names=np.array(actions),
        joint_names=np.array(KINECT25_JOINTS),
        fps=FPS,
    )
    return path


# Who enrolls


def test_another_person_enrolls_what_is_done_first_and_then_other_classes(
    tmp_path: Path, write_recordings: WriteRecordings
) -> None:
    archive = read_continuous(write_recordings(tmp_path / "own.npz"))
    bows = tuple(action for action in archive.recordings[0].actions if action.label == "bow")
    archive = replace(archive, recordings=(replace(archive.recordings[0], actions=bows), *archive.recordings[1:]))
    for stream in streams_with_own_examples(archive, CONFIG, Enrollment(num_labels=3)):
        own = stream.name.rpartition("/")[2]
        assert len({example.label for example in stream.examples}) == 3
        assert all(example.origin != f"file:{own}" for example in stream.examples)
        assert all(example.movement.timestamps_s[0] == 0 for example in stream.examples)
        if own == "person 1":
            assert stream.examples[0].label == "bow"
            assert [action.label for action in stream.truth] == ["bow"]


def test_a_class_that_also_happens_unlabeled_is_never_enrolled(
    tmp_path: Path, write_recordings: WriteRecordings
) -> None:
    archive = replace(read_continuous(write_recordings(tmp_path / "own.npz")), never_enrolled=frozenset({"kick"}))
    for stream in streams_with_own_examples(archive, CONFIG, Enrollment()):
        assert {example.label for example in stream.examples} == {*ACTIONS} - {"kick"}
        assert "kick" in {action.label for action in stream.others}


def test_what_was_not_done_right_or_does_not_count_is_no_example(
    tmp_path: Path, write_recordings: WriteRecordings
) -> None:
    archive = read_continuous(write_recordings(tmp_path / "own.npz", subjects=(1, 2)))
    wrong = tuple(replace(action, is_correct=action.label != "wave") for action in archive.recordings[1].actions)
    archive = replace(archive, recordings=(archive.recordings[0], replace(archive.recordings[1], actions=wrong)))
    (first, _) = streams_with_own_examples(archive, CONFIG, Enrollment())
    assert {example.label for example in first.examples} == {*ACTIONS} - {"wave"}


def test_more_examples_are_of_other_people_first_and_begin_with_the_one(
    tmp_path: Path, write_recordings: WriteRecordings
) -> None:
    archive = read_continuous(write_recordings(tmp_path / "own.npz", subjects=(1, 2, 3, 4)))
    one, three, many = (
        streams_with_own_examples(archive, CONFIG, Enrollment(num_labels=2, num_examples=n))[0] for n in (1, 3, 20)
    )
    for label in {example.label for example in one.examples}:
        origins = [[e.origin for e in stream.examples if e.label == label] for stream in (one, three, many)]
        assert origins[0] == origins[1][:1]
        assert sorted(origins[1]) == ["file:person 2", "file:person 3", "file:person 4"]
        assert origins[1] == origins[2], "each person did it once"


@pytest.mark.parametrize("shots", ["0", "21", "one", "1,,2", "-1", "1.5"])
def test_a_number_of_examples_that_cannot_be_is_refused(
    tmp_path: Path, shots: str, write_recordings: WriteRecordings
) -> None:
    result = CliRunner().invoke(
        evaluate, ["recordings", str(write_recordings(tmp_path / "own.npz")), f"--shots={shots}"]
    )
    assert result.exit_code == 2
    assert "whole numbers from 1 to 20" in result.output


# What counts

POINT = Action(label="bow", start_s=1.0, end_s=3.0, point_s=2.0)


@pytest.mark.parametrize(
    ("start_s", "end_s", "onset_s", "counts"),
    [
        (1.5, 2.5, 2.5, True),  # spans the point
        (2.3, 2.9, 2.9, True),  # begins a third of a second after it
        (2.4, 2.9, 2.9, False),
        (0.5, 1.6, 1.6, False),  # told within the action, but away from its point
        (2.4, 3.2, 3.4, True),  # told within half a second after it
        (2.4, 3.2, 3.6, False),
    ],
)
def test_an_event_belongs_to_an_action_with_a_point_by_the_point(
    start_s: float, end_s: float, onset_s: float, counts: bool
) -> None:
    event = Emitted(label="bow", body=0, start_s=start_s, end_s=end_s, onset_s=onset_s, wall_ms=0.0)
    assert bool(match_events([POINT], [event])) == counts


def test_an_action_that_is_not_scored_is_neither_missed_nor_falsely_recognized() -> None:
    begun = replace(POINT, is_scored=False)
    event = Emitted(label="bow", body=0, start_s=1.5, end_s=2.5, onset_s=2.5, wall_ms=0.0)
    result = outcome("someone", [], [begun], [event], 10.0)
    assert (len(result.pairs), result.num_missed, result.num_false) == (0, 0, 0)


# The command


def test_recordings_are_scored_beside_dtw_and_the_oracle(
    tmp_path: Path, tiny_bundle: Path, write_recordings: WriteRecordings
) -> None:
    options = ["--encoder", str(tiny_bundle), "--num-labels", "4", "--shots", "1,2", "--json"]
    result = CliRunner().invoke(evaluate, ["recordings", str(write_recordings(tmp_path / "own.npz")), *options])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    figures = {"f1", "precision", "recall", "false_alarms_per_hour", "hours", "delay_p50_ms", "num_actions"}
    assert figures <= report.keys()
    assert figures <= report["archives"]["own"].keys()
    assert report["num_actions"] == 12
    assert report["shots"].keys() == {"2"}
    assert report["shots"]["2"]["num_actions"] == 12
    assert report["dtw"] is None, "the tiny bundle has no threshold of DTW"
    oracle = report["oracle_windows"]
    assert oracle["closed_set"] >= 0.9
    assert 0 <= oracle["f1"] <= oracle["best_f1"] <= 1
    assert any("no threshold of DTW" in note for note in report["notes"])


def test_recordings_of_nothing_enrolled_give_false_alarms_alone(
    tmp_path: Path, tiny_bundle: Path, write_recordings: WriteRecordings
) -> None:
    encoder = open_encoder(tiny_bundle)
    paths = [
        write_recordings(tmp_path / "own.npz", actions=("kick", "squat")),
        write_clips(tmp_path / "rest.npz", ("bow", "push")),
    ]
    gallery = write_clips(tmp_path / "gallery.npz", ("wave", "raise_arms", "bow"))
    report = evaluate_recordings(paths, encoder, CONFIG, build=Enrollment(num_labels=3), gallery=gallery)
    score = report.total["ours"]
    assert (score.num_actions, score.recall, report.oracle) == (0, 0.0, None)
    assert score.hours > 0
    assert "rest: 1 of 2 recordings are left out" in report.notes, "a bow is enrolled"


def test_an_enrolled_action_by_another_name_is_left_out_too(tmp_path: Path, write_recordings: WriteRecordings) -> None:
    clips = read_archive(write_clips(tmp_path / "gallery.npz", ("wave",)))
    archive = read_continuous(write_recordings(tmp_path / "own.npz", actions=("kick", "squat")))
    archive = replace(archive, action_of={"kick": "wave", "squat": "squat"})
    assert streams_with_gallery(archive, clips, CONFIG, Enrollment()) == []


def test_files_that_cannot_be_scored_are_refused(
    tmp_path: Path, tiny_bundle: Path, write_recordings: WriteRecordings
) -> None:
    encoder = open_encoder(tiny_bundle)
    with pytest.raises(ArchiveError, match="no recording can be scored"):
        evaluate_recordings([write_recordings(tmp_path / "own.npz", subjects=(1,))], encoder, CONFIG)
    with pytest.raises(ArchiveError, match="no timestamps_s, truth_stream"):
        evaluate_recordings([write_clips(tmp_path / "own.npz", ("wave", "bow"))], encoder, CONFIG)


def test_a_bad_file_is_refused_before_the_first_is_played(
    tmp_path: Path, tiny_bundle: Path, write_recordings: WriteRecordings
) -> None:
    played: list[str] = []
    paths = [write_recordings(tmp_path / "own.npz"), write_clips(tmp_path / "clips.npz", ("wave", "bow"))]
    with pytest.raises(ArchiveError, match="no timestamps_s, truth_stream"):
        evaluate_recordings(
            paths, open_encoder(tiny_bundle), CONFIG, report=lambda what, done, total: played.append(what)
        )
    assert not played


def test_it_is_said_where_the_encoder_was_trained_on_a_set_of_that_name(
    tmp_path: Path, tiny_bundle: Path, write_recordings: WriteRecordings
) -> None:
    encoder = open_encoder(tiny_bundle)
    encoder.info = msgspec.structs.replace(encoder.info, training={"archives": {"own": "sha256"}, "actions": []})
    paths = [
        write_recordings(tmp_path / name, subjects=(1, 2), actions=("wave", "bow")) for name in ("own.npz", "other.npz")
    ]
    notes = evaluate_recordings(paths, encoder, CONFIG).notes
    assert [note.partition(":")[0] for note in notes if "trained on an archive" in note] == ["own"]


def test_two_files_of_one_name_are_refused(
    tmp_path: Path, tiny_bundle: Path, write_recordings: WriteRecordings
) -> None:
    path = write_recordings(tmp_path / "own.npz")
    with pytest.raises(ArchiveError, match=r"two archives have one name: own\.npz, own\.npz"):
        evaluate_recordings([path, path], open_encoder(tiny_bundle), CONFIG)


@pytest.mark.skipif(not STREAMS.is_dir(), reason="real recordings are not here")
@pytest.mark.parametrize(
    ("name", "num_recordings", "num_actions"), [("g3d", 150, 728), ("msrc12", 180, 1967), ("irds", 461, 2526)]
)
def test_real_recordings_are_read_whole(name: str, num_recordings: int, num_actions: int) -> None:
    archive = read_continuous(STREAMS / f"{name}.npz")
    assert len(archive.recordings) == num_recordings
    assert sum(len(recording.actions) for recording in archive.recordings) == num_actions


# Words


def test_words_count_in_recordings_and_dtw_stays_as_it_is(
    tmp_path: Path, text_encoder: Path, monkeypatch: pytest.MonkeyPatch, write_recordings: WriteRecordings
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    shutil.copytree(text_encoder, tmp_path / "data" / "crossglg-edge" / "text-encoder")
    own = write_recordings(tmp_path / "own.npz", subjects=(1, 2), actions=ACTIONS[:3])
    found = [
        json.loads(CliRunner().invoke(evaluate, ["recordings", str(own), "--json", *options]).stdout)
        for options in ((), ("--words",))
    ]
    assert found[0]["dtw"]["f1"] == found[1]["dtw"]["f1"]
    assert found[1]["num_actions"] == 6
    command = [sys.executable, "benchmarks/words_live.py", str(own), "--out", str(tmp_path / "live.md")]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[1])
    table = (tmp_path / "live.md").read_text(encoding="utf-8")
    assert "| own | 2 | without |" in table
    assert "| own | 2 | with words |" in table
