"""ONNX Runtime on the CPU, fp32: the engine that every machine has, and that the others are compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.config import Model
from edge.model.bundle import BundleInfo
from streams.arrays import Array
from streams.errors import BundleError, ConfigError, EngineError


class OnnxRuntime:
    """Run an ONNX file in ONNX Runtime."""

    name = "onnxruntime"

    def __init__(self, onnx: Path, *, num_threads: int = 1) -> None:
        try:
            import onnxruntime
            from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
        except Exception as error:  # a broken native library raises OSError and others
            raise EngineError(
                f"ONNX Runtime cannot be imported: {error}", code="not_installed", hint="pip install onnxruntime"
            ) from error
        self._onnx, self._invalid_argument = onnx, InvalidArgument
        options = onnxruntime.SessionOptions()
        # The arena is no faster here, takes 3 GB for 512 windows (0.4 GB without) and gives nothing back.
        options.enable_cpu_mem_arena = False
        # More threads are slower on busy cores, and spinning ones take the core from the camera.
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises its own unrelated types
            raise BundleError(f"{onnx} cannot be loaded by ONNX Runtime: {error}") from error
        names = [output.name for output in self._session.get_outputs()]
        self._outputs = [name for name in ("embeddings", "features") if name in names]
        self.details: dict[str, str | int] = {
            "version": onnxruntime.__version__,
            "device": "CPU",
            "precision": "fp32",
            "num_threads": num_threads,
        }

    def run(self, windows_NTVC: Array) -> tuple[Array, Array]:
        try:
            embeddings_NE, *features = self._session.run(self._outputs, {"windows": windows_NTVC})
        except self._invalid_argument as error:
            raise BundleError(f"{self._onnx} takes no windows of shape {windows_NTVC.shape}: {error}") from error
        except Exception as error:  # onnxruntime raises its own unrelated types
            raise EngineError(f"ONNX Runtime failed on windows of shape {windows_NTVC.shape}: {error}") from error
        return embeddings_NE, features[0] if features else np.zeros((len(windows_NTVC), 0), np.float32)

    def close(self) -> None:
        pass


def open_engine(info: BundleInfo, bundle: Path, model: Model) -> OnnxRuntime:
    """Open the bundle's encoder.onnx. Raises BundleError, ConfigError."""
    if model.precision not in ("auto", "fp32"):
        raise ConfigError(
            f'precision = "{model.precision}": ONNX Runtime runs fp32 on a CPU',
            hint='Set precision = "auto", or an engine that has it.',
        )
    return OnnxRuntime(bundle / "encoder.onnx", num_threads=model.num_threads)
