"""Where the libraries and the model of the Azure Kinect's SDK are; nothing is loaded here.

They come from a folder that the user named, from pyk4a-bundle's wheel (not its Python, which needs numpy 1), or from
the system. Orbbec's K4A wrapper has the same names and the same interface.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streams.k4a_settings import K4aSettings
from streams.sensors import SensorError

Name = Literal["libk4a", "libk4arecord", "libk4abt", "libdepthengine"]

FOLDER_VARIABLE = "CROSSGLG_EDGE_K4A"
MODEL = "dnn_model_2_0_op11.onnx"
# The names by which the SDK's libraries ask for each other; the wheel's own are others.
_SHORT_NAMES: dict[Name, str] = {
    "libk4a": "libk4a.so.1.4",
    "libk4arecord": "libk4arecord.so.1.4",
    "libdepthengine": "libdepthengine.so.2.0",
}
REMEDIES: dict[Name, str] = {
    "libk4a": "`pip install 'crossglg-edge[k4a]'` brings it (x86_64, Python 3.11 or 3.12). Or install Microsoft's "
    "libk4a1.4 or Orbbec's K4A wrapper, and name its folder as `libraries` under [k4a] in the config.",
    "libdepthengine": "It comes with libk4a, in the same package: name its folder as `libraries` under [k4a].",
    "libk4arecord": "`pip install 'crossglg-edge[k4a]'` brings it, and so does Microsoft's package libk4arecord1.4.",
    "libk4abt": "Microsoft's package libk4abt1.1 has it, under a license that you must accept: docs/cameras.md says "
    "how. Unpack it anywhere and name that folder as `libraries` under [k4a] in the config.",
}
_TRIPLET = f"{platform.machine()}-linux-gnu"
# Where packages have their libraries, below the folder that they were unpacked in.
_BELOW = ("", "lib", f"lib/{_TRIPLET}", "usr/lib", f"usr/lib/{_TRIPLET}", f"usr/lib/{_TRIPLET}/libk4a1.4")
_SYSTEM = ("/usr/local/lib", f"/usr/lib/{_TRIPLET}", f"/usr/lib/{_TRIPLET}/libk4a1.4", "/usr/lib64", "/usr/lib")
# The field e_machine of an ELF file, and what `platform.machine()` calls it.
_MACHINES = {3: "i386", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Libraries:
    """Say which files to load, None where one is missing, and the folders that they find each other in."""

    files: Mapping[Name, Path | None]
    model: Path | None
    folders: tuple[Path, ...]

    def file(self, name: Name) -> Path:
        """Return a library's file. Raises SensorError where it is missing or made for another machine."""
        path = self.files[name]
        if path is None:
            looked = ", ".join(map(str, self.folders))
            raise SensorError(
                f"{name} is not installed: not in {looked}", code=f"no_{name}", hint=REMEDIES[name], is_final=True
            )
        if problem := elf_problem(path):
            raise SensorError(f"{path} {problem}", code=f"bad_{name}", hint=REMEDIES[name], is_final=True)
        return path


def find_libraries(settings: K4aSettings, environment: Mapping[str, str] = os.environ) -> Libraries:
    """Look for the libraries and the model: where the user says, in the wheel, in the system, in this order.

    Raises SensorError where the user names a folder or a model that is not there.
    """
    folders = tuple(_folders(settings, environment))
    files: dict[Name, Path | None] = {name: _library(folders, name) for name in REMEDIES}
    return Libraries(files=files, model=_model(settings, environment, files["libk4abt"]), folders=folders)


def _named_folders(settings: K4aSettings, environment: Mapping[str, str]) -> Iterator[Path]:
    named = {"[k4a] libraries": settings.libraries, FOLDER_VARIABLE: environment.get(FOLDER_VARIABLE, "")}
    for what, folder in named.items():
        path = Path(folder).expanduser()
        if folder and not path.is_dir():
            raise SensorError(
                f"{what} names {folder}, which is no folder",
                code="no_k4a_folder",
                hint="Expected the folder that holds libk4a, libk4arecord and libk4abt.",
                is_final=True,
            )
        if folder:
            yield path.absolute()


