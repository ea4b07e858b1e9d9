"""A body's last seconds, how far it moved, and where its movement begins and ends.

Shapes: L frames, V = 25, meters.
"""

from __future__ import annotations

import numpy as np
import pytest

from edge.motion.speed import extremity_speed_m_s, travel_m, travels_m, trim_rest
from edge.motion.track import BodyTrack
from streams.arrays import Array, Times
from streams.layouts import KINECT25_JOINTS
from streams.movement import Movement
from streams.performer import ACTIONS, perform

_HEAD, _HAND, _WRIST = (KINECT25_JOINTS.index(name) for name in ("Head", "HandRight", "WristRight"))


def with_rest(action: str, seed: int, fps: float, rest_s: float = 1.0) -> tuple[Times, Array]:
    """Return a performance with so much more rest at both ends."""
    joints = perform(action, seed=seed, fps=fps).joints_m
    num_rest = round(rest_s * fps)
    rng = np.random.default_rng(seed)
    before, after = (
        joints[end] + rng.normal(0, 0.004, (num_rest, 25, 3)).astype(np.float32) for end in (0, -1)
    )  # fmt: skip
    joints = np.concatenate((before, joints, after))
    return np.arange(len(joints)) / fps, joints


def trimmed(timestamps_s: Times, joints: Array, **options: float) -> slice:
    return trim_rest(Movement(timestamps_s=timestamps_s, joints_m=joints), **options)


def still(num_frames: int = 60) -> Array:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(1, 25, 3)) + rng.normal(0, 0.004, (num_frames, 25, 3))).astype(np.float32)


# The track


@pytest.mark.parametrize(("keep_s", "max_rate_fps"), [(1.0, 30.0), (4.1, 120.0), (0.3, 7.0)])
@pytest.mark.parametrize("pace", ["highest", "slow", "jittery", "with gaps"])
def test_the_latest_frames_are_a_slice_of_all_that_were_pushed(keep_s: float, max_rate_fps: float, pace: str) -> None:
    rng = np.random.default_rng(0)
    num_frames = 2000
    # The intake lets frames through that come 2 % faster than the highest rate.
    step_s = np.full(num_frames, 0.98 / max_rate_fps)
    if pace == "slow":
        step_s *= 3.3
    elif pace == "jittery":
        step_s *= rng.uniform(1, 3, num_frames)
    elif pace == "with gaps":
        step_s[rng.random(num_frames) < 0.02] += rng.choice([0.3, 5.0])
    timestamps_s = 1e6 + np.cumsum(step_s)
    joints = rng.normal(size=(num_frames, 25, 3)).astype(np.float32)
    track = BodyTrack(keep_s, max_rate_fps)
    for i in range(num_frames):
        track.push(float(timestamps_s[i]), joints[i])
        if i % 17 and i < num_frames - 1:
            continue
        length_s = float(rng.uniform(0, keep_s))
        times, latest = track.latest(length_s)
        first = int(np.argmax(timestamps_s >= timestamps_s[i] - length_s - 1e-6))
        np.testing.assert_array_equal(times, timestamps_s[first : i + 1])
        np.testing.assert_array_equal(latest, joints[first : i + 1])
        assert track.newest_s == timestamps_s[i]
    assert np.shares_memory(latest, track.latest(keep_s)[1])


def test_a_track_without_frames_has_an_empty_window() -> None:
    track = BodyTrack(1.0, 30.0)
    times, joints = track.latest(0.5)
    assert (times.shape, joints.shape) == ((0,), (0, 25, 3))
    assert track.newest_s == -np.inf


# How far


def test_travel_is_the_diagonal_of_the_box_of_the_joint_that_moved_most() -> None:
    joints = np.zeros((10, 25, 3), np.float32)
    joints[3, _HAND] = [0.3, 0, 0.4]
    joints[4, _HEAD] = [0, 0.1, 0]
    assert travel_m(joints) == pytest.approx(0.5)
    assert travel_m(joints + 5) == pytest.approx(0.5, abs=1e-5)
    assert travel_m(joints[:1]) == 0


def test_a_spine_that_leans_is_no_travel() -> None:
    joints = np.zeros((10, 25, 3), np.float32)
    joints[3, :3] = 1
    assert travel_m(joints) == 0


def test_travel_goes_on_where_a_joint_was_lost_for_some_frames() -> None:
    joints = np.zeros((10, 25, 3), np.float32)
    joints[3, _HAND] = [0.3, 0, 0.4]
    joints[7] = np.nan
    joints[2, _HAND, 1] = np.nan
    assert travel_m(joints) == pytest.approx(0.5)
    joints[:, _HAND] = np.nan
    assert travel_m(joints) == 0
    assert travel_m(np.full((5, 25, 3), np.nan, np.float32)) == 0


