"""The encoder on the device: windows in, embeddings out.

Shapes: N windows, T frames, V = 25, C = 3, E embedding size, F features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from edge.bundle import BundleInfo, bundle_statistics, read_bundle
from edge.calibration import BaseStatistics
from streams.errors import BundleError

Array = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Turn windows into embeddings; `statistics`, where the bundle has them, are for distribution calibration."""

    @property
    def info(self) -> BundleInfo: ...

    @property
    def statistics(self) -> BaseStatistics | None: ...

    def encode(self, windows_NTVC: Array) -> Array: ...

    def encode_with_features(self, windows_NTVC: Array) -> tuple[Array, Array]: ...


class OnnxEncoder:
    """Run a bundle's encoder in ONNX Runtime on the CPU."""

    def __init__(self, bundle: Path | None = None, *, num_threads: int = 1) -> None:
        self.info, onnx = read_bundle(bundle)
        self.statistics = bundle_statistics(self.info, onnx.parent)
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
        if self.statistics is not None:
            num_features = self.statistics.means_BF.shape[1]
            _, features_NF = self.encode_with_features(np.zeros((2, self.info.num_frames, 25, 3), np.float32))
            if features_NF.shape != (2, num_features):
                raise BundleError(
                    f"{onnx} turns 2 windows into features of shape {features_NF.shape}, "
                    f"expected (2, {num_features}) as statistics.npz has",
                    hint="Export the bundle anew.",
                )

    def encode(self, windows_NTVC: Array) -> Array:
        """Return embeddings, shape (N, E), float32, for windows (N, T, 25, 3), float32.

        Raises BundleError for windows of another shape.
        """
        if not len(windows_NTVC):
            return np.zeros((0, self.info.embedding_size), np.float32)
        (embeddings,) = self._run(["embeddings"], windows_NTVC)
        return embeddings

    def encode_with_features(self, windows_NTVC: Array) -> tuple[Array, Array]:
        """Return embeddings (N, E) and features (N, F), not negative, both float32, in one pass.

        Raises BundleError for windows of another shape, and where the encoder gives no features.
        """
        outputs = {output.name: output.shape for output in self._session.get_outputs()}
        if "features" not in outputs:
            raise BundleError(
                f"the encoder {self.info.name!r} gives {', '.join(outputs)}: distribution calibration needs `features`",
                hint="`crossglg-edge export` writes a bundle that has them.",
            )
        if not len(windows_NTVC):
            return self.encode(windows_NTVC), np.zeros((0, outputs["features"][1]), np.float32)
        embeddings, features = self._run(["embeddings", "features"], windows_NTVC)
        return embeddings, features

    def _run(self, outputs: list[str], windows_NTVC: Array) -> list[Array]:
        try:
            found = self._session.run(outputs, {"windows": windows_NTVC})
        except Exception as error:  # onnxruntime raises its own unrelated types
            raise BundleError(
                f"the encoder {self.info.name!r} cannot encode windows of shape {windows_NTVC.shape}, "
                f"{windows_NTVC.dtype}: expected (N, {self.info.num_frames}, 25, 3), float32: {error}"
            ) from error
        return [np.asarray(output, np.float32) for output in found]
