"""A bundle's folder: its files written and checked, described by bundle.json once, put in place as a whole.

Shapes: N clips, T frames, V = 25, C = 3, D features.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge.model import BUNDLE_VERSION, BundleInfo, ScoreCurve, base_statistics, write_statistics
from edge.motion import PREPROCESSING_VERSION
from export.fit import COHORT_WEIGHT
from export.fold import FoldedBranch, folded
from export.frozen import ALIGNED_FRAMES, FrozenBranch, embed
from export.onnx import PARITY_TOLERANCE, export_onnx, load_weights, parity_error, weights_of
from streams.arrays import Array
from streams.errors import BundleError

# What a device is to hold of them: a hundred classes of 256 features have 1.7 MB.
MAX_STATISTICS_BYTES = 2_000_000
# Where the nearest are looked up, rounding chooses others in about one window of a hundred, which then differs more.
_SPARED_WINDOWS = 2
_LICENCE = (
    "Apache-2.0 for the weights as far as we can give it; they were trained on public research "
    "recordings whose own terms are named per set in the model card"
)


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of OUT once the block ends well, with the .md files that OUT has.

    Where the block raises, OUT stays as it was. Raises BundleError where it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
            new = Path(scratch) / "bundle"
            new.mkdir()
            yield new
            for kept in out.glob("*.md"):
                shutil.copy2(kept, new)
            if out.exists():
                out.replace(Path(scratch) / "old")
            new.replace(out)
    except OSError as error:
        raise BundleError(
            f"the bundle {out} cannot be written: {error.strerror}: {error.filename}",
            hint="Name another --out, or make room; what was there is as it was.",
        ) from error


def write_encoder(branch: FrozenBranch, num_frames: int, folder: Path) -> str:
    """Write encoder.onnx and return its sha256.

    Raises BundleError where ONNX Runtime's outputs differ by more than PARITY_TOLERANCE from the branch's, or from
    those of the weights that torch takes back from the file.
    """
    file = folder / "encoder.onnx"
    exported = folded(branch)
    export_onnx(exported, num_frames, file)
    if isinstance(exported, FoldedBranch):
        load_weights(exported, weights_of(file), file)
    spared = _SPARED_WINDOWS if branch.branch.encoder.chooses_neighbors else 0
    error = max(parity_error(each, file, num_frames, spared=spared) for each in (branch, exported))
    if error > PARITY_TOLERANCE:
        raise BundleError(f"ONNX and torch differ by {error:.2e}: expected at most {PARITY_TOLERANCE:g}")
    return _sha256(file)


def write_base_statistics(features_ND: Array, actions: Sequence[str], encoder_sha256: str, folder: Path) -> str:
    """Write statistics.npz, of the features of clips of trained actions, and return its sha256.

    Raises BundleError where it takes more than MAX_STATISTICS_BYTES.
    """
    classes = sorted(set(actions))
    labels_N = np.array([classes.index(action) for action in actions], np.int64)
    file = folder / "statistics.npz"
    write_statistics(file, base_statistics(features_ND, labels_N, classes, encoder_sha256=encoder_sha256))
    num_bytes = file.stat().st_size
    if num_bytes > MAX_STATISTICS_BYTES:
        raise BundleError(
            f"the statistics of {len(classes)} classes take {num_bytes:,} bytes: "
            f"expected at most {MAX_STATISTICS_BYTES:,}",
            hint="Give archives with fewer trained actions to --calibrate.",
        )
    return _sha256(file)


def describe(
    branch: FrozenBranch,
    about: dict[str, Any],
    *,
    name: str,
    score_curve: ScoreCurve,
    alignment_weight: float,
    onnx_sha256: str,
    statistics_sha256: str,
) -> BundleInfo:
    """Return what bundle.json says of a branch; `about` is the run.json of its training."""
    num_frames = int(about["config"]["num_frames"])
    embeddings_NE, _ = embed(branch, np.zeros((1, num_frames, 25, 3), np.float32))
    return BundleInfo(
        bundle_version=BUNDLE_VERSION,
        name=name,
        encoder=type(branch.branch.encoder).__name__,
        layout="kinect25",
        num_frames=num_frames,
        preprocessing_version=PREPROCESSING_VERSION,
        embedding_size=embeddings_NE.shape[1],
        embedding=branch.embedding,
        aligned_frames=ALIGNED_FRAMES,
        alignment_weight=alignment_weight,
        cohort_weight=COHORT_WEIGHT,
        onnx_sha256=onnx_sha256,
        statistics_sha256=statistics_sha256,
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


def write_description(info: BundleInfo, folder: Path) -> None:
    """Write bundle.json."""
    (folder / "bundle.json").write_bytes(msgspec.json.format(msgspec.json.encode(info), indent=1) + b"\n")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
