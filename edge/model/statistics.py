"""The base statistics of the distribution classifier: mean and covariance of each base class, in statistics.npz.

Shapes: N examples, F features (not negative), B base classes, R rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from streams.arrays import Array
from streams.errors import BundleError

Half = npt.NDArray[np.float16]

# At 90 classes of 256 features the file has 1.5 MB. Directions past the 32nd hold 0.5 % of the variance.
RANK = 32

_COPY_AGAIN = "The file was altered, half copied, or is of another bundle: copy the whole bundle again."


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


def base_statistics(
    features_NF: Array, labels_N: npt.NDArray[np.int64], classes: Sequence[str], *, encoder_sha256: str
) -> BaseStatistics:
    """Take the statistics of the base classes over raw features, not negative, float32.

    `labels_N`: an index into `classes`; a class of one clip has no variance. Raises BundleError for
    features that are negative or not finite, and for a class without a clip.
    """
    check_features(features_NF)
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


def check_features(features_NF: Array) -> None:
    """Raise BundleError unless features are finite and not negative."""
    lowest = float(features_NF.min(initial=0))
    if not np.isfinite(features_NF).all() or lowest < 0:
        what = f"as low as {lowest:.3g}" if lowest < 0 else "not finite"
        raise BundleError(
            f"the encoder's features are {what}: the distribution classifier needs finite ones, not negative",
            hint="Use the average of a ReLU's output, as `crossglg-edge export` does.",
        )
