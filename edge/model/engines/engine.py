"""What an engine is: that which runs a bundle's encoder, on whatever hardware.

Shapes: N windows, T frames, V = 25, C = 3, E embedding size, F features.
"""

from __future__ import annotations

from typing import Protocol

from streams.arrays import Array


class Engine(Protocol):
    """Run a bundle's encoder somewhere.

    `details` says what really runs (version, device, precision, threads, file), for people and scripts.
    Used by one thread at a time.
    """

    name: str
    details: dict[str, str | int]

    def run(self, windows_NTVC: Array) -> tuple[Array, Array]:
        """Return embeddings (N, E) and features (N, F), float32, valid until the next call.

        `windows_NTVC`: shape (N, T, 25, 3), float32, contiguous, N >= 1. F is 0 where the encoder has no features.
        Raises BundleError (the model or the input is at fault) or EngineError (the engine or its server failed).
        """
        ...

    def close(self) -> None:
        """Let go of what the engine holds: memory of a device, a connection."""
        ...
