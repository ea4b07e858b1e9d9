"""Embeddings are compared by the angle of their learned part and by the alignment of their frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from edge.dtw import dtw_distances
from edge.matching import compared, distances_between

FRAMES = 16
Array = npt.NDArray[np.float32]


def embeddings(num: int, seed: int = 0, *, frames: int = FRAMES) -> Array:
    rng = np.random.default_rng(seed)
    learned = rng.normal(size=(num, 8)).astype(np.float32)
    learned /= np.linalg.norm(learned, axis=1, keepdims=True)
    return np.concatenate((learned, rng.normal(size=(num, frames * 75)).astype(np.float32)), axis=1)


def test_without_frames_or_weight_the_distance_is_that_of_the_cosine() -> None:
    a, b = embeddings(3, 1, frames=0), embeddings(5, 2, frames=0)
    np.testing.assert_allclose(distances_between(compared(a, 0), compared(b, 0), 1.0), 1 - a @ b.T, atol=1e-6)
    a, b = embeddings(3, 1), embeddings(5, 2)
    unweighed = distances_between(compared(a, FRAMES), compared(b, FRAMES), 0.0)
    np.testing.assert_allclose(unweighed, 1 - a[:, :8] @ b[:, :8].T, atol=1e-6)


def test_the_alignment_compares_where_joints_are_and_how_far_from_their_mean() -> None:
    a, b = embeddings(3, 1), embeddings(5, 2)

    def frames(rows: Array) -> Array:
        places = rows[:, 8:].reshape(-1, FRAMES, 75)
        return np.concatenate((places, 0.7 * (places - places.mean(axis=1, keepdims=True))), axis=2)

    expected = 1 - a[:, :8] @ b[:, :8].T + 0.3 / FRAMES * dtw_distances(frames(a), frames(b), band=3)
    distances = distances_between(compared(a, FRAMES), compared(b, FRAMES), 0.3)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)


def test_the_same_motion_at_another_pace_is_nearer_than_another_motion() -> None:
    moments = np.linspace(0, 2 * np.pi, FRAMES, dtype=np.float32)
    path = np.sin(moments[:, None] + np.arange(75)).astype(np.float32)
    slow_start = path[np.round(np.linspace(0, 1, FRAMES) ** 1.3 * (FRAMES - 1)).astype(int)]
    other = np.cos(2 * moments[:, None] + np.arange(75)).astype(np.float32)
    learned = np.ones((3, 1), np.float32)
    rows = np.concatenate((learned, np.stack((path, slow_start, other)).reshape(3, -1)), axis=1)
    distances = distances_between(*(compared(rows, FRAMES),) * 2, 1.0)
    assert distances[0, 0] == pytest.approx(0, abs=1e-2)
    assert distances[0, 1] < 0.25 * distances[0, 2]


def test_only_the_nearest_by_the_cosine_are_aligned() -> None:
    a, b = compared(embeddings(1, 1), FRAMES), compared(embeddings(40, 2), FRAMES)
    whole = distances_between(a, b, 0.1)
    some = distances_between(a, b, 0.1, max_aligned=10)
    nearest = np.argsort(1 - a.learned_ND @ b.learned_ND.T)[0, :10]
    np.testing.assert_allclose(some[0, nearest], whole[0, nearest], rtol=1e-5)
    assert np.isinf(np.delete(some[0], nearest)).all()
    assert np.isfinite(distances_between(a, b, 0.1, max_aligned=40)).all()
    assert distances_between(a, compared(embeddings(0), FRAMES), 0.1, max_aligned=10).shape == (1, 0)
