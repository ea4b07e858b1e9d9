"""Whether bridges that are stuck slow the daemon's decisions: with and without them, in turns, in one run.

    [chrt --rr 5] python benchmarks/bridges.py [--bundle DIR] [--quick] [--out FILE]

A real daemon follows a synthetic person over ZeroMQ; a decision's time is from the frame being sent to its scores being
received. `stuck`: bridges to an MQTT broker that took the connection and was stopped, to a web server that never
answers, and to a program that never ends. `stopped`: the bridges' own processes are stopped as well and read nothing.
Takes six minutes; needs mosquitto. On a machine that does other work too, `chrt` (root) keeps that out of the times.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import zmq

from edge.bench import machine
from streams import ControlClient
from streams.cameras import clock_name
from streams.frame import SkeletonFrame
from streams.messages import decode_map
from streams.performer import Performer, perform
from streams.sockets import FramePublisher

FPS, HOP_S = 30, 0.1
CONDITIONS = ("alone", "stuck", "stopped")
ENROLLED = ("wave", "bow", "squat", "raise_arms", "punch", "kick")
SCRIPT = Path(sys.executable).with_name("crossglg-edge")
MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")


class Stuck:
    """Peers that have taken a connection and do nothing more: a broker, a web server."""

    def __init__(self, folder: Path) -> None:
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
            self.broker_port = probe.getsockname()[1]
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {self.broker_port} 127.0.0.1\nallow_anonymous true\n", encoding="utf-8")
        self.broker = subprocess.Popen([str(MOSQUITTO), "-c", str(config)], stdout=-3, stderr=-3)
        # Connections wait to be accepted, and never are: a client sends and gets no answer.
        self.server = socket.create_server(("127.0.0.1", 0), backlog=128)

    def close(self) -> None:
        """End the broker, and the server's port."""
        self.broker.kill()
        self.broker.wait()
        self.server.close()


@contextlib.contextmanager
def bridges(condition: str, folder: Path, stuck: Stuck) -> Iterator[None]:
    """Run the bridges of a condition."""
    if condition == "alone":
        time.sleep(1.0)
        yield
        return
    url = f"http://127.0.0.1:{stuck.server.getsockname()[1]}/"
    started: list[subprocess.Popen[bytes]] = []
    stuck.broker.send_signal(signal.SIGCONT)
    for words in (["mqtt", f"127.0.0.1:{stuck.broker_port}"], ["webhook", url], ["command", "--", "sleep", "9"]):
        command = [str(SCRIPT), "bridge", words[0], "--config", str(folder / "config.toml"), *words[1:]]
        started.append(subprocess.Popen(command, stdout=-3, stderr=-3))
    time.sleep(3.0)
    assert all(process.poll() is None for process in started), "a bridge has ended"
    stuck.broker.send_signal(signal.SIGSTOP)
    if condition == "stopped":
        for process in started:
            process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def write_config(folder: Path, bundle: Path | None) -> Path:
    """Write a configuration in which decisions and messages of events are more frequent than usual."""
    types = 'types = ["onset", "update", "end"]\n'
    sections = [
        "".join(f'{name} = "ipc://{folder / name}"\n' for name in ("frames", "events", "control")),
        f'path = "{folder / "gallery.db"}"\n',
        f'bundle = "{bundle or ""}"\n',
        f"hop_s = {HOP_S}\n",
        "update_s = 0.2\n",
        types,
        types + "max_per_minute = 6000\n",
        types + "max_per_minute = 6000\n",
    ]
    names = ("sockets", "gallery", "model", "windows", "events", "bridge.mqtt", "bridge.webhook", "bridge.command")
    path = folder / "config.toml"
    path.write_text(
        "".join(f"[{name}]\n{lines}" for name, lines in zip(names, sections, strict=True)), encoding="utf-8"
    )
    return path


@contextlib.contextmanager
def daemon(config: Path, folder: Path) -> Iterator[ControlClient]:
    """Run a daemon with some actions enrolled."""
    process = subprocess.Popen([str(SCRIPT), "serve", "--camera", "zmq", "--config", str(config)], stderr=-3)
    client = ControlClient(f"ipc://{folder / 'control'}", timeout_s=30)
    try:
        while not (folder / "control").exists():
            time.sleep(0.1)
        for action in ENROLLED:
            movement = perform(action, seed=1)
            times, joints = movement.timestamps_s.astype("<f8").tobytes(), movement.joints_m.astype("<f4").tobytes()
            client.ask("enroll.clip", label=action, timestamps_s=times, joints_m=joints, origin="performer", force=True)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait()


