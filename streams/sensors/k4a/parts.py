"""What a machine has and lacks for the camera `k4a`, part by part, and what to do about it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streams.k4a_settings import K4aSettings
from streams.sensors import SensorError
from streams.sensors.k4a.libraries import (
    REMEDIES,
    Libraries,
    Name,
    elf_problem,
    find_libraries,
    library_environment,
    usable_model,
)

# What Microsoft's Body Tracking SDK 1.1.2 loads, beside its own libraries, in each mode.
_CUDA = ("libcuda.so.1", "libcudart.so.11.0", "libcublas.so.11", "libcudnn.so.8")
_MODE_LIBRARIES = {"cpu": (), "cuda": _CUDA, "tensorrt": (*_CUDA, "libnvinfer.so.8"), "directml": ()}
_PROVIDERS = {
    "cuda": "libonnxruntime_providers_cuda.so",
    "tensorrt": "libonnxruntime_providers_tensorrt.so",
}
_AZURE_KINECT, _ORBBEC = ("045e", "097c"), "2bc5"
_TIMEOUT_S = 30.0
_LOAD = "import ctypes, sys\nfor path in sys.argv[1:]:\n    ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)"
# Counted and opened, so that a sensor that another program has is told from one that is not there.
_SENSOR = """
import ctypes, sys
k4a = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
num_sensors, num_opened = k4a.k4a_device_get_installed_count(), 0
for index in range(num_sensors):
    handle = ctypes.c_void_p()
    if k4a.k4a_device_open(index, ctypes.byref(handle)) == 0:
        num_opened += 1
        k4a.k4a_device_close(handle)
