"""The MQTT bridge beside a real mosquitto: one that is killed, that hangs, that asks who is there, and TLS."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edge.bridge import Mqtt
from edge.config import MqttBridge
from streams.errors import BridgeError

if TYPE_CHECKING:
    from tests.conftest import EventSource, Listening, RunBridge

paho = pytest.importorskip("paho.mqtt.client", reason="needs the extra `bridge`")
# Debian has it where only root looks.
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="needs a broker: apt-get install mosquitto")


def until(is_so: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Return the first true value."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := is_so()):
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.02)
    return value


class Broker:
    """A mosquitto that can be killed and started again; it keeps what is retained."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.folder = folder
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            self.port = probe.getsockname()[1]
        self.config = folder / "mosquitto.conf"
        persistence = ("persistence true", f"persistence_location {folder}/", "autosave_interval 1")
        # Started by root it would become another user, who may not read this folder.
        general = ("user root", "autosave_on_changes true", *persistence)
        self.config.write_text("\n".join([f"listener {self.port} 127.0.0.1", *lines, *general, ""]), encoding="utf-8")
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen([str(MOSQUITTO), "-c", str(self.config)], stdout=log, stderr=log)
        until(self.is_served)
        return self.process

    def is_served(self) -> bool:
        assert self.process.poll() is None, (self.folder / "mosquitto.log").read_text("utf-8")
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Listener:
    """Subscribe to all topics, and connect again when the broker is back; remember what came, in order."""

    def __init__(self, broker: Broker, prepare: Callable[[Any], None] = lambda client: None) -> None:
        self.messages: list[tuple[str, str, bool]] = []
        self.is_subscribed = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.reconnect_delay_set(1, 1)
        prepare(self.client)
        self.client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self.client.on_subscribe = lambda *_: self.is_subscribed.set()
        self.client.on_message = lambda client, userdata, message: self.messages.append(
            (message.topic, message.payload.decode(), message.retain)
        )
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        assert self.is_subscribed.wait(10)

    def bodies(self, beginning: str = "crossglg-edge/box/event/") -> list[dict[str, Any]]:
        return [json.loads(text) for topic, text, _ in self.messages if topic.startswith(beginning) and text]

    def labels(self) -> list[str]:
        return [body["label"] for body in self.bodies()]

    def of(self, topic: str) -> list[str]:
        return [text for own, text, _ in self.messages if own == topic]

    def retained(self) -> dict[str, str]:
        return {topic: text for topic, text, is_retained in self.messages if is_retained}

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path, "allow_anonymous true")
    yield broker
    broker.kill()


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    with closing(Listener(broker)) as listener:
        yield listener


def mqtt(broker: Broker, **settings: Any) -> Mqtt:
    return Mqtt(MqttBridge(port=broker.port, node="box", **settings))


AVAILABILITY = "crossglg-edge/box/availability"
WAVE = "homeassistant/event/box/wave/config"


def test_home_assistant_finds_every_label_and_gets_its_events(
    event_source: EventSource, run_bridge: RunBridge, broker: Broker, listener: Listener
) -> None:
    bridge = run_bridge("mqtt", f"127.0.0.1:{broker.port}", lines=('node = "box"',))
    until(lambda: listener.of(AVAILABILITY) == ["offline"])  # no daemon was heard of yet
    event_source.tell_status("wave", "swipe left")
    until(lambda: listener.of(AVAILABILITY) == ["offline", "online"])
    onset = event_source.tell("swipe left")
    event_source.tell("swipe left", "update", id=onset.id)
    event_source.tell("swipe left", "end", id=onset.id)
    until(lambda: len(listener.labels()) == 2)
    assert bridge.stop() == {"received": 2, "sent": 2, "waiting": 0, "dropped": {}}

    first, second = listener.bodies("crossglg-edge/box/event/swipe-left")
    assert (first["event_type"], second["event_type"]) == ("onset", "end")
    assert (first["label"], first["id"], first["score"]) == ("swipe left", onset.id, 0.75)
    assert first["time"].endswith("+00:00")
    until(lambda: listener.of(AVAILABILITY) == ["offline", "online", "offline"])
    with closing(Listener(broker)) as later:
        until(lambda: len(later.messages) == 3)
        retained = later.retained()
    assert set(retained) == {AVAILABILITY, WAVE, "homeassistant/event/box/swipe-left/config"}
    entity = json.loads(retained["homeassistant/event/box/swipe-left/config"])
    assert entity["state_topic"] == "crossglg-edge/box/event/swipe-left"
    assert entity["event_types"] == ["onset", "end"]
    assert (entity["unique_id"], entity["name"]) == ("crossglg_edge_box_swipe-left", "swipe left")
    assert entity["availability_topic"] == AVAILABILITY
    assert entity["device"]["identifiers"] == ["crossglg_edge_box"]
    assert entity["origin"]["name"] == "crossglg-edge"


