"""Engines behind the encoder: the same embeddings from each, and what happens where one is missing, wrong or fails.

Shapes: N windows, T frames of a window, V = 25, C = 3, E embedding size, F features.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edge.config import Model, read_config
from edge.daemon.commands import commit_example
from edge.daemon.loop import Daemon
from edge.enroll.capture import example_from_capture
from edge.gallery.store import Gallery
from edge.library import Library
from edge.model.bundle import read_bundle
from edge.model.choose import open_encoder
from edge.model.encoder import BundleEncoder, embed_movements
from edge.model.engines.onnx_runtime import OnnxRuntime
from edge.model.engines.open_vino import import_openvino
from edge.model.engines.parity import agreement, fixed_windows, prove
from streams.arrays import Array
from streams.cameras import open_camera
from streams.errors import BundleError, ConfigError, CrossGLGError, EngineError
from streams.performer import perform
from streams.sockets import EventSubscriber

if TYPE_CHECKING:
    from tests.conftest import MakeConfig, Serve


SCRIPT = Path(sys.executable).with_name("crossglg-edge")
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed (the extra `openvino`)"
)


def windows(num: int, num_frames: int = 16) -> Array:
    return np.random.default_rng(0).normal(size=(num, num_frames, 25, 3)).astype(np.float32)


def opened(bundle: Path | None, **model: Any) -> BundleEncoder:
    try:
        return open_encoder(bundle, Model(**model))
    except EngineError as error:
        if error.code == "no_device":
            pytest.skip(error.message)
        raise


def refused(kind: type[CrossGLGError], bundle: Path | None = None, **model: Any) -> CrossGLGError:
    with pytest.raises(kind) as refusal:
        open_encoder(bundle, Model(**model))
    return refusal.value


class Unsteady:
    """ONNX Runtime that raises `error` while there is one, and hands out the same arrays again and again."""

    name = "unsteady"

    def __init__(self, onnx: Path) -> None:
        self.error: Exception | None = None
        self.details: dict[str, str | int] = {}
        self.num_closed = 0
        self._engine = OnnxRuntime(onnx)
        self._buffers: tuple[Array, Array] | None = None

    def run(self, windows_NTVC: Array) -> tuple[Array, Array]:
        if self.error is not None:
            raise self.error
        found = self._engine.run(windows_NTVC)
        if self._buffers is None or self._buffers[0].shape != found[0].shape:
            self._buffers = found
        for buffer, part in zip(self._buffers, found, strict=True):
            buffer[:] = part
        time.sleep(0.001)
        return self._buffers

    def close(self) -> None:
        self.num_closed += 1


# The same from each


@needs_openvino
@pytest.mark.parametrize(("precision", "cosine", "error"), [("fp32", 0.999999, 1e-4), ("bf16", 0.999, 0.02)])
def test_openvino_gives_what_onnx_runtime_gives_with_the_shipped_encoder(
    precision: str, cosine: float, error: float
) -> None:
    ours = opened(None, engine="openvino", precision=precision)
    theirs = open_encoder(None, Model(engine="onnxruntime"))
    assert ours.report().runs == "openvino"
    assert ours.report().details["precision"] == precision
    x_NTVC = fixed_windows(ours.info.num_frames)
    found = agreement(ours.encode_with_features(x_NTVC), theirs.encode_with_features(x_NTVC), ours.info, against="")
    assert found.cosine > cosine
    assert found.features < error
    assert found.frames < error


@needs_openvino
def test_a_batch_of_any_size_gives_what_its_windows_give_alone(tiny_bundle: Path) -> None:
    encoder = opened(tiny_bundle, engine="openvino")
    reference = open_encoder(tiny_bundle)
    for num_windows in (0, 1, 3, 7, 512):
        x_NTVC = windows(num_windows)
        for ours, theirs in zip(
            encoder.encode_with_features(x_NTVC), reference.encode_with_features(x_NTVC), strict=True
        ):
            assert ours.dtype == np.float32
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("engine", ["onnxruntime", pytest.param("openvino", marks=needs_openvino)])
def test_more_threads_than_the_machine_has_give_the_same(tiny_bundle: Path, engine: str) -> None:
    encoder = opened(tiny_bundle, engine=engine, num_threads=64)
    np.testing.assert_allclose(encoder.encode(windows(5)), open_encoder(tiny_bundle).encode(windows(5)), atol=1e-5)


def test_two_threads_each_get_their_own_embeddings_of_an_engine_that_reuses_its_arrays(tiny_bundle: Path) -> None:
    info, onnx = read_bundle(tiny_bundle)
    encoder = BundleEncoder(info, tiny_bundle, Unsteady(onnx))
    x_NTVC = windows(40)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(encoder.encode, x_NTVC[:, None]))
    np.testing.assert_allclose(np.concatenate(found), open_encoder(tiny_bundle).encode(x_NTVC), atol=1e-6)


# Which one


def test_what_was_asked_for_what_runs_and_why_no_other_is_told(tiny_bundle: Path) -> None:
    report = open_encoder(tiny_bundle).report()
    assert (report.asked, report.runs) == ("auto", "onnxruntime")
    assert report.details["precision"] == "fp32"
    assert report.details["num_threads"] == 1
    assert report.not_used["openvino"] == "onnxruntime comes first"
    assert report.not_used["tensorrt"]
    assert open_encoder(tiny_bundle, Model(engine="onnxruntime")).report().not_used == {}


@needs_openvino
def test_where_bf16_is_asked_for_the_engine_that_has_it_is_taken(tiny_bundle: Path) -> None:
    opened(tiny_bundle, engine="openvino", precision="bf16")
    report = open_encoder(tiny_bundle, Model(precision="bf16")).report()
    assert (report.runs, report.details["precision"]) == ("openvino", "bf16")
    assert "fp32" in report.not_used["onnxruntime"]


def test_a_precision_that_an_engine_has_not_is_refused(tiny_bundle: Path) -> None:
    error = refused(ConfigError, tiny_bundle, engine="onnxruntime", precision="bf16")
    assert 'precision = "bf16"' in error.message
    assert 'precision = "auto"' in error.hint


@needs_openvino
def test_a_precision_that_the_cpu_has_not_is_refused_with_those_it_has(tiny_bundle: Path) -> None:
    if "FP16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU computes in fp16")
    error = refused(EngineError, tiny_bundle, engine="openvino", precision="fp16")
    assert error.code == "no_device"
    assert "FP32" in error.message
    auto = refused(EngineError, tiny_bundle, precision="fp16")
    assert auto.code == "no_engine"
    assert all(f"{name}: " in auto.message for name in ("tensorrt", "onnxruntime", "openvino"))


@pytest.mark.parametrize(
    "engine", ["cuda", "", "OpenVINO", "oip://", "oip://host", "oip://host:8001", "oip://host:8001/", "oip://h:x/m"]
)
def test_an_engine_that_there_is_not_is_refused_with_those_there_are(tmp_path: Path, engine: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[model]\nengine = "{engine}"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"engine is .*: expected auto, onnxruntime, .* oip://HOST:PORT/MODEL"):
        read_config(path)


# What is missing, or wrong


BLOCKED = """
import sys
sys.modules["openvino"] = None
from pathlib import Path
from edge.config import Model
from edge.model import open_encoder
bundle = Path(sys.argv[1])
print(open_encoder(bundle).report().runs)
for model in (Model(engine="openvino"), Model(precision="bf16")):
    try:
        open_encoder(bundle, model)
    except Exception as error:
        print(type(error).__name__, error.code, error.message, error.hint)
