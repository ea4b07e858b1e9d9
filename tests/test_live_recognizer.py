"""From frames to events, with a real encoder and the built-in performer: what begins, goes on and ends, and what not.

Shapes: L frames, V = 25 kinect25 joints, W windows, P prototypes, D embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.config import Config, Events, GalleryFile, Model, Stream, Windows
from edge.daemon.commands import commit_example
from edge.enroll.capture import example_from_capture
from edge.gallery.examples import Prototype
from edge.library import Library, open_library
from edge.live.recognizer import Recognizer
from edge.match.distribution import Classifier
from edge.match.fitting import fit_gallery
from edge.match.index import PrototypeIndex
from edge.match.score import score_from_distance
from edge.model.bundle import ScoreCurve
from edge.motion.preprocess import window_from_movement
from streams.arrays import Array
from streams.event import Event
from streams.frame import HIGH, NO_CONFIDENCE, Body, SkeletonFrame
from streams.layouts import KINECT25_JOINTS
from streams.movement import Movement
from streams.performer import ACTIONS, perform

HAND_LEFT = KINECT25_JOINTS.index("HandLeft")
ENROLLED = ("bow", "raise_arms", "wave")
FPS = 30.0
# From "LUF" to "RUB" axes.
_RUB = np.array([-1, 1, -1], np.float32)
# Of the tiny bundle's scores 0.85 tells the enrolled actions apart and from the rest.
CONFIG = Config(events=Events(min_score=0.85))


@pytest.fixture(scope="module")
def library(tiny_bundle: Path) -> Iterator[Library]:
    """Enroll three actions, each by the performer of seed 0."""
    settings = msgspec.structs.replace(
        CONFIG, model=Model(bundle=str(tiny_bundle)), gallery=GalleryFile(path=":memory:")
    )
    library = open_library(settings)
    for action in ENROLLED:
        example = example_from_capture(perform(action, seed=0), settings)
        commit_example(library, action, example, origin="test", mode="new")
    yield library
    library.gallery.close()


def new_recognizer(
    library: Library,
    config: Config = CONFIG,
    *,
    labels: Sequence[str] = ENROLLED,
    clock: Callable[[], float] = lambda: 0.0,
    clock_name: str = "",
) -> Recognizer:
    prototypes = [prototype for prototype in library.gallery.prototypes if prototype.label in labels]
    index = PrototypeIndex(prototypes, library.encoder.info, library.gallery.revision)
    return Recognizer(config, library.encoder, index, clock=clock, clock_name=clock_name)


def performance(action: str, seed: int = 1, *, fps: float = FPS, before_s: float = 1.0, after_s: float = 2.0) -> Array:
    """Return joints (L, 25, 3) of somebody who stands, performs, and stands again."""
    joints_LV3 = perform(action, seed=seed, fps=fps).joints_m
    still = [np.repeat(joints_LV3[[i]], round(s * fps), axis=0) for i, s in ((0, before_s), (-1, after_s))]
    return np.concatenate((still[0], joints_LV3, still[1]))


def frames_of(
    bodies: dict[int, Array], *, fps: float = FPS, start_s: float = 100.0, source: str = "cam"
) -> list[SkeletonFrame]:
    """Return frames in which each body is seen for as long as its joints (L, 25, 3) last."""
    confidence = np.full(25, HIGH, np.uint8)
    return [
        SkeletonFrame(
            source=source,
            epoch="e",
            seq=i,
            timestamp_s=start_s + i / fps,
            t_send_s=start_s + i / fps,
            bodies=tuple(
                Body(id=id, joints_m=joints_LV3[i], confidence=confidence)
                for id, joints_LV3 in bodies.items()
                if i < len(joints_LV3)
            ),
        )
        for i in range(max(map(len, bodies.values())))
    ]


def play(recognizer: Recognizer, frames: Sequence[SkeletonFrame]) -> list[Event]:
    """Step frame by frame, as a quick machine does."""
    return [event for frame in frames for event in recognizer.feed([frame], frame.timestamp_s).events]


def told(events: Sequence[Event]) -> list[tuple[str, str]]:
    return [(event.type, event.label) for event in events]


def begun(events: Sequence[Event]) -> list[str]:
    return [event.label for event in events if event.type == "onset"]


def with_events(**settings: float) -> Config:
    return msgspec.structs.replace(CONFIG, events=msgspec.structs.replace(CONFIG.events, **settings))


# What is recognized


@pytest.mark.parametrize("action", ENROLLED)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_enrolled_action_is_recognized_when_somebody_else_performs_it(
    library: Library, action: str, seed: int
) -> None:
    assert begun(play(new_recognizer(library), frames_of({1: performance(action, seed)}))) == [action]


@pytest.mark.parametrize("action", sorted(set(ACTIONS) - {*ENROLLED, "squat"}))
def test_an_action_that_is_not_enrolled_gives_no_event(library: Library, action: str) -> None:
    assert play(new_recognizer(library), frames_of({1: performance(action)})) == []


def test_nothing_enrolled_gives_no_event_and_costs_no_encoding(library: Library) -> None:
    recognizer = new_recognizer(library, labels=())
    assert play(recognizer, frames_of({1: performance("wave")})) == []
    assert recognizer.num_decisions > 10


@pytest.mark.parametrize("fps", [10.0, 15.0, 60.0])
def test_the_frame_rate_does_not_matter(library: Library, fps: float) -> None:
    for action in ENROLLED:
        assert begun(play(new_recognizer(library), frames_of({1: performance(action, fps=fps)}, fps=fps))) == [action]


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_lost_frames_are_bridged(library: Library, share: float) -> None:
    rng = np.random.default_rng(0)
    for action in ENROLLED:
        frames = [frame for frame in frames_of({1: performance(action)}) if rng.random() >= share]
        assert begun(play(new_recognizer(library), frames)) == [action]


def test_joints_that_are_missing_now_and_then_are_bridged(library: Library) -> None:
    rng = np.random.default_rng(0)
    for action in ENROLLED:
        joints_LV3 = performance(action)
        joints_LV3[rng.random(joints_LV3.shape[:2]) < 0.2] = np.nan
        (onset,) = (e for e in play(new_recognizer(library), frames_of({1: joints_LV3})) if e.type == "onset")
        assert onset.label == action
        assert 0.7 < onset.quality.joints < 0.9


def test_two_people_are_recognized_apart(library: Library) -> None:
    frames = frames_of({7: performance("wave"), 8: performance("bow", 2)})
    onsets = [event for event in play(new_recognizer(library), frames) if event.type == "onset"]
    assert {(event.body, event.label) for event in onsets} == {(7, "wave"), (8, "bow")}


def test_two_sources_may_use_the_same_body_id(library: Library) -> None:
    ours, theirs = frames_of({1: performance("wave")}), frames_of({1: performance("bow")}, source="other", start_s=5.0)
    recognizer = new_recognizer(library)
    events = [
        event
        for pair in zip(ours, theirs, strict=False)
        for frame in pair
        for event in recognizer.feed([frame], frame.timestamp_s).events
    ]
    assert {(event.source, event.label) for event in events} == {("cam", "wave"), ("other", "bow")}


# The distribution classifier


def favoring(label: str) -> Classifier:
    """Return a classifier that is all but certain of a label, whatever it sees."""
    bias_K = np.array([20.0 * (enrolled == label) for enrolled in ENROLLED], np.float32)
    return Classifier(labels=ENROLLED, weights_FK=np.zeros((64, 3), np.float32), bias_K=bias_K, power=0.5)


@pytest.mark.parametrize("action", ENROLLED)
def test_an_enrolled_action_is_recognized_by_the_distribution_classifier(library: Library, action: str) -> None:
    recognizer = new_recognizer(library)
    recognizer.prototypes.classifier = fit_gallery(library.gallery.prototypes, library.encoder)
    assert begun(play(recognizer, frames_of({1: performance(action, 1)}))) == [action]


def test_a_classifier_chooses_the_label_and_the_distance_is_the_score(library: Library) -> None:
    frames = frames_of({1: performance("wave")})
    recognizer = new_recognizer(library)
    recognizer.prototypes.classifier = favoring("bow")
    assert play(recognizer, frames) == [], "it is not near enough to a bow"
    recognizer = new_recognizer(library, with_events(min_score=0.0))
    recognizer.prototypes.classifier = favoring("bow")
    events = [event for event in play(recognizer, frames) if event.label == "bow"]
    assert events
    for event in events:
        assert event.score == score_from_distance(event.distance, library.encoder.info.score_curve)
        assert event.runner_up is not None
        assert event.margin == event.score - event.runner_up.score
        assert event.runner_up.label == "wave", "what the distance alone would have chosen"


def test_of_labels_that_are_equally_probable_the_nearest_is_chosen_and_none_that_may_not_be_compared(
    library: Library,
) -> None:
    index = new_recognizer(library).prototypes
    features_WF, windows_K = np.ones((2, 64), np.float32), np.array([0, 1, 0])
    assert index.ranking(np.array([0.3, 0.2, 0.1], np.float32), windows_K, features_WF) == [2, 1]
    index.classifier = favoring("none of them")
    assert index.ranking(np.array([0.3, 0.1, 0.2], np.float32), windows_K, features_WF) == [1, 2]
    index.classifier = favoring("bow")
    assert index.ranking(np.array([0.3, 0.1, 0.2], np.float32), windows_K, features_WF) == [0, 1]
    assert index.ranking(np.array([np.inf, 0.1, 0.2], np.float32), windows_K, features_WF) == [1, 2]


def test_several_windows_are_each_classified_for_the_label_that_is_nearest_in_them(library: Library) -> None:
    index = new_recognizer(library).prototypes
    weights_FK = np.zeros((64, 3), np.float32)
    weights_FK[0], weights_FK[1] = (10, 0, 0), (0, 0, 5)
    index.classifier = Classifier(labels=ENROLLED, weights_FK=weights_FK, bias_K=np.zeros(3, np.float32), power=0.5)
    features_WF = np.zeros((2, 64), np.float32)
    features_WF[0, 0] = features_WF[1, 1] = 1
    distances_K = np.array([0.1, 0.2, 0.3], np.float32)
    # The first window is the first label's, the second the third's: the first is sure only where it is looked for.
    assert index.ranking(distances_K, np.array([0, 0, 1]), features_WF) == [0, 2]
    assert index.ranking(distances_K, np.array([1, 0, 1]), features_WF) == [2, 0]


# An event's life


@pytest.mark.parametrize("min_score", [0.3, 0.5, 0.85])
def test_an_accepted_event_lies_within_its_threshold_on_both_scales(library: Library, min_score: float) -> None:
    recognizer = new_recognizer(library, with_events(min_score=min_score, update_s=0.2))
    midpoints = {"wave": 0.9 * library.encoder.info.score_curve.midpoint}
    recognizer.prototypes = PrototypeIndex(library.gallery.prototypes, library.encoder.info, 0, midpoints)
    curve = library.encoder.info.score_curve
    events = play(recognizer, frames_of({1: performance("wave"), 2: performance("bow", 2)}))
    assert {"wave", "bow"} <= set(begun(events))
    for event in events:
        assert event.threshold == min_score <= event.score
        assert event.threshold_distance is not None
        assert event.distance <= event.threshold_distance
        midpoint = midpoints.get(event.label)
        assert score_from_distance(event.threshold_distance, curve, midpoint) == pytest.approx(min_score)


def test_an_event_begins_once_goes_on_and_ends_once(library: Library) -> None:
    recognizer = new_recognizer(library, with_events(update_s=0.2))
    frames = frames_of({3: performance("wave", after_s=4.0)}, start_s=500.0)
    events = play(recognizer, frames)
    assert told(events) == [("onset", "wave"), *[("update", "wave")] * (len(events) - 2), ("end", "wave")]
    assert len({event.id for event in events}) == 1
    for event in events:
        assert event.t_start == events[0].t_start
        assert 500.0 <= event.t_start < event.t_end <= event.t_emit
        assert (event.source, event.body, event.v) == ("cam", 3, 1)
        assert event.score == score_from_distance(event.distance, library.encoder.info.score_curve) >= event.threshold
        assert event.gallery_revision == library.gallery.revision
        assert event.model_sha256 == library.encoder.info.onnx_sha256
        assert frames[event.seq_last].timestamp_s == event.t_emit
    assert all(later.t_emit - event.t_emit >= 0.2 - 1e-6 for event, later in pairwise(events[:-1]))
    assert all(later.score >= event.score for event, later in pairwise(events))
    # It ends when the last match is `release_s` old, and says when that match was.
    assert events[-1].t_emit - events[-1].t_end == pytest.approx(0.7 + CONFIG.windows.hop_s, abs=CONFIG.windows.hop_s)


def test_the_runner_up_is_the_second_best_label_and_the_margin_its_distance(library: Library) -> None:
    (onset, *_) = play(new_recognizer(library), frames_of({1: performance("wave")}))
    assert onset.runner_up is not None
    assert onset.runner_up.label in {"bow", "raise_arms"}
    assert onset.margin == pytest.approx(onset.score - onset.runner_up.score)
    (alone, *_) = play(new_recognizer(library, labels=("wave",)), frames_of({1: performance("wave")}))
    assert alone.runner_up is None
    assert alone.margin == alone.score


def test_somebody_who_stands_still_gives_no_event_and_costs_no_encoding(library: Library) -> None:
    joints_LV3 = performance("wave", after_s=8.0)
    recognizer = new_recognizer(library)
    assert begun(play(recognizer, frames_of({1: joints_LV3}))) == ["wave"]
    jitter = np.random.default_rng(0).normal(0, 0.005, (300, 25, 3)).astype(np.float32)
    recognizer = new_recognizer(library)
    assert play(recognizer, frames_of({1: joints_LV3[:1] + jitter})) == []


def test_a_pose_that_is_held_does_not_begin_again_and_again(library: Library) -> None:
    def arms_up(seed: int) -> Array:
        joints_LV3 = perform("raise_arms", seed=seed).joints_m
        return joints_LV3[: int(joints_LV3[:, HAND_LEFT, 1].argmax())]

    shown = arms_up(0)
    movement = Movement(timestamps_s=np.arange(len(shown)) / FPS, joints_m=shown)
    window = window_from_movement(movement, library.encoder.info.num_frames)
    prototype = replace(
        library.gallery.prototypes[0],
        label="arms up",
        movement=movement,
        embedding=library.encoder.encode(window[None])[0],
    )
    for seed in (1, 2, 3):
        up = arms_up(seed)
        held = np.concatenate((np.repeat(up[:1], 30, axis=0), up, np.repeat(up[-1:], 300, axis=0)))
        recognizer = new_recognizer(library)
        recognizer.prototypes = PrototypeIndex([prototype], library.encoder.info)
        events = play(recognizer, frames_of({1: held}))
        assert [kind for kind, _ in told(events) if kind != "update"] == ["onset", "end"]


def test_what_is_done_again_is_told_again(library: Library) -> None:
    twice = np.concatenate((performance("wave", after_s=1.0), performance("wave")))
    assert begun(play(new_recognizer(library), frames_of({1: twice}))) == ["wave", "wave"]


def test_decisions_must_agree_before_an_event_begins(library: Library) -> None:
    frames = frames_of({1: performance("wave")})
    assert begun(play(new_recognizer(library, with_events(hits=2)), frames)) == ["wave"]
    assert begun(play(new_recognizer(library, with_events(hits=20)), frames)) == []


def test_an_event_is_told_once_nothing_nearer_has_come(library: Library) -> None:
    frames = frames_of({1: performance("wave")})
    onsets_s = []
    for settle_s in (0.0, 0.5, 1.0):
        (onset, *_) = play(new_recognizer(library, with_events(settle_s=settle_s)), frames)
        onsets_s.append(onset.t_emit)
    assert onsets_s == sorted(onsets_s)
    assert onsets_s[2] - onsets_s[0] >= 0.5


def test_another_label_ends_the_event_that_goes_on(library: Library) -> None:
    after_another = np.concatenate((performance("wave", after_s=0.0), performance("bow", before_s=0.0)))
    events = play(new_recognizer(library, with_events(release_s=60.0)), frames_of({1: after_another}))
    assert told([event for event in events if event.type != "update"]) == [
        ("onset", "wave"), ("end", "wave"), ("onset", "bow"),
    ]  # fmt: skip


def test_a_body_that_leaves_ends_its_event_and_its_id_can_return(library: Library) -> None:
    recognizer = new_recognizer(library, with_events(release_s=9.0))
    waving = performance("wave", before_s=0.0, after_s=0.6)
    nobody = [replace(frame, bodies=()) for frame in frames_of({1: waving[:30]}, start_s=200.0)]
    first = play(recognizer, frames_of({1: waving}, start_s=100.0))
    assert told(first)[0] == ("onset", "wave")
    assert "end" not in {event.type for event in first}
    gone = play(recognizer, nobody)
    assert told(gone) == [("end", "wave")]
    assert recognizer.num_bodies == 0
    again = play(recognizer, frames_of({1: waving}, start_s=300.0))
    assert told(again)[0] == ("onset", "wave")
    assert len({event.id for event in (*first, *gone, *again)}) == 2


def test_a_time_that_jumps_ends_what_went_on(library: Library) -> None:
    waving = performance("wave", before_s=0.0, after_s=0.6)
    for next_s in (50.0, 110.0):
        recognizer = new_recognizer(library, with_events(release_s=9.0))
        (onset, *_) = play(recognizer, frames_of({1: waving}, start_s=100.0))
        (after,) = frames_of({1: waving[:1]}, start_s=next_s)
        # A publisher that starts anew has another epoch, and is taken once the one before is silent.
        (end, *_) = recognizer.feed([replace(after, epoch="later")], 120.0).events
        assert (end.type, end.id) == ("end", onset.id)
        assert end.t_start < end.t_end < 105


def test_a_source_that_falls_silent_ends_its_events_alone(library: Library) -> None:
    recognizer = new_recognizer(library, with_events(release_s=9.0))
    waving = performance("wave", before_s=0.0, after_s=0.6)
    ours, theirs = frames_of({1: waving}), frames_of({1: waving}, source="other")
    play(recognizer, theirs)
    play(recognizer, ours)
    assert recognizer.lose_silent(ours[-1].timestamp_s + 0.5) == []
    recognizer.feed([replace(theirs[-1], timestamp_s=theirs[-1].timestamp_s + 0.03)], ours[-1].timestamp_s + 1.0)
    (end,) = recognizer.lose_silent(ours[-1].timestamp_s + 1.5)
    assert (end.type, end.label, end.source) == ("end", "wave", "cam")
    assert recognizer.lose_silent(ours[-1].timestamp_s + 1.5) == []
    assert recognizer.num_bodies == 1


def test_who_leaves_before_an_event_was_told_is_told_at_once(library: Library) -> None:
    recognizer = new_recognizer(library, with_events(settle_s=2.0))
    waving = frames_of({1: performance("wave", before_s=0.0, after_s=0.0)})
    assert play(recognizer, waving) == []
    events = recognizer.lose_silent(waving[-1].timestamp_s + 1.5)
    assert told(events) == [("onset", "wave"), ("end", "wave")]
    assert events[0].t_end == waving[-1].timestamp_s


def test_forgetting_ends_what_goes_on_and_recognizes_nothing_of_it(library: Library) -> None:
    recognizer = new_recognizer(library)
    frames = frames_of({1: performance("wave", before_s=0.0)})
    onset_at = next(i for i in range(len(frames)) if recognizer.feed([frames[i]], frames[i].timestamp_s).events)
    assert told(recognizer.forget()) == [("end", "wave")]
    assert recognizer.forget() == []
    assert play(recognizer, frames[onset_at + 60 :]) == []


# Frames that are fed, and what is decided


def test_frames_are_fed_in_their_own_layout_and_come_back_in_it_and_in_kinect25(library: Library) -> None:
    """The Azure Kinect's axes turned: what a sensor sends is recorded as it is, and recognized all the same."""
    turned = [
        replace(frame, axes="RUB", bodies=tuple(replace(b, joints_m=b.joints_m * _RUB) for b in frame.bodies))
        for frame in frames_of({1: performance("wave")})
    ]
    recognizer, plain = new_recognizer(library), new_recognizer(library)
    for frame, same in zip(turned, frames_of({1: performance("wave")}), strict=True):
        turn, expected = recognizer.feed([frame], frame.timestamp_s), plain.feed([same], same.timestamp_s)
        assert turn.native == [frame]
        assert (turn.frames[0].axes, expected.native) == ("LUF", expected.frames)
        np.testing.assert_array_equal(turn.frames[0].bodies[0].joints_m, same.bodies[0].joints_m)
        assert told(turn.events) == told(expected.events)


