"""The command `crossglg-edge doctor`: what a machine has and lacks."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import typer

from edge.cli.ask import daemon
from edge.cli.exit_codes import ExitCode
from edge.cli.options import ConfigOption, EndpointOption, JsonOption
from edge.cli.terminal import escape, out, print_json, table
from edge.config import DEFAULT_PATH, Config, read_config
from edge.protocol import VERSION, Ping, ask
from streams.errors import ControlError, CrossGLGError, EngineError, GalleryError

if TYPE_CHECKING:
    from rich.console import Console

    from edge.model import BundleInfo
    from edge.model.engines import engine_file
    from streams.sockets import ControlServer, EventPublisher, FrameSubscriber

# What the engines need: tried in a process of its own, since a broken native library may crash the one that loads it.
_LIBRARIES: tuple[dict[str, str], ...] = (
    {"name": "onnxruntime", "remedy": "the engine that ships with the package", "command": "pip install onnxruntime"},
    {
        "name": "openvino",
        "code": "from edge.model.engines.open_vino import import_openvino; print(import_openvino().__version__)",
        "remedy": "the CPU in bf16",
        "command": "pip install 'crossglg-edge[openvino]'",
    },
    {
        "name": "tensorrt",
        "remedy": "NVIDIA GPUs; on a Jetson it is JetPack's python3-libnvinfer",
        "command": "pip install tensorrt",
    },
    {
        "name": "tensorrt-rtx",
        "module": "tensorrt_rtx",
        "remedy": "NVIDIA RTX GPUs",
        "command": "pip install tensorrt-rtx",
    },
    {
        "name": "torch-tensorrt",
        "module": "torch_tensorrt",
        "remedy": "only for export --to torch-tensorrt, with a CUDA build of torch",
        "command": "pip install torch-tensorrt",
    },
    {
        "name": "cuda-bindings",
        "module": "cuda",
        "code": "import cuda.bindings as c; from cuda.bindings import driver as d; r, = d.cuInit(0)\n"
        "assert not r, r\nprint(f'{c.__version__}, {d.cuDeviceGetCount()[1]} GPU')",
        "remedy": "NVIDIA GPUs, with their driver",
        "command": "pip install cuda-bindings",
    },
    {
        "name": "pycuda",
        "code": "import pycuda, pycuda.driver as d; d.init(); print(f'{pycuda.VERSION_TEXT}, {d.Device.count()} GPU')",
        "remedy": "instead of cuda-bindings, built with the CUDA toolkit",
        "command": "pip install pycuda",
    },
    {
        "name": "tritonclient",
        "code": "import tritonclient.grpc; from importlib.metadata import version; print(version('tritonclient'))",
        "remedy": 'an encoder on an inference server, engine = "oip://..."',
        "command": "pip install 'crossglg-edge[oip]'",
    },
    {
        "name": "bridges",
        "module": "paho",
        "code": "import paho.mqtt.client, prometheus_client, pylsl, pythonosc; from importlib.metadata import version\n"
        "print(*(f'{p} {version(p)}' for p in ('paho-mqtt', 'python-osc', 'pylsl', 'prometheus_client')), sep=', ')",
        "remedy": "`crossglg-edge bridge` to MQTT, OSC, LSL and Prometheus",
        "command": "pip install 'crossglg-edge[bridge]'",
    },
)
_TIMEOUT_S = 60.0
# A command within a hint.
_COMMAND = re.compile(r"`((?:crossglg-edge|pip) [^`]+)`")
# All that may be missing is optional: what is needed is broken without it.
_MARKS = {"ok": "[green]ok[/]", "missing": "[yellow]optional[/]", "broken": "[bold red]broken[/]"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Say what was looked at, what was found, what it is for or what to do, and the command that does it."""

    what: str
    state: Literal["ok", "missing", "broken"]
    found: str
    remedy: str = ""
    command: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return it as it stands in the JSON."""
        return dataclasses.asdict(self)


def doctor(config: ConfigOption = None, endpoint: EndpointOption = None, as_json: JsonOption = False) -> None:
    """Check packages, model, gallery, sockets and sensor, and say what is missing and how to get it."""
    findings = examine(config, endpoint)
    if as_json:
        print_json([finding.as_dict() for finding in findings])
    else:
        print_findings(out(), findings)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(ExitCode.BAD_NEWS)


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Print what was found, each command on a line of its own, and nothing cut off, however narrow the terminal is."""
    rows = table("", "", show_header=False, box=None, padding=(0, 1, 0, 0))
    for finding in findings:
        rows.add_row(_MARKS[finding.state], f"[bold]{escape(finding.what)}[/]: {escape(finding.found)}")
        if finding.remedy:
            rows.add_row("", escape(finding.remedy))
        for command in (finding.command, *_COMMAND.findall(finding.remedy)):
            if command:
                rows.add_row("", f"  [cyan]{escape(command)}[/]")
    console.print(rows, highlight=False)
    states = [finding.state for finding in findings]
    console.print(f"{states.count('broken') or 'nothing'} broken; {states.count('missing')} optional, not set up")


