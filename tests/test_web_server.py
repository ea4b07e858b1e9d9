"""The page's server: who may ask it, what it sends to whom, and a browser that does not read."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("aiohttp", reason="the page needs the extra `web`")

import aiohttp

from edge.config import read_config
from edge.protocol import COMMANDS
from edge.web.outbox import Outbox
from edge.web.server import PAGE_COMMANDS, STATIC
from streams.messages import encode_map
from streams.sockets import EventPublisher

if TYPE_CHECKING:
    from tests.conftest import DaemonProcess, MakeConfig, Serve, ServePage

_PATIENCE_S = 30
SCRIPT = Path(sys.executable).with_name("crossglg-edge")


@pytest.fixture(scope="module")
def daemon(serve: Serve) -> DaemonProcess:
    return serve("demo:7")


@pytest.fixture(scope="module")
def url(daemon: DaemonProcess, serve_page: ServePage) -> str:
    return serve_page(daemon.config)


def send(
    url: str, method: str = "GET", path: str = "/", body: str = "", **headers: str
) -> tuple[http.client.HTTPResponse, str]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_PATIENCE_S)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response, response.read().decode()
    finally:
        connection.close()


def ask(url: str, cmd: str, **args: Any) -> dict[str, Any]:
    _, text = send(url, "POST", "/ask", json.dumps({"cmd": cmd, "args": args}), Content_Type="application/json")
    answer: dict[str, Any] = json.loads(text)
    return answer


# Who may ask.


def test_the_page_may_talk_to_nobody_but_its_own_server(url: str) -> None:
    response, text = send(url)
    assert response.status == 200
    rules = dict(rule.partition(" ")[::2] for rule in (response.getheader("Content-Security-Policy") or "").split("; "))
    assert rules.pop("default-src") == rules.pop("frame-ancestors") == "'none'"
    assert rules.pop("base-uri") == rules.pop("form-action") == "'none'"
    assert set(rules.values()) == {"'self'"}
    assert response.getheader("X-Content-Type-Options") == "nosniff"
    assert response.getheader("Referrer-Policy") == "no-referrer"
    assert response.getheader("Cross-Origin-Resource-Policy") == "same-origin"
    assert "<script" in text


def test_no_file_of_the_page_names_another_server_or_needs_a_build() -> None:
    files = [path for path in STATIC.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".html", ".css", ".js", ".svg", ".webmanifest"}
    for path in files:
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}", path.read_text(encoding="utf-8")))
        assert addresses <= {"http://www.w3.org"}, path


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5580", "127.0.0.1.evil.example", "", "[::1", "0.0.0.0"])
def test_another_name_that_leads_here_is_refused(url: str, host: str) -> None:
    response, text = send(url, Host=host)
    assert response.status in (400, 421)
    assert "<script" not in text


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example"]
)
def test_the_page_of_another_site_may_not_ask(url: str, origin: str) -> None:
    body = json.dumps({"cmd": "status"})
    response, _ = send(url, "POST", "/ask", body, Content_Type="application/json", Origin=origin)
    assert response.status == 403
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    response, _ = send(url, path="/live", Origin=origin, Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAAAA==", **upgrade)
    assert response.status == 403


def test_a_form_of_another_site_and_what_is_no_request_are_refused(url: str) -> None:
    body = json.dumps({"cmd": "gallery.undo"})
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert send(url, "POST", "/ask", body, Content_Type=kind)[0].status == 415
    for bad in (
        "",
        "[]",
        "{",
        '{"cmd": 3}',
        '{"cmd": "status", "more": 1}',
        "\udcff".encode("utf-8", "replace").decode(),
    ):
        assert send(url, "POST", "/ask", bad, Content_Type="application/json")[0].status == 400
    too_much = json.dumps({"cmd": "status", "args": {"a": "x" * 70_000}})
    assert send(url, "POST", "/ask", too_much, Content_Type="application/json")[0].status == 413


@pytest.mark.parametrize(
    "path", ["/static/../server.py", "/static/%2e%2e/server.py", "/static/", "/static//etc/passwd", "/x"]
)
def test_nothing_but_the_page_is_served(url: str, path: str) -> None:
    assert send(url, path=path)[0].status in (403, 404)


def test_a_page_asks_for_what_a_person_does_and_for_no_files(url: str) -> None:
    assert {*PAGE_COMMANDS} <= {command.name for command in COMMANDS}
    for forbidden in (
        "shutdown",
        "gallery.export",
        "gallery.import",
        "record.start",
        "config.reload",
        "gallery.vacuum",
    ):
        assert ask(url, forbidden)["error"]["code"] == "not_for_pages"


def test_what_the_daemon_answers_and_refuses_comes_as_it_is(url: str, daemon: DaemonProcess) -> None:
    assert ask(url, "status")["result"]["pid"] == daemon.process.pid
    refused = ask(url, "gallery.rename", old="nothing", new="something")
    assert refused["ok"] is False
    assert refused["error"]["code"] == "unknown_label"
    assert ask(url, "gallery.list", more=1)["error"]["code"] == "bad_args"


def test_a_port_that_is_taken_is_named(url: str, daemon: DaemonProcess) -> None:
    port = str(urlsplit(url).port)
    command = [str(SCRIPT), "web", "--config", str(daemon.config), "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert port in done.stderr
    assert "address_in_use" in done.stderr


# What is live.


def with_page(url: str, story: Callable[[aiohttp.ClientWebSocketResponse], Any], **options: Any) -> Any:
    """Open the page's WebSocket as a browser does, and do what a story says."""

    async def run() -> Any:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}live", **options) as page:
            return await asyncio.wait_for(story(page), _PATIENCE_S)

    return asyncio.run(run())