def test_frames_that_the_intake_refuses_come_to_nothing(library: Library) -> None:
    recognizer = new_recognizer(library)
    first, second, third = frames_of({1: performance("wave")[:3]})
    assert recognizer.feed([second, first, second, third], 100.0).native == [second, third]
    turn = recognizer.feed([first], 101.0)
    assert (turn.native, turn.frames, turn.decisions, turn.events) == ([], [], [], [])
    assert recognizer.intake.num_dropped("cam") == 3


def test_what_is_refused_while_frames_are_fed_counts_in_its_place(library: Library) -> None:
    recognizer = new_recognizer(library)
    frames = frames_of({1: performance("wave")[:5]})

    def read() -> Iterator[SkeletonFrame]:
        yield from frames[:2]
        recognizer.intake.drop("cam", "bad_message", 100.0)  # This was frame 2.
        yield from frames[3:]

    assert len(recognizer.feed(read(), 100.0).frames) == 4
    assert recognizer.intake.status(100.0).sources["cam"].lost == 0


def test_a_decision_names_its_windows_and_where_each_label_is_nearest(library: Library) -> None:
    recognizer = new_recognizer(library)
    frames = frames_of({1: performance("wave"), 2: performance("wave")[:1].repeat(200, axis=0)})
    decisions = [d for frame in frames for d in recognizer.feed([frame], frame.timestamp_s).decisions]
    assert recognizer.num_decisions == len(decisions)
    assert recognizer.num_windows == sum(len(decision.windows) for decision in decisions) > 0
    for decision in decisions:
        assert (decision.source, decision.time_s) == ("cam", decision.frame.timestamp_s)
        assert list(decision.labels) == list(ENROLLED)
        if not decision.windows:
            assert decision.match is None
            assert np.isinf(decision.distances_K).all()
            continue
        assert (decision.body, decision.match is not None) == (1, True)
        for window in decision.windows:
            assert window.length_s in CONFIG.windows.lengths_s
            assert window.start_s <= decision.time_s - CONFIG.windows.min_filled * window.length_s
            assert window.joints == 1
        match = decision.match
        assert match is not None
        best = list(decision.labels).index(match.label)
        assert match.distance == decision.distances_K[best] == decision.distances_K.min()
        assert match.t_start_s == decision.windows[decision.windows_K[best]].start_s