def examine(config_path: Path | None, endpoint: str | None = None) -> list[Finding]:
    """Look at everything that `serve` needs (broken where it fails) or can use (missing).

    `config_path`, `endpoint`: as for `read_config`, which may raise ConfigError.
    """
    config = read_config(config_path, endpoint)
    path = config_path or DEFAULT_PATH
    return [
        _ok(
            "crossglg-edge",
            f"{VERSION}, Python {platform.python_version()}, {platform.machine()} {sys.platform}",
        ),
        *(_package(name) for name in ("numpy", "pyzmq", "msgspec", "mcap")),
        _package("torch", "only for training", "pip install 'crossglg-edge[train]'"),
        _ok("config", str(path) if path.exists() else f"defaults; {path} would be read"),
        *(_loaded(**library) for library in _LIBRARIES),
        _apart("TensorRT engine", "tensorrt_engine", config_path),
        _apart("model and gallery", "library", config_path),
        _apart("words of labels", "words", config_path),
        *_daemon_or_sockets(config),
        _webcam(config),
        _browser_camera(),
        *_azure_kinect(config),
    ]


def _ok(what: str, found: str) -> Finding:
    return Finding(what=what, state="ok", found=found)


def _package(name: str, remedy: str = "", command: str = "") -> Finding:
    """Return whether a package is installed; one that has no remedy is needed."""
    try:
        return _ok(name, version(name))
    except PackageNotFoundError:
        state: Literal["missing", "broken"] = "missing" if remedy else "broken"
        command = command or f"pip install {name}"
        return Finding(what=name, state=state, found="not installed", remedy=remedy, command=command)


def _loaded(*, name: str, remedy: str, command: str, module: str = "", code: str = "") -> Finding:
    """Say whether a library can be loaded, and which version it is; "missing" also where it is broken, as others serve.

    `code` prints the version; without it, that of `module`.
    """
    module = module or name
    if importlib.util.find_spec(module) is None:
        return Finding(what=name, state="missing", found="not installed", remedy=remedy, command=command)
    printed, reason = _printed(code or f"import {module}; print({module}.__version__)")
    if reason:
        found = f"installed, but cannot be used: {reason}"
        return Finding(what=name, state="missing", found=found, remedy=remedy, command=command)
    return _ok(name, printed)


def _apart(what: str, look: str, config_path: Path | None) -> Finding:
    """Return what a function of this module finds, in a process of its own."""
    code = (
        f"import json, sys\nfrom pathlib import Path\nfrom edge.cli.doctor import {look}\n"
        f"print(json.dumps({look}(*map(Path, sys.argv[1:])).as_dict()))"
    )
    printed, reason = _printed(code, *([] if config_path is None else [str(config_path)]))
    if reason:
        remedy = "See above which library is at fault, and remove it."
        return Finding(what=what, state="broken", found=reason, remedy=remedy)
    return Finding(**json.loads(printed))


def _printed(code: str, *args: str) -> tuple[str, str]:
    """Run Python code in a process of its own; return its last line, and why it failed, "" where it did not."""
    command = [sys.executable, "-P", "-c", code, *args]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return "", f"it takes longer than {_TIMEOUT_S:g} s"
    said = (done.stderr if done.returncode else done.stdout).strip().splitlines() or ["it says nothing"]
    if done.returncode < 0:
        return "", f"it crashes with {signal.Signals(-done.returncode).name}"
    return said[-1], said[-1] if done.returncode else ""


def _tried(what: str, look: Callable[[], str]) -> Finding:
    try:
        return _ok(what, look())
    except CrossGLGError as error:
        return Finding(what=what, state="broken", found=error.message, remedy=error.hint)


def library(config_path: Path | None = None) -> Finding:
    """Load the model and open the gallery as `serve` does."""
    from edge.library import open_library

    def look() -> str:
        library = open_library(read_config(config_path))
        with library.gallery as gallery:
            runs, num_examples = library.encoder.engine.name, len(gallery.prototypes)
            if gallery.damaged:
                raise GalleryError(
                    f"{len(gallery.damaged)} examples in {gallery.path} are damaged and set aside",
                    hint="`crossglg-edge gallery check` names them; `gallery restore` or `gallery repair` mends it.",
                )
            return f"{library.encoder.info.name} runs in {runs}; {num_examples} examples in {gallery.path}"

    return _tried("model and gallery", look)


