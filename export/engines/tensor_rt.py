"""A bundle's encoder -> an engine of TensorRT 10 or 11, or of TensorRT for RTX: one way for all three.

The network is strongly typed: what is fp16 in the ONNX file is fp16 in the engine, and nothing else is.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress, TaskID

from edge.model import BundleInfo
from edge.model.engines import Batch, EngineFile, engine_file, open_cuda
from export.engines.onnx_fp16 import NAME, write_fp16
from streams.errors import EngineError
from streams.files import replace_file

# One body's windows are at most seven, mostly five or six; the runtime splits what is more than the largest batch.
BATCH = Batch(min=1, opt=5, max=64)
# What needs more scratch memory than this is not tried: a Jetson shares its memory with everything else.
_WORKSPACE_BYTES = 1 << 30
_INSTALL = {
    "tensorrt": "Install it with `pip install tensorrt`. On a Jetson JetPack has it: make the virtual environment "
    "with --system-site-packages.",
    "tensorrt_rtx": "Install it with `pip install 'crossglg-edge[tensorrt-rtx]'`.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Hold a built engine, the version of the library, and what that says of the engine's layers."""

    content: bytes
    version: str
    layers: str


def write_tensorrt(info: BundleInfo, bundle: Path, folder: Path, progress: Progress) -> Path:
    """Build an fp16 engine for the GPU of this machine and write it to FOLDER; return its path.

    Raises EngineError: not_installed, no_device, or with what TensorRT complained of.
    """
    library = load_library("tensorrt")
    cuda = open_cuda()
    device, compute_capability, version = cuda.device, cuda.compute_capability, cuda.name
    cuda.close()
    onnx = fp16_onnx(info, bundle, folder).read_bytes()
    plan = build(library, onnx, progress, timing_cache=folder / "timing.cache")
    about = about_fp16(info, plan.version, compute_capabilities=(compute_capability,), gpu=device, cuda=version)
    path = folder / f"encoder-fp16-sm{compute_capability.replace('.', '')}-{plan.version}.engine"
    return _write(path, plan, about)


def write_tensorrt_rtx(
    info: BundleInfo, bundle: Path, folder: Path, progress: Progress, compute_capabilities: Sequence[str]
) -> Path:
    """Build an fp16 engine of TensorRT for RTX, for GPUs that need not be here, and write it to FOLDER.

    `compute_capabilities`: such as "8.6"; none names all that the library builds for. Raises EngineError as
    `write_tensorrt`.
    """
    library = load_library("tensorrt_rtx")
    wanted = tuple(dict.fromkeys(compute_capabilities)) or tuple(known_compute_capabilities(library))
    plan = build(library, fp16_onnx(info, bundle, folder).read_bytes(), progress, compute_capabilities=wanted)
    about = about_fp16(info, plan.version, kind="tensorrt-rtx", compute_capabilities=wanted)
    sms = "-".join(f"sm{name.replace('.', '')}" for name in wanted)
    return _write(folder / f"encoder-fp16-{sms}-{plan.version}.rtx", plan, about)


def about_fp16(
    info: BundleInfo,
    version: str,
    *,
    kind: engine_file.Kind = "tensorrt",
    compute_capabilities: tuple[str, ...],
    gpu: str = "",
    cuda: str = "",
) -> EngineFile:
    """Return the sidecar of an fp16 engine that was built now; whether it agrees is found out where it runs."""
    return EngineFile(
        kind=kind,
        version=version,
        precision="fp16",
        onnx_sha256=info.onnx_sha256,
        cuda=cuda,
        gpu=gpu,
        compute_capabilities=compute_capabilities,
        batch=BATCH,
    )


def load_library(module: str) -> Any:
    """Import `tensorrt` or `tensorrt_rtx`. Raises EngineError("not_installed")."""
    try:
        return importlib.import_module(module)
    except Exception as error:  # without its native library it raises OSError, RuntimeError and others
        raise EngineError(
            f"the engine is built by {module}, which cannot be imported: {error}",
            code="not_installed",
            hint=_INSTALL[module],
        ) from error


def fp16_onnx(info: BundleInfo, bundle: Path, folder: Path) -> Path:
    """Return the bundle's encoder in fp16: a file that was made before, on this machine or another, or a new one.

    Raises EngineError, BundleError.
    """
    for path in (folder / NAME, *engine_file.find(info, bundle, "onnx")):
        with contextlib.suppress(EngineError):
            if engine_file.verify(path, info, "onnx").precision == "fp16":
                return path
    return write_fp16(info, bundle, folder)


