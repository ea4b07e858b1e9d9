"""The one configuration: a TOML file, every key with its default and meaning here, unknown keys refused."""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import platformdirs
from msgspec import Meta

from streams import clients
from streams.errors import ConfigError
from streams.k4a_settings import K4aSettings
from streams.webcam_settings import WebcamSettings

_APP = "crossglg-edge"
log = logging.getLogger("crossglg_edge")
DEFAULT_PATH = platformdirs.user_config_path(_APP) / "config.toml"
# What ZeroMQ takes: a port for tcp, anything for another transport.
_ENDPOINT = re.compile(r"tcp://[^\s/]+:(\d{1,5}|\*)|(?!tcp:)[a-z]+://\S.*")


# As msgspec has it.
_UNKNOWN_KEY = re.compile(r"unknown field `(?P<key>[^`]+)`(?: - at `\$\.(?P<section>\w+)`)?")
_EXPECTED_ENDPOINT = "expected an endpoint such as tcp://127.0.0.1:5562 or ipc:///run/crossglg/control"


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Sockets(_Section, frozen=True):
    """ZeroMQ endpoints. They carry no authentication: keep them on loopback or a trusted network."""

    frames: Annotated[
        str, Meta(description="skeleton frames in; publishers connect. CROSSGLG_EDGE_FRAMES overrides it")
    ] = clients.FRAMES
    events: Annotated[str, Meta(description="events, status and log out. CROSSGLG_EDGE_EVENTS overrides it")] = (
        clients.EVENTS
    )
    control: Annotated[
        str, Meta(description="control requests. CROSSGLG_EDGE_CONTROL overrides it, and `--endpoint` overrides both")
    ] = clients.CONTROL

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not _ENDPOINT.fullmatch(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)!r}: {_EXPECTED_ENDPOINT}")


class Stream(_Section, frozen=True):
    """Which frames are taken."""

    max_rate_fps: Annotated[
        float, Meta(gt=0, le=1000, description="frames of a source that come closer together are dropped")
    ] = 120.0
    min_rate_fps: Annotated[
        float, Meta(gt=0, le=1000, description="below this rate `status` warns and an enrollment is refused")
    ] = 7.0
    max_gap_s: Annotated[
        float, Meta(gt=0, le=10, description="a body unseen for longer is another body afterwards")
    ] = 0.7
    max_age_s: Annotated[
        float, Meta(gt=0, le=60, description="a frame that waited longer, on a machine that is too slow, is dropped")
    ] = 1.0
    takeover_s: Annotated[
        float, Meta(gt=0, le=3600, description="silence after which another publisher may use a source's name")
    ] = 1.0
    max_bodies: Annotated[int, Meta(ge=1, le=256, description="bodies followed at once, over all sources")] = 32


class Windows(_Section, frozen=True):
    """The pieces of the stream that are compared with the prototypes."""

    lengths_s: Annotated[
        tuple[Annotated[float, Meta(gt=0.1, le=20)], ...],
        Meta(min_length=1, max_length=8, description="window lengths, seconds"),
    ] = (0.6, 0.9, 1.35, 2.0, 3.0, 4.5, 6.75)
    hop_s: Annotated[float, Meta(gt=0, le=5, description="time between two decisions about a body")] = 0.2
    max_stretch: Annotated[
        float,
        Meta(
            ge=1,
            le=5,
            description="an example is compared with windows up to this many times longer or shorter",
        ),
    ] = 2.0
    min_filled: Annotated[
        float, Meta(gt=0, le=1, description="share of a window that a body that just appeared must fill")
    ] = 0.7
    min_motion_m: Annotated[
        float, Meta(ge=0, le=10, description="a window in which no joint travels this far is not encoded")
    ] = 0.15
    min_recent_motion_m: Annotated[
        float,
        Meta(
            ge=0, le=10, description="nothing is encoded for a body of which no joint traveled this far in `recent_s`"
        ),
    ] = 0.1
    recent_s: Annotated[float, Meta(gt=0, le=10, description="how long ago `min_recent_motion_m` looks back")] = 0.5


