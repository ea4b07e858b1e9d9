"""An engine file, such as TensorRT's, and the sidecar that says what it was built for: written, found, verified.

The sidecar of `encoder.engine` is `encoder.engine.json`. An engine belongs to one model, and most of them
to one version of a library and one kind of GPU: anything else is refused with the reason.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import msgspec
import platformdirs

from edge.model.bundle import BundleInfo
from streams.errors import EngineError
from streams.files import replace_file

Kind = Literal["onnx", "openvino", "tensorrt", "tensorrt-rtx"]
SUFFIXES: Mapping[Kind, str] = MappingProxyType(
    {"onnx": ".onnx", "openvino": ".xml", "tensorrt": ".engine", "tensorrt-rtx": ".rtx"}
)
# OpenVINO's weights lie in a file of their own; the engine is both.
_SECOND_SUFFIX = ".bin"


class _Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Batch(_Struct, frozen=True):
    """Say which numbers of windows at once an engine takes, and for which it is fastest."""

    min: int
    opt: int
    max: int


class Parity(_Struct, frozen=True):
    """Say how near an engine came to the fp32 ONNX file in the worst window; see `parity.agreement`."""

    largest: float
    cosine: float
    frames: float
    features: float
    against: str


class EngineFile(_Struct, frozen=True):
    """Say what an engine file was built for and from (the sidecar).

    `version`: of the library that `kind` names. `compute_capabilities`: of the GPUs that it runs on, such
    as "8.7"; `cuda`, `gpu`: with what it was built; all empty for a CPU. `batch`: None takes any.
    `onnx_sha256`: the bundle's encoder.onnx. `file_sha256`: the engine file itself. `parity`: None
    where it has not run yet.
    """

    kind: Kind
    version: str
    precision: Literal["fp32", "bf16", "fp16"]
    onnx_sha256: str
    built: str = ""
    file_sha256: str = ""
    cuda: str = ""
    gpu: str = ""
    compute_capabilities: tuple[str, ...] = ()
    batch: Batch | None = None
    parity: Parity | None = None


def default_folder(info: BundleInfo) -> Path:
    """Return where the engines of a bundle are kept when the bundle's own folder may not be written to."""
    return platformdirs.user_cache_path("crossglg-edge") / "engines" / info.onnx_sha256[:16]


def find(info: BundleInfo, bundle: Path, kind: Kind) -> list[Path]:
    """Return the engine files of a kind, fit or not, newest first, in BUNDLE/engines and `default_folder`."""
    found = []
    for folder in (bundle / "engines", default_folder(info)):
        with contextlib.suppress(OSError):  # a folder that may not be read has none for us
            files = [path for path in folder.glob(f"*{SUFFIXES[kind]}") if path.is_file()]
            found += sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)
    return found


def write(path: Path, content: bytes, about: EngineFile, *, second: bytes = b"") -> EngineFile:
    """Put an engine file and its sidecar in place, each whole or not at all; return what the sidecar says.

    `about`: without `built` and `file_sha256`, which are filled in. `second`: OpenVINO's weights. Between the
    steps the old sidecar does not fit the new file and is refused: it never lies. Raises EngineError.
    """
    built = f"{datetime.now(UTC):%Y-%m-%d}"
    about = msgspec.structs.replace(about, built=built, file_sha256=_digest(content, second))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if second:
            replace_file(path.with_suffix(_SECOND_SUFFIX), second)
        replace_file(path, content)
        _write_sidecar(path, about)
    except OSError as error:
        raise EngineError(
            f"{path} cannot be written: {error.strerror}: {error.filename}",
            hint="Name a folder with --out that can be written to and has space.",
        ) from error
    return about


def remember(path: Path, about: EngineFile, parity: Parity) -> EngineFile:
    """Note in the sidecar that the engine was compared; where it may not be written the next start compares again."""
    about = msgspec.structs.replace(about, parity=parity)
    with contextlib.suppress(OSError):
        _write_sidecar(path, about)
    return about


def read(path: Path) -> EngineFile:
    """Return what the sidecar of an engine file says. Raises EngineError("engine_mismatch")."""
    sidecar = _sidecar(path)
    try:
        return msgspec.json.decode(sidecar.read_bytes(), type=EngineFile)
    except OSError as error:
        raise _refusal(path, f"its sidecar {sidecar.name} cannot be read: {error.strerror}", None) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refusal(path, f"its sidecar {sidecar.name} is damaged: {error}", None) from error


def verify(
    path: Path, info: BundleInfo, kind: Kind, *, version: str | None = None, compute_capability: str | None = None
) -> EngineFile:
    """Return what the sidecar says, where the engine is whole, of this model, and fits this machine.

    `version` of the library and `compute_capability` of the GPU are compared where they are given.
    Raises EngineError("engine_mismatch") that names everything that differs.
    """
    about = read(path)
    try:
        second = path.with_suffix(_SECOND_SUFFIX).read_bytes() if about.kind == "openvino" else b""
        digest = _digest(path.read_bytes(), second)
    except OSError as error:
        raise _refusal(path, f"{error.filename} cannot be read: {error.strerror}", kind) from error
    found = ", ".join(about.compute_capabilities)
    differences = [
        (about.kind == kind, "it is of the kind", about.kind, kind),
        (about.file_sha256 == digest, "the file's sha256 is", digest[:12], f"{about.file_sha256[:12]}, as its sidecar"),
        (about.onnx_sha256 == info.onnx_sha256, "its model is", about.onnx_sha256[:12], info.onnx_sha256[:12]),
        (version in (None, about.version), f"{kind} is", about.version, version),
        (compute_capability in (None, *about.compute_capabilities), "its GPUs are", found, compute_capability),
    ]
    reasons = [f"{what} {found or 'none'}, expected {wanted}" for fits, what, found, wanted in differences if not fits]
    if reasons:
        raise _refusal(path, "; ".join(reasons), kind)
    return about


def _write_sidecar(path: Path, about: EngineFile) -> None:
    replace_file(_sidecar(path), msgspec.json.format(msgspec.json.encode(about), indent=1) + b"\n")


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _digest(content: bytes, second: bytes) -> str:
    return hashlib.sha256(content + second).hexdigest()


def _refusal(path: Path, reason: str, kind: Kind | None) -> EngineError:
    return EngineError(
        f"the engine {path} is not used: {reason}",
        code="engine_mismatch",
        hint=f"Build one for this machine and model: `crossglg-edge export BUNDLE --to {kind or 'tensorrt'}`.",
    )
