"""What holds of every track and every window: slices, invariances, and no NaN.

Shapes: L frames as they came, T frames of a window, V = 25, C = 3, meters.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.motion import BodyTrack, fill_missing, window_from_movement, windows_from_joints
from streams.movement import Movement
from streams.performer import ACTIONS, perform

_NUM_FRAMES = 32
_SEEDS = st.integers(0, 2**32 - 1)


# The track


@given(
    keep_s=st.floats(0.2, 5.0),
    max_rate_fps=st.sampled_from([7.0, 30.0, 120.0]),
    # The intake lets frames through that come 2 % faster than the highest rate.
    gaps=st.lists(st.floats(0.98, 100.0), min_size=1, max_size=400),
    lengths=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5),
)
def test_the_latest_frames_are_a_slice_of_all_that_were_pushed(
    keep_s: float, max_rate_fps: float, gaps: list[float], lengths: list[float]
) -> None:
    timestamps_s = np.cumsum(np.array(gaps) / max_rate_fps)
    joints = np.arange(len(gaps), dtype=np.float32)[:, None, None] + np.zeros((25, 3), np.float32)
    track = BodyTrack(keep_s, max_rate_fps)
    for i, (timestamp_s, joints_VC) in enumerate(zip(timestamps_s.tolist(), joints, strict=True)):
        track.push(timestamp_s, joints_VC)
        length_s = keep_s * lengths[i % len(lengths)]
        times, latest = track.latest(length_s)
        near = timestamps_s[: i + 1] >= timestamp_s - length_s - 1e-6
        np.testing.assert_array_equal(times, timestamps_s[: i + 1][near])
        np.testing.assert_array_equal(latest, joints[: i + 1][near])


# The preprocessing


@st.composite
def clips(draw: st.DrawFn) -> Movement:
    """Draw a performance at any rate, of which any share of the joints is missing, some of them always."""
    movement = perform(draw(st.sampled_from(ACTIONS)), seed=draw(_SEEDS), fps=draw(st.sampled_from([9.0, 15.0, 30.0])))
    missing_share = draw(st.sampled_from([0.0, 0.1, 0.5]))
    missing = np.random.default_rng(draw(_SEEDS)).random(movement.joints_m.shape[:2]) < missing_share
    missing[:, sorted(draw(st.sets(st.integers(0, 24), max_size=6)))] = True
    movement.joints_m[missing] = np.nan
    return movement


@given(clips())
def test_filling_leaves_what_was_seen_and_no_nan(clip: Movement) -> None:
    joints = clip.joints_m
    seen = np.isfinite(joints).all(axis=2)
    filled = fill_missing(clip).joints_m
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[seen], joints[seen])
    np.testing.assert_array_equal(np.isfinite(joints).all(axis=2), seen, "it is a copy that is filled")


@given(clips(), st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=5))
def test_windows_cut_at_once_are_those_cut_one_by_one(clip: Movement, starts: list[float]) -> None:
    whole = fill_missing(clip)
    firsts = (np.array(sorted(starts)) * len(whole)).astype(np.intp)
    at_once = windows_from_joints(whole.timestamps_s, whole.joints_m, firsts, _NUM_FRAMES)
    assert at_once.shape == (len(firsts), _NUM_FRAMES, 25, 3)
    assert np.isfinite(at_once).all()
    for first, window in zip(firsts, at_once, strict=True):
        alone = window_from_movement(whole.part(slice(first, None)), _NUM_FRAMES)
        np.testing.assert_allclose(window, alone, atol=1e-4)


@given(clips(), *(st.floats(-4.0, 4.0) for _ in range(3)), st.floats(0.5, 1.5), st.floats(-1e4, 1e4))
def test_a_window_does_not_depend_on_place_size_or_hour(
    clip: Movement, x_m: float, y_m: float, z_m: float, scale: float, later_s: float
) -> None:
    there = clip.joints_m * np.float32(scale) + np.array([x_m, y_m, z_m], np.float32)
    later = Movement(timestamps_s=clip.timestamps_s + later_s, joints_m=there)
    window = window_from_movement(clip, _NUM_FRAMES)
    assert np.isfinite(window).all()
    np.testing.assert_allclose(window_from_movement(later, _NUM_FRAMES), window, atol=2e-3)


@given(clips(), st.floats(-180.0, 180.0))
def test_a_window_hardly_depends_on_where_the_person_faces(clip: Movement, degrees: float) -> None:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    turned = replace(clip, joints_m=(clip.joints_m @ turn).astype(np.float32))
    window = window_from_movement(clip, _NUM_FRAMES)
    # Medians of each coordinate are not turned with the coordinates: centimeters for who walks, squats or kicks,
    # and a joint that leaps may count at another moment.
    apart = np.abs(window_from_movement(turned, _NUM_FRAMES) - window)
    assert apart.mean() < 0.03
    assert np.percentile(apart, 99) < 0.1
