"""One file an engine: from a bundle to what a device runs, each compared with the bundle where it can run here."""

from export.engines import tensor_rt
from export.engines.onnx_fp16 import write_fp16
from export.engines.open_vino import write_ir
from export.engines.torch_tensor_rt import write_engine
from export.engines.triton import write_triton_repository

__all__ = ["tensor_rt", "write_engine", "write_fp16", "write_ir", "write_triton_repository"]
