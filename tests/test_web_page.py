"""The page in a real Chromium, beside a real daemon: a person enrolls, performs, corrects, and sees what happens."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

pytest.importorskip("aiohttp", reason="the page needs the extra `web`")
pytest.importorskip("playwright.sync_api", reason="a browser is driven by playwright, of the extra `test`")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
if not CHROMIUM:
    pytest.skip("no Chromium: `apt-get install chromium`", allow_module_level=True)

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from edge.config import read_config
from edge.model.bundle import Rates, read_bundle
from streams.messages import Failure, Refusal, decode_request, encode_map
from streams.performer import perform
from streams.sockets import ControlServer, EventPublisher

if TYPE_CHECKING:
    from tests.conftest import DaemonProcess, MakeConfig, Serve, ServePage

_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_PANES = ("Live", "Enroll", "Actions", "Thresholds", "Review", "Health", "Camera")
RATES = Rates(
    distances=(0.01, 0.05, 0.1, 0.2), alarms_per_hour=(0.1, 0.4, 2.0, 9.0), missed=(0.95, 0.4, 0.2, 0.1), hours=5.0,
    source="test",
)  # fmt: skip
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=_FLAGS)
        yield browser
        browser.close()


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Return a function that opens the page; none may complain, or ask for anything from anywhere else."""
    contexts, wrong = [], []

    def open_(url: str, **settings: Any) -> Page:
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda said: wrong.append(f"{said.type}: {said.text}") if said.type != "log" else None)
        page.on("request", lambda asked: wrong.append(f"asked {asked.url}") if not asked.url.startswith(url) else None)
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    # A browser says so itself where a server that it looks for is away.
    assert not [said for said in wrong if not re.search("ERR_CONNECTION|ERR_INTERNET_DISCONNECTED", said)]