class Watch:
    """Publish a person at 30 fps, and time the decisions about them."""

    def __init__(self, folder: Path) -> None:
        self.publisher = FramePublisher(f"ipc://{folder / 'frames'}")
        self.scores: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self.scores.connect(f"ipc://{folder / 'events'}")
        for topic in (b"scores.", b"event."):
            self.scores.subscribe(topic)
        self.num_events = 0
        self._performer, self._seq = Performer(seed=3, fps=FPS), itertools.count()

    def play(self, seconds: float) -> list[float]:
        """Return the time of each decision, in seconds."""
        start_s, times_s = time.monotonic(), []
        for number in range(round(seconds * FPS)):
            while (wait_s := start_s + number / FPS - time.monotonic()) > 0:
                times_s += self._hear(wait_s)
            self.publisher.send(self._frame())
        return times_s

    def _frame(self) -> SkeletonFrame:
        now_s = time.monotonic()
        return replace(
            self._performer.frame(), source="person", epoch="e", seq=next(self._seq), timestamp_s=now_s, t_send_s=now_s,
            clock=clock_name(),
        )  # fmt: skip

    def _hear(self, wait_s: float) -> list[float]:
        if not self.scores.poll(int(1000 * wait_s) + 1):
            return []
        topic, payload = self.scores.recv_multipart()
        received_s = time.monotonic()
        if topic.startswith(b"event."):
            self.num_events += 1
            return []
        return [received_s - decode_map(payload)["timestamp"]]


def measure(folder: Path, bundle: Path | None, blocks: int, seconds: float) -> tuple[dict[str, list[list[float]]], int]:
    """Return the decisions' times of each block of each condition, and how many messages of events there were."""
    times: dict[str, list[list[float]]] = {name: [] for name in CONDITIONS}
    stuck = Stuck(folder)
    try:
        with daemon(write_config(folder, bundle), folder):
            watch = Watch(folder)
            assert watch.publisher.wait_for_subscriber(10)
            watch.play(3.0)
            for block in range(blocks):
                # Each condition stands in each place of the order equally often.
                for i in range(len(CONDITIONS)):
                    condition = CONDITIONS[(block + i) % len(CONDITIONS)]
                    with bridges(condition, folder, stuck):
                        watch.play(1.0)
                        times[condition].append(watch.play(seconds))
            return times, watch.num_events
    finally:
        stuck.close()


def _priority() -> str:
    """Say whether the scheduler prefers these processes: on a busy machine, others' work is not to be measured."""
    is_preferred = os.sched_getscheduler(0) in (os.SCHED_RR, os.SCHED_FIFO)
    return "real-time priority, before other work" if is_preferred else "no priority over other work"


def report(times: dict[str, list[list[float]]], num_events: int) -> list[str]:
    """Return a table: percentiles, and how much larger the 99th is than alone, with a bootstrap over the blocks."""
    rng = np.random.default_rng(0)
    lines = ["| bridges | p50 ms | p95 ms | p99 ms | decisions | p99 over alone (95 % interval) |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]

    def p99(name: str, picked: np.ndarray | None = None) -> float:
        found = times[name] if picked is None else [times[name][i] for i in picked]
        return float(np.percentile(np.concatenate(found), 99))

    num_blocks = len(times["alone"])
    for name, found in times.items():
        joined_ms = 1000 * np.concatenate(found)
        p50, p95, top = np.percentile(joined_ms, (50, 95, 99))
        # Blocks that were measured one after another are drawn together.
        draws = [rng.integers(num_blocks, size=num_blocks) for _ in range(2000)]
        ratios = [p99(name, picked) / p99("alone", picked) for picked in draws]
        low, high = np.percentile(ratios, (2.5, 97.5))
        ratio = "1" if name == "alone" else f"{p99(name) / p99('alone'):.2f} ({low:.2f} to {high:.2f})"
        lines.append(f"| {name} | {p50:.1f} | {p95:.1f} | {top:.1f} | {len(joined_ms)} | {ratio} |")
    return [*lines, "", f"{num_events} messages of events were sent meanwhile."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--quick", action="store_true", help="in seconds, to see whether it works")
    parser.add_argument("--out", type=Path, help="default: print")
    args = parser.parse_args()
    if MOSQUITTO is None:
        sys.exit("needs a broker: apt-get install mosquitto")
    blocks, seconds = (1, 2.0) if args.quick else (9, 10.0)
    with tempfile.TemporaryDirectory() as folder:
        before = os.getloadavg()[0]
        times, num_events = measure(Path(folder), args.bundle, blocks, seconds)
    load = f"{before:.1f} before and {os.getloadavg()[0]:.1f} after"
    lines = [
        "# Decisions beside bridges that are stuck",
        "",
        f"- made by: `python benchmarks/bridges.py`, {datetime.now(UTC):%Y-%m-%d}, {_priority()}",
        f"- on: {', '.join(f'{name} {value}' for name, value in machine().items())}; load of the machine {load}",
        f"- one synthetic person at {FPS} fps (seed 3), {len(ENROLLED)} enrolled actions (seed 1), a decision each "
        f"{HOP_S} s; {blocks} blocks of {seconds:g} s for each condition, in turns; bootstrap over the blocks (seed 0)",
        "- a decision's time: from the frame being sent to its scores being received, over ipc sockets",
        "- alone: no bridge. stuck: MQTT to a broker that is stopped (SIGSTOP), a webhook to a server that never "
        "answers, a command that never ends. stopped: the bridges are stopped too, and read nothing",
        "",
        *report(times, num_events),
    ]
    text = "\n".join(lines) + "\n"
    if args.out is None:
        sys.stdout.write(text)
    else:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
