"""Recordings: skeleton frames in an MCAP file that Foxglove draws and that a crash cannot lose.

Per source there are two channels, both JSON. `skeleton.<source>` has the whole frame, lossless;
`scene.<source>` has the same bodies as `streams.scene` draws them.

Shapes: J joints of the layout that a frame names.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, BinaryIO

import msgspec
import numpy as np
from mcap.records import Channel, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import Writer

from streams.errors import RecordingError, WireError
from streams.frame import HIGH, Body, SkeletonFrame
from streams.layouts import layout_by_name
from streams.scene import SCENE_JSONSCHEMA, SCENE_SCHEMA, draw
from streams.wire import MAX_COORDINATE_M, WIRE_VERSION, BodyMessage, FrameMessage, validate_frame

RECORDING_VERSION = "1"
SKELETON_SCHEMA = "cglg.SkeletonFrame"
_MAGIC = b"\x89MCAP0\r\n"
# Half of the second that a crash may cost: a frame may come late by the other half.
_SYNC_INTERVAL_NS = 500_000_000
_SLOW_SYNC_S = 0.25
# Of 7 to 10 decimals the one with the smallest files (Kinect v2 and Azure Kinect archives).
_DECIMALS = 8

# Foxglove reads a subset of JSON Schema: no references, no arrays of arrays, one type a field.
_SKELETON_JSONSCHEMA: dict[str, Any] = {
    "title": SKELETON_SCHEMA,
    "description": "What a skeleton sensor saw at one moment; a joint that is missing is null.",
    "type": "object",
    "properties": {
        **{key: {"type": "string"} for key in ("source", "epoch", "clock", "layout", "axes")},
        **{key: {"type": "number"} for key in ("timestamp_s", "t_send_s", "fps")},
        "seq": {"type": "integer"},
        "mirrored": {"type": "boolean"},
        "bodies": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "integer"},
                    "joints_m": {
                        "type": "array",
                        "items": {"type": "object", "properties": {key: {"type": "number"} for key in "xyz"}},
                    },
                    "confidence": {"type": "array", "items": {"type": "integer"}},
                },
            },
        },
    },
}

_Coordinate = Annotated[float, msgspec.Meta(ge=-MAX_COORDINATE_M, le=MAX_COORDINATE_M)]


class _Point(msgspec.Struct, frozen=True, gc=False):
    x: _Coordinate | None
    y: _Coordinate | None
    z: _Coordinate | None


class _Body(msgspec.Struct, frozen=True):
    id: int
    joints_m: list[_Point | None]
    confidence: list[Annotated[int, msgspec.Meta(ge=0, le=HIGH)]]


class _Frame(msgspec.Struct, frozen=True, kw_only=True):
    source: str
    epoch: str
    seq: int
    timestamp_s: float
    t_send_s: float
    clock: str
    layout: str
    axes: str
    mirrored: bool
    fps: float
    bodies: list[_Body]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSummary:
    """Say what is in a recording; `complete` is false where a crash or a full disk cut it off."""

    num_frames: int
    sources: tuple[str, ...]
    duration_s: float
    layouts: tuple[str, ...]
    complete: bool


class RecordingWriter:
    """Write frames to a new file; a crash costs at most the last second of them.

    Every half second, by `log_time_ns`, the open chunk is ended and synced to the disk: `write` waits for it. A slow
    disk is asked half of the time at most. `num_frames` counts the frames that were taken, the last second of them
    perhaps not yet on the disk. Raises RecordingError where the file exists (unless `overwrite`) or cannot be written;
    the writer is closed then, and what it has synced can be read.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        self.num_frames = 0
        self._channels: dict[tuple[str, str], int] = {}
        self._drawn: dict[str, Set[str]] = {}
        if overwrite:
            _check_replaceable(path)
        try:
            self._file = path.open("wb" if overwrite else "xb")
        except FileExistsError as error:
            raise RecordingError(
                f"{path} exists already",
                code="exists",
                hint="Choose another name, or replace the file with --overwrite (overwrite: true).",
            ) from error
        except OSError as error:
            raise RecordingError(
                f"{path} cannot be written: {error.strerror}",
                code="write_failed",
                hint="Name a file in a folder that exists and that you may write to.",
            ) from error
        self._mcap = Writer(self._file)
        with self._closing_on_error():
            self._mcap.start(library="crossglg-edge")
            self._sync()
        self._synced_ns, self._sync_at_s = -_SYNC_INTERVAL_NS, -math.inf
        self._schemas = {
            schema["title"]: self._mcap.register_schema(schema["title"], "jsonschema", msgspec.json.encode(schema))
            for schema in (_SKELETON_JSONSCHEMA, SCENE_JSONSCHEMA)
        }

    def write(self, frame: SkeletonFrame, *, log_time_ns: int) -> None:
        """Append a frame; `log_time_ns` is the wall clock, since the Unix epoch.

        A coordinate that is not finite reads back as NaN. Raises RecordingError if the file cannot
        be written, LayoutError for a frame of unknown layout or axes.
        """
        if self._file.closed:
            raise RecordingError(f"{self.path} is closed", code="closed", hint="Start a new recording.")
        layout = layout_by_name(frame.layout)
        metadata = {
            "version": RECORDING_VERSION,
            "layout": layout.name,
            "joints": ",".join(layout.joints),
            "units": "m",
        }
        scene, drawn = draw(frame, time_ns=log_time_ns, drawn=self._drawn.get(frame.source, frozenset()))
        messages = (
            (self._channel(f"skeleton.{frame.source}", SKELETON_SCHEMA, metadata), _record(frame)),
            (self._channel(f"scene.{frame.source}", SCENE_SCHEMA, {}), scene),
        )
        with self._closing_on_error():
            for channel, content in messages:
                data = msgspec.json.encode(content)
                self._mcap.add_message(channel, log_time_ns, data, log_time_ns, frame.seq & 0xFFFFFFFF)
            # A wall clock may be set back, by hours: that must not put off the sync.
            is_due = not 0 <= log_time_ns - self._synced_ns < _SYNC_INTERVAL_NS
            if is_due and time.monotonic() >= self._sync_at_s:
                self._sync()
                self._synced_ns = log_time_ns
        self._drawn[frame.source] = drawn
        self.num_frames += 1

    def close(self) -> None:
        """Finish the file with its index; again is allowed. Raises RecordingError if that fails."""
        if self._file.closed:
            return
        with self._closing_on_error():
            self._mcap.finish()  # type: ignore[no-untyped-call]
            self._sync()
            self._file.close()

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _channel(self, topic: str, schema: str, metadata: dict[str, str]) -> int:
        """Return a channel; a source that changes its layout gets another of the same topic."""
        key = topic, metadata.get("layout", "")
        if key not in self._channels:
            self._channels[key] = self._mcap.register_channel(topic, "json", self._schemas[schema], metadata)
        return self._channels[key]

    def _sync(self) -> None:
        begun_s = time.monotonic()
        self._mcap.flush()  # type: ignore[no-untyped-call]
        os.fsync(self._file.fileno())
        now_s = time.monotonic()
        took_s = now_s - begun_s
        self._sync_at_s = now_s + took_s if took_s > _SLOW_SYNC_S else -math.inf

    @contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Closing tries once more to write the same bytes and fails in the same way.
            with suppress(OSError):
                self._file.close()
            raise RecordingError(
                f"{self.path} cannot be written: {error.strerror}, after {self.num_frames} frames",
                code="write_failed",
                hint="Free some space, or record to another disk. What was written can be read.",
            ) from error


