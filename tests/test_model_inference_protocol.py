"""The encoder on a server: MLServer, asked over the Open Inference Protocol, and what `export --to triton` gives it.

Shapes: N windows, T frames of a window, V = 25, C = 3, E embedding size, F features.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from edge.config import Model, read_config
from edge.daemon.commands import commit_example
from edge.enroll.capture import example_from_capture
from edge.library import open_library
from edge.model.bundle import read_bundle
from edge.model.choose import open_encoder
from edge.model.encoder import BundleEncoder
from edge.model.engines import inference_protocol
from edge.model.engines.inference_protocol import InferenceProtocol, open_engine
from export.engines.triton import write_triton_repository
from streams.arrays import Array
from streams.errors import BundleError, ConfigError, EngineError
from streams.performer import perform
from streams.sockets import EventSubscriber

if TYPE_CHECKING:
    from tests.conftest import DaemonProcess, MakeConfig, Serve

MLSERVER = Path(sys.executable).with_name("mlserver")


def some_windows(num: int, num_frames: int = 16) -> Array:
    return np.random.default_rng(num).normal(size=(num, num_frames, 25, 3)).astype(np.float32)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Server:
    """MLServer as a process of its own, with a model repository; stopped, killed and started again at one port."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._http, self.port = free_port(), free_port()
        self.start()

    def url(self, model: str = "tiny") -> str:
        return f"oip://127.0.0.1:{self.port}/{model}"

    def start(self) -> None:
        names = {"HOST": "127.0.0.1", "HTTP_PORT": str(self._http), "GRPC_PORT": str(self.port), "METRICS_ENDPOINT": ""}
        settings = {f"MLSERVER_{name}": value for name, value in names.items()}
        self.log = self._repository / "mlserver.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [MLSERVER, "start", self._repository], env={**os.environ, **settings}, stdout=log, stderr=log
            )

    def wait(self) -> None:
        """Wait until it has loaded its model."""
        from tritonclient import grpc
        from tritonclient.utils import InferenceServerException

        client = grpc.InferenceServerClient(f"127.0.0.1:{self.port}")
        deadline = time.monotonic() + 60
        while True:
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, self.log.read_text(encoding="utf-8")
            try:
                if client.is_model_ready("tiny", client_timeout=1):
                    break
            except InferenceServerException:
                pass
            time.sleep(0.05)
        client.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed (the extra `oip`)")
    if not MLSERVER.exists():
        pytest.skip("MLServer is not installed (the extra `test`)")
    repository = tmp_path_factory.mktemp("repository")
    write_triton_repository(tiny_bundle, repository)
    server = Server(repository)
    server.wait()
    yield server
    server.kill()


def connect(bundle: Path, url: str) -> InferenceProtocol:
    info, onnx = read_bundle(bundle)
    return open_engine(info, onnx.parent, Model(engine=url))


def refused(bundle: Path, url: str) -> EngineError:
    with pytest.raises(EngineError) as error:
        connect(bundle, url)
    return error.value


@pytest.fixture
def served(server: Server, tiny_bundle: Path) -> Iterator[BundleEncoder]:
    """Return the encoder on the server, as a config with its address opens it."""
    encoder = open_encoder(tiny_bundle, Model(engine=server.url()))
    yield encoder
    encoder.engine.close()