class Events(_Section, frozen=True):
    """When a match becomes an event."""

    min_score: Annotated[float, Meta(ge=0, le=1, description="score that a match must reach")] = 0.5
    hits: Annotated[int, Meta(ge=1, le=20, description="decisions that must agree on a label")] = 2
    settle_s: Annotated[
        float,
        Meta(ge=0, le=3600, description="wait so long for a nearer match before an event is told; 0: tell it at once"),
    ] = 0.0
    hold_rise: Annotated[
        float,
        Meta(
            ge=0,
            le=10,
            description="an event goes on while its distance is at most this share of the threshold above its lowest",
        ),
    ] = 0.07
    release_s: Annotated[float, Meta(ge=0, le=3600, description="an event ends this long after its last match")] = 0.7
    update_s: Annotated[float, Meta(gt=0, le=3600, description="time between two updates of a lasting event")] = 1.0


class Enroll(_Section, frozen=True):
    """How an example is captured from the live stream."""

    stillness_s: Annotated[
        float, Meta(ge=0, le=60, description="the longest wait for the person to stand still before the countdown")
    ] = 4.0
    countdown_s: Annotated[
        float, Meta(ge=0, le=60, description="time to get ready; 0: capture at once, without waiting for stillness")
    ] = 3.0
    capture_s: Annotated[float, Meta(gt=0.5, le=20, description="the longest example")] = 5.0
    rest_s: Annotated[
        float, Meta(gt=0, le=20, description="the capture ends when the person rests this long after moving")
    ] = 0.8
    min_example_s: Annotated[float, Meta(gt=0, le=20, description="the shortest example, after trimming")] = 0.4
    min_joints: Annotated[float, Meta(ge=0, le=1, description="share of joints that must be seen")] = 0.6


class Model(_Section, frozen=True):
    """The encoder."""

    bundle: Annotated[str, Meta(description="folder of the model bundle; empty: the one that is shipped")] = ""
    engine: Annotated[
        str, Meta(description="what runs it: auto, onnxruntime, openvino, tensorrt or oip://HOST:PORT/MODEL (gRPC)")
    ] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        Meta(description="its arithmetic: auto, fp32, bf16 or fp16; refused where the engine has none such"),
    ] = "auto"
    num_threads: Annotated[int, Meta(ge=1, le=64, description="its threads on the CPU")] = 1
    # "calibrated" is older than the name of the classifier, and stays as it stands in people's files.
    matching: Annotated[
        Literal["cosine", "calibrated"],
        Meta(
            description="what chooses the label: `cosine`, the smallest distance; `calibrated`, the paper's "
            "distribution classifier, of a bundle with statistics"
        ),
    ] = "cosine"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|onnxruntime|openvino|tensorrt|oip://[^/\s]+:\d{1,5}/[^/\s]+", self.engine):
            raise ValueError(
                f"engine is {self.engine!r}: expected auto, onnxruntime, openvino, tensorrt or oip://HOST:PORT/MODEL"
            )


class GalleryFile(_Section, frozen=True):
    """Where the prototypes are kept."""

    path: Annotated[str, Meta(description="SQLite file of the prototypes")] = str(
        platformdirs.user_data_path(_APP) / "gallery.db"
    )
    backups: Annotated[
        int, Meta(ge=0, le=1000, description="daily copies that the daemon keeps in `backups` beside it; 0: none")
    ] = 7


class Review(_Section, frozen=True):
    """What is kept beside the gallery for `crossglg-edge review`: short clips of joints, no images."""

    enabled: Annotated[bool, Meta(description="whether events and near misses are kept")] = True
    near_miss: Annotated[
        float, Meta(ge=1, le=3, description="a near miss is at most so many times as far as the label's threshold")
    ] = 1.35
    max_per_minute: Annotated[
        int, Meta(ge=1, le=600, description="near misses of one source that are kept in a minute")
    ] = 20
    max_clips: Annotated[int, Meta(ge=1, le=100_000, description="clips that are kept; older ones go")] = 200
    max_megabytes: Annotated[float, Meta(ge=0.5, le=10_000, description="room that the clips may take")] = 32.0