# Time, load and what is refused


def test_batches_give_the_same_events_as_single_frames(library: Library) -> None:
    frames = frames_of({1: performance("wave"), 2: performance("bow", 3)})
    assert CONFIG.windows.hop_s * FPS == pytest.approx(6)

    def in_batches_of(size: int) -> list[Event]:
        recognizer = new_recognizer(library)
        batches = [frames[:1], *(frames[i : i + size] for i in range(1, len(frames), size))]
        events = [event for batch in batches for event in recognizer.feed(batch, batch[-1].timestamp_s).events]
        order = {id: str(i) for i, id in enumerate(dict.fromkeys(event.id for event in events))}
        assert recognizer.num_hops_skipped == 0
        return [replace(event, id=order[event.id]) for event in events]

    one_by_one = in_batches_of(1)
    assert set(begun(one_by_one)) == {"wave", "bow"}
    for size in (2, 3, 6):
        assert in_batches_of(size) == one_by_one


def test_decisions_that_a_slow_machine_skips_are_counted_and_the_newest_moment_is_decided(library: Library) -> None:
    frames = frames_of({1: performance("wave", after_s=6.0)})
    recognizer = new_recognizer(library)
    recognizer.feed(frames[:1], 0.0)
    recognizer.feed(frames[1:61], 0.0)
    assert (recognizer.num_decisions, recognizer.num_hops_skipped) == (2, 9)
    events = [event for i in range(61, len(frames), 12) for event in recognizer.feed(frames[i : i + 12], 0.0).events]
    assert begun(events) == ["wave"]
    assert all(event.seq_last % 12 == 0 for event in events)
    assert recognizer.num_hops_skipped > 9


