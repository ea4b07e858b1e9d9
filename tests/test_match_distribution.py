"""The distribution classifier: the authors' arithmetic, the statistics' file, and the regression that is fitted.

Shapes: N clips, F features, B base classes, K labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge.match.distribution import DistributionConfig, borrow_distribution, fit, tukey
from edge.match.logistic import logistic_regression
from edge.model.statistics import BaseStatistics, base_statistics, read_statistics, write_statistics
from streams.arrays import Array
from streams.errors import BundleError

ENCODER = "5" * 64
CONFIG = DistributionConfig()


def _features(
    num_classes: int, num_clips: int, num_features: int, seed: int = 0
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Return features as an encoder's ReLU gives them, each class in a few correlated directions, and labels."""
    rng = np.random.default_rng(seed)
    features = []
    for _ in range(num_classes):
        center, spread = rng.exponential(0.5, num_features), rng.normal(size=(8, num_features)) * 0.1
        features.append(center + rng.normal(size=(num_clips, 8)) @ spread)
    noise = rng.normal(size=(num_classes * num_clips, num_features)) * 0.02
    x_NF = np.maximum(np.concatenate(features) + noise, 0)
    return x_NF.astype(np.float32), np.repeat(np.arange(num_classes), num_clips)


def _statistics(num_classes: int = 6, num_clips: int = 20, num_features: int = 24) -> BaseStatistics:
    x_NF, labels_N = _features(num_classes, num_clips, num_features)
    return base_statistics(x_NF, labels_N, [f"base {i}" for i in range(num_classes)], encoder_sha256=ENCODER)


def test_a_small_example_worked_by_hand() -> None:
    # One class with variance 4/3 in both features, one on a diagonal, one far away.
    clips = [[0, 0], [2, 0], [0, 2], [2, 2], [4, 1], [6, 3], [20, 20], [22, 20]]
    statistics = base_statistics(
        np.array(clips, np.float32), np.array([0, 0, 0, 0, 1, 1, 2, 2]), ["a", "b", "c"], encoder_sha256=ENCODER
    )
    assert statistics.means_BF.tolist() == [[1, 1], [5, 2], [21, 20]]
    # (9, 4) becomes (3, 2): sqrt(5) from a, 2 from b, 25.5 from c. As it is, it would be nearest to b and c.
    support_F = tukey(np.array([[9, 4]], np.float32), CONFIG.power)[0]
    assert support_F.tolist() == [3, 2]
    distribution = borrow_distribution(support_F, statistics, CONFIG)
    # ((1, 1) + (5, 2) + (3, 2)) / 3, and the mean of [[4/3, 0], [0, 4/3]] and [[2, 2], [2, 2]], + 0.21 everywhere.
    np.testing.assert_allclose(distribution.mean_F, [3, 5 / 3], rtol=1e-6)
    np.testing.assert_allclose(distribution.covariance_FF, [[1.876667, 1.21], [1.21, 1.876667]], rtol=2e-3)


def test_statistics_hold_the_full_covariance_where_the_rank_allows() -> None:
    x_NF, labels_N = _features(num_classes=4, num_clips=20, num_features=64)
    statistics = base_statistics(x_NF, labels_N, "abcd", encoder_sha256=ENCODER)
    everything = DistributionConfig(num_nearest=1, alpha=0.0)
    for label in range(4):
        covariance_FF = np.cov(x_NF[labels_N == label].T)
        distribution = borrow_distribution(statistics.means_BF[label].astype(np.float32), statistics, everything)
        np.testing.assert_allclose(distribution.covariance_FF, covariance_FF, atol=2e-3 * covariance_FF.max())


