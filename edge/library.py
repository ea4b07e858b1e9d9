"""The library: config, encoder and gallery together, which a command needs with a daemon or without."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from edge.config import Config
from edge.gallery import Gallery
from edge.model import BundleEncoder, BundleInfo, embed_movements, open_encoder
from edge.words import Words, open_words
from streams.errors import BundleError, ConfigError, CrossGLGError, TextToolError


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """Hold what commands on prototypes need, with a daemon or without.

    `words`: None where the words of labels do not count; `words_error` is why.
    """

    config: Config
    encoder: BundleEncoder
    gallery: Gallery
    words: Words | None = None
    words_error: CrossGLGError | None = None


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

    words, words_error = _open_words(config, encoder.info, bundle)
    path = Path(config.gallery.path).expanduser()
    embed = partial(embed_movements, encoder)
    info = encoder.info
    gallery = Gallery(path, embed=embed, model_sha256=info.onnx_sha256, embedding_size=info.embedding_size, words=words)
    return Library(config=config, encoder=encoder, gallery=gallery, words=words, words_error=words_error)


def _open_words(config: Config, info: BundleInfo, bundle: Path | None) -> tuple[Words | None, CrossGLGError | None]:
    """Return the words of a bundle, or why there are none: examples serve without."""
    try:
        return open_words(config.words, info, bundle), None
    except (BundleError, TextToolError) as error:
        return None, error


def created_now() -> str:
    """Return the present moment, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
