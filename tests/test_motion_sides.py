"""What moves in an example, on which side, and its mirror image.

Shapes: L frames, V = 25 kinect25 joints.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.motion.sides import moved_most, on_side, side_that_moved
from streams.layouts import KINECT25_JOINTS, mirrored_view
from streams.movement import Movement
from streams.performer import perform


def back_and_forth(joint: str, times: int = 2, over_m: float = 0.5, *, noise_m: float = 0.0) -> Movement:
    """Return two seconds of somebody who only moves one joint, so many times there and back."""
    timestamps_s = np.arange(61) / 30
    joints_LV3 = np.repeat(perform("wave", seed=1).joints_m[:1], 61, axis=0)
    joints_LV3 += noise_m * np.random.default_rng(0).standard_normal(joints_LV3.shape).astype(np.float32)
    way = (1 - np.cos(np.linspace(0, 2 * np.pi * times, 61))) / 2
    joints_LV3[:, KINECT25_JOINTS.index(joint), 1] += over_m * way.astype(np.float32)
    return Movement(timestamps_s=timestamps_s, joints_m=joints_LV3)


def test_the_joint_that_moves_is_named_with_the_length_of_its_path() -> None:
    ((joint, path_m),) = moved_most(back_and_forth("ElbowLeft"))
    assert joint == "ElbowLeft"
    assert path_m == pytest.approx(2.0, rel=0.1)


def test_a_sensors_noise_is_no_movement() -> None:
    (first, *_) = moved_most(back_and_forth("ElbowLeft", noise_m=0.005))
    assert first[0] == "ElbowLeft"
    _, noise_m = moved_most(back_and_forth("ElbowLeft", times=0, noise_m=0.005))[0]
    assert noise_m < 0.15


@pytest.mark.parametrize(
    ("action", "first", "side"),
    [("wave", "HandRight", "right"), ("kick", "AnkleRight", "right"), ("bow", "Head", None), ("clap", None, None)],
)
def test_actions_are_told_by_what_moves_and_their_side(action: str, first: str | None, side: str | None) -> None:
    shown = perform(action, seed=1)
    assert first in (None, moved_most(shown)[0][0])
    assert side_that_moved(shown) == side
    mirrored_side = {"right": "left", None: None}[side]
    assert side_that_moved(replace(shown, joints_m=mirrored_view(shown.joints_m))) == mirrored_side


def test_the_side_is_told_though_the_person_walks() -> None:
    shown = perform("wave", seed=1)
    shown.joints_m[:, :, 2] -= shown.timestamps_s.astype(np.float32)[:, None]
    assert side_that_moved(shown) == "right"


def test_missing_joints_do_not_hide_the_side() -> None:
    shown = perform("wave", seed=1)
    shown.joints_m[::3, [10, 11, 23, 24]] = np.nan
    shown.joints_m[:, [0, 12, 16]] = np.nan
    assert side_that_moved(shown) == "right"
    assert np.isfinite([path_m for _, path_m in moved_most(shown)]).all()


def test_mirroring_twice_gives_the_same_joints() -> None:
    joints_LV3 = perform("wave", seed=1).joints_m
    np.testing.assert_array_equal(mirrored_view(mirrored_view(joints_LV3)), joints_LV3)
    mirror = mirrored_view(joints_LV3)
    np.testing.assert_array_equal(mirror[:, KINECT25_JOINTS.index("HandLeft"), 0], -joints_LV3[:, 11, 0])


def test_a_side_that_is_not_asked_for_changes_nothing() -> None:
    shown = perform("wave", seed=1)
    (stored,), note = on_side(shown, None)
    assert stored is shown
    assert note == ""