def test_travels_in_one_pass_are_those_of_each_window() -> None:
    _, joints = with_rest("clap", seed=4, fps=30)
    joints[np.random.default_rng(0).random(joints.shape[:2]) < 0.3] = np.nan
    joints[-5:, _HEAD] = np.nan
    firsts = np.array([0, 7, 7, 50, len(joints) - 5, len(joints) - 1])
    travels = travels_m(joints, firsts)
    np.testing.assert_allclose(travels, [travel_m(joints[first:]) for first in firsts], atol=1e-6)
    assert travels[0] > 0.5
    assert travels[-1] == 0


def test_speed_is_what_the_fastest_extremity_has_over_the_hips() -> None:
    timestamps_s = np.arange(60) / 30
    joints = np.zeros((60, 25, 3), np.float32)
    joints[:, _HAND, 0] = 1.5 * timestamps_s
    joints[:, _HEAD, 1] = 0.5 * timestamps_s
    walking = (2 * timestamps_s)[:, None].astype(np.float32)
    for moved in (joints, joints + walking[..., None]):
        speed_m_s = extremity_speed_m_s(timestamps_s, moved)
        assert speed_m_s.dtype == np.float32
        np.testing.assert_allclose(speed_m_s, 1.5, rtol=1e-4)


def test_hidden_hips_hide_no_movement() -> None:
    timestamps_s, joints = with_rest("wave", seed=1, fps=30)
    seen = trimmed(timestamps_s, joints)
    joints[:, 0] = np.nan
    hidden = trimmed(timestamps_s, joints)
    assert abs(hidden.start - seen.start) <= 6
    assert abs(hidden.stop - seen.stop) <= 6


# Trimming


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("seed", "fps"), [(1, 30.0), (2, 12.0)])
def test_rest_is_cut_at_both_ends_and_the_movement_is_left(action: str, seed: int, fps: float) -> None:
    timestamps_s, joints = with_rest(action, seed, fps)
    kept = trimmed(timestamps_s, joints)
    begin_s, end_s = timestamps_s[kept][0], timestamps_s[kept][-1]
    assert begin_s > 0.9
    assert timestamps_s[-1] - end_s > 0.9
    assert travel_m(joints[kept]) > 0.95 * travel_m(joints)
    for cut in (joints[: kept.start], joints[kept.stop :]):
        assert travel_m(cut) < 0.1
    assert kept == trimmed(timestamps_s + 1000, joints)


def test_trimming_again_cuts_no_more_than_the_margins() -> None:
    for seed in range(5):
        timestamps_s, joints = with_rest("clap", seed, 30.0)
        once = trimmed(timestamps_s, joints)
        again = trimmed(timestamps_s[once], joints[once])
        assert again.start <= 5
        assert once.stop - once.start - again.stop <= 5


def test_a_wider_margin_keeps_more() -> None:
    timestamps_s, joints = with_rest("bow", 0, 30.0)
    kept = [trimmed(timestamps_s, joints, margin_s=margin_s) for margin_s in (0.0, 0.15, 0.5, 100.0)]
    assert [part.start for part in kept] == sorted((part.start for part in kept), reverse=True)
    assert [part.stop for part in kept] == sorted(part.stop for part in kept)
    assert kept[-1] == slice(0, len(joints))


def test_a_clip_in_which_nothing_moves_is_kept_whole() -> None:
    joints = still()
    assert trimmed(np.arange(60) / 30, joints) == slice(0, 60)
    # Walking as one is no movement of the limbs.
    assert trimmed(np.arange(60) / 30, joints + np.linspace(0, 3, 60, dtype=np.float32)[:, None, None]) == slice(0, 60)


@pytest.mark.parametrize("num_frames", [0, 1, 2, 3])
def test_a_clip_of_few_frames_is_kept_whole(num_frames: int) -> None:
    assert trimmed(np.arange(num_frames) / 30, still(num_frames)) == slice(0, num_frames)


def test_missing_joints_do_not_disturb() -> None:
    timestamps_s, joints = with_rest("raise_arms", 3, 30.0)
    whole = trimmed(timestamps_s, joints)
    rng = np.random.default_rng(0)
    joints[rng.random(joints.shape[:2]) < 0.1] = np.nan
    joints[10] = np.nan
    part = trimmed(timestamps_s, joints)
    assert abs(part.start - whole.start) <= 3
    assert abs(part.stop - whole.stop) <= 3
    joints[:, _HAND : _HAND + 1] = np.nan
    joints[:, _WRIST] = np.nan
    assert trimmed(timestamps_s, joints).start > 0
    nobody = np.full_like(joints, np.nan)
    assert trimmed(timestamps_s, nobody) == slice(0, len(joints))
    assert not extremity_speed_m_s(timestamps_s, nobody).any()
