"""One file an engine: from a bundle to what a device runs, each compared with the bundle where it can run here."""

# Its modules, each imported when it is needed: a Jetson builds with TensorRT and has no torch.
__all__ = ["onnx_fp16", "onnx_fp32", "open_vino", "tensor_rt", "torch_tensor_rt", "triton"]