def _folders(settings: K4aSettings, environment: Mapping[str, str]) -> Iterator[Path]:
    for folder in _named_folders(settings, environment):
        yield from (folder / below for below in _BELOW if (folder / below).is_dir())
    # To find the package is not to import it: its module breaks under numpy 2.
    wheel = importlib.util.find_spec("pyk4a")
    if wheel is not None and wheel.origin is not None:
        libraries = Path(wheel.origin).parents[1] / "pyk4a_bundle.libs"
        if libraries.is_dir():
            yield libraries
    searched = filter(None, environment.get("LD_LIBRARY_PATH", "").split(":"))
    yield from (folder for folder in map(Path, (*searched, *_SYSTEM)) if folder.is_dir())


def _library(folders: tuple[Path, ...], name: Name) -> Path | None:
    # libk4a.so, libk4a.so.1.4.1, or as a wheel renames it: libk4a-f64cb9eb.so.1.4.2
    pattern = re.compile(rf"{name}(-[0-9a-f]+)?\.so(\.\d+)*")
    for folder in folders:
        if files := sorted(path for path in folder.glob(f"{name}*") if pattern.fullmatch(path.name)):
            return files[-1]
    return None


def _model(settings: K4aSettings, environment: Mapping[str, str], tracker: Path | None) -> Path | None:
    if settings.model:
        return Path(settings.model).expanduser().absolute()
    folders = [folder / below for folder in _named_folders(settings, environment) for below in ("", "bin", "usr/bin")]
    folders += [tracker.parent] if tracker is not None else []
    found = (folder / MODEL for folder in (*folders, Path("/usr/bin"), Path("/usr/local/bin")))
    return next(filter(Path.is_file, found), None)


def usable_model(libraries: Libraries) -> Path:
    """Return the body tracker's model. Raises SensorError where it is missing or is not what its name says."""
    hint = f"{MODEL} comes with Microsoft's package libk4abt1.1; name it as `model` under [k4a] in the config."
    path = libraries.model
    if path is None:
        raise SensorError(
            f"the body tracker's model {MODEL} is not installed", code="no_k4abt_model", hint=hint, is_final=True
        )
    try:
        with path.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        raise SensorError(
            f"the body tracker's model {path} cannot be read: {error.strerror}",
            code="no_k4abt_model",
            hint=hint,
            is_final=True,
        ) from error
    # An ONNX file begins with its version, the field 1 of a protobuf message, a small number.
    if len(head) < 2 or head[0] != 0x08 or not 0 < head[1] < 32:
        raise SensorError(f"{path} is no ONNX model: it is damaged", code="bad_k4abt_model", hint=hint, is_final=True)
    return path


def elf_problem(path: Path) -> str:
    """Say why a library cannot be for this machine, "" where it can."""
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return "is no library"
    machine = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    expected = platform.machine()
    made_for = _MACHINES.get(machine, f"machine {machine}")
    return "" if made_for == expected else f"is made for {made_for}, this machine is {expected}"


def library_environment(
    libraries: Libraries, links: Path, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the environment of a process in which the libraries find each other.

    `links`: an empty folder, filled with links under the names by which they ask for each other. The dynamic linker
    reads LD_LIBRARY_PATH when a process starts, and only then.
    """
    for name, short in _SHORT_NAMES.items():
        path = libraries.files[name]
        if path is not None:
            # A process before this one may have left it.
            (links / short).unlink(missing_ok=True)
            (links / short).symlink_to(path)
    found = dict.fromkeys(path.parent for path in libraries.files.values() if path is not None)
    folders = [links, *(folder for folder in found if str(folder) not in _SYSTEM)]
    searched = environment.get("LD_LIBRARY_PATH")
    return {**environment, "LD_LIBRARY_PATH": ":".join([*map(str, folders), *([searched] if searched else [])])}
