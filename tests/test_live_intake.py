"""The intake: which frames are taken, and the count of each one that is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.config import Stream
from edge.live.intake import Intake
from edge.protocol import SourceStatus
from streams.arrays import Array
from streams.frame import SkeletonFrame, body_as_seen
from streams.layouts import LAYOUTS
from streams.performer import perform
from streams.units import limb_length_m
from streams.wire import encode_map


def frame(seq: int, timestamp_s: float | None = None, *, source: str = "kinect", epoch: str = "a") -> SkeletonFrame:
    """Make a frame at 30 fps unless its time is given."""
    time_s = 100 + seq / 30 if timestamp_s is None else timestamp_s
    return SkeletonFrame(source=source, epoch=epoch, seq=seq, timestamp_s=time_s, t_send_s=time_s)


def accepted(intake: Intake, frames: list[SkeletonFrame], now_s: float = 0.0) -> list[int]:
    """Return the seq of those that are taken; the frames arrive at 30 fps from `now_s` on."""
    return [f.seq for i, f in enumerate(frames) if intake.accept(f, now_s + i / 30)]


def source_status(intake: Intake, source: str = "kinect", now_s: float = 0.0) -> SourceStatus:
    return intake.status(now_s).sources[source]


# Order, and what was lost


def test_frames_in_order_are_taken() -> None:
    intake = Intake(Stream())
    assert accepted(intake, [frame(seq) for seq in range(5, 65)]) == list(range(5, 65))
    status = source_status(intake, now_s=59 / 30 + 0.25)
    assert (status.frames, status.lost, status.dropped, status.restarts) == (60, 0, {}, 0)
    assert status.age_s == pytest.approx(0.25)
    assert intake.num_dropped("kinect") == 0


def test_gaps_in_the_sequence_are_counted_as_lost() -> None:
    intake = Intake(Stream())
    assert accepted(intake, [frame(seq) for seq in (3, 4, 7, 8, 18)]) == [3, 4, 7, 8, 18]
    assert source_status(intake).lost == 2 + 9
    assert intake.num_dropped("kinect") == 11


def test_sources_are_followed_apart() -> None:
    intake = Intake(Stream())
    for seq in range(10):
        assert intake.accept(frame(seq, source="left"), seq / 30)
        assert intake.accept(frame(2 * seq, 5.0 + seq, source="right", epoch="b"), seq / 30)
    assert source_status(intake, "left").lost == 0
    assert source_status(intake, "right").lost == 9
    assert intake.rate_fps("left") == pytest.approx(30)


@pytest.mark.parametrize("seq", [0, 5_000_000, 2**64 - 1])
def test_a_sequence_that_is_numbered_anew_is_no_loss(seq: int) -> None:
    intake = Intake(Stream())
    accepted(intake, [frame(i) for i in range(50, 60)])
    assert intake.accept(frame(seq, 200.0), 1.0)
    assert source_status(intake).lost == 0
    assert intake.accept(frame(62, 200.1), 1.1)
    assert intake.accept(frame(65, 200.2), 1.2)
    assert source_status(intake).lost in (2, 2 + 61)


def test_counts_stay_numbers_that_can_be_sent() -> None:
    intake = Intake(Stream())
    for i in range(40):
        intake.accept(frame(0 if i % 2 else 2**64 - 1, float(i), epoch=str(i // 2)), 10.0 * i)
    encode_map(source_status(intake))
    assert intake.num_dropped("kinect") < 2**63


# Time


def test_a_time_that_stands_still_or_goes_back_is_dropped_and_counted() -> None:
    intake = Intake(Stream())
    frames = [frame(0, 10.0), frame(1, 10.1), frame(2, 10.1), frame(3, 10.05), frame(4, 9.0), frame(5, 10.2)]
    assert accepted(intake, frames) == [0, 1, 5]
    assert source_status(intake).dropped == {"time_still": 1, "time_backwards": 2}
    assert source_status(intake).lost == 0
    assert intake.num_dropped("kinect") == 3


def test_a_clock_that_was_set_back_for_good_is_accepted_after_thirty_frames() -> None:
    intake = Intake(Stream())
    frames = [frame(seq) for seq in range(10)] + [frame(seq, 5 + seq / 30) for seq in range(10, 60)]
    assert accepted(intake, frames) == [*range(10), *range(39, 60)]
    status = source_status(intake)
    assert status.dropped == {"time_backwards": 29}
    assert status.restarts == 1
    assert status.lost == 0
    assert intake.num_dropped("kinect") == 29
    assert intake.rate_fps("kinect") == pytest.approx(30)


def test_late_frames_now_and_then_are_no_restart() -> None:
    intake = Intake(Stream())
    frames = []
    for seq in range(0, 200, 2):
        frames += [frame(seq), frame(seq + 1, 1.0)]
    assert accepted(intake, frames) == list(range(0, 200, 2))
    assert source_status(intake).restarts == 0


def test_a_time_that_stands_still_is_never_taken_for_a_restart() -> None:
    intake = Intake(Stream())
    assert accepted(intake, [frame(seq, 7.0) for seq in range(100)]) == [0]
    assert source_status(intake).dropped == {"time_still": 99}


def test_one_frame_from_the_far_future_blocks_for_thirty_frames_only() -> None:
    intake = Intake(Stream())
    frames = [frame(0), frame(1), frame(2, 1e10), *(frame(seq) for seq in range(3, 60))]
    assert accepted(intake, frames) == [0, 1, 2, *range(32, 60)]


# Rate


def test_frames_that_come_too_fast_are_dropped_to_the_highest_rate() -> None:
    intake = Intake(Stream(max_rate_fps=50))
    taken = accepted(intake, [frame(seq, seq / 200) for seq in range(400)])
    assert taken == list(range(0, 400, 4))
    assert source_status(intake).dropped == {"too_fast": 300}
    assert source_status(intake).lost == 0
    assert intake.rate_fps("kinect") == pytest.approx(50)


def test_a_source_at_the_highest_rate_may_jitter_a_little() -> None:
    intake = Intake(Stream(max_rate_fps=50))
    times_s = np.cumsum(np.random.default_rng(0).uniform(0.0198, 0.0202, 500))
    assert len(accepted(intake, [frame(seq, float(time_s)) for seq, time_s in enumerate(times_s)])) == 500


@pytest.mark.parametrize("fps", [5.0, 12.0, 30.0, 100.0])
@pytest.mark.parametrize("jitter", [0.0, 0.6])
def test_the_rate_is_estimated_from_timestamps(fps: float, jitter: float) -> None:
    intake = Intake(Stream(max_rate_fps=1000))
    steps_s = np.random.default_rng(0).uniform(1 - jitter, 1 + jitter, 300) / fps
    for seq, time_s in enumerate(np.cumsum(steps_s)):
        intake.accept(frame(seq, float(time_s)), 0.0)
    assert intake.rate_fps("kinect") == pytest.approx(fps, rel=0.15 if jitter else 1e-6)
    assert source_status(intake).slow == (fps < 7)


def test_the_rate_is_unknown_before_the_second_frame() -> None:
    intake = Intake(Stream())
    assert intake.rate_fps("kinect") == 0
    intake.accept(frame(0), 0.0)
    assert intake.rate_fps("kinect") == 0
    assert not source_status(intake).slow


@pytest.mark.parametrize("slow_fps", [5.0, 1.0])
def test_a_rate_that_collapses_shows_as_slow(slow_fps: float) -> None:
    intake = Intake(Stream())
    for seq in range(100):
        intake.accept(frame(seq, seq / 30), 0.0)
    assert not source_status(intake).slow
    for seq in range(100, 140):
        intake.accept(frame(seq, 10 + (seq - 100) / slow_fps), 0.0)
    assert source_status(intake).slow


def test_a_silent_source_has_no_rate_until_it_is_back() -> None:
    intake = Intake(Stream(takeover_s=1.0))
    accepted(intake, [frame(seq) for seq in range(60)])
    assert source_status(intake, now_s=59 / 30 + 0.9).fps == 30.0
    silent = source_status(intake, now_s=659.0)
    assert (silent.fps, silent.slow, silent.frames) == (0.0, False, 60)
    assert intake.accept(frame(60, 800.0), 700.0)
    assert source_status(intake, now_s=700.1).fps > 10
    # Frames of a time that stands still are none.
    assert not any(intake.accept(frame(61 + i, 800.0), 700.0 + i / 30) for i in range(60))
    assert source_status(intake, now_s=702.0).fps == 0.0


def test_one_pause_does_not_make_a_source_slow() -> None:
    intake = Intake(Stream())
    for seq in range(100):
        intake.accept(frame(seq, seq / 30 + (60 if seq >= 50 else 0)), 0.0)
        assert not source_status(intake).slow
    assert intake.rate_fps("kinect") == pytest.approx(30, rel=0.1)


# Who may use a name


def test_a_second_publisher_of_the_same_name_is_refused_while_the_first_is_alive() -> None:
    intake = Intake(Stream(takeover_s=1.0))
    for i in range(60):
        assert intake.accept(frame(i), i / 30)
        assert not intake.accept(frame(1000 + i, epoch="b"), i / 30 + 0.01)
    status = source_status(intake)
    assert status.epoch == "a"
    assert (status.frames, status.lost, status.dropped) == (60, 0, {"duplicate_source": 60})


def test_a_name_is_taken_over_after_silence() -> None:
    intake = Intake(Stream(takeover_s=1.0))
    accepted(intake, [frame(seq) for seq in range(30)])
    last_s = 29 / 30
    assert not intake.accept(frame(7, 3.0, epoch="b"), last_s + 0.99)
    assert intake.accept(frame(8, 3.1, epoch="b"), last_s + 1.01)
    status = source_status(intake)
    assert (status.epoch, status.frames, status.lost) == ("b", 31, 0)
    assert intake.accept(frame(9, 3.2, epoch="b"), last_s + 1.1)
    # The first one, back again, is now the duplicate.
    assert not intake.accept(frame(31), last_s + 1.2)


def test_a_publisher_of_unusable_frames_still_holds_its_name() -> None:
    intake = Intake(Stream(takeover_s=1.0))
    for i in range(90):
        intake.accept(frame(i, 1.0), i / 30)
    assert not intake.accept(frame(0, epoch="b"), 90 / 30)


def test_many_sources_are_bounded_and_the_excess_is_counted() -> None:
    intake = Intake(Stream())
    taken = [intake.accept(frame(0, source=f"s{i}"), i / 1000) for i in range(200)]
    assert taken == [True] * 64 + [False] * 136
    assert len(intake.status(0.2).sources) == 64
    assert intake.status(0.2).dropped == {"too_many_sources": 136}
    assert intake.accept(frame(1, source="s0"), 0.3)


def test_a_source_long_silent_makes_room_for_a_new_one() -> None:
    intake = Intake(Stream())
    for i in range(64):
        intake.accept(frame(0, source=f"s{i}"), float(i))
    assert not intake.accept(frame(0, source="new"), 59.0)
    assert intake.accept(frame(0, source="new"), 63.0)
    assert not intake.accept(frame(0, source="newer"), 60.5)  # s1 was heard at 1.0
    sources = intake.status(63.0).sources
    assert len(sources) == 64
    assert "s0" not in sources
    assert "new" in sources


def test_refused_messages_are_counted_under_the_source_that_made_them_or_apart() -> None:
    intake = Intake(Stream())
    intake.accept(frame(0), 0.0)
    for source, reason in (
        ("kinect", "bad_shape"), ("stranger", "bad_shape"), ("stranger", "unknown_layout"), (None, "bad_message"),
        ("a\nb", "bad_name"), ("", "bad_name"), (101 * "x", "bad_name"),
    ):  # fmt: skip
        intake.drop(source, reason, 1.0)
    status = intake.status(1.5)
    assert {name: source.dropped for name, source in status.sources.items()} == {
        "kinect": {"bad_shape": 1},
        "stranger": {"bad_shape": 1, "unknown_layout": 1},
    }
    assert status.dropped == {"bad_message": 1, "bad_name": 3}
    stranger = status.sources["stranger"]
    assert (stranger.frames, stranger.fps, stranger.lost, stranger.age_s) == (0, 0.0, 0, 0.5)
    assert intake.num_dropped("stranger") == 2


def test_a_source_whose_first_frames_were_refused_is_taken_as_soon_as_they_are_right() -> None:
    intake = Intake(Stream(takeover_s=1.0))
    for i in range(5):
        intake.drop("kinect", "bad_shape", i / 30)
    assert accepted(intake, [frame(seq) for seq in range(5, 10)], 5 / 30) == [5, 6, 7, 8, 9]
    status = source_status(intake)
    assert (status.epoch, status.lost, status.dropped) == ("a", 0, {"bad_shape": 5})


def test_names_under_which_no_frame_was_right_make_room_for_one_that_is() -> None:
    intake = Intake(Stream())
    for i in range(100):
        intake.drop(f"noise-{i}", "bad_message", 1.0)
    assert len(intake.status(1.0).sources) == 64
    assert intake.status(1.0).dropped == {"bad_message": 36}
    assert all(intake.accept(frame(0, source=f"s{i}"), 1.1) for i in range(64))
    assert not intake.accept(frame(0, source="one-more"), 1.2)


def test_status_is_a_map_that_can_be_sent() -> None:
    intake = Intake(Stream())
    accepted(intake, [frame(seq) for seq in (0, 1, 5, 3)])
    encode_map({"sources": intake.status(3.0).sources})


def test_a_refused_frame_is_dropped_but_not_lost_as_well() -> None:
    intake = Intake(Stream())
    for seq in range(6):
        if seq == 3:
            intake.drop("kinect", "bad_shape", seq / 30)
        else:
            assert intake.accept(frame(seq, seq / 30), seq / 30)
    status = intake.status(0.2).sources["kinect"]
    assert (status.frames, status.lost, status.dropped) == (5, 0, {"bad_shape": 1})


def test_a_frame_that_waited_too_long_is_dropped_and_counted_where_its_age_can_be_told() -> None:
    intake = Intake(Stream(max_age_s=0.5), clock_name="here:boot")
    local = [replace(frame(seq), clock="here:boot") for seq in range(3)]
    remote = [replace(frame(seq, source="far"), clock="there:boot") for seq in range(3)]
    late_s = 100 + 0.6
    assert [intake.accept(f, late_s) for f in local] == [False, False, False], "sent 0.6, 0.57 and 0.53 s ago"
    assert [intake.accept(f, late_s) for f in remote] == [True, True, True], "another clock tells nothing"
    assert source_status(intake).dropped == {"too_old": 3}
    assert source_status(intake).lost == 0
    assert intake.accept(replace(frame(3), clock="here:boot"), 100.2)


def test_times_of_two_clocks_are_refused_with_both() -> None:
    intake = Intake(Stream(), clock_name="here:boot")
    wall = replace(frame(0, 1.79e9), t_send_s=1234.5)
    assert not intake.accept(wall, 1234.6)
    assert not intake.accept(replace(frame(1, 1234.5), t_send_s=1.79e9), 1234.6)
    assert not intake.accept(replace(frame(2, 1.79e9), clock="here:boot"), 1234.6)
    assert source_status(intake).dropped == {"wrong_clock": 3}
    (told,) = intake.take_refusals()
    assert (told.source, told.reason) == ("kinect", "wrong_clock")
    assert "t_send is -1789998766 s after timestamp" in told.message
    assert intake.take_refusals() == []
    # One clock since 1970 is as good as another.
    assert intake.accept(frame(3, 1.79e9), 1234.6)


# Units

STANDING = perform("wave", seed=1).joints_m[0]


def seen(seq: int, *joints_m: Array, epoch: str = "a") -> SkeletonFrame:
    bodies = tuple(body_as_seen(i, np.asarray(joints, np.float32)) for i, joints in enumerate(joints_m))
    return replace(frame(seq, epoch=epoch), bodies=bodies)


@pytest.mark.parametrize(
    ("joints_m", "length"),
    [
        (100 * (STANDING - STANDING[0]), "39"),
        (STANDING * np.float32(0.2), "0.078"),
        (STANDING * np.float32(0.001), "0.00039"),
        (40 * STANDING, "15.6"),
    ],
    ids=["centimeters from the hip", "shares of a picture", "kilometers", "inches"],
)
def test_what_is_not_in_meters_is_refused_by_its_limbs(joints_m: Array, length: str) -> None:
    intake = Intake(Stream())
    assert accepted(intake, [seen(seq, joints_m) for seq in range(30)]) == []
    assert source_status(intake).dropped == {"not_metres": 30}
    (told,) = intake.take_refusals()
    assert f"arms and legs are {length}" in told.message
    assert "centimeters / 100" in told.message
    assert accepted(intake, [seen(seq, STANDING) for seq in range(30, 35)], 1.0) == [*range(30, 35)]


def test_limbs_of_anybody_are_taken() -> None:
    for share in (0.3, 0.6, 1.0, 1.4):
        assert Intake(Stream()).accept(seen(0, STANDING * np.float32(share)), 0.0)


def test_who_is_hardly_seen_or_beside_a_ghost_says_nothing_against_a_source() -> None:
    hidden = 100 * STANDING.copy()
    hidden[6:] = np.nan
    placeholder = np.tile(np.array([0.0, 0.5, 2.5], np.float32), (25, 1))
    assert Intake(Stream()).accept(seen(0, hidden / 10), 0.0)
    assert Intake(Stream()).accept(seen(0, placeholder), 0.0)
    assert Intake(Stream()).accept(seen(0), 0.0)
    assert Intake(Stream()).accept(seen(0, STANDING * np.float32(20), STANDING), 0.0)


def test_a_source_in_meters_stays_so_until_its_publisher_starts_anew() -> None:
    intake = Intake(Stream())
    assert intake.accept(seen(0, STANDING), 0.0)
    assert intake.accept(seen(1, STANDING * np.float32(30)), 0.1), "a glitch of the tracker"
    assert not intake.accept(seen(0, STANDING * np.float32(30), epoch="b"), 9.0)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_limbs_of_every_layout_are_measured(name: str) -> None:
    layout = LAYOUTS[name]
    # Where each native joint is: that of the kinect25 joint which it stands for most.
    joints_m = STANDING[layout.kinect25_weights.argmax(axis=0)]
    length_m = limb_length_m(body_as_seen(0, joints_m), name)
    assert length_m is not None
    assert 0.2 < length_m < 0.5
