"""An encoder that encodes a window once: the same recordings are played with one gallery after another.

Shapes: N windows, T frames, V = 25, C = 3, E values of an embedding, F features.
"""

from __future__ import annotations

import hashlib

import numpy as np

from edge.model import BaseStatistics, BundleInfo, Encoder
from streams.arrays import Array


class RememberingEncoder:
    """Stand in for an encoder, and remember every embedding by its window."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: dict[bytes, Array] = {}

    @property
    def info(self) -> BundleInfo:
        """Return what the bundle says of itself."""
        return self._encoder.info

    @property
    def statistics(self) -> BaseStatistics | None:
        """Return the encoder's base statistics."""
        return self._encoder.statistics

    def encode(self, windows_NTVC: Array) -> Array:
        """Return the embeddings of windows (N, T, 25, 3), shape (N, E)."""
        digests = [hashlib.blake2b(window.tobytes(), digest_size=16).digest() for window in windows_NTVC]
        new = [i for i, digest in enumerate(digests) if digest not in self._known]
        if new:
            found_NE = self._encoder.encode(np.ascontiguousarray(windows_NTVC[new]))
            self._known.update(zip((digests[i] for i in new), found_NE, strict=True))
        return np.stack([self._known[digest] for digest in digests])

    def encode_with_features(self, windows_NTVC: Array) -> tuple[Array, Array]:
        """Return the embeddings and features, (N, F), of windows; these are not remembered."""
        return self._encoder.encode_with_features(windows_NTVC)
