"""One-shot classification by distribution calibration, beside the nearest prototype by cosine.

Each example borrows mean and covariance from the base classes nearest to it; a logistic regression is
fitted to samples of those distributions. Source: Yang, Liu, Xu, "Free Lunch for Few-Shot Learning:
Distribution Calibration", ICLR 2021, and its repository, ShuoYang-1998/Few_Shot_Distribution_Calibration.

Shapes: N examples or queries, F features (not negative), B base classes, R rank, K labels, S samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from edge.logistic import logistic_regression
from streams.arrays import Array
from streams.errors import BundleError

Half = npt.NDArray[np.float16]

# At 90 classes of 256 features the file has 1.5 MB. Directions past the 32nd hold 0.5 % of the variance.
RANK = 32

_COPY_AGAIN = "The file was altered, half copied, or is of another bundle: copy the whole bundle again."


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationConfig:
    """Name each choice; the defaults are the authors'. `alpha` is added to every entry of a covariance."""

    power: float = 0.5
    num_nearest: int = 2
    alpha: float = 0.21
    num_samples: int = 750


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BaseStatistics:
    """Hold mean and covariance of each base class, for the encoder `encoder_sha256`.

    `means_BF`, `factors_BFR`, `stds_BF`: float16, as in the file. The covariance of a class is
    factor @ factor.T + diag(std**2): its R strongest directions, and the whole variance of each feature.
    """

    classes: tuple[str, ...]
    means_BF: Half
    factors_BFR: Half
    stds_BF: Half
    encoder_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Distribution:
    """Hold a normal distribution: mean, and covariance factor @ factor.T + diag(std**2), float32."""

    mean_F: Array
    factor_FR: Array
    std_F: Array

    @property
    def covariance_FF(self) -> Array:
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


def base_statistics(
    features_NF: Array, labels_N: npt.NDArray[np.int64], classes: Sequence[str], *, encoder_sha256: str
) -> BaseStatistics:
    """Take the statistics of the base classes over raw features, not negative, float32.

    `labels_N`: an index into `classes`; a class of one clip has no variance. Raises BundleError for
    features that are negative or not finite, and for a class without a clip.
    """
    _check_features(features_NF)
    num_clips = np.bincount(labels_N, minlength=len(classes))
    if not num_clips.all():
        empty = [name for name, num in zip(classes, num_clips, strict=True) if not num]
        raise BundleError(f"base statistics need a clip of every class: there is none of {', '.join(empty)}")
    rank = min(RANK, features_NF.shape[1])
    means, factors, stds = [], [], []
    for label in range(len(classes)):
        own_NF = features_NF[labels_N == label].astype(np.float64)
        mean_F = own_NF.mean(axis=0)
        covariance_FF = (own_NF - mean_F).T @ (own_NF - mean_F) / max(len(own_NF) - 1, 1)
        variances, directions = np.linalg.eigh(covariance_FF)
        factor_FR = (directions * np.sqrt(np.maximum(variances, 0)))[:, -rank:].astype(np.float16)
        # The variance that is left, so that each feature keeps the whole of its own.
        rest_F = np.diag(covariance_FF) - (factor_FR.astype(np.float64) ** 2).sum(axis=1)
        means.append(mean_F)
        factors.append(factor_FR)
        stds.append(np.sqrt(np.maximum(rest_F, 0)))
    return BaseStatistics(
        classes=tuple(classes),
        means_BF=np.array(means, np.float16),
        factors_BFR=np.array(factors),
        stds_BF=np.array(stds, np.float16),
        encoder_sha256=encoder_sha256,
    )


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    statistics_version: Literal[1]
    encoder_sha256: str
    classes: tuple[str, ...]


def write_statistics(path: Path, statistics: BaseStatistics) -> None:
    """Write base statistics to an .npz file of plain arrays."""
    header = _Header(statistics_version=1, encoder_sha256=statistics.encoder_sha256, classes=statistics.classes)
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            header=np.frombuffer(msgspec.json.encode(header), np.uint8),
            means=statistics.means_BF,
            factors=statistics.factors_BFR,
            stds=statistics.stds_BF,
        )


def read_statistics(path: Path, *, encoder_sha256: str) -> BaseStatistics:
    """Read base statistics that belong to an encoder. Raises BundleError."""
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            header = msgspec.json.decode(file["header"].tobytes(), type=_Header)
            means_BF, factors_BFR, stds_BF = file["means"], file["factors"], file["stds"]
        num_features = means_BF.shape[-1]
        expected = (len(header.classes), num_features)
        if means_BF.shape != expected or stds_BF.shape != expected or factors_BFR.shape[:-1] != expected:
            raise ValueError(
                f"means {means_BF.shape}, factors {factors_BFR.shape}, stds {stds_BF.shape}: "
                f"expected (B, F), (B, F, R), (B, F) with B = {len(header.classes)} classes"
            )
        for name, values in (("means", means_BF), ("factors", factors_BFR), ("stds", stds_BF)):
            if values.dtype != np.float16 or not values.size or not np.isfinite(values).all():
                raise ValueError(f"{name} are {values.dtype}, {values.size} values: expected finite float16")
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}", hint=_COPY_AGAIN) from error
    # For a damaged file zipfile and numpy raise a dozen kinds, from zlib.error to a tokenizer's.
    except Exception as error:
        raise BundleError(f"{path} holds no base statistics: {error}", hint=_COPY_AGAIN) from error
    if header.encoder_sha256 != encoder_sha256:
        raise BundleError(
            f"{path} belongs to the encoder {header.encoder_sha256[:12]}..., this one is {encoder_sha256[:12]}...",
            hint=_COPY_AGAIN,
        )
    return BaseStatistics(
        classes=header.classes,
        means_BF=means_BF,
        factors_BFR=factors_BFR,
        stds_BF=stds_BF,
        encoder_sha256=encoder_sha256,
    )


def tukey(features_NF: Array, power: float) -> Array:
    """Return features**power, Tukey's ladder of powers, which makes them less skewed.

    Raises BundleError for features that are negative or not finite: their power would be NaN.
    """
    _check_features(features_NF)
    return np.asarray(features_NF**power, np.float32)


def calibrated_distribution(support_F: Array, statistics: BaseStatistics, config: CalibrationConfig) -> Distribution:
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
    config: CalibrationConfig = CalibrationConfig(),
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
        distribution = calibrated_distribution(support_F, statistics, config)
        num_samples = config.num_samples // num_examples[label]
        x.append(distribution.sample(num_samples, rng))
        y += [names.index(label)] * num_samples
    weights_FK, bias_K = logistic_regression(np.concatenate(x), np.array(y, np.int64), len(names), is_cancelled)
    return Classifier(labels=names, weights_FK=weights_FK, bias_K=bias_K, power=config.power)


def _check_features(features_NF: Array) -> None:
    lowest = float(features_NF.min(initial=0))
    if not np.isfinite(features_NF).all() or lowest < 0:
        what = f"as low as {lowest:.3g}" if lowest < 0 else "not finite"
        raise BundleError(
            f"the encoder's features are {what}: distribution calibration needs finite ones, not negative",
            hint="Use the average of a ReLU's output, as `crossglg-edge export` does.",
        )
