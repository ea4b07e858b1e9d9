"""Whether browsers slow the daemon's decisions: none, one that reads, one that never reads, in turn, as a results file.

    python benchmarks/web.py [--bundle DIR] [--quick] [--out FILE]

Takes five minutes. A daemon and the page's server run in processes of their own, as people run them.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import numpy as np

from edge.bench import machine
from streams import ControlClient, ControlError, EventSubscriber, FramePublisher
from streams.performer import ACTIONS, Performer, perform

_FPS = 30.0
_SOURCES = 4
_ENROLLED = ACTIONS[:5]
_PATIENCE_S = 60.0
# What a block begins with belongs to the change from the one before.
_SETTLE_S = 1.5
_CLOCK = "the benchmark's"


class Publishing(threading.Thread):
    """Publish synthetic people at 30 fps, each a source of its own, stamped with this machine's clock."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(daemon=True)
        self._publisher = FramePublisher(endpoint)
        self._people = [Performer(seed=seed, source=f"person{seed}", epoch="benchmark") for seed in range(_SOURCES)]
        self.is_stopping = False

    def run(self) -> None:
        """Publish until told to stop."""
        self._publisher.wait_for_subscriber(_PATIENCE_S)
        due_s = time.monotonic()
        while not self.is_stopping:
            for person in self._people:
                now_s = time.monotonic()
                self._publisher.send(replace(person.frame(), timestamp_s=now_s, t_send_s=now_s, clock=_CLOCK))
            due_s += 1 / _FPS
            time.sleep(max(0.0, due_s - time.monotonic()))
        self._publisher.close()


def decisions_ms(events: EventSubscriber, seconds: float) -> list[float]:
    """Return the milliseconds from a frame's sending to its scores, of decisions that compared something."""
    found: list[float] = []
    begin_s = time.monotonic()
    while (left_s := begin_s + seconds - time.monotonic()) > 0:
        received = events.receive(left_s)
        if received is None:
            break
        now_s, (_, message) = time.monotonic(), received
        is_settled = message["timestamp"] >= begin_s + _SETTLE_S
        if is_settled and any(label["distance"] is not None for label in message["labels"]):
            found.append(1e3 * (now_s - message["timestamp"]))
    return found


async def read_while(url: str, is_open: Event) -> None:
    """Have a page open that takes what comes, as long as it is to be open."""
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}live") as page:
        await page.send_json({"visible": True})
        while is_open.is_set():
            with suppress(TimeoutError):
                await page.receive(timeout=0.2)


def run_reader(url: str, is_open: Event) -> None:
    """Open the page whenever it is to be open: one process for all rounds, as its start would disturb them."""
    while True:
        is_open.wait()
        asyncio.run(read_while(url, is_open))


@contextmanager
def reader(url: str) -> Iterator[Event]:
    """Run the process that reads; yield what opens its page."""
    processes = multiprocessing.get_context("spawn")
    is_open = processes.Event()
    reading = processes.Process(target=run_reader, args=(url, is_open), daemon=True)
    reading.start()
    try:
        yield is_open
    finally:
        reading.kill()
        reading.join()


@contextmanager
def who_reads(is_open: Event) -> Iterator[None]:
    """Have a page open that takes what it is sent, as a browser does."""
    is_open.set()
    try:
        yield
    finally:
        is_open.clear()


@contextmanager
def who_never_reads(url: str) -> Iterator[None]:
    """Have a page open that is visible and takes nothing."""
    parts = urlsplit(url)
    lines = ["GET /live HTTP/1.1", f"Host: {parts.netloc}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", ""]
    said = b'{"visible":true}'
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect((parts.hostname or "", parts.port or 0))
        stuck.sendall("\r\n".join(lines).encode())
        stuck.sendall(bytes([0x81, 0x80 | len(said), 0, 0, 0, 0]) + said)
        yield


WAYS = ("no page open", "a page that reads", "a page that never reads")


@contextmanager
def served(folder: Path, bundle: Path | None) -> Iterator[tuple[dict[str, str], str]]:
    """Run a daemon and the page's server; yield the sockets' endpoints and the page's address."""
    endpoints = {name: f"ipc://{folder / name}" for name in ("frames", "events", "control")}
    lines = ["[sockets]", *(f'{name} = "{endpoint}"' for name, endpoint in endpoints.items())]
    lines += ["[gallery]", f'path = "{folder / "gallery.db"}"', "[web]", "port = 0"]
    lines += ["[model]", f'bundle = "{bundle}"'] if bundle is not None else []
    config, log = folder / "config.toml", folder / "log"
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-c", "from edge.cli.app import main; main()"]
    with (
        log.open("wb") as told,
        subprocess.Popen(
            [*command, "serve", "--camera", "zmq", "--web", "--config", str(config)], stderr=told
        ) as daemon,
    ):
        try:
            deadline_s = time.monotonic() + _PATIENCE_S
            while not (found := re.search(r"http://\S+/", log.read_text(encoding="utf-8"))):
                if daemon.poll() is not None or time.monotonic() > deadline_s:
                    raise SystemExit(log.read_text(encoding="utf-8"))
                time.sleep(0.1)
            yield endpoints, found[0]
        finally:
            daemon.terminate()