def build(
    library: Any,
    onnx: bytes,
    progress: Progress,
    *,
    compute_capabilities: Sequence[str] = (),
    timing_cache: Path | None = None,
) -> Plan:
    """Build an engine for batches of BATCH.

    `compute_capabilities`: the GPUs that TensorRT for RTX builds for. TensorRT builds for the GPU that is here,
    and measures on it: `timing_cache` keeps what it measured for the next build.
    Raises EngineError with what the library complained of.
    """
    logger = _logger(library)
    try:
        builder = library.Builder(logger)
    except Exception as error:  # pybind11 raises TypeError where the library returns nothing
        raise _failure(logger, f"does not start: {error}") from error
    # TensorRT 11 knows no other networks, and ignores the flag.
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, logger)
    if not parser.parse(onnx) or network.get_input(0) is None:
        errors = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise _failure(logger, f"cannot read the ONNX file: {errors}")
    config = builder.create_builder_config()
    config.profiling_verbosity = library.ProfilingVerbosity.DETAILED
    monitor = _monitor(library, progress)  # the library does not keep it alive
    config.progress_monitor = monitor
    _add_profile(builder, network, config, logger)
    if compute_capabilities:
        _set_compute_capabilities(library, config, compute_capabilities)
    if timing_cache is not None:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
        _use_timing_cache(config, timing_cache)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise _failure(logger, "cannot build the engine")
    if timing_cache is not None:
        with contextlib.suppress(OSError):  # the next build measures again
            replace_file(timing_cache, bytes(config.get_timing_cache().serialize()))
    content = bytes(built)
    return Plan(content=content, version=str(library.__version__), layers=_layers(library, logger, content))


def known_compute_capabilities(library: Any) -> dict[str, Any]:
    """Return the GPUs that TensorRT for RTX builds for, such as "8.6", and what it calls them."""
    members = library.ComputeCapability.__members__.items()
    return {f"{name[2:-1]}.{name[-1]}": value for name, value in members if name.startswith("SM")}


def _write(path: Path, plan: Plan, about: EngineFile) -> Path:
    engine_file.write(path, plan.content, about)
    with contextlib.suppress(OSError):  # the engine is there, and this only tells about it
        replace_file(path.with_name(path.name + ".layers.txt"), plan.layers.encode())
    return path


def _use_timing_cache(config: Any, path: Path) -> None:
    known = b""
    with contextlib.suppress(OSError):  # there is none yet
        known = path.read_bytes()
    # What is damaged, or of another version or GPU, the library leaves aside.
    config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)


def _add_profile(builder: Any, network: Any, config: Any, logger: Any) -> None:
    profile = builder.create_optimization_profile()
    windows = network.get_input(0)
    profile.set_shape(windows.name, *((size, *tuple(windows.shape)[1:]) for size in (BATCH.min, BATCH.opt, BATCH.max)))
    if config.add_optimization_profile(profile) < 0:
        raise _failure(logger, f"takes no batches of {BATCH.min} to {BATCH.max} windows")


def _set_compute_capabilities(library: Any, config: Any, wanted: Sequence[str]) -> None:
    known = known_compute_capabilities(library)
    if unknown := [name for name in wanted if name not in known]:
        raise EngineError(
            f"compute capability {', '.join(unknown)}: TensorRT for RTX {library.__version__} builds for "
            f"{', '.join(known)}",
            hint="A Jetson or a GPU of a data center takes `--to tensorrt`, run on that machine.",
        )
    config.num_compute_capabilities = len(wanted)
    for index, name in enumerate(wanted):
        config.set_compute_capability(known[name], index)


def _layers(library: Any, logger: Any, content: bytes) -> str:
    """Return the inspector's JSON or, where no GPU can load the engine, the builder's own account."""
    engine = library.Runtime(logger).deserialize_cuda_engine(content)
    if engine is None:
        return str(logger.layers)
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(library.LayerInformationFormat.JSON))


def _logger(library: Any) -> Any:
    class Logger(library.ILogger):  # type: ignore[misc]
        """Keep what went wrong, and the layers of the engine."""

        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.library = library.__name__
            self.errors: list[str] = []
            self.layers = ""

        def log(self, severity: Any, message: str) -> None:
            if severity.value <= library.ILogger.Severity.ERROR.value:
                self.errors.append(message)
            elif message.startswith("Layers:"):
                self.layers = message

    return Logger()


def _monitor(library: Any, progress: Progress) -> Any:
    class Monitor(library.IProgressMonitor):  # type: ignore[misc]
        """Show the phases of a build, some within others, on the terminal."""

        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)
            self.tasks: dict[str, TaskID] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.tasks[phase_name] = progress.add_task(phase_name, total=num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.update(self.tasks[phase_name], completed=step + 1)
            return True

        def phase_finish(self, phase_name: str) -> None:
            progress.remove_task(self.tasks.pop(phase_name))

    return Monitor()


def _failure(logger: Any, what: str) -> EngineError:
    return EngineError(f"{logger.library} {what}: {' '.join(logger.errors) or 'it gives no reason'}")
