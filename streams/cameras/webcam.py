"""The cameras `webcam[:N]` and `video:FILE`, and the Python that they need: set up in a folder of its own."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec
import platformdirs

from streams.cameras.camera import Camera
from streams.cameras.capture import CaptureCamera, sensor_command
from streams.errors import CameraError
from streams.files import replace_file
from streams.pose_task import PACKAGE
from streams.webcam_settings import WebcamSettings

_PROGRAM, _PROOF = "streams.sensors.webcam", "streams.sensors.webcam.prove"
# The last release for aarch64 is an older one. It carries the same two networks, byte by byte.
_MEDIAPIPE = {"aarch64": "mediapipe==0.10.18"}.get(platform.machine(), PACKAGE)
# All that the program imports, and no more: of MediaPipe's own dependencies most only draw.
PACKAGES = (
    _MEDIAPIPE,
    "numpy==1.26.4",
    "opencv-python-headless==4.11.0.86",
    "protobuf==4.25.9",
    "flatbuffers==25.12.19",
    "msgspec==0.22.0",
    "pyzmq==27.3.0",
)
DOWNLOAD_MB, DISK_MB = 105, 300
# The Pythons that MediaPipe's last package with a model and ours have in common.
_VERSIONS = ((3, 11), (3, 12))
_PIP_S, _PROOF_S = 1800.0, 120.0
_ABOUT = "webcam.json"
_MODEL = "pose_landmarker.task"


class _About(msgspec.Struct, frozen=True, kw_only=True):
    """Stand in the folder once all is there and was proved."""

    packages: tuple[str, ...]


def default_webcam_folder() -> Path:
    """Return where `setup webcam` puts what a webcam needs, and where it is looked for."""
    return platformdirs.user_data_path("crossglg-edge") / "webcam"


def webcam_folder(settings: WebcamSettings) -> Path:
    """Return the folder that is set, or the default one."""
    return Path(settings.folder).expanduser() if settings.folder else default_webcam_folder()


def open_webcam(device: str, settings: WebcamSettings) -> Camera:
    """Open a webcam: "", a number or a path. Raises CameraError("not_set_up"); what the webcam lacks comes later."""
    exposure = {"fps": settings.fps, "exposure_ms": settings.exposure_ms}
    return _open("webcam", settings, {"device": device or "0", **exposure})


def open_video(file: str, settings: WebcamSettings, *, loop: bool) -> Camera:
    """Play a video file. Raises CameraError("not_set_up"); what is wrong with the file comes later."""
    # The daemon's folder may be another one than that of the process.
    return _open("video", settings, {"file": str(Path(file).expanduser().absolute()), "loop": loop})


def _open(kind: str, settings: WebcamSettings, watched: dict[str, object]) -> Camera:
    folder = webcam_folder(settings)
    validate_webcam(folder)
    watched |= {"model": str(folder / _MODEL), "people": settings.people}
    return CaptureCamera(kind, sensor_command(_python(folder), _PROGRAM), source=kind, settings=watched)


def validate_webcam(folder: Path) -> None:
    """Raise CameraError("not_set_up") unless `setup webcam` was run to its end, by this version."""
    try:
        about = msgspec.json.decode((folder / _ABOUT).read_bytes(), type=_About)
    except FileNotFoundError:
        why = "was begun and not finished" if _python(folder).exists() else "is not set up"
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        why = f"cannot be used: {error}"
    else:
        lost = [path.name for path in (_python(folder), folder / _MODEL) if not path.exists()]
        if about.packages == PACKAGES and not lost:
            return
        why = f"is damaged, {lost[0]} is missing" if lost else "was set up by another version"
    raise CameraError(
        f"what a webcam needs, in {folder}, {why}",
        code="not_set_up",
        hint="Run once: crossglg-edge setup webcam",
    )


def set_up_webcam(folder: Path, python: Path | None = None) -> None:
    """Make the folder: a Python with MediaPipe, of 300 MB, and the pose model. What is there already is kept.

    `python`: a Python of version 3.11 or 3.12; default: this one, or one that is installed. Raises CameraError:
    "no_python", "no_package", "cannot_write", "not_proved".
    """
    try:
        (folder / _ABOUT).unlink(missing_ok=True)
        if not _runs(_python(folder)):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _make_python(folder, python or _find_python())
        _install(folder)
        # Made anew by an older program it would be of no use.
        _prove(folder)
        replace_file(folder / _ABOUT, msgspec.json.encode(_About(packages=PACKAGES)))
    except OSError as error:
        raise CameraError(
            f"{folder} cannot be written to: {error.strerror or error}",
            code="cannot_write",
            hint="Make room, or name another folder with --to and in the config, `folder` under [webcam].",
        ) from error


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _runs(python: Path) -> bool:
    try:
        return subprocess.run([python, "-I", "-c", ""], capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _find_python() -> Path:
    if sys.version_info[:2] in _VERSIONS:
        return Path(sys.executable)
    names = [f"python{major}.{minor}" for major, minor in _VERSIONS]
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise CameraError(
            f"{_MEDIAPIPE} runs in none of the Pythons that are here: expected {' or '.join(names)}",
            code="no_python",
            hint="Install one of them, or name one with --python.",
        )
    return Path(found)


def _make_python(folder: Path, python: Path) -> None:
    # Debian's Python makes one with pip only where python3-venv is installed; our own pip does as well.
    done = subprocess.run(
        [python, "-m", "venv", "--without-pip", folder], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode or not _runs(_python(folder)):
        reason = _last_line(done.stderr) or "it does not run"
        raise CameraError(f"{python} cannot make a folder for packages: {reason}", code="no_python")


def _install(folder: Path) -> None:
    if find_spec("pip") is None:
        raise CameraError("pip is not installed", code="no_package", hint="Install it: python -m ensurepip")
    options = ["install", "--no-deps", "--only-binary", ":all:", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "--python", str(_python(folder)), *options, *PACKAGES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_S, check=False)
        problem = (_last_line(done.stderr) or f"exit code {done.returncode}") if done.returncode else ""
    except subprocess.TimeoutExpired:
        problem = f"it takes longer than {_PIP_S / 60:g} minutes"
    if problem:
        raise CameraError(
            f"pip cannot get {', '.join(PACKAGES)}: {problem}",
            code="no_package",
            hint="Is there a network? What was downloaded is kept: run it again. MediaPipe's packages are for x86_64 "
            "and aarch64 and Python 3.11 or 3.12; --python names one.",
        )


def _prove(folder: Path) -> None:
    """Make the pose model and let it find a person in a picture."""
    command = [*sensor_command(_python(folder), _PROOF), str(folder / _MODEL)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROOF_S, check=False)
        problem = (_last_line(done.stderr) or f"exit code {done.returncode}") if done.returncode else ""
    except subprocess.TimeoutExpired:
        problem = f"it takes longer than {_PROOF_S:g} s"
    if problem:
        raise CameraError(
            f"the pose model in {folder} does not work: {problem}",
            code="not_proved",
            hint=f"Remove {folder} and run it again. If that does not help, this computer's processor may be too old.",
        )


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