def test_entities_come_and_go_with_labels_also_while_nobody_looked(
    event_source: EventSource, listening: Listening, broker: Broker, listener: Listener
) -> None:
    bridge = listening(mqtt(broker))
    event_source.tell_status("wave", "bow")
    until(lambda: len(listener.bodies("homeassistant/event/")) == 2)
    event_source.tell_status("wave")
    until(lambda: listener.of("homeassistant/event/box/bow/config")[-1] == "")
    bridge.stop()
    again = listening(mqtt(broker))
    event_source.tell_status("kick")
    until(lambda: listener.of("homeassistant/event/box/kick/config"))
    until(lambda: listener.of(WAVE)[-1] == "")
    # Home Assistant starts again.
    num_before = len(listener.of("homeassistant/event/box/kick/config"))
    listener.client.publish("homeassistant/status", "online", qos=1)
    until(lambda: len(listener.of("homeassistant/event/box/kick/config")) > num_before)
    assert listener.of(AVAILABILITY)[-1] == "online"
    again.stop()


def test_a_bridge_that_is_killed_is_reported_by_its_last_will(
    event_source: EventSource, run_bridge: RunBridge, broker: Broker, listener: Listener
) -> None:
    bridge = run_bridge("mqtt", f"127.0.0.1:{broker.port}", lines=('node = "box"', 'discovery = ""'))
    event_source.tell_status("wave")
    until(lambda: listener.of(AVAILABILITY)[-1:] == ["online"])
    bridge.process.kill()
    until(lambda: listener.of(AVAILABILITY)[-1] == "offline")
    assert {topic for topic, _, _ in listener.messages} == {AVAILABILITY}