def _check_replaceable(path: Path) -> None:
    """Refuse to write over what is no recording. Raises RecordingError."""
    try:
        if not path.exists():
            return
        is_own = path.is_file() and _first_bytes(path) in (_MAGIC, b"")
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}", code="write_failed") from error
    if not is_own:
        raise RecordingError(
            f"{path} exists and is no recording: nothing else is overwritten",
            code="exists",
            hint="Choose another name.",
        )


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_MAGIC))


def read_recording(path: Path, *, source: str | None = None) -> Iterator[SkeletonFrame]:
    """Yield the frames in the order of the file, of one source or of all.

    A file that was cut off is read as far as it is whole (`describe_recording` tells). Raises
    RecordingError for a file that is no recording, has no such source, is damaged, or holds a
    message that a publisher would not be allowed to send.
    """
    sources = set()
    for number, _, record in _messages(path):
        sources.add(record.source)
        if source not in (None, record.source):
            continue
        try:
            # The same checks as for a frame that comes over the network.
            frame = validate_frame(_message(record))
        except WireError as error:
            raise _bad_message(path, number, str(error)) from error
        yield frame
    if source is not None and source not in sources:
        raise RecordingError(
            f"{path} has no source {source!r}: expected one of {', '.join(sorted(sources))}", code="no_source"
        )


def describe_recording(path: Path) -> RecordingSummary:
    """Say what is in a recording without checking each joint. Raises RecordingError."""
    messages = [(log_time_ns, record.source, record.layout) for _, log_time_ns, record in _messages(path)]
    log_times_ns, sources, layouts = zip(*messages, strict=True)
    with path.open("rb") as file:
        complete = _is_finished(file)
    return RecordingSummary(
        num_frames=len(messages),
        sources=tuple(sorted(set(sources))),
        duration_s=(max(log_times_ns) - min(log_times_ns)) / 1e9,
        layouts=tuple(sorted(set(layouts))),
        complete=complete,
    )


