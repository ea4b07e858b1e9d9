"""InfoGCN laid out as its authors have it, as an ONNX graph: what the speed of an encoder is measured against.

The architecture of stnoah1/infogcn (Chi et al., CVPR 2022) for one person, the way most skeleton networks are
written: N, C, T, V order, attention frame by frame, every layer a convolution of its own. Written with the package
`onnx` alone, so that a device without torch has the reference too; benchmarks/plain_infogcn.py is the same for torch.

Shapes: N windows, B = N * T frames, C channels, T frames of a window, V = 25 joints, H = 3 heads, D head channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.arrays import Array
from streams.errors import EngineError
from streams.layouts import INFOGCN_PARENTS

Weights = Callable[[str, tuple[int, ...]], Array]

_BLOCKS = ((64, 1), (64, 1), (64, 1), (128, 2), (128, 1), (128, 1), (256, 2), (256, 1), (256, 1))
_JOINTS, _HEADS = 25, 3


def random_weights(name: str, shape: tuple[int, ...]) -> Array:
    """Return weights as of a trained network in size: one with fresh ones computes denormals, many times slower."""
    if len(shape) == 1:
        return np.full(shape, name.endswith(("weight", "running_var")), np.float32)
    if name.endswith("shared_topology"):
        return np.broadcast_to(np.eye(_JOINTS, dtype=np.float32), shape)
    rng = np.random.default_rng(0)
    return rng.normal(scale=np.prod(shape[1:]) ** -0.5, size=shape).astype(np.float32)


def plain_infogcn(num_classes: int = 60, num_frames: int = 64, weights: Weights = random_weights) -> bytes:
    """Return the model: `windows`, (N, 3, T, 25, 1), to `logits`, (N, num_classes), float32.

    `weights` gives each one of the authors' names and shape. Raises EngineError where onnx is not installed.
    """
    try:
        graph = _Graph(weights)
    except ImportError as missing:
        raise EngineError(
            "the reference, InfoGCN, is built with a package that is not installed: onnx",
            code="not_installed",
            hint="Install it with `pip install onnx`.",
        ) from missing
    bones_VV = np.eye(_JOINTS, dtype=np.float32)
    for joint, parent in enumerate(INFOGCN_PARENTS):
        bones_VV[joint, parent] -= joint != parent
    x = graph.reshaped(graph.op("Transpose", "windows", perm=[0, 4, 2, 3, 1]), (-1, _JOINTS, 3))
    x = graph.linear("to_joint_embedding", graph.op("MatMul", graph.constant(bones_VV), x), 3, 64)
    x = graph.op("Add", x, graph.weight("pos_embedding", (1, _JOINTS, 64)))
    x = graph.op("Transpose", graph.reshaped(x, (-1, num_frames, _JOINTS, 64)), perm=[0, 2, 3, 1])
    x = graph.norm("data_bn", graph.reshaped(x, (-1, _JOINTS * 64, num_frames)), _JOINTS * 64)
    x = graph.op("Transpose", graph.reshaped(x, (-1, _JOINTS, 64, num_frames)), perm=[0, 2, 3, 1])
    channels, length = 64, num_frames
    for number, (wider, stride) in enumerate(_BLOCKS):
        name = f"blocks.{number}"
        gcn = _attention(graph, f"{name}.agcn", x, channels, wider, length)
        shortcut = graph.shortcut(f"{name}.residual", x, channels, wider, stride)
        x = graph.op("Relu", graph.op("Add", _temporal(graph, f"{name}.tcn", gcn, wider, stride), shortcut))
        channels, length = wider, length // stride
    x = graph.reshaped(x, (-1, channels, length * _JOINTS))
    x = graph.op("ReduceMean", x, graph.constant(np.array([2])), keepdims=0)
    x = graph.linear("fc_mu", graph.op("Relu", graph.linear("fc", x, channels, 256)), 256, 256)
    return graph.model(graph.linear("decoder", x, 256, num_classes), num_classes, num_frames)


def _attention(graph: _Graph, name: str, x_NCTV: str, channels: int, wider: int, num_frames: int) -> str:
    """Mix the joints of each frame by attention times a learned topology, then one 1x1 convolution a head."""
    size = channels // 8
    frames_BVC = graph.reshaped(graph.op("Transpose", x_NCTV, perm=[0, 2, 3, 1]), (-1, _JOINTS, channels))
    normed = graph.op(
        "LayerNormalization", frames_BVC, *(graph.weight(f"{name}.norm.{w}", (channels,)) for w in ("weight", "bias"))
    )
    both = graph.reshaped(
        graph.linear(f"{name}.to_qk", normed, channels, 2 * _HEADS * size), (-1, _JOINTS, 2 * _HEADS, size)
    )
    queries, keys = graph.ops("Split", 2, both, axis=2, num_outputs=2)
    queries = graph.op("Transpose", queries, perm=[0, 2, 1, 3])
    scores = graph.op("MatMul", queries, graph.op("Transpose", keys, perm=[0, 2, 3, 1]))
    scores = graph.op("Softmax", graph.op("Mul", scores, graph.constant(np.float32(size**-0.5))), axis=-1)
    scores = graph.op("Mul", scores, graph.weight(f"{name}.shared_topology", (_HEADS, _JOINTS, _JOINTS)))
    total = ""
    for head in range(_HEADS):
        own = graph.op("Gather", scores, graph.constant(np.int64(head)), axis=1)
        mixed = graph.reshaped(graph.op("MatMul", own, frames_BVC), (-1, num_frames, _JOINTS, channels))
        mixed = graph.op("Transpose", mixed, perm=[0, 3, 1, 2])
        mixed = graph.conv(f"{name}.conv_d.{head}", mixed, channels, wider)
        total = graph.op("Add", total, mixed) if total else mixed
    shortcut = graph.shortcut(f"{name}.down", x_NCTV, channels, wider, 1)
    return graph.op("Relu", graph.op("Add", graph.norm(f"{name}.bn", total, wider), shortcut))


def _temporal(graph: _Graph, name: str, x_NCTV: str, channels: int, stride: int) -> str:
    """Look along the time in four branches of a quarter of the channels."""
    quarter, branches = channels // 4, []
    for number in range(3):
        branch = f"{name}.branches.{number}"
        x = graph.conv(f"{branch}.0", x_NCTV, channels, quarter)
        x = graph.op("Relu", graph.norm(f"{branch}.1", x, quarter))
        if number < 2:
            x = graph.conv(f"{branch}.3", x, quarter, quarter, length=5, stride=stride, dilation=1 + number)
        else:
            x = graph.op("MaxPool", x, kernel_shape=[3, 1], strides=[stride, 1], pads=[1, 0, 1, 0])
        branches.append(graph.norm(f"{branch}.4", x, quarter))
    branch = f"{name}.branches.3"
    x = graph.conv(f"{branch}.0", x_NCTV, channels, quarter, stride=stride)
    return graph.op("Relu", graph.op("Concat", *branches, graph.norm(f"{branch}.1", x, quarter), axis=1))


class _Graph:
    """Gather the nodes and weights of an ONNX graph; what is passed on are names of tensors."""

    def __init__(self, weights: Weights) -> None:
        import onnx

        self._onnx = onnx
        self._weights = weights
        self._nodes: list[Any] = []
        self._initializers: dict[str, Any] = {}

    def ops(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        outputs = [f"{kind}_{len(self._nodes)}_{number}" for number in range(count)]
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def constant(self, value: npt.NDArray[Any] | np.generic, name: str = "") -> str:
        name = name or f"constant_{len(self._initializers)}"
        self._initializers[name] = self._onnx.numpy_helper.from_array(np.array(value, order="C"), name)
        return name

    def weight(self, name: str, shape: tuple[int, ...]) -> str:
        return self.constant(self._weights(name, shape).reshape(shape), name)

    def reshaped(self, x: str, shape: tuple[int, ...]) -> str:
        return self.op("Reshape", x, self.constant(np.array(shape, np.int64)))

    def linear(self, name: str, x: str, num_in: int, num_out: int) -> str:
        matrix = self.constant(self._weights(f"{name}.weight", (num_out, num_in)).T, f"{name}.weight")
        return self.op("Add", self.op("MatMul", x, matrix), self.weight(f"{name}.bias", (num_out,)))

    def norm(self, name: str, x: str, channels: int) -> str:
        parts = ("weight", "bias", "running_mean", "running_var")
        return self.op("BatchNormalization", x, *(self.weight(f"{name}.{part}", (channels,)) for part in parts))

    def conv(
        self, name: str, x: str, num_in: int, num_out: int, *, length: int = 1, stride: int = 1, dilation: int = 1
    ) -> str:
        weights = self.weight(f"{name}.weight", (num_out, num_in, length, 1)), self.weight(f"{name}.bias", (num_out,))
        reach = dilation * (length // 2)
        return self.op("Conv", x, *weights, strides=[stride, 1], dilations=[dilation, 1], pads=[reach, 0, reach, 0])

    def shortcut(self, name: str, x: str, num_in: int, num_out: int, stride: int) -> str:
        if num_in == num_out and stride == 1:
            return x
        return self.norm(f"{name}.1", self.conv(f"{name}.0", x, num_in, num_out, stride=stride), num_out)

    def model(self, logits: str, num_classes: int, num_frames: int) -> bytes:
        helper, numbers = self._onnx.helper, self._onnx.TensorProto.FLOAT
        windows = helper.make_tensor_value_info("windows", numbers, ["N", 3, num_frames, _JOINTS, 1])
        output = helper.make_tensor_value_info(logits, numbers, ["N", num_classes])
        graph = helper.make_graph(self._nodes, "infogcn", [windows], [output], list(self._initializers.values()))
        # Versions that the oldest ONNX Runtime allowed by pyproject.toml reads.
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
        return bytes(model.SerializeToString())
