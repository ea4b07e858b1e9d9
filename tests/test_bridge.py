"""Bridges beside real peers: programs, HTTP and OSC servers, an LSL inlet, Prometheus's own parser."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bridge import Command, Lsl, Mqtt, Osc, Prometheus, Webhook
from edge.bridge.backlog import Backlog
from edge.bridge.bridge import Counts, Told, told_from
from edge.bridge.names import address_name
from edge.bridge.rate import RateLimit
from edge.cli.bridge import at_address
from edge.config import CommandBridge, LslBridge, MqttBridge, OscBridge, PrometheusBridge, WebhookBridge, read_config
from edge.protocol import SourceStatus
from streams.clock import clock_name
from streams.errors import BridgeError, ConfigError
from streams.messages import decode_map, encode_event

if TYPE_CHECKING:
    from tests.conftest import EventSource, Listening, RunBridge

SCRIPT = Path(sys.executable).with_name("crossglg-edge")


def until(is_so: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Return the first true value."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := is_so()):
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.02)
    return value


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with closing(socket.socket(socket.AF_INET, kind)) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# What all have in common.


@pytest.fixture
def told(event_source: EventSource) -> Told:
    return told_from(decode_map(encode_event(event_source.tell())[1]), received_s=0.0)


@given(actions=st.lists(st.sampled_from(["put", "take", "fail", "wait", "later"]), max_size=60))
def test_every_event_of_a_backlog_is_delivered_in_order_waits_or_is_counted(actions: list[str]) -> None:
    now_s, num_put, delivered = 0.0, 0, []
    counts = Counts()
    backlog = Backlog(5, 10.0, counts, clock=lambda: now_s)
    for action in actions:
        if action == "put":
            counts.receive()
            backlog.put(Told(event=None, message={"n": num_put}, received_s=now_s, time=""))  # type: ignore[arg-type]
            num_put += 1
        elif action == "later":
            now_s += 4.0
        elif action == "wait":
            backlog.drop_old()
        elif (oldest := backlog.take(0.0)) is not None:
            assert now_s - oldest.received_s <= 10.0
            if action == "fail":
                backlog.give_back(oldest)
            else:
                counts.send()
                delivered.append(oldest.message["n"])
        assert len(backlog) <= 5
        counted = counts.as_dict()
        assert counted["waiting"] == len(backlog)
        assert counted["received"] == num_put
    assert delivered == sorted(set(delivered))
    assert set(counts.dropped) <= {"full", "old"}


def test_at_most_so_many_events_pass_in_any_minute() -> None:
    rate = RateLimit(2)
    assert [rate.allows(now_s) for now_s in (0.0, 1.0, 2.0, 60.5, 60.6, 61.5)] == [True, True, False, True, False, True]


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_names_in_addresses_are_plain_and_of_one_label(one: str, other: str) -> None:
    assert re.fullmatch("[A-Za-z0-9_-]+", address_name(one))
    assert one == other or address_name(one) != address_name(other)


def test_names_in_addresses_can_be_read() -> None:
    assert [address_name(label) for label in ("wave", "swipe left", "raise_arms")] == [
        "wave",
        "swipe-left",
        "raise_arms",
    ]


def test_an_event_of_a_newer_daemon_is_passed_on_with_what_this_version_does_not_know(told: Told) -> None:
    newer = told_from({**told.message, "mood": "good"}, received_s=1.0)
    sent = json.loads(newer.json(event_type="onset"))
    assert sent.pop("time").endswith("+00:00")
    assert sent == {**told.message, "mood": "good", "event_type": "onset"}


def test_a_bridge_waits_for_a_daemon_that_starts_again(event_source: EventSource, listening: Listening) -> None:
    bridge = listening(Command(CommandBridge(argv=("true",))))
    event_source.tell("wave")
    event_source.restart()
    event_source.tell("bow")
    until(lambda: bridge.num_settled() == 2)
    assert bridge.stop() == {"received": 2, "sent": 2, "waiting": 0, "dropped": {}}


def test_what_is_no_event_of_this_version_is_counted(event_source: EventSource, listening: Listening) -> None:
    bridge = listening(Command(CommandBridge(argv=("true",))))
    event_source.publisher.socket.send_multipart([b"event.a.0", b"\xc1"])
    event_source.publisher.socket.send_multipart([b"event.a.0"])
    event_source.publisher.send_map("event.a.0", {"v": 1, "type": "onset"})
    event_source.publisher.send_map("status.daemon", {"v": 1})
    event_source.tell("wave")
    until(lambda: bridge.num_settled() == 4)
    assert bridge.stop() == {"received": 4, "sent": 1, "waiting": 0, "dropped": {"bad_message": 3}}
    assert "the daemon's status is not as this version expects it" in bridge.said()


def test_a_silent_daemon_is_told_of_once_and_its_return_too(
    event_source: EventSource, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.bridge.listener._SILENT_S", 0.3)
    bridge = listening(Command(CommandBridge(argv=("true",))))
    event_source.tell_status()
    until(lambda: "is silent" in bridge.said())
    event_source.tell_status()
    until(lambda: bridge.said().count("is there") == 2)
    until(lambda: bridge.said().count("is silent") == 2)


def test_what_was_lost_is_said_once_a_minute_where_it_grew(
    event_source: EventSource, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.bridge.listener._REPORT_EVERY_S", 0.1)
    bridge = listening(Command(CommandBridge(argv=("true",), max_per_minute=1)))
    event_source.tell("a")
    event_source.tell("b")
    until(lambda: "2 events, 1 sent, 0 waiting; dropped: 1 rate" in bridge.said())
    time.sleep(0.3)
    assert bridge.said().count("1 rate") == 1


@pytest.mark.parametrize(
    ("open_bridge", "code"),
    [
        (lambda: Command(CommandBridge()), "no_target"),
        (lambda: Webhook(WebhookBridge()), "no_target"),
        (lambda: Webhook(WebhookBridge(url="ftp://127.0.0.1/")), "bad_target"),
        (lambda: Webhook(WebhookBridge(url="http://user:secret@127.0.0.1/")), "bad_target"),
        (lambda: Webhook(WebhookBridge(url="http://127.0.0.1:99999/")), "bad_target"),
        (lambda: Webhook(WebhookBridge(url="https://127.0.0.1/", ca_file="nothing.pem")), "bad_target"),
        (lambda: Osc(OscBridge(host="no such host")), "bad_target"),
        (lambda: Prometheus(PrometheusBridge(host="192.0.2.1")), "bad_target"),
        (lambda: Mqtt(MqttBridge(tls=True, ca_file="nothing.pem")), "bad_target"),
    ],
)
def test_what_a_bridge_cannot_use_is_refused_at_once(open_bridge: Callable[[], object], code: str) -> None:
    with pytest.raises(BridgeError) as refused:
        open_bridge()
    assert refused.value.code == code
    assert "secret" not in refused.value.message


def test_a_bridge_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(BridgeError, match="this bridge needs paho-mqtt") as refused:
        Mqtt(MqttBridge())
    assert (refused.value.code, refused.value.hint) == ("not_installed", "pip install 'crossglg-edge[bridge]'")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('mqtt.prefix = "a/#"', "prefix"),
        ('mqtt.node = "living room"', "node"),
        ('osc.prefix = "/a"', "prefix"),
        ("webhook.retries = 99", "retries"),
        ('command.types = ["begin"]', "types"),
        ("command.types = []", "types"),
        ('webhook.password = "secret"', "password"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(tmp_path: Path, line: str, named: str) -> None:
    (tmp_path / "config.toml").write_text(f"[bridge]\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=named):
        read_config(tmp_path / "config.toml")


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("box", "box", 9000),
        ("192.0.2.7:8000", "192.0.2.7", 8000),
        ("::1", "::1", 9000),
        ("[::1]", "::1", 9000),
        ("[::1]:8000", "::1", 8000),
    ],
)
def test_an_address_is_a_host_with_a_port_or_without(address: str, host: str, port: int) -> None:
    assert at_address(OscBridge(), address) == OscBridge(host=host, port=port)


@pytest.mark.parametrize("address", ["box:", ":8000", "box:x", "box:0", "box:65536", "[::1]:"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(BridgeError, match="is no address"):
        at_address(OscBridge(), address)


# Command.


def test_a_program_gets_the_event_on_stdin_and_in_its_environment_and_no_shell_reads_it(
    event_source: EventSource, run_bridge: RunBridge, tmp_path: Path
) -> None:
    label = "$(touch bad); `touch bad` \"'"
    show = (
        "import os, sys; open('got', 'w').write(sys.stdin.read() + '\\n'.join(map('='.join, os.environ.items())) + '.')"
    )
    bridge = run_bridge("command", "--label", label.upper(), "--", sys.executable, "-c", show)
    event_source.tell("another")
    event = event_source.tell(label)
    event_source.tell(label, "end", id=event.id)
    until(lambda: (tmp_path / "got").exists() and (tmp_path / "got").read_text("utf-8").endswith("."))
    assert bridge.stop() == {"received": 1, "sent": 1, "waiting": 0, "dropped": {}}
    first, *lines = (tmp_path / "got").read_text("utf-8").splitlines()
    assert json.loads(first)["id"] == event.id
    assert {f"CROSSGLG_EVENT_LABEL={label}", "CROSSGLG_EVENT_TYPE=onset", "CROSSGLG_EVENT_BODY=0"} <= {*lines}
    assert not (tmp_path / "bad").exists()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def pid_in(path: Path) -> int:
    return int(until(lambda: path.exists() and path.read_text("utf-8")))


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "], ids=["ends", "ignores it"])
def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(
    event_source: EventSource, listening: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    monkeypatch.setattr("edge.bridge.command._GRACE_S", 0.3)
    script = f"{trap}sleep 99 & echo $! > {tmp_path}/pid; wait; sleep 99"
    bridge = listening(Command(CommandBridge(argv=shell(script), timeout_s=0.3)))
    event_source.tell("wave")
    pid = pid_in(tmp_path / "pid")
    until(lambda: not is_alive(pid))
    until(lambda: "took longer than 0.3 s" in bridge.said())
    assert bridge.stop() == {"received": 1, "sent": 0, "waiting": 0, "dropped": {"timeout": 1}}


def test_one_program_runs_for_a_label_and_others_do_not_wait_for_it(
    event_source: EventSource, listening: Listening, tmp_path: Path
) -> None:
    script = (
        'L="$0/$CROSSGLG_EVENT_LABEL"; echo >> "$L"; [ "$L" = "$0/bow" ] || while [ ! -e "$0/go" ]; do sleep 0.05; done'
    )
    bridge = listening(Command(CommandBridge(argv=(*shell(script), str(tmp_path)))))
    for label in ("wave", "wave", "bow", "wave"):
        event_source.tell(label)
    until(lambda: (tmp_path / "wave").exists() and bridge.num_settled() == 3)
    (tmp_path / "go").touch()
    until(lambda: bridge.num_settled() == 4)
    event_source.tell("wave")
    until(lambda: bridge.num_settled() == 5)
    assert (tmp_path / "wave").read_text("utf-8") == "\n\n"
    assert bridge.stop() == {"received": 5, "sent": 3, "waiting": 0, "dropped": {"busy": 2}}


def test_programs_that_fail_or_are_not_there_or_too_many_are_counted(
    event_source: EventSource, listening: Listening
) -> None:
    failing = listening(Command(CommandBridge(argv=("false",), max_per_minute=2)))
    missing = listening(Command(CommandBridge(argv=("no-such-program",))))
    for label in ("a", "b", "c"):
        event_source.tell(label)
    until(lambda: failing.num_settled() == missing.num_settled() == 3)
    assert "failed with 1 for 'a'" in failing.said()
    assert failing.stop()["dropped"] == {"rate": 1, "failed": 2}
    assert missing.stop()["dropped"] == {"not_started": 3}


def test_what_runs_when_a_bridge_stops_is_ended(
    event_source: EventSource, listening: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.bridge.command._GRACE_S", 0.3)
    bridge = listening(Command(CommandBridge(argv=shell(f"echo $$ > {tmp_path}/pid; exec sleep 99"))))
    event_source.tell("wave")
    pid = pid_in(tmp_path / "pid")
    assert bridge.stop()["dropped"] == {"stopped": 1}
    assert not is_alive(pid)


# Webhook.


class Hook:
    """A server that answers each call as the next of `answers` says, 200 at the end, and remembers the calls."""

    def __init__(self) -> None:
        self.answers: list[int | str] = []
        self.calls: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.let_go = threading.Event()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.calls.append((self.path, dict(self.headers.items()), json.loads(body)))
                hook.answer(self, hook.answers.pop(0) if hook.answers else 200)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api?key=value"

    def answer(self, handler: BaseHTTPRequestHandler, answer: int | str) -> None:
        if answer == "hang":
            self.let_go.wait(20)
            return
        if answer == "drip":
            # Each byte comes in time; the answer never does.
            while not self.let_go.wait(0.05):
                try:
                    handler.wfile.write(b"H")
                except OSError:
                    return
            return
        assert isinstance(answer, int)
        handler.send_response(answer)
        if 300 <= answer < 400:
            handler.send_header("Location", "/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def labels(self) -> list[str]:
        return [body["label"] for _, _, body in self.calls]


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    thread = threading.Thread(target=hook.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield hook
    hook.let_go.set()
    hook.server.shutdown()
    thread.join()
    hook.server.server_close()


def test_each_event_is_posted_with_a_header_from_a_file(
    event_source: EventSource, run_bridge: RunBridge, hook: Hook, tmp_path: Path
) -> None:
    secret, address = tmp_path / "token", tmp_path / "url"
    secret.write_text("Bearer 1234\n", encoding="utf-8")
    address.write_text(f"{hook.url}\n", encoding="utf-8")
    secret.chmod(0o600)
    address.chmod(0o400)
    lines = (f'url_file = "{address}"', 'header = "X-Token"', f'header_file = "{secret}"', 'types = ["onset", "end"]')
    bridge = run_bridge("webhook", lines=lines)
    onset = event_source.tell("wave")
    event_source.tell("wave", "update", id=onset.id)
    event_source.tell("wave", "end", id=onset.id)
    until(lambda: len(hook.calls) == 2)
    assert bridge.stop() == {"received": 2, "sent": 2, "waiting": 0, "dropped": {}}
    path, headers, body = hook.calls[0]
    assert path == "/api?key=value"
    assert headers["X-Token"] == "Bearer 1234"
    assert headers["Content-Type"] == "application/json"
    assert (body["id"], body["type"], body["label"], body["score"]) == (onset.id, "onset", "wave", 0.75)
    assert hook.calls[1][2]["type"] == "end"
    assert "1234" not in bridge.said()
    assert "key=value" not in bridge.said()


def webhook(url: str, **settings: Any) -> Webhook:
    return Webhook(WebhookBridge(url=url, **settings))


def test_what_a_server_takes_later_is_posted_again_and_what_it_refuses_is_not(
    event_source: EventSource, listening: Listening, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.bridge.webhook._FIRST_RETRY_S", 0.05)
    hook.answers = [503, 429, 200, 404, 302, 200]
    bridge = listening(webhook(hook.url, retries=2))
    for label in ("a", "b", "c", "d"):
        event_source.tell(label)
    until(lambda: bridge.num_settled() == 4)
    assert hook.labels() == ["a", "a", "a", "b", "c", "d"]
    assert bridge.stop() == {"received": 4, "sent": 2, "waiting": 0, "dropped": {"refused": 2}}


@pytest.mark.parametrize("answer", ["hang", "drip"])
def test_a_server_that_hangs_is_cut_off_and_the_next_event_is_posted(
    event_source: EventSource, listening: Listening, hook: Hook, answer: str
) -> None:
    hook.answers = [answer, answer]
    bridge = listening(webhook(hook.url, timeout_s=0.5, retries=0, max_per_minute=3))
    for label in ("a", "b", "c", "d"):
        event_source.tell(label)
    until(lambda: bridge.num_settled() == 4)
    assert hook.labels() == ["a", "b", "c"]
    assert bridge.stop() == {"received": 4, "sent": 1, "waiting": 0, "dropped": {"rate": 1, "failed": 2}}
    assert "no answer within 0.5 s" in bridge.said()


def test_while_a_server_hangs_events_are_taken_and_a_stop_does_not_wait_for_it(
    event_source: EventSource, listening: Listening, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.bridge.webhook._GRACE_S", 0.2)
    hook.answers = ["hang"] * 9
    bridge = listening(webhook(hook.url, timeout_s=60, keep_events=2))
    event_source.tell("a")
    until(lambda: hook.labels() == ["a"])
    for label in ("b", "c", "d", "e"):
        event_source.tell(label)
    until(lambda: bridge.num_settled() == 2)
    left = {"received": 5, "sent": 0, "waiting": 0, "dropped": {"full": 2, "stopped": 3}}
    assert bridge.stop() == left
    # The calls that hang fail later, and are counted already.
    hook.server.shutdown()
    time.sleep(0.3)
    assert bridge.stop() == left


def test_a_server_with_tls_has_to_prove_who_it_is(
    event_source: EventSource, listening: Listening, hook: Hook, tmp_path: Path
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out cert -days 2"
    words = [*command.split(), "-subj", "/CN=hook", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    hook.server.socket = tls.wrap_socket(hook.server.socket, server_side=True)
    url = hook.url.replace("http:", "https:")
    stranger = listening(webhook(url, retries=0))
    friend = listening(webhook(url, ca_file=str(tmp_path / "cert"), timeout_s=2))
    event_source.tell("wave")
    until(lambda: stranger.num_settled() == friend.num_settled() == 1)
    assert "CERTIFICATE_VERIFY_FAILED" in stranger.said()
    assert stranger.stop()["dropped"] == {"failed": 1}
    assert friend.stop()["sent"] == 1
    assert hook.labels() == ["wave"]


def test_events_for_a_server_that_is_away_get_too_old(event_source: EventSource, listening: Listening) -> None:
    bridge = listening(webhook(f"http://127.0.0.1:{free_port()}/", keep_s=0.5))
    event_source.tell("a")
    event_source.tell("b")
    until(lambda: bridge.num_settled() == 2)
    assert "Connection refused" in bridge.said()
    assert bridge.stop()["dropped"] == {"old": 2}


@pytest.mark.parametrize(
    ("mode", "content", "why"),
    [
        (0o644, b"secret", "has mode 0644"),
        (0o660, b"secret", "has mode 0660"),
        (0o600, b"\n", "is empty"),
        (0o600, b"two\nlines", "has to hold one line"),
        (0o600, b"\xff", "is no text in UTF-8"),
        (None, b"", "cannot be read: No such file"),
    ],
)
def test_a_secret_that_others_may_read_or_that_is_none_is_refused(
    tmp_path: Path, mode: int | None, content: bytes, why: str
) -> None:
    secret = tmp_path / "token"
    if mode is not None:
        secret.write_bytes(content)
        secret.chmod(mode)
    with pytest.raises(BridgeError, match=why) as refused:
        webhook("http://127.0.0.1/", header_file=str(secret))
    assert refused.value.code == "bad_secret"


# OSC.


def test_events_arrive_as_osc_with_a_switch_for_each_label(event_source: EventSource, listening: Listening) -> None:
    dispatcher = pytest.importorskip("pythonosc.dispatcher", reason="needs the extra `bridge`").Dispatcher()
    from pythonosc.osc_server import BlockingOSCUDPServer

    heard: list[tuple[Any, ...]] = []
    dispatcher.set_default_handler(lambda *message: heard.append(message))
    with BlockingOSCUDPServer(("127.0.0.1", 0), dispatcher) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            bridge = listening(Osc(OscBridge(port=server.server_address[1])))
            event_source.tell_status()
            one = event_source.tell("swipe left", body=3, count=2, progress=0.5)
            two = event_source.tell("swipe left", body=4)
            event_source.tell("swipe left", "update", id=one.id, body=3)
            event_source.tell("swipe left", "end", id=one.id, body=3)
            event_source.tell("swipe left", "end", id=two.id, body=4)
            event_source.tell("bow")
            until(lambda: ("/crossglg/label/bow", 1) in heard)
            assert bridge.stop()["sent"] == 6
            until(lambda: heard[-1] == ("/crossglg/up", 0))
        finally:
            server.shutdown()
            thread.join()
    assert heard[0] == ("/crossglg/up", 1)
    assert heard[1] == ("/crossglg/event", "onset", "swipe left", "a", 3, 0.75, 0.5, 1.5, 2, 0.5, one.id)
    assert [message[9] for message in heard if message[1] == "update"] == [-1.0]
    assert [(address, first) for address, first, *_ in heard[2:-1] if address != "/crossglg/up"] == [
        ("/crossglg/label/swipe-left", 1),
        ("/crossglg/event", "onset"),
        ("/crossglg/event", "update"),
        ("/crossglg/event", "end"),
        ("/crossglg/event", "end"),
        ("/crossglg/label/swipe-left", 0),
        ("/crossglg/event", "onset"),
        ("/crossglg/label/bow", 1),
        # The bridge stops: nothing stays on.
        ("/crossglg/label/bow", 0),
    ]


# Lab Streaming Layer.


@pytest.fixture
def lsl() -> Any:
    try:
        import pylsl
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"needs pylsl with liblsl: {error}")
    return pylsl


def test_an_inlet_reads_markers_at_the_time_of_what_happened(
    event_source: EventSource, run_bridge: RunBridge, lsl: Any
) -> None:
    name = f"test-{uuid.uuid4().hex}"
    bridge = run_bridge("lsl", lines=(f'name = "{name}"',))
    (found,) = lsl.resolve_byprop("name", name, 1, 20)
    assert (found.type(), found.nominal_srate(), found.channel_count()) == ("Markers", lsl.IRREGULAR_RATE, 1)
    inlet = lsl.StreamInlet(found)
    inlet.open_stream(20)
    now_s = time.monotonic()
    moments = {"t_start": now_s - 2.0, "t_end": now_s - 0.5, "t_emit": now_s - 0.4}
    own = event_source.tell("wave", clock=clock_name(), **moments)
    event_source.tell("wave", "end", id=own.id, clock=clock_name(), **moments)
    # A machine that started long ago, or later: only the age of a moment counts.
    before_s = lsl.local_clock()
    event_source.tell("bow", clock="another", t_start=5.0, t_end=6.0, t_emit=6.25)
    samples = [inlet.pull_sample(20) for _ in range(3)]
    after_s = lsl.local_clock()
    inlet.close_stream()
    assert bridge.stop()["sent"] == 3

    assert [text for (text,), _ in samples] == ["onset/wave", "end/wave", "onset/bow"]
    offset_s = lsl.local_clock() - time.monotonic()
    assert samples[0][1] == pytest.approx(own.t_start + offset_s, abs=0.002)
    assert samples[1][1] == pytest.approx(own.t_end + offset_s, abs=0.002)
    assert before_s - 1.25 <= samples[2][1] <= after_s - 1.25


def test_a_marker_may_hold_the_whole_event(event_source: EventSource, listening: Listening, lsl: Any) -> None:
    name = f"test-{uuid.uuid4().hex}"
    bridge = listening(Lsl(LslBridge(name=name, markers="json")))
    inlet = lsl.StreamInlet(lsl.resolve_byprop("name", name, 1, 20)[0])
    inlet.open_stream(20)
    event = event_source.tell("Jäger")
    (text,), _ = inlet.pull_sample(20)
    inlet.close_stream()
    assert bridge.stop()["sent"] == 1
    assert (json.loads(text)["id"], json.loads(text)["label"]) == (event.id, "Jäger")


# Prometheus.


@contextmanager
def scraped(port: int) -> Iterator[Callable[[], dict[str, dict[tuple[str, ...], float]]]]:
    """Yield a function that reads /metrics: for each name the value of each combination of labels."""
    parser = pytest.importorskip("prometheus_client.parser", reason="needs the extra `bridge`")

    def scrape() -> dict[str, dict[tuple[str, ...], float]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            families = list(parser.text_string_to_metric_families(answer.read().decode()))
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in families:
            assert family.name.startswith("crossglg_edge_")
            assert family.documentation.endswith(".")
            for sample in family.samples:
                labels = tuple(value for _, value in sorted(sample.labels.items()))
                found.setdefault(sample.name.removeprefix("crossglg_edge_"), {})[labels] = sample.value
        return found

    yield scrape


def test_prometheus_reads_what_the_daemon_counted_and_the_events_of_each_label(
    event_source: EventSource, run_bridge: RunBridge
) -> None:
    port = free_port()
    with scraped(port) as scrape:
        bridge = run_bridge("prometheus", f"127.0.0.1:{port}", lines=("max_labels = 2",))
        assert scrape()["up"] == {(): 0}
        source = SourceStatus(
            epoch="e", frames=900, fps=29.5, slow=False, age_s=3.5, lost=4, restarts=1, dropped={"too_old": 5}
        )
        event_source.tell_status("wave", sources={"kitchen": source})
        for label in ("wave", "bow", "kick", "push", "wave"):
            event_source.tell(label)
        event_source.tell("wave", "end")
        found = until(lambda: (all_ := scrape()).get("events_total", {}).get(("wave", "end")) and all_)
        assert bridge.stop()["received"] == 6
    assert found["up"] == {(): 1}
    assert found["info"] == {("onnxruntime", "tiny", "1.2.3"): 1}
    assert found["events_total"] == {
        ("(other)", "onset"): 2, ("bow", "onset"): 1, ("wave", "end"): 1, ("wave", "onset"): 2,
    }  # fmt: skip
    assert found["frames_total"] == {("kitchen",): 900}
    assert found["frames_lost_total"] == {("kitchen",): 4}
    assert found["frames_dropped_total"] == {("too_old", "kitchen"): 5, ("bad_topic", ""): 2}
    assert found["source_frames_per_second"] == {("kitchen",): 29.5}
    assert found["source_age_seconds"][("kitchen",)] >= 3.5
    assert found["decisions_total"] == {(): 500}
    assert found["decisions_skipped_total"] == {(): 3}
    assert found["encoder_seconds_total"] == {(): 4.5}
    assert found["uptime_seconds"] == {(): 60.5}
    assert found["frame_processing_seconds"] == {("0.5",): pytest.approx(80e-6), ("0.99",): pytest.approx(9e-3)}
    assert found["event_latency_seconds_count"] == {(): 5}
    assert found["event_latency_seconds_bucket"][("0.02",)] == 5
    assert found["event_latency_seconds_bucket"][("0.01",)] == 0


def test_prometheus_sees_that_a_daemon_is_silent() -> None:
    pytest.importorskip("prometheus_client", reason="needs the extra `bridge`")
    port = free_port()
    bridge = Prometheus(PrometheusBridge(port=port))
    try:
        bridge.see(None)
        with scraped(port) as scrape:
            found = scrape()
    finally:
        bridge.close()
    assert found["up"] == {(): 0}
    assert "frames_total" not in found


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        command = [str(SCRIPT), "bridge", "prometheus", f"127.0.0.1:{port}"]
        environment = {**os.environ, "CROSSGLG_EDGE_EVENTS": f"ipc://{tmp_path / 'events'}"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 2
    assert f"127.0.0.1:{port} cannot be listened at" in done.stderr
    assert "Traceback" not in done.stderr
