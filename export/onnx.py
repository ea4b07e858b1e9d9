"""The frozen branch as an ONNX graph, compared with torch.

Shapes: N windows, T frames, V = 25, C = 3, E values of an embedding, D features.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from export.fold import FoldedBranch
from export.frozen import FrozenBranch, embed

# Largest difference of an embedding component between torch and ONNX Runtime, both fp32.
PARITY_TOLERANCE = 1e-4


def export_onnx(branch: FoldedBranch, num_frames: int, path: Path) -> None:
    """Write the branch as ONNX, opset 18: `windows` (N, T, 25, 3) -> `embeddings` (N, E), `features` (N, D), N free."""
    example = torch.zeros(2, num_frames, 25, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns about its own internals
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            branch,
            (example,),
            path,
            input_names=["windows"],
            output_names=["embeddings", "features"],
            dynamic_shapes=({0: torch.export.Dim("N", min=1, max=4096)},),
            opset_version=18,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    # The exporter notes for each node where in whose source tree it was made: nobody's business.
    model = onnx.load(path)
    graph = model.graph
    for noted in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del noted.metadata_props[:]
        noted.doc_string = ""
    onnx.save(model, path)


def parity_error(branch: FrozenBranch, file: Path, num_frames: int) -> float:
    """Return the largest difference between torch and ONNX Runtime over batches of 1 and 7 windows."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    worst = 0.0
    for batch in (1, 7):
        windows = rng.normal(0, 0.5, (batch, num_frames, 25, 3)).astype(np.float32)
        ours = session.run(["embeddings", "features"], {"windows": windows})
        theirs = embed(branch, windows)
        worst = max(worst, *(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)))
    return worst