class WordsUse(_Section, frozen=True):
    """What the words of labels are used for, where `crossglg-edge setup words` was run."""

    enabled: Annotated[
        bool, Meta(description="a label's words count beside its examples, and may stand alone; false: never")
    ] = True
    text_encoder: Annotated[str, Meta(description="folder of the text encoder; empty: where `setup words` puts it")] = (
        ""
    )


class Web(_Section, frozen=True):
    """The page of `crossglg-edge web` and `serve --web`; beyond loopback by TLS, to who has the token."""

    host: Annotated[
        str,
        Meta(
            min_length=1,
            description="the address that it listens at; 0.0.0.0: other devices reach it, after `setup web-access`",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="its port; 0: any that is free")] = 5580
    certificate: Annotated[str, Meta(description="its certificate, PEM; empty: what `setup web-access` has made")] = ""
    key: Annotated[str, Meta(description="the certificate's private key, PEM; empty: likewise")] = ""
    token: Annotated[str, Meta(description="a file that holds the token; empty: likewise")] = ""


EventType = Literal["onset", "update", "end"]
EventTypes = Annotated[
    tuple[EventType, ...], Meta(min_length=1, description="which messages of an event: onset, update, end")
]
Labels = Annotated[tuple[str, ...], Meta(description="events of these labels alone; empty: of all")]
Port = Annotated[int, Meta(ge=1, le=65535, description="the port there")]
# An address in a bridge's own name space: what MQTT and OSC take literally.
_NAME = re.compile(r"[A-Za-z0-9_-]*")
_PATH = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")


class MqttBridge(_Section, frozen=True):
    """`crossglg-edge bridge mqtt`: events to an MQTT broker, with discovery by Home Assistant."""

    host: Annotated[str, Meta(min_length=1, description="the broker")] = "127.0.0.1"
    port: Port = 1883
    user: Annotated[str, Meta(description="user name; empty: none")] = ""
    password_file: Annotated[str, Meta(description="file with the password, of mode 0600; empty: none")] = ""
    tls: Annotated[bool, Meta(description="encrypt, and check the broker's certificate")] = False
    ca_file: Annotated[str, Meta(description="certificate authority that signed it; empty: the system's")] = ""
    cert_file: Annotated[str, Meta(description="this client's own certificate; empty: none")] = ""
    key_file: Annotated[str, Meta(description="the key of `cert_file`, of mode 0600")] = ""
    node: Annotated[
        str, Meta(description="name of this device in topics: A-Z a-z 0-9 _ -; empty: made of the host's name")
    ] = ""
    prefix: Annotated[str, Meta(description="topics are PREFIX/NODE/event/LABEL and PREFIX/NODE/availability")] = (
        "crossglg-edge"
    )
    discovery: Annotated[str, Meta(description="Home Assistant's discovery prefix; empty: no discovery")] = (
        "homeassistant"
    )
    types: EventTypes = ("onset", "end")
    labels: Labels = ()
    keep_events: Annotated[
        int, Meta(ge=1, le=100_000, description="events kept while the broker is away; older ones are dropped")
    ] = 1000
    keep_s: Annotated[
        float, Meta(gt=0, le=604_800, description="for so long: an event that comes later does more harm than none")
    ] = 60.0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.node):
            raise ValueError(f"node is {self.node!r}: expected A-Z a-z 0-9 _ - alone")
        for name, path in (("prefix", self.prefix), ("discovery", self.discovery or "none")):
            if not _PATH.fullmatch(path):
                raise ValueError(f"{name} is {path!r}: expected levels of A-Z a-z 0-9 _ - with / between them")


class OscBridge(_Section, frozen=True):
    """`crossglg-edge bridge osc`: events as Open Sound Control, over UDP."""

    host: Annotated[str, Meta(min_length=1, description="who listens")] = "127.0.0.1"
    port: Port = 9000
    prefix: Annotated[str, Meta(description="addresses are /PREFIX/event, /PREFIX/label/LABEL and /PREFIX/up")] = (
        "crossglg"
    )
    labels: Labels = ()

    def __post_init__(self) -> None:
        if not _PATH.fullmatch(self.prefix):
            raise ValueError(f"prefix is {self.prefix!r}: expected parts of A-Z a-z 0-9 _ - with / between them")


