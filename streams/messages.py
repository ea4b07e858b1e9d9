"""Every message of the wire format but frames in: events, scores, skeletons, requests, answers, status, log, as maps.

The only module besides streams.wire that knows MessagePack. No numpy here: whoever only sends a request, or only
listens to events, starts in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec

from streams.errors import WireError
from streams.event import Event
from streams.scores import Scores
from streams.skeleton import Skeleton

WIRE_VERSION = 1

T = TypeVar("T")


class _Version(msgspec.Struct):
    v: int


class Request(msgspec.Struct, kw_only=True):
    """Ask the daemon for something; a change that is sent again is answered by the first answer."""

    id: str
    cmd: str
    v: int = WIRE_VERSION
    args: dict[str, Any] = {}


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Say why something was refused: a stable word for scripts, a sentence for people, and what to do, or ""."""

    code: str
    message: str
    hint: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer a request that was carried out; `result` is as edge.protocol has it."""

    v: int = WIRE_VERSION
    id: str
    ok: Literal[True] = True
    result: Any


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Answer a request that was refused; nothing has changed."""

    v: int = WIRE_VERSION
    id: str
    ok: Literal[False] = False
    error: Failure


_request_decoder = msgspec.msgpack.Decoder(Request)
_event_decoder = msgspec.msgpack.Decoder(Event)
_any_decoder = msgspec.msgpack.Decoder()
_version_decoder = msgspec.msgpack.Decoder(_Version)
_encoder = msgspec.msgpack.Encoder()


def encode_event(event: Event) -> list[bytes]:
    """Return the two parts of an event message."""
    return [f"event.{event.source}.{event.body}".encode(), _encoder.encode(event)]


def encode_scores(scores: Scores) -> list[bytes]:
    """Return the two parts of a message of scores."""
    return [f"scores.{scores.source}.{scores.body}".encode(), _encoder.encode(scores)]


def encode_skeleton(skeleton: Skeleton) -> list[bytes]:
    """Return the two parts of a message of what was seen."""
    return [f"skeleton.{skeleton.source}".encode(), _encoder.encode(skeleton)]


def decode_event(payload: bytes) -> Event:
    """Return the event in a message's second part. Raises WireError."""
    return decode(_event_decoder, payload)


def encode_map(message: Mapping[str, Any] | msgspec.Struct) -> bytes:
    """Return a status, log or control message as MessagePack."""
    return _encoder.encode(message)


def decode_map(payload: bytes) -> dict[str, Any]:
    """Return a status, log or control message. Raises WireError unless it is a map."""
    message = decode(_any_decoder, payload)
    if not isinstance(message, dict):
        raise WireError(f"expected a map, got {type(message).__name__}")
    return message


def decode_request(payload: bytes) -> Request:
    """Return a control request. Raises WireError."""
    return decode(_request_decoder, payload)


def decode(decoder: msgspec.msgpack.Decoder[T], payload: bytes) -> T:
    """Return what a decoder makes of a payload of this wire version. Raises WireError."""
    try:
        message = decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # Another major version may have another shape: name that first.
        _check_version(payload)
        raise WireError(f"not a cglg/1 message: {error}", hint="The format is in docs/publish.md.") from error
    version = getattr(message, "v", WIRE_VERSION)
    if version != WIRE_VERSION:
        _check_version(payload)
    return message


def _check_version(payload: bytes) -> None:
    try:
        version = _version_decoder.decode(payload).v
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if version != WIRE_VERSION:
        raise WireError(
            f"version {version}: this program speaks cglg/{WIRE_VERSION}",
            code="unsupported_version",
            hint="Use the same major version of crossglg-edge at both ends.",
        )
