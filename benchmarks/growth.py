"""How the cost grows with the bodies in view at 30 fps, and how many this machine holds without lagging.

    python benchmarks/growth.py [--bundle DIR] [--quick] [--out FILE.md]

Real recognizer, real encoder, synthetic people, ten enrolled actions. Time is simulated as the daemon spends it:
a frame arrives every thirtieth of a second, whatever has arrived is taken in at once, and a step lasts as long as
it really takes. A plot is written beside FILE. Takes three minutes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import time
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edge.bench import NoEncoder, machine
from edge.config import Config, Model
from edge.gallery import Prototype
from edge.live import Recognizer
from edge.match import PrototypeIndex
from edge.model import Encoder, embed_movements, open_encoder, read_bundle
from streams.frame import SkeletonFrame
from streams.performer import ACTIONS, Performer, perform

FPS = 30
# Before, a body's windows are not full yet.
WARM_UP_S = 4.5
MAX_BODIES = 64
HOP_S = Config().windows.hop_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Hold what some bodies cost: of each second of the stream, and of each decision."""

    threads: int
    bodies: int
    busy_share: float
    windows_per_s: float
    p50_ms: float
    p99_ms: float
    skipped_share: float
    peak_mb: float

    @property
    def is_held(self) -> bool:
        """Whether no decision was left out and the slowest percentile fits between two."""
        return self.skipped_share == 0 and self.p99_ms < 1000 * HOP_S


def crowd(num_bodies: int, seconds: float) -> list[SkeletonFrame]:
    """Return frames of one source in which so many people act, each in a rhythm of its own."""
    performers = [Performer(seed=seed, fps=FPS) for seed in range(num_bodies)]
    frames = []
    for _ in range(round(seconds * FPS)):
        seen = [performer.frame() for performer in performers]
        bodies = [replace(b, id=100 * n + b.id % 100) for n, frame in enumerate(seen) for b in frame.bodies]
        frames.append(replace(seen[0], bodies=tuple(bodies)))
    return frames


def recognizer_of(encoder: Encoder) -> Recognizer:
    """Return a recognizer of ten of the performer's actions."""
    config = msgspec.structs.replace(Config(), stream=msgspec.structs.replace(Config().stream, max_bodies=MAX_BODIES))
    movements = [perform(action, seed=1) for action in ACTIONS[:10]]
    embeddings_NE = embed_movements(encoder, movements)
    prototypes = [
        Prototype(
            id=action,
            label=action,
            movement=movement,
            embedding=embedding,
            model_sha256="",
            origin="bench",
            created="",
        )
        for action, movement, embedding in zip(ACTIONS[:10], movements, embeddings_NE, strict=True)
    ]
    return Recognizer(config, encoder, PrototypeIndex(prototypes, encoder.info), clock=time.perf_counter)