def test_past_the_rank_each_feature_keeps_its_variance_and_the_strongest_directions_theirs() -> None:
    rng = np.random.default_rng(0)
    x_NF = np.abs(rng.normal(size=(300, 96)) * np.geomspace(1, 0.05, 96) + 5).astype(np.float32)
    statistics = base_statistics(x_NF, np.zeros(300, np.int64), ["a"], encoder_sha256=ENCODER)
    distribution = borrow_distribution(x_NF[0], statistics, DistributionConfig(alpha=0.0))
    covariance_FF = np.cov(x_NF.T)
    np.testing.assert_allclose(np.diag(distribution.covariance_FF), np.diag(covariance_FF), rtol=5e-3)
    strongest_F = np.linalg.eigh(covariance_FF)[1][:, -1]
    kept = strongest_F @ distribution.covariance_FF @ strongest_F
    assert kept == pytest.approx(strongest_F @ covariance_FF @ strongest_F, rel=5e-3)


def test_samples_have_the_distributions_mean_and_covariance_and_follow_the_seed() -> None:
    statistics = _statistics(num_features=8)
    distribution = borrow_distribution(np.full(8, 0.7, np.float32), statistics, CONFIG)
    samples_SF = distribution.sample(200_000, np.random.default_rng(0))
    np.testing.assert_allclose(samples_SF.mean(axis=0), distribution.mean_F, atol=0.01)
    np.testing.assert_allclose(np.cov(samples_SF.T), distribution.covariance_FF, atol=0.01)
    again, other = (distribution.sample(5, np.random.default_rng(seed)) for seed in (0, 1))
    assert again.tolist() == distribution.sample(5, np.random.default_rng(0)).tolist() != other.tolist()


def test_the_examples_of_a_label_share_its_750_samples() -> None:
    statistics = _statistics()
    features_NF, _ = _features(num_classes=3, num_clips=1, num_features=24, seed=1)
    labels = ["wave", "bow", "wave"]
    rng = np.random.default_rng(7)
    supports_NF = tukey(features_NF, 0.5)
    x, y = [supports_NF], [1, 0, 1]
    for support_F, label, num_samples in zip(supports_NF, [1, 0, 1], [375, 750, 375], strict=True):
        x.append(borrow_distribution(support_F, statistics, CONFIG).sample(num_samples, rng))
        y += [label] * num_samples
    weights_FK, bias_K = logistic_regression(np.concatenate(x), np.array(y), 2)
    classifier = fit(features_NF, labels, statistics, np.random.default_rng(7))
    assert classifier.labels == ("bow", "wave")
    assert classifier.weights_FK.tolist() == weights_FK.tolist()
    assert classifier.bias_K.tolist() == bias_K.tolist()


def test_the_clips_of_new_classes_are_named_from_one_example_each() -> None:
    x_NF, labels_N = _features(num_classes=11, num_clips=30, num_features=24, seed=2)
    is_base = labels_N < 6
    names = [f"base {i}" for i in range(6)]
    statistics = base_statistics(x_NF[is_base], labels_N[is_base], names, encoder_sha256=ENCODER)
    firsts = np.arange(6, 11) * 30
    classifier = fit(x_NF[firsts], [f"new {i:02}" for i in range(6, 11)], statistics, np.random.default_rng(0))
    probabilities_NK = classifier.probabilities(x_NF[~is_base])
    np.testing.assert_allclose(probabilities_NK.sum(axis=1), 1, rtol=1e-5)
    assert (probabilities_NK.argmax(axis=1) == labels_N[~is_base] - 6).mean() > 0.8


def test_a_label_alone_is_certain() -> None:
    features_NF, _ = _features(num_classes=2, num_clips=1, num_features=24)
    classifier = fit(features_NF, ["wave", "wave"], _statistics(), np.random.default_rng(0))
    assert classifier.probabilities(features_NF).tolist() == [[1], [1]]


def _samples(num_labels: int) -> tuple[Array, npt.NDArray[np.int64]]:
    """Return what a classifier is fitted to, 200 samples a label, directions of very different strength."""
    statistics = _statistics()
    rng = np.random.default_rng(3)
    supports_NF = tukey(_features(num_labels, 1, 24, seed=4)[0], 0.5)
    x = [borrow_distribution(support_F, statistics, CONFIG).sample(200, rng) for support_F in supports_NF]
    return np.concatenate(x), np.repeat(np.arange(num_labels), 200)