class LslBridge(_Section, frozen=True):
    """`crossglg-edge bridge lsl`: events as a marker stream of Lab Streaming Layer."""

    name: Annotated[str, Meta(min_length=1, description="name of the stream; its type is Markers")] = "crossglg-edge"
    markers: Annotated[
        Literal["short", "json"], Meta(description="what a marker says: short, `onset/wave`; json, the whole event")
    ] = "short"
    types: EventTypes = ("onset", "end")
    labels: Labels = ()


class PrometheusBridge(_Section, frozen=True):
    """`crossglg-edge bridge prometheus`: the daemon's counters at http://HOST:PORT/metrics."""

    host: Annotated[str, Meta(min_length=1, description="where to listen; it asks nobody for a password")] = "127.0.0.1"
    port: Port = 9560
    max_labels: Annotated[
        int, Meta(ge=1, le=10_000, description="actions with counters of their own; further ones count as (other)")
    ] = 100


class WebhookBridge(_Section, frozen=True):
    """`crossglg-edge bridge webhook`: an HTTP POST for each event."""

    url: Annotated[str, Meta(description="http:// or https://; `webhook URL` overrides it")] = ""
    url_file: Annotated[str, Meta(description="file with the URL, of mode 0600, where it is a secret")] = ""
    header: Annotated[str, Meta(description="name of a header that proves who calls")] = "Authorization"
    header_file: Annotated[str, Meta(description="file with its value, of mode 0600; empty: no such header")] = ""
    ca_file: Annotated[str, Meta(description="certificate authority of the server; empty: the system's")] = ""
    timeout_s: Annotated[float, Meta(gt=0, le=300, description="the longest that one call may take")] = 5.0
    retries: Annotated[
        int, Meta(ge=0, le=10, description="further calls where the server is away or fails, after 1, 2, 4 ... seconds")
    ] = 3
    max_per_minute: Annotated[int, Meta(ge=1, le=6000, description="events beyond these are dropped")] = 60
    types: EventTypes = ("onset",)
    labels: Labels = ()
    keep_events: Annotated[
        int, Meta(ge=1, le=100_000, description="events kept while the server is away; older ones are dropped")
    ] = 100
    keep_s: Annotated[
        float, Meta(gt=0, le=604_800, description="for so long: an event that comes later does more harm than none")
    ] = 60.0


class CommandBridge(_Section, frozen=True):
    """`crossglg-edge bridge command`: a program for each event."""

    argv: Annotated[
        tuple[str, ...], Meta(description="the program and its arguments, without a shell; `command ARGV` overrides it")
    ] = ()
    timeout_s: Annotated[
        float, Meta(gt=0, le=86_400, description="after this it is ended, and all that it has started")
    ] = 10.0
    max_per_minute: Annotated[int, Meta(ge=1, le=6000, description="events beyond these are dropped")] = 60
    types: EventTypes = ("onset",)
    labels: Labels = ()


class Bridges(_Section, frozen=True):
    """Where `crossglg-edge bridge` takes events to: one section for each of its commands."""

    mqtt: MqttBridge = MqttBridge()
    osc: OscBridge = OscBridge()
    lsl: LslBridge = LslBridge()
    prometheus: PrometheusBridge = PrometheusBridge()
    webhook: WebhookBridge = WebhookBridge()
    command: CommandBridge = CommandBridge()


class Config(_Section, frozen=True):
    """Everything a user can set."""

    camera: Annotated[str, Meta(description="demo, zmq, replay:PATH, webcam[:N], video:FILE or k4a[:FILE.mkv]")] = "zmq"
    sockets: Sockets = Sockets()
    stream: Stream = Stream()
    windows: Windows = Windows()
    events: Events = Events()
    enroll: Enroll = Enroll()
    model: Model = Model()
    gallery: GalleryFile = GalleryFile()
    review: Review = Review()
    words: WordsUse = WordsUse()
    web: Web = Web()
    k4a: K4aSettings = K4aSettings()
    webcam: WebcamSettings = WebcamSettings()
    bridge: Bridges = Bridges()