def test_a_body_without_a_whole_joint_is_counted_and_nothing_else(library: Library) -> None:
    config = msgspec.structs.replace(CONFIG, windows=Windows(min_motion_m=0.0))
    recognizer = new_recognizer(library, config)
    joints_LV3 = performance("wave")
    joints_LV3[:, :, 1] = np.nan
    assert play(recognizer, frames_of({1: joints_LV3})) == []
    assert (recognizer.num_bodies, recognizer.num_bodies_without_joints) == (0, len(joints_LV3))


def test_more_bodies_than_allowed_are_counted_and_the_first_ones_are_followed(library: Library) -> None:
    config = msgspec.structs.replace(CONFIG, stream=Stream(max_bodies=1))
    recognizer = new_recognizer(library, config)
    frames = frames_of({1: performance("wave"), 2: performance("bow")})
    assert set(begun(play(recognizer, frames))) == {"wave"}
    assert (recognizer.num_bodies, recognizer.num_bodies_refused) == (1, len(performance("bow")))


def test_a_joint_without_confidence_is_missing() -> None:
    joints_m = np.ones((25, 3), np.float32)
    confidence = np.full(25, HIGH, np.uint8)
    (frame, *_) = frames_of({1: joints_m[None]})

    def seen_joints_m() -> Array:
        (body,) = replace(frame, bodies=(Body(id=0, joints_m=joints_m, confidence=confidence),)).to_kinect25().bodies
        return body.joints_m

    assert seen_joints_m() is joints_m
    confidence[4] = NO_CONFIDENCE
    seen = seen_joints_m()
    assert np.flatnonzero(np.isnan(seen).any(axis=1)).tolist() == [4]
    assert np.isfinite(joints_m).all()