async def next_of(page: aiohttp.ClientWebSocketResponse, kind: str, **wanted: Any) -> dict[str, Any]:
    """Return the next message of a kind, whose keys have the wanted values."""
    while True:
        said = await page.receive_json()
        message: dict[str, Any] = said["message"]
        if said["topic"].startswith(kind) and all(message[key] == value for key, value in wanted.items()):
            return message


class Published:
    """Stand for a daemon's event socket: it hears who subscribes to what, and says what a test wants."""

    def __init__(self, config: Path) -> None:
        self.publisher = EventPublisher(read_config(config).sockets.events)

    def is_wanted(self, topic: str, *, wanted: bool) -> bool:
        """Return whether somebody asks for a topic, or not, as wanted; wait for it."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline_s:
            self.publisher.take_subscriptions()
            if self.publisher.is_wanted(topic) is wanted:
                return wanted
            time.sleep(0.02)
        return not wanted

    async def hears(self, topic: str, *, wanted: bool = True) -> None:
        assert await asyncio.to_thread(self.is_wanted, topic, wanted=wanted) is wanted

    def send(self, topic: str, **message: Any) -> None:
        self.publisher.socket.send_multipart([topic.encode(), encode_map(message)])


@pytest.fixture(scope="module")
def alone(make_config: MakeConfig, serve_page: ServePage) -> Iterator[tuple[str, Published]]:
    """Serve the page beside an event socket that the test speaks on, without a daemon."""
    config = make_config()
    published = Published(config)
    url = serve_page(config)
    assert published.is_wanted("event.a.0", wanted=True)
    yield url, published
    published.publisher.close()


def test_skeletons_and_scores_are_asked_for_while_a_page_is_looked_at(alone: tuple[str, Published]) -> None:
    url, published = alone

    async def story(page: aiohttp.ClientWebSocketResponse) -> None:
        await published.hears("skeleton.a", wanted=False)
        await page.send_json({"visible": True})
        await published.hears("skeleton.a")
        await published.hears("scores.a.0")
        body = {"id": 3, "joints": [[0.123456, 1.0, 2.00049], None]}
        published.send("skeleton.a", v=1, source="a", bodies=[body])
        seen = await next_of(page, "skeleton.")
        assert seen["bodies"] == [{"id": 3, "joints": [[0.123, 1.0, 2.0], None]}]
        await page.send_json({"visible": False})
        await published.hears("skeleton.a", wanted=False)
        await page.send_json({"visible": True})
        await published.hears("skeleton.a")

    with_page(url, story)
    assert published.is_wanted("skeleton.a", wanted=False) is False, "the page is closed"


def test_a_page_that_opens_later_gets_the_events_before_it(alone: tuple[str, Published]) -> None:
    url, published = alone
    published.send("event.a.0", label="wave", type="onset")
    published.send("event.a.0", label="bow", type="onset")

    async def story(page: aiohttp.ClientWebSocketResponse) -> None:
        before_s = time.time()
        assert (await next_of(page, "event.", label="wave"))["heard_at"] < before_s + _PATIENCE_S
        await next_of(page, "event.", label="bow")

    with_page(url, story)


def test_a_daemon_that_is_silent_is_gone_and_one_that_speaks_is_back(alone: tuple[str, Published]) -> None:
    url, published = alone

    async def story(page: aiohttp.ClientWebSocketResponse) -> None:
        await page.send_json({"visible": True})
        await next_of(page, "page", is_heard=False)
        published.send("status.daemon", pid=1)
        assert (await next_of(page, "status."))["pid"] == 1
        assert (await next_of(page, "page", is_heard=True))["version"]
        await next_of(page, "page", is_heard=False)

    with_page(url, story)


def test_what_no_daemon_answers_is_said(alone: tuple[str, Published]) -> None:
    assert ask(alone[0], "status")["error"]["code"] == "unreachable"


def test_a_message_that_cannot_be_read_is_counted_and_the_page_goes_on(alone: tuple[str, Published]) -> None:
    url, published = alone
    published.publisher.socket.send_multipart([b"event.a.0", b"\xc1"])
    published.publisher.socket.send_multipart([b"event.a.0"])
    published.send("event.a.0", label="after what cannot be read")

    async def story(page: aiohttp.ClientWebSocketResponse) -> None:
        await next_of(page, "event.", label="after what cannot be read")
        await page.send_str("nothing that a page says")
        await page.send_json({"visible": True})
        await next_of(page, "page", unreadable=2)

    with_page(url, story)


def open_and_never_read(url: str) -> socket.socket:
    """Open the page's WebSocket, say that the page is visible, and read nothing."""
    parts = urlsplit(url)
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.connect((parts.hostname or "", parts.port or 0))
    lines = ["GET /live HTTP/1.1", f"Host: {parts.netloc}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", ""]
    stuck.sendall("\r\n".join(lines).encode())
    text = b'{"visible":true}'
    stuck.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
    return stuck


