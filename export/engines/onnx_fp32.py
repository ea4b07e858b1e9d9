"""A bundle's own encoder.onnx with the sidecar of an engine file, for other programs that run ONNX."""

from __future__ import annotations

from pathlib import Path

from edge.model import BundleInfo
from edge.model.engines import EngineFile, OnnxRuntime, engine_file, prove


def write_fp32(info: BundleInfo, bundle: Path, folder: Path) -> Path:
    """Copy encoder.onnx to FOLDER and return its path. Raises BundleError, EngineError."""
    onnx, path = bundle / "encoder.onnx", folder / "encoder.onnx"
    runtime = OnnxRuntime(onnx)
    about = EngineFile(
        kind="onnx",
        version=str(runtime.details["version"]),
        precision="fp32",
        onnx_sha256=info.onnx_sha256,
        parity=prove(runtime, info, onnx),
    )
    engine_file.write(path, onnx.read_bytes(), about)
    return path
