"""A bundle's encoder as ONNX in fp16, with float32 at both ends: what TensorRT builds its engines from.

Made from encoder.onnx alone, without torch: a Jetson needs the package onnx for it and nothing else.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from edge.model import BundleInfo
from edge.model.engines import EngineFile, OnnxRuntime, engine_file, prove
from streams.errors import BundleError, EngineError

NAME = "encoder-fp16.onnx"
MAX_BYTES = 3_600_000

# Products are worked out in half, with half weights.
_HALF = frozenset({"Gemm", "MatMul", "Conv"})
# Norms and means are not.
_SINGLE = frozenset(
    {"LayerNormalization", "LpNormalization", "Softmax", "ReduceMean", "ReduceL2", "Clip", "Div", "TopK"}
)
# The stem's normalization: millimeters of a joint, scaled up.
_SINGLE_CONSTANTS = frozenset({"scale_VC", "offset_VC"})


def write_fp16(info: BundleInfo, bundle: Path, folder: Path) -> Path:
    """Write FOLDER/encoder-fp16.onnx, where it agrees with the bundle's encoder.onnx, and return it.

    Raises EngineError (not_installed, parity_failed, or it cannot be written), BundleError (too large).
    """
    try:
        import onnx
    except ImportError as missing:
        raise EngineError(
            f"{NAME} is made from {bundle / 'encoder.onnx'} by the package onnx, which is not installed",
            code="not_installed",
            hint="Install it with `pip install onnx`; or run `crossglg-edge export BUNDLE --to onnx-fp16` where it "
            f"is, and put {NAME} and {NAME}.json into {bundle / 'engines'} or {folder}.",
        ) from missing
    content = half_precision(onnx.load(bundle / "encoder.onnx")).SerializeToString()
    check_size(len(content))
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / NAME
        file.write_bytes(content)
        runtime = OnnxRuntime(file)
        parity = prove(runtime, info, bundle / "encoder.onnx")
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


def half_precision(model: Any) -> Any:
    """Return an fp32 ONNX model with half products and weights, and float32 inputs, outputs, norms and means.

    An operation of _HALF is worked out in half, one of _SINGLE in float32, and any other in half once something half
    comes in: what the windows go through before the first product, and beside it, stays in float32.
    """
    import onnx

    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    half = _HalfGraph(graph, onnx)
    for node in graph.node:
        half.add(node)
    for output in graph.output:
        half.give_out(output.name)
    initializers = [*half.constants.values(), *(each for each in graph.initializer if each.data_type != half.single)]
    used = {name for node in half.nodes for name in node.input}
    made = onnx.helper.make_graph(
        half.nodes, graph.name, graph.input, graph.output, [each for each in initializers if each.name in used]
    )
    return onnx.helper.make_model(
        made, ir_version=model.ir_version, opset_imports=model.opset_import, producer_name=model.producer_name
    )


class _HalfGraph:
    """Nodes in the order that they run in, with a cast wherever one hands a float tensor to another of another type."""

    def __init__(self, graph: Any, onnx: Any) -> None:
        self._onnx = onnx
        self.single, self._half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
        self.nodes: list[Any] = []
        self.constants = {each.name: each for each in graph.initializer if each.data_type == self.single}
        # Of float tensors alone: integers, such as shapes, are left as they are.
        self._types = {
            each.name: self.single
            for each in (*graph.input, *graph.value_info, *graph.output)
            if each.type.tensor_type.elem_type == self.single
        }

    def add(self, node: Any) -> None:
        is_half = any(self._types.get(name) == self._half for name in node.input)
        if node.op_type in _SINGLE or not _SINGLE_CONSTANTS.isdisjoint(node.input):
            is_half = False
        elif node.op_type in _HALF:
            is_half = True
        wanted = self._half if is_half else self.single
        inputs = [self._as(wanted, name) for name in node.input]
        del node.input[:]
        node.input.extend(inputs)
        self.nodes.append(node)
        self._types |= {name: wanted for name in node.output if name in self._types}

    def give_out(self, name: str) -> None:
        """Make an output of the graph float32."""
        if self._types[name] == self.single:
            return
        inner = f"{name}/half"
        for node in self.nodes:
            for names in (node.input, node.output):
                for i, each in enumerate(names):
                    names[i] = inner if each == name else each
        self.nodes.append(self._onnx.helper.make_node("Cast", [inner], [name], to=self.single))

    def _as(self, wanted: int, name: str) -> str:
        """Return the name of a float tensor in the wanted type, which is made where it is not there yet."""
        other = f"{name}/{'half' if wanted == self._half else 'single'}"
        if name in self.constants:
            if wanted == self.single:
                return name
            values = self._onnx.numpy_helper.to_array(self.constants[name])
            self.constants[other] = self._onnx.numpy_helper.from_array(values.astype("float16"), other)
        elif self._types.get(name, wanted) == wanted:
            return name
        elif other not in self._types:
            self.nodes.append(self._onnx.helper.make_node("Cast", [name], [other], to=wanted))
            self._types[other] = wanted
        return other