def test_the_latency_is_split_without_gap_or_overlap(library: Library) -> None:
    ticks = count(1000.0, 0.010)
    recognizer = new_recognizer(library, clock=lambda: next(ticks))
    for frame in frames_of({1: performance("wave")}):
        sent = replace(frame, t_send_s=frame.timestamp_s + 0.004)
        started_s = next(ticks)
        for event in recognizer.feed([sent], started_s).events:
            latency = event.latency_ms
            # The clock moves 10 ms per look: reading to start, cutting, encoding, matching.
            assert latency.sensor == pytest.approx(4)
            assert latency.queue == pytest.approx(10)
            assert latency.encode == pytest.approx(10)
            assert latency.match == pytest.approx(20)
            assert latency.total == pytest.approx(44)
            assert event.t_emit == pytest.approx(frame.timestamp_s + 0.044)


def test_a_source_with_this_machines_clock_shows_its_time_on_the_way(library: Library) -> None:
    recognizer = new_recognizer(library, clock=lambda: 1000.5, clock_name="host:boot")
    frames = [replace(frame, clock="host:boot") for frame in frames_of({1: performance("wave")}, start_s=990.0)]
    events = play(recognizer, [replace(frame, t_send_s=1000.0) for frame in frames])
    assert {round(event.latency_ms.queue) for event in events if event.type != "end"} == {500}
    assert {event.clock for event in events} == {"host:boot"}


