"""Embeddings are compared by the angle of their learned part and by the alignment of their frames."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.match.distances import Prototypes, distances_between, take_apart
from edge.model.bundle import BundleInfo, read_bundle
from edge.motion.dtw import dtw_distances
from streams.arrays import Array

FRAMES = 16


def embeddings(num: int, seed: int = 0, *, frames: int = FRAMES) -> Array:
    rng = np.random.default_rng(seed)
    learned = rng.normal(size=(num, 8)).astype(np.float32)
    learned /= np.linalg.norm(learned, axis=1, keepdims=True)
    return np.concatenate((learned, rng.normal(size=(num, frames * 75)).astype(np.float32)), axis=1)


def test_without_frames_or_weight_the_distance_is_that_of_the_cosine() -> None:
    a, b = embeddings(3, 1, frames=0), embeddings(5, 2, frames=0)
    np.testing.assert_allclose(distances_between(take_apart(a, 0), take_apart(b, 0), 1.0), 1 - a @ b.T, atol=1e-6)
    a, b = embeddings(3, 1), embeddings(5, 2)
    unweighed = distances_between(take_apart(a, FRAMES), take_apart(b, FRAMES), 0.0)
    np.testing.assert_allclose(unweighed, 1 - a[:, :8] @ b[:, :8].T, atol=1e-6)


def test_the_alignment_compares_where_joints_are_and_how_far_from_their_mean() -> None:
    a, b = embeddings(3, 1), embeddings(5, 2)

    def frames(rows: Array) -> Array:
        places = rows[:, 8:].reshape(-1, FRAMES, 75)
        return np.concatenate((places, 0.7 * (places - places.mean(axis=1, keepdims=True))), axis=2)

    expected = 1 - a[:, :8] @ b[:, :8].T + 0.3 / FRAMES * dtw_distances(frames(a), frames(b), band=3)
    distances = distances_between(take_apart(a, FRAMES), take_apart(b, FRAMES), 0.3)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)


def test_the_same_motion_at_another_pace_is_nearer_than_another_motion() -> None:
    moments = np.linspace(0, 2 * np.pi, FRAMES, dtype=np.float32)
    path = np.sin(moments[:, None] + np.arange(75)).astype(np.float32)
    slow_start = path[np.round(np.linspace(0, 1, FRAMES) ** 1.3 * (FRAMES - 1)).astype(int)]
    other = np.cos(2 * moments[:, None] + np.arange(75)).astype(np.float32)
    learned = np.ones((3, 1), np.float32)
    rows = np.concatenate((learned, np.stack((path, slow_start, other)).reshape(3, -1)), axis=1)
    distances = distances_between(*(take_apart(rows, FRAMES),) * 2, 1.0)
    assert distances[0, 0] == pytest.approx(0, abs=1e-2)
    assert distances[0, 1] < 0.25 * distances[0, 2]


def test_only_the_nearest_by_the_cosine_are_aligned() -> None:
    a, b = take_apart(embeddings(1, 1), FRAMES), take_apart(embeddings(40, 2), FRAMES)
    whole = distances_between(a, b, 0.1)
    some = distances_between(a, b, 0.1, max_aligned=10)
    nearest = np.argsort(1 - a.learned_ND @ b.learned_ND.T)[0, :10]
    np.testing.assert_allclose(some[0, nearest], whole[0, nearest], rtol=1e-5)
    assert np.isinf(np.delete(some[0], nearest)).all()
    assert np.isfinite(distances_between(a, b, 0.1, max_aligned=40)).all()
    assert distances_between(a, take_apart(embeddings(0), FRAMES), 0.1, max_aligned=10).shape == (1, 0)


def with_directions(num: int, seed: int, *, num_learned: int = 300) -> Array:
    """Return embeddings whose learned part, as an encoder's, is strong in some directions and weak in all."""
    rng = np.random.default_rng(seed)
    strength = 1 / (1 + np.arange(num_learned))
    turn, _ = np.linalg.qr(np.random.default_rng(9).normal(size=(num_learned, num_learned)))
    learned = (rng.normal(size=(num, num_learned)) * strength) @ turn
    learned /= np.linalg.norm(learned, axis=1, keepdims=True)
    return np.concatenate((learned, rng.normal(size=(num, FRAMES * 75))), axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def info(tiny_bundle: Path) -> BundleInfo:
    changes = {"embedding_size": 300 + FRAMES * 75, "aligned_frames": FRAMES, "alignment_weight": 0.2}
    return msgspec.structs.replace(read_bundle(tiny_bundle)[0], **changes)


@pytest.mark.parametrize("cohort_weight", [0.0, 0.5])
def test_among_thousands_the_same_prototypes_are_near_as_when_all_are_compared(
    info: BundleInfo, cohort_weight: float
) -> None:
    has_cohort = cohort_weight > 0
    size = info.embedding_size + has_cohort
    info = msgspec.structs.replace(info, embedding_size=size, cohort_weight=cohort_weight)

    def made(num: int, seed: int) -> Array:
        cohort = np.random.default_rng(seed).uniform(0.2, 0.8, size=(num, int(has_cohort)))
        return np.concatenate((with_directions(num, seed), cohort), axis=1).astype(np.float32)

    embeddings_PE = made(3000, 1)
    prototypes = Prototypes(list(embeddings_PE), info)
    every = take_apart(embeddings_PE, FRAMES, has_cohort=has_cohort)
    for seed in range(20, 30):
        windows_NE = made(5, seed)
        windows = take_apart(windows_NE, FRAMES, has_cohort=has_cohort)
        expected = distances_between(windows, every, 0.2, cohort_weight, max_aligned=64)
        distances = prototypes.distances(windows_NE)
        assert np.isfinite(distances).all(axis=0).sum() == 64
        both = np.isfinite(expected) & np.isfinite(distances)
        assert both.all(axis=0).sum() >= 62
        np.testing.assert_allclose(distances[both], expected[both], rtol=1e-4, atol=1e-5)
        assert (distances.argmin(axis=1) == expected.argmin(axis=1)).all()


def test_few_prototypes_are_all_compared_and_none_are_no_error(info: BundleInfo) -> None:
    windows_NE, embeddings_PE = with_directions(2, 1), with_directions(30, 2)
    expected = distances_between(take_apart(windows_NE, FRAMES), take_apart(embeddings_PE, FRAMES), 0.2)
    np.testing.assert_allclose(Prototypes(list(embeddings_PE), info).distances(windows_NE), expected, rtol=1e-5)
    assert Prototypes((), info).distances(windows_NE).shape == (2, 0)
    assert Prototypes(list(embeddings_PE), info).distances(windows_NE[:0]).shape == (0, 30)


def test_thousands_of_like_prototypes_are_no_error(info: BundleInfo) -> None:
    same = with_directions(1, 1)
    prototypes = Prototypes([same[0]] * 2000, info)
    assert len(prototypes) == 2000
    distances = prototypes.distances(np.repeat(same, 2, axis=0))
    assert np.isfinite(distances).all(axis=0).sum() == 64
    assert distances.min() == pytest.approx(0, abs=1e-2)
    assert prototypes.distances(same[:0]).shape == (0, 2000)


def test_what_is_near_to_the_cohort_is_told_to_be_farther_and_both_count_alike() -> None:
    rng = np.random.default_rng(0)
    learned = rng.normal(size=(4, 8))
    learned /= np.linalg.norm(learned, axis=1, keepdims=True)
    cohort = np.array([[0.2], [0.9], [0.4], [1.0]])
    rows = take_apart(np.concatenate((learned, cohort), axis=1), 0, has_cohort=True)
    distances = distances_between(rows, rows, 1.0, 0.5)
    np.testing.assert_allclose(distances, distances.T, atol=1e-6)
    np.testing.assert_allclose(distances, 1 - learned @ learned.T + 1 - (cohort + cohort.T) / 2, atol=1e-6)
