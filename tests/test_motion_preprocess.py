"""The preprocessing: what a window does not depend on, and what it makes of missing joints.

Shapes: L frames as they came, T frames of a window, V = 25, C = 3, meters.
"""

from __future__ import annotations

import numpy as np
import pytest

from edge.motion.preprocess import (
    MOTION_SHARE,
    PREPROCESSING_VERSION,
    fill_missing,
    pace_by_motion,
    resample,
    stand_up,
    to_body_frame,
    window_from_movement,
    windows_from_joints,
)
from streams.arrays import Array, Times
from streams.errors import CrossGLGError
from streams.layouts import KINECT25_JOINTS, KINECT25_PARENTS
from streams.movement import Movement
from streams.performer import ACTIONS, perform

_J = {name: i for i, name in enumerate(KINECT25_JOINTS)}
_NUM_FRAMES = 64
_FROM_THE_START = np.zeros(1, np.intp)


def clip(action: str = "wave", seed: int = 0) -> tuple[Times, Array]:
    """Return a performance without a missing joint."""
    filled = fill_missing(perform(action, seed=seed))
    return filled.timestamps_s, filled.joints_m


def window_of(timestamps_s: Times, joints: Array, num_frames: int, motion_share: float = MOTION_SHARE) -> Array:
    return window_from_movement(Movement(timestamps_s=timestamps_s, joints_m=joints), num_frames, motion_share)


