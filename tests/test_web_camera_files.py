"""What `setup browser-camera` fetches and makes: whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import http.server
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("aiohttp", reason="the page needs the extra `web`")
pytest.importorskip("flatbuffers", reason="the pose model is made with the extra `web`")

from edge.cli.doctor import examine
from edge.web.camera_files import FILES, TASKS_VISION, WHEEL, Package, check_files, fetch, install
from streams.errors import CameraError
from streams.pose_task import DETECTOR, LANDMARKS

_CONTENT = bytes(range(256)) * 4000


class _Mirror(http.server.ThreadingHTTPServer):
    """Serve one file. `cut_after`: end the first answer early; `ranges`: whether it goes on from the middle."""

    content = _CONTENT
    cut_after: int | None = None
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.asked: list[str] = []

    def package(self) -> Package:
        url = f"http://127.0.0.1:{self.server_address[1]}/folder/package.whl"
        return Package(url=url, num_bytes=len(_CONTENT), sha256=hashlib.sha256(_CONTENT).hexdigest())


class _Answer(http.server.BaseHTTPRequestHandler):
    server: _Mirror

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if self.server.ranges else 0
        content = self.server.content[start:]
        self.send_response(206 if self.server.ranges else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.server.cut_after])
        self.server.cut_after = None

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def mirror() -> Iterator[_Mirror]:
    with _Mirror() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_package_that_was_cut_short_goes_on_where_it_stopped(mirror: _Mirror, tmp_path: Path) -> None:
    mirror.cut_after = 300_000
    with pytest.raises(CameraError, match="too early") as caught:
        fetch(mirror.package(), tmp_path)
    assert caught.value.code == "no_package"
    assert "run it again" in caught.value.hint
    fetch(mirror.package(), tmp_path)
    assert mirror.asked == ["bytes=0-", "bytes=300000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["package.whl"]
    assert (tmp_path / "package.whl").read_bytes() == _CONTENT
    fetch(mirror.package(), tmp_path)
    assert len(mirror.asked) == 2  # it was there already


def test_a_server_that_knows_no_ranges_sends_it_all_again(mirror: _Mirror, tmp_path: Path) -> None:
    mirror.ranges = False
    (tmp_path / "package.whl.part").write_bytes(_CONTENT[:1000])
    fetch(mirror.package(), tmp_path)
    assert (tmp_path / "package.whl").read_bytes() == _CONTENT


@pytest.mark.parametrize("altered", [_CONTENT[:-1] + b"x", _CONTENT + b"more"])
def test_an_altered_package_is_refused_and_never_kept(mirror: _Mirror, tmp_path: Path, altered: bytes) -> None:
    mirror.content = altered
    (tmp_path / "package.whl").write_bytes(b"an old one, half written")
    if len(altered) > len(_CONTENT):
        fetch(mirror.package(), tmp_path)  # what comes after it is not even read
        assert (tmp_path / "package.whl").read_bytes() == _CONTENT
        return
    with pytest.raises(CameraError, match="another SHA-256") as caught:
        fetch(mirror.package(), tmp_path)
    assert caught.value.code == "bad_checksum"
    assert [path.name for path in tmp_path.iterdir()] == ["package.whl"]


def test_without_a_network_the_error_says_what_to_carry_over(mirror: _Mirror, tmp_path: Path) -> None:
    package = mirror.package()
    mirror.shutdown()
    mirror.server_close()
    with pytest.raises(CameraError, match=r"cannot be fetched: .*refused") as caught:
        fetch(package, tmp_path)
    assert caught.value.code == "no_package"
    assert TASKS_VISION.url in caught.value.hint
    assert WHEEL.url in caught.value.hint
    assert "--from" in caught.value.hint


def test_packages_in_a_folder_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    with pytest.raises(CameraError, match="No such file") as caught:
        install(tmp_path / "camera", packages)
    assert caught.value.code == "no_package"
    packages.mkdir()
    for package in (TASKS_VISION, WHEEL):
        (packages / package.name).write_bytes(b"altered")
    with pytest.raises(CameraError, match="another SHA-256") as caught:
        install(tmp_path / "camera", packages)
    assert caught.value.code == "bad_checksum"
    assert not (tmp_path / "camera").exists()


def test_the_real_packages_become_the_camera_of_a_browser(camera_packages: Path, tmp_path: Path) -> None:
    install(tmp_path, camera_packages)
    check_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "browser_camera.json"}
    with zipfile.ZipFile(camera_packages / WHEEL.name) as wheel:
        detector, landmarks = wheel.read(DETECTOR), wheel.read(LANDMARKS)
    with zipfile.ZipFile(tmp_path / "pose_landmarker.task") as task:
        # What reads the file maps it into memory: nothing in it is compressed.
        assert {entry.compress_type for entry in task.infolist()} == {zipfile.ZIP_STORED}
        assert task.read("pose_detector.tflite") == detector
        with_metadata = task.read("pose_landmarks_detector.tflite")
    assert with_metadata[4:8] == b"TFL3"
    assert b"TFLITE_METADATA" in with_metadata
    assert b"M001" in with_metadata
    # The weights are aligned to 16 bytes, and stay so.
    assert with_metadata.index(landmarks) % 16 == 0
    first = (tmp_path / "pose_landmarker.task").read_bytes()
    install(tmp_path, camera_packages)
    assert (tmp_path / "pose_landmarker.task").read_bytes() == first


@pytest.mark.parametrize("name", [*FILES, "browser_camera.json"])
def test_a_file_that_is_gone_or_altered_is_told_with_the_command_that_mends_it(
    installed_camera: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "camera"
    shutil.copytree(installed_camera, folder)
    (folder / name).write_bytes(b"{}")
    with pytest.raises(CameraError) as caught:
        check_files(folder)
    assert caught.value.code == "bad_model"
    assert "crossglg-edge setup browser-camera" in caught.value.hint
    (folder / name).unlink()
    with pytest.raises(CameraError) as caught:
        check_files(folder)
    assert caught.value.code == "no_model"
    assert "crossglg-edge setup browser-camera" in caught.value.hint


def test_the_doctor_names_the_command_that_sets_it_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (found,) = (finding for finding in examine(None) if finding.what == "browser's camera")
    assert (found.state, found.remedy) == ("missing", "crossglg-edge setup browser-camera")


def test_the_pinned_packages_come_from_their_registries() -> None:
    hosts = [urlsplit(package.url).netloc for package in (TASKS_VISION, WHEEL)]
    assert hosts == ["registry.npmjs.org", "files.pythonhosted.org"]
