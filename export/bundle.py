"""A training run -> a model bundle: encoder.onnx, bundle.json, statistics.npz, the model card.

Shapes: N windows, T frames, V = 25, C = 3, E values of an embedding, D features.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge.model import BUNDLE_VERSION, BundleInfo, ScoreCurve, base_statistics, write_statistics
from edge.motion import PREPROCESSING_VERSION
from export.fit import COHORT_WEIGHT
from export.fold import FoldedBranch
from export.frozen import ALIGNED_FRAMES, FrozenBranch, embed
from export.onnx import PARITY_TOLERANCE, export_onnx, load_weights, parity_error, weights_of
from streams.arrays import Array
from streams.errors import BundleError

# What a device is to hold of them: a hundred classes of 256 features have 1.7 MB.
MAX_STATISTICS_BYTES = 2_000_000
_LICENCE = (
    "Apache-2.0 for the weights as far as we can give it; they were trained on public research "
    "recordings whose own terms are named per set in the model card"
)


def write_bundle(
    branch: FrozenBranch,
    about: dict[str, Any],
    out: Path,
    *,
    name: str,
    score_curve: ScoreCurve,
    alignment_weight: float,
    base_features_ND: Array,
    base_actions: Sequence[str],
) -> BundleInfo:
    """Export to ONNX, check it against torch, and put the bundle in place as a whole.

    `base_features_ND`, `base_actions`: clips of trained actions, for the distribution classifier's statistics.
    Raises BundleError where ONNX Runtime's outputs differ from torch's by more than PARITY_TOLERANCE, and
    where the statistics take more than MAX_STATISTICS_BYTES; nothing is written then.
    """
    num_frames = int(about["config"]["num_frames"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        new = Path(folder) / "bundle"
        new.mkdir()
        file = new / "encoder.onnx"
        folded = FoldedBranch(branch)
        export_onnx(folded, num_frames, file)
        load_weights(folded, weights_of(file), file)
        error = max(parity_error(each, file, num_frames) for each in (branch, folded))
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
            parameters=branch.num_parameters,
            score_curve=score_curve,
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
