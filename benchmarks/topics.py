"""A frame's way through the daemon by who listens: nobody, events, skeletons, scores; beside the recognizer alone.

    python benchmarks/topics.py [--bundle DIR] [--seconds 20] [--rounds 3] [--out FILE]

The daemon runs as it serves, with frames of one body at 30 fps of the clock; listeners are other processes. A frame's
way: from its bytes until the daemon's loop is ready for the next. The ways to listen take turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import zmq

from edge.bench import enroll, machine, messages
from edge.config import Config, GalleryFile, Model, Review, Sockets
from edge.daemon import Daemon
from edge.library import open_library
from edge.live import Recognizer
from edge.match import PrototypeIndex
from streams import wire
from streams.cameras import CameraState, Note, Refused
from streams.frame import SkeletonFrame
from streams.performer import ACTIONS

_FPS = 30.0
_ALONE, _NOBODY = "the recognizer alone, no daemon", "nobody"
_WAYS: dict[str, tuple[str, ...]] = {
    _ALONE: (),
    _NOBODY: (),
    "events": ("event.",),
    "events, skeletons": ("event.", "skeleton."),
    "events, skeletons, scores": ("event.", "skeleton.", "scores."),
}
_LISTEN = """
import sys
from streams.clients import EventSubscriber
subscriber = EventSubscriber(sys.argv[1], tuple(sys.argv[2:]))
while True:
    subscriber.receive(1.0)
"""
# Until a listener has started, and a body that just appeared has filled the windows.
_WARM_UP_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Hold what a frame took, by the clock and of the CPU, and whether it was compared with what is enrolled."""

    wall_us: float
    cpu_us: float
    is_compared: bool


class TimedCamera:
    """Give frames by the clock, to each way in turn, and time what the daemon does between two readings.

    `ways`: of each way to listen, what each frame took.
    """

    def __init__(self, alone: Recognizer, endpoint: str, *, seconds: float, rounds: int) -> None:
        self.socket: zmq.Socket[bytes] | None = None
        self.ways: dict[str, list[Way]] = {way: [] for way in _WAYS}
        self.daemon: Daemon | None = None
        self._alone = alone
        self._steps = _steps(endpoint, seconds, rounds)
        self._watched: tuple[str, float, float, Recognizer, int] | None = None
        self._due_s = time.monotonic()

    def wait_s(self, now_s: float) -> float:
        """Return the time to the next frame; with this the way of the one before has ended."""
        self._stop_watch()
        return max(0.0, self._due_s - now_s)

    def read(self, now_s: float, limit: int) -> list[SkeletonFrame | Refused]:
        """Return the frame that is due; of the recognizer alone none, which has it already."""
        assert self.daemon is not None
        if now_s < self._due_s:
            return []
        step = next(self._steps, None)
        if step is None:
            self.daemon.stop()
            return []
        way, payload, is_timed = step
        self._due_s = max(self._due_s + 1 / _FPS, now_s)
        recognizer = self._alone if way == _ALONE else self.daemon.recognizer
        clocks_s = time.perf_counter(), time.thread_time()
        self._watched = (way if is_timed else "", *clocks_s, recognizer, recognizer.num_windows)
        frame = wire.decode_frame(payload)
        if way != _ALONE:
            return [frame]
        recognizer.feed([frame], now_s)
        self._stop_watch()
        return []

    def cue(self, label: str, after_s: float) -> bool:
        """Return that nobody can be told."""
        return False

    def state(self, now_s: float) -> CameraState | None:
        """Return that there is no process to tell of."""

    def take_notes(self) -> list[Note]:
        """Return that there is nothing to say."""
        return []

    def close(self) -> None:
        """Stop the listener."""
        self._steps.close()

    def _stop_watch(self) -> None:
        if self._watched is not None:
            way, wall_s, cpu_s, recognizer, num_windows = self._watched
            self._watched = None
            if way:
                took = Way(
                    wall_us=1e6 * (time.perf_counter() - wall_s),
                    cpu_us=1e6 * (time.thread_time() - cpu_s),
                    is_compared=recognizer.num_windows > num_windows,
                )
                self.ways[way].append(took)