def load(job: tuple[Path | None, int, int, float]) -> Load:
    """Measure one number of bodies, in a process of its own."""
    bundle, num_threads, num_bodies, seconds = job
    encoder = open_encoder(bundle, Model(num_threads=num_threads))
    recognizer = recognizer_of(encoder)
    frames = crowd(num_bodies, WARM_UP_S + seconds)
    num_warm = round(WARM_UP_S * FPS)
    recognizer.encoder = NoEncoder(encoder.info)
    for frame in frames[:num_warm]:
        recognizer.feed([frame], frame.timestamp_s)
    recognizer.encoder = encoder
    before = counts(recognizer)
    busy_s, lasted_s, latencies_ms = play(recognizer, frames[num_warm:])
    windows, decisions, skipped = (counts(recognizer) - before).tolist()
    p50_ms, p99_ms = np.percentile(latencies_ms, (50, 99))
    return Load(
        threads=num_threads,
        bodies=num_bodies,
        busy_share=busy_s / lasted_s,
        windows_per_s=windows / lasted_s,
        p50_ms=float(p50_ms),
        p99_ms=float(p99_ms),
        skipped_share=skipped / (skipped + decisions),
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def play(recognizer: Recognizer, frames: Sequence[SkeletonFrame]) -> tuple[float, float, list[float]]:
    """Play frames at their rate; return the seconds of work, those until the end, and milliseconds to each decision."""
    now_s = busy_s = 0.0
    latencies_ms = []
    next_frame = 0
    while next_frame < len(frames):
        now_s = max(now_s, next_frame / FPS)
        newest = min(len(frames) - 1, int(now_s * FPS + 1e-6))
        started_s = time.perf_counter()
        turn = recognizer.feed(frames[next_frame : newest + 1], frames[newest].timestamp_s)
        took_s = time.perf_counter() - started_s
        now_s, busy_s = now_s + took_s, busy_s + took_s
        if turn.decisions:
            latencies_ms.append(1000 * (now_s - newest / FPS))
        next_frame = newest + 1
    return busy_s, max(now_s, len(frames) / FPS), latencies_ms


def counts(recognizer: Recognizer) -> npt.NDArray[np.int64]:
    """Return the windows, the decisions and the hops that were skipped so far."""
    return np.array([recognizer.num_windows, recognizer.num_decisions, recognizer.num_hops_skipped])


def track_bytes(bundle: Path | None) -> int:
    """Return the memory that each further body takes while it is followed, without the encoder's."""
    used = []
    for num_bodies in (1, 9):
        frames = crowd(num_bodies, WARM_UP_S)
        tracemalloc.start()
        recognizer = recognizer_of(NoEncoder(read_bundle(bundle)[0]))
        for frame in frames:
            recognizer.feed([frame], frame.timestamp_s)
        used.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    return (used[1] - used[0]) // 8


def plot(loads: Sequence[Load], path: Path) -> None:
    """Draw the time spent and the latency over the bodies."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (busy, late) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for threads in sorted({each.threads for each in loads}):
        own = [each for each in loads if each.threads == threads]
        bodies = [each.bodies for each in own]
        busy.plot(bodies, [each.busy_share for each in own], marker="o", label=f"threads: {threads}")
        late.plot(bodies, [each.p99_ms for each in own], marker="o", label=f"threads: {threads}")
    busy.axhline(1, color="gray", linestyle=":")
    late.axhline(1000 * HOP_S, color="gray", linestyle=":")
    busy.set(xlabel="bodies at 30 fps", ylabel="seconds of work a second")
    late.set(xlabel="bodies at 30 fps", ylabel="p99 from frame to decision, ms", yscale="log")
    busy.legend()
    figure.savefig(path, dpi=90, metadata={"Software": None})


def report(loads: Sequence[Load], bundle: Path | None, picture: Path | None) -> str:
    """Return the table as Markdown."""
    held = dict.fromkeys(sorted({each.threads for each in loads}), 0)
    for each in loads:
        if each.is_held:
            held[each.threads] = max(held[each.threads], each.bodies)
    lines = [
        "# How cost grows with bodies",
        "",
        f"- made by: `python benchmarks/growth.py`, model {read_bundle(bundle)[0].name}, {datetime.now(UTC):%Y-%m-%d}",
        f"- on: {', '.join(f'{name} {value}' for name, value in machine().items())}",
        "- the synthetic performer, ten enrolled actions, all bodies of one source, so that all are due at once",
        "- frames come at 30 fps; those that arrive during a step are taken in together, so a machine that is too slow "
        "skips decisions and its latency stays bounded",
        f"- held: no decision skipped, and 99 % of them within the {1000 * HOP_S:.0f} ms to the next",
        "",
        "| encoder threads | bodies | seconds of work a second | windows a second | frame to decision p50 ms "
        "| p99 ms | decisions skipped | held | peak memory MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {each.threads} | {each.bodies} | {each.busy_share:.2f} | {each.windows_per_s:.0f} | {each.p50_ms:.0f} "
        f"| {each.p99_ms:.0f} | {100 * each.skipped_share:.0f} % | {'yes' if each.is_held else 'no'} "
        f"| {each.peak_mb:.0f} |"
        for each in loads
    ]
    lines += ["", *(f"Most bodies held with {threads} thread(s): {most}." for threads, most in held.items())]
    lines += ["", f"A body that is followed takes {track_bytes(bundle) / 1024:.0f} KiB."]
    if picture is not None:
        lines += ["", f"![Work and latency by bodies]({picture.name})"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--quick", action="store_true", help="in seconds, to see whether it works")
    parser.add_argument("--out", type=Path, help="default: print; the plot is FILE with .png")
    args = parser.parse_args()
    bodies, seconds = ((1, 4), 1.0) if args.quick else ((1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 48, 64), 8.0)
    threads = (1,) if args.quick else tuple(2**n for n in range((os.cpu_count() or 1).bit_length()))
    jobs = [(args.bundle, num_threads, num_bodies, seconds) for num_threads in threads for num_bodies in bodies]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as pool:
        loads = list(pool.map(load, jobs))
    picture = args.out and args.out.with_suffix(".png")
    if picture is not None:
        plot(loads, picture)
    text = report(loads, args.bundle, picture)
    if args.out is None:
        sys.stdout.write(text)
    else:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
