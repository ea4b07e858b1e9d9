"""One body over time: its figures, its parts."""

from __future__ import annotations

import numpy as np
import pytest

from streams.movement import Movement


def movement(num_frames: int = 61, fps: float = 30.0) -> Movement:
    joints_m = np.zeros((num_frames, 25, 3), np.float32)
    joints_m[:, 5:] = np.nan
    return Movement(timestamps_s=100 + np.arange(num_frames) / fps, joints_m=joints_m)


def test_a_movement_tells_its_length_rate_and_share_of_joints_seen() -> None:
    two_seconds = movement()
    assert len(two_seconds) == 61
    assert two_seconds.duration_s == pytest.approx(2.0)
    assert two_seconds.fps == pytest.approx(30.0)
    assert two_seconds.joints_seen == pytest.approx(5 / 25)
    assert two_seconds.is_seen


@pytest.mark.parametrize("num_frames", [0, 1])
def test_of_fewer_than_two_frames_there_is_no_duration_and_no_rate(num_frames: int) -> None:
    short = movement(num_frames)
    assert (len(short), short.duration_s, short.fps) == (num_frames, 0.0, 0.0)
    assert short.joints_seen == pytest.approx(num_frames * 5 / 25)
    assert short.is_seen == bool(num_frames)


def test_a_joint_is_seen_with_all_three_coordinates() -> None:
    nobody = movement()
    nobody.joints_m[:, :, 2] = np.nan
    assert not nobody.is_seen


def test_a_part_is_a_view_that_keeps_its_time_unless_it_is_to_begin_at_zero() -> None:
    whole = movement()
    part = whole.part(slice(30, 45))
    assert np.shares_memory(part.joints_m, whole.joints_m)
    assert part.timestamps_s[0] == whole.timestamps_s[30]
    assert part.from_zero().timestamps_s[0] == 0
    assert part.from_zero().duration_s == pytest.approx(part.duration_s)
    assert len(whole.part(slice(0)).from_zero()) == 0
