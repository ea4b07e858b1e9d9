"""The page's camera in a real Chromium, whose camera is a video of a person: enroll by it, and whatever goes wrong."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("aiohttp", reason="the page needs the extra `web`")
pytest.importorskip("cryptography", reason="certificates need the extra `web`")
playwright = pytest.importorskip("playwright.sync_api", reason="the page is tried with Playwright, of the extra `test`")

from edge.web.access import set_up_access

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.conftest import DaemonProcess, MakeConfig, Serve, ServePage

_PATIENCE_S = 60
_VIDEO = Path(__file__).parents[2] / "shared" / "video" / "gymtrainer_squat.mp4"
_FLAGS = ("--no-sandbox", "--disable-background-networking", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
# As if another device asked: it must log in.
_OTHER = "127.0.0.2"


Chromium = Callable[..., AbstractContextManager["Browser"]]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """Return a function that starts the system's Chromium with these flags."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("Debian's package chromium is not installed")

    @contextmanager
    def start(*flags: str) -> Iterator[Browser]:
        browser = started.chromium.launch(executable_path=path, args=[*_FLAGS, *flags])
        try:
            yield browser
        finally:
            browser.close()

    with playwright.sync_playwright() as started:
        yield start


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the video of a squat as Chromium's camera takes it: small, for a machine that has other things to do."""
    if not _VIDEO.exists():
        pytest.skip("the videos of ../shared are not here")
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("Debian's package ffmpeg is not installed")
    path = tmp_path_factory.mktemp("video") / "squat.mjpeg"
    scale = "scale=240:-2,fps=10,format=yuvj420p"
    subprocess.run([ffmpeg, "-loglevel", "error", "-i", str(_VIDEO), "-vf", scale, str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def data(installed_camera: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Set up, for a user of its own, the browser's camera and the access for other devices."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "crossglg-edge").mkdir()
    shutil.copytree(installed_camera, folder / "crossglg-edge" / "browser-camera")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder))
        yield folder / "crossglg-edge"


@pytest.fixture(scope="module")
def slow_config(make_config: MakeConfig) -> Path:
    """Return a config for a camera of a few frames a second, as a browser without a GPU is on a busy machine."""
    config = make_config()
    slow = "[stream]\nmin_rate_fps = 0.5\nmax_gap_s = 5\ntakeover_s = 5\n[enroll]\ncapture_s = 2.5\n"
    config.write_text(config.read_text(encoding="utf-8") + slow, encoding="utf-8")
    return config


@pytest.fixture(scope="module")
def daemon(serve: Serve, slow_config: Path) -> DaemonProcess:
    return serve("zmq", config=slow_config)


def until(daemon: DaemonProcess, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not is_so(status := daemon.ask("status")):
        assert time.monotonic() < deadline_s, status
        time.sleep(0.2)
    return status


def start_camera(page: Page, name: str) -> None:
    page.get_by_role("tab", name="Camera").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Start the camera").click()


def test_another_device_logs_in_and_its_camera_enrolls_an_action(
    daemon: DaemonProcess, serve_page: ServePage, chromium: Chromium, video: Path, data: Path
) -> None:
    token = set_up_access((_OTHER,)).token
    flags = (
        "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={video}",
    )  # fmt: skip
    url = serve_page(daemon.config, "--host", _OTHER)
    with chromium(*flags) as browser:
        page = browser.new_context(ignore_https_errors=True).new_page()
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda websocket: asked.append(websocket.url))
        page.on("pageerror", lambda error: errors.append(str(error)))

        page.goto(url)
        page.get_by_label("Token").fill("no-such-token-at-all")
        page.get_by_role("button", name="Log in").click()
        playwright.expect(page.get_by_role("alert")).to_have_text("This is not the token.")
        page.goto("about:blank")
        page.goto(f"{url}#token={token}")
        start_camera(page, "phone")
        playwright.expect(page.get_by_text("Sending as browser-phone.")).to_be_visible(timeout=_PATIENCE_S * 1000)
        assert token not in page.url
        assert not page.evaluate("document.cookie")

        # The camera goes on while another pane is shown.
        page.get_by_role("tab", name="Live").click()
        status = until(daemon, lambda status: status["sources"].get("browser-phone", {}).get("frames", 0) > 10)
        source = status["sources"]["browser-phone"]
        assert source["fps"] > 0
        assert source["lost"] == 0
        assert not source["dropped"]
        assert status["bodies"] >= 1

        # On a busy machine the next picture may come so late that its person counts as another one.
        deadline_s = time.monotonic() + _PATIENCE_S
        while not daemon.ask("gallery.list")["labels"]:
            assert time.monotonic() < deadline_s, daemon.ask("enroll.status")
            daemon.ask("enroll.start", label="squat", countdown_s=0, source="browser-phone")
            until(daemon, lambda status: not status["enrolling"])
        assert daemon.ask("gallery.list")["labels"][0]["label"] == "squat"

        page.get_by_role("tab", name="Camera").click()
        page.get_by_role("button", name="Stop the camera").click()
        playwright.expect(page.get_by_text("Off.")).to_be_visible()
        # The pictures were looked at here: nothing was asked of anybody else, and nothing was refused to the page.
        assert {urlsplit(address).netloc for address in asked if address != "about:blank"} == {urlsplit(url).netloc}
        assert any(address.endswith("/camera/model/pose_landmarker.task") for address in asked)
        assert not errors


@pytest.fixture(scope="module")
def url(serve: Serve, serve_page: ServePage, data: Path) -> str:
    """Serve the page at this machine, beside a daemon that reads its own camera."""
    return serve_page(serve("demo:7").config)


@pytest.fixture(scope="module")
def page(url: str, chromium: Chromium) -> Iterator[Page]:
    """Open the page in a browser that has a camera and asks a person who is not there."""
    with chromium("--use-fake-device-for-media-stream") as browser:
        page = browser.new_page()
        page.goto(url)
        yield page


def trouble(page: Page) -> str:
    start_camera(page, "computer")
    # What was wrong before goes when the camera starts, and the new trouble comes when it is off again.
    playwright.expect(page.get_by_role("button", name="Start the camera")).to_be_visible(timeout=_PATIENCE_S * 1000)
    text: str = page.get_by_role("tabpanel").get_by_role("alert").inner_text()
    return text


def test_a_daemon_that_reads_its_own_camera_is_told_with_the_command_to_start_it(page: Page) -> None:
    page.get_by_role("tab", name="Camera").click()
    alert = page.get_by_role("tabpanel").get_by_role("alert")
    playwright.expect(alert).to_contain_text("reads its own camera, demo:7", timeout=_PATIENCE_S * 1000)
    playwright.expect(alert).to_contain_text("crossglg-edge serve --camera zmq")


def test_a_person_who_refuses_the_camera_reads_how_to_allow_it(page: Page) -> None:
    assert "was not allowed to use the camera" in trouble(page)


def test_a_device_without_a_camera_says_so(url: str, chromium: Chromium) -> None:
    with chromium("--use-fake-ui-for-media-stream") as browser:
        page = browser.new_page()
        page.goto(url)
        assert "has no camera" in trouble(page)


def test_a_page_at_a_plain_address_says_what_a_browser_wants(page: Page) -> None:
    # Served like this by somebody else's proxy, for the page's own server does no such thing.
    page.evaluate("Object.defineProperty(window, 'isSecureContext', {value: false, configurable: true})")
    assert "https:// or at localhost only" in trouble(page)
    page.evaluate("Object.defineProperty(window, 'isSecureContext', {value: true})")


@pytest.mark.parametrize("name", ["pose_landmarker.task", "vision_wasm_module_internal.wasm"])
def test_without_the_model_the_page_shows_the_command_that_brings_it(page: Page, data: Path, name: str) -> None:
    path = data / "browser-camera" / name
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1])
        assert "was altered" in trouble(page)
        path.unlink()
        text = trouble(page)
        assert f"{name} is missing" in text
        assert "crossglg-edge setup browser-camera" in text
    finally:
        path.write_bytes(content)
