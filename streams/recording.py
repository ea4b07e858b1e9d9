"""Recordings: skeleton frames in an MCAP file that Foxglove draws and that a crash cannot lose.

Per source there are two channels, both JSON. `skeleton.<source>` has the whole frame, lossless;
`scene.<source>` has the same bodies as lines for Foxglove's 3D panel, rounded to a millimetre, in
the axes of ROS REP 103 (x forward, y left, z up).

Shapes: J joints of the layout that a frame names, B bones that connect them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard
from mcap.exceptions import EndOfFile
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk
from mcap.writer import Writer

from streams.errors import LayoutError, RecordingError
from streams.frame import HIGH, Body, SkeletonFrame
from streams.layouts import axes_matrix, layout_by_name
from streams.wire import MAX_BODIES, MAX_COORDINATE_M, MAX_NAME

RECORDING_VERSION = "1"
SKELETON_SCHEMA = "cglg.SkeletonFrame"
SCENE_SCHEMA = "foxglove.SceneUpdate"
_SKELETON_TOPIC = "skeleton."
_SCENE_TOPIC = "scene."
_MAGIC = b"\x89MCAP0\r\n"

# Half of the second that a crash may cost: a frame may come late by the other half.
_SYNC_INTERVAL_NS = 500_000_000
# Of 7 to 10 decimals the one with the smallest files (Kinect v2 and Azure Kinect archives).
_DECIMALS = 8
# Half a second of 64 bodies is 2 MB; a chunk that claims more is damage, or meant to fill memory.
_MAX_CHUNK_BYTES = 256 * 1024 * 1024

_BONE_WIDTH_M = 0.02
_LABEL_HEIGHT_M = 0.12
_LABEL_ABOVE_HEAD_M = 0.2
# A body that left is deleted; one whose source has stopped goes after this.
_LIFETIME = {"sec": 1, "nsec": 0}
_LINE_LIST, _MATCHING_ID = 2, 0
_COLORS = tuple(
    {"r": r, "g": g, "b": b, "a": 1.0}
    for r, g, b in ((0.9, 0.3, 0.2), (0.2, 0.6, 0.9), (0.3, 0.8, 0.3), (0.9, 0.7, 0.1), (0.7, 0.4, 0.9))
)
_UNTURNED = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}


class _Point(msgspec.Struct, frozen=True, gc=False):
    x: float | None
    y: float | None
    z: float | None


class _Body(msgspec.Struct, frozen=True):
    id: int
    joints_m: list[_Point | None]
    confidence: list[Annotated[int, msgspec.Meta(ge=0, le=HIGH)]]


class _Frame(msgspec.Struct, frozen=True, kw_only=True):
    source: str
    epoch: str
    seq: Annotated[int, msgspec.Meta(ge=0)]
    timestamp_s: float
    t_send_s: float
    clock: str
    layout: str
    axes: str
    mirrored: bool
    fps: float
    bodies: list[_Body]


class _Head(msgspec.Struct, frozen=True):
    source: str
    layout: str


_Record = TypeVar("_Record", _Frame, _Head)
_encoder = msgspec.json.Encoder()


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

    Every half second, by `log_time_ns`, the open chunk is ended and synced to the disk: `write`
    waits for it. Raises RecordingError where the file exists (unless `overwrite`) or cannot be
    written; the writer is closed then, and what it has synced can be read.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self._path = path
        self._num_frames = 0
        self._synced_ns = -_SYNC_INTERVAL_NS
        self._end = ""
        self._channels: dict[tuple[str, str], int] = {}
        self._drawn: dict[str, set[str]] = {}
        try:
            self._file = path.open("wb" if overwrite else "xb")
        except FileExistsError as error:
            raise RecordingError(
                f"{path} exists already",
                code="exists",
                hint="Choose another name, or allow it to be overwritten.",
            ) from error
        except OSError as error:
            raise RecordingError(
                f"{path} cannot be written: {error.strerror or error}",
                code="write_failed",
                hint="Name a file in a folder that exists and that you may write to.",
            ) from error
        self._mcap = Writer(self._file)
        try:
            self._mcap.start(library="crossglg-edge")
            self._sync()
        except OSError as error:
            raise self._failed(error) from error
        _sync_folder(path.parent)
        self._skeleton_schema, self._scene_schema = (
            self._mcap.register_schema(schema["title"], "jsonschema", _encoder.encode(schema))
            for schema in (_SKELETON_JSONSCHEMA, _SCENE_JSONSCHEMA)
        )

    @property
    def path(self) -> Path:
        return self._path

    @property
    def num_frames(self) -> int:
        """Count the frames that were taken, the last second of them perhaps not yet on the disk."""
        return self._num_frames

    def write(self, frame: SkeletonFrame, *, log_time_ns: int) -> None:
        """Append a frame; `log_time_ns` is the wall clock, since the Unix epoch.

        A coordinate that is not finite reads back as NaN. Raises RecordingError if the file cannot
        be written, LayoutError for a frame of unknown layout or axes.
        """
        if self._end:
            raise RecordingError(f"{self._path} is closed: {self._end}", code="closed", hint="Start a new recording.")
        assert 0 <= log_time_ns < 2**64
        skeleton = _encoder.encode(_frame_record(frame))
        timestamp = dict(zip(("sec", "nsec"), divmod(log_time_ns, 1_000_000_000), strict=True))
        entities = _entities(frame, timestamp)
        ids = {entity["id"] for entity in entities}
        gone = sorted(self._drawn.get(frame.source, set()) - ids)
        deletions = [{"timestamp": timestamp, "type": _MATCHING_ID, "id": entity} for entity in gone]
        scene = _encoder.encode({"deletions": deletions, "entities": entities})
        try:
            self._add(self._skeleton_channel(frame), frame.seq, log_time_ns, skeleton)
            self._add(self._scene_channel(frame.source), frame.seq, log_time_ns, scene)
            # A wall clock may be set back, by hours: that must not put off the sync.
            if not 0 <= log_time_ns - self._synced_ns < _SYNC_INTERVAL_NS:
                self._sync()
                self._synced_ns = log_time_ns
        except OSError as error:
            raise self._failed(error) from error
        self._drawn[frame.source] = ids
        self._num_frames += 1

    def close(self) -> None:
        """Finish the file with its index; again is allowed. Raises RecordingError if that fails."""
        if self._end:
            return
        try:
            self._mcap.finish()  # type: ignore[no-untyped-call]
            self._sync()
            self._file.close()
        except OSError as error:
            raise self._failed(error) from error
        self._end = "the recording was finished"

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, channel: int, seq: int, log_time_ns: int, message: bytes) -> None:
        self._mcap.add_message(
            channel_id=channel,
            log_time=log_time_ns,
            publish_time=log_time_ns,
            sequence=seq & 0xFFFFFFFF,
            data=message,
        )

    def _skeleton_channel(self, frame: SkeletonFrame) -> int:
        """Return the channel of a source; one that changes its layout gets another of the same topic."""
        key = (_SKELETON_TOPIC + frame.source, frame.layout)
        if key not in self._channels:
            metadata = {
                "version": RECORDING_VERSION,
                "layout": frame.layout,
                "joints": ",".join(layout_by_name(frame.layout).joints),
                "units": "m",
            }
            self._channels[key] = self._mcap.register_channel(key[0], "json", self._skeleton_schema, metadata)
        return self._channels[key]

    def _scene_channel(self, source: str) -> int:
        key = (_SCENE_TOPIC + source, "")
        if key not in self._channels:
            self._channels[key] = self._mcap.register_channel(key[0], "json", self._scene_schema)
        return self._channels[key]

    def _sync(self) -> None:
        self._mcap.flush()  # type: ignore[no-untyped-call]
        os.fsync(self._file.fileno())

    def _failed(self, error: OSError) -> RecordingError:
        self._end = f"writing failed: {error.strerror or error}"
        # Closing tries once more to write the same bytes and fails in the same way.
        with suppress(OSError):
            self._file.close()
        return RecordingError(
            f"{self._path} cannot be written: {error.strerror or error}, after {self._num_frames} frames",
            code="write_failed",
            hint="Free some space, or record to another disk. What was written can be read.",
        )


def read_recording(path: Path, *, source: str | None = None) -> Iterator[SkeletonFrame]:
    """Yield the frames in the order of the file, of one source or of all.

    A file that was cut off is read as far as it is whole (`describe_recording` tells). Raises
    RecordingError for a file that is no recording, has no such source, is damaged, or holds a
    message that a publisher would not be allowed to send.
    """
    for number, _, record in _messages(path, _Frame, source):
        try:
            frame = _frame(record)
        except (LayoutError, ValueError) as error:
            raise _bad_message(path, number, str(error)) from error
        yield frame


def describe_recording(path: Path) -> RecordingSummary:
    """Say what is in a recording without checking each joint. Raises RecordingError."""
    sources: set[str] = set()
    layouts: set[str] = set()
    log_times_ns = []
    for _, log_time_ns, head in _messages(path, _Head):
        sources.add(head.source)
        layouts.add(head.layout)
        log_times_ns.append(log_time_ns)
    with path.open("rb") as file:
        complete = _is_finished(file)
    return RecordingSummary(
        num_frames=len(log_times_ns),
        sources=tuple(sorted(sources)),
        duration_s=(max(log_times_ns) - min(log_times_ns)) / 1e9 if log_times_ns else 0.0,
        layouts=tuple(sorted(layouts)),
        complete=complete,
    )


def _frame_record(frame: SkeletonFrame) -> _Frame:
    return _Frame(
        source=frame.source,
        epoch=frame.epoch,
        seq=frame.seq,
        timestamp_s=frame.timestamp_s,
        t_send_s=frame.t_send_s,
        clock=frame.clock,
        layout=frame.layout,
        axes=frame.axes,
        mirrored=frame.mirrored,
        fps=frame.fps,
        bodies=[_Body(body.id, _joint_records(body), body.confidence.tolist()) for body in frame.bodies],
    )


def _joint_records(body: Body) -> list[_Point | None]:
    """Return the joints with few decimals, each of which reads back as the same float32."""
    exact = body.joints_m.astype(np.float64)
    rounded = exact.round(_DECIMALS)
    shortest = np.where(rounded.astype(np.float32) == body.joints_m, rounded, exact)
    seen = np.asarray(np.isfinite(body.joints_m).any(axis=1)).tolist()
    return [_Point(*joint) if is_seen else None for joint, is_seen in zip(shortest.tolist(), seen, strict=True)]


def _frame(record: _Frame) -> SkeletonFrame:
    """Return the frame; raises LayoutError or ValueError for what the wire would refuse too."""
    layout = layout_by_name(record.layout)
    axes_matrix(record.axes)
    for name, text in (("source", record.source), ("epoch", record.epoch)):
        if not text or len(text) > MAX_NAME or not text.isprintable():
            raise ValueError(f"{name} {text[:20]!r}: expected 1 to {MAX_NAME} printable characters")
    if len(record.bodies) > MAX_BODIES:
        raise ValueError(f"{len(record.bodies)} bodies: expected at most {MAX_BODIES}")
    if len({body.id for body in record.bodies}) < len(record.bodies):
        raise ValueError("two bodies with the same id")
    return SkeletonFrame(
        source=record.source,
        epoch=record.epoch,
        seq=record.seq,
        timestamp_s=record.timestamp_s,
        t_send_s=record.t_send_s,
        clock=record.clock,
        layout=layout.name,
        axes=record.axes,
        mirrored=record.mirrored,
        fps=record.fps,
        bodies=tuple(_body(body, layout.num_joints) for body in record.bodies),
    )


def _body(body: _Body, num_joints: int) -> Body:
    if len(body.joints_m) != num_joints or len(body.confidence) != num_joints:
        raise ValueError(
            f"body {body.id}: {len(body.joints_m)} joints and {len(body.confidence)} confidences, "
            f"expected {num_joints} of both"
        )
    joints_m = np.array(
        [(None, None, None) if joint is None else (joint.x, joint.y, joint.z) for joint in body.joints_m],
        np.float64,
    )
    # NaN compares false with everything, so a missing joint passes.
    if (np.abs(joints_m) > MAX_COORDINATE_M).any():
        raise ValueError(f"body {body.id}: a joint is more than {MAX_COORDINATE_M:.0f} m away")
    return Body(id=body.id, joints_m=joints_m.astype(np.float32), confidence=np.array(body.confidence, np.uint8))


def _messages(path: Path, kind: type[_Record], source: str | None = None) -> Iterator[tuple[int, int, _Record]]:
    """Yield number (from 1), log time and content of each skeleton message."""
    decoder = msgspec.json.Decoder(kind)
    schemas: dict[int, str] = {}
    sources: dict[int, str] = {}
    number = 0
    for record in _records(path):
        if isinstance(record, Schema):
            schemas[record.id] = record.name
        elif isinstance(record, Channel) and schemas.get(record.schema_id) == SKELETON_SCHEMA:
            sources[record.id] = _source(path, record)
        elif isinstance(record, Message) and record.channel_id in sources:
            number += 1
            if source not in (None, sources[record.channel_id]):
                continue
            try:
                content = decoder.decode(record.data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise _bad_message(path, number, str(error)) from error
            if content.source != sources[record.channel_id]:
                expected = sources[record.channel_id]
                raise _bad_message(path, number, f"source {content.source!r}, expected {expected!r}")
            yield number, record.log_time, content
    if not sources:
        raise RecordingError(
            f"{path} has no skeleton frames: expected a channel of schema {SKELETON_SCHEMA}",
            code="no_skeletons",
            hint="It is empty, or another program's recording.",
        )
    if source is not None and source not in sources.values():
        raise RecordingError(
            f"{path} has no source {source!r}: expected one of {', '.join(sorted(set(sources.values())))}",
            code="no_source",
        )


def _source(path: Path, channel: Channel) -> str:
    version = channel.metadata.get("version", RECORDING_VERSION)
    if version != RECORDING_VERSION:
        raise RecordingError(
            f"{path} is of version {version!r}: this program reads version {RECORDING_VERSION}",
            code="unsupported_version",
            hint="Read it with the version of crossglg-edge that wrote it.",
        )
    if channel.message_encoding != "json" or not channel.topic.startswith(_SKELETON_TOPIC):
        raise RecordingError(
            f"{path}: channel {channel.topic!r} has {channel.message_encoding!r} messages: "
            f"expected JSON under {_SKELETON_TOPIC}<source>"
        )
    return channel.topic.removeprefix(_SKELETON_TOPIC)


def _records(path: Path) -> Iterator[McapRecord]:
    """Yield the records of a file, those in its chunks too, as far as it is whole."""
    try:
        with _WholeReads(path.open("rb", buffering=0)) as file:
            yield from _file_records(path, file)
    except FileNotFoundError as error:
        raise RecordingError(f"{path} does not exist", code="not_found") from error
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror or error}") from error


def _file_records(path: Path, file: _WholeReads) -> Iterator[McapRecord]:
    """Yield records up to the first damage, which in a finished file raises RecordingError.

    Damage ends a file that has no end anyway: after a power loss its last blocks may hold anything.
    """
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    if num_bytes < len(_MAGIC) or file.read(len(_MAGIC)) != _MAGIC:
        raise RecordingError(
            f"{path} is not an MCAP file", code="not_mcap", hint="Name a file that was recorded as .mcap."
        )
    is_finished = _is_finished(file)
    file.seek(0)
    try:
        for record in StreamReader(file, emit_chunks=True, record_size_limit=num_bytes).records:
            if not isinstance(record, Chunk):
                yield record
            elif (num_unpacked := _unpacked_bytes(record)) > _MAX_CHUNK_BYTES:
                raise ValueError(f"a chunk of {num_unpacked} bytes, expected at most {_MAX_CHUNK_BYTES}")
            else:
                yield from breakup_chunk(record, validate_crc=True)
    except OSError:
        raise
    # mcap raises a dozen kinds, from struct.error to MemoryError, for bytes that are not MCAP.
    except Exception as error:
        if is_finished:
            raise RecordingError(
                f"{path} is damaged: {error or type(error).__name__}",
                code="damaged",
                hint="`mcap recover` saves what is left of it.",
            ) from error


def _unpacked_bytes(chunk: Chunk) -> int:
    """Return the larger of what a chunk and the zstd frame in it claim: zstd believes its own."""
    in_frame = zstandard.frame_content_size(chunk.data) if chunk.compression == "zstd" else 0
    return max(chunk.uncompressed_size, in_frame)


def _is_finished(file: io.BufferedReader) -> bool:
    """Tell whether a file ends as a finished recording does, with the magic bytes it began with."""
    if file.seek(0, os.SEEK_END) < 2 * len(_MAGIC):
        return False
    file.seek(-len(_MAGIC), os.SEEK_END)
    return file.read(len(_MAGIC)) == _MAGIC


class _WholeReads(io.BufferedReader):
    """Raise EndOfFile where bytes are missing: mcap takes what it gets for a whole record."""

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        if size is not None and len(part) < size:
            raise EndOfFile
        return part


def _bad_message(path: Path, number: int, reason: str) -> RecordingError:
    return RecordingError(
        f"{path}: skeleton message {number} is malformed: {reason}",
        code="bad_message",
        hint="`mcap filter` can cut it out.",
    )


def _sync_folder(folder: Path) -> None:
    """Put a new file's name on the disk: after a power loss a synced file may else have none."""
    # Some network file systems cannot sync a folder; they keep names by themselves.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _entities(frame: SkeletonFrame, timestamp: dict[str, int]) -> list[dict[str, Any]]:
    """Draw each body of which a joint was seen: its bones, and its id above the highest joint."""
    bones_B2 = _bones(frame.layout)
    display_from_axes = _display_from_axes(frame.axes, frame.mirrored)
    entities = []
    for body in frame.bodies:
        finite_m = np.where(np.isfinite(body.joints_m), body.joints_m, np.float32(np.nan))
        joints_m = (finite_m @ display_from_axes).astype(np.float64).round(3)
        seen = np.asarray(np.isfinite(joints_m).all(axis=1))
        if not seen.any():
            continue
        ends_m = joints_m[bones_B2[seen[bones_B2].all(axis=1)].ravel()]
        x, y, z = joints_m[np.where(seen, joints_m[:, 2], -np.inf).argmax()].tolist()
        color = _COLORS[body.id % len(_COLORS)]
        lines = {
            "type": _LINE_LIST,
            "pose": {"position": _point(0.0, 0.0, 0.0), "orientation": _UNTURNED},
            "thickness": _BONE_WIDTH_M,
            "scale_invariant": False,
            "points": [_point(*end) for end in ends_m.tolist()],
            "color": color,
        }
        label = {
            "pose": {"position": _point(x, y, round(z + _LABEL_ABOVE_HEAD_M, 3)), "orientation": _UNTURNED},
            "billboard": True,
            "font_size": _LABEL_HEIGHT_M,
            "scale_invariant": False,
            "color": color,
            "text": str(body.id),
        }
        entities.append(
            {
                "timestamp": timestamp,
                "frame_id": frame.source,
                "id": str(body.id),
                "lifetime": _LIFETIME,
                "frame_locked": True,
                "lines": [lines],
                "texts": [label],
            }
        )
    return entities


