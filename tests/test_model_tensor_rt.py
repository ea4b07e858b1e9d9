"""The TensorRT runtime: batches, memory and graphs on any machine, its border without a GPU, and the real thing on one.

Shapes: N windows, T frames of a window, V = 25, C = 3, E embedding size, F features.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from edge.config import Model
from edge.model.bundle import BundleInfo, read_bundle
from edge.model.engines import cuda as cuda_module
from edge.model.engines import engine_file, tensor_rt
from edge.model.engines.engine_file import Batch, EngineFile
from edge.model.engines.onnx_runtime import OnnxRuntime
from edge.model.engines.tensor_rt import MODULES, TensorRt, open_engine
from streams.arrays import Array
from streams.errors import EngineError

SIZES = (1, 2, 4, 5, 8)


class HostMemory:
    """edge.model.engines.cuda.Cuda in this machine's own memory.

    What is put into the stream happens at `synchronize`; a graph is the list of what was put while capturing.
    """

    name, device, compute_capability, stream, captures = "host memory", "no GPU", "8.6", 7, True

    def __init__(self) -> None:
        self.memory: list[npt.NDArray[Any]] = []
        self.launches = 0
        self.closed = False
        self._stream: list[Callable[[], object]] = []

    def active(self) -> AbstractContextManager[object]:
        return nullcontext()

    def allocate(self, num_bytes: int) -> int:
        # What nobody has written is no number.
        self.memory.append(np.full(max(num_bytes, 1), 0xFF, np.uint8))
        return int(self.memory[-1].ctypes.data)

    def allocate_pinned(self, shape: tuple[int, ...]) -> Array:
        array = np.zeros(shape, np.float32)
        self.memory.append(array)
        return array

    def put(self, work: Callable[[], object]) -> None:
        self._stream.append(work)

    def copy_to_device(self, address: int, array: Array) -> None:
        assert array.flags.c_contiguous
        self.put(lambda: ctypes.memmove(address, array.ctypes.data, array.nbytes))

    def copy_to_host(self, array: Array, address: int) -> None:
        assert array.flags.c_contiguous
        self.put(lambda: ctypes.memmove(array.ctypes.data, address, array.nbytes))

    def synchronize(self) -> None:
        for work in self._stream:
            work()
        self._stream.clear()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        assert not self._stream, "work that is still to be done would be captured"
        work()
        graph = tuple(self._stream)
        self._stream.clear()

        def launch() -> None:
            self.launches += 1
            self._stream.extend(graph)

        return launch

    def close(self) -> None:
        self.closed = True


class Context:
    """What tensor_rt asks of an IExecutionContext, computed by ONNX Runtime at the addresses that it was given."""

    def __init__(self, session: onnxruntime.InferenceSession, cuda: HostMemory) -> None:
        self._session, self._cuda = session, cuda
        self._addresses: dict[str, int] = {}
        self._shape: tuple[int, ...] = ()
        self.fails = False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert not self._shape, "a captured graph holds the shape of its context"
        self._shape = shape
        return name == "windows" and shape[0] <= SIZES[-1]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return name in ("windows", "embeddings", "features")

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == self._cuda.stream
        self._cuda.put(self._execute)
        return not self.fails

    def _execute(self) -> None:
        size = int(np.prod(self._shape))
        windows = np.ctypeslib.as_array((ctypes.c_float * size).from_address(self._addresses["windows"]))
        outputs = self._session.run(["embeddings", "features"], {"windows": windows.reshape(self._shape)})
        for name, output in zip(("embeddings", "features"), outputs, strict=True):
            ctypes.memmove(self._addresses[name], np.ascontiguousarray(output).ctypes.data, output.nbytes)


def on_host_memory(bundle: Path, *, capture: bool = True) -> tuple[TensorRt, HostMemory, list[Context]]:
    info, onnx = read_bundle(bundle)
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    cuda, contexts = HostMemory(), list[Context]()

    def make_context() -> Context:
        contexts.append(Context(session, cuda))
        return contexts[-1]

    shapes = {"windows": (info.num_frames, 25, 3), "embeddings": (info.embedding_size,), "features": (64,)}
    said = deque(["no kernel image is available"])
    engine = TensorRt(shapes, SIZES, make_context, cuda, capture=capture, said=said, details={"file": "x.engine"})
    return engine, cuda, contexts


def some_windows(num: int, num_frames: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(num, num_frames, 25, 3)).astype(np.float32)


@pytest.mark.parametrize("capture", [True, False])
def test_a_batch_of_any_size_gives_what_onnx_runtime_gives(tiny_bundle: Path, capture: bool) -> None:
    engine, _, _ = on_host_memory(tiny_bundle, capture=capture)
    reference = OnnxRuntime(tiny_bundle / "encoder.onnx")
    # Falling too: rows of a larger batch before must not show through.
    for num in (1, 2, 3, 5, 7, 8, 9, 20, 6, 1):
        windows_NTVC = some_windows(num, 16, seed=num)
        embeddings_NE, features_NF = engine.run(windows_NTVC)
        expected_NE, expected_NF = reference.run(windows_NTVC)
        np.testing.assert_allclose(embeddings_NE, expected_NE, atol=1e-6)
        np.testing.assert_allclose(features_NF, expected_NF, rtol=1e-5, atol=1e-4)


def test_a_window_takes_one_launch_of_a_graph_and_no_new_memory(tiny_bundle: Path) -> None:
    engine, cuda, contexts = on_host_memory(tiny_bundle)
    assert len(contexts) == len(SIZES) == engine.details["cuda_graphs"]
    # Three tensors, here and on the device.
    assert len(cuda.memory) == 6
    outputs = [engine.run(some_windows(num, 16)) for num in (1, 2, 3, 5, 8, 1)]
    assert len(cuda.memory) == 6
    assert len(contexts) == len(SIZES)
    assert cuda.launches == 6
    assert all(np.shares_memory(outputs[0][0], embeddings) for embeddings, _ in outputs)
    engine.run(some_windows(20, 16))
    assert cuda.launches == 6 + 3


def test_an_engine_that_stops_running_says_what_tensorrt_said(tiny_bundle: Path) -> None:
    engine, _, contexts = on_host_memory(tiny_bundle, capture=False)
    contexts[SIZES.index(4)].fails = True
    with pytest.raises(EngineError, match=r"cannot run a batch of 4: no kernel image is available") as refused:
        engine.run(some_windows(3, 16))
    assert refused.value.code == "engine_failed"


def test_a_closed_engine_has_freed_the_gpu(tiny_bundle: Path) -> None:
    engine, cuda, _ = on_host_memory(tiny_bundle)
    engine.close()
    assert cuda.closed


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Have these modules not installed, whatever this machine has."""
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


