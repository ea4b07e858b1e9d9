"""Fixtures that more than one test file needs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.bundle import BUNDLE_VERSION, BundleInfo, Calibration
from edge.normalize import PREPROCESSING_VERSION

_NUM_FRAMES, _EMBEDDING_SIZE = 16, 64


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle whose encoder is a fixed random projection of the window, of length 1."""
    onnx = pytest.importorskip("onnx", reason="a test encoder is built with onnx, of the extra `train`")
    num_inputs = _NUM_FRAMES * 25 * 3
    projection = np.random.default_rng(0).normal(size=(num_inputs, _EMBEDDING_SIZE)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Reshape", ["windows", "shape"], ["flat"]),
            onnx.helper.make_node("MatMul", ["flat", "projection"], ["projected"]),
            onnx.helper.make_node("LpNormalization", ["projected"], ["embeddings"], axis=1, p=2),
        ],
        "tiny",
        [onnx.helper.make_tensor_value_info("windows", onnx.TensorProto.FLOAT, ["N", _NUM_FRAMES, 25, 3])],
        [onnx.helper.make_tensor_value_info("embeddings", onnx.TensorProto.FLOAT, ["N", _EMBEDDING_SIZE])],
        [
            onnx.numpy_helper.from_array(np.array([-1, num_inputs]), "shape"),
            onnx.numpy_helper.from_array(projection, "projection"),
        ],
    )
    # Versions that the oldest ONNX Runtime allowed by pyproject.toml reads.
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    content = model.SerializeToString()
    info = BundleInfo(
        bundle_version=BUNDLE_VERSION,
        name="tiny",
        encoder="random projection",
        layout="kinect25",
        num_frames=_NUM_FRAMES,
        preprocessing_version=PREPROCESSING_VERSION,
        embedding_size=_EMBEDDING_SIZE,
        embedding="projection",
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        parameters=projection.size,
        calibration=Calibration(midpoint=0.1, slope=40.0, source="none"),
        training={"archives": {}, "actions": []},
        licence="Apache-2.0",
    )
    bundle = tmp_path_factory.mktemp("bundle") / "tiny"
    bundle.mkdir()
    (bundle / "encoder.onnx").write_bytes(content)
    (bundle / "bundle.json").write_bytes(msgspec.json.encode(info))
    return bundle
