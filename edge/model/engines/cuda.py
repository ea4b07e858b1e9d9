"""The few calls of CUDA that an engine on a GPU needs, by cuda-bindings or pycuda, whichever is installed."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np

from streams.arrays import Array
from streams.errors import EngineError


class Cuda(Protocol):
    """Hold memory and one stream of the first GPU. Used by one thread at a time, inside `active`.

    `compute_capability`: "8.7". `stream`: the handle that TensorRT takes. `captures`: the binding has CUDA graphs.
    """

    name: str
    device: str
    compute_capability: str
    stream: int
    captures: bool

    def active(self) -> AbstractContextManager[object]:
        """Make the GPU the calling thread's; the binding's own exceptions become EngineError."""
        ...

    def allocate(self, num_bytes: int) -> int:
        """Return the address of new memory on the GPU, of at least one byte."""
        ...

    def allocate_pinned(self, shape: tuple[int, ...]) -> Array:
        """Return zeros, float32, in memory that the GPU copies from and to by itself; valid until `close`."""
        ...

    def copy_to_device(self, address: int, array: Array) -> None:
        """Put the copy of a contiguous part of pinned memory into the stream."""
        ...

    def copy_to_host(self, array: Array, address: int) -> None:
        """Put the copy into a contiguous part of pinned memory into the stream."""
        ...

    def synchronize(self) -> None:
        """Wait until everything in the stream is done."""
        ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return what puts the same work into the stream again, at the same addresses: a CUDA graph, or `work`."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


def open_cuda() -> Cuda:
    """Open the first GPU by the binding that is installed. Raises EngineError: not_installed, no_device."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        return _open_pycuda()
    return CudaBindings(runtime)


class CudaBindings:
    """CUDA by NVIDIA's cuda-bindings: the runtime API, with graphs."""

    captures = True

    def __init__(self, runtime: Any) -> None:
        self._cuda = runtime
        error, count = runtime.cudaGetDeviceCount()
        if int(error) or not count:
            raise _no_device(f"CUDA finds no GPU: {self._text(error)}" if int(error) else "CUDA finds no GPU")
        version = self._call(runtime.cudaRuntimeGetVersion())
        self.name = f"cuda-bindings, CUDA {version // 1000}.{version % 1000 // 10}"
        self.device = self._call(runtime.cudaGetDeviceProperties(0)).name.decode()
        attribute = runtime.cudaDeviceAttr
        major = self._call(runtime.cudaDeviceGetAttribute(attribute.cudaDevAttrComputeCapabilityMajor, 0))
        minor = self._call(runtime.cudaDeviceGetAttribute(attribute.cudaDevAttrComputeCapabilityMinor, 0))
        self.compute_capability = f"{major}.{minor}"
        # Graphs cannot be captured on the default stream, and this one does not wait for it.
        self._stream = self._call(runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking))
        self.stream = int(self._stream)
        self._freed_by: list[tuple[Callable[[Any], Any], Any]] = [(runtime.cudaStreamDestroy, self._stream)]

    def active(self) -> AbstractContextManager[object]:
        return nullcontext()  # in the runtime API the first GPU is every thread's unless it says otherwise

    def allocate(self, num_bytes: int) -> int:
        address = int(self._call(self._cuda.cudaMalloc(max(num_bytes, 1))))
        self._freed_by.append((self._cuda.cudaFree, address))
        return address

    def allocate_pinned(self, shape: tuple[int, ...]) -> Array:
        size = math.prod(shape)
        address = int(self._call(self._cuda.cudaHostAlloc(max(4 * size, 1), self._cuda.cudaHostAllocDefault)))
        self._freed_by.append((self._cuda.cudaFreeHost, address))
        array: Array = np.ctypeslib.as_array((ctypes.c_float * size).from_address(address)).reshape(shape)
        array[...] = 0
        return array

    def copy_to_device(self, address: int, array: Array) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._cuda.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, self._stream))

    def copy_to_host(self, array: Array, address: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(self._cuda.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, self._stream))

    def synchronize(self) -> None:
        self._call(self._cuda.cudaStreamSynchronize(self._stream))

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call(self._cuda.cudaStreamBeginCapture(self._stream, mode))
        try:
            work()
        finally:
            ended = self._cuda.cudaStreamEndCapture(self._stream)
        graph = self._call(ended)
        executable = self._call(self._cuda.cudaGraphInstantiate(graph, 0))
        self._call(self._cuda.cudaGraphDestroy(graph))
        self._freed_by.append((self._cuda.cudaGraphExecDestroy, executable))
        return lambda: self._call(self._cuda.cudaGraphLaunch(executable, self._stream))

    def close(self) -> None:
        while self._freed_by:
            free, what = self._freed_by.pop()
            free(what)

    def _call(self, result: tuple[Any, ...]) -> Any:
        """Return the value of a call, which comes after its error code; None where it has none."""
        error, *values = result
        if int(error):
            raise EngineError(f"CUDA failed on {getattr(self, 'device', 'the GPU')}: {self._text(error)}")
        return values[0] if values else None

    def _text(self, error: Any) -> str:
        _, text = self._cuda.cudaGetErrorString(error)
        return f"{text.decode()} ({error.name})"


class PyCuda:
    """CUDA by pycuda: the driver API, without graphs."""

    name = "pycuda"
    captures = False

    def __init__(self, driver: Any) -> None:
        self._cuda = driver
        try:
            driver.init()
            device = driver.Device(0)
        except driver.Error as error:
            raise _no_device(f"CUDA finds no GPU: {error}") from error
        self.device = device.name()
        self.compute_capability = "{}.{}".format(*device.compute_capability())
        # TensorRT works in the primary context.
        self._context = device.retain_primary_context()
        with self.active():
            self._stream = driver.Stream(1)  # CU_STREAM_NON_BLOCKING
        self.stream = int(self._stream.handle)
        self._memory: list[Any] = []

    @contextmanager
    def active(self) -> Iterator[object]:
        self._context.push()
        try:
            yield None
        except self._cuda.Error as error:
            raise EngineError(f"CUDA failed on {self.device}: {error}") from error
        finally:
            self._cuda.Context.pop()

    def allocate(self, num_bytes: int) -> int:
        self._memory.append(self._cuda.mem_alloc(max(num_bytes, 1)))
        return int(self._memory[-1])

    def allocate_pinned(self, shape: tuple[int, ...]) -> Array:
        array: Array = self._cuda.pagelocked_empty(shape, np.float32) if math.prod(shape) else np.zeros(shape, "f4")
        array[...] = 0
        self._memory.append(array)
        return array

    def copy_to_device(self, address: int, array: Array) -> None:
        self._cuda.memcpy_htod_async(address, array, self._stream)

    def copy_to_host(self, array: Array, address: int) -> None:
        self._cuda.memcpy_dtoh_async(array, address, self._stream)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        return work

    def close(self) -> None:
        with self.active():
            self._memory.clear()
            del self._stream


def _open_pycuda() -> Cuda:
    try:
        from pycuda import driver
    except ModuleNotFoundError as missing:
        raise EngineError(
            "TensorRT needs cuda-bindings or pycuda, and neither is installed",
            code="not_installed",
            hint="Install `pip install cuda-bindings`, of the CUDA version that the driver has.",
        ) from missing
    except ImportError as error:  # it is linked with the driver's library
        raise _no_device(f"pycuda cannot be loaded: {error}") from error
    return PyCuda(driver)


def _no_device(message: str) -> EngineError:
    return EngineError(
        message,
        code="no_device",
        hint="It needs an NVIDIA GPU and a driver no older than the binding's CUDA version; `nvidia-smi` shows both.",
    )
