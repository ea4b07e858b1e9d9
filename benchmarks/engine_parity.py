"""Hold each engine against ONNX Runtime in fp32: its numbers, and what it decides one-shot on real clips.

    python benchmarks/engine_parity.py --data DIR [--bundle DIR] [--draws 100] [--out FILE]

DIR holds protocol.json and its archives. Every clip of the novel actions is embedded by each engine, and each
draw of the open protocol is decided with each: an engine must lose no more than 0.3 points of accuracy.
Takes three minutes; exit code 1 where an engine loses more.

Shapes: N windows, T frames, E values of an embedding, F features, D draws, K exemplars.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

# numpy reads it when it is imported: two threads for small products wait for each other on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from edge.bench import machine
from edge.config import Model
from edge.model import BundleInfo, read_bundle
from edge.model.engines import OnnxRuntime, agreement, open_vino
from edge.motion import window_from_movement
from streams.arrays import Array
from streams.errors import CrossGLGError
from training.evaluate import (
    By,
    ClipSet,
    Draw,
    balanced_accuracy,
    clip_distances,
    encoder_distances,
    protocol_draws,
    read_clips,
    read_protocol,
)

Encode = Callable[[Array], tuple[Array, Array]]

REFERENCE = "ONNX Runtime, fp32"
MOST_POINTS_LOST = 0.3
_BATCH = 32


def open_torch(bundle: Path | None) -> Encode:
    """Open the bundle's weights in torch. Raises BundleError, ImportError."""
    from export.frozen import embed
    from export.onnx import load_branch

    return partial(embed, load_branch(bundle))


def open_half(info: BundleInfo, bundle: Path, folder: Path) -> Encode:
    """Write the fp16 graph and open it in ONNX Runtime, on the CPU. Raises CrossGLGError, ImportError."""
    from export.engines import onnx_fp16

    return OnnxRuntime(onnx_fp16.write_fp16(info, bundle, folder)).run


def encoded(encode: Encode, windows_NTVC: Array) -> tuple[Array, Array]:
    """Return embeddings (N, E) and features (N, F), copied batch by batch."""
    batches = [
        [np.array(part) for part in encode(windows_NTVC[start : start + _BATCH])]
        for start in range(0, len(windows_NTVC), _BATCH)
    ]
    embeddings, features = zip(*batches, strict=True)
    return np.concatenate(embeddings), np.concatenate(features)


def decisions(
    clips: ClipSet, draws: Sequence[Draw], embeddings: Array, info: BundleInfo
) -> list[npt.NDArray[np.int64]]:
    """Return the label that each draw gives each of its queries, by the device's distance."""
    exemplars = np.unique(np.concatenate([draw.exemplars for draw in draws]))
    distances = clip_distances(embeddings, clips.persons[exemplars], clips.persons, encoder_distances(info))
    named = []
    for draw in draws:
        rows = np.searchsorted(exemplars, draw.exemplars)
        nearest = distances[np.ix_(rows, draw.queries)].argmin(axis=0)
        named.append(clips.labels[draw.exemplars[nearest]])
    return named


def interval(values_D: npt.NDArray[np.float64]) -> str:
    """Return the mean and its 95 % interval by bootstrap over draws."""
    chosen = np.random.default_rng(0).integers(len(values_D), size=(2000, len(values_D)))
    low, high = np.percentile(values_D[chosen].mean(axis=1), (2.5, 97.5))
    return f"{values_D.mean():.2f} ({low:.2f} to {high:.2f})"