# Keys that former versions had: people's files still hold them, and they change nothing.
_FORMER_KEYS = {"events": ("out_of", "sure_score", "hold_score", "refractory_s")}


def read_config(
    path: Path | None = None, endpoint: str | None = None, *, environment: Mapping[str, str] = os.environ
) -> Config:
    """Read the given file, or the user's own where it exists, or take the defaults.

    CROSSGLG_EDGE_FRAMES, _EVENTS and _CONTROL in the environment, where they are not empty, override the file's
    [sockets]; `endpoint` overrides where the control socket is. Raises ConfigError that names the key, what it
    expects and what it got.
    """
    config = _read_file(path)
    names = {field: f"CROSSGLG_EDGE_{field.upper()}" for field in Sockets.__struct_fields__}
    given = {field: (name, environment[name]) for field, name in names.items() if environment.get(name)}
    if endpoint is not None:
        given["control"] = ("--endpoint", endpoint)
    for name, address in given.values():
        if not _ENDPOINT.fullmatch(address):
            raise ConfigError(f"{name} is {address!r}: {_EXPECTED_ENDPOINT}", code="bad_endpoint")
    overridden = {field: address for field, (_, address) in given.items()}
    return msgspec.structs.replace(config, sockets=msgspec.structs.replace(config.sockets, **overridden))


def _read_file(path: Path | None) -> Config:
    if path is None:
        if not DEFAULT_PATH.exists():
            return Config()
        path = DEFAULT_PATH
    try:
        content = msgspec.toml.decode(path.read_bytes())
        for name, keys in _FORMER_KEYS.items():
            section = content.get(name)
            for key in keys if isinstance(section, dict) else ():
                if section.pop(key, None) is not None:
                    log.info("%s: %s.%s is not used any more: you may remove it", path, name, key)
        return msgspec.convert(content, Config)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path}: {error}",
            hint=f"{_guess(str(error))}`crossglg-edge config` prints every key with its meaning and default.",
        ) from error


def _guess(problem: str) -> str:
    """Return which key was probably meant, "" where none is near or the problem is another."""
    found = _UNKNOWN_KEY.search(problem)
    if found is None:
        return ""
    key, name = found["key"], found["section"] or ""
    of_section = {"": (*Config.__struct_fields__,)}
    for field in msgspec.structs.fields(Config):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            of_section[field.name] = field.type.__struct_fields__
    near = difflib.get_close_matches(key, of_section.get(name, ()), n=1)
    if near:
        return f"Did you mean `{near[0]}`? "
    elsewhere = [f"[{section}]" for section, keys in of_section.items() if section and key in keys]
    return f"`{key}` belongs to {' or '.join(elsewhere)}. " if elsewhere else ""


def config_toml(config: Config, *, changed_only: bool = False) -> str:
    """Return the configuration as a commented TOML file; `changed_only` leaves out what is as by default."""
    lines: list[str] = ["# `crossglg-edge config` prints every key with its meaning."] if changed_only else []

    def fields(section: msgspec.Struct, lead: str) -> None:
        nested = []
        usual = type(section)()
        for field in msgspec.structs.fields(section):
            value = getattr(section, field.name)
            if changed_only and value == getattr(usual, field.name):
                continue
            if isinstance(value, msgspec.Struct):
                nested.append((field.name, value))
                continue
            lines.extend((f"# {_description(field.type)}", f"{field.name} = {_toml(value)}"))
        for name, value in nested:
            lines.extend(("", f"# {(type(value).__doc__ or '').strip()}", f"[{lead}{name}]"))
            fields(value, f"{lead}{name}.")

    fields(config, "")
    return "\n".join(lines) + "\n"


def _description(annotation: Any) -> str:
    meta = next((m for m in getattr(annotation, "__metadata__", ()) if isinstance(m, Meta)), None)
    return (meta.description or "") if meta else ""


def _toml(value: object) -> str:
    """JSON is TOML for strings, numbers, booleans and lists."""
    return msgspec.json.encode(value).decode()