def words(config_path: Path | None = None) -> Finding:
    """Open the text encoder and the bundle's words; they are optional, but broken where they are there and fail."""
    from edge.model import read_bundle
    from edge.words import open_words

    config = read_config(config_path)
    bundle = Path(config.model.bundle).expanduser() if config.model.bundle else None
    try:
        found = open_words(config.words, read_bundle(bundle)[0], bundle)
    except CrossGLGError as error:
        is_broken = error.code not in ("words_off", "no_words", "no_text_encoder")
        state: Literal["missing", "broken"] = "broken" if is_broken else "missing"
        return Finding(what="words of labels", state=state, found=error.message, remedy=error.hint)
    return _ok("words of labels", f"{found.header.text_encoder}, with the words of {len(found.header.actions)} actions")


def tensorrt_engine(config_path: Path | None = None) -> Finding:
    """Look for engine files of this model, and run the one that fits this machine."""
    from edge.model import open_encoder, read_bundle
    from edge.model.engines import engine_file, tensor_rt

    model = read_config(config_path).model
    bundle = Path(model.bundle).expanduser() if model.bundle else None
    files = "no engine file"
    try:
        info, onnx = read_bundle(bundle)
        found: tuple[tuple[engine_file.Kind, Path], ...] = tuple(
            (kind, path) for kind in tensor_rt.MODULES for path in engine_file.find(info, onnx.parent, kind)
        )
        files = "; ".join(_engine_file(path, info, kind) for kind, path in found) or files
        encoder = open_encoder(bundle, msgspec.structs.replace(model, engine="tensorrt", precision="auto"))
    except CrossGLGError as error:
        return Finding(what="TensorRT engine", state="missing", found=f"{files}; {error.message}", remedy=error.hint)
    return _ok("TensorRT engine", ", ".join(f"{key} {value}" for key, value in encoder.engine.details.items()))


def _engine_file(path: Path, info: BundleInfo, kind: engine_file.Kind) -> str:
    from edge.model.engines import engine_file

    try:
        about = engine_file.verify(path, info, kind)
    except EngineError as error:
        return error.message
    return f"{path}, {about.precision}, for {kind} {about.version} on {', '.join(about.compute_capabilities)}"


def _daemon_or_sockets(config: Config) -> list[Finding]:
    try:
        with daemon(config, timeout_s=0.5) as client:
            return [_ok("daemon", f"running, process {ask(client, Ping()).pid}")]
    except ControlError as error:
        if error.code != "unreachable":
            return [Finding(what="daemon", state="broken", found=error.message, remedy=error.hint)]
    return _sockets(config)


def _sockets(config: Config) -> list[Finding]:
    from streams.sockets import ControlServer, EventPublisher, FrameSubscriber

    opened = (
        ("frames", FrameSubscriber, config.sockets.frames),
        ("events", EventPublisher, config.sockets.events),
        ("control", ControlServer, config.sockets.control),
    )

    def bind(kind: Callable[[str], FrameSubscriber | EventPublisher | ControlServer], endpoint: str) -> str:
        kind(endpoint).close()
        return f"{endpoint} is free"

    return [
        _tried(f"socket for {name}", lambda kind=kind, endpoint=endpoint: bind(kind, endpoint))  # type: ignore[misc]
        for name, kind, endpoint in opened
    ]


def _webcam(config: Config) -> Finding:
    from streams.cameras import validate_webcam, webcam_folder

    folder = webcam_folder(config.webcam)
    try:
        validate_webcam(folder)
    except CrossGLGError as error:
        return Finding(what="webcam", state="missing", found=error.message, remedy="crossglg-edge setup webcam")
    cameras = sorted(str(path) for path in Path("/dev").glob("video*"))
    return _ok("webcam", f"set up in {folder}; cameras: {', '.join(cameras) or 'none is plugged in'}")


def _browser_camera() -> Finding:
    what = "browser's camera"
    try:
        from edge.web import find_camera
    except ModuleNotFoundError as error:
        return Finding(
            what=what,
            state="missing",
            found=f"{error.name} is not installed",
            command="pip install 'crossglg-edge[web]'",
        )
    try:
        return _ok(what, f"set up in {find_camera()}")
    except CrossGLGError as error:
        return Finding(what=what, state="missing", found=error.message, remedy="crossglg-edge setup browser-camera")


def _azure_kinect(config: Config) -> list[Finding]:
    """Look at the parts of the camera `k4a`; where it is not used and nothing of it is there, one line says so."""
    from streams.sensors.k4a import examine_k4a

    parts = [Finding(**dataclasses.asdict(part)) for part in examine_k4a(config.k4a)]
    kind, _, file = config.camera.partition(":")
    if kind != "k4a":
        found = f"{parts[0].what}: {parts[0].found}"
        return (
            parts if parts[0].state != "missing" else [dataclasses.replace(parts[0], what="Azure Kinect", found=found)]
        )
    needed = ("libk4a", "libk4abt", "k4abt model", *(["libk4arecord"] if file else []))
    return [
        dataclasses.replace(part, state="broken") if part.what in needed and part.state == "missing" else part
        for part in parts
    ]