"""


def test_without_openvino_auto_serves_and_openvino_is_refused_with_what_brings_it(tiny_bundle: Path) -> None:
    runs, named, auto = output(BLOCKED, str(tiny_bundle)).splitlines()
    assert runs == "onnxruntime"
    assert named.startswith("EngineError not_installed")
    assert "pip install 'crossglg-edge[openvino]'" in named
    assert auto.startswith("EngineError no_engine")
    assert "doctor" in auto


def output(script: str, *args: str, **env: str) -> str:
    command = [sys.executable, "-W", "error", "-c", script, *args]
    return subprocess.run(command, env={**os.environ, **env}, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("engine", ["onnxruntime", pytest.param("openvino", marks=needs_openvino)])
def test_an_engine_writes_no_device_id_at_home_and_loads_no_telemetry(
    tiny_bundle: Path, tmp_path: Path, engine: str
) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom edge.config import Model\n"
        "from edge.model import open_encoder\n"
        "print(open_encoder(Path(sys.argv[1]), Model(engine=sys.argv[2])).report().runs)\n"
        "print([name for name in sys.modules if 'telemetry' in name or 'openvino.tools' in name])"
    )
    assert output(script, str(tiny_bundle), engine, HOME=str(tmp_path)).splitlines() == [engine, "[]"]
    assert not list(tmp_path.iterdir())


@pytest.fixture
def broken_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """Return a bundle whose encoder.onnx is half a file, and whose description says so is right."""
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "broken"))
    content = (bundle / "encoder.onnx").read_bytes()
    content = content[: len(content) // 2]
    (bundle / "encoder.onnx").write_bytes(content)
    info = json.loads((bundle / "bundle.json").read_bytes())
    info |= {"onnx_sha256": hashlib.sha256(content).hexdigest(), "statistics_sha256": ""}
    (bundle / "bundle.json").write_text(json.dumps(info), encoding="utf-8")
    return bundle


@pytest.mark.parametrize("engine", ["auto", "onnxruntime", pytest.param("openvino", marks=needs_openvino)])
def test_an_encoder_that_is_no_onnx_is_refused_by_its_file(broken_bundle: Path, engine: str) -> None:
    assert str(broken_bundle / "encoder.onnx") in refused(BundleError, broken_bundle, engine=engine).message


def test_an_engine_with_another_model_or_with_no_numbers_is_refused(tiny_bundle: Path, other_bundle: Path) -> None:
    info, onnx = read_bundle(tiny_bundle)
    assert prove(OnnxRuntime(onnx), info, onnx).cosine > 0.999999
    with pytest.raises(EngineError, match="cosine") as refusal:
        prove(OnnxRuntime(other_bundle / "encoder.onnx"), info, onnx)
    assert refusal.value.code == "parity_failed"

    class NoNumbers(OnnxRuntime):
        def run(self, windows_NTVC: Array) -> Any:
            embeddings_NE, features_NF = super().run(windows_NTVC)
            return embeddings_NE * np.float32(np.nan), features_NF

    class Fewer(OnnxRuntime):
        def run(self, windows_NTVC: Array) -> Any:
            return tuple(part[:, 1:] for part in super().run(windows_NTVC))

    with pytest.raises(EngineError, match="cosine nan"):
        prove(NoNumbers(onnx), info, onnx)
    with pytest.raises(EngineError, match=r"shapes .*63.*expected .*64"):
        prove(Fewer(onnx), info, onnx)


@pytest.mark.parametrize("engine", ["onnxruntime", pytest.param("openvino", marks=needs_openvino)])
def test_windows_that_are_no_numbers_give_an_error_and_the_next_ones_embeddings(tiny_bundle: Path, engine: str) -> None:
    encoder = open_encoder(tiny_bundle, Model(engine=engine))
    with pytest.raises(EngineError, match="no finite numbers"):
        encoder.encode(windows(2) * np.float32(np.nan))
    assert np.isfinite(encoder.encode(windows(2))).all()


# What fails while it runs


@pytest.fixture
def unsteady(make_config: MakeConfig) -> Iterator[tuple[Library, Unsteady]]:
    """Return a library with three enrolled actions, and its engine."""
    config = read_config(make_config())
    info, onnx = read_bundle(Path(config.model.bundle))
    engine = Unsteady(onnx)
    encoder = BundleEncoder(info, onnx.parent, engine)

    embed = partial(embed_movements, encoder)
    with Gallery(config.gallery.path, embed=embed, model_sha256=info.onnx_sha256) as gallery:
        library = Library(config=config, encoder=encoder, gallery=gallery)
        for action in ("wave", "bow", "squat"):
            example = example_from_capture(perform(action, seed=0), config)
            commit_example(library, action, example, origin="test", mode="new")
        yield library, engine


def test_a_daemon_whose_engine_fails_says_so_once_goes_on_and_recovers(unsteady: tuple[Library, Unsteady]) -> None:
    library, engine = unsteady
    daemon = Daemon(library, open_camera("demo:1", frames_endpoint="", loop=True))
    events = EventSubscriber(library.config.sockets.events, ("log.", "status."))
    engine.error = EngineError("the server is gone", code="unreachable")
    told: list[tuple[str, dict[str, Any]]] = []

    def received(is_so: Callable[[str, dict[str, Any]], bool]) -> dict[str, Any]:
        deadline_s = time.monotonic() + 20
        while time.monotonic() < deadline_s:
            message = events.receive(0.5)
            if message is not None:
                told.append(message)
                if is_so(*message):
                    return message[1]
        raise AssertionError(f"it did not come: {told}")

    def drive() -> Any:
        try:
            failed = received(lambda topic, m: topic == "status.daemon" and m["encodes_failed"] > 4)
            engine.error = None
            received(lambda topic, m: topic == "log.info" and "runs again" in m["message"])
            return failed, received(lambda topic, m: topic == "status.daemon" and m["windows"] > failed["windows"])
        finally:
            daemon.stop()

    with ThreadPoolExecutor(1) as thread:
        watching = thread.submit(drive)
        daemon.run()
        failed, after = watching.result()
    events.close()
    assert engine.num_closed == 1
    errors = [message["message"] for topic, message in told if topic == "log.error"]
    assert len(errors) == 1
    assert "(unreachable): the server is gone" in errors[0]
    assert failed["decisions"] >= failed["encodes_failed"]
    assert after["model"]["engine"]["runs"] == "unsteady"


def test_an_example_that_cannot_be_embedded_is_refused_and_not_stored(unsteady: tuple[Library, Unsteady]) -> None:
    library, engine = unsteady
    example = example_from_capture(perform("kick", seed=0), library.config)

    def embedding() -> Any:
        return commit_example(library, "kick", example, origin="test", mode="new")

    engine.error = EngineError("out of memory")
    with pytest.raises(EngineError, match="out of memory"):
        commit_example(library, "kick", example, origin="test", mode="new")
    assert "kick" not in library.gallery.labels()
    engine.error = None
    assert commit_example(library, "kick", example, origin="test", mode="new").label == "kick"


# What people see


@needs_openvino
def test_a_daemon_tells_which_engine_it_runs(serve: Serve, make_config: MakeConfig) -> None:
    daemon = serve(config=make_config(engine="openvino"))
    engine = daemon.ask("status")["model"]["engine"]
    assert (engine["asked"], engine["runs"], engine["details"]["precision"]) == ("openvino", "openvino", "fp32")
    assert daemon.ask("model.info")["engine"] == engine
    shown = subprocess.run(
        [str(SCRIPT), "status", "--config", str(daemon.config)],
        env={**os.environ, "COLUMNS": "200"}, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "openvino (version " in shown
    assert "asked for: openvino" in shown


def test_a_server_that_is_not_there_refuses_the_start_instead_of_another_engine(make_config: MakeConfig) -> None:
    config = make_config(engine="oip://127.0.0.1:1/encoder")
    done = subprocess.run([str(SCRIPT), "serve", "--config", str(config)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "oip://" in done.stderr
    assert done.stderr.startswith(("error (unreachable)", "error (not_installed)"))


def test_the_doctor_survives_libraries_that_are_broken_and_says_what_is_wrong_with_each(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')")
    (tmp_path / "torch_tensorrt.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    (tmp_path / "tensorrt_rtx.py").write_text("__version__ = '1.7.1'")
    done = subprocess.run(
        [str(SCRIPT), "doctor", "--json", "--config", str(make_config())],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert found["tensorrt"]["state"] == found["torch-tensorrt"]["state"] == "missing"
    assert "libnvinfer.so.10: cannot open" in found["tensorrt"]["found"]
    assert "SIGSEGV" in found["torch-tensorrt"]["found"]
    assert (found["tensorrt-rtx"]["state"], found["tensorrt-rtx"]["found"]) == ("ok", "1.7.1")
    assert found["onnxruntime"]["state"] == "ok"
    assert "onnxruntime" in found["model and gallery"]["found"]
    assert found["TensorRT engine"]["state"] == "missing"
    assert found["TensorRT engine"]["found"]
