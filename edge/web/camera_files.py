"""What a browser needs to be a camera: MediaPipe's pose landmarker, made of two public packages, kept on this device.

Both packages are fetched as they are, by plain HTTPS, and compared with the hashes below; npm and pip are not needed.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import shutil
import ssl
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
import platformdirs

from streams.errors import CameraError
from streams.files import replace_file
from streams.pose_task import DETECTOR, LANDMARKS, make_pose_task

SETUP_HINT = "`crossglg-edge setup browser-camera` sets it up, once."
_ABOUT = "browser_camera.json"
_TASK = "pose_landmarker.task"
# Its name in the package, and here. The module kind is the one that loads in a worker.
_BROWSER_FILES = {
    "package/vision_bundle.mjs": "vision_bundle.mjs",
    "package/wasm/vision_wasm_module_internal.js": "vision_wasm_module_internal.js",
    "package/wasm/vision_wasm_module_internal.wasm": "vision_wasm_module_internal.wasm",
}
FILES = (*_BROWSER_FILES.values(), _TASK)
_TIMEOUT_S = 60.0
_CHUNK_BYTES = 256 * 1024


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """Name a file that is fetched, and pin its content."""

    url: str
    num_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


class About(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what the folder holds (browser_camera.json): the SHA-256 of each file."""

    files: dict[str, str]


# The last release that keeps to itself: from 1.0.0 on the library sends usage figures to Google each minute.
TASKS_VISION = Package(
    url="https://registry.npmjs.org/@mediapipe/tasks-vision/-/tasks-vision-0.10.35.tgz",
    num_bytes=10_231_005,
    sha256="84597a25e13d123b5f4cbe768bb72e97a2c28c7a465f0ace287d8cbe5246bff0",
)
# Only the networks in it are used, which are the same for every machine.
WHEEL = Package(
    url="https://files.pythonhosted.org/packages/ad/83/56f760fecdc60de84c529d6c05c9dfc7d972617c6632bd254d5e021e5b16/"
    "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl",
    num_bytes=35_622_638,
    sha256="05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
)


def default_folder() -> Path:
    """Return where `setup browser-camera` puts the files, and where the page's server looks for them."""
    return platformdirs.user_data_path("crossglg-edge") / "browser-camera"


def set_up_camera(packages: Path | None = None) -> Path:
    """Make the folder of the browser's camera where the page's server looks for it, and return it. See `install`."""
    folder = default_folder()
    install(folder, packages)
    return folder


def find_camera() -> Path:
    """Return the folder of the browser's camera. Raises CameraError: "no_model", "bad_model"."""
    folder = default_folder()
    check_files(folder)
    return folder


def install(folder: Path, packages: Path | None = None) -> None:
    """Make the folder of the browser's camera, anew where it is there; 21 MB.

    `packages`: a folder with both packages' files; default: they are fetched. What is interrupted goes on from
    there the next time. Raises CameraError: "no_package", "bad_checksum", "not_installed", "cannot_write".
    """
    fetched = folder / "packages"
    try:
        if packages is None:
            fetched.mkdir(parents=True, exist_ok=True)
            for package in (TASKS_VISION, WHEEL):
                fetch(package, fetched)
        contents = _read(packages or fetched)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            replace_file(folder / name, content)
        about = About(files={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()})
        replace_file(folder / _ABOUT, msgspec.json.encode(about))
        shutil.rmtree(fetched, ignore_errors=True)
    except OSError as error:
        raise CameraError(
            f"{folder} cannot be written to: {error.strerror}", code="cannot_write", hint="Make room, or give access."
        ) from error


def check_files(folder: Path) -> None:
    """Raise CameraError unless the folder holds what `install` wrote: "no_model", "bad_model"."""
    try:
        about = msgspec.json.decode((folder / _ABOUT).read_bytes(), type=About)
        for name in FILES:
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            if digest != about.files.get(name):
                raise CameraError(f"{folder / name} was altered", code="bad_model", hint=SETUP_HINT)
    except FileNotFoundError as error:
        raise CameraError(
            f"the browser's pose model is not set up: {error.filename} is missing", code="no_model", hint=SETUP_HINT
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise CameraError(
            f"the browser's pose model cannot be read: {error}", code="bad_model", hint=SETUP_HINT
        ) from error


def fetch(package: Package, folder: Path) -> None:
    """Put a package's file into a folder, whole and checked; go on where an earlier try stopped.

    Raises CameraError: "no_package", "bad_checksum"; OSError where the folder cannot be written to.
    """
    path = folder / package.name
    if path.exists() and _is_whole(path, package):
        return
    part = folder / f"{package.name}.part"
    try:
        _download(package, part)
    except (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        raise CameraError(
            f"{package.url} cannot be fetched: {reason}",
            code="no_package",
            hint=f"With a network, run it again: it goes on where it stopped. {_by_hand()}",
        ) from error
    if not _is_whole(part, package):
        part.unlink()
        raise CameraError(
            f"{package.url} is not the file that this version expects: another SHA-256 or length",
            code="bad_checksum",
            hint=f"Something on the way altered it. {_by_hand()}",
        )
    part.replace(path)


def _download(package: Package, part: Path) -> None:
    num_there = part.stat().st_size if part.exists() else 0
    if num_there >= package.num_bytes:
        return
    request = urllib.request.Request(package.url, headers={"Range": f"bytes={num_there}-"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
        # A server that knows no ranges sends it all.
        num_left = package.num_bytes - (num_there if response.status == 206 else 0)
        with part.open("ab" if response.status == 206 else "wb") as file:
            while num_left > 0 and (chunk := response.read(min(num_left, _CHUNK_BYTES))):
                file.write(chunk)
                num_left -= len(chunk)
    if num_left:
        raise ConnectionError(f"the connection ended {num_left} bytes too early")


def _is_whole(path: Path, package: Package) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == package.sha256


def _read(folder: Path) -> Mapping[str, bytes]:
    """Return what the folder of the browser's camera is to hold, out of the two packages in `folder`."""
    tarball, wheel = (_package_content(package, folder) for package in (TASKS_VISION, WHEEL))
    contents = {}
    with tarfile.open(fileobj=io.BytesIO(tarball)) as archive:
        for member, name in _BROWSER_FILES.items():
            file = archive.extractfile(member)
            assert file is not None, member
            contents[name] = file.read()
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive_of_python:
        detector, landmarks = (archive_of_python.read(name) for name in (DETECTOR, LANDMARKS))
    return {**contents, _TASK: make_pose_task(detector, landmarks)}


def _package_content(package: Package, folder: Path) -> bytes:
    path = folder / package.name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CameraError(f"{path} cannot be read: {error.strerror}", code="no_package", hint=_by_hand()) from error
    if hashlib.sha256(content).hexdigest() != package.sha256:
        raise CameraError(f"{path} is not {package.url}: another SHA-256", code="bad_checksum", hint=_by_hand())
    return content


def _by_hand() -> str:
    return (
        f"Without one, get {TASKS_VISION.url} and {WHEEL.url} on another machine, "
        "put both into a folder, and name that with --from."
    )
