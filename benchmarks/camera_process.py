"""How long the daemon is held up by a camera's process that is well, that hangs, and that dies at once.

    python benchmarks/camera_process.py [--seconds S] [--out FILE.md]

The daemon asks its camera in each turn of its one loop, at least five times a second. Here it is asked every 5 ms, and
each call is timed, by the clock and by this thread's own CPU time. The camera that has no process is the reference. All
are asked in turns of a second, so that what else the machine does meets them alike. Takes a minute.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edge.bench import machine
from streams.cameras import Camera, CaptureCamera, Limits, open_camera

SENSOR = """
import sys, time
from streams.sensors import run_sensor

def watch(sender, start):
    if start.settings["dies"]:
        sys.exit(1)
    while True:
        sender.send([], layout="mediapipe33", timestamp_s=time.monotonic())
        time.sleep(1 / 30)

run_sensor(watch)
"""
TURN_S, EVERY_S = 1.0, 0.005
# A process that hangs is not killed within the measurement but once in each turn; one that dies is started at once.
LIMITS = Limits(hang_s=0.5, backoff_s=0.01, max_backoff_s=0.01)


def ask(camera: Camera, seconds: float, disturb: Callable[[Camera], None]) -> list[tuple[float, float]]:
    """Return what each call of `read` took, microseconds: by the clock, and of this thread's CPU time."""
    took, end_s = [], time.monotonic() + seconds
    while (now_s := time.monotonic()) < end_s:
        disturb(camera)
        start_s, start_cpu_s = time.perf_counter(), time.thread_time()
        camera.read(now_s, 512)
        took.append((1e6 * (time.perf_counter() - start_s), 1e6 * (time.thread_time() - start_cpu_s)))
        time.sleep(EVERY_S)
    return took


def leave(camera: Camera) -> None:
    """Disturb nothing."""


def stop(camera: Camera) -> None:
    """Stop the process whenever it runs, so that it hangs and is killed after half a second."""
    state = camera.state(time.monotonic())
    if state is not None and state.state == "runs" and state.pid is not None:
        os.kill(state.pid, signal.SIGSTOP)


def measure(seconds: float, folder: Path) -> list[str]:
    """Return the rows of the table."""
    sensor = folder / "sensor.py"
    sensor.write_text(SENSOR, encoding="utf-8")

    def capture(*, dies: bool = False) -> CaptureCamera:
        command = [sys.executable, str(sensor)]
        return CaptureCamera("test", command, source="test", settings={"dies": dies}, limits=LIMITS)

    cameras: dict[str, tuple[Camera, Callable[[Camera], None]]] = {
        "no process: `zmq`": (open_camera("zmq", frames_endpoint=f"ipc://{folder / 'frames'}"), leave),
        "30 frames a second": (capture(), leave),
        "hangs, is killed": (capture(), stop),
        "dies at once": (capture(dies=True), leave),
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in cameras}
    for _ in range(max(1, round(seconds / TURN_S))):
        for name, (camera, disturb) in cameras.items():
            took[name] += ask(camera, TURN_S, disturb)
    rows = []
    for name, (camera, _) in cameras.items():
        with closing(camera):
            state = camera.state(time.monotonic())
            wall_us, cpu_us = np.array(took[name]).T
            figures = [*np.percentile(wall_us, (50, 95, 99)), wall_us.max(), np.percentile(cpu_us, 99), cpu_us.max()]
            cells = [name, len(wall_us), *(f"{us:.0f}" for us in figures), state.num_restarts if state else ""]
            rows.append(f"| {' | '.join(map(str, cells))} |")
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="time for each camera")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options.seconds, Path(folder))
    text = "\n".join(
        [
            "# What a camera's process costs the daemon",
            "",
            f"- made by: `python benchmarks/camera_process.py --seconds {options.seconds:g}`, "
            f"{datetime.now(UTC).date().isoformat()}; no seed, as nothing is drawn",
            f"- on: {', '.join(f'{key} {value}' for key, value in machine().items())}, "
            f"load {os.getloadavg()[0]:.0f} at the end",
            "- each row: the calls of the camera's `read`, which the daemon's loop makes in each turn, in microseconds",
            "",
            "| the camera's process | calls | p50 | p95 | p99 | longest | CPU p99 | CPU longest | restarts |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *rows,
        ]
    )
    sys.stdout.write(f"{text}\n")
    if options.out:
        options.out.write_text(f"{text}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
