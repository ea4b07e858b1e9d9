"""A bundle -> a model repository that Triton and MLServer serve over the Open Inference Protocol v2."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path

import onnxruntime

from edge.model import BundleInfo, read_bundle
from edge.model.engines import MAX_BATCH
from streams.errors import BundleError

_MLSERVER_MODEL = Path(__file__).with_name("mlserver_model.py")
_CONFIG = """\
# {name}: sha256 {sha256}
name: "{name}"
backend: "onnxruntime"
max_batch_size: {max_batch}
input [{inputs}
]
output [{outputs}
]
# Requests that wait are put together; none waits for another to come.
dynamic_batching {{ }}
# One thread each: on a CPU raise the count to the number of cores. On a GPU one is enough.
instance_group [ {{ count: 1 }} ]
parameters {{ key: "intra_op_thread_count" value: {{ string_value: "1" }} }}
"""


def write_triton_repository(bundle: Path | None, out: Path) -> tuple[BundleInfo, Path]:
    """Write OUT/NAME/ for the bundle NAME; return its description and that folder. None is the bundle that is shipped.

    config.pbtxt and 1/model.onnx are Triton's (ONNX Runtime backend, fp32); model-settings.json and the module it
    names are MLServer's, which looks at OUT/settings.json too: written unless there is one. Each server ignores
    the other's files. A folder of that name is replaced as a whole, the rest of OUT stays.
    Raises BundleError.
    """
    info, onnx = read_bundle(bundle)
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", info.name):
        raise BundleError(
            f"the bundle's name {info.name!r} cannot name a model on a server: "
            "expected letters, digits, '.', '_' and '-'",
            hint="Export the run anew with --name.",
        )
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    inputs = {tensor.name: list(tensor.shape[1:]) for tensor in session.get_inputs()}
    outputs = {tensor.name: list(tensor.shape[1:]) for tensor in session.get_outputs()}
    out.mkdir(parents=True, exist_ok=True)
    # Beside `out`, not in it: a server that watches the repository must not take half a model for a model.
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        new, model = Path(folder) / "new", out / info.name
        (new / "1").mkdir(parents=True)
        shutil.copyfile(onnx, new / "1" / "model.onnx")
        (new / "config.pbtxt").write_text(_config(info, inputs, outputs), encoding="utf-8")
        shutil.copyfile(_MLSERVER_MODEL, new / _MLSERVER_MODEL.name)
        (new / "model-settings.json").write_text(_model_settings(info, inputs, outputs), encoding="utf-8")
        if model.exists():
            model.replace(Path(folder) / "old")
        new.replace(model)
    if not (out / "settings.json").exists():
        # In the server's own process, without a log line per request.
        settings = {"debug": False, "parallel_workers": 0}
        (out / "settings.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return info, model


def _config(info: BundleInfo, inputs: dict[str, list[int]], outputs: dict[str, list[int]]) -> str:
    def tensors(shapes: dict[str, list[int]]) -> str:
        # Triton puts the batch in front of `dims` by itself.
        lines = (f'\n  {{ name: "{name}" data_type: TYPE_FP32 dims: {shape} }}' for name, shape in shapes.items())
        return ",".join(lines)

    return _CONFIG.format(
        name=info.name,
        sha256=info.onnx_sha256,
        max_batch=MAX_BATCH,
        inputs=tensors(inputs),
        outputs=tensors(outputs),
    )


def _model_settings(info: BundleInfo, inputs: dict[str, list[int]], outputs: dict[str, list[int]]) -> str:
    def tensors(shapes: dict[str, list[int]]) -> list[dict[str, object]]:
        return [{"name": name, "datatype": "FP32", "shape": [-1, *shape]} for name, shape in shapes.items()]

    settings = {
        "name": info.name,
        "implementation": f"{_MLSERVER_MODEL.stem}.OnnxModel",
        "platform": "onnxruntime",
        "versions": [f"sha256:{info.onnx_sha256}"],
        "inputs": tensors(inputs),
        "outputs": tensors(outputs),
        "parameters": {"uri": "1/model.onnx"},
    }
    return json.dumps(settings, indent=1) + "\n"
