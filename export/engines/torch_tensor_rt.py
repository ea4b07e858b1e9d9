"""A bundle's encoder -> a TensorRT engine by way of torch-tensorrt, without ONNX.

Half precision is that of the module's own weights: torch-tensorrt's `enabled_precisions` is ignored in silence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.model import BundleInfo
from edge.model.engines import engine_file
from export.engines.tensor_rt import BATCH, about_fp16, load_library
from streams.errors import EngineError


def write_engine(info: BundleInfo, bundle: Path, folder: Path) -> Path:
    """Build an fp16 engine for the GPU of this machine and write it to FOLDER; return its path.

    Raises EngineError (not_installed, no_device), BundleError (an encoder that torch cannot build).
    """
    import torch

    torch_tensorrt = _import_torch_tensorrt()
    if not torch.cuda.is_available():
        raise EngineError(
            f"torch {torch.__version__} finds no GPU: torch-tensorrt builds on the one that the engine is for",
            code="no_device",
            hint="`crossglg-edge export --to tensorrt-rtx` builds for GPUs that are not here.",
        )
    content = _build(torch_tensorrt, info, bundle)
    version = str(load_library("tensorrt").__version__)
    major, minor = torch.cuda.get_device_capability()
    about = about_fp16(
        info,
        version,
        compute_capabilities=(f"{major}.{minor}",),
        gpu=torch.cuda.get_device_name(),
        cuda=f"torch {torch.__version__}, CUDA {torch.version.cuda}",
    )
    path = folder / f"encoder-fp16-sm{major}{minor}-{version}-torch.engine"
    engine_file.write(path, content, about)
    return path


def _import_torch_tensorrt() -> Any:
    import torch

    try:
        import torch_tensorrt
    except Exception as error:  # beside a torch for the CPU it fails on a missing symbol
        raise EngineError(
            f"torch-tensorrt cannot be imported: {error}",
            code="not_installed",
            hint=f"Install torch for CUDA and the torch-tensorrt of its version, {torch.__version__.split('+')[0]}; "
            "or take `--to tensorrt`, which gives the same engine without it.",
        ) from error
    return torch_tensorrt


def _build(torch_tensorrt: Any, info: BundleInfo, bundle: Path) -> bytes:
    import torch

    from export.onnx import load_branch

    branch = load_branch(bundle, torch.float16).cuda()
    shape = (info.num_frames, 25, 3)
    example = (torch.zeros(BATCH.opt, *shape, device="cuda"),)
    batch = torch.export.Dim("N", min=BATCH.min, max=BATCH.max)
    windows = torch_tensorrt.Input(
        min_shape=(BATCH.min, *shape), opt_shape=(BATCH.opt, *shape), max_shape=(BATCH.max, *shape), dtype=torch.float32
    )
    try:
        content = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(
            torch.export.export(branch, example, dynamic_shapes=({0: batch},)), arg_inputs=[windows]
        )
    except Exception as error:  # whatever its converters raise
        raise EngineError(f"torch-tensorrt {torch_tensorrt.__version__} cannot build the engine: {error}") from error
    return bytes(content)
