"""One example: what is captured, what is cut off, and what is refused with which code.

Shapes: L frames, V = 25 kinect25 joints, C = 3, meters.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.config import Config, Enroll, GalleryFile, Model, Windows
from edge.daemon.commands import commit_example
from edge.enroll.capture import Enrollment, example_from_capture, one_body
from edge.library import Library, open_library
from edge.motion.sides import side_that_moved
from edge.motion.speed import travel_m
from streams.arrays import Array
from streams.errors import CrossGLGError, EnrollError, GalleryError
from streams.frame import HIGH, NO_CONFIDENCE, Body, SkeletonFrame
from streams.layouts import KINECT25_JOINTS, mirrored_view
from streams.movement import Movement
from streams.performer import perform

CONFIG = Config()
HAND = KINECT25_JOINTS.index("HandTipRight")


def performance(
    action: str = "wave", seed: int = 1, *, fps: float = 30.0, before_s: float = 1.0, after_s: float = 2.0
) -> Array:
    """Return joints (L, 25, 3) of somebody who stands, performs, and stands again."""
    joints_LV3 = perform(action, seed=seed, fps=fps).joints_m
    still = [np.repeat(joints_LV3[[i]], round(seconds * fps), axis=0) for i, seconds in ((0, before_s), (-1, after_s))]
    return np.concatenate((still[0], joints_LV3, still[1]))


def reach(seconds: float, *, fps: float = 30.0) -> Movement:
    """Return somebody who stands for a second, moves the right arm out and back, and stands for a second."""
    joints_V3 = perform("wave", seed=1).joints_m[0]
    timestamps_s = np.arange(0, 2 + seconds, 1 / fps)
    way = np.sin(np.pi * np.clip((timestamps_s - 1) / seconds, 0, 1)).astype(np.float32)
    joints_LV3 = np.repeat(joints_V3[None], len(timestamps_s), axis=0)
    joints_LV3[:, [10, 11, 23, 24], 0] += way[:, None]
    return Movement(timestamps_s=timestamps_s, joints_m=joints_LV3)


def frames_of(
    joints_LV3: Array, *, fps: float = 30.0, start_s: float = 0.0, source: str = "cam", body: int = 1
) -> list[SkeletonFrame]:
    confidence = np.full(25, HIGH, np.uint8)
    return [
        SkeletonFrame(
            source=source,
            epoch="e",
            seq=i,
            timestamp_s=start_s + i / fps,
            t_send_s=start_s + i / fps,
            bodies=(Body(id=body, joints_m=joints_V3, confidence=confidence),),
        )
        for i, joints_V3 in enumerate(joints_LV3)
    ]


def enrollment(config: Config = CONFIG, *, countdown_s: float = 0.0, **options: Any) -> Enrollment:
    return Enrollment("wave", config, now_s=0.0, countdown_s=countdown_s, **options)


def capture(frames: Sequence[SkeletonFrame], config: Config = CONFIG, **options: Any) -> Enrollment:
    """Let the frames come in at their own time, and then no more."""
    capturing = enrollment(config, **options)
    for frame in frames:
        if capturing.is_over:
            return capturing
        capturing.step([frame], frame.timestamp_s)
    for now_s in np.arange(frames[-1].timestamp_s if frames else 0.0, 30.0, 0.2).tolist():
        capturing.step((), now_s)
    return capturing


def code_of(capturing: Enrollment) -> str:
    assert capturing.state == "failed", capturing.state
    assert capturing.example is None
    assert isinstance(capturing.error, CrossGLGError)
    assert capturing.error.message
    return capturing.error.code


# What is captured


def test_it_waits_for_stillness_counts_down_captures_and_is_done_when_the_person_rests() -> None:
    capturing = enrollment(countdown_s=2.0)
    frames = frames_of(performance(before_s=3.0, after_s=4.0))
    began_s: dict[str, float] = {}
    for frame in frames:
        capturing.step([frame], frame.timestamp_s)
        began_s.setdefault(capturing.state, frame.timestamp_s)
        if capturing.state == "countdown":
            assert capturing.left_s(frame.timestamp_s) == pytest.approx(
                2.0 - (frame.timestamp_s - began_s["countdown"])
            )
        if capturing.is_over:
            break
    assert list(began_s) == ["stillness", "countdown", "capture", "captured"]
    assert 0.3 < began_s["countdown"] < 0.6
    assert frame.timestamp_s < frames[-1].timestamp_s - 2, "it waits for the rest, not for the end of its time"
    assert capturing.seen_source == "cam"
    assert capturing.notes == []


def states_of(capturing: Enrollment, frames: Sequence[SkeletonFrame]) -> dict[str, float]:
    """Let the frames come in; return when each state began."""
    began_s: dict[str, float] = {}
    for frame in frames:
        capturing.step([frame], frame.timestamp_s)
        began_s.setdefault(capturing.state, frame.timestamp_s)
    return began_s


def test_whoever_moves_is_told_to_stand_still_and_the_countdown_begins_when_she_does() -> None:
    moving = performance(before_s=0.0, after_s=0.0)[15:75]
    still = np.repeat(moving[-1:], 30, axis=0)
    capturing = enrollment(countdown_s=1.0)
    assert states_of(capturing, frames_of(moving)) == {"stillness": 0.0}
    assert capturing.message == "you are moving"
    began_s = states_of(capturing, frames_of(still, start_s=2.0))
    assert 2.3 < began_s["countdown"] < 2.8
    assert (capturing.message, capturing.notes) == ("", [])


def test_whoever_never_stands_still_is_counted_down_all_the_same_and_told_so() -> None:
    moving = np.concatenate([performance(before_s=0.0, after_s=0.0)[15:60]] * 8)
    capturing = enrollment(countdown_s=1.0)
    began_s = states_of(capturing, frames_of(moving))
    assert began_s["countdown"] == pytest.approx(CONFIG.enroll.stillness_s, abs=0.05)
    assert began_s["capture"] == pytest.approx(CONFIG.enroll.stillness_s + 1, abs=0.1)
    assert capturing.notes == ["you are moving: counted down all the same"]


def test_with_nobody_or_two_people_in_view_the_wait_for_stillness_says_so_and_ends() -> None:
    joints_LV3 = np.repeat(performance()[:1], 600, axis=0)
    one = frames_of(joints_LV3)
    two = [replace(a, bodies=(*a.bodies, *b.bodies)) for a, b in zip(one, frames_of(joints_LV3, body=2), strict=True)]
    nobody = [replace(frame, bodies=()) for frame in one]
    for frames, message, code in (
        (nobody, "nobody is in view", "no_body"),
        (two, "more than one person is in view", "multiple_bodies"),
    ):
        capturing = enrollment(countdown_s=1.0)
        assert list(states_of(capturing, frames[:60])) == ["stillness"]
        assert capturing.message == message
        states_of(capturing, frames[60:])
        assert capturing.notes == [f"{message}: counted down all the same"]
        assert code_of(capturing) == code
    capturing = enrollment(countdown_s=1.0, body=2)
    assert "countdown" in states_of(capturing, two[:30]), "the one who is named stands still"


def test_a_passer_by_does_not_stop_the_wait_for_stillness() -> None:
    still = frames_of(np.repeat(performance()[:1], 100, axis=0))
    passing = [replace(frame, bodies=(*frame.bodies, replace(frame.bodies[0], id=2))) for frame in still[:30]]
    capturing = enrollment(countdown_s=1.0)
    began_s = states_of(capturing, [*passing, *still[30:]])
    assert 1.3 < began_s["countdown"] < 1.8


def test_no_frames_at_all_end_in_a_refusal() -> None:
    capturing = enrollment(countdown_s=1.0)
    for now_s in np.arange(0, 10, 0.2).tolist():
        capturing.step((), now_s)
    assert code_of(capturing) == "no_body"


def test_whoever_leaves_during_the_countdown_is_missed_and_may_come_back_in_time() -> None:
    joints_LV3 = performance(before_s=4.0)
    frames = frames_of(joints_LV3)
    gone = [replace(frame, bodies=()) if frame.timestamp_s > 1 else frame for frame in frames]
    capturing = enrollment(countdown_s=2.0)
    states_of(capturing, gone)
    assert code_of(capturing) == "no_body"
    back = [replace(frame, bodies=()) if 1 < frame.timestamp_s < 2.4 else frame for frame in frames]
    capturing = enrollment(countdown_s=2.0)
    assert "captured" in states_of(capturing, back)


def test_without_a_countdown_the_capture_begins_at_once() -> None:
    assert list(states_of(enrollment(), frames_of(performance())[:3])) == ["capture"]


def test_the_rest_at_both_ends_is_cut_off_and_the_movement_is_kept_whole() -> None:
    joints_LV3 = performance()
    capturing = capture(frames_of(joints_LV3))
    example = capturing.example
    assert example is not None
    report = example.preview("wave")
    assert report.trimmed_s[0] > 0.9
    assert report.trimmed_s[1] > 0.3
    assert report.duration_s == pytest.approx(perform("wave", seed=1).timestamps_s[-1], abs=1.2)
    assert report.fps == pytest.approx(30, abs=0.1)
    assert report.joints == 1.0
    assert report.motion_m == pytest.approx(travel_m(joints_LV3), abs=0.05)
    assert report.moved[0].joint == "HandRight"
    assert travel_m(example.movement.joints_m) > 0.99 * travel_m(joints_LV3)
    first = round(report.trimmed_s[0] * 30)
    np.testing.assert_array_equal(example.movement.joints_m, joints_LV3[first : first + len(example.movement.joints_m)])


def test_what_comes_during_the_countdown_is_not_captured() -> None:
    bowing, waving = performance("bow", after_s=0.0, before_s=0.0), performance("wave", after_s=3.0)
    frames = frames_of(np.concatenate((bowing, waving)))
    config = msgspec.structs.replace(CONFIG, enroll=Enroll(stillness_s=0))
    capturing = capture(frames, config, countdown_s=len(bowing) / 30)
    assert capturing.example is not None
    assert len(capturing.example.movement.joints_m) > 60
    seen = {joints_V3.tobytes() for joints_V3 in capturing.example.movement.joints_m}
    assert seen <= {joints_V3.tobytes() for joints_V3 in waving}


def test_somebody_who_does_not_rest_is_captured_for_the_longest_time() -> None:
    again_and_again = np.concatenate([performance(before_s=0.0, after_s=0.0)] * 3)
    capturing = capture(frames_of(again_and_again))
    assert capturing.example is not None
    assert sum(capturing.example.preview("wave").trimmed_s) + capturing.example.preview("wave").duration_s <= 5.0


def test_a_source_that_falls_silent_leaves_what_it_sent() -> None:
    frames = frames_of(performance())
    capturing = capture(frames[:110])
    assert capturing.example is not None
    assert capturing.example.preview("wave").duration_s > 2


def test_one_of_two_people_is_captured_when_named() -> None:
    frames = [
        replace(frame, bodies=(*frame.bodies, *other.bodies))
        for frame, other in zip(frames_of(performance()), frames_of(performance("bow"), body=2), strict=False)
    ]
    both = [capture(frames, body=body).example for body in (1, 2)]
    alone = [capture(frames_of(performance(action))).example for action in ("wave", "bow")]
    for example, expected in zip(both, alone, strict=True):
        assert example is not None
        assert expected is not None
        np.testing.assert_array_equal(example.movement.joints_m[:60], expected.movement.joints_m[:60])


def test_one_of_two_sources_is_captured_when_named() -> None:
    pairs = zip(frames_of(performance("bow"), source="left"), frames_of(performance(), source="right"), strict=False)
    capturing = capture([frame for pair in pairs for frame in pair], source="right")
    assert capturing.example is not None
    assert capturing.seen_source == "right"


def test_joints_without_confidence_are_missing_in_the_example() -> None:
    confidence = np.full(25, HIGH, np.uint8)
    confidence[HAND] = NO_CONFIDENCE
    frames = [
        replace(frame, bodies=(replace(frame.bodies[0], confidence=confidence),)).to_kinect25()
        for frame in frames_of(performance())
    ]
    example = capture(frames).example
    assert example is not None
    assert np.flatnonzero(np.isnan(example.movement.joints_m).any(axis=(0, 2))).tolist() == [HAND]
    assert example.preview("wave").joints == pytest.approx(24 / 25)


# What is refused


@pytest.mark.parametrize("capture_s", [0.6, 5.0])
def test_nobody_in_view_is_refused_soon(capture_s: float) -> None:
    config = msgspec.structs.replace(CONFIG, enroll=Enroll(capture_s=capture_s))
    empty = [replace(frame, bodies=()) for frame in frames_of(performance())]
    for frames in (empty, []):
        capturing = capture(frames, config)
        assert code_of(capturing) == "no_body"
    assert "status" in (capturing.error or CrossGLGError("")).hint


def test_a_named_body_that_is_not_there_is_named_in_the_refusal() -> None:
    capturing = capture(frames_of(performance()), source="cam", body=9)
    assert code_of(capturing) == "no_body"
    assert "'cam'" in str(capturing.error)
    assert "9" in str(capturing.error)


def test_two_people_or_two_sources_are_refused() -> None:
    one, other = frames_of(performance()), frames_of(performance("bow"), body=2)
    together = [replace(a, bodies=(*a.bodies, *b.bodies)) for a, b in zip(one, other, strict=False)]
    assert code_of(capture(together)) == "multiple_bodies"
    elsewhere = frames_of(performance(), source="other")
    assert code_of(capture([frame for pair in zip(one, elsewhere, strict=False) for frame in pair])) == (
        "multiple_bodies"
    )


def test_a_body_that_becomes_another_is_refused() -> None:
    frames = frames_of(performance())
    later = frames_of(performance(), body=2)[60:]
    assert code_of(capture([*frames[:60], *later])) == "low_quality"


def test_a_time_that_runs_backwards_during_the_capture_is_refused() -> None:
    frames = frames_of(performance())
    capturing = enrollment()
    capturing.step(frames[:40], 1.0)
    capturing.step(frames[20:40], 2.0)
    assert code_of(capturing) == "low_quality"


def test_somebody_who_stands_still_is_refused() -> None:
    still = np.repeat(performance()[:1], 200, axis=0)
    capturing = capture(frames_of(still))
    assert code_of(capturing) == "low_quality"
    assert "moved" in str(capturing.error)


def test_a_slow_source_is_refused_with_its_rate() -> None:
    capturing = capture(frames_of(performance(fps=5.0), fps=5.0))
    assert code_of(capturing) == "low_quality"
    assert "frames per second: 5" in str(capturing.error)


def test_too_few_joints_are_refused_with_their_share() -> None:
    joints_LV3 = performance()
    joints_LV3[:, 12:] = np.nan
    capturing = capture(frames_of(joints_LV3))
    assert code_of(capturing) == "low_quality"
    assert "0.48" in str(capturing.error)


def test_a_single_frame_is_refused() -> None:
    assert code_of(capture(frames_of(performance())[:1])) == "too_short"


@pytest.mark.parametrize(("seconds", "code"), [(0.1, "too_short"), (7.0, "too_long")])
def test_an_example_that_no_window_is_compared_with_is_refused(seconds: float, code: str) -> None:
    config = msgspec.structs.replace(CONFIG, windows=Windows(lengths_s=(0.8, 1.8, 4.0), max_stretch=1.5))
    with pytest.raises(EnrollError) as refused:
        example_from_capture(reach(seconds), config)
    assert refused.value.code == code
    assert refused.value.hint


def test_an_example_between_two_window_lengths_is_refused() -> None:
    config = msgspec.structs.replace(CONFIG, windows=Windows(lengths_s=(0.5, 4.0), max_stretch=1.2))
    with pytest.raises(EnrollError, match=r"lasts 1\.\d+ s: expected"):
        example_from_capture(reach(1.5), config)


@pytest.mark.parametrize("seconds", [0.6, 1.0, 5.0])
def test_every_other_length_is_taken(seconds: float) -> None:
    example = example_from_capture(reach(seconds), CONFIG)
    assert example.preview("wave").duration_s == pytest.approx(seconds, abs=0.5)


def test_without_trimming_all_is_kept() -> None:
    shown = reach(1.0)
    example = example_from_capture(shown, CONFIG, trim=False)
    np.testing.assert_array_equal(example.movement.joints_m, shown.joints_m)
    assert example.trimmed_s == (0.0, 0.0)


# From a recording, and into the gallery


def test_a_recording_of_one_body_gives_its_joints() -> None:
    frames = frames_of(performance(), start_s=7.0)
    frames[3] = replace(frames[3], bodies=())
    found = one_body(frames)
    assert len(found.timestamps_s) == len(found.joints_m) == len(frames) - 1
    assert found.timestamps_s[0] == 7.0
    np.testing.assert_array_equal(found.joints_m[3], frames[4].bodies[0].joints_m)


def test_a_recording_of_nobody_or_of_two_is_refused_and_one_of_them_can_be_named() -> None:
    frames = [*frames_of(performance()), *frames_of(performance("bow"), body=2)]
    frames += frames_of(reach(1).joints_m, source="b")
    with pytest.raises(EnrollError, match=r"body 1 of b, body 1 of cam, body 2 of cam") as two:
        one_body(frames)
    assert two.value.code == "multiple_bodies"
    with pytest.raises(EnrollError, match="nobody") as none:
        one_body([replace(frame, bodies=()) for frame in frames])
    assert none.value.code == "no_body"
    assert len(one_body(frames, source="b")) == len(reach(1))
    assert len(one_body(frames, source="cam", body=2)) == len(performance("bow"))


@pytest.fixture
def library(tiny_bundle: Path) -> Iterator[Library]:
    library = open_library(Config(model=Model(bundle=str(tiny_bundle)), gallery=GalleryFile(path=":memory:")))
    with library.gallery:
        yield library


def commit(library: Library, label: str, action: str, seed: int, **options: Any) -> dict[str, Any]:
    example = example_from_capture(perform(action, seed=seed), library.config)
    stored = commit_example(library, label, example, **{"origin": "test", "mode": "new"} | options)
    return dict(json.loads(msgspec.json.encode(stored)))


def test_a_new_action_too_like_another_is_refused_with_both_distances_unless_forced(library: Library) -> None:
    assert commit(library, "wave", "wave", 0)["similar"] is None
    assert commit(library, "jump", "jumping_jack", 0)["similar"] is None
    with pytest.raises(EnrollError, match=r"too like 'wave': 0\.00 from it, .* nearer than 0\.06") as refused:
        commit(library, "hello", "wave", 1)
    assert refused.value.code == "too_similar"
    assert "--force" in refused.value.hint
    assert library.gallery.labels() == ("wave", "jump"), "nothing was stored"
    with pytest.raises(EnrollError):
        commit(library, "JUMP", "wave", 1, mode="replace")
    forced = commit(library, "hello", "wave", 1, force=True)
    assert forced["similar"]["label"] == "wave"
    assert forced["similar"]["score"] > 0.9
    added = commit(library, "HELLO", "wave", 2, mode="add")
    assert added["label"] == "hello"
    assert added["similar"]["label"] == "wave", "its own other examples are no rival"
    assert added["notes"] == []


def test_another_example_unlike_the_first_is_stored_with_a_warning(library: Library) -> None:
    commit(library, "wave", "wave", 0)
    more = commit(library, "wave", "bow", 0, mode="add")
    assert library.gallery.labels() == ("wave",)
    assert len(library.gallery.prototypes) == 2
    (note,) = more["notes"]
    assert "unlike the other examples of 'wave'" in note
    assert commit(library, "wave", "wave", 3, mode="add")["notes"] == []


def test_an_action_of_either_side_is_stored_as_shown_and_mirrored_in_one_change(library: Library) -> None:
    told = commit(library, "swipe", "swipe", 0, side="either")
    assert told["stored"] == 2
    shown, mirror = library.gallery.prototypes
    assert (shown.origin, mirror.origin) == ("test", "test, mirrored")
    np.testing.assert_array_equal(mirrored_view(mirror.movement.joints_m), shown.movement.joints_m)
    assert side_that_moved(mirror.movement) == "left"
    library.gallery.undo(created="now")
    assert library.gallery.prototypes == ()


def test_an_action_of_one_side_is_mirrored_when_the_other_was_shown(library: Library) -> None:
    told = {side: commit(library, f"swipe {side}", "swipe", 0, side=side) for side in ("right", "left")}
    moved = [side_that_moved(p.movement) for p in library.gallery.prototypes]
    assert moved == ["right", "left"]
    assert [p.origin for p in library.gallery.prototypes] == ["test", "test, mirrored"]
    assert told["right"]["notes"] == []
    assert told["left"]["notes"] == ["shown with the right side: stored mirrored, as of the left"]
    both = commit(library, "arms", "jumping_jack", 0, side="left", force=True)
    assert both["notes"] == ["both sides moved alike: stored as shown"]


def test_the_mirror_image_too_is_compared_with_the_other_actions(library: Library) -> None:
    commit(library, "swipe left", "swipe", 0, side="left")
    with pytest.raises(EnrollError, match="too like 'swipe left'"):
        commit(library, "swipe", "swipe", 1, side="either")
    assert commit(library, "swipe", "swipe", 1, side="right")["similar"] is None


def test_no_file_space_left_refuses_the_example_and_the_gallery_goes_on(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    library = open_library(Config(model=Model(bundle=str(tiny_bundle)), gallery=GalleryFile(path=str(path))))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with library.gallery:
        commit(library, "wave", "wave", 0)
        # No room for the example's frames in the log.
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
        try:
            with pytest.raises(GalleryError) as refused:
                commit(library, "bow", "bow", 0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert refused.value.code == "bad_gallery"
        assert "space" in refused.value.hint
        assert library.gallery.labels() == ("wave",)
        commit(library, "bow", "bow", 0)
        assert library.gallery.labels() == ("wave", "bow")