def _loss(
    x_NF: Array, labels_N: npt.NDArray[np.int64], weights_FK: npt.NDArray[Any], bias_K: npt.NDArray[Any]
) -> float:
    logits_NK = x_NF.astype(np.float64) @ weights_FK + bias_K
    cross_entropy_N = np.log(np.exp(logits_NK).sum(axis=1)) - logits_NK[np.arange(len(x_NF)), labels_N]
    return float(cross_entropy_N.sum() + 0.5 * (weights_FK.astype(np.float64) ** 2).sum())


def test_no_other_weights_have_a_lower_loss() -> None:
    x_NF, labels_N = _samples(5)
    weights_FK, bias_K = logistic_regression(x_NF, labels_N, 5)
    lowest = _loss(x_NF, labels_N, weights_FK, bias_K)
    rng = np.random.default_rng(0)
    for size in (0.01, 0.1, 1.0):
        for _ in range(20):
            other_FK = weights_FK + size * rng.normal(size=weights_FK.shape)
            assert _loss(x_NF, labels_N, other_FK, bias_K) > lowest - 1e-3 * size
    assert _loss(x_NF, labels_N, weights_FK, bias_K + rng.normal(size=5)) > lowest


@pytest.mark.parametrize("num_labels", [2, 5])
def test_the_regression_is_scikit_learns(num_labels: int) -> None:
    linear_model: Any = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is the reference")
    x_NF, labels_N = _samples(num_labels)
    reference = linear_model.LogisticRegression(max_iter=1000, tol=1e-7).fit(x_NF.astype(np.float64), labels_N)
    weights_FK, bias_K = logistic_regression(x_NF, labels_N, num_labels)
    odds_NK = np.exp(x_NF @ weights_FK + bias_K)
    expected_NK = reference.predict_proba(x_NF)
    np.testing.assert_allclose(odds_NK / odds_NK.sum(axis=1, keepdims=True), expected_NK, atol=0.01)


def test_a_search_that_is_cancelled_stops_where_it_is() -> None:
    x_NF, labels_N = _samples(5)
    answers = iter([False, False, True])
    stopped_FK, _ = logistic_regression(x_NF, labels_N, 5, lambda: next(answers))
    whole_FK, _ = logistic_regression(x_NF, labels_N, 5)
    assert stopped_FK.any()
    assert np.abs(stopped_FK - whole_FK).max() > 0.01


def test_labels_without_a_difference_are_equally_likely() -> None:
    x_NF = np.ones((10, 3), np.float32)
    weights_FK, bias_K = logistic_regression(x_NF, np.arange(10) % 2, 2)
    assert not weights_FK.any()
    assert not bias_K.any()


@pytest.mark.parametrize(
    ("value", "words"), [(-0.25, "as low as -0.25"), (np.nan, "not finite"), (np.inf, "not finite")]
)
def test_features_without_a_square_root_are_refused(value: float, words: str) -> None:
    statistics = _statistics()
    x_NF, labels_N = _features(6, 20, 24)
    classifier = fit(x_NF[:2], ["a", "b"], statistics, np.random.default_rng(0))
    x_NF[5, 3] = value
    for refused in (
        lambda: base_statistics(x_NF, labels_N, "abcdef", encoder_sha256=ENCODER),
        lambda: fit(x_NF[4:6], ["a", "b"], statistics, np.random.default_rng(0)),
        lambda: classifier.probabilities(x_NF),
    ):
        with pytest.raises(BundleError, match=words):
            refused()


