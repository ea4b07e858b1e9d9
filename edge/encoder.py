"""The encoder on the device: windows in, embeddings out.

Shapes: N windows, T frames, V = 25, C = 3, D embedding size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from edge.bundle import BundleInfo, read_bundle
from streams.errors import BundleError

Array = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Turn windows into embeddings of length 1."""

    @property
    def info(self) -> BundleInfo: ...

    def encode(self, windows_NTVC: Array) -> Array: ...


class OnnxEncoder:
    """Run a bundle's encoder in ONNX Runtime on the CPU."""

    def __init__(self, bundle: Path | None = None, *, num_threads: int = 1) -> None:
        self.info, onnx = read_bundle(bundle)
        options = onnxruntime.SessionOptions()
        # More threads are slower on busy cores, and spinning ones take the core from the camera.
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own unrelated types
            raise BundleError(f"{onnx} cannot be loaded by ONNX Runtime: {error}") from error
        # What the bundle says is held against what the encoder does, and the first window is not slow.
        embeddings_ND = self.encode(np.zeros((2, self.info.num_frames, 25, 3), np.float32))
        if embeddings_ND.shape != (2, self.info.embedding_size):
            raise BundleError(
                f"{onnx} turns 2 windows into embeddings of shape {embeddings_ND.shape}, "
                f"expected (2, {self.info.embedding_size}) as bundle.json says"
            )

    def encode(self, windows_NTVC: Array) -> Array:
        """Return embeddings of length 1, shape (N, D), float32, for windows (N, T, 25, 3), float32.

        Raises BundleError for windows of another shape.
        """
        if not len(windows_NTVC):
            return np.zeros((0, self.info.embedding_size), np.float32)
        try:
            (embeddings,) = self._session.run(["embeddings"], {"windows": windows_NTVC})
        except Exception as error:  # onnxruntime raises its own unrelated types
            raise BundleError(
                f"the encoder {self.info.name!r} cannot encode windows of shape {windows_NTVC.shape}, "
                f"{windows_NTVC.dtype}: expected (N, {self.info.num_frames}, 25, 3), float32: {error}"
            ) from error
        return np.asarray(embeddings, np.float32)
