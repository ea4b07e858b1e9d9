"""The folded branch as an ONNX file: written, compared with torch, and read back into torch.

The file is the one place where a bundle keeps its weights: the exporter names them as torch does.

Shapes: N windows, T frames, V = 25, C = 3, E values of an embedding, D features.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from edge.model import BundleInfo, read_bundle
from export.fold import FoldedBranch
from export.frozen import Embedding, FrozenBranch, embed
from streams.errors import BundleError
from training.model import InfoGCN
from training.run import TrainConfig, stored_config

# Largest difference of an embedding component between torch and ONNX Runtime, both fp32.
PARITY_TOLERANCE = 1e-4
_TRANSPOSED = ", transposed"


def export_onnx(branch: nn.Module, num_frames: int, path: Path) -> None:
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
    _note_other_names(model, branch)
    onnx.save(model, path)


def load_branch(bundle: Path | None = None, body: torch.dtype = torch.float32) -> FoldedBranch:
    """Return a bundle's encoder as torch has it, from its encoder.onnx; None is the bundle that is shipped.

    Raises BundleError for a bundle that is not of `crossglg-edge export RUN`, or of an encoder that is not folded.
    """
    info, file = read_bundle(bundle)
    if info.encoder != InfoGCN.__name__:
        raise BundleError(
            f"torch takes no {info.encoder} back from {file}: expected {InfoGCN.__name__}",
            hint="Its engines run it all the same; the training run has its weights for torch.",
        )
    weights = weights_of(file)
    folded = FoldedBranch(_fresh_branch(info, file, weights), body)
    load_weights(folded, weights, file)
    return folded


def weights_of(file: Path) -> dict[str, Tensor]:
    """Return the constants of an ONNX file by name, those of the exporter's own making among them."""
    model = onnx.load(file)
    constants = _constants_of(model)
    for note in model.metadata_props:
        kept = constants.get(note.value.removesuffix(_TRANSPOSED))
        if kept is not None:
            constants[note.key] = kept.T if note.value.endswith(_TRANSPOSED) else kept
    return constants


def load_weights(branch: FoldedBranch, weights: dict[str, Tensor], file: Path) -> None:
    """Put the weights of `file` into a folded branch. Raises BundleError where one is missing or of another shape."""
    own = branch.state_dict()
    # The exporter leaves out a bias that is zero.
    state = {
        name: torch.zeros_like(mine) if name.endswith(".bias") and name not in weights else weights.get(name)
        for name, mine in own.items()
    }
    wrong = [name for name, value in state.items() if value is None or value.shape != own[name].shape]
    if wrong:
        found = {name: list(weights[name].shape) if name in weights else "nothing" for name in wrong[:3]}
        raise BundleError(
            f"{file}: {len(wrong)} of {len(own)} weights do not fit the encoder that bundle.json describes, "
            + ", ".join(f"{name}: expected {list(own[name].shape)}, found {found[name]}" for name in found),
            hint="Its engines run it all the same; for torch export the training run anew: `crossglg-edge export RUN`.",
        )
    branch.load_state_dict(state)


def _constants_of(model: onnx.ModelProto) -> dict[str, Tensor]:
    return {each.name: torch.from_numpy(onnx.numpy_helper.to_array(each).copy()) for each in model.graph.initializer}


def _note_other_names(model: onnx.ModelProto, branch: nn.Module) -> None:
    """Note in the model under which name it holds a weight, where that is not the weight's own.

    The exporter keeps small weights that are equal once, and a few under a name of its own, transposed.
    """
    constants = _constants_of(model)
    weights = branch.state_dict()
    for name in sorted(weights.keys() - constants.keys()):
        for kept, constant in constants.items():
            if torch.equal(constant, weights[name]):
                model.metadata_props.add(key=name, value=kept)
                break
            if torch.equal(constant.T if constant.ndim == 2 else constant, weights[name]):
                model.metadata_props.add(key=name, value=kept + _TRANSPOSED)
                break


def _fresh_branch(info: BundleInfo, file: Path, weights: dict[str, Tensor]) -> FrozenBranch:
    """Return a branch as bundle.json describes it, whose projection and cohort have the shapes of the file's."""
    try:
        config = msgspec.convert(stored_config(cast("dict[str, Any]", info.training["config"])), TrainConfig)
        branch = FrozenBranch(config.make_branch(num_classes=2), cast(Embedding, info.embedding))
        branch.projection = torch.zeros(len(branch.mean_C), len(weights["project.weight"]))
    except (KeyError, msgspec.ValidationError) as error:
        raise BundleError(
            f"the bundle {info.name!r} in {file.parent} is of no encoder that torch can build: expected "
            f"training.config in bundle.json and its weights in encoder.onnx, {error} is missing or wrong",
            hint="`crossglg-edge export RUN` writes a bundle that has both; the engines need neither.",
        ) from error
    if "cohort.weight" in weights:
        branch.cohort_KE = torch.zeros_like(weights["cohort.weight"])
    return branch


def parity_error(branch: nn.Module, file: Path, num_frames: int, *, spared: int = 0) -> float:
    """Return the largest difference between torch and ONNX Runtime over batches of 1 and 7 windows.

    So many windows are `spared`, those that differ most.
    """
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    errors: list[float] = []
    for batch in (1, 7):
        windows = rng.normal(0, 0.5, (batch, num_frames, 25, 3)).astype(np.float32)
        ours = session.run(["embeddings", "features"], {"windows": windows})
        theirs = embed(branch, windows)
        by_output = [np.abs(a - b).max(axis=1) for a, b in zip(ours, theirs, strict=True)]
        errors += np.max(by_output, axis=0).tolist()
    return sorted(errors)[-1 - spared]