def test_without_tensorrt_the_error_says_what_to_install(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, *MODULES.values())
    info, onnx = read_bundle(tiny_bundle)
    with pytest.raises(EngineError, match="TensorRT is not installed") as refused:
        open_engine(info, onnx.parent, Model(engine="tensorrt"))
    assert refused.value.code == "not_installed"
    assert "pip install tensorrt-rtx" in refused.value.hint


def test_without_a_cuda_binding_the_error_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "cuda.bindings", "pycuda")
    with pytest.raises(EngineError, match="cuda-bindings or pycuda") as refused:
        cuda_module.open_cuda()
    assert refused.value.code == "not_installed"


def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (the extra `tensorrt-rtx`)")


def no_gpu() -> None:
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed (the extra `tensorrt-rtx`)")
    try:
        cuda = cuda_module.open_cuda()
    except EngineError:
        return
    cuda.close()
    pytest.skip("this machine has a GPU")


def test_without_a_gpu_the_error_says_so(tiny_bundle: Path) -> None:
    rtx()
    no_gpu()
    info, onnx = read_bundle(tiny_bundle)
    with pytest.raises(EngineError, match=r"CUDA finds no GPU.*cudaError") as refused:
        open_engine(info, onnx.parent, Model(engine="tensorrt"))
    assert refused.value.code == "no_device"
    assert "nvidia-smi" in refused.value.hint


def build(kind: engine_file.Kind, onnx: Path, info: BundleInfo, path: Path, compute_capability: str) -> None:
    """Build an engine as the export does, of the fp32 file."""
    progress = pytest.importorskip("rich.progress")
    library = importlib.import_module(MODULES[kind])
    export = importlib.import_module("export.engines.tensor_rt")
    targets = [compute_capability] if kind == "tensorrt-rtx" else []
    with progress.Progress(disable=True) as bar:
        plan = export.build(library, onnx.read_bytes(), bar, compute_capabilities=targets)
    about = EngineFile(
        kind=kind,
        version=plan.version,
        precision="fp32",
        onnx_sha256=info.onnx_sha256,
        built="2026-11-23",
        compute_capabilities=(compute_capability,),
        batch=Batch(min=1, opt=5, max=64),
    )
    engine_file.write(path, plan.content, about)