def test_a_silent_daemon_makes_its_entities_unavailable(
    event_source: EventSource, listening: Listening, broker: Broker, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.bridge.listener._SILENT_S", 0.5)
    listening(mqtt(broker))
    event_source.tell_status("wave")
    until(lambda: listener.of(AVAILABILITY)[-2:] == ["online", "offline"])


def test_events_of_the_time_without_a_broker_come_in_order_when_it_is_back(
    event_source: EventSource, listening: Listening, broker: Broker, listener: Listener
) -> None:
    bridge = listening(mqtt(broker, keep_events=4))
    event_source.tell_status("a")
    event_source.tell("before")
    until(lambda: listener.labels() == ["before"])
    broker.kill()
    until(lambda: "no connection to" in bridge.said())
    for label in "abcdef":
        event_source.tell(label)
    until(lambda: bridge.num_settled() == 3)
    listener.is_subscribed.clear()
    broker.start()
    assert listener.is_subscribed.wait(20)
    until(lambda: listener.labels() == ["before", *"cdef"])
    assert listener.of(AVAILABILITY)[-1] == "online"
    assert bridge.said().count("no connection to") == 1 or "Connection refused" in bridge.said()
    assert bridge.stop() == {"received": 7, "sent": 5, "waiting": 0, "dropped": {"full": 2}}


def test_what_a_broker_that_hangs_did_not_acknowledge_is_sent_again_in_order(
    event_source: EventSource,
    listening: Listening,
    broker: Broker,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.bridge.mqtt._ANSWER_S", 0.5)
    bridge = listening(mqtt(broker))
    event_source.tell("before")
    until(lambda: listener.labels() == ["before"])
    broker.process.send_signal(signal.SIGSTOP)
    for label in "abc":
        event_source.tell(label)
    until(lambda: "it acknowledges nothing" in bridge.said())
    broker.process.send_signal(signal.SIGCONT)
    until(lambda: bridge.num_settled() == 4)
    # At least once: the one that was under way may come twice.
    until(lambda: list(dict.fromkeys(listener.labels())) == ["before", *"abc"])
    assert bridge.stop() == {"received": 4, "sent": 4, "waiting": 0, "dropped": {}}


def test_events_that_no_broker_took_in_time_are_dropped_and_a_stop_does_not_wait(
    event_source: EventSource, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.bridge.mqtt._ANSWER_S", 0.2)
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        bridge = listening(Mqtt(MqttBridge(port=mute.getsockname()[1], keep_s=0.4)))
        event_source.tell("a")
        until(lambda: "it takes the connection and says nothing" in bridge.said())
        until(lambda: bridge.num_settled() == 1)
        event_source.tell("b")
        until(lambda: bridge.num_received() == 2)
        assert bridge.stop()["dropped"] == {"old": 1, "stopped": 1}


def test_a_password_from_a_file_lets_a_bridge_in_and_a_wrong_one_is_told(
    event_source: EventSource, listening: Listening, tmp_path: Path
) -> None:
    passwd = shutil.which("mosquitto_passwd")
    if passwd is None:
        pytest.skip("needs mosquitto_passwd")
    users, secret = tmp_path / "users", tmp_path / "password"
    subprocess.run([passwd, "-c", "-b", str(users), "box", "right"], check=True, capture_output=True)
    broker = Broker(tmp_path, "allow_anonymous false", f"password_file {users}")
    try:
        secret.write_text("wrong\n", encoding="utf-8")
        with pytest.raises(BridgeError, match="others may read it"):
            mqtt(broker, user="box", password_file=str(secret))
        secret.chmod(0o600)
        refused = listening(mqtt(broker, user="box", password_file=str(secret)))
        until(lambda: "it refuses: Not authorized" in refused.said())
        refused.stop()
        secret.write_text("right\n", encoding="utf-8")
        bridge = listening(mqtt(broker, user="box", password_file=str(secret)))
        event_source.tell("wave")
        until(lambda: bridge.num_settled() == 1)
        assert bridge.stop()["sent"] == 1
        assert "right" not in bridge.said()
    finally:
        broker.kill()


# paho leaves the socket of a handshake that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_with_tls_both_ends_prove_who_they_are(
    event_source: EventSource, listening: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")

    def run(*words: str) -> None:
        subprocess.run([str(openssl), *words], cwd=tmp_path, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test")
    for name, subject in (("broker", "/CN=127.0.0.1"), ("client", "/CN=box")):
        run("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        (tmp_path / "extensions").write_text("subjectAltName=IP:127.0.0.1\n", encoding="utf-8")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions")
        run("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    files = [f"{key} {tmp_path / name}" for key, name in (("cafile", "ca.pem"), ("certfile", "broker.pem"))]
    broker = Broker(
        tmp_path, *files, f"keyfile {tmp_path / 'broker.key'}", "require_certificate true",
        "use_identity_as_username true",
    )  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path))
    own = {"cert_file": "~/client.pem", "key_file": "~/client.key"}
    try:
        (tmp_path / "client.key").chmod(0o640)
        with pytest.raises(BridgeError, match="others may read it"):
            mqtt(broker, tls=True, ca_file="~/ca.pem", **own)
        (tmp_path / "client.key").chmod(0o600)
        stranger = listening(mqtt(broker, tls=True))
        until(lambda: "CERTIFICATE_VERIFY_FAILED" in stranger.said())
        stranger.stop()
        bridge = listening(mqtt(broker, tls=True, ca_file="~/ca.pem", **own))
        event_source.tell("wave")
        until(lambda: bridge.num_settled() == 1)
        assert bridge.stop()["sent"] == 1
    finally:
        broker.kill()
