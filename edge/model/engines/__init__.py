"""One file an engine, each behind the small `Engine` protocol, compared with ONNX Runtime before its first use."""

from edge.model.engines import engine_file, inference_protocol, onnx_runtime, open_vino, parity, tensor_rt
from edge.model.engines.cuda import open_cuda
from edge.model.engines.engine import Engine
from edge.model.engines.engine_file import Batch, EngineFile
from edge.model.engines.inference_protocol import MAX_BATCH
from edge.model.engines.onnx_runtime import OnnxRuntime
from edge.model.engines.open_vino import OpenVino, import_openvino
from edge.model.engines.parity import agreement, prove

__all__ = [
    "MAX_BATCH",
    "Batch",
    "Engine",
    "EngineFile",
    "OnnxRuntime",
    "OpenVino",
    "agreement",
    "engine_file",
    "import_openvino",
    "inference_protocol",
    "onnx_runtime",
    "open_cuda",
    "open_vino",
    "parity",
    "prove",
    "tensor_rt",
]
