"""A training run -> a model bundle: encoder.onnx, bundle.json, statistics.npz, weights.safetensors, the model card.

Shapes: N windows, T frames, V = 25, C = 3, E values of an embedding, D features.
"""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import safetensors.torch
import torch
from torch import Tensor, nn

from edge.bundle import BUNDLE_VERSION, DEFAULT_BUNDLE, BundleInfo, Calibration, bundle_weights, read_bundle
from edge.calibration import base_statistics, write_statistics
from edge.matching import compared, distances_between
from edge.normalize import PREPROCESSING_VERSION, window_from_joints
from export.fold import FoldedBranch
from streams.archive import read_archive
from streams.arrays import Array
from streams.errors import BundleError
from training.crossglg import NUM_QUARTERS, SkeletonBranch, quarters
from training.train import TrainConfig, load_run

Embedding = Literal["joints", "pooled"]

# `joints` compares where and when: each joint in each quarter of the window, in its 32 strongest channels.
NUM_CHANNELS = 32
# What alignment compares: the joints in so many frames of a window.
ALIGNED_FRAMES = 16
# A window's distance to what is known is the mean of those to the nearest so many of the trained actions, by share.
# The nearest five, weight 0.5 and an alignment that spreads as far as the cosine tell as well which of the enrolled
# actions it is, but worse whether it is any of them: 0.76 instead of 0.79 of F1 on streams at five alarms an hour.
_COHORT_SHARE = 0.4
# So much of it counts, of each of two windows.
COHORT_WEIGHT = 0.75
# The alignment's cost spreads so far as a share of the cosine's spread.
_ALIGNMENT_SHARE = 0.3
# Channels weaker than this share of the strongest one's variance are not raised to equal weight.
_WHITENING_FLOOR = 0.05

# Share of pairs of different actions that may match. A live second makes five decisions about several
# windows, so what is rare for a pair of clips is not rare in a stream.
FALSE_MATCH_RATE = 0.002

# A class's mean and spread are those of so many of its clips at most.
CLIPS_OF_A_CLASS = 30
# What a device is to hold of them: a hundred classes of 256 features have 1.7 MB.
MAX_STATISTICS_BYTES = 2_000_000

# Largest difference of an embedding component between torch and ONNX Runtime, both fp32.
PARITY_TOLERANCE = 1e-4
_LICENCE = (
    "Apache-2.0 for the weights as far as we can give it; they were trained on public research "
    "recordings whose own terms are named per set in the model card"
)


