"""The library: config, encoder and gallery together, which a command needs with a daemon or without."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from edge.config import Config
from edge.gallery import Gallery
from edge.model import BundleEncoder, embed_movements, open_encoder
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
    if config.model.matching == "calibrated" and encoder.statistics is None:
        raise ConfigError(
            f'matching = "calibrated" needs a model bundle with base statistics, {encoder.info.name!r} has none',
            hint='`crossglg-edge export` writes them; matching = "cosine" needs none.',
        )

    path = Path(config.gallery.path).expanduser()
    gallery = Gallery(path, embed=partial(embed_movements, encoder), model_sha256=encoder.info.onnx_sha256)
    return Library(config=config, encoder=encoder, gallery=gallery)


def created_now() -> str:
    """Return the present moment, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