def enroll(client: ControlClient) -> None:
    """Enroll a few of the performer's actions."""
    for action in _ENROLLED:
        shown = perform(action, seed=100)
        try:
            client.ask(
                "enroll.clip",
                label=action,
                timestamps_s=shown.timestamps_s.astype("<f8").tobytes(),
                joints_m=shown.joints_m.astype("<f4").tobytes(),
                origin="benchmark",
                force=True,
            )
        except ControlError as error:
            raise SystemExit(error.message) from error


def measure(bundle: Path | None, num_rounds: int, seconds: float) -> tuple[dict[str, list[list[float]]], str, int]:
    """Return the milliseconds of each way's decisions, a list a round; the model's name; browsers that were dropped."""
    times: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        endpoints, url = stack.enter_context(served(folder, bundle))
        client = ControlClient(endpoints["control"], timeout_s=_PATIENCE_S)
        stack.callback(client.close)
        enroll(client)
        is_open = stack.enter_context(reader(url))
        ways: dict[str, Callable[[], AbstractContextManager[None]]] = dict(
            zip(WAYS, (nullcontext, lambda: who_reads(is_open), lambda: who_never_reads(url)), strict=True)
        )
        publishing = Publishing(endpoints["frames"])
        publishing.start()
        events = EventSubscriber(endpoints["events"], ("scores.",))
        stack.callback(events.close)
        decisions_ms(events, 6.0)
        for number in range(num_rounds):
            # Each way comes first, second and last equally often.
            names = [*WAYS][number % len(WAYS) :] + [*WAYS][: number % len(WAYS)]
            for name in names:
                with ways[name]():
                    times[name].append(decisions_ms(events, seconds))
        model = client.ask("model.info")["name"]
        publishing.is_stopping = True
        publishing.join()
        dropped = len(re.findall("did not read", (folder / "log").read_text(encoding="utf-8")))
    return times, model, dropped


def ratio_of_p99(ours: list[list[float]], theirs: list[list[float]]) -> tuple[float, float, float]:
    """Return the ratio of the p99 of all decisions, and its 95 % interval by bootstrap over rounds."""
    rng = np.random.default_rng(0)
    rounds = np.arange(len(ours))

    def p99(times: list[list[float]], chosen: list[int]) -> float:
        return float(np.percentile(np.concatenate([times[number] for number in chosen]), 99))

    draws = [rng.choice(rounds, len(rounds)).tolist() for _ in range(2000)]
    low, high = np.percentile([p99(ours, draw) / p99(theirs, draw) for draw in draws], (2.5, 97.5))
    return p99(ours, rounds.tolist()) / p99(theirs, rounds.tolist()), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--quick", action="store_true", help="in seconds, to see whether it works")
    parser.add_argument("--out", type=Path, help="default: print")
    args = parser.parse_args()
    num_rounds, seconds = (1, 3.0) if args.quick else (10, 8.0)
    times, model, dropped = measure(args.bundle, num_rounds, seconds)
    (reference, none), *others = times.items()
    lines = [
        "# Decisions with browsers that read, and that do not",
        "",
        f"- made by: `python benchmarks/web.py`, model {model}, {datetime.now(UTC):%Y-%m-%d}",
        f"- on: {', '.join(f'{name} {value}' for name, value in machine().items())}; load {os.getloadavg()[0]:.0f} at "
        f"the end, these processes at nice {os.nice(0)}",
        f"- {_SOURCES} synthetic people at {_FPS:g} fps (seeds 0 to {_SOURCES - 1}), {len(_ENROLLED)} enrolled "
        "actions; daemon, page server and this program are three processes",
        "- from a frame's sending to the arrival of the scores of its decision, which a plain subscriber takes all the "
        "time; decisions that compared something",
        f"- the ways take turns in {num_rounds} rounds of {seconds:g} s each; an interval is a bootstrap over rounds",
        f"- a page that never reads is opened anew in each round; the page's server dropped {dropped} of them so far",
        "",
        f"| browsers | p50 ms | p95 ms | p99 ms | decisions | p99 beside {reference} |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, rounds in times.items():
        cells = [f"{value:.1f}" for value in np.percentile(np.concatenate(rounds), (50, 95, 99))]
        beside = ""
        if (name, rounds) in others:
            ratio, low, high = ratio_of_p99(rounds, none)
            beside = f"{ratio:.2f} ({low:.2f} to {high:.2f})"
        lines.append(f"| {name} | {' | '.join(cells)} | {sum(map(len, rounds))} | {beside} |")
    text = "\n".join(lines) + "\n"
    if args.out is None:
        sys.stdout.write(text)
    else:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
