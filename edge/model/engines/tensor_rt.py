"""TensorRT 10 and 11, and TensorRT for RTX, on an NVIDIA GPU: the engine files that `crossglg-edge export` built.

Shapes: N windows, T frames, V = 25, C = 3, E embedding size, F features.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge.config import Model
from edge.model.bundle import BundleInfo
from edge.model.engines import engine_file
from edge.model.engines.cuda import Cuda, open_cuda
from streams.arrays import Array
from streams.errors import EngineError

MODULES: dict[engine_file.Kind, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""What runs each kind of engine file."""

_log = logging.getLogger("crossglg_edge")

Shapes = dict[str, tuple[int, ...]]


class TensorRt:
    """Run an engine: all memory is taken at the start, and each batch size has its CUDA graph.

    A batch is run as the next larger size, its last rows being an earlier batch's; one that is larger than all is
    run in parts.
    """

    name = "tensorrt"

    def __init__(
        self,
        shapes: Shapes,
        sizes: Sequence[int],
        make_context: Callable[[], Any],
        cuda: Cuda,
        *,
        capture: bool,
        said: deque[str],
        details: dict[str, str | int],
    ) -> None:
        """Take memory and run a batch of each of `sizes`, which ascend, once.

        `shapes`: of one window's `windows`, `embeddings` and perhaps `features`. `make_context`: returns
        a new execution context. `capture`: make CUDA graphs, where the binding can. `said`: TensorRT's last errors.
        Raises EngineError.
        """
        graphs = len(sizes) if capture and cuda.captures else 0
        self.details = {"max_batch": sizes[-1], "cuda_graphs": graphs, **details}
        self._sizes, self._cuda, self._said = tuple(sizes), cuda, said
        self._host = {name: cuda.allocate_pinned((sizes[-1], *shape)) for name, shape in shapes.items()}
        self._device = {name: cuda.allocate(array.nbytes) for name, array in self._host.items()}
        self._no_features = np.zeros((sizes[-1], 0), np.float32)
        # A captured graph holds the shapes and addresses of its context: one for each, and alive as long as it.
        self._contexts = {size: self._ready(make_context(), size) for size in self._sizes}
        self._launch: dict[int, Callable[[], None]] = {}
        for size, context in self._contexts.items():
            work = partial(self._enqueue, context, size)
            work()  # what TensorRT puts off to the first run must not be captured
            cuda.synchronize()
            self._launch[size] = cuda.capture(work) if capture else work

    def run(self, windows_NTVC: Array) -> tuple[Array, Array]:
        """Return embeddings (N, E) and features (N, F), float32: views that the next call overwrites.

        Raises EngineError.
        """
        largest = self._sizes[-1]
        with self._cuda.active():
            if len(windows_NTVC) <= largest:
                return self._run(windows_NTVC)
            starts = range(0, len(windows_NTVC), largest)
            parts = [[part.copy() for part in self._run(windows_NTVC[i : i + largest])] for i in starts]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def close(self) -> None:
        with self._cuda.active():
            self._launch.clear()
            self._contexts.clear()
            self._host.clear()
        self._cuda.close()

    def _run(self, windows_NTVC: Array) -> tuple[Array, Array]:
        num = len(windows_NTVC)
        self._host["windows"][:num] = windows_NTVC
        self._launch[next(size for size in self._sizes if size >= num)]()
        self._cuda.synchronize()
        return self._host["embeddings"][:num], self._host.get("features", self._no_features)[:num]

    def _ready(self, context: Any, size: int) -> Any:
        shape = (size, *self._host["windows"].shape[1:])
        if not context.set_input_shape("windows", shape):
            raise _failed(f"takes no windows of shape {shape}", self._said)
        for name, address in self._device.items():
            if not context.set_tensor_address(name, address):
                raise _failed(f"takes no memory for {name}", self._said)
        return context

    def _enqueue(self, context: Any, size: int) -> None:
        self._cuda.copy_to_device(self._device["windows"], self._host["windows"][:size])
        if not context.execute_async_v3(self._cuda.stream):
            raise _failed(f"cannot run a batch of {size}", self._said)
        for name, array in self._host.items():
            if name != "windows":
                self._cuda.copy_to_host(array[:size], self._device[name])


