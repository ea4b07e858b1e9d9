"""A model bundle: the folder of encoder.onnx, bundle.json, perhaps statistics.npz and words.npz, read and verified."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec

from edge.model.statistics import BaseStatistics, read_statistics
from edge.motion import COMPATIBLE_VERSIONS
from streams.errors import BundleError

BUNDLE_VERSION = 2
DEFAULT_BUNDLE = Path(__file__).parents[1] / "bundles" / "default"


class ScoreCurve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Turn a distance into a score (edge.match.score): 1 / (1 + exp(slope * (distance - midpoint))).

    Fitted on recordings that the encoder was trained on; `source` says on which.
    """

    midpoint: Annotated[float, msgspec.Meta(ge=0, le=100)]
    slope: Annotated[float, msgspec.Meta(gt=0, le=1e9)]
    source: str


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what a threshold costs: false alarms of one label in an hour of a person's movement, and misses.

    `distances`: thresholds, rising. `alarms_per_hour`: at each, how often a label begins that is not done; not
    falling. `missed`: at each, the share of an action's performances by other people than who enrolled it that give
    no event; not rising. `hours`: of movement, times the labels that it was held against. Statistics of
    recordings, which are not in the bundle; `source` says of which.
    """

    distances: tuple[float, ...]
    alarms_per_hour: tuple[float, ...]
    missed: tuple[float, ...]
    hours: float
    source: str

    def __post_init__(self) -> None:
        lengths = {len(self.distances), len(self.alarms_per_hour), len(self.missed)}
        rising = [self.distances, self.alarms_per_hour, [-share for share in self.missed]]
        if len(lengths) > 1 or not self.distances or any(list(curve) != sorted(curve) for curve in rising):
            raise ValueError(
                f"rates of {len(self.distances)} distances: expected as many alarms_per_hour, not falling, and missed, "
                "not rising"
            )


class _Version(msgspec.Struct):
    bundle_version: int


class BundleInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what an encoder needs and where it comes from (bundle.json).

    The encoder takes `windows`, shape (N, num_frames, 25, 3), float32, from
    edge.motion.window_from_movement, and gives `embeddings`, shape (N, embedding_size), float32: a
    learned part of length 1, then `aligned_frames` of 25 joints, then, where `cohort_weight` is not 0, how far the
    learned part is from known actions. How two are compared: edge.match.distances.
    `statistics_sha256`: of statistics.npz, for the distribution classifier (edge.match.distribution); empty: there is
    none. `weights_sha256`: of weights.safetensors, which bundles of before carry and nothing reads: encoder.onnx is
    where the weights are.
    `words_sha256`: of words.npz, for words at enrollment (edge.words); empty: there are none.
    `rates`: None: thresholds cannot be set by false alarms. `dtw_midpoint`: the distance of sliding DTW at which a
    label alarms as often as at the score's midpoint, for the comparison that `evaluate stream` makes.
    """

    bundle_version: int
    name: str
    encoder: str
    layout: str
    num_frames: Annotated[int, msgspec.Meta(ge=2, le=1024)]
    preprocessing_version: int
    embedding_size: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    embedding: str
    aligned_frames: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    alignment_weight: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.0
    cohort_weight: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.0
    onnx_sha256: str
    statistics_sha256: str = ""
    weights_sha256: str = ""
    words_sha256: str = ""
    parameters: int
    # The key in bundle.json is older than the name: to calibrate is what `threshold calibrate` does.
    score_curve: ScoreCurve = msgspec.field(name="calibration")
    rates: Rates | None = None
    dtw_midpoint: float | None = None
    training: dict[str, object]
    licence: str

    def __post_init__(self) -> None:
        if self.num_learned < 0:
            raise ValueError(
                f"embedding_size {self.embedding_size} has no room for aligned_frames {self.aligned_frames}, of 75 each"
            )

    @property
    def num_learned(self) -> int:
        """Count the values of an embedding's learned part."""
        return self.embedding_size - self.aligned_frames * 75 - (self.cohort_weight > 0)


def read_bundle(path: Path | None = None) -> tuple[BundleInfo, Path]:
    """Return a bundle's description and its verified ONNX file; None is the bundle that is shipped.

    Raises BundleError for a bundle that is incomplete, was altered, or needs another preprocessing.
    """
    path = path or DEFAULT_BUNDLE
    try:
        content = (path / "bundle.json").read_bytes()
        # Another version may have other fields: name that first.
        version = msgspec.json.decode(content, type=_Version).bundle_version
        _check(path, "bundle_version", version, BUNDLE_VERSION)
        info = msgspec.json.decode(content, type=BundleInfo)
    except OSError as error:
        raise _no_bundle(path, error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(
            f"{path / 'bundle.json'} does not describe a model bundle of version {BUNDLE_VERSION}: {error}",
            hint="Copy the whole bundle again, or make it anew: `crossglg-edge export RUN`.",
        ) from error
    _check_file(path, "encoder.onnx", info.onnx_sha256)
    _check(path, "preprocessing_version", info.preprocessing_version, *COMPATIBLE_VERSIONS)
    _check(path, "layout", info.layout, "kinect25")
    return info, path / "encoder.onnx"


def bundle_statistics(info: BundleInfo, path: Path) -> BaseStatistics | None:
    """Return the base statistics of the bundle in the folder `path`; None where it has none. Raises BundleError."""
    if not info.statistics_sha256:
        return None
    _check_file(path, "statistics.npz", info.statistics_sha256)
    return read_statistics(path / "statistics.npz", encoder_sha256=info.onnx_sha256)


def words_file(info: BundleInfo, path: Path | None = None) -> Path | None:
    """Return words.npz of the bundle in the folder `path`, verified; None where it has none. Raises BundleError."""
    if not info.words_sha256:
        return None
    path = path or DEFAULT_BUNDLE
    _check_file(path, "words.npz", info.words_sha256)
    return path / "words.npz"


def _check_file(path: Path, name: str, sha256: str) -> None:
    try:
        digest = hashlib.sha256((path / name).read_bytes()).hexdigest()
    except OSError as error:
        raise _no_bundle(path, error) from error
    if digest != sha256:
        raise BundleError(
            f"{path / name}: sha256 is {digest[:12]}..., bundle.json says {sha256[:12]}...",
            hint="The file was altered or only half copied: copy the whole bundle again.",
        )


def _no_bundle(path: Path, error: OSError) -> BundleError:
    return BundleError(
        f"{path} is not a whole model bundle: {error.strerror}: {error.filename}",
        hint="A bundle is a folder as `crossglg-edge export` writes it: copy the whole of it again.",
    )


def _check(path: Path, what: str, got: object, *expected: object) -> None:
    if got not in expected:
        raise BundleError(
            f"{path}: {what} is {got!r}, this version of crossglg-edge needs {' or '.join(map(repr, expected))}",
            hint="Take the bundle that is shipped, by leaving `bundle` out of the config; or make yours anew with this "
            "version, `crossglg-edge train` and `export`; or install the version that made it.",
        )