def _record(frame: SkeletonFrame) -> _Frame:
    fields = {name: getattr(frame, name) for name in _Frame.__struct_fields__}
    bodies = [_Body(body.id, _points(body), body.confidence.tolist()) for body in frame.bodies]
    return _Frame(**{**fields, "bodies": bodies})


def _points(body: Body) -> list[_Point | None]:
    """Return the joints with few decimals, each of which reads back as the same float32."""
    exact = body.joints_m.astype(np.float64)
    rounded = exact.round(_DECIMALS)
    shortest = np.where(rounded.astype(np.float32) == body.joints_m, rounded, exact)
    seen = np.asarray(np.isfinite(body.joints_m).any(axis=1)).tolist()
    return [_Point(*joint) if is_seen else None for joint, is_seen in zip(shortest.tolist(), seen, strict=True)]


def _message(record: _Frame) -> FrameMessage:
    """Return the frame as it was recorded, as a publisher would send it."""
    return FrameMessage(
        v=WIRE_VERSION,
        source=record.source,
        epoch=record.epoch,
        seq=record.seq,
        timestamp=record.timestamp_s,
        t_send=record.t_send_s,
        clock=record.clock,
        layout=record.layout,
        axes=record.axes,
        mirrored=record.mirrored,
        fps=record.fps,
        bodies=[
            BodyMessage(
                id=body.id,
                pos=np.array([(None,) * 3 if p is None else (p.x, p.y, p.z) for p in body.joints_m], "<f4").tobytes(),
                conf=bytes(body.confidence),
            )
            for body in record.bodies
        ],
    )


def _messages(path: Path) -> Iterator[tuple[int, int, _Frame]]:
    """Yield number (from 1), log time and content of each skeleton message."""
    decoder = msgspec.json.Decoder(_Frame)
    schemas, channels, number = set(), set(), 0
    for record in _records(path):
        if isinstance(record, Schema) and record.name == SKELETON_SCHEMA:
            schemas.add(record.id)
        elif isinstance(record, Channel) and record.schema_id in schemas:
            _check_version(path, record)
            channels.add(record.id)
        elif isinstance(record, Message) and record.channel_id in channels:
            number += 1
            try:
                content = decoder.decode(record.data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise _bad_message(path, number, str(error)) from error
            yield number, record.log_time, content
    if not number:
        raise RecordingError(
            f"{path} has no skeleton frames: expected a channel of schema {SKELETON_SCHEMA}",
            code="no_skeletons",
            hint="It is empty, or another program's recording.",
        )


def _check_version(path: Path, channel: Channel) -> None:
    version = channel.metadata.get("version", RECORDING_VERSION)
    if version != RECORDING_VERSION:
        raise RecordingError(
            f"{path} is of version {version!r}: this program reads version {RECORDING_VERSION}",
            code="unsupported_version",
            hint="Read it with the version of crossglg-edge that wrote it.",
        )


def _records(path: Path) -> Iterator[McapRecord]:
    """Yield records up to the first damage, which in a finished file raises RecordingError.

    Damage ends a file that has no end anyway: after a power loss its last blocks may hold anything.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise RecordingError(
                    f"{path} is not an MCAP file", code="not_mcap", hint="Name a file that was recorded as .mcap."
                )
            is_finished = _is_finished(file)
            num_bytes = file.tell()
            file.seek(0)
            try:
                yield from StreamReader(file, validate_crcs=True, record_size_limit=num_bytes).records
            except OSError:
                raise
            # mcap raises a dozen kinds, from struct.error to MemoryError, for bytes that are not MCAP.
            except Exception as error:
                if is_finished:
                    raise RecordingError(
                        f"{path} is damaged: {str(error) or type(error).__name__}",
                        code="damaged",
                        hint="`mcap recover` saves what is left of it.",
                    ) from error
    except FileNotFoundError as error:
        raise RecordingError(f"{path} does not exist", code="not_found") from error
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror}") from error


def _is_finished(file: BinaryIO) -> bool:
    """Read to the end; tell whether it is that of a finished recording, the magic bytes it began with."""
    if file.seek(0, os.SEEK_END) < 2 * len(_MAGIC):
        return False
    file.seek(-len(_MAGIC), os.SEEK_END)
    return file.read() == _MAGIC


def _bad_message(path: Path, number: int, reason: str) -> RecordingError:
    return RecordingError(
        f"{path}: skeleton message {number} is malformed: {reason}",
        code="bad_message",
        hint="`mcap filter` can cut it out.",
    )