print(f"\\n{num_sensors} {num_opened}")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Say what was looked at, what was found, and what to do about it."""

    what: str
    state: Literal["ok", "missing", "broken"]
    found: str
    remedy: str = ""


def examine_k4a(settings: K4aSettings, *, root: Path = Path("/")) -> list[Part]:
    """Look at every part that `--camera k4a` needs. `root`: where the system's folders begin.

    Libraries are loaded in processes of their own: a broken one may crash the one that loads it.
    """
    try:
        libraries = find_libraries(settings)
    except SensorError as error:
        return [Part(what="libk4a", state="broken", found=error.message, remedy=error.hint)]
    with tempfile.TemporaryDirectory(prefix="crossglg-edge-") as links:
        environment = library_environment(libraries, Path(links))
        return [
            _library(libraries, "libk4a", (), environment),
            _depth_engine(libraries, environment),
            _library(libraries, "libk4arecord", ("libk4a",), environment),
            _library(libraries, "libk4abt", ("libk4a",), environment),
            _model(libraries),
            _mode(settings, libraries, environment),
            _udev_rule(root),
            _sensor(libraries, environment, root),
        ]


def _library(libraries: Libraries, name: Name, before: Sequence[Name], environment: Mapping[str, str]) -> Part:
    path = libraries.files[name]
    if path is None:
        return Part(what=name, state="missing", found="not installed", remedy=REMEDIES[name])
    loaded = [file for needed in before if (file := libraries.files[needed]) is not None]
    problem = elf_problem(path) or _run(_LOAD, [*loaded, path], environment)[1]
    if problem:
        return Part(what=name, state="broken", found=f"{path} {problem}", remedy=REMEDIES[name])
    return Part(what=name, state="ok", found=str(path))


def _depth_engine(libraries: Libraries, environment: Mapping[str, str]) -> Part:
    part = _library(libraries, "libdepthengine", (), environment)
    if part.state == "broken" and "cannot open shared object" in part.found:
        remedy = "A sensor needs it, a recording does not. It needs OpenGL and X: apt-get install libgl1 libx11-6"
        return Part(what="depth engine", state="missing", found=part.found, remedy=remedy)
    return Part(what="depth engine", state=part.state, found=part.found, remedy=part.remedy)


def _model(libraries: Libraries) -> Part:
    try:
        return Part(what="k4abt model", state="ok", found=str(usable_model(libraries)))
    except SensorError as error:
        state: Literal["missing", "broken"] = "missing" if error.code == "no_k4abt_model" else "broken"
        return Part(what="k4abt model", state=state, found=error.message, remedy=error.hint)


def _mode(settings: K4aSettings, libraries: Libraries, environment: Mapping[str, str]) -> Part:
    """Look for what the tracker loads itself, in this mode."""
    what = f"k4abt mode {settings.mode}"
    if settings.mode == "directml":
        found, remedy = "DirectML is a part of Windows", 'Set `mode = "cuda"` or "cpu" under [k4a] in the config.'
        return Part(what=what, state="broken", found=found, remedy=remedy)
    wanted = ["libonnxruntime.so*", *([_PROVIDERS[settings.mode]] if settings.mode in _PROVIDERS else [])]
    missing = [name for name in wanted if not any(any(folder.glob(name)) for folder in libraries.folders)]
    missing += [name for name in _MODE_LIBRARIES[settings.mode] if _run(_LOAD, [name], environment)[1]]
    if not missing:
        return Part(what=what, state="ok", found="what it loads is there")
    remedy = "ONNX Runtime comes with libk4abt1.1."
    if settings.mode != "cpu":
        remedy += " CUDA 11, cuDNN 8 and TensorRT 8 are NVIDIA's: name their folder in LD_LIBRARY_PATH, or set "
        remedy += '`mode = "cpu"` under [k4a] in the config.'
    return Part(what=what, state="missing", found=f"not found: {', '.join(missing)}", remedy=remedy)


def _udev_rule(root: Path) -> Part:
    """Look for a rule that lets users have the sensor; who may write to it already needs none."""
    folders = ("etc/udev/rules.d", "run/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d")
    for folder in folders:
        for rules in sorted((root / folder).glob("*.rules")):
            try:
                text = rules.read_text(encoding="utf-8", errors="replace").lower()
            except OSError:
                continue
            if all(number in text for number in _AZURE_KINECT) or _ORBBEC in text:
                return Part(what="udev rule", state="ok", found=str(rules))
    if os.geteuid() == 0:
        return Part(what="udev rule", state="ok", found="not needed: this is root")
    return Part(
        what="udev rule",
        state="missing",
        found=f"no rule for {':'.join(_AZURE_KINECT)} or {_ORBBEC} in {', '.join(f'/{folder}' for folder in folders)}",
        remedy="Put 99-k4a.rules of github.com/microsoft/Azure-Kinect-Sensor-SDK (an Orbbec: "
        "99-obsensor-libusb.rules) into /etc/udev/rules.d, and plug the sensor in again.",
    )


def _sensor(libraries: Libraries, environment: Mapping[str, str], root: Path) -> Part:
    what = "Azure Kinect"
    plugged = [f"{vendor}:{product}" for vendor, product in _usb_sensors(root)]
    on_usb = f"; on USB: {', '.join(plugged)}" if plugged else ""
    remedy = "It needs USB 3 and its own power. `--camera demo` runs without a sensor."
    path = libraries.files["libk4a"]
    if path is None or elf_problem(path):
        return Part(what=what, state="missing", found=f"not looked for without libk4a{on_usb}", remedy=remedy)
    printed, problem = _run(_SENSOR, [path], environment)
    if problem:
        return Part(what=what, state="broken", found=problem, remedy=REMEDIES["libk4a"])
    num_sensors, num_opened = map(int, printed.split())
    if num_opened:
        return Part(what=what, state="ok", found=f"{num_opened} of {num_sensors} can be opened")
    if num_sensors:
        remedy = "Another program has it (a daemon too), or this user may not: see the udev rule."
        return Part(what=what, state="missing", found=f"{num_sensors} found, none can be opened{on_usb}", remedy=remedy)
    if any(vendor == _ORBBEC for vendor, _ in _usb_sensors(root)):
        remedy = "An Orbbec Femto needs Orbbec's K4A wrapper: name its folder as `libraries` under [k4a] in the config."
    return Part(what=what, state="missing", found=f"no sensor found{on_usb}", remedy=remedy)


def _usb_sensors(root: Path) -> Iterator[tuple[str, str]]:
    """Yield vendor and product of what is plugged in and may be such a sensor."""
    for device in sorted((root / "sys/bus/usb/devices").glob("*/idVendor")):
        try:
            vendor, product = (device.with_name(name).read_text().strip() for name in ("idVendor", "idProduct"))
        except OSError:  # unplugged just now
            continue
        if (vendor, product) == _AZURE_KINECT or vendor == _ORBBEC:
            yield vendor, product


def _run(code: str, arguments: Sequence[str | Path], environment: Mapping[str, str]) -> tuple[str, str]:
    """Run Python code in a process of its own; return its last line, and why it failed, "" where it did not."""
    command = [sys.executable, "-I", "-S", "-c", code, *map(str, arguments)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=dict(environment)
        )
    except subprocess.TimeoutExpired:
        return "", f"takes longer than {_TIMEOUT_S:g} s to load"
    if done.returncode < 0:
        return "", f"crashes with {signal.Signals(-done.returncode).name}"
    said = (done.stderr if done.returncode else done.stdout).strip().splitlines() or [""]
    return said[-1], f"cannot be loaded: {said[-1].removeprefix('OSError: ')}" if done.returncode else ""
