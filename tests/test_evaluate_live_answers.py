"""`crossglg-edge evaluate recordings --answers`: who says what about which half, and that the device learns from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from edge.config import Config, Events
from edge.model.choose import open_encoder
from edge.protocol import ReviewClip, Why
from edge.review import most_useful
from streams.continuous import Recording, TrueAction, read_continuous
from streams.errors import ArchiveError
from streams.movement import Movement
from training.cli.evaluate import evaluate
from training.evaluate.live.answers import evaluate_answers, halves, in_two, true_answer
from training.evaluate.live.recordings import Enrollment
from training.evaluate.live.stream import Action

if TYPE_CHECKING:
    from tests.conftest import WriteRecordings

ACTIONS = ("wave", "bow", "raise_arms", "kick")
# Of the tiny bundle's scores 0.85 tells the performer's actions apart.
CONFIG = Config(events=Events(min_score=0.85))


def recording(*labels: str) -> Recording:
    actions = tuple(TrueAction(label=label, start_s=float(i), end_s=i + 1.0) for i, label in enumerate(labels))
    empty = Movement(timestamps_s=np.zeros(0), joints_m=np.zeros((0, 25, 3), np.float32))
    return Recording(source="", subject=1, movement=empty, actions=actions)


def clip(label: str = "wave", time_s: float = 3.0, *, why: Why = "told", distance: float = 0.5) -> ReviewClip:
    return ReviewClip(
        id=f"{label}{why}{distance}", created="", label=label, source="s", body=0, time_s=time_s, duration_s=2.0,
        frames=60, score=0.5, distance=distance, threshold_distance=1.0, why=why,
    )  # fmt: skip


def test_of_each_actions_recordings_the_earlier_half_comes_first() -> None:
    for made, expected in (
        ((("a",), ("a",), ("b",), ("b",), ("c",)), [0, 2, 4]),
        ((("a",), ("b",), ("a", "b"), ()), [0, 1]),
        ((("a", "b"),) * 3, [0, 1]),
    ):
        recordings = [recording(*labels) for labels in made]
        first, second = halves(recordings)
        assert [i for i, one in enumerate(recordings) if any(one is other for other in first)] == expected
        assert len(first) + len(second) == len(recordings)


def test_a_recording_is_cut_in_two_between_two_actions() -> None:
    movement = Movement(timestamps_s=np.arange(0, 4, 0.1), joints_m=np.zeros((40, 25, 3), np.float32))
    whole = replace(recording("a", "b", "a", "b"), movement=movement)
    first, second = in_two(whole)
    assert [action.label for action in (*first.actions, *second.actions)] == ["a", "b", "a", "b"]
    assert (len(first.actions), len(first.movement), len(second.movement)) == (2, 20, 20)
    assert first.source != second.source
    alone = in_two(replace(whole, actions=whole.actions[:1]))
    assert [len(part.actions) for part in alone] == [0, 1]


BOW = Action(label="bow", start_s=1.0, end_s=3.0)


@pytest.mark.parametrize(
    ("label", "time_s", "said"),
    [
        ("bow", 3.0, ("right", None)),
        ("wave", 3.2, ("is", "bow")),
        ("bow", 4.2, (None, None)),
        ("wave", 9.0, ("wrong", None)),
        ("bow", 9.0, ("wrong", None)),
    ],
)
def test_a_clip_is_answered_by_what_was_done_in_it(label: str, time_s: float, said: tuple[str, str]) -> None:
    assert true_answer(clip(label, time_s), [BOW], {"bow", "wave"}) == said


def test_an_action_that_is_not_enrolled_makes_a_clip_wrong_and_one_that_does_not_count_nothing() -> None:
    assert true_answer(clip("wave"), [BOW], {"wave"}) == ("wrong", None)
    assert true_answer(clip("bow"), [replace(BOW, is_scored=False)], {"bow"}) == (None, None)
    assert true_answer(clip("bow"), [], {"bow"}) == ("wrong", None)


def test_a_clip_that_spans_an_actions_point_shows_it() -> None:
    point = replace(BOW, end_s=8.0, point_s=2.0)
    assert true_answer(clip("bow"), [point], {"bow"}) == ("right", None)
    assert true_answer(clip("bow"), [replace(point, point_s=7.0)], {"bow"}) == (None, None)


def test_each_labels_events_and_near_misses_are_asked_about_in_turn_the_nearest_first() -> None:
    clips = [clip("wave", distance=d) for d in (0.3, 0.1, 0.2)]
    clips += [clip("bow", distance=0.9), clip("wave", why="threshold", distance=1.2)]
    ordered = [(c.label, c.why, c.distance) for c in most_useful(clips)]
    assert ordered == [
        ("wave", "told", 0.1), ("bow", "told", 0.9), ("wave", "threshold", 1.2),
        ("wave", "told", 0.2), ("wave", "told", 0.3),
    ]  # fmt: skip


def test_answers_about_what_is_done_again_help(
    tiny_bundle: Path, tmp_path: Path, write_recordings: WriteRecordings
) -> None:
    path = write_recordings(tmp_path / "own.npz", subjects=(1, 1, 2, 2, 3), actions=ACTIONS)
    encoder, config = open_encoder(tiny_bundle), CONFIG
    found = evaluate_answers([path], encoder, config, (0, 20), build=Enrollment(num_labels=3))
    assert found.num_people == 2
    assert found.notes[0] == "own: 1 people are left out"
    assert found.total.keys() == {0, 20}
    assert found.said.keys() <= {"right", "wrong", "is"}
    assert sum(found.said.values()) >= 2
    assert found.total[0].num_actions == found.total[20].num_actions == 6
    assert found.gains[20].f1 == pytest.approx(found.total[20].f1 - found.total[0].f1)
    assert found.total[20].f1 >= found.total[0].f1, "each does in the second half just what they did in the first"
    again = evaluate_answers([path], encoder, config, (0, 20), build=Enrollment(num_labels=3))
    assert (again.total[20].f1, again.said) == (found.total[20].f1, found.said)


def test_where_nobody_was_recorded_twice_the_recordings_are_cut_in_two(
    tiny_bundle: Path, tmp_path: Path, write_recordings: WriteRecordings
) -> None:
    path = write_recordings(tmp_path / "twice.npz", actions=ACTIONS, subjects=(1, 2), repeats=2)
    found = evaluate_answers([path], open_encoder(tiny_bundle), CONFIG, (0, 5), build=Enrollment(num_labels=3))
    assert found.num_people == 2
    assert found.total[0].num_actions == 6


def test_people_who_do_everything_once_are_refused(
    tiny_bundle: Path, tmp_path: Path, write_recordings: WriteRecordings
) -> None:
    path = write_recordings(tmp_path / "once.npz", actions=ACTIONS, subjects=(1, 2, 3))
    with pytest.raises(ArchiveError, match="does an action twice"):
        evaluate_answers([path], open_encoder(tiny_bundle), CONFIG, (0, 5))
    assert len(read_continuous(path).recordings) == 3


def test_the_command_prints_a_table_or_json(
    tiny_bundle: Path, tmp_path: Path, write_recordings: WriteRecordings
) -> None:
    path, config = (
        write_recordings(tmp_path / "own.npz", subjects=(1, 1, 2, 2, 3), actions=ACTIONS),
        tmp_path / "config.toml",
    )
    config.write_text("[events]\nmin_score = 0.85\n", encoding="utf-8")
    command = ["recordings", str(path), "--answers", "0,3", "--encoder", str(tiny_bundle), "--config", str(config)]
    result = CliRunner().invoke(evaluate, [*command, "--json"], catch_exceptions=False)
    content = json.loads(result.stdout)
    assert content["answers"].keys() == content["archives"]["own"].keys() == {"0", "3"}
    assert content["answers"]["0"]["gain"] is None
    assert len(content["answers"]["3"]["gain"]["ci95"]) == 2
    assert content["people"] == 2
    printed = CliRunner().invoke(evaluate, command, catch_exceptions=False).stdout
    assert "2 people" in printed
    assert "answers at 3 a person" in printed


@pytest.mark.parametrize(
    "options", [["--answers", "-1"], ["--answers", "x"], ["--answers", "201"], ["--answers", "5", "--shots", "1,3"]]
)
def test_numbers_of_answers_that_cannot_be_are_refused(
    tmp_path: Path, options: list[str], write_recordings: WriteRecordings
) -> None:
    result = CliRunner().invoke(
        evaluate,
        [
            "recordings",
            str(write_recordings(tmp_path / "own.npz", subjects=(1, 1, 2, 2, 3), actions=ACTIONS)),
            *options,
        ],
    )
    assert result.exit_code == 2
    assert "--answers" in result.output
