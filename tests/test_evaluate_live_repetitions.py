"""`crossglg-edge evaluate repetitions`: what a set is, how counts are added up, and what is printed.

Shapes: L frames, V = 25 kinect25 joints.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from typer.testing import CliRunner

from edge.config import Config, Events
from streams.archive import read_archive
from streams.continuous import read_continuous
from streams.errors import ArchiveError
from streams.event import Event, Latency, Quality
from streams.layouts import KINECT25_JOINTS
from streams.movement import Movement
from streams.performer import perform
from training.cli.evaluate import evaluate
from training.evaluate.live.recordings import Enrollment, streams_with_own_examples
from training.evaluate.live.repetitions import (
    CountedSet,
    bouts_of,
    count_peaks,
    evaluate_repetitions,
    score_counts,
    sets_of,
)
from training.evaluate.live.streams_of_clips import exercise_streams

if TYPE_CHECKING:
    from tests.conftest import WriteRecordings

FPS = 30.0
CONFIG = Config(events=Events(min_score=0.85))


def write_clips(path: Path, actions: tuple[str, ...], people: int, times: int) -> Path:
    """Write an archive in which each person does each action so many times."""
    done = [
        (label, person, perform(action, seed=100 * person + number, fps=FPS).joints_m)
        for person in range(people)
        for label, action in enumerate(actions)
        for number in range(times)
    ]
    np.savez(
        path,
        frames=np.concatenate([joints for *_, joints in done]),
        offsets=np.cumsum([0, *(len(joints) for *_, joints in done)]),
        label=np.array([label for label, *_ in done]),
        subject=np.array([person for _, person, _ in done]),
        source=np.array([f"clip {number}" for number in range(len(done))]),
        class_names=np.array(actions),
        joint_names=np.array(KINECT25_JOINTS),
        fps=FPS,
    )
    return path


def event(
    kind: Literal["onset", "update", "end"], count: int, start_s: float, end_s: float, label: str = "squat"
) -> Event:
    return Event(
        id="e", type=kind, label=label, source="s", body=0, score=0.9, distance=0.1, threshold=0.5, count=count,
        margin=0.1, runner_up=None, t_start=start_s, t_end=end_s, t_emit=end_s, clock="", seq_last=0,
        gallery_revision=0, model_sha256="", latency_ms=Latency(sensor=0, queue=0, encode=0, match=0, total=0),
        quality=Quality(joints=1.0, fps=30.0, dropped=0),
    )  # fmt: skip


def test_a_set_is_an_action_three_times_in_a_row_or_more(tmp_path: Path, write_recordings: WriteRecordings) -> None:
    path = write_recordings(tmp_path / "sets.npz", actions=("squat",), repeats=4)
    for stream in streams_with_own_examples(read_continuous(path), CONFIG, Enrollment()):
        (own,) = sets_of(stream)
        assert [action.label for action in own] == ["squat"] * 4
        assert sets_of(replace(stream, actions=stream.actions[:2])) == []
        late = [replace(a, start_s=a.start_s + 60, end_s=a.end_s + 60) for a in stream.actions]
        assert [len(own) for own in sets_of(replace(stream, actions=(*stream.actions, *late)))] == [4, 4]


def test_counts_are_added_up_as_whoever_listens_would() -> None:
    events = [
        event("onset", 1, 0, 1), event("end", 2, 0, 3), event("onset", 2, 3, 4), event("end", 3, 3, 6),
        event("onset", 1, 60, 61, "bow"), event("onset", 1, 61, 62), event("end", 2, 61, 65),
    ]  # fmt: skip
    assert [(bout.label, bout.count, bout.start_s, bout.end_s) for bout in bouts_of(events)] == [
        ("squat", 3, 0, 6), ("bow", 1, 60, 61), ("squat", 2, 61, 65),
    ]  # fmt: skip


@pytest.mark.parametrize("times", [3, 7])
def test_the_peak_counter_counts_what_is_cut_at_the_truth(times: int) -> None:
    joints_m = np.concatenate([perform("squat", seed=1, fps=FPS).joints_m] * times)
    assert count_peaks(Movement(timestamps_s=np.arange(len(joints_m)) / FPS, joints_m=joints_m)) == times


def test_a_score_has_an_interval_over_people() -> None:
    counted = [
        CountedSet(
            group=f"person {person}", label="squat", num_done=6, counts={"ours": told}, is_recognized=True,
            progress_errors=(),
        )
        for person, told in enumerate([6, 5, 7, 9, 6])
    ]  # fmt: skip
    score = score_counts(counted, "ours")
    assert (score.within_one, score.exact, score.mean_error, score.bias) == (0.8, 0.4, 1.0, 0.6)
    assert score.ci95[0] < 0.8 <= score.ci95[1]
    assert np.isnan(score_counts([], "ours").within_one)


def test_sets_are_made_of_clips_by_who_has_enough_of_them(tmp_path: Path) -> None:
    archive = read_archive(write_clips(tmp_path / "clips.npz", ("squat", "raise_arms", "bow"), people=3, times=4))
    streams = exercise_streams(archive, num_labels=2)
    assert len(streams) == 3
    for stream in streams:
        assert {len(example.movement.timestamps_s) > 3 for example in stream.examples} == {True}
        assert len({example.label for example in stream.examples}) == 2
        assert {len(own) for own in sets_of(stream)} <= {3, 4}
        assert {own[0].label for own in sets_of(stream)} == {example.label for example in stream.examples}
    again = exercise_streams(archive, num_labels=2)
    assert all(np.array_equal(a.timestamps_s, b.timestamps_s) for a, b in zip(streams, again, strict=True))


def test_the_repetitions_of_recordings_are_counted(
    tmp_path: Path, write_recordings: WriteRecordings, tiny_bundle: Path
) -> None:
    path = write_recordings(tmp_path / "arms.npz", actions=("raise_arms",), repeats=5)
    config = tmp_path / "config.toml"
    config.write_text("[events]\nmin_score = 0.85\n")
    args = ["repetitions", str(path), "--encoder", str(tiny_bundle), "--config", str(config)]
    done = CliRunner().invoke(evaluate, [*args, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["num_sets"], found["num_people"], found["num_recognized"]) == (3, 3, 3)
    assert found["all"]["ours"]["within_one"] == found["all"]["peaks"]["within_one"] == 1.0
    assert found["all"]["ours"] == found["recognized"]["ours"] == found["archives"]["arms"]["all"]["ours"]
    assert 0 < found["progress_error"] < 0.3
    said = CliRunner().invoke(evaluate, args).stdout
    assert "within one" in said
    assert "100.0 %" in said


def test_recordings_without_a_set_are_refused(tmp_path: Path, write_recordings: WriteRecordings) -> None:
    path = write_recordings(tmp_path / "once.npz")
    with pytest.raises(ArchiveError, match="3 times in a row"):
        evaluate_repetitions([path], None, CONFIG)  # type: ignore[arg-type]
