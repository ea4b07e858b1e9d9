"""The examples, and a program that knows only ZeroMQ and MessagePack, against a real daemon."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zmq

if TYPE_CHECKING:
    from tests.conftest import DaemonProcess, Serve

msgpack = pytest.importorskip("msgpack", reason="the examples speak MessagePack by the package msgpack")

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def daemon(serve: Serve) -> DaemonProcess:
    return serve("zmq")


@contextmanager
def running(script: str, endpoint: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(EXAMPLES / script), endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ask(socket: zmq.Socket[bytes], cmd: str, **args: Any) -> dict[str, Any]:
    request_id = uuid.uuid4().hex
    socket.send(msgpack.packb({"v": 1, "id": request_id, "cmd": cmd, "args": args}))
    assert socket.poll(10_000), f"no answer to {cmd}"
    answer = msgpack.unpackb(socket.recv())
    assert (answer["v"], answer["id"]) == (1, request_id)
    assert answer["ok"], answer["error"]
    return dict(answer["result"])


def until(socket: zmq.Socket[bytes], cmd: str, key: str, value: object) -> dict[str, Any]:
    deadline_s = time.monotonic() + 20
    while (answer := ask(socket, cmd)).get(key) != value:
        assert time.monotonic() < deadline_s, answer
        assert answer.get("state") != "failed", answer
        time.sleep(0.05)
    return answer


def test_the_examples_import_nothing_of_ours() -> None:
    for path in EXAMPLES.glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        modules |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        assert modules >= {"msgpack", "zmq"}
        assert modules - {"msgpack", "numpy", "zmq"} <= sys.stdlib_module_names


def test_what_the_example_publishes_is_enrolled_and_then_recognized(daemon: DaemonProcess) -> None:
    with (
        zmq.Context() as context,
        context.socket(zmq.REQ) as control,
        context.socket(zmq.SUB) as events,
        running("publish_frames.py", daemon.sockets.frames),
        running("read_events.py", daemon.sockets.events) as reader,
    ):
        control.connect(daemon.sockets.control)
        control.setsockopt(zmq.LINGER, 0)
        events.connect(daemon.sockets.events)
        events.subscribe(b"event.")

        until(control, "status", "bodies", 1)
        source = ask(control, "status")["sources"]["example"]
        assert source["frames"] > 0
        assert (source["lost"], source["dropped"]) == (0, {})

        # The example's person begins to move whenever its clock, ours too, is a multiple of three seconds.
        # Without a countdown nobody waits for stillness, which would shift the capture.
        time.sleep((2.6 - time.monotonic()) % 3)
        started = ask(control, "enroll.start", label="lift", countdown_s=0.0)
        assert (started["label"], started["cued"]) == ("lift", False)
        result = until(control, "enroll.status", "state", "done")["result"]
        assert result["label"] == "lift"
        assert 1.0 < result["duration_s"] < 1.9
        assert result["fps"] > 10

        assert events.poll(20_000), "no event"
        topic, payload = events.recv_multipart()
        event = msgpack.unpackb(payload)
        assert topic == b"event.example.0"
        assert (event["type"], event["label"], event["source"], event["body"]) == ("onset", "lift", "example", 0)
        assert set(event) == {
            "v", "id", "type", "label", "source", "body", "score", "distance", "threshold", "threshold_distance",
            "margin", "runner_up",
            "t_start", "t_end", "t_emit", "clock", "seq_last", "gallery_revision", "model_sha256", "latency_ms",
            "quality",
        }  # fmt: skip
        assert set(event["latency_ms"]) == {"sensor", "queue", "encode", "match", "total"}
        assert set(event["quality"]) == {"joints", "fps", "dropped"}
        assert event["v"] == 1
        assert event["threshold"] <= event["score"] <= 1
        assert event["t_start"] < event["t_end"] <= event["t_emit"] < time.monotonic()
        assert event["model_sha256"] == ask(control, "model.info")["onnx_sha256"]
        assert event["gallery_revision"] == ask(control, "gallery.list")["gallery_revision"] == 1

        assert reader.stdout is not None
        assert reader.stdout.readline().startswith("onset lift: body 0 of example, ")
        assert events.poll(20_000)
        later = msgpack.unpackb(events.recv_multipart()[1])
        assert later["id"] == event["id"]
        assert later["type"] in ("update", "end")
