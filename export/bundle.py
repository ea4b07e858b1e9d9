"""A training run -> a model bundle: encoder.onnx, bundle.json and the model card.

Shapes: N windows, T frames, V = 25, C = 3, D embedding size.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from edge.bundle import BUNDLE_VERSION, BundleInfo, Calibration
from edge.normalize import PREPROCESSING_VERSION, window_from_joints
from streams.archive import read_archive
from streams.errors import BundleError
from training.encoders.infogcn import BLOCKS, InfoGCN
from training.train import load_run

Array = npt.NDArray[np.float32]
Embedding = Literal["joints", "pooled"]

# `joints` compares where and when: each joint in each quarter of the window, in its 32 strongest channels.
NUM_QUARTERS = 4
NUM_CHANNELS = 32
# Channels weaker than this share of the strongest one's variance are not raised to equal weight.
_WHITENING_FLOOR = 0.05

# Share of pairs of different actions that may match. A live second makes five decisions about several
# windows, so what is rare for a pair of clips is not rare in a stream.
FALSE_MATCH_RATE = 0.002

# Largest difference of an embedding component between torch and ONNX Runtime, both fp32.
PARITY_TOLERANCE = 1e-4
_LICENCE = (
    "Apache-2.0 for the weights as far as we can give it; they were trained on public research "
    "recordings whose own terms are named per set in the model card"
)


class SkeletonBranch(nn.Module):
    """What is left for the device: windows (N, T, V, C) -> embeddings of length 1, (N, D).

    `pooled`: the last block's mean over joints and time, D = 256. `joints`: its mean over each quarter
    of the time, for each joint, D = 4 * 25 * 32. `mean_C` and `projection` (C, channels) make the
    features of training clips zero-mean, uncorrelated and of like variance, so that the cosine
    compares what differs between actions.
    """

    mean_C: Tensor
    projection: Tensor

    def __init__(self, model: InfoGCN, embedding: Embedding) -> None:
        super().__init__()
        self.model = model
        self.embedding = embedding
        num_features = BLOCKS[-1][0]
        self.register_buffer("mean_C", torch.zeros(num_features))
        self.register_buffer("projection", torch.eye(num_features))

    @property
    def embedding_size(self) -> int:
        places = NUM_QUARTERS * self.model.config.num_joints if self.embedding == "joints" else 1
        return places * self.projection.shape[1]

    def features(self, windows_NTVC: Tensor) -> Tensor:
        """Return (N, places, 256): one place for `pooled`, quarter x joint for `joints`."""
        x_NCTV = self.model.features(windows_NTVC[:, None])[:, 0]
        if self.embedding == "pooled":
            return x_NCTV.mean(dim=(2, 3))[:, None]
        n, c, t, v = x_NCTV.shape
        quarters = x_NCTV.reshape(n, c, NUM_QUARTERS, t // NUM_QUARTERS, v).mean(dim=3)
        return quarters.permute(0, 2, 3, 1).reshape(n, NUM_QUARTERS * v, c)

    def forward(self, windows_NTVC: Tensor) -> Tensor:
        projected = (self.features(windows_NTVC) - self.mean_C) @ self.projection
        return nn.functional.normalize(projected.flatten(1), dim=1)


@torch.inference_mode()
def embed(branch: nn.Module, windows_NTVC: Array, batch: int = 64) -> Array:
    """Run torch over many windows, returning shape (N, D), float32."""
    parts = [branch(torch.from_numpy(windows_NTVC[i : i + batch])) for i in range(0, len(windows_NTVC), batch)]
    return np.asarray(torch.cat(parts).numpy(), np.float32)


@torch.inference_mode()
def branch_from_run(run: Path, embedding: Embedding, training_windows: Array) -> tuple[SkeletonBranch, dict[str, Any]]:
    """Load a training run; mean and projection are taken over `training_windows` (N, T, 25, 3).

    Raises ConfigError, or BundleError where `joints` needs T to be a multiple of 16.
    """
    model, about = load_run(run)
    num_frames = training_windows.shape[1]
    if embedding == "joints" and num_frames % (4 * NUM_QUARTERS):
        raise BundleError(
            f"windows have {num_frames} frames: the embedding `joints` needs a multiple of {4 * NUM_QUARTERS}",
            hint="Train with --num-frames 32 or 64, or export with --embedding pooled.",
        )
    branch = SkeletonBranch(model, embedding).eval()
    batches = [torch.from_numpy(training_windows[i : i + 64]) for i in range(0, len(training_windows), 64)]
    total, products, count = torch.zeros(256, dtype=torch.float64), torch.zeros(256, 256, dtype=torch.float64), 0
    for batch in batches:
        features = branch.features(batch).flatten(0, 1).double()
        total += features.sum(dim=0)
        products += features.T @ features
        count += len(features)
    mean_C = total / count
    if embedding == "joints":
        variances, directions = torch.linalg.eigh(products / count - torch.outer(mean_C, mean_C))
        strongest = variances.argsort(descending=True)[:NUM_CHANNELS]
        floor = _WHITENING_FLOOR * variances.max()
        branch.projection = (directions[:, strongest] / (variances[strongest] + floor).sqrt()).float()
    branch.mean_C = mean_C.float()
    return branch, about


def windows_of(paths: Sequence[Path], num_frames: int, *, keep: Any) -> tuple[Array, list[str], list[tuple[str, int]]]:
    """Return windows (N, T, 25, 3) of whole clips, their actions and their (archive, subject); `keep(clip)` chooses."""
    windows, actions, people = [], [], []
    for path in paths:
        archive = read_archive(path)
        for i in range(len(archive)):
            clip = archive[i]
            if keep(clip):
                windows.append(window_from_joints(clip.timestamps_s, clip.persons[0], num_frames))
                actions.append(clip.action)
                people.append((clip.archive, clip.subject))
    return np.array(windows, np.float32), actions, people


def fit_calibration(
    embeddings_ND: Array,
    actions: Sequence[str],
    people: Sequence[tuple[str, int]],
    source: str,
    *,
    fmr: float = FALSE_MATCH_RATE,
) -> Calibration:
    """Choose the score's midpoint and slope from pairs of clips by different people of one archive.

    Midpoint: the distance that a share `fmr` of the pairs of different actions stays below (false
    match rate). Slope: so that the median pair of the same action scores 0.9, or, where that pair
    lies beyond the midpoint, by the spread of the pairs.
    """
    action, archive, subject = (
        np.array(actions),
        np.array([p[0] for p in people]),
        np.array([p[1] for p in people]),
    )
    distances = 1 - embeddings_ND @ embeddings_ND.T
    comparable = (archive[:, None] == archive) & (subject[:, None] != subject)
    same = action[:, None] == action
    genuine, impostor = distances[comparable & same], distances[comparable & ~same]
    if not len(genuine) or not len(impostor):
        raise BundleError("the calibration needs clips of at least two actions by two people each")
    midpoint = float(np.quantile(impostor, fmr))
    lead = midpoint - float(np.median(genuine))
    spread = float(np.std(np.concatenate((genuine, impostor))))
    slope = float(np.log(9.0)) / (lead if lead > 0.05 else max(spread, 1e-3))
    missed = float((genuine > midpoint).mean())
    return Calibration(
        midpoint=round(midpoint, 6),
        slope=round(slope, 6),
        source=f"{source}: {len(genuine)} pairs of the same action, {len(impostor)} of different ones, by different "
        f"people; at the midpoint {fmr:.1%} of the different match and {missed:.0%} of the same do not",
    )


def write_bundle(
    branch: SkeletonBranch, about: dict[str, Any], out: Path, *, name: str, calibration: Calibration
) -> BundleInfo:
    """Export to ONNX, check it against torch, and put the bundle in place as a whole.

    Raises BundleError where ONNX Runtime's embeddings differ from torch's by more than
    PARITY_TOLERANCE; nothing is written then.
    """
    num_frames = int(about["config"]["num_frames"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        new = Path(folder) / "bundle"
        new.mkdir()
        file = new / "encoder.onnx"
        export_onnx(branch, num_frames, file)
        error = parity_error(branch, file, num_frames)
        if error > PARITY_TOLERANCE:
            raise BundleError(f"ONNX and torch differ by {error:.2e}: expected at most {PARITY_TOLERANCE:g}")
        trained_only = (branch.model.fc, branch.model.fc_mu, branch.model.fc_logvar, branch.model.decoder)
        num_dropped = sum(p.numel() for layer in trained_only for p in layer.parameters())
        info = BundleInfo(
            bundle_version=BUNDLE_VERSION,
            name=name,
            encoder="InfoGCN",
            layout="kinect25",
            num_frames=num_frames,
            preprocessing_version=PREPROCESSING_VERSION,
            embedding_size=branch.embedding_size,
            embedding=branch.embedding,
            onnx_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
            parameters=sum(p.numel() for p in branch.model.parameters()) - num_dropped + branch.projection.numel(),
            calibration=calibration,
            training={
                "archives": about["archives"],
                "actions": about["classes"],
                "clips": about["clips"],
                "config": about["config"],
                "torch": about["torch"],
            },
            licence=_LICENCE,
        )
        text = msgspec.json.format(msgspec.json.encode(info), indent=1)
        (new / "bundle.json").write_bytes(text + b"\n")
        for kept in out.glob("*.md"):
            shutil.copy2(kept, new)
        if out.exists():
            out.replace(Path(folder) / "old")
        new.replace(out)
    return info


def export_onnx(branch: SkeletonBranch, num_frames: int, path: Path) -> None:
    """Write the branch as ONNX, opset 18, input `windows` (N, T, 25, 3), output `embeddings` (N, D), N free."""
    example = torch.zeros(2, num_frames, 25, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns about its own internals
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            branch,
            (example,),
            path,
            input_names=["windows"],
            output_names=["embeddings"],
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


def parity_error(branch: SkeletonBranch, file: Path, num_frames: int) -> float:
    """Return the largest difference between torch and ONNX Runtime over batches of 1 and 7 windows."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    worst = 0.0
    for batch in (1, 7):
        windows = rng.normal(0, 0.5, (batch, num_frames, 25, 3)).astype(np.float32)
        (ours,) = session.run(["embeddings"], {"windows": windows})
        worst = max(worst, float(np.abs(ours - embed(branch, windows)).max()))
    return worst
