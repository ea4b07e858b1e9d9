"""OpenVINO on the CPU: fp32 as fast as ONNX Runtime, bf16 10 to 20 % faster where the CPU computes in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from edge.config import Model
from edge.model.bundle import BundleInfo
from streams.arrays import Array
from streams.errors import BundleError, EngineError

_HINTS = {"auto": "f32", "fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
# A dynamic batch is 10 to 70 % slower than a fixed one, so a batch is run in pieces of these sizes. Each takes
# 0.3 s to compile and 40 MB. OpenVINO's own file format (IR) is read no faster than ONNX.
_SIZES = (4, 2, 1)


def import_openvino() -> Any:
    """Import OpenVINO without its converter. Raises EngineError("not_installed").

    The converter (openvino.tools.ovc), which `import openvino` would import, sends usage data to Google and writes
    ~/intel. OpenVINO takes its absence well.
    """
    converter = "openvino.tools.ovc"
    is_blocked = converter not in sys.modules
    if is_blocked:
        sys.modules[converter] = None  # type: ignore[assignment]
    try:
        import openvino
    except Exception as error:  # a broken native library raises OSError and others
        raise EngineError(
            f"OpenVINO cannot be imported: {error}", code="not_installed", hint="pip install 'crossglg-edge[openvino]'"
        ) from error
    finally:
        if is_blocked:
            del sys.modules[converter]
    return openvino


class OpenVino:
    """Run an ONNX file in OpenVINO; `precision` as in the configuration."""

    name = "openvino"

    def __init__(self, onnx: Path, num_frames: int, *, precision: str = "auto", num_threads: int = 1) -> None:
        openvino = import_openvino()
        hint = _HINTS[precision]
        core = openvino.Core()
        able = {"FP32", "BF16", "FP16"}.intersection(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        if {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}[hint] not in able:
            raise EngineError(
                f'precision = "{precision}": this CPU does not compute in it, only in {" and ".join(sorted(able))}',
                code="no_device",
                hint='Set precision = "auto".',
            )
        try:
            model = core.read_model(onnx)
            names = [output.any_name for output in model.outputs]
        except RuntimeError as error:
            raise BundleError(f"{onnx} cannot be read by OpenVINO: {error}") from error
        options = {
            # Left to itself, OpenVINO takes bf16 in silence where the CPU has it.
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": num_threads,
            "PERFORMANCE_HINT": "LATENCY",
            # A thread that is tied to a core waits there for the camera's process.
            "ENABLE_CPU_PINNING": False,
        }
        self._requests: dict[int, Any] = {}
        try:
            for size in _SIZES:
                model.reshape([size, num_frames, 25, 3])
                compiled = core.compile_model(model, "CPU", options)
                self._requests[size] = compiled.create_infer_request()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot compile {onnx}: {error}") from error
        self._outputs = [name for name in ("embeddings", "features") if name in names]
        self.details: dict[str, str | int] = {
            "version": str(openvino.__version__),
            "device": str(core.get_property("CPU", "FULL_DEVICE_NAME")),
            "precision": _PRECISIONS[compiled.get_property("INFERENCE_PRECISION_HINT").to_string()],
            "num_threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
        }

    def run(self, windows_NTVC: Array) -> tuple[Array, Array]:
        pieces, start = [], 0
        while start < len(windows_NTVC):
            size = next(size for size in _SIZES if size <= len(windows_NTVC) - start)
            try:
                found = self._requests[size].infer({0: windows_NTVC[start : start + size]}, share_inputs=True)
            except RuntimeError as error:
                raise EngineError(f"OpenVINO failed on windows of shape {windows_NTVC.shape}: {error}") from error
            pieces.append([found[name] for name in self._outputs])
            start += size
        embeddings_NE, *features = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        return embeddings_NE, features[0] if features else np.zeros((len(windows_NTVC), 0), np.float32)

    def close(self) -> None:
        self._requests.clear()


def open_engine(info: BundleInfo, bundle: Path, model: Model) -> OpenVino:
    """Compile the bundle's encoder.onnx for this CPU. Raises BundleError, EngineError."""
    return OpenVino(bundle / "encoder.onnx", info.num_frames, precision=model.precision, num_threads=model.num_threads)
