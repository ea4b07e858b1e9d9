"""DTW over many pairs at once equals the textbook loop over one pair."""

from __future__ import annotations

import numpy as np
import pytest

from edge.motion.dtw import dtw_distances
from streams.arrays import Array


def _windows(num: int, seed: int, length: int = 12) -> Array:
    return np.random.default_rng(seed).normal(size=(num, length, 7)).astype(np.float32)


def _dtw_of_one_pair(a_TD: Array, b_TD: Array, band: int) -> float:
    length = len(a_TD)
    reached = np.full((length, length), np.inf)
    for i in range(length):
        for j in range(max(0, i - band), min(length, i + band + 1)):
            before = [reached[p, q] for p, q in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if p >= 0 and q >= 0]
            cost = float(np.linalg.norm(a_TD[i].astype(np.float64) - b_TD[j]))
            reached[i, j] = cost + (min(before) if before else 0.0)
    return float(reached[-1, -1])


@pytest.mark.parametrize("band", [0, 1, 6, 20])
def test_many_pairs_at_once_equal_the_loop_over_one_pair(band: int) -> None:
    a, b = _windows(5, 1), _windows(4, 2)
    expected = [[_dtw_of_one_pair(x, y, band) for y in b] for x in a]
    np.testing.assert_allclose(dtw_distances(a, b, band=band), expected, rtol=1e-5)


def test_how_the_pairs_are_split_does_not_matter() -> None:
    a, b = _windows(9, 3), _windows(5, 4)
    np.testing.assert_allclose(dtw_distances(a, b, max_pairs=1), dtw_distances(a, b), rtol=1e-5)


def test_a_window_is_next_to_itself_and_to_a_slower_start_of_itself() -> None:
    window = _windows(1, 5)
    late = np.concatenate([window[:, :1], window[:, :1], window[:, :-2]], axis=1)
    other = _windows(1, 6)
    itself, shifted, another = dtw_distances(window, np.concatenate([window, late, other]))[0]
    assert itself < 0.05
    assert itself < shifted < another


def test_the_distance_is_symmetric() -> None:
    a, b = _windows(4, 7), _windows(6, 8)
    np.testing.assert_allclose(dtw_distances(a, b), dtw_distances(b, a).T, rtol=1e-5)


def test_one_frame_is_the_euclidean_distance() -> None:
    a, b = _windows(2, 9, length=1), _windows(3, 10, length=1)
    expected = np.linalg.norm(a[:, None, 0] - b[None, :, 0], axis=-1)
    np.testing.assert_allclose(dtw_distances(a, b), expected, rtol=1e-4)


def test_no_windows_give_no_distances() -> None:
    none = np.zeros((0, 12, 7), np.float32)
    assert dtw_distances(none, _windows(3, 11)).shape == (0, 3)
    assert dtw_distances(_windows(3, 11), none).shape == (3, 0)
