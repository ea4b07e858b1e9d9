"""A bundle's encoder as ONNX in fp16, with float32 at both ends: what TensorRT builds its engines from."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from edge.model import BundleInfo
from edge.model.engines import EngineFile, OnnxRuntime, engine_file, prove
from export.fold import FoldedBranch
from export.frozen import load_branch
from export.onnx import export_onnx
from streams.errors import BundleError

NAME = "encoder-fp16.onnx"
MAX_BYTES = 3_600_000


def write_fp16(info: BundleInfo, bundle: Path, folder: Path) -> Path:
    """Write FOLDER/encoder-fp16.onnx from the bundle's torch weights, where it agrees with encoder.onnx; return it.

    Raises BundleError (no weights, too large), EngineError (parity_failed, or it cannot be written).
    """
    branch = FoldedBranch(load_branch(bundle), torch.float16)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / NAME
        export_onnx(branch, info.num_frames, file)
        runtime = OnnxRuntime(file)
        parity = prove(runtime, info, bundle / "encoder.onnx")
        content = file.read_bytes()
    check_size(len(content))
    about = EngineFile(
        kind="onnx",
        version=str(runtime.details["version"]),
        precision="fp16",
        onnx_sha256=info.onnx_sha256,
        parity=parity,
    )
    engine_file.write(folder / NAME, content, about)
    return folder / NAME


def check_size(num_bytes: int) -> None:
    """Raise BundleError for an encoder of more than MAX_BYTES."""
    if num_bytes > MAX_BYTES:
        raise BundleError(f"the encoder takes {num_bytes:,} bytes in fp16: expected at most {MAX_BYTES:,}")
