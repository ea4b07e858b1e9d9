"""How often an action is done in a row, and how far the body is within it.

Shapes: L frames, V = 25 kinect25 joints, C = 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.config import Config, Events, GalleryFile, Model
from edge.daemon.commands import commit_example
from edge.enroll.capture import example_from_capture
from edge.gallery import Described
from edge.library import Library, open_library
from edge.live import Recognizer
from edge.live.repetitions import Repetitions, course_of, turns_of
from edge.match import PrototypeIndex
from edge.motion import BodyTrack, trim_rest
from streams.arrays import Array
from streams.event import Event
from streams.frame import SkeletonFrame, body_as_seen
from streams.layouts import KINECT25_JOINTS
from streams.movement import Movement
from streams.performer import perform

FPS = 30.0
CONFIG = Config(events=Events(min_score=0.85))
Told = tuple[int, float | None, bool]
EXERCISES = ("squat", "raise_arms", "bow", "jumping_jack")


def once(action: str, seed: int, fps: float = FPS) -> Movement:
    movement = perform(action, seed=seed, fps=fps)
    return movement.part(trim_rest(movement))


def in_a_row(action: str, times: int, *, seed: int = 3, fps: float = FPS, after_s: float = 0.0) -> Array:
    """Return joints (L, 25, 3) of one person who does an action again and again, each time alike, then stands."""
    joints_LV3 = once(action, seed, fps).joints_m
    still = np.repeat(joints_LV3[:1], round(fps), axis=0)
    return np.concatenate([still, *[joints_LV3] * times, np.repeat(joints_LV3[:1], round(after_s * fps), axis=0)])


def counted(joints_LV3: Array, example: Movement, *, fps: float = FPS, onset_s: float | None = None) -> list[Told]:
    """Return count, progress and whether it repeats, every fifth of a second from the onset on.

    The default onset: 1 s plus the example's length.
    """
    track, found = BodyTrack(6.85, 60.0), list[Told]()
    onset_s = 1.0 + example.duration_s if onset_s is None else onset_s
    repetitions = None
    for number, joints_V3 in enumerate(joints_LV3):
        track.push(number / fps, joints_V3)
        if number % round(fps / 5) == 0 and number / fps >= onset_s:
            if repetitions is None:
                repetitions = Repetitions(course_of(example), track, begun_s=onset_s - example.duration_s)
            else:
                repetitions.follow(track)
            found.append((repetitions.count, repetitions.progress, repetitions.repeats(number / fps)))
    return found


# Turns


def test_turns_are_told_by_how_far_they_go() -> None:
    wave = [0.0, 1.0, 0.0, 1.0, 0.7, 1.0, 0.0]
    assert turns_of(wave, 0.5).peaks == [(1, 0), (3, 2)]
    assert turns_of(wave, 0.2).peaks == [(1, 0), (3, 2), (5, 4)]
    assert turns_of([1.0, 0.0, 1.0], 0.5).peaks == []
    rising = turns_of([0.0, 1.0, 0.0, 0.8, 0.6], 0.5)
    assert (rising.peaks, rising.is_rising, rising.gone) == ([(1, 0)], True, 0.8)
    assert turns_of([0.0], 0.5).peaks == []


# The count


@pytest.mark.parametrize("action", EXERCISES)
@pytest.mark.parametrize("times", [1, 2, 5, 12])
def test_the_repetitions_of_another_person_are_counted(action: str, times: int) -> None:
    course = counted(in_a_row(action, times, after_s=6.0), once(action, 0))
    assert course[-1][0] == times
    counts = [count for count, *_ in course]
    assert counts == sorted(counts)
    assert not course[-1][2], "who stands repeats nothing"


@pytest.mark.parametrize("fps", [10.0, 15.0, 60.0])
def test_the_rate_of_frames_does_not_matter_to_the_count(fps: float) -> None:
    assert counted(in_a_row("squat", 5, fps=fps, after_s=2.0), once("squat", 0), fps=fps)[-1][0] == 5


def test_noise_missing_joints_and_where_the_sensor_stands_do_not_matter_to_the_count() -> None:
    joints_LV3 = in_a_row("squat", 6, after_s=2.0)
    rng = np.random.default_rng(0)
    turn = np.array([[0.6, 0, -0.8], [0, 1, 0], [0.8, 0, 0.6]], np.float32)
    seen = np.asarray(0.7 * joints_LV3 @ turn + [1, 0.5, 3], np.float32)
    seen += rng.normal(0, 0.01, seen.shape).astype(np.float32)
    seen[rng.random(seen.shape[:2]) < 0.2] = np.nan
    seen[:, KINECT25_JOINTS.index("HandLeft")] = np.nan
    assert counted(seen, once("squat", 0))[-1][0] == 6


def test_what_was_done_right_before_the_onset_counts_and_what_was_done_long_before_does_not() -> None:
    example = once("squat", 0)
    own_s = once("squat", 3).duration_s
    joints_LV3 = in_a_row("squat", 2, after_s=2.0)
    late = counted(joints_LV3, example, onset_s=1.0 + 2 * own_s)
    assert late[0][0] == 2
    apart = np.concatenate((joints_LV3, np.repeat(joints_LV3[:1], 90, axis=0), in_a_row("squat", 1, after_s=1.0)))
    assert counted(apart, example, onset_s=len(apart) / FPS - 1.0)[-1][0] == 1


def test_another_action_is_not_counted() -> None:
    squats, kicks = in_a_row("squat", 3), in_a_row("kick", 4, after_s=1.0)
    assert counted(np.concatenate((squats, kicks)), once("squat", 0))[-1][0] <= 4


def test_an_example_that_goes_out_twice_is_done_once_by_going_out_twice() -> None:
    joints_LV3 = np.concatenate([once("squat", 0).joints_m] * 2)
    double = Movement(timestamps_s=np.arange(len(joints_LV3)) / FPS, joints_m=joints_LV3)
    assert course_of(double).num_peaks == 2
    assert counted(in_a_row("squat", 6, after_s=2.0), double)[-1][0] == 3


def test_a_body_that_does_not_move_counts_once() -> None:
    still = np.repeat(once("squat", 0).joints_m[:1], 200, axis=0)
    assert {count for count, *_ in counted(still, once("squat", 0))} == {1}
    assert course_of(Movement(timestamps_s=np.arange(200) / FPS, joints_m=still)).num_peaks == 1


# Progress


@pytest.mark.parametrize("action", ["squat", "raise_arms", "bow"])
def test_progress_follows_the_movement(action: str) -> None:
    one_s = once(action, 3).duration_s
    course = counted(in_a_row(action, 6, after_s=2.0), once(action, 0))
    assert all(progress is not None and 0 <= progress <= 1 for _, progress, _ in course)
    onset_s = 1.0 + once(action, 0).duration_s
    times_s = onset_s + 0.2 * np.arange(len(course)) - 1.0
    within = (times_s > one_s) & (times_s < 6 * one_s)
    expected = times_s % one_s / one_s
    # Where one ends and the next begins, 1 and 0 are the same.
    away = np.abs(np.array([progress for _, progress, _ in course]) - expected)
    assert np.minimum(away, 1 - away)[within].mean() < 0.2


# In the recognizer


@pytest.fixture(scope="module")
def library(tiny_bundle: Path) -> Iterator[Library]:
    """Enroll three actions, each by the performer of seed 0."""
    settings = msgspec.structs.replace(
        CONFIG, model=Model(bundle=str(tiny_bundle)), gallery=GalleryFile(path=":memory:")
    )
    library = open_library(settings)
    for action in ("bow", "raise_arms", "wave"):
        commit_example(
            library, action, example_from_capture(perform(action, seed=0), settings), origin="test", mode="new"
        )
    yield library
    library.gallery.close()


def play(
    library: Library, joints_LV3: Array, *, unseen: slice = slice(0), prototypes: PrototypeIndex | None = None
) -> list[Event]:
    index = prototypes or PrototypeIndex(library.gallery.prototypes, library.encoder.info)
    recognizer = Recognizer(CONFIG, library.encoder, index, clock=lambda: 0.0)
    hidden = range(*unseen.indices(len(joints_LV3)))
    return [
        event
        for i, joints_V3 in enumerate(joints_LV3)
        for event in recognizer.feed(
            [
                SkeletonFrame(
                    source="cam", epoch="e", seq=i, timestamp_s=100 + i / FPS, t_send_s=0.0,
                    bodies=() if i in hidden else (body_as_seen(1, joints_V3),),
                )
            ],
            0.0,
        ).events
    ]  # fmt: skip


def last_count(events: list[Event]) -> int:
    assert {event.label for event in events} == {"raise_arms"}
    assert events[-1].type == "end"
    return events[-1].count


def test_events_tell_the_repetitions_so_far_and_the_last_one_tells_all(library: Library) -> None:
    events = play(library, in_a_row("raise_arms", 6, after_s=8.0))
    assert last_count(events) == 6
    counts = [event.count for event in events]
    assert counts == sorted(counts)
    assert set(counts) == {1, 2, 3, 4, 5, 6}, "each repetition is told"
    assert all(event.progress is not None and 0 <= event.progress <= 1 for event in events)
    assert all(event.t_end <= event.t_emit for event in events)


def test_after_a_pause_the_count_begins_anew(library: Library) -> None:
    joints_LV3 = np.concatenate([in_a_row("raise_arms", 3, after_s=14.0)] * 2)
    events = play(library, joints_LV3)
    middle_s = 100 + len(joints_LV3) / 2 / FPS
    assert last_count([event for event in events if event.t_emit < middle_s]) == 3
    assert last_count([event for event in events if event.t_start > middle_s]) == 3


def test_a_body_that_is_lost_for_a_moment_goes_on_counting(library: Library) -> None:
    joints_LV3 = in_a_row("raise_arms", 6, after_s=8.0)
    middle = 30 + 3 * len(once("raise_arms", 3))
    still = np.repeat(joints_LV3[:1], 30, axis=0)
    events = play(
        library, np.concatenate((joints_LV3[:middle], still, joints_LV3[middle:])), unseen=slice(middle, middle + 30)
    )
    assert last_count(events) in {5, 6}
    assert sum(event.type == "end" for event in events) >= 2


def test_a_label_of_words_alone_is_counted_by_what_is_done_and_has_no_progress(library: Library) -> None:
    (shown,) = (p for p in library.gallery.prototypes if p.label == "raise_arms")
    words = Described(
        id="words",
        label="raise_arms",
        description="",
        embedding=shown.embedding,
        duration_s=shown.duration_s,
        created="",
    )
    index = PrototypeIndex([words], library.encoder.info)
    assert index.example("raise_arms") is None
    events = play(library, in_a_row("raise_arms", 4, after_s=8.0), prototypes=index)
    assert last_count(events) in {3, 4, 5}
    assert {event.progress for event in events} == {None}
