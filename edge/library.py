"""The library: config, encoder and gallery together, which a command needs with a daemon or without."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edge.config import Config
from edge.gallery import Gallery
from edge.model import BundleEncoder, open_encoder
from edge.motion import window_from_joints
from streams.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """Hold what commands on prototypes need, with a daemon or without."""

    config: Config
    encoder: BundleEncoder
    gallery: Gallery


def open_library(config: Config) -> Library:
    """Load the encoder and open the gallery that the config names.

    Raises BundleError, ConfigError, EngineError, GalleryError.
    """
    bundle = Path(config.model.bundle).expanduser() if config.model.bundle else None
    encoder = open_encoder(bundle, config.model)
    num_frames = encoder.info.num_frames
    if config.model.matching == "calibrated" and encoder.statistics is None:
        raise ConfigError(
            f'matching = "calibrated" needs a model bundle with base statistics, {encoder.info.name!r} has none',
            hint='`crossglg-edge export` writes them; matching = "cosine" needs none.',
        )

    def embed(examples: Any) -> Any:
        windows = [window_from_joints(times, joints, num_frames) for times, joints in examples]
        return encoder.encode(np.stack(windows)) if windows else np.zeros((0, encoder.info.embedding_size))

    path = Path(config.gallery.path).expanduser()
    gallery = Gallery(path, embed=embed, model_sha256=encoder.info.onnx_sha256)
    return Library(config=config, encoder=encoder, gallery=gallery)


def created_now() -> str:
    """Return the present moment, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