def _point(x: float, y: float, z: float) -> dict[str, float]:
    return {"x": x, "y": y, "z": z}


@cache
def _bones(layout: str) -> npt.NDArray[np.intp]:
    return np.array(layout_by_name(layout).bones, np.intp)


@cache
def _display_from_axes(axes: str, mirrored: bool) -> npt.NDArray[np.float32]:
    """Return the (3, 3) matrix that takes row vectors to x forward, y left, z up, a selfie view undone."""
    left_up_forward = axes_matrix(axes) * np.array([-1 if mirrored else 1, 1, 1], np.float32)
    return left_up_forward[:, [2, 0, 1]]


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


# Foxglove reads a subset of JSON Schema: no references, no arrays of arrays, one type a field.
_STRING, _INTEGER, _NUMBER, _BOOLEAN = ({"type": kind} for kind in ("string", "integer", "number", "boolean"))
_XYZ = {"x": _NUMBER, "y": _NUMBER, "z": _NUMBER}
_SKELETON_JSONSCHEMA = {
    "title": SKELETON_SCHEMA,
    "description": "What a skeleton sensor saw at one moment; a joint that is missing is null.",
    **_object(
        **dict.fromkeys(("source", "epoch", "clock", "layout", "axes"), _STRING),
        seq=_INTEGER,
        **dict.fromkeys(("timestamp_s", "t_send_s", "fps"), _NUMBER),
        mirrored=_BOOLEAN,
        bodies=_array(_object(id=_INTEGER, joints_m=_array(_object(**_XYZ)), confidence=_array(_INTEGER))),
    ),
}