def table(
    clips: ClipSet, draws: Sequence[Draw], ways: dict[str, Callable[[], Encode]], info: BundleInfo
) -> tuple[list[str], bool]:
    """Return the rows of the table, and whether an engine loses too much."""
    windows_NTVC = np.stack([window_from_movement(movement, info.num_frames) for movement in clips.movements])
    truth = [clips.labels[draw.queries] for draw in draws]
    rows, loses = [], False
    expected: tuple[Array, Array] | None = None
    for name, open_way in ways.items():
        try:
            found = encoded(open_way(), windows_NTVC)
        except (CrossGLGError, ImportError) as error:
            rows.append(f"| {name} | not run: {error} | | | | | | |")
            continue
        named = decisions(clips, draws, found[0], info)
        accuracies = 100 * np.array([balanced_accuracy(t, n) for t, n in zip(truth, named, strict=True)])
        if expected is None:
            expected, named_before, accuracies_before = found, named, accuracies
        agreed = agreement(found, expected, info, against=REFERENCE)
        same = 100 * np.mean(np.concatenate(named) == np.concatenate(named_before))
        lost = accuracies_before - accuracies
        loses |= bool(lost.mean() > MOST_POINTS_LOST)
        rows.append(
            f"| {name} | {agreed.largest:.1e} | {agreed.cosine:.6f} | {mean_cosine(found, expected, info):.6f} "
            f"| {agreed.features:.1e} | {same:.2f} | {interval(accuracies)} | {interval(-lost)} |"
        )
    return rows, loses


def mean_cosine(ours: tuple[Array, Array], theirs: tuple[Array, Array], info: BundleInfo) -> float:
    """Return the mean cosine between the learned parts of the embeddings."""
    a_ND, b_ND = (embeddings[:, : info.num_learned] for embeddings, _ in (ours, theirs))
    cosines = (a_ND * b_ND).sum(axis=1) / np.linalg.norm(a_ND, axis=1) / np.linalg.norm(b_ND, axis=1)
    return float(cosines.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--out", type=Path, help="default: print")
    args = parser.parse_args()
    info, onnx = read_bundle(args.bundle)
    protocol = read_protocol(args.data / "protocol.json")
    archives = [args.data / f"{name}.npz" for name in sorted(protocol.sets)]
    clips = read_clips(archives, name="protocol", by=By.ACTION, classes=protocol.novel)
    draws = protocol_draws(clips.labels, clips.subjects, args.draws)

    def open_openvino(precision: str) -> Encode:
        model = Model(engine="openvino", precision=precision)  # type: ignore[arg-type]
        return open_vino.open_engine(info, onnx.parent, model).run

    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Callable[[], Encode]] = {
            REFERENCE: lambda: OnnxRuntime(onnx).run,
            "torch, fp32": lambda: open_torch(args.bundle),
            "ONNX Runtime, fp16 graph on the CPU": lambda: open_half(info, onnx.parent, Path(folder)),
            "OpenVINO, fp32": lambda: open_openvino("fp32"),
            "OpenVINO, bf16": lambda: open_openvino("bf16"),
        }
        rows, loses = table(clips, draws, ways, info)
    lines = [
        "# Engines beside ONNX Runtime in fp32",
        "",
        f"- made by: `python benchmarks/engine_parity.py --data DATA --draws {args.draws}`, model {info.name}, "
        f"sha256 {info.onnx_sha256[:12]}, {datetime.now(UTC):%Y-%m-%d}",
        f"- on: {', '.join(f'{name} {value}' for name, value in machine().items())}",
        f"- {len(clips)} clips of the {len(clips.classes)} novel actions of the open protocol, {len(clips.movements)} "
        "windows; exemplars and queries by the same engine",
        "- intervals: 95 %, bootstrap over draws, paired for the difference",
        "- largest error: of any value of an embedding; features: relative error of the worst window",
        "- gain: points of accuracy over the first row",
        "",
        "| engine | largest error | least cosine | mean cosine | features | same decisions % | accuracy % | gain |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        f"Allowed: {MOST_POINTS_LOST} points lost. {'AN ENGINE LOSES MORE.' if loses else 'None loses more.'}",
    ]
    text = "\n".join(lines) + "\n"
    if args.out is None:
        sys.stdout.write(text)
    else:
        args.out.write_text(text, encoding="utf-8")
    sys.exit(loses)


if __name__ == "__main__":
    main()
