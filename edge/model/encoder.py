"""The encoder on the device: windows in, embeddings out, by whichever engine.

Shapes: N windows, T frames, V = 25, C = 3, E embedding size, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Protocol

import numpy as np

from edge.model.bundle import BundleInfo, bundle_statistics
from edge.model.engines import Engine
from edge.model.statistics import BaseStatistics
from edge.motion import window_from_movement
from edge.protocol import EngineReport
from streams.arrays import Array
from streams.errors import BundleError, EngineError
from streams.movement import Movement

# A thousand windows at once would take gigabytes in the encoder.
_BATCH = 32


class Encoder(Protocol):
    """Turn windows into embeddings; `statistics`, where the bundle has them, are for the distribution classifier."""

    @property
    def info(self) -> BundleInfo:
        """What the bundle says of itself."""

    @property
    def statistics(self) -> BaseStatistics | None:
        """The statistics of the base classes; None where the bundle has none."""

    def encode(self, windows_NTVC: Array) -> Array:
        """Return the embeddings of windows (N, T, 25, 3), shape (N, E), float32. Raises BundleError, EngineError."""

    def encode_with_features(self, windows_NTVC: Array) -> tuple[Array, Array]:
        """Return embeddings (N, E) and features (N, F), float32. Raises as `encode` does."""


def embed_movements(encoder: Encoder, movements: Sequence[Movement]) -> Array:
    """Return the embeddings of whole movements, shape (N, E), float32. Raises as `encode` does."""
    none_0E = np.zeros((0, encoder.info.embedding_size), np.float32)
    return np.concatenate([none_0E, *(embeddings for embeddings, _ in embed_batches(encoder, movements))])


def embed_batches(
    encoder: Encoder, movements: Sequence[Movement], *, size: int = _BATCH, with_features: bool = False
) -> Iterator[tuple[Array, Array]]:
    """Yield embeddings (N, E) and, where wanted, features (N, F) of whole movements, `size` at a time.

    F is 0 where they are not wanted. Raises as `encode` and `encode_with_features` do.
    """
    for start in range(0, len(movements), size):
        batch = movements[start : start + size]
        windows_NTVC = np.stack([window_from_movement(movement, encoder.info.num_frames) for movement in batch])
        if with_features:
            yield encoder.encode_with_features(windows_NTVC)
        else:
            yield encoder.encode(windows_NTVC), np.zeros((len(batch), 0), np.float32)


class BundleEncoder:
    """Encode with a bundle's encoder in an engine; safe for two threads, one waits for the other.

    `asked`: the engine that the config names; `not_used`: why each of the others was not taken.
    """

    def __init__(
        self,
        info: BundleInfo,
        bundle: Path,
        engine: Engine,
        *,
        asked: str = "auto",
        not_used: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Take a bundle's description, its folder and the engine that runs its encoder. Raises as `encode` does."""
        self.info = info
        self.statistics = bundle_statistics(info, bundle)
        self.engine = engine
        self._asked, self._not_used = asked, dict(not_used)
        self._lock = Lock()
        # What the bundle says is held against what the encoder does, and the first window is not slow.
        embeddings_NE, features_NF = self._run(np.zeros((2, info.num_frames, 25, 3), np.float32))
        self._num_features = features_NF.shape[1]
        if embeddings_NE.shape != (2, info.embedding_size):
            raise BundleError(
                f"{bundle}: the encoder turns 2 windows into embeddings of shape {embeddings_NE.shape}, "
                f"expected (2, {info.embedding_size}) as bundle.json says"
            )
        if self.statistics is not None and self._num_features != self.statistics.means_BF.shape[1]:
            raise BundleError(
                f"{bundle}: the encoder turns 2 windows into features of shape {features_NF.shape}, "
                f"expected (2, {self.statistics.means_BF.shape[1]}) as statistics.npz has",
                hint="Export the bundle anew.",
            )

    def encode(self, windows_NTVC: Array) -> Array:
        """Return embeddings, shape (N, E), float32, for windows (N, T, 25, 3), float32.

        Raises BundleError for windows of another shape, EngineError where the engine fails.
        """
        return self._run(windows_NTVC)[0]

    def encode_with_features(self, windows_NTVC: Array) -> tuple[Array, Array]:
        """Return embeddings (N, E) and features (N, F), not negative, both float32, in one pass.

        Raises BundleError for windows of another shape, and where the encoder gives no features; EngineError where
        the engine fails.
        """
        if not self._num_features:
            raise BundleError(
                f"the encoder {self.info.name!r} gives embeddings: the distribution classifier needs `features`",
                hint="`crossglg-edge export` writes a bundle that has them.",
            )
        return self._run(windows_NTVC)

    def report(self) -> EngineReport:
        """Return which engine was asked for, which runs, and why not another, for people and scripts."""
        engine = self.engine
        return EngineReport(asked=self._asked, runs=engine.name, details=dict(engine.details), not_used=self._not_used)

    def _run(self, windows_NTVC: Array) -> tuple[Array, Array]:
        if windows_NTVC.shape[1:] != (self.info.num_frames, 25, 3) or windows_NTVC.dtype != np.float32:
            raise BundleError(
                f"the encoder {self.info.name!r} cannot encode windows of shape {windows_NTVC.shape}, "
                f"{windows_NTVC.dtype}: expected (N, {self.info.num_frames}, 25, 3), float32"
            )
        if not len(windows_NTVC):
            return np.zeros((0, self.info.embedding_size), np.float32), np.zeros((0, self._num_features), np.float32)
        with self._lock:
            # A copy each: the engine's own arrays are valid until the next call, which may be another thread's.
            embeddings_NE, features_NF = map(np.array, self.engine.run(np.ascontiguousarray(windows_NTVC)))
        if not np.isfinite(embeddings_NE).all():
            raise EngineError(
                f"{self.engine.name} gave embeddings that are no finite numbers "
                f"({'so are the windows' if not np.isfinite(windows_NTVC).all() else 'the windows are finite'})"
            )
        return embeddings_NE, features_NF