class FrozenBranch(nn.Module):
    """What is left for the device: windows (N, T, V, C) -> embeddings (N, E) and features (N, D).

    An embedding is a learned part of length 1, then ALIGNED_FRAMES frames of joints as SpineBase sees
    them, then, where there are any, the distance of the learned part to the nearest of `cohort_KE`, the mean ones of
    trained actions. Learned part: with `joints` the last block's features averaged over each quarter of the time,
    for each joint; with `pooled` the paper's f_out. `mean_C` and `projection` (C, channels) make those of
    training clips zero-mean, and with `joints` uncorrelated and of like variance, so that the cosine
    compares what differs between actions. `features`: the last block's mean over time and joints, not
    negative, for distribution calibration.
    """

    mean_C: Tensor
    projection: Tensor
    cohort_KE: Tensor

    def __init__(self, branch: SkeletonBranch, embedding: Embedding) -> None:
        super().__init__()
        self.branch = branch
        self.embedding = embedding
        channels = branch.encoder.config.num_features
        self.register_buffer("mean_C", torch.zeros(channels))
        self.register_buffer("projection", torch.eye(channels))
        self.register_buffer("cohort_KE", torch.zeros(0, 0))

    @property
    def num_parameters(self) -> int:
        """Count what inference uses; the latent, the classifier and what another embedding would need is not."""
        used = sum(p.numel() for name, p in self.named_parameters() if self.is_used(name))
        return used + self.projection.numel() + self.cohort_KE.numel()

    def is_used(self, name: str) -> bool:
        """Say whether inference uses a parameter or buffer of that name."""
        dropped = ["encoder.fc", "encoder.decoder.", "encoder.z_prior", "place."]
        if self.embedding == "joints":
            dropped.append("project.")
        return not name.startswith(tuple(f"branch.{part}" for part in dropped))

    def places(self, features_NCTV: Tensor) -> Tensor:
        """Return (N, places, C): one place for `pooled`, quarter x joint for `joints`."""
        if self.embedding == "pooled":
            return self.branch.pooled(features_NCTV)[:, None]
        return quarters(features_NCTV)

    def forward(self, windows_NTVC: Tensor) -> tuple[Tensor, Tensor]:
        features_NCTV, _ = self.branch.features(windows_NTVC[:, None])
        projected = (self.places(features_NCTV) - self.mean_C) @ self.projection
        learned = nn.functional.normalize(projected.flatten(1), dim=1)
        parts = [learned, self.aligned_joints(windows_NTVC)]
        if len(self.cohort_KE):
            parts.append(self.cohort_distance(learned @ self.cohort_KE.T))
        return torch.cat(parts, dim=1), features_NCTV.mean(dim=(2, 3))

    @staticmethod
    def cohort_distance(cosines_NK: Tensor) -> Tensor:
        """Return the distance (N, 1) to the nearest of the cohort, from the cosines with all of them."""
        nearest_NK, _ = cosines_NK.topk(max(1, round(_COHORT_SHARE * cosines_NK.shape[1])), dim=1)
        return 1 - nearest_NK.mean(dim=1, keepdim=True)

    @staticmethod
    def aligned_joints(windows_NTVC: Tensor) -> Tensor:
        """Return the joints of ALIGNED_FRAMES frames as SpineBase sees them, (N, ALIGNED_FRAMES * V * C)."""
        n, t, v, c = windows_NTVC.shape
        frames = (windows_NTVC - windows_NTVC[:, :, :1]).reshape(n, ALIGNED_FRAMES, t // ALIGNED_FRAMES, v * c)
        return frames.mean(dim=2).flatten(1)


def save_weights(branch: FrozenBranch, path: Path) -> None:
    """Write what inference uses of a branch as safetensors."""
    used = {name: tensor.contiguous() for name, tensor in branch.state_dict().items() if branch.is_used(name)}
    path.write_bytes(safetensors.torch.save(used))


def load_branch(bundle: Path | None = None) -> FrozenBranch:
    """Return a bundle's encoder as torch has it, in evaluation mode; None is the bundle that is shipped.

    Raises BundleError.
    """
    info, onnx_file = read_bundle(bundle)
    weights = bundle_weights(info, onnx_file.parent)
    config = msgspec.convert(info.training["config"], TrainConfig)
    # What inference does not use, the classifier among it, keeps its fresh weights.
    branch = FrozenBranch(config.make_branch(num_classes=2), cast(Embedding, info.embedding))
    state = safetensors.torch.load_file(weights)
    branch.projection, branch.cohort_KE = (torch.empty_like(state[name]) for name in ("projection", "cohort_KE"))
    missing, unexpected = branch.load_state_dict(state, strict=False)
    if unexpected or any(branch.is_used(name) for name in missing):
        raise BundleError(f"{weights} is not of the encoder that {bundle or DEFAULT_BUNDLE}/bundle.json describes")
    return branch.eval()


@torch.inference_mode()
def embed(branch: FrozenBranch, windows_NTVC: Array, batch: int = 64) -> tuple[Array, Array]:
    """Run torch over many windows, returning embeddings (N, E) and features (N, D), float32."""
    parts = [branch(torch.from_numpy(windows_NTVC[i : i + batch])) for i in range(0, len(windows_NTVC), batch)]
    embeddings, features = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return np.asarray(embeddings, np.float32), np.asarray(features, np.float32)


@torch.inference_mode()
def branch_from_run(
    run: Path, embedding: Embedding, training_windows: Array, actions: Sequence[str]
) -> tuple[FrozenBranch, dict[str, Any]]:
    """Load a training run; mean, projection and cohort are taken over `training_windows` (N, T, 25, 3) of `actions`.

    Raises ConfigError, or BundleError where T does not allow the embedding.
    """
    skeleton, about = load_run(run)
    branch = FrozenBranch(skeleton, embedding).eval()
    num_frames = training_windows.shape[1]
    reduction = math.prod(skeleton.encoder.config.strides)
    if num_frames % ALIGNED_FRAMES or (embedding == "joints" and num_frames % (reduction * NUM_QUARTERS)):
        raise BundleError(
            f"windows have {num_frames} frames: expected a multiple of {ALIGNED_FRAMES}"
            f" and, for the embedding `joints`, of {reduction * NUM_QUARTERS}",
            hint="Train with --num-frames 32 or 64.",
        )
    channels = skeleton.encoder.config.num_features
    total, products, count = torch.zeros(channels).double(), torch.zeros(channels, channels).double(), 0
    for start in range(0, len(training_windows), 64):
        batch = torch.from_numpy(training_windows[start : start + 64])
        places = branch.places(skeleton.features(batch[:, None])[0]).flatten(0, 1).double()
        total += places.sum(dim=0)
        products += places.T @ places
        count += len(places)
    mean_C = total / count
    if embedding == "joints":
        branch.projection = whitening(products / count - torch.outer(mean_C, mean_C)).float()
    branch.mean_C = mean_C.float()
    learned_NE = torch.from_numpy(embed(branch, training_windows)[0][:, : -ALIGNED_FRAMES * 75])
    is_of_KN = torch.tensor([[action == name for action in actions] for name in sorted(set(actions))])
    branch.cohort_KE = nn.functional.normalize(is_of_KN.float() @ learned_NE, dim=1)
    return branch, about


def whitening(covariance_CC: Tensor) -> Tensor:
    """Return the NUM_CHANNELS strongest directions of a covariance, scaled to like variance, shape (C, channels).

    An eigenvector's sign is LAPACK's choice, which differs between machines: here its largest component is positive.
    """
    variances, directions = torch.linalg.eigh(covariance_CC)
    strongest = variances.argsort(descending=True)[:NUM_CHANNELS]
    directions, variances = directions[:, strongest], variances[strongest]
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    scale = largest.sign() / (variances + _WHITENING_FLOOR * variances.max()).sqrt()
    return torch.mul(directions, scale)


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


def some_of_each(actions: Sequence[str], most: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the numbers of `most` clips of each action, drawn at random, or of all that it has."""
    order = rng.permutation(len(actions))
    drawn = np.array(actions)[order]
    return np.concatenate([order[drawn == action][:most] for action in sorted(set(actions))])


def fit_alignment_weight(embeddings_NE: Array) -> float:
    """Return the weight that makes the alignment's cost spread by _ALIGNMENT_SHARE of the cosine's, over all pairs."""
    clips = compared(embeddings_NE, ALIGNED_FRAMES, has_cohort=True)
    cosine = distances_between(clips, clips, 0.0)
    cost = distances_between(clips, clips, 1.0) - cosine
    pairs = np.triu_indices(len(clips), 1)
    return round(_ALIGNMENT_SHARE * float(cosine[pairs].std() / max(float(cost[pairs].std()), 1e-9)), 6)


def fit_calibration(
    embeddings_NE: Array,
    actions: Sequence[str],
    people: Sequence[tuple[str, int]],
    source: str,
    *,
    alignment_weight: float,
    fmr: float = FALSE_MATCH_RATE,
) -> Calibration:
    """Choose the score's midpoint and slope from pairs of clips by different people of one archive.

    Midpoint: the distance that a share `fmr` of the pairs of different actions stays below (false
    match rate). Slope: so that what is nearer by the standard deviation of all pairs scores 0.9.
    """
    action, archive, subject = (
        np.array(actions),
        np.array([p[0] for p in people]),
        np.array([p[1] for p in people]),
    )
    clips = compared(embeddings_NE, ALIGNED_FRAMES, has_cohort=True)
    distances = distances_between(clips, clips, alignment_weight, COHORT_WEIGHT)
    comparable = (archive[:, None] == archive) & (subject[:, None] != subject)
    same = action[:, None] == action
    genuine, impostor = distances[comparable & same], distances[comparable & ~same]
    if not len(genuine) or not len(impostor):
        raise BundleError("the calibration needs clips of at least two actions by two people each")
    midpoint = float(np.quantile(impostor, fmr))
    slope = float(np.log(9.0)) / max(float(np.std(np.concatenate((genuine, impostor)))), 1e-3)
    missed = float((genuine > midpoint).mean())
    return Calibration(
        midpoint=round(midpoint, 6),
        slope=round(slope, 6),
        source=f"{source}: {len(genuine)} pairs of the same action, {len(impostor)} of different ones, by different "
        f"people; at the distance {midpoint:.3f} {fmr:.1%} of the different match and {missed:.0%} of the same do not",
    )


def write_bundle(
    branch: FrozenBranch,
    about: dict[str, Any],
    out: Path,
    *,
    name: str,
    calibration: Calibration,
    alignment_weight: float,
    base_features_ND: Array,
    base_actions: Sequence[str],
) -> BundleInfo:
    """Export to ONNX, check it against torch, and put the bundle in place as a whole.

    `base_features_ND`, `base_actions`: clips of trained actions, for distribution calibration's statistics.
    Raises BundleError where ONNX Runtime's outputs differ from torch's by more than PARITY_TOLERANCE, and
    where the statistics take more than MAX_STATISTICS_BYTES; nothing is written then.
    """
    num_frames = int(about["config"]["num_frames"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        new = Path(folder) / "bundle"
        new.mkdir()
        file = new / "encoder.onnx"
        export_onnx(FoldedBranch(branch), num_frames, file)
        error = parity_error(branch, file, num_frames)
        if error > PARITY_TOLERANCE:
            raise BundleError(f"ONNX and torch differ by {error:.2e}: expected at most {PARITY_TOLERANCE:g}")
        onnx_sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        classes = sorted(set(base_actions))
        labels_N = np.array([classes.index(action) for action in base_actions], np.int64)
        statistics = base_statistics(base_features_ND, labels_N, classes, encoder_sha256=onnx_sha256)
        write_statistics(new / "statistics.npz", statistics)
        content = (new / "statistics.npz").read_bytes()
        if len(content) > MAX_STATISTICS_BYTES:
            raise BundleError(
                f"the statistics of {len(classes)} classes take {len(content):,} bytes: "
                f"expected at most {MAX_STATISTICS_BYTES:,}",
                hint="Give archives with fewer trained actions to --calibrate.",
            )
        save_weights(branch, new / "weights.safetensors")
        embeddings, _ = embed(branch, np.zeros((1, num_frames, 25, 3), np.float32))
        info = BundleInfo(
            bundle_version=BUNDLE_VERSION,
            name=name,
            encoder="InfoGCN",
            layout="kinect25",
            num_frames=num_frames,
            preprocessing_version=PREPROCESSING_VERSION,
            embedding_size=embeddings.shape[1],
            embedding=branch.embedding,
            aligned_frames=ALIGNED_FRAMES,
            alignment_weight=alignment_weight,
            cohort_weight=COHORT_WEIGHT,
            onnx_sha256=onnx_sha256,
            statistics_sha256=hashlib.sha256(content).hexdigest(),
            weights_sha256=hashlib.sha256((new / "weights.safetensors").read_bytes()).hexdigest(),
            parameters=branch.num_parameters,
            calibration=calibration,
            training={
                "archives": about["archives"],
                "actions": about["classes"],
                "clips": about["clips"],
                "config": about["config"],
                "torch": about["torch"],
                "teacher_sha256": about.get("teacher_sha256"),
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