def test_a_server_gives_what_this_machine_gives(served: BundleEncoder, tiny_bundle: Path) -> None:
    local = open_encoder(tiny_bundle, Model(engine="onnxruntime"))
    # 70 are two requests.
    for num in (1, 5, 70):
        windows_NTVC = some_windows(num)
        for ours, theirs in zip(
            served.encode_with_features(windows_NTVC), local.encode_with_features(windows_NTVC), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    report = served.report()
    assert report.runs == "oip"
    assert str(report.details["server"]).startswith("mlserver 1.")
    assert report.details["failures"] == 0


def test_a_model_that_the_server_does_not_have_is_named(server: Server, tiny_bundle: Path) -> None:
    error = refused(tiny_bundle, server.url("tinny"))
    assert error.code == "no_engine"
    assert "'tinny'" in error.message
    assert "--to triton" in error.hint


def test_a_model_of_other_shapes_is_refused_with_both(server: Server) -> None:
    info, onnx = read_bundle()
    error = refused(onnx.parent, server.url())
    assert error.code == "engine_mismatch"
    assert "embeddings FP32 [-1, 64]" in error.message
    assert f"embeddings FP32 [-1, {info.embedding_size}]" in error.message


def test_another_model_of_the_same_shapes_is_found_out_by_what_it_computes(server: Server, other_bundle: Path) -> None:
    with pytest.raises(EngineError) as error:
        open_encoder(other_bundle, Model(engine=server.url()))
    assert error.value.code == "parity_failed"


def test_windows_that_the_server_refuses_do_not_make_it_lost(served: BundleEncoder) -> None:
    with pytest.raises(EngineError, match=r"refused: (.|\n)*Expected: 16") as error:
        served.engine.run(some_windows(1, num_frames=8))
    assert error.value.code == "engine_failed"
    assert served.encode(some_windows(2)).shape == (2, 64)
    assert served.report().details["state"] == "ready"


def test_a_server_that_hangs_is_given_up_and_found_again(
    server: Server, served: BundleEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_protocol, "DEADLINE_S", 0.3)
    served.encode(some_windows(1))  # the deadline of the first request is another
    server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(EngineError, match=r"no answer within 0\.3") as error:
            served.encode(some_windows(1))
        assert error.value.code == "unreachable"
    finally:
        server.process.send_signal(signal.SIGCONT)
    encode_until_it_is_back(served)


def encode_for_ever(encoder: BundleEncoder) -> None:
    while True:
        encoder.encode(some_windows(3))


def encode_until_it_is_back(encoder: BundleEncoder) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            assert encoder.encode(some_windows(3)).shape == (3, 64)
            return
        except EngineError as error:
            if error.code != "unreachable" or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.fixture
def told(server: Server, serve: Serve, make_config: MakeConfig) -> Iterator[tuple[DaemonProcess, EventSubscriber]]:
    """Return a daemon that recognizes by way of the server, and what it tells."""
    config = make_config(engine=server.url())
    library = open_library(read_config(config))
    example = example_from_capture(perform("wave", seed=0), library.config)
    commit_example(library, "wave", example, origin="test", mode="new")
    library.gallery.close()
    library.encoder.engine.close()
    daemon = serve("demo:1", config=config)
    events = EventSubscriber(daemon.sockets.events, ("log.",))
    yield daemon, events
    events.close()


def receive(events: EventSubscriber, topic: str, words: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        message = events.receive(0.5)
        if message is not None and message[0] == topic and words in message[1]["message"]:
            return
    raise AssertionError(f"{topic} with {words!r} did not come")


def test_a_killed_server_is_an_error_at_once_and_used_again_when_it_is_back(
    server: Server, served: BundleEncoder, told: tuple[DaemonProcess, EventSubscriber]
) -> None:
    daemon, events = told
    details = served.engine.details
    threading.Timer(0.3, server.kill).start()
    with pytest.raises(EngineError) as lost:
        encode_for_ever(served)
    assert lost.value.code == "unreachable"
    assert "no answer within" not in lost.value.message
    assert (details["state"], details["failures"]) == ("lost", 1)
    # While it is known to be gone, a window costs nothing but now and then a question.
    requests = details["requests"]
    for _ in range(100):
        with pytest.raises(EngineError):
            served.encode(some_windows(3))
    assert details["requests"] == requests
    assert int(details["retries"]) < 10
    receive(events, "log.error", "(unreachable)")

    server.start()
    encode_until_it_is_back(served)
    assert details["state"] == "ready"
    assert int(details["retries"]) >= 1
    receive(events, "log.info", "runs again")
    status = daemon.ask("status")
    assert status["encodes_failed"] >= 1
    assert status["model"]["engine"]["details"]["state"] == "ready"
    assert status["model"]["engine"]["details"]["retries"] >= 1


@pytest.fixture
def client_installed() -> None:
    pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed (the extra `oip`)")


@pytest.mark.usefixtures("client_installed")
def test_where_nothing_listens_the_error_says_so(tiny_bundle: Path) -> None:
    error = refused(tiny_bundle, f"oip://127.0.0.1:{free_port()}/tiny")
    assert error.code == "unreachable"
    assert "Connection refused" in error.message


@pytest.mark.usefixtures("client_installed")
@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["silent", "http"])
def test_a_port_that_speaks_something_else_is_no_hang(
    greeting: bytes, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference_protocol, "DEADLINE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepted: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    accepted.append(listening.accept()[0])
                    accepted[-1].sendall(greeting)
            except OSError:
                return

        thread = threading.Thread(target=accept)
        thread.start()
        error = refused(tiny_bundle, f"oip://127.0.0.1:{listening.getsockname()[1]}/tiny")
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in accepted:
            connection.close()
    assert error.code == "unreachable"
    assert accepted


def test_without_the_client_the_error_says_what_to_install(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient", None)
    error = refused(tiny_bundle, "oip://127.0.0.1:8001/tiny")
    assert error.code == "not_installed"
    assert "crossglg-edge[oip]" in error.hint


def test_a_precision_is_the_servers_choice(tiny_bundle: Path) -> None:
    info, onnx = read_bundle(tiny_bundle)
    with pytest.raises(ConfigError, match="the server chooses"):
        open_engine(info, onnx.parent, Model(engine="oip://127.0.0.1:8001/tiny", precision="fp16"))


@pytest.mark.usefixtures("client_installed")
def test_the_repository_is_what_triton_reads(tmp_path: Path) -> None:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    info, model = write_triton_repository(None, tmp_path / "repository")
    assert model == tmp_path / "repository" / info.name
    assert hashlib.sha256((model / "1" / "model.onnx").read_bytes()).hexdigest() == info.onnx_sha256
    config: Any = model_config_pb2.ModelConfig()
    text_format.Parse((model / "config.pbtxt").read_text(encoding="utf-8"), config)
    assert (config.name, config.backend, config.max_batch_size) == (info.name, "onnxruntime", 64)
    assert [(tensor.name, list(tensor.dims)) for tensor in config.input] == [("windows", [info.num_frames, 25, 3])]
    assert [tensor.name for tensor in config.output] == ["embeddings", "features"]
    assert list(config.output[0].dims) == [info.embedding_size]
    assert {tensor.data_type for tensor in (*config.input, *config.output)} == {model_config_pb2.TYPE_FP32}
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"


def test_a_model_is_replaced_as_a_whole_and_the_rest_of_a_repository_stays(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"http_port": 9000}', encoding="utf-8")
    (tmp_path / "another").mkdir()
    _, model = write_triton_repository(tiny_bundle, tmp_path)
    (model / "1" / "stale.bin").write_bytes(b"")
    write_triton_repository(tiny_bundle, tmp_path)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        "settings.json",
        "tiny/1/model.onnx",
        "tiny/config.pbtxt",
        "tiny/mlserver_model.py",
        "tiny/model-settings.json",
    ]
    assert (tmp_path / "another").is_dir()
    assert json.loads((tmp_path / "settings.json").read_text(encoding="utf-8")) == {"http_port": 9000}


def test_a_name_that_is_no_folder_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    info, onnx = read_bundle(tiny_bundle)
    for file in onnx.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "bundle.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(info, name="../up")))
    with pytest.raises(BundleError, match=r"'\.\./up' cannot name a model"):
        write_triton_repository(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