@pytest.fixture(scope="module")
def rtx_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the tiny bundle with an engine of TensorRT for RTX."""
    rtx()
    bundle = tmp_path_factory.mktemp("rtx") / "tiny"
    bundle.mkdir()
    for file in tiny_bundle.iterdir():
        (bundle / file.name).write_bytes(file.read_bytes())
    info, onnx = read_bundle(bundle)
    build("tensorrt-rtx", onnx, info, bundle / "engines" / "fp32.rtx", "8.6")
    return bundle


def opened_on_host_memory(bundle: Path, monkeypatch: pytest.MonkeyPatch, **model: Any) -> EngineError:
    """Return why an engine file is refused by all that comes before the GPU, and by the real TensorRT for RTX."""
    monkeypatch.setattr(tensor_rt, "open_cuda", HostMemory)
    info, onnx = read_bundle(bundle)
    with pytest.raises(EngineError) as refused:
        open_engine(info, onnx.parent, Model(engine="tensorrt", **model))
    return refused.value


def test_a_real_engine_comes_as_far_as_the_missing_gpu(rtx_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu()
    error = opened_on_host_memory(rtx_bundle, monkeypatch)
    assert error.code == "engine_failed"
    assert "fp32.rtx cannot be used: TensorRT cannot load it" in error.message
    assert "cudaError 35" in error.message
    assert "--to tensorrt-rtx" in error.hint


def test_an_engine_that_does_not_fit_is_refused_before_it_is_loaded(
    rtx_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rtx_bundle / "engines" / "fp32.rtx"
    sidecar = path.with_name("fp32.rtx.json")
    kept = sidecar.read_bytes()
    try:
        about = msgspec.structs.replace(engine_file.read(path), version="1.0.0", compute_capabilities=("12.0",))
        sidecar.write_bytes(msgspec.json.encode(about))
        error = opened_on_host_memory(rtx_bundle, monkeypatch)
    finally:
        sidecar.write_bytes(kept)
    assert error.code == "engine_mismatch"
    assert "tensorrt-rtx is 1.0.0, expected 1." in error.message
    assert "GPUs are 12.0, expected 8.6" in error.message


def test_a_precision_that_the_engine_does_not_have_is_refused(
    rtx_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = opened_on_host_memory(rtx_bundle, monkeypatch, precision="fp16")
    assert error.code == "engine_mismatch"
    assert "it is fp32, precision = 'fp16'" in error.message


def test_a_bundle_without_engines_says_where_it_looked(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rtx()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    error = opened_on_host_memory(tiny_bundle, monkeypatch)
    assert error.code == "no_engine"
    assert str(tiny_bundle / "engines") in error.message
    assert str(tmp_path) in error.message
    assert "crossglg-edge export BUNDLE --to tensorrt" in error.hint


@pytest.fixture(params=list(MODULES))
def gpu_bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a copy of the shipped bundle with an engine built for the GPU that is here."""
    kind: engine_file.Kind = request.param
    library = pytest.importorskip(MODULES[kind], reason=f"{kind} is not installed", exc_type=ImportError)
    try:
        cuda = cuda_module.open_cuda()
    except EngineError as error:
        pytest.skip(error.message)
    cuda.close()
    if kind == "tensorrt-rtx" and not hasattr(
        library.ComputeCapability, f"SM{cuda.compute_capability.replace('.', '')}"
    ):
        pytest.skip(f"{kind} builds nothing for {cuda.device}")
    info, onnx = read_bundle()
    for file in onnx.parent.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    suffix = engine_file.SUFFIXES[kind]
    build(kind, onnx, info, tmp_path / "engines" / f"fp32{suffix}", cuda.compute_capability)
    return tmp_path


def on_gpu(bundle: Path) -> tuple[TensorRt, BundleInfo]:
    info, onnx = read_bundle(bundle)
    return open_engine(info, onnx.parent, Model(engine="tensorrt")), info


@pytest.mark.gpu
def test_on_a_gpu_a_batch_of_any_size_gives_what_onnx_runtime_gives(gpu_bundle: Path) -> None:
    engine, info = on_gpu(gpu_bundle)
    reference = OnnxRuntime(gpu_bundle / "encoder.onnx")
    for num in (1, 3, 5, 64, 65, 7):
        windows_NTVC = some_windows(num, info.num_frames, seed=num)
        for ours, theirs in zip(engine.run(windows_NTVC), reference.run(windows_NTVC), strict=True):
            # TF32 has 10 bits.
            np.testing.assert_allclose(ours, theirs, atol=1e-2 * float(np.abs(theirs).max()))
    engine.close()


@pytest.mark.gpu
def test_on_a_gpu_the_replayed_graph_gives_what_the_plain_run_gives(
    gpu_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed, info = on_gpu(gpu_bundle)
    monkeypatch.setattr(cuda_module.CudaBindings, "capture", lambda _, work: work)
    plain, _ = on_gpu(gpu_bundle)
    for num in (1, 5, 5, 64, 2):
        windows_NTVC = some_windows(num, info.num_frames, seed=num)
        for ours, theirs in zip(replayed.run(windows_NTVC), plain.run(windows_NTVC), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    replayed.close()
    plain.close()


@pytest.mark.gpu
def test_on_a_gpu_a_thousand_runs_take_no_memory(gpu_bundle: Path) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    engine, info = on_gpu(gpu_bundle)
    windows_NTVC = some_windows(5, info.num_frames)
    engine.run(windows_NTVC)
    before = runtime.cudaMemGetInfo()
    for _ in range(1000):
        engine.run(windows_NTVC)
    assert runtime.cudaMemGetInfo() == before
    engine.close()


@pytest.mark.gpu
def test_on_a_gpu_a_closed_engine_gives_its_memory_back(gpu_bundle: Path) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    on_gpu(gpu_bundle)[0].close()  # what CUDA keeps for itself
    _, before, _ = runtime.cudaMemGetInfo()
    for _ in range(3):
        on_gpu(gpu_bundle)[0].close()
    _, after, _ = runtime.cudaMemGetInfo()
    assert before - after < 1 << 20
