"""The encoder on another machine: an Open Inference Protocol v2 server (Triton, MLServer, KServe), asked over gRPC.

The protocol does not tell which file the server runs: names and shapes are compared with the bundle here, what
it computes with ONNX Runtime by edge.model.engines.parity.

Shapes: N windows, T frames, V = 25, C = 3, E embedding size, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from edge.config import Model
from edge.model.bundle import BundleInfo
from streams.arrays import Array
from streams.errors import ConfigError, EngineError

MAX_BATCH = 64
"""Windows in one request; what `export --to triton` allows. 64 answers are 1.2 MB, gRPC's limit is 4 MB."""
DEADLINE_S = 2.0
WINDOW_DEADLINE_S = 0.05
"""More for each window: a busy core takes 15 ms for one."""
FIRST_DEADLINE_S = 30.0
"""Of the first request: a server may load or compile at it."""
PROBE_S = 0.25
"""Of the question whether a server that was lost is back: all that a decision waits for one that is not."""
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.25, 5.0
"""Between two such questions: doubled each time."""

_CHANNEL = (
    ("grpc.max_receive_message_length", -1),
    # The server is on this machine or network.
    ("grpc.enable_http_proxy", 0),
    # A try of ours is a try of gRPC's, whose own pauses would grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class InferenceProtocol:
    """Run a bundle's encoder on a server. Not encrypted: for loopback or a trusted network.

    A lost server costs one deadline. From then on `run` fails at once, but for a short question in growing
    intervals, until the server answers again. `details` counts requests, failures and retries.
    """

    name = "oip"

    def __init__(self, address: str, model: str, info: BundleInfo) -> None:
        """Connect to `address`, HOST:PORT, and compare its `model` with the bundle's description."""
        try:
            from tritonclient import grpc
        except ImportError as missing:
            raise EngineError(
                f'engine = "oip://..." needs a package that is not installed: {missing.name}',
                code="not_installed",
                hint="Install it with `pip install 'crossglg-edge[oip]'`.",
            ) from missing
        self._grpc, self._model, self._embedding_size = grpc, model, info.embedding_size
        self._url = f"oip://{address}/{model}"
        self._deadline_s, self._wait_s, self._retry_at_s = FIRST_DEADLINE_S, 0.0, 0.0
        self.details: dict[str, str | int] = {"server": "", "url": self._url, "state": "ready"}
        self.details |= {"max_batch": MAX_BATCH, "requests": 0, "failures": 0, "retries": 0}
        self._client = grpc.InferenceServerClient(address, channel_args=_CHANNEL)
        try:
            self._ask(self._client.is_server_live, deadline_s=DEADLINE_S)
            self._check_model(info)
            about = self._ask(self._client.get_server_metadata, deadline_s=DEADLINE_S)
        except EngineError:
            self.close()
            raise
        self.details["server"] = f"{about.name} {about.version}"

    def run(self, windows_NTVC: Array) -> tuple[Array, Array]:
        """Return embeddings (N, E) and features (N, F), float32, of windows (N, T, 25, 3), float32.

        Raises EngineError: `unreachable` where the server is gone, does not answer in time or has not come back
        yet; `engine_failed` where it refuses, or answers something else.
        """
        answers = [self._run(windows_NTVC[i : i + MAX_BATCH]) for i in range(0, len(windows_NTVC), MAX_BATCH)]
        if len(answers) == 1:
            return answers[0]
        embeddings, features = zip(*answers, strict=True)
        return np.concatenate(embeddings), np.concatenate(features)

    def close(self) -> None:
        self._client.close()

    def _run(self, windows_NTVC: Array) -> tuple[Array, Array]:
        if self._wait_s:
            self._come_back()
        self.details["requests"] = int(self.details["requests"]) + 1
        windows = self._grpc.InferInput("windows", windows_NTVC.shape, "FP32")
        windows.set_data_from_numpy(windows_NTVC)
        deadline_s = self._deadline_s + WINDOW_DEADLINE_S * len(windows_NTVC)
        answer = self._ask(self._client.infer, self._model, [windows], deadline_s=deadline_s)
        self._deadline_s, self._wait_s = DEADLINE_S, 0.0
        self.details["state"] = "ready"
        sizes = {"embeddings": self._embedding_size, "features": self._num_features}
        embeddings_NE, features_NF = (self._output(answer, name, len(windows_NTVC), sizes[name]) for name in sizes)
        return embeddings_NE, features_NF

    def _come_back(self) -> None:
        left_s = self._retry_at_s - monotonic()
        if left_s > 0:
            raise EngineError(f"{self._url} is lost; it is asked again in {left_s:.1f} s", code="unreachable")
        self.details["retries"] = int(self.details["retries"]) + 1
        if reason := self._unready(PROBE_S):
            raise self._lost(reason)

    def _unready(self, deadline_s: float) -> str:
        """Say why the server does not run the model; empty where it does. Raises EngineError, unreachable."""
        try:
            return "" if self._ask(self._client.is_model_ready, self._model, deadline_s=deadline_s) else "not ready"
        except EngineError as error:
            if error.code == "unreachable":
                raise
            return error.message

    def _ask(self, call: Callable[..., Any], *args: Any, deadline_s: float) -> Any:
        try:
            return call(*args, client_timeout=deadline_s)
        except self._grpc.InferenceServerException as error:
            status, message = str(error.status()).removeprefix("StatusCode."), error.message()
            if status in ("UNAVAILABLE", "CANCELLED"):
                raise self._lost(message) from error
            if status == "DEADLINE_EXCEEDED":
                raise self._lost(f"no answer within {deadline_s:g} s") from error
            raise EngineError(f"{self._url} refused: {message} ({status})", hint="Its log says more.") from error

    def _lost(self, reason: str) -> EngineError:
        self._wait_s = min(max(2 * self._wait_s, SHORTEST_WAIT_S), LONGEST_WAIT_S)
        self._retry_at_s = monotonic() + self._wait_s
        self.details["state"] = "lost"
        self.details["failures"] = int(self.details["failures"]) + 1
        return EngineError(
            f"{self._url} cannot be reached: {reason}",
            code="unreachable",
            hint="Is the server running, and is this its gRPC port? A daemon that runs tries again by itself.",
        )

    def _check_model(self, info: BundleInfo) -> None:
        """Refuse a model of other names or shapes; note how many features it has."""
        if reason := self._unready(DEADLINE_S):
            raise EngineError(
                f"{self._url}: the server has no model {self._model!r} to run: {reason}",
                code="no_engine",
                hint="`crossglg-edge export --to triton` writes a model repository for the server.",
            )
        about = self._ask(self._client.get_model_metadata, self._model, deadline_s=DEADLINE_S)
        found = {tensor.name: (tensor.datatype, tuple(tensor.shape)) for tensor in (*about.inputs, *about.outputs)}
        _, features = found.get("features", ("", ()))
        self._num_features = max(features[-1], 0) if features else 0
        expected: dict[str, tuple[str, tuple[int, ...]]] = {
            "windows": ("FP32", (-1, info.num_frames, 25, 3)),
            "embeddings": ("FP32", (-1, info.embedding_size)),
        }
        if self._num_features:
            expected["features"] = ("FP32", (-1, self._num_features))
        if found != expected:
            raise EngineError(
                f"{self._url} has the tensors {_listed(found)}: expected {_listed(expected)}, as {info.name!r} has",
                code="engine_mismatch",
                hint="Write the server's model repository with `crossglg-edge export --to triton`, of the same bundle.",
            )

    def _output(self, answer: Any, name: str, num_windows: int, size: int) -> Array:
        if not size:
            return np.zeros((num_windows, 0), np.float32)
        try:
            output = answer.as_numpy(name)
        except ValueError as error:  # bytes that do not fill the shape that the answer states
            raise EngineError(f"{self._url} gave broken {name}: {error}") from error
        if output is None or output.shape != (num_windows, size) or output.dtype != np.float32:
            came = "none" if output is None else f"{output.shape} {output.dtype}"
            raise EngineError(f"{self._url} gave {name} {came}: expected ({num_windows}, {size}) float32")
        return np.asarray(output, np.float32)


def open_engine(info: BundleInfo, bundle: Path, model: Model) -> InferenceProtocol:
    """Connect to the server that `model.engine`, oip://HOST:PORT/MODEL, names. Raises ConfigError, EngineError."""
    if model.precision != "auto":
        raise ConfigError(
            f'precision = "{model.precision}" with engine = "{model.engine}": the server chooses its precision',
            hint='Set precision = "auto".',
        )
    address, _, name = model.engine.removeprefix("oip://").partition("/")
    return InferenceProtocol(address, name, info)


def _listed(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {datatype} {list(shape)}" for name, (datatype, shape) in tensors.items()) or "none"