def _steps(endpoint: str, seconds: float, rounds: int) -> Generator[tuple[str, bytes, bool]]:
    """Yield the way, the message and whether it is timed, frame by frame, with the way's listener beside it."""
    num_warm, num_timed = round(min(_WARM_UP_S, seconds) * _FPS), round(seconds * _FPS)
    # All ways meet the same movements; each recognizer's clock only ever goes on.
    payloads = messages((num_warm + num_timed) * rounds)
    for start in range(0, len(payloads), num_warm + num_timed):
        for way, topics in _WAYS.items():
            listener = subprocess.Popen([sys.executable, "-c", _LISTEN, endpoint, *topics]) if topics else None
            try:
                for number, payload in enumerate(payloads[start : start + num_warm + num_timed]):
                    yield way, _of_way(payload, way), number >= num_warm
            finally:
                if listener is not None:
                    listener.kill()
                    listener.wait()


def _of_way(payload: bytes, way: str) -> bytes:
    """Return a message as of a source of its own for each way, so that its time rises."""
    return msgspec.msgpack.encode({**msgspec.msgpack.decode(payload), "source": f"camera {[*_WAYS].index(way)}"})


def measure(bundle: Path | None, *, seconds: float, rounds: int) -> dict[str, list[Way]]:
    """Return TimedCamera.ways of a daemon with ten actions enrolled."""
    with tempfile.TemporaryDirectory() as folder:
        sockets = Sockets(**{name: f"ipc://{folder}/{name}" for name in ("frames", "events", "control")})
        config = Config(
            sockets=sockets,
            model=Model(bundle=str(bundle or "")),
            gallery=GalleryFile(path=f"{folder}/gallery.db"),
            review=Review(enabled=False),
        )
        library = open_library(config)
        for action in ACTIONS[:10]:
            enroll(library, action, action)
        index = PrototypeIndex(library.gallery.prototypes, library.encoder.info)
        alone = Recognizer(config, library.encoder, index, clock=time.monotonic)
        camera = TimedCamera(alone, sockets.events, seconds=seconds, rounds=rounds)
        camera.daemon = Daemon(library, camera)
        camera.daemon.run()
    return camera.ways


def table(ways: Mapping[str, Sequence[Way]]) -> list[str]:
    """Return the percentiles of each way as Markdown, of frames that are compared and of those that are not."""
    lines = ["| who listens | frames | p50 | p95 | p99 | count | CPU p50 | p95 | p99 |", f"|{9 * ' --- |'}"]
    for is_compared, name in ((False, "not compared"), (True, "compared")):
        for way, taken in ways.items():
            own = [took for took in taken if took.is_compared == is_compared]
            if own:
                wall, cpu = (
                    " | ".join(f"{float(p):,.0f}" for p in np.percentile(us, (50, 95, 99)))
                    for us in ([took.wall_us for took in own], [took.cpu_us for took in own])
                )
                lines.append(f"| {way} | {name} | {wall} | {len(own)} | {cpu} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="measured of each way in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="default: print")
    args = parser.parse_args()
    lines = [
        "# A frame's way, by who listens",
        "",
        f"- made by: `python benchmarks/topics.py --seconds {args.seconds:g} --rounds {args.rounds}`, "
        f"{datetime.now(UTC):%Y-%m-%d}",
        f"- on: {', '.join(f'{name} {value}' for name, value in machine().items())}",
        "- microseconds from a message's bytes until the daemon's loop is ready for the next, by the clock and of the "
        "thread's CPU; one body at 30 fps, ten enrolled actions; listeners are other processes; the ways take turns",
        "- compared: one frame in six decides; those whose windows were encoded and compared with what is enrolled",
        "",
        *table(measure(args.bundle, seconds=args.seconds, rounds=args.rounds)),
    ]
    text = "\n".join(lines) + "\n"
    if args.out is None:
        sys.stdout.write(text)
    else:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
