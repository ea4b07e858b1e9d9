"""Events to an MQTT broker: at least once, in order, kept for a while when the broker is away."""

from __future__ import annotations

import logging
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from edge.bridge.backlog import Backlog
from edge.bridge.bridge import Counts, Told, library
from edge.bridge.home_assistant import describe_entity, discovery_topic
from edge.bridge.names import address_name
from edge.bridge.secret import check_private, read_secret, trust
from edge.config import MqttBridge as MqttConfig
from edge.protocol import StatusAnswer
from streams import BridgeError

log = logging.getLogger("crossglg_edge")

_POLL_S = 0.2
_CONNECT_S = 5.0
# A broker that says nothing for so long, to a message or to the question whether it is there, is gone.
_ANSWER_S = 10.0
_KEEP_ALIVE_S = 15
_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 60.0
_GRACE_S = 2.0


class Mqtt:
    """Publish events from a thread of its own, one after another, each acknowledged before the next (QoS 1).

    A connection that is lost is given up with all that it holds, and a new one is made: what was not acknowledged is
    sent again first. So a message may come twice, never too late, and never out of order.
    """

    def __init__(self, config: MqttConfig) -> None:
        self.counts = Counts()
        self.target = f"the MQTT broker {config.host}:{config.port}"
        self.types = config.types
        self.labels = config.labels
        self._config = config
        self._paho = library("paho.mqtt.client", "paho-mqtt")
        self._password = read_secret(config.password_file, "password") if config.password_file else None
        if self._password and not config.user:
            raise BridgeError("password_file is given, but no user", hint="Set user in [bridge.mqtt] of the config.")
        self._tls = _tls(config) if config.tls else None
        self._node = config.node or address_name(socket.gethostname())
        self._topic = f"{config.prefix}/{self._node}"
        self._backlog = Backlog(config.keep_events, config.keep_s, self.counts)
        # What the daemon has, None where it is silent, and whether it was ever heard of.
        self._enrolled: tuple[str, ...] | None = None
        self._stopping = threading.Event()
        self._said = ""
        self._thread = threading.Thread(target=self._work, name="mqtt", daemon=True)
        self._thread.start()

    # The thread that listens to the daemon.

    def take(self, told: Told) -> None:
        """Keep an event for the thread that publishes."""
        self._backlog.put(told)

    def see(self, status: StatusAnswer | None) -> None:
        """Take over which labels there are; with a silent daemon nothing is available."""
        self._enrolled = None if status is None else status.gallery.labels

    def step(self, now_s: float) -> None:
        """Drop what waited for too long."""
        self._backlog.drop_old()
        if not self._thread.is_alive():
            raise RuntimeError("the thread that publishes has ended")

    def close(self) -> None:
        """Publish what is waiting and that nothing is available any more, for two seconds at most."""
        self._stopping.set()
        self._thread.join(timeout=_GRACE_S)

    # The thread that publishes.

    def _work(self) -> None:
        delay_s = _FIRST_DELAY_S
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                with self._connected() as session:
                    self._say("")
                    session.serve()
            except (OSError, UnicodeError) as error:  # UnicodeError: a host that is no name
                self._say(str(error) or repr(error))
            # Who is thrown out at once, as by another client of the same name, does not come back at once.
            if time.monotonic() - began_s > _LONGEST_DELAY_S:
                delay_s = _FIRST_DELAY_S
            self._stopping.wait(delay_s)
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    def _say(self, why: str) -> None:
        """Log why there is no connection, once each, and that there is one."""
        if not why:
            log.info("connected to %s as %s", self.target, self._node)
        elif why != self._said and not self._stopping.is_set():
            log.warning("no connection to %s: %s; trying again, events are kept", self.target, why)
        self._said = why

    @contextmanager
    def _connected(self) -> Iterator[_Session]:
        """Yield a connection that the broker has accepted. Raises OSError."""
        session = _Session(self._client(), self._config, self._topic, self._node, self)
        try:
            session.connect()
            yield session
        finally:
            session.close()

    def _client(self) -> Any:
        paho = self._paho
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=f"crossglg-edge-{self._node}", reconnect_on_failure=False
        )
        client.connect_timeout = _CONNECT_S
        if self._config.user:
            client.username_pw_set(self._config.user, self._password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        return client

    @property
    def enrolled(self) -> tuple[str, ...] | None:
        """The labels that there are now; None: the daemon is silent."""
        return self._enrolled

    def next_told(self) -> Told | None:
        """Return the oldest event that waits; None where none comes within a moment."""
        return self._backlog.take(_POLL_S)

    def settle(self, told: Told, *, is_acknowledged: bool) -> None:
        """Count an event that the broker has, or keep it for the next connection."""
        if is_acknowledged:
            self.counts.send()
        else:
            self._backlog.give_back(told)

    @property
    def is_stopping(self) -> bool:
        """Whether what waits is to be sent and no more."""
        return self._stopping.is_set()


class _Session:
    """One connection, from its birth message to its last one."""

    def __init__(self, client: Any, config: MqttConfig, topic: str, node: str, bridge: Mqtt) -> None:
        self._client, self._config, self._topic, self._node, self._bridge = client, config, topic, node, bridge
        self._availability = f"{topic}/availability"
        self._answer: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._heard: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        # What this connection has told the broker, and what the broker still had from another one.
        self._told_online: bool | None = None
        self._announced: set[str] = set()
        self._left_over: set[str] = set()
        client.will_set(self._availability, "offline", qos=1, retain=True)
        client.on_connect = lambda client, userdata, flags, reason, properties: self._answer.put(
            str(reason) if reason.is_failure else ""
        )
        client.on_message = lambda client, userdata, message: self._heard.put((message.topic, message.payload))

    def connect(self) -> None:
        """Connect, and listen to Home Assistant. Raises OSError."""
        self._client.connect(self._config.host, self._config.port, keepalive=_KEEP_ALIVE_S)
        self._client.loop_start()
        try:
            refusal = self._answer.get(timeout=_ANSWER_S)
        except queue.Empty:
            raise TimeoutError("it takes the connection and says nothing") from None
        if refusal:
            raise ConnectionRefusedError(f"it refuses: {refusal}")
        if self._config.discovery:
            topics = (f"{self._config.discovery}/status", discovery_topic(self._config.discovery, self._node, "+"))
            self._client.subscribe([(topic, 1) for topic in topics])

    def serve(self) -> None:
        """Publish until the bridge stops. Raises OSError when the connection is lost."""
        while True:
            self._tell_state()
            told = self._bridge.next_told()
            if told is None:
                if self._bridge.is_stopping:
                    self._publish(self._availability, b"offline", retain=True)
                    return
                if not self._client.is_connected():
                    raise ConnectionResetError("it was lost")
                continue
            is_acknowledged = False
            try:
                topic = f"{self._topic}/event/{address_name(told.event.label)}"
                self._publish(topic, told.json(event_type=told.event.type))
                is_acknowledged = True
            finally:
                self._bridge.settle(told, is_acknowledged=is_acknowledged)

    def _tell_state(self) -> None:
        """Tell whether there is a daemon, and describe its labels to Home Assistant, where that has changed."""
        while not self._heard.empty():
            self._hear(*self._heard.get())
        labels = self._bridge.enrolled
        if labels is not None and self._config.discovery:
            self._announce(labels)
        if self._told_online != (labels is not None):
            self._publish(self._availability, b"offline" if labels is None else b"online", retain=True)
            self._told_online = labels is not None

    def _hear(self, topic: str, payload: bytes) -> None:
        if topic == f"{self._config.discovery}/status":
            if payload == b"online":  # Home Assistant has started again
                self._announced.clear()
                self._told_online = None
        elif payload:
            self._left_over.add(topic)

    def _announce(self, labels: tuple[str, ...]) -> None:
        prefix = self._config.discovery
        topics = {discovery_topic(prefix, self._node, label): label for label in labels}
        for topic in sorted(topics.keys() - self._announced):
            entity = describe_entity(
                topics[topic],
                node=self._node,
                state_topic=f"{self._topic}/event/{address_name(topics[topic])}",
                availability_topic=self._availability,
                types=self._config.types,
            )
            self._publish(topic, msgspec.json.encode(entity), retain=True)
        # An empty message takes an entity away: of a label that is gone, also while nobody looked.
        for topic in sorted((self._announced | self._left_over) - topics.keys()):
            self._publish(topic, b"", retain=True)
        self._announced, self._left_over = {*topics}, set()

    def _publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish and wait until the broker has it. Raises OSError."""
        sent = self._client.publish(topic, payload, qos=1, retain=retain)
        end_s = time.monotonic() + _ANSWER_S
        try:
            while not sent.is_published():
                if not self._client.is_connected():
                    raise ConnectionResetError("it was lost")
                if time.monotonic() > end_s:
                    raise TimeoutError("it acknowledges nothing")
                sent.wait_for_publish(_POLL_S)
        except (RuntimeError, ValueError) as error:  # how the library says that it is not connected
            raise ConnectionResetError(str(error)) from error

    def close(self) -> None:
        """Leave: politely where the broker is there."""
        self._client.disconnect()
        self._client.loop_stop()


def _tls(config: MqttConfig) -> ssl.SSLContext:
    """Return how to encrypt and whom to trust. Raises BridgeError."""
    try:
        context = trust(config.ca_file)
        if config.cert_file:
            key = check_private(config.key_file, "key") if config.key_file else None
            context.load_cert_chain(Path(config.cert_file).expanduser(), key)
    except OSError as error:
        raise BridgeError(
            f"the certificates of [bridge.mqtt] cannot be used: {error.strerror or error}",
            hint="ca_file, cert_file and key_file are files in PEM.",
        ) from error
    return context
