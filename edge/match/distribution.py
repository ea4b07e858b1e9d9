"""The distribution classifier: the paper's few-shot classifier, which borrows spread from base classes.

Shapes: N examples or queries, F features (not negative), B base classes, R rank, K labels, S samples.

Each example borrows mean and covariance from the base classes nearest to it; a logistic regression is
fitted to samples of those distributions. Source: Yang, Liu, Xu, "Free Lunch for Few-Shot Learning:
Distribution Calibration", ICLR 2021, and its repository, ShuoYang-1998/Few_Shot_Distribution_Calibration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge.match.logistic import logistic_regression
from edge.model import BaseStatistics, check_features
from streams.arrays import Array
from streams.errors import BundleError


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionConfig:
    """Name the classifier's choices; the defaults are the authors'. `alpha` is added to all entries of a covariance."""

    power: float = 0.5
    num_nearest: int = 2
    alpha: float = 0.21
    num_samples: int = 750


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Distribution:
    """Hold a normal distribution: mean, and covariance factor @ factor.T + diag(std**2), float32."""

    mean_F: Array
    factor_FR: Array
    std_F: Array

    @property
    def covariance_FF(self) -> Array:
        """The covariance of the features, shape (F, F)."""
        return np.asarray(self.factor_FR @ self.factor_FR.T + np.diag(self.std_F**2))

    def sample(self, num_samples: int, rng: np.random.Generator) -> Array:
        """Return samples, shape (S, F), float32."""
        shared_SR = rng.standard_normal((num_samples, self.factor_FR.shape[1]), np.float32)
        own_SF = rng.standard_normal((num_samples, len(self.mean_F)), np.float32)
        return np.asarray(self.mean_F + shared_SR @ self.factor_FR.T + own_SF * self.std_F)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classifier:
    """Hold a fitted logistic regression over `labels`: weights_FK, bias_K, float32."""

    labels: tuple[str, ...]
    weights_FK: Array
    bias_K: Array
    power: float

    def probabilities(self, features_NF: Array) -> Array:
        """Return the probability of each label, shape (N, K), float32; a row adds up to 1.

        Raises BundleError for features that are negative or not finite.
        """
        logits_NK = tukey(features_NF, self.power) @ self.weights_FK + self.bias_K
        odds_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
        return np.asarray(odds_NK / odds_NK.sum(axis=1, keepdims=True))


def tukey(features_NF: Array, power: float) -> Array:
    """Return features**power, Tukey's ladder of powers, which makes them less skewed.

    Raises BundleError for features that are negative or not finite: their power would be NaN.
    """
    check_features(features_NF)
    return np.asarray(features_NF**power, np.float32)


def borrow_distribution(support_F: Array, statistics: BaseStatistics, config: DistributionConfig) -> Distribution:
    """Return the distribution of the class that one example stands for; `support_F` after `tukey`.

    The base statistics are of raw features, as with the authors.
    """
    means_BF = statistics.means_BF.astype(np.float32)
    nearest = np.linalg.norm(means_BF - support_F, axis=1).argsort()[: config.num_nearest]
    # Factors side by side: the sum of their covariances, without ever forming one.
    factors = [*(statistics.factors_BFR[nearest].astype(np.float32) / np.float32(len(nearest)) ** 0.5)]
    everywhere_F1 = np.full((len(support_F), 1), config.alpha**0.5, np.float32)
    return Distribution(
        mean_F=np.concatenate((means_BF[nearest], support_F[None])).mean(axis=0),
        factor_FR=np.concatenate((*factors, everywhere_F1), axis=1),
        std_F=np.sqrt((statistics.stds_BF[nearest].astype(np.float32) ** 2).mean(axis=0)),
    )


def fit(
    features_NF: Array,
    labels: Sequence[str],
    statistics: BaseStatistics,
    rng: np.random.Generator,
    config: DistributionConfig = DistributionConfig(),
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Classifier:
    """Fit a classifier to examples, `features_NF` raw, one label each; labels with more examples share the samples.

    Once `is_cancelled` says so, it returns soon, with a classifier that is of no use.
    Raises BundleError for features that are negative, not finite, or of another size than the statistics'.
    """
    num_features = statistics.means_BF.shape[1]
    if features_NF.shape != (len(labels), num_features):
        raise BundleError(
            f"features have shape {features_NF.shape}, expected ({len(labels)}, {num_features}) as the base "
            "statistics have",
            hint="Statistics and encoder are of different bundles: copy the whole bundle again.",
        )
    supports_NF = tukey(features_NF, config.power)
    num_examples = Counter(labels)
    names = tuple(sorted(num_examples))
    x, y = [supports_NF], [names.index(label) for label in labels]
    for support_F, label in zip(supports_NF, labels, strict=True):
        distribution = borrow_distribution(support_F, statistics, config)
        num_samples = config.num_samples // num_examples[label]
        x.append(distribution.sample(num_samples, rng))
        y += [names.index(label)] * num_samples
    weights_FK, bias_K = logistic_regression(np.concatenate(x), np.array(y, np.int64), len(names), is_cancelled)
    return Classifier(labels=names, weights_FK=weights_FK, bias_K=bias_K, power=config.power)
