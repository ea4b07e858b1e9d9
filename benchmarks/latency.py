"""Frame arrival to decision, with and without the encoder, on one thread; writes a results file.

Run from the repository root: `.venv/bin/python benchmarks/latency.py` (`--help` for options). The
frames are a real clip where one is given with --clip, else the synthetic performer's.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.config import Config
from edge.dtw import dtw_distances
from edge.encoder import Encoder, OnnxEncoder
from edge.gallery import Gallery
from edge.intake import Intake
from edge.normalize import window_from_joints
from edge.recognizer import PrototypeIndex, Recognizer
from streams import wire
from streams.frame import SkeletonFrame
from streams.performer import ACTIONS, Performer, perform
from streams.playback import repeated

Array = npt.NDArray[np.float32]


class NoEncoder:
    """Stand in for the encoder where the time of all the rest is measured: embeddings at no cost."""

    def __init__(self, encoder: Encoder) -> None:
        self.info = encoder.info
        rng = np.random.default_rng(0)
        embeddings = rng.normal(size=(64, self.info.embedding_size)).astype(np.float32)
        self._embeddings = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)

    def encode(self, windows_NTVC: Array) -> Array:
        return self._embeddings[: len(windows_NTVC)]


def messages(num_frames: int, clip: str | None) -> list[bytes]:
    """Return frame messages at 30 fps as a publisher sends them."""
    if clip is None:
        performer = Performer(seed=0)
        frames = (performer.frame() for _ in range(num_frames))
    else:
        endless = repeated(clip, loop=True)
        frames = (next(endless) for _ in range(num_frames))
    return [wire.encode_frame(replace(frame, seq=i, epoch="bench"))[1] for i, frame in enumerate(frames)]


def frame_to_decision_us(
    payloads: Sequence[bytes], encoder: Encoder, prototypes: PrototypeIndex
) -> tuple[list[float], list[float], list[float]]:
    """Return microseconds from a message's bytes to the recogniser's answer.

    Of all frames, of those that decide, and of those whose decision cuts windows and matches them.
    """
    config = Config()
    intake = Intake(config.stream)
    recognizer = Recognizer(config, encoder, intake, clock=time.perf_counter)
    recognizer.prototypes = prototypes
    every, deciding, matching = [], [], []
    for payload in payloads:
        decisions, windows = recognizer.num_decisions, recognizer.num_windows
        started = time.perf_counter()
        frame: SkeletonFrame = wire.decode_frame(payload)
        if intake.accept(frame, started):
            recognizer.step([frame.to_kinect25()], started)
        took_us = 1e6 * (time.perf_counter() - started)
        every.append(took_us)
        if recognizer.num_decisions > decisions:
            deciding.append(took_us)
        if recognizer.num_windows > windows:
            matching.append(took_us)
    return every, deciding, matching


def timed_us(function: Callable[[], object], repeats: int) -> list[float]:
    """Return the microseconds of each call, after a tenth of them as warm-up."""
    for _ in range(max(1, repeats // 10)):
        function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(1e6 * (time.perf_counter() - started))
    return times


def measure(num_frames: int, clip: str | None, bundle: Path | None) -> dict[str, list[float]]:
    """Return the microseconds of each measurement by name."""
    encoder = OnnxEncoder(bundle, num_threads=1)
    num_window_frames = encoder.info.num_frames

    def embed(examples: Sequence[tuple[npt.NDArray[np.float64], Array]]) -> Array:
        return encoder.encode(np.stack([window_from_joints(t, joints, num_window_frames) for t, joints in examples]))

    examples = [perform(action, seed=1) for action in ACTIONS[:10]]
    with Gallery(":memory:", embed=embed, model_sha256=encoder.info.onnx_sha256) as gallery:
        for action, (timestamps_s, joints_m) in zip(ACTIONS, examples, strict=False):
            gallery.add(action, timestamps_s, joints_m, origin="bench", created="2026-01-01T00:00:00+00:00")
        prototypes = PrototypeIndex(gallery.prototypes, encoder.info)
    payloads = messages(num_frames, clip)
    every, deciding, matching = frame_to_decision_us(payloads, NoEncoder(encoder), prototypes)
    every_encoded, _, matching_encoded = frame_to_decision_us(payloads, encoder, prototypes)
    windows = np.stack([window_from_joints(*example, num_window_frames) for example in examples])
    dtw = np.stack([window_from_joints(*example, 32) for example in examples])
    dtw = (dtw - dtw[:, :, :1]).reshape(len(dtw), 32, 75)
    repeats = max(20, num_frames // 20)
    return {
        "without the encoder, all frames": every,
        "without the encoder, frames that decide": deciding,
        "without the encoder, frames whose decision cuts windows": matching,
        "with the encoder, all frames": every_encoded,
        "with the encoder, frames whose decision cuts windows": matching_encoded,
        "encoder, one window": timed_us(lambda: encoder.encode(windows[:1]), repeats),
        "encoder, batch of 4": timed_us(lambda: encoder.encode(windows[:4]), repeats),
        "reference: DTW of one window to 10 examples": timed_us(lambda: dtw_distances(dtw[:1], dtw), repeats),
    }


def report(results: dict[str, list[float]], command: str, clip: str | None) -> str:
    """Return the results as Markdown, with how they were made."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    lines = [
        "# Latency of one body at 30 fps, 10 enrolled actions",
        "",
        f"- made by: `{command}`, commit {commit.stdout.strip() or 'unknown'}, {datetime.now(UTC):%Y-%m-%d}",
        f"- machine: {cpu_name()}, {os.cpu_count()} cores, {platform.system()}, one thread",
        f"- Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("numpy", "onnxruntime", "msgspec")),
        f"- frames: {'one real clip, repeated' if clip else 'the synthetic performer'}; default windows",
        "- from a message's bytes to the recogniser's answer; one frame in six decides (each 0.2 s), and cuts up",
        "  to five windows, unless the body is at rest or just appeared; the other frames are only taken in",
        "",
        "| microseconds | p50 | p95 | p99 | count |",
        "|---|---|---|---|---|",
    ]
    for name, times in results.items():
        p50, p95, p99 = np.percentile(times, (50, 95, 99))
        lines.append(f"| {name} | {p50:,.0f} | {p95:,.0f} | {p99:,.0f} | {len(times)} |")
    return "\n".join(lines) + "\n"


def cpu_name() -> str:
    """Return the processor's name as the kernel tells it."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--clip", help="ARCHIVE.npz:CLIP or RECORDING.mcap")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--out", type=Path, help="default: print")
    args = parser.parse_args()
    clip = f" --clip {Path(args.clip).name}" if args.clip else ""
    command = f"python benchmarks/latency.py --frames {args.frames}{clip}"
    text = report(measure(args.frames, args.clip, args.bundle), command, args.clip)
    if args.out is None:
        sys.stdout.write(text)
    else:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