def test_a_browser_that_does_not_read_is_dropped_and_counted_and_slows_nobody(alone: tuple[str, Published]) -> None:
    url, published = alone
    stuck = open_and_never_read(url)
    joints = [[number / 7, number / 11, number / 13] for number in range(25)]
    bodies = [{"id": number, "joints": joints} for number in range(30)]

    async def publish() -> None:
        while True:
            published.send("skeleton.a", v=1, source="a", at=time.monotonic(), bodies=bodies)
            await asyncio.sleep(1 / 60)

    async def story(page: aiohttp.ClientWebSocketResponse) -> list[float]:
        await page.send_json({"visible": True})
        await published.hears("skeleton.a")
        publishing = asyncio.create_task(publish())
        ages_s: list[float] = []
        try:
            while True:
                said = await page.receive_json()
                if said["topic"] == "skeleton.a":
                    ages_s.append(time.monotonic() - said["message"]["at"])
                elif said["topic"] == "page" and said["message"]["stuck"]:
                    assert said["message"]["stuck"] == 1
                    assert said["message"]["browsers"] == 1
                    return ages_s
        finally:
            publishing.cancel()

    with stuck:
        ages_s = with_page(url, story, max_msg_size=0)
    assert len(ages_s) > 60
    assert sorted(ages_s)[len(ages_s) // 2] < 0.5, "who reads sees what is now"


def test_more_browsers_than_allowed_are_refused(alone: tuple[str, Published]) -> None:
    url, _ = alone

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            pages = [await session.ws_connect(f"{url}live") for _ in range(16)]
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{url}live")
            assert refused.value.status == 503
            await pages.pop().close()
            for _ in range(100):
                try:
                    pages.append(await session.ws_connect(f"{url}live"))
                    break
                except aiohttp.WSServerHandshakeError:
                    await asyncio.sleep(0.05)
            assert len(pages) == 16
            for page in pages:
                await page.close()

    asyncio.run(run())


def test_an_outbox_is_bounded_and_keeps_the_newest_of_what_changes() -> None:
    outbox = Outbox()
    accepted = sum(outbox.put(str(number)) for number in range(1000))
    for number in range(1000):
        outbox.put_newest(f"skeleton.{number % 3}", str(number))
        outbox.put_newest(f"scores.{number}", "")

    async def take_all() -> list[str]:
        taken = []
        while outbox.is_waiting:
            taken.append(await outbox.take())
        return taken

    taken = asyncio.run(take_all())
    assert taken[:accepted] == [str(number) for number in range(accepted)]
    assert accepted < 1000
    assert {"997", "998", "999"} <= set(taken[accepted:])
    assert len(taken) < 1000


# One process beside another.


Both = tuple[subprocess.Popen[bytes], str, Path]


def child_of(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
    assert len(children) == 1
    return int(children[0])


def is_gone(pid: int) -> bool:
    deadline_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline_s:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def both(
    make_config: MakeConfig, told_address: Callable[..., str]
) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """Run `crossglg-edge serve --web`; yield its process, the page's address and the log."""
    config = make_config()
    config.write_text(config.read_text(encoding="utf-8") + "[web]\nport = 0\n", encoding="utf-8")
    log = config.with_name("serve.log")
    with log.open("wb") as said:
        command = [str(SCRIPT), "serve", "--camera", "demo:1", "--web", "--config", str(config)]
        process = subprocess.Popen(command, stderr=said, cwd=config.parent)
    try:
        yield process, told_address(log, process), log
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_serve_with_the_page_is_two_processes_that_end_together(both: Both, how: signal.Signals) -> None:
    process, url, _ = both
    page = child_of(process)
    assert ask(url, "status")["result"]["pid"] == process.pid
    os.kill(process.pid, how)
    process.wait(timeout=_PATIENCE_S)
    assert is_gone(page)


def test_a_page_that_dies_takes_no_daemon_with_it(both: Both, serve_page: ServePage) -> None:
    process, _, log = both
    os.kill(child_of(process), signal.SIGKILL)
    assert ask(serve_page(log.with_name("config.toml")), "status")["result"]["pid"] == process.pid
    process.terminate()
    assert process.wait(timeout=_PATIENCE_S) == 0