@pytest.fixture(scope="module")
def config(make_config: MakeConfig, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a config of a bundle with rates, and with little time to get ready."""
    bundle = tmp_path_factory.mktemp("rated") / "rated"
    shutil.copytree(tiny_bundle, bundle)
    info, _ = read_bundle(bundle)
    (bundle / "bundle.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(info, rates=RATES)))
    path = make_config(bundle=bundle)
    path.write_text(path.read_text(encoding="utf-8") + "[enroll]\ncountdown_s = 1.0\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def daemon(serve: Serve, config: Path) -> DaemonProcess:
    return serve("demo:7", config=config)


@pytest.fixture(scope="module")
def url(daemon: DaemonProcess, serve_page: ServePage) -> str:
    return serve_page(daemon.config)


@pytest.fixture
def page(open_page: OpenPage, url: str, daemon: DaemonProcess) -> Page:
    page = open_page(url)
    expect(page.locator("#health-text")).to_contain_text("fps")
    return page


def pane(page: Page, title: str) -> Locator:
    page.get_by_role("tab", name=title).click()
    return page.get_by_role("tabpanel", name=title)


def labels_of(daemon: DaemonProcess) -> list[str]:
    return [entry["label"] for entry in daemon.ask("gallery.list")["labels"]]


def forget_all(daemon: DaemonProcess) -> None:
    for label in labels_of(daemon):
        daemon.ask("gallery.remove", label=label)


def enroll_clip(daemon: DaemonProcess, label: str) -> None:
    """Enroll a performance in no time."""
    shown = perform(label, seed=3)
    times, joints = shown.timestamps_s.astype("<f8").tobytes(), shown.joints_m.astype("<f4").tobytes()
    daemon.ask("enroll.clip", label=label, timestamps_s=times, joints_m=joints, origin="test")


def enroll(page: Page, label: str) -> None:
    shown = pane(page, "Enroll")
    shown.get_by_label("Action").fill(label)
    shown.get_by_role("button", name="Start").click()
    shown.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("status").filter(has_text=f"{label} is enrolled")).to_be_visible()


def test_a_person_enrolls_sees_the_event_and_undoes_by_the_keyboard_alone(page: Page, daemon: DaemonProcess) -> None:
    forget_all(daemon)
    page.keyboard.press("e")
    expect(page.locator("#enroll-label")).to_be_focused()
    page.keyboard.type("wave")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Give up")).to_be_focused()
    expect(page.locator("#alert")).to_have_text("wave, now")
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    expect(page.get_by_text("What moved")).to_be_visible()
    expect(page.locator("#panel-enroll .paths li").first).to_contain_text("right hand")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("wave is enrolled")
    assert labels_of(daemon) == ["wave"]
    page.keyboard.press("1")
    expect(page.get_by_role("tab", name="Live")).to_be_focused()
    expect(page.locator(".events .label").first).to_have_text("wave")
    expect(page.locator("#announce")).to_contain_text("wave, score")
    expect(page.locator(".scores b")).not_to_have_text("–")
    page.keyboard.press("u")
    expect(page.locator("#toast")).to_contain_text("Taken back")
    assert labels_of(daemon) == []
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Enroll")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


def test_an_example_is_trimmed_and_given_up(page: Page, daemon: DaemonProcess) -> None:
    forget_all(daemon)
    shown = pane(page, "Enroll")
    shown.get_by_label("Action").fill("bow")
    shown.get_by_role("button", name="Start").click()
    length = shown.locator(".facts dd").first
    before = length.inner_text()
    begins = shown.get_by_label("Begins")
    begins.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    expect(length).not_to_have_text(before)
    assert float(length.inner_text().split()[0]) < float(before.split()[0])
    waiting = daemon.ask("enroll.status")["preview"]
    assert waiting["trimmed_s"][0] >= 0.3
    page.keyboard.press("Escape")
    expect(shown.get_by_role("button", name="Start")).to_be_visible()
    assert daemon.ask("enroll.status")["error"]["code"] == "cancelled"
    assert labels_of(daemon) == []


def test_of_two_pages_that_enroll_one_is_told_about_the_other(
    page: Page, open_page: OpenPage, url: str, daemon: DaemonProcess
) -> None:
    forget_all(daemon)
    other = open_page(url)
    first, second = pane(page, "Enroll"), pane(other, "Enroll")
    first.get_by_label("Action").fill("squat")
    first.get_by_role("button", name="Start").click()
    expect(second.get_by_text("An enrollment of squat is under way")).to_be_visible()
    second.get_by_label("Action").fill("kick")
    second.get_by_role("button", name="Start").click()
    expect(other.locator("#toast")).to_contain_text("is under way")
    second.get_by_role("button", name="Show it").click()
    second.get_by_role("button", name="Discard").click()
    expect(first.get_by_role("button", name="Start")).to_be_visible()
    expect(first.locator(".callout")).to_contain_text("cancelled")
    expect(second.get_by_text("An enrollment of squat is under way")).to_be_hidden()


def test_what_is_refused_is_said_and_nothing_is_lost(page: Page, daemon: DaemonProcess) -> None:
    shown = pane(page, "Enroll")
    shown.get_by_role("button", name="Start").click()
    expect(page.locator("#toast")).to_contain_text("Say first which action")
    shown.get_by_label("Action").fill("fly")
    shown.get_by_role("button", name="Start").click()
    expect(page.locator("#toast")).to_contain_text("does not know 'fly'")
    expect(shown.get_by_label("Action")).to_have_value("fly")


def test_the_gallery_is_played_renamed_removed_and_brought_back(page: Page, daemon: DaemonProcess) -> None:
    forget_all(daemon)
    enroll_clip(daemon, "kick")
    shown = pane(page, "Actions")
    shown.get_by_text("1 example").click()
    shown.get_by_role("button", name="Play").click()
    expect(shown.get_by_role("img", name="The movement")).to_be_visible()
    # What somebody looks at stays, whatever else is enrolled meanwhile.
    enroll_clip(daemon, "bow")
    expect(shown.get_by_role("heading", name="bow")).to_be_visible()
    expect(shown.get_by_role("img", name="The movement")).to_be_visible()
    daemon.ask("gallery.remove", label="bow")
    expect(shown.get_by_role("heading", name="bow")).to_be_hidden()
    expect(shown.get_by_role("img", name="The movement")).to_be_visible()
    shown.get_by_role("button", name="Rename").click()
    shown.get_by_label("Rename kick to").fill("<b>high</b> kick")
    page.keyboard.press("Enter")
    expect(shown.get_by_role("heading", name="<b>high</b> kick")).to_be_visible()
    shown.get_by_role("button", name="Remove <b>high</b> kick").click()
    expect(shown.get_by_text("Nothing is enrolled yet")).to_be_visible()
    page.locator("#toast").get_by_role("button", name="Undo").click()
    expect(shown.get_by_role("heading", name="<b>high</b> kick")).to_be_visible()
    shown.get_by_text("History").click()
    expect(shown.get_by_text("undo").first).to_be_visible()


def test_the_slider_shows_what_a_wish_misses_before_it_is_chosen(page: Page, daemon: DaemonProcess) -> None:
    forget_all(daemon)
    enroll_clip(daemon, "wave")
    shown = pane(page, "Thresholds")
    would_miss = shown.locator("tbody b")
    slider = shown.get_by_label("False alarms an hour")
    slider.focus()
    page.keyboard.press("Home")
    expect(would_miss).to_have_text("95 %")
    page.keyboard.press("End")
    expect(would_miss).to_have_text("10 %")
    assert daemon.ask("threshold.get")["false_alarms_per_hour"] is None, "nothing is chosen yet"
    shown.get_by_role("button", name="Use 200 an hour").click()
    expect(shown.get_by_role("button", name="In use")).to_be_visible()
    assert daemon.ask("threshold.get")["false_alarms_per_hour"] == 200
    shown.get_by_role("button", name="Back to the model's own").click()
    expect(shown.get_by_role("button", name="Use 200 an hour")).to_be_visible()
    assert daemon.ask("threshold.get")["false_alarms_per_hour"] is None
    page.locator("#toast").get_by_role("button", name="Undo").click()
    expect(shown.get_by_role("button", name="In use")).to_be_visible()
    daemon.ask("threshold.reset")


def test_what_was_told_is_reviewed_and_an_answer_taken_back(page: Page, daemon: DaemonProcess) -> None:
    forget_all(daemon)
    enroll(page, "wave")
    shown = pane(page, "Review")
    expect(shown.get_by_role("heading", name="Is this wave?")).to_be_visible()
    examples = len(daemon.ask("gallery.get", label="wave")["examples"])
    page.keyboard.press("r")
    expect(page.locator("#toast")).to_contain_text("one more example")
    assert len(daemon.ask("gallery.get", label="wave")["examples"]) == examples + 1
    shown.get_by_role("button", name="Take the last answer back").click()
    expect(page.locator("#toast")).to_contain_text("Taken back")
    assert len(daemon.ask("gallery.get", label="wave")["examples"]) == examples


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_every_pane_fits_a_small_phone_and_says_what_everything_is(
    open_page: OpenPage, url: str, daemon: DaemonProcess, scheme: str
) -> None:
    page = open_page(url, viewport={"width": 360, "height": 640}, color_scheme=scheme, reduced_motion="reduce")
    expect(page.locator("#health-text")).to_contain_text("fps")
    for title in _PANES:
        pane(page, title)
        assert page.evaluate("document.documentElement.scrollWidth") == 360, title
        assert page.evaluate(_WITHOUT_NAME) == [], title
        assert page.evaluate(_TOO_FAINT) == [], title
    assert page.locator("h1").count() == 1


# What a screen reader would call "button" and nothing else.
_WITHOUT_NAME = """() => [...document.querySelectorAll('button, input, select, [role=img], summary, [role=tabpanel]')]
  .filter((element) => element.checkVisibility() && !element.closest('[aria-hidden=true]'))
  .filter((element) => !(element.getAttribute('aria-label') || element.getAttribute('aria-labelledby')
    || element.labels?.length || element.textContent.trim()))
  .map((element) => element.outerHTML)"""
# Text of less contrast than WCAG's AA asks for: 4.5, large text 3. A control that is off is left out, as there.
_TOO_FAINT = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] > 250) return color;
      if (at.classList.contains('views')) return rgba(getComputedStyle(at).getPropertyValue('--stage'));
    }
    return [255, 255, 255, 255];
  };
  return [...document.body.querySelectorAll('*')].filter((element) => element.checkVisibility({ opacityProperty: true })
      && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
      && !element.closest(':disabled, [aria-disabled=true], .unseen, .skip, [aria-hidden=true], datalist, option'))
    .map((element) => {
      const style = getComputedStyle(element);
      const [a, b] = [light(rgba(style.color)), light(behind(element))];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
      return contrast < (large ? 3 : 4.5) ? `${contrast.toFixed(2)} ${element.outerHTML.slice(0, 120)}` : '';
    }).filter(Boolean);
}"""


def test_a_daemon_that_stops_and_comes_back_is_said_and_found_again(
    open_page: OpenPage, make_config: MakeConfig, serve: Serve, serve_page: ServePage
) -> None:
    config = make_config()
    url = serve_page(config)
    page = open_page(url)
    banner = page.get_by_role("alert")
    expect(banner).to_contain_text("No daemon answers")
    daemon = serve("demo:1", config=config)
    expect(banner).to_be_hidden()
    expect(page.locator("#front")).to_have_attribute("aria-label", "Front view: One person is in view")
    daemon.stop()
    expect(banner).to_contain_text("The daemon has stopped")
    pane(page, "Enroll").get_by_label("Action").fill("wave")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#toast")).to_contain_text("No daemon answers")
    serve("demo:2", config=config)
    expect(banner).to_be_hidden()
    expect(page.locator("#health-text")).to_contain_text("fps")


def test_a_page_whose_server_ends_finds_the_next_one(
    open_page: OpenPage, daemon: DaemonProcess, url: str, serve_page: ServePage
) -> None:
    page = open_page(url)
    expect(page.locator("#health-text")).to_contain_text("fps")
    page.context.set_offline(True)
    expect(page.get_by_role("alert")).to_contain_text("server is gone")
    page.context.set_offline(False)
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(page.locator("#health-text")).to_contain_text("fps")


class OldDaemon(threading.Thread):
    """Answer every request as a daemon that knows none of them."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(daemon=True)
        self._server = ControlServer(endpoint)
        self.is_stopping = False

    def run(self) -> None:
        while not self.is_stopping:
            if not self._server.socket.poll(50):
                continue
            received = self._server.receive()
            if received is not None:
                address, payload = received
                error = Failure(code="unknown_command", message="command is not known", hint="")
                self._server.send(address, Refusal(id=decode_request(payload).id, error=error))
        self._server.close()


def test_several_people_are_drawn_and_a_daemon_of_another_version_is_told(
    open_page: OpenPage, make_config: MakeConfig, serve_page: ServePage, daemon: DaemonProcess
) -> None:
    config = make_config()
    publisher = EventPublisher(read_config(config).sockets.events)
    old = OldDaemon(read_config(config).sockets.control)
    old.start()
    status = daemon.ask("status")
    page = open_page(serve_page(config))
    joints = [[0.02 * (number % 5), 0.07 * number - 0.9, 2.0] for number in range(25)]
    bodies = [
        {"id": 1, "joints": joints},
        {"id": 2, "joints": [*joints[:20], *[None] * 5]},
        {"id": 3, "joints": [None] * 25},
    ]

    def publish() -> None:
        for topic, message in (
            ("skeleton.a", {"v": 1, "source": "a", "timestamp": 1.0, "clock": "c", "bodies": bodies}),
            ("status.daemon", {**status, "version": "0.0.1"}),
        ):
            publisher.socket.send_multipart([topic.encode(), encode_map(message)])

    deadline_s = time.monotonic() + 30
    while page.locator("#front").get_attribute("aria-label") != "Front view: 3 people are in view":
        assert time.monotonic() < deadline_s
        publisher.take_subscriptions()
        publish()
        page.wait_for_timeout(50)
    expect(page.get_by_role("alert")).to_contain_text("The daemon is version 0.0.1")
    drawn = """() => {
      const front = document.getElementById('front');
      return front.getContext('2d').getImageData(0, 0, front.width, front.height).data.some(Boolean);
    }"""
    assert page.evaluate(drawn)
    shown = pane(page, "Thresholds")
    expect(shown.get_by_text("This daemon is older than the page")).to_be_visible()
    page.evaluate("""() => {
      Object.defineProperty(document, 'hidden', { value: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }""")
    while publisher.is_wanted("skeleton.a"):
        assert time.monotonic() < deadline_s, "nobody looks at the page"
        publisher.take_subscriptions()
        page.wait_for_timeout(20)
    old.is_stopping = True
    old.join()
    publisher.close()
