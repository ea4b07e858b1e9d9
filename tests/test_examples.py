"""The examples, and a program that knows only ZeroMQ and MessagePack, against a real daemon."""

from __future__ import annotations

import ast
import json
import os
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
from msgspec.structs import replace

from edge.protocol import SourceStatus

if TYPE_CHECKING:
    from tests.conftest import DaemonProcess, EventSource, Serve

msgpack = pytest.importorskip("msgpack", reason="the examples speak MessagePack by the package msgpack")

EXAMPLES = Path(__file__).parents[1] / "examples"
VIDEO = Path(__file__).parents[2] / "shared" / "video" / "gymtrainer_squat.mp4"
# What an example is about, beside ZeroMQ and MessagePack.
_OTHERS = {"publish_mediapipe.py": {"cv2", "mediapipe"}, "ros2_node.py": {"rclpy", "rclpy.node", "std_msgs.msg"}}


@pytest.fixture(scope="module")
def daemon(serve: Serve) -> DaemonProcess:
    return serve("zmq")


@contextmanager
def running(script: str, *words: str, python: str = sys.executable, **env: str) -> Iterator[subprocess.Popen[str]]:
    command, pipe = [python, str(EXAMPLES / script), *words], subprocess.PIPE
    environment = {**os.environ, **env}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
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
        assert modules - {"msgpack", "numpy", "zmq"} - _OTHERS.get(path.name, set()) <= sys.stdlib_module_names


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
            "count", "progress", "margin", "runner_up",
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


def test_the_control_client_asks_anything(daemon: DaemonProcess) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(EXAMPLES / "control_client.py"), *words, daemon.sockets.control]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert json.loads(run("status").stdout)["camera"] == "zmq"
    assert json.loads(run("threshold.get", "{}").stdout)["labels"] is not None
    refused = run("gallery.get", '{"label": "nobody"}')
    assert refused.returncode == 1
    assert "unknown_label: no label 'nobody'" in refused.stderr


def test_the_robot_drives_only_while_somebody_looks_and_nobody_said_stop(event_source: EventSource) -> None:
    seen = SourceStatus(epoch="e", frames=9, fps=30.0, slow=False, age_s=0.1, lost=0, restarts=0, dropped={})
    with running("stop_robot.py", event_source.endpoint) as robot:
        assert robot.stdin is not None
        assert robot.stdout is not None
        event_source.wait_for_bridge()

        def said() -> str:
            return str(robot.stdout.readline().strip())  # type: ignore[union-attr]

        def press_enter() -> None:
            robot.stdin.write("\n")  # type: ignore[union-attr]
            robot.stdin.flush()  # type: ignore[union-attr]

        def drive() -> None:
            """Press Enter until the robot drives: it has to hear the status first."""
            deadline_s = time.monotonic() + 10
            while True:
                event_source.tell_status("stop", "wave", sources={"camera": seen})
                press_enter()
                if said() == "driving":
                    return
                assert time.monotonic() < deadline_s

        assert said() == "HALT: a person has to start it. Enter drives again."
        press_enter()
        assert "the daemon is silent" in said()

        drive()
        event_source.tell("wave")
        event_source.tell("stop")
        assert "HALT: body 0 of a said so" in said()
        drive()
        event_source.tell_status("wave", sources={"camera": seen})
        assert "HALT: nothing is enrolled as 'stop'" in said()
        drive()
        event_source.tell_status("stop", sources={"camera": replace(seen, age_s=7.0)})
        assert "HALT: no camera gives frames" in said()
        drive()
        assert "HALT: " in said()  # by the watchdog, as nobody says anything
        drive()
        robot.stdin.close()
        assert "HALT: nobody is there to press Enter" in said()
        assert robot.wait(timeout=10) == 0


_RCLPY = """
import json, sys, types
class Node:
    def __init__(self, name): self.parameters = {}
    def declare_parameter(self, name, value): self.parameters[name] = types.SimpleNamespace(value=value)
    def get_parameter(self, name): return types.SimpleNamespace(value=sys.argv[-1])
    def create_publisher(self, kind, topic, depth):
        return types.SimpleNamespace(publish=lambda message: print(topic, message.data, flush=True))
    def create_timer(self, period_s, call): self.call = call
    def destroy_node(self): pass
def init(): pass
def spin(node):
    while True: node.call()
"""


def test_the_ros_node_passes_on_events_as_json_where_rclpy_is_played(event_source: EventSource, tmp_path: Path) -> None:
    # Nothing of ROS runs here: this shows that the script holds together, and not that ROS takes it.
    for name, content in (
        ("rclpy/__init__.py", _RCLPY),
        ("rclpy/node.py", "from rclpy import Node"),
        ("std_msgs/__init__.py", ""),
        ("std_msgs/msg.py", "from types import SimpleNamespace as String"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    with running("ros2_node.py", event_source.endpoint, PYTHONPATH=str(tmp_path)) as node:
        assert node.stdout is not None
        event_source.wait_for_bridge(b"event.")
        event = event_source.tell("wave")
        topic, _, text = node.stdout.readline().partition(" ")
    assert topic == "~/events"
    assert (json.loads(text)["id"], json.loads(text)["label"]) == (event.id, "wave")


def test_what_mediapipe_sees_in_a_video_is_taken(daemon: DaemonProcess) -> None:
    python = os.environ.get("MEDIAPIPE_PYTHON", "")
    if not python or not VIDEO.exists():
        pytest.skip("needs MEDIAPIPE_PYTHON, a Python with mediapipe 0.10.21, pyzmq and msgpack, and a video")
    with running("publish_mediapipe.py", str(VIDEO), daemon.sockets.frames, python=python) as publisher:
        said, complaints = publisher.communicate(timeout=120)
    assert publisher.returncode == 0, complaints
    source = daemon.ask("status")["sources"]["mediapipe"]
    assert said == f"{source['frames']} frames sent\n"
    assert (source["lost"], source["dropped"]) == (0, {})
