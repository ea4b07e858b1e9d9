"""The least time an encoder can take: the multiply-adds of its ONNX graph over this machine's matrix-product rate.

Only products are counted; a network also moves its activations through memory, and no network reaches the floor.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from edge.bench import time_in_turns

_SIDE = 1024


def multiply_adds(model_file: Path) -> int:
    """Return the multiply-adds of the matrix products and convolutions for one window.

    Raises ValueError for a kind of product that is not known here.
    """
    model = onnx.load(model_file)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0]
    batch.Clear()
    batch.dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {weight.name: tuple(weight.dims) for weight in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    return sum(_of_node(node, shapes) for node in inferred.node)


def _of_node(node: Any, shapes: dict[str, tuple[int, ...]]) -> int:
    if not any(word in node.op_type for word in ("MatMul", "Gemm", "Conv", "Einsum", "Attention", "LSTM", "GRU")):
        return 0
    missing = [name for name in (*node.input, *node.output) if not all(shapes.get(name, (0,)))]
    if missing:
        raise ValueError(f"the graph does not tell the shapes of {', '.join(missing)}")
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "MatMul":
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    if node.op_type == "Gemm":
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if attributes.get("transA") else 1]
    if node.op_type == "Conv":
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "Einsum":
        letters = attributes["equation"].decode().partition("->")[0].replace(" ", "").split(",")
        sizes: dict[str, int] = {}
        for name, axes in zip(node.input, letters, strict=True):
            sizes |= dict(zip(axes, shapes[name], strict=True))
        return math.prod(sizes.values())
    raise ValueError(f"the multiply-adds of {node.op_type} are not counted here")


def rates(seconds: float) -> dict[str, float]:
    """Return the best multiply-adds a second, one thread, of each library's product of square matrices.

    The caller has set OPENBLAS_NUM_THREADS=1 before numpy was imported.
    """
    torch.set_num_threads(1)
    a, b = np.random.default_rng(0).normal(size=(2, _SIDE, _SIDE)).astype(np.float32)
    wide = torch.from_numpy(a), torch.from_numpy(b)
    session = _product_session()
    ways = {
        "numpy (OpenBLAS) fp32": partial(np.matmul, a, b),
        "ONNX Runtime (MLAS) fp32": partial(session.run, None, {"a": a, "b": b}),
        "torch fp32": partial(torch.mm, *wide),
        "torch bf16": partial(torch.mm, *(matrix.bfloat16() for matrix in wide)),
    }
    times = time_in_turns(ways, seconds=seconds, num_blocks=5)
    # The fastest call is the one that nothing else disturbed.
    return {name: 1e3 * _SIDE**3 / float(milliseconds.min()) for name, milliseconds in times.items()}


def _product_session() -> onnxruntime.InferenceSession:
    floats, side = onnx.TensorProto.FLOAT, [_SIDE, _SIDE]
    values = {name: onnx.helper.make_tensor_value_info(name, floats, side) for name in "abc"}
    node = onnx.helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = onnx.helper.make_graph([node], "product", [values["a"], values["b"]], [values["c"]])
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 18)])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
