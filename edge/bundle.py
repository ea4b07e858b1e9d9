"""A model bundle: the folder that holds encoder.onnx and bundle.json, read and verified."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec

from edge.normalize import PREPROCESSING_VERSION
from streams.errors import BundleError

BUNDLE_VERSION = 1
DEFAULT_BUNDLE = Path(__file__).with_name("bundles") / "default"


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Turn a distance into a score: 1 / (1 + exp(slope * (distance - midpoint))).

    Fitted on recordings that the encoder was trained on; `source` says on which.
    """

    midpoint: float
    slope: float
    source: str


class _Version(msgspec.Struct):
    bundle_version: int


class BundleInfo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what an encoder needs and where it comes from (bundle.json).

    The encoder takes `windows`, shape (N, num_frames, 25, 3), float32, from
    edge.normalize.window_from_joints, and gives `embeddings`, shape (N, embedding_size), float32.
    """

    bundle_version: int
    name: str
    encoder: str
    layout: str
    num_frames: Annotated[int, msgspec.Meta(ge=2)]
    preprocessing_version: int
    embedding_size: int
    embedding: str
    onnx_sha256: str
    parameters: int
    calibration: Calibration
    training: dict[str, object]
    licence: str


def read_bundle(path: Path | None = None) -> tuple[BundleInfo, Path]:
    """Return a bundle's description and its verified ONNX file; None is the bundle that is shipped.

    Raises BundleError for a bundle that is incomplete, was altered, or needs another preprocessing.
    """
    path = path or DEFAULT_BUNDLE
    try:
        content = (path / "bundle.json").read_bytes()
        # Another version may have other fields: name that first.
        version = msgspec.json.decode(content, type=_Version).bundle_version
        _check(path, "bundle_version", BUNDLE_VERSION, version)
        info = msgspec.json.decode(content, type=BundleInfo)
        onnx = path / "encoder.onnx"
        digest = hashlib.sha256(onnx.read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(
            f"{path} is not a model bundle: {error.strerror}: {error.filename}",
            hint="A bundle is a folder with encoder.onnx and bundle.json, as `crossglg-edge export` writes it.",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{path / 'bundle.json'}: {error}") from error
    if digest != info.onnx_sha256:
        raise BundleError(
            f"{onnx}: sha256 is {digest[:12]}..., bundle.json says {info.onnx_sha256[:12]}...",
            hint="The file was altered or only half copied: copy the whole bundle again.",
        )
    _check(path, "preprocessing_version", PREPROCESSING_VERSION, info.preprocessing_version)
    _check(path, "layout", "kinect25", info.layout)
    return info, onnx


def _check(path: Path, what: str, expected: object, got: object) -> None:
    if got != expected:
        raise BundleError(
            f"{path}: {what} is {got!r}, this version of crossglg-edge needs {expected!r}",
            hint="Use a bundle made for this version, or install the version that made it.",
        )