# Matching


def test_the_score_falls_with_the_distance_and_is_a_half_at_the_midpoint() -> None:
    calibration = ScoreCurve(midpoint=0.3, slope=20.0, source="test")
    scores = [score_from_distance(distance, calibration) for distance in (0.0, 0.2, 0.3, 0.4, 2.0, float("inf"))]
    assert scores == sorted(scores, reverse=True)
    assert scores[2] == 0.5
    assert scores[-1] == pytest.approx(0.0)


def test_the_distance_to_a_label_is_that_to_its_nearest_comparable_example(library: Library) -> None:
    rng = np.random.default_rng(0)
    labels = ["b", "a", "c", "a", "b", "a"]
    embeddings_PD = rng.normal(size=(6, 8)).astype(np.float32)
    embeddings_PD /= np.linalg.norm(embeddings_PD, axis=1, keepdims=True)
    durations_s = [0.5, 1.0, 2.0, 4.0, 8.0, 1.0]
    index = PrototypeIndex(
        [
            Prototype(
                id=str(i),
                label=label,
                movement=Movement(timestamps_s=np.array([0.0, duration_s]), joints_m=np.zeros((2, 25, 3), np.float32)),
                embedding=embedding,
                model_sha256="",
                origin="",
                created="",
            )
            for i, (label, duration_s, embedding) in enumerate(zip(labels, durations_s, embeddings_PD, strict=True))
        ],
        msgspec.structs.replace(library.encoder.info, embedding_size=8),
    )
    assert index.labels == ["a", "b", "c"]
    windows_WD = rng.normal(size=(4, 8)).astype(np.float32)
    windows_WD /= np.linalg.norm(windows_WD, axis=1, keepdims=True)
    lengths_s = (0.6, 1.2, 1.9, 3.0)
    comparable_WP = np.array([index.wants(length_s, 1.5) for length_s in lengths_s])
    distances, windows = index.distances(windows_WD, comparable_WP)
    for label, distance, window in zip(index.labels, distances, windows, strict=True):
        naive = [
            (1 - float(windows_WD[w] @ embeddings_PD[p]), w)
            for w, length_s in enumerate(lengths_s)
            for p in range(6)
            if labels[p] == label and 1 / 1.5 <= length_s / durations_s[p] <= 1.5
        ]
        assert (distance, window) == (pytest.approx(min(naive)[0], abs=1e-6), min(naive)[1])