def test_classes_without_clips_and_features_of_another_size_are_refused() -> None:
    x_NF, labels_N = _features(2, 3, 24)
    with pytest.raises(BundleError, match="there is none of wave, bow"):
        base_statistics(x_NF, labels_N, ["walk", "run", "wave", "bow"], encoder_sha256=ENCODER)
    with pytest.raises(BundleError, match=r"shape \(6, 23\), expected \(6, 24\)"):
        fit(x_NF[:, :23], list("abcdef"), _statistics(), np.random.default_rng(0))


def test_a_class_of_one_clip_has_no_variance() -> None:
    statistics = base_statistics(np.ones((1, 3), np.float32), np.zeros(1, np.int64), ["a"], encoder_sha256=ENCODER)
    assert not borrow_distribution(
        np.ones(3, np.float32), statistics, DistributionConfig(alpha=0.0)
    ).covariance_FF.any()


def test_statistics_of_90_classes_and_256_features_take_less_than_2_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one = base_statistics(rng.random((40, 256), np.float32), np.zeros(40, np.int64), ["a"], encoder_sha256=ENCODER)
    # Noise in every place: nothing can be compressed.
    statistics = BaseStatistics(
        classes=tuple(f"class {i}" for i in range(90)),
        means_BF=rng.random((90, 256)).astype(np.float16),
        factors_BFR=rng.normal(size=(90, *one.factors_BFR.shape[1:])).astype(np.float16),
        stds_BF=rng.random((90, 256)).astype(np.float16),
        encoder_sha256=ENCODER,
    )
    write_statistics(tmp_path / "statistics.npz", statistics)
    assert (tmp_path / "statistics.npz").stat().st_size <= 2_000_000


def test_statistics_are_read_as_they_were_written(tmp_path: Path) -> None:
    path, written = tmp_path / "statistics.npz", _statistics()
    write_statistics(path, written)
    read = read_statistics(path, encoder_sha256=ENCODER)
    assert (read.classes, read.encoder_sha256) == (written.classes, ENCODER)
    for name in ("means_BF", "factors_BFR", "stds_BF"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name), strict=True)


def test_statistics_of_another_encoder_are_refused(tmp_path: Path) -> None:
    write_statistics(tmp_path / "statistics.npz", _statistics())
    with pytest.raises(BundleError, match=r"encoder 555555555555\.\.\., this one is 666666666666\.\.\.") as refused:
        read_statistics(tmp_path / "statistics.npz", encoder_sha256="6" * 64)
    assert "copy the whole bundle" in refused.value.hint


def test_a_file_that_was_half_written_or_altered_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "statistics.npz"
    write_statistics(path, _statistics())
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    for damaged in (b"", content[:10], content[: len(content) // 2], content[:-1], bytes(flipped), b"\x80\x04junk"):
        path.write_bytes(damaged)
        with pytest.raises(BundleError, match="holds no base statistics"):
            read_statistics(path, encoder_sha256=ENCODER)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"means": np.ones((6, 25), np.float16)}, "expected .B, F., .B, F, R."),
        ({"stds": np.ones((5, 24), np.float16)}, "with B = 6 classes"),
        ({"factors": np.ones((6, 24), np.float16)}, "with B = 6 classes"),
        ({"means": np.ones((6, 24), np.float32)}, "means are float32"),
        ({"factors": np.full((6, 24, 2), np.nan, np.float16)}, "expected finite float16"),
        ({"means": np.array([None, 1], object)}, "allow_pickle"),
        ({"header": np.frombuffer(b'{"statistics_version": 2}', np.uint8)}, "statistics_version"),
        ({"header": np.frombuffer(b"{}", np.uint8)}, "missing required field"),
    ],
)
def test_a_file_with_other_content_is_refused(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    path = tmp_path / "statistics.npz"
    write_statistics(path, _statistics())
    with np.load(path) as file:
        content = {name: file[name] for name in file.files}
    np.savez(path, **(content | changed))
    with pytest.raises(BundleError, match=words):
        read_statistics(path, encoder_sha256=ENCODER)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.npz cannot be read: No such file"):
        read_statistics(tmp_path / "none.npz", encoder_sha256=ENCODER)