def open_engine(info: BundleInfo, bundle: Path, model: Model) -> TensorRt:
    """Load the newest engine file that fits this machine, the model and `model.precision`.

    Raises EngineError: not_installed, no_device, no_engine, engine_mismatch, engine_failed.
    """
    installed = {kind: module for kind, module in MODULES.items() if importlib.util.find_spec(module)}
    if not installed:
        raise EngineError(
            f"TensorRT is not installed: no module {' and no module '.join(MODULES.values())}",
            code="not_installed",
            hint="Install `pip install tensorrt` or `pip install tensorrt-rtx`; JetPack has it as python3-libnvinfer.",
        )
    cuda = open_cuda()
    refusals: list[EngineError] = []
    with cuda.active():
        for kind, module in installed.items():
            for path in engine_file.find(info, bundle, kind):
                try:
                    return _load(_imported(module), cuda, path, kind, info, model)
                except EngineError as refusal:
                    refusals.append(refusal)
    cuda.close()
    if not refusals:
        raise EngineError(
            f"the bundle {info.name!r} has no engine file for {cuda.device}: looked in {bundle / 'engines'} and "
            f"{engine_file.default_folder(info)}",
            code="no_engine",
            hint=f"Build one: `crossglg-edge export BUNDLE --to {next(iter(installed))}`.",
        )
    message = "; ".join(refusal.message for refusal in refusals)
    raise EngineError(message, code=refusals[0].code, hint=refusals[0].hint) from refusals[0]


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:  # without its native library it raises ImportError, OSError and others
        raise EngineError(
            f"{module} cannot be loaded: {error}",
            code="not_installed",
            hint="Install TensorRT's libraries, libnvinfer, of the same version as the Python module.",
        ) from error


def _load(trt: Any, cuda: Cuda, path: Path, kind: engine_file.Kind, info: BundleInfo, model: Model) -> TensorRt:
    about = engine_file.verify(path, info, kind, version=trt.__version__, compute_capability=cuda.compute_capability)
    if model.precision not in ("auto", about.precision):
        raise EngineError(
            f"the engine {path} is not used: it is {about.precision}, precision = {model.precision!r}",
            code="engine_mismatch",
            hint=f'Set precision = "auto" or "{about.precision}".',
        )
    said: deque[str] = deque(maxlen=8)
    try:
        runtime = trt.Runtime(_logger(trt, said))
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise _failed("cannot load it", said)
        shapes, sizes = _shapes(trt, engine, info), _sizes(engine)
        details: dict[str, str | int] = {
            "version": f"{kind} {trt.__version__}",
            "device": cuda.device,
            "precision": about.precision,
            "file": str(path),
            "cuda": cuda.name,
        }
        if _is_rtx(trt):
            details["cuda_graphs"] = "TensorRT's own"
        scratch = cuda.allocate(engine.device_memory_size_v2)
        make_context = partial(_context, trt, engine, scratch, said)
        return TensorRt(shapes, sizes, make_context, cuda, capture=not _is_rtx(trt), said=said, details=details)
    except EngineError as error:
        raise EngineError(
            f"the engine {path} cannot be used: {error.message}",
            code=error.code,
            hint=f"Build it anew: `crossglg-edge export BUNDLE --to {kind}`.",
        ) from error


def _shapes(trt: Any, engine: Any, info: BundleInfo) -> Shapes:
    """Return the shapes of one window's tensors; refuse what is no encoder of this bundle."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    found = {name: tuple(engine.get_tensor_shape(name))[1:] for name in names}
    wanted = {"windows": (info.num_frames, 25, 3), "embeddings": (info.embedding_size,)}
    if "features" in found:
        wanted["features"] = found["features"]
    if found != wanted or any(engine.get_tensor_dtype(name) != trt.DataType.FLOAT for name in names):
        listed = ", ".join(f"{name} {shape} {engine.get_tensor_dtype(name)}" for name, shape in found.items())
        raise EngineError(f"its tensors are {listed}; expected {wanted}, all float32", code="engine_mismatch")
    return found


def _sizes(engine: Any) -> list[int]:
    """Return the batch sizes to make ready: those that the engine was built for, and the powers of two between."""
    smallest, best, largest = (shape[0] for shape in engine.get_tensor_profile_shape("windows", 0))
    powers = (2**power for power in range(largest.bit_length()))
    return sorted({smallest, best, largest, *(size for size in powers if smallest < size < largest)})


def _context(trt: Any, engine: Any, scratch: int, said: deque[str]) -> Any:
    """Return an execution context; all share their scratch memory, since one stream runs them one after another."""
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    if _is_rtx(trt):
        # It captures graphs by itself, once its kernels for a shape are compiled: at the first run, not later.
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        context = engine.create_execution_context(config)
    else:
        context = engine.create_execution_context(strategy)
    if context is None:
        raise _failed("made no execution context", said)
    context.set_device_memory(scratch, engine.device_memory_size_v2)
    return context


def _is_rtx(trt: Any) -> bool:
    return hasattr(trt, "CudaGraphStrategy")


def _failed(what: str, said: deque[str]) -> EngineError:
    return EngineError(f"TensorRT {what}: {' '.join(said) or 'it gives no reason'}")


def _logger(trt: Any, said: deque[str]) -> Any:
    """Return a logger that keeps TensorRT's errors for our own, and hands its warnings to the log."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                said.append(message)
            elif severity == trt.ILogger.Severity.WARNING:
                _log.warning("TensorRT: %s", message)

    return Logger()