def turned(joints: Array, degrees: float) -> Array:
    """Turn about the vertical axis."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.asarray(joints @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]), np.float32)


def lengths(window: Array) -> Array:
    return np.asarray(np.linalg.norm(window - window[:, KINECT25_PARENTS], axis=2), np.float32)


# What a window does not depend on


@pytest.mark.parametrize("action", ACTIONS)
def test_a_window_is_the_same_wherever_the_person_stands_and_faces_and_however_tall(action: str) -> None:
    timestamps_s, joints = clip(action)
    window = window_of(timestamps_s, joints, _NUM_FRAMES)
    assert window.shape == (_NUM_FRAMES, 25, 3)
    assert window.dtype == np.float32
    there = np.array([1.5, -0.4, 2], np.float32)
    for other in (joints + there, joints * np.float32(0.6), joints * np.float32(1.2) + there):
        np.testing.assert_allclose(window_of(timestamps_s, other, _NUM_FRAMES), window, atol=1e-4)
    # The median of each coordinate is not turned with the coordinates: centimeters for who walks, squats or kicks.
    for degrees in (20, 90, 180, -130):
        other = turned(joints, degrees) + there
        np.testing.assert_allclose(window_of(timestamps_s, other, _NUM_FRAMES), window, atol=0.03)


def test_a_window_does_not_depend_on_when_it_was_or_how_fast() -> None:
    timestamps_s, joints = clip()
    window = window_of(timestamps_s, joints, _NUM_FRAMES)
    for other_s in (timestamps_s + 86400, timestamps_s * 0.5, timestamps_s * 3 - 7):
        np.testing.assert_allclose(window_of(other_s, joints, _NUM_FRAMES), window, atol=1e-4)


def test_a_window_hardly_depends_on_the_frame_rate() -> None:
    timestamps_s, joints = clip()
    window = window_of(timestamps_s, joints, _NUM_FRAMES)
    half = window_of(timestamps_s[::2], joints[::2], _NUM_FRAMES)
    assert np.abs(half - window)[:-2].mean() < 0.02


def test_the_body_frame_is_where_it_says() -> None:
    window = window_of(*clip(), _NUM_FRAMES)
    np.testing.assert_allclose(np.sort(window[:, _J["SpineBase"]], axis=0)[_NUM_FRAMES // 2], 0, atol=2e-3)
    girdles = sum(window[:, _J[a + "Right"]] - window[:, _J[a + "Left"]] for a in ("Shoulder", "Hip"))
    across = np.median(girdles, axis=0)
    assert across[0] > 0.5
    assert abs(across[2]) < 0.02
    # Up stays up, and ten long bones have five units.
    assert window[:, _J["Head"], 1].min() > window[:, _J["SpineBase"], 1].max()
    bones = lengths(window)[:, [_J[f"{a}{b}"] for a in ("Elbow", "Wrist", "Knee", "Ankle") for b in ("Left", "Right")]]
    spine = np.linalg.norm(window[:, _J["SpineBase"]] - window[:, _J["SpineShoulder"]], axis=1)
    shoulders = np.linalg.norm(window[:, _J["ShoulderLeft"]] - window[:, _J["ShoulderRight"]], axis=1)
    total = np.median(bones, axis=0).sum() + np.median(spine) + np.median(shoulders)
    assert total == pytest.approx(5, abs=0.02)


def test_lengths_and_heights_keep_their_proportions() -> None:
    timestamps_s, joints = clip("jumping_jack")
    samples = resample(timestamps_s, joints, _FROM_THE_START, _NUM_FRAMES)[0]
    window = to_body_frame(samples[None])[0]
    ratio = lengths(window)[:, 2:] / np.maximum(lengths(samples)[:, 2:], 1e-6)
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-3)
    heights = window[..., 1] / ratio[0, 0]
    np.testing.assert_allclose(heights - heights[0, 0], samples[..., 1] - samples[0, 0, 1], atol=1e-3)


def test_a_walk_stays_visible() -> None:
    timestamps_s, joints = clip()
    walk = np.zeros((len(joints), 1, 3), np.float32)
    walk[:, 0, 0] = np.linspace(0, 1.5, len(joints))
    window = window_of(timestamps_s, joints + walk, _NUM_FRAMES)
    assert np.ptp(window[:, _J["SpineBase"], 0]) > 1.5


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("aside_deg", "down_deg"), [(0, 20), (45, 20), (-90, 30), (20, -25)])
def test_a_window_hardly_depends_on_how_the_sensor_is_tilted(action: str, aside_deg: float, down_deg: float) -> None:
    timestamps_s, joints = clip(action)
    window = window_of(timestamps_s, joints, _NUM_FRAMES)
    cos, sin = np.cos(np.deg2rad(down_deg)), np.sin(np.deg2rad(down_deg))
    tilt = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]], np.float32)
    seen = window_of(timestamps_s, turned(joints, aside_deg) @ tilt, _NUM_FRAMES)
    # In units of about 0.6 m; a head would be moved by 0.4 and more.
    assert np.abs(seen - window).mean() < 0.05


def test_who_lies_is_not_set_upright() -> None:
    timestamps_s, joints = clip()
    lying = joints @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)
    window = window_of(timestamps_s, lying, _NUM_FRAMES)
    along = window[:, _J["Head"]] - window[:, _J["AnkleLeft"]]
    assert np.abs(along[:, 1]).max() < 0.5 * np.linalg.norm(along, axis=1).min()


def test_who_is_seen_without_legs_is_set_upright_by_the_trunk() -> None:
    timestamps_s, joints = clip()
    legs = [_J[f"{part}{side}"] for part in ("Knee", "Ankle", "Foot") for side in ("Left", "Right")]
    cos, sin = np.cos(np.deg2rad(25)), np.sin(np.deg2rad(25))
    tilted = np.asarray(joints @ np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]]), np.float32)
    tilted[:, legs] = np.nan
    trunk = window_of(timestamps_s, tilted, _NUM_FRAMES)[:, _J["SpineShoulder"]]
    assert np.median(trunk[:, 1]) > 5 * np.abs(np.median(trunk[:, 2]))


def test_one_noisy_frame_does_not_turn_the_window() -> None:
    timestamps_s, joints = clip()
    window = window_of(timestamps_s, joints, _NUM_FRAMES)
    rng = np.random.default_rng(0)
    for wild in (turned(joints[:1], 90), -joints[:1], rng.normal(size=(1, 25, 3))):
        noisy = joints.copy()
        noisy[:1] = wild
        again = window_of(timestamps_s, noisy, _NUM_FRAMES)
        np.testing.assert_allclose(again[2:], window[2:], atol=0.02)


# Who sits


def seated(joints: Array) -> Array:
    """Put a performer on a chair: thighs forward from hips that stay, shanks down."""
    joints = joints.copy()
    facing = np.array([0, 0, -1], np.float32)
    for side in ("Left", "Right"):
        hip, knee, ankle, foot = (_J[part + side] for part in ("Hip", "Knee", "Ankle", "Foot"))
        thigh, shank = (np.linalg.norm(joints[0, a] - joints[0, b]) for a, b in ((hip, knee), (knee, ankle)))
        joints[:, knee] = joints[:, hip] + thigh * facing
        joints[:, ankle] = joints[:, knee] - shank * np.array([0, 1, 0], np.float32)
        joints[:, foot] = joints[:, ankle] + 0.1 * facing
    return joints


def arms_and_head(window: Array) -> Array:
    names = ("Head", *(f"{part}{side}" for part in ("Elbow", "Wrist", "Hand") for side in ("Left", "Right")))
    return window[:, [_J[name] for name in names]]


def test_who_waves_on_a_chair_is_nearly_as_one_who_waves_and_stands() -> None:
    timestamps_s, joints = clip()
    standing, sitting = (
        to_body_frame(resample(timestamps_s, each, _FROM_THE_START, _NUM_FRAMES)) for each in (joints, seated(joints))
    )
    apart, apart_stood_up = (np.abs(each - standing).mean() for each in (sitting, stand_up(sitting)))
    # What is left: the ankles lie before the neck, so that the whole body seems to lean back.
    assert apart_stood_up < 0.7 * apart
    legs = [_J[f"{part}{side}"] for part in ("Knee", "Ankle", "Foot") for side in ("Left", "Right")]
    np.testing.assert_allclose(stand_up(sitting)[0, :, legs], standing[0, :, legs], atol=0.25)


@pytest.mark.parametrize("action", ["squat", "kick", "bow"])
def test_legs_that_move_or_are_straight_stay_as_they_are(action: str) -> None:
    timestamps_s, joints = clip(action)
    (window,) = resample(timestamps_s, joints, _FROM_THE_START, _NUM_FRAMES)
    framed = to_body_frame(window[None])
    np.testing.assert_allclose(stand_up(framed), framed, atol=0.05)


def test_standing_up_leaves_what_comes_in_as_it_is() -> None:
    timestamps_s, joints = clip()
    framed = to_body_frame(resample(timestamps_s, seated(joints), _FROM_THE_START, _NUM_FRAMES))
    before = framed.copy()
    assert np.abs(stand_up(framed) - before).max() > 0.3
    np.testing.assert_array_equal(framed, before)


def test_who_is_seen_without_legs_is_as_tall_as_with_them() -> None:
    timestamps_s, joints = clip()
    whole = window_of(timestamps_s, joints, _NUM_FRAMES)
    hidden = joints.copy()
    hidden[:, [_J[f"{part}{side}"] for part in ("Knee", "Ankle", "Foot") for side in ("Left", "Right")]] = np.nan
    np.testing.assert_allclose(
        arms_and_head(window_of(timestamps_s, hidden, _NUM_FRAMES)), arms_and_head(whole), atol=0.25
    )


# In time


def test_resampling_is_linear_interpolation_of_each_coordinate() -> None:
    rng = np.random.default_rng(0)
    for num_frames, length in ((2, 2), (64, 2), (64, 5), (16, 200), (33, 33), (3, 90)):
        timestamps_s = 1e5 + np.cumsum(rng.uniform(0.01, 0.4, length))
        joints = rng.normal(size=(length, 25, 3)).astype(np.float32)
        moments = np.linspace(timestamps_s[0], timestamps_s[-1], num_frames)
        naive = [[np.interp(moments, timestamps_s, joints[:, v, c]) for c in range(3)] for v in range(25)]
        samples = resample(timestamps_s, joints, _FROM_THE_START, num_frames)[0]
        assert samples.dtype == np.float32
        np.testing.assert_allclose(samples, np.array(naive).transpose(2, 0, 1), atol=1e-5)
        np.testing.assert_array_equal(samples[0], joints[0])
        np.testing.assert_allclose(samples[-1], joints[-1], atol=1e-6)


def test_one_frame_is_held() -> None:
    timestamps_s, joints = clip()
    held = resample(timestamps_s[:1], joints[:1], _FROM_THE_START, 5)[0]
    np.testing.assert_array_equal(held, np.repeat(joints[:1], 5, axis=0))
    assert np.isfinite(window_of(timestamps_s[:1], joints[:1], _NUM_FRAMES)).all()


def test_a_clock_too_coarse_for_the_moments_does_no_harm() -> None:
    _, joints = clip()
    timestamps_s = np.array([1e15 + i / 8 for i in range(20)])
    samples = resample(timestamps_s, joints[:20], _FROM_THE_START, _NUM_FRAMES)[0]
    assert np.isfinite(samples).all()
    np.testing.assert_allclose(samples[-1], joints[19], atol=1e-6)


# Missing joints


def test_a_missing_joint_is_interpolated_in_time() -> None:
    timestamps_s, joints = clip()
    gaps = joints.copy()
    hand = _J["HandRight"]
    gaps[10:14, hand, 2] = np.nan  # one coordinate is enough
    gaps[:3, hand] = np.nan
    gaps[-2:, hand] = np.inf
    filled = fill_missing(Movement(timestamps_s=timestamps_s, joints_m=gaps)).joints_m
    seen = np.r_[3:10, 14 : len(joints) - 2]
    for c in range(3):
        expected = np.interp(timestamps_s, timestamps_s[seen], joints[seen, hand, c])
        np.testing.assert_allclose(filled[:, hand, c], expected, atol=1e-6)
    others = [v for v in range(25) if v != hand]
    np.testing.assert_array_equal(filled[:, others], joints[:, others])
    assert np.isnan(gaps[:3, hand]).all()


def test_a_joint_that_was_never_seen_takes_its_parents_place() -> None:
    timestamps_s, joints = clip()
    joints[:, [_J["HandLeft"], _J["HandTipLeft"], _J["ThumbLeft"]]] = np.nan
    joints[5, _J["WristLeft"]] = np.nan
    filled = fill_missing(Movement(timestamps_s=timestamps_s, joints_m=joints)).joints_m
    for name in ("HandLeft", "HandTipLeft", "ThumbLeft"):
        np.testing.assert_array_equal(filled[:, _J[name]], filled[:, _J["WristLeft"]])


def test_a_spine_that_was_never_seen_lies_amid_the_joints_that_were() -> None:
    timestamps_s, joints = clip()
    joints[:, [_J["SpineMid"], _J["SpineBase"]]] = np.nan
    filled = fill_missing(Movement(timestamps_s=timestamps_s, joints_m=joints)).joints_m
    expected = np.nanmean(joints, axis=1)
    np.testing.assert_allclose(filled[:, _J["SpineMid"]], expected, atol=1e-5)
    np.testing.assert_allclose(filled[:, _J["SpineBase"]], expected, atol=1e-5)


def test_nobody_seen_is_refused() -> None:
    timestamps_s, joints = clip()
    for missing in (np.nan, np.inf):
        with pytest.raises(CrossGLGError) as refusal:
            window_of(timestamps_s, np.full_like(joints, missing), _NUM_FRAMES)
        assert refusal.value.code == "no_joints"


def test_no_nan_ever_comes_out() -> None:
    rng = np.random.default_rng(0)
    for round_ in range(100):
        length = int(rng.integers(1, 40))
        timestamps_s = np.cumsum(rng.uniform(0.005, 0.5, length))
        joints = rng.normal(scale=rng.choice([0.0, 1e-6, 1.0, 100.0]), size=(length, 25, 3)).astype(np.float32)
        joints[rng.random((length, 25)) < rng.choice([0.1, 0.9, 0.999])] = np.nan
        if round_ % 3 == 0:
            joints[:, rng.random(25) < 0.8] = np.nan
        joints[rng.integers(length), rng.integers(25)] = 0.5
        window = window_of(timestamps_s, joints, _NUM_FRAMES)
        assert window.shape == (_NUM_FRAMES, 25, 3)
        assert window.dtype == np.float32
        assert np.isfinite(window).all()


def test_what_comes_in_is_left_as_it_is() -> None:
    timestamps_s, joints = clip()
    joints[3, 4] = np.nan
    before = joints.copy(), timestamps_s.copy()
    for array in (joints, timestamps_s):
        array.setflags(write=False)
    window_of(timestamps_s, joints, _NUM_FRAMES)
    np.testing.assert_array_equal(joints, before[0])
    np.testing.assert_array_equal(timestamps_s, before[1])


def test_a_pause_and_a_slow_start_count_little() -> None:
    timestamps_s, joints = clip("kick")
    whole = window_of(timestamps_s, joints, 32)
    half = len(joints) // 2
    pause = np.repeat(joints[half : half + 1], len(joints) // 2, axis=0)
    paused = np.concatenate((joints[:half], pause, joints[half:]))
    times_s = np.linspace(0, timestamps_s[-1] * 1.5, len(paused))

    def change(motion_share: float) -> float:
        before = window_of(timestamps_s, joints, 32, motion_share)
        return float(np.abs(window_of(times_s, paused, 32, motion_share) - before).mean())

    assert change(MOTION_SHARE) < 0.5 * change(0.0)
    np.testing.assert_allclose(window_of(timestamps_s, joints, 32), whole)


def test_a_steady_motion_and_a_still_person_keep_their_pace() -> None:
    steady = np.linspace(0, 1, 20, dtype=np.float32)[None, :, None, None] * np.ones((1, 1, 25, 3), np.float32)
    still = np.full((1, 20, 25, 3), 0.5, np.float32)
    # Both ends are as their neighbors, in case they are wrong, so a step there makes no way.
    np.testing.assert_allclose(pace_by_motion(steady, 0.75), steady, atol=0.05)
    np.testing.assert_allclose(pace_by_motion(still, 0.75), still)


def test_the_numbers_of_this_version_stay() -> None:
    rng = np.random.default_rng(1)
    timestamps_s = np.cumsum(rng.uniform(0.02, 0.05, 30))
    joints = rng.normal(size=(30, 25, 3)).astype(np.float32)
    joints[rng.random((30, 25)) < 0.1] = np.nan
    joints[:, 23] = np.nan
    joints[:, [_J["AnkleLeft"], _J["AnkleRight"]]] -= [0.3, 3, 0.6]  # some 15 degrees of tilt
    window = window_of(timestamps_s, joints, 16)
    assert PREPROCESSING_VERSION == 4, "new numbers below, please"
    np.testing.assert_allclose(
        [window.mean(), window.std(), window[0, 3, 0], window[7, 11, 1], window[15, 23, 2]],
        [-0.0447448, 0.2599959, -0.0426397, -0.3197025, 0.0646843],
        atol=1e-5,
    )
    timestamps_s, joints = clip()
    window = window_of(timestamps_s, seated(joints), 16)
    np.testing.assert_allclose(
        [window.mean(), window.std(), window[0, 3, 0], window[7, 11, 1], window[15, 13, 2]],
        [-0.042334, 0.4633713, -0.0933074, 0.8909916, 0.0484323],
        atol=1e-5,
    )


def test_windows_cut_at_once_are_those_cut_one_by_one() -> None:
    timestamps_s, joints = clip()
    firsts = np.array([0, 7, 30, len(joints) - 3], np.intp)
    at_once = windows_from_joints(timestamps_s, joints, firsts, _NUM_FRAMES)
    for window, first in zip(at_once, firsts.tolist(), strict=True):
        np.testing.assert_allclose(window, window_of(timestamps_s[first:], joints[first:], _NUM_FRAMES), atol=1e-5)