# The part of Foxglove's standard schema that is written here; it knows the schema by its name.
_TIME = {"title": "time", **_object(sec=_INTEGER, nsec=_INTEGER)}
_POSE = _object(position=_object(**_XYZ), orientation=_object(**_XYZ, w=_NUMBER))
_COLOR = _object(r=_NUMBER, g=_NUMBER, b=_NUMBER, a=_NUMBER)
_LINES = _object(
    type=_INTEGER,
    pose=_POSE,
    thickness=_NUMBER,
    scale_invariant=_BOOLEAN,
    points=_array(_object(**_XYZ)),
    color=_COLOR,
)
_TEXT = _object(pose=_POSE, billboard=_BOOLEAN, font_size=_NUMBER, scale_invariant=_BOOLEAN, color=_COLOR, text=_STRING)
_ENTITY = _object(
    timestamp=_TIME,
    frame_id=_STRING,
    id=_STRING,
    lifetime={**_TIME, "title": "duration"},
    frame_locked=_BOOLEAN,
    lines=_array(_LINES),
    texts=_array(_TEXT),
)
_SCENE_JSONSCHEMA = {
    "title": SCENE_SCHEMA,
    **_object(
        deletions=_array(_object(timestamp=_TIME, type=_INTEGER, id=_STRING)),
        entities=_array(_ENTITY),
    ),
}
