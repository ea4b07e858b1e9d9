"""A recording gives back the frames that went in, opens in other tools, and survives a crash."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from streams.errors import LayoutError, RecordingError
from streams.frame import HIGH, Body, SkeletonFrame
from streams.layouts import LAYOUTS
from streams.recording import (
    SKELETON_SCHEMA,
    RecordingWriter,
    describe_recording,
    read_recording,
)
from streams.scene import SCENE_SCHEMA

START_NS = 1_700_000_000_000_000_000
FRAME_NS = 33_333_333
ROOT = Path(__file__).parents[1]


def _body(layout: str = "kinect25", id: int = 0, seed: int = 0) -> Body:
    num_joints = LAYOUTS[layout].num_joints
    rng = np.random.default_rng(seed)
    return Body(
        id=id,
        joints_m=rng.normal(size=(num_joints, 3)).astype(np.float32),
        confidence=rng.integers(0, HIGH + 1, num_joints).astype(np.uint8),
    )


def _frame(seq: int = 0, *bodies: Body, source: str = "cam", layout: str = "kinect25") -> SkeletonFrame:
    return SkeletonFrame(
        source=source,
        epoch="e1",
        seq=seq,
        timestamp_s=12.25 + seq / 30,
        t_send_s=12.25 + seq / 30 + 1e-3,
        clock="box:boot",
        layout=layout,
        axes=LAYOUTS[layout].axes,
        fps=30.0,
        bodies=bodies,
    )


def _write_all(writer: RecordingWriter, frames: Iterable[SkeletonFrame]) -> None:
    for i, frame in enumerate(frames):
        writer.write(frame, log_time_ns=START_NS + i * FRAME_NS)


def _record(path: Path, frames: Iterable[SkeletonFrame]) -> Path:
    with RecordingWriter(path) as writer:
        _write_all(writer, frames)
    return path


def _assert_same(a: SkeletonFrame, b: SkeletonFrame) -> None:
    assert repr(replace(a, bodies=())) == repr(replace(b, bodies=()))
    assert [body.id for body in a.bodies] == [body.id for body in b.bodies]
    for one, other in zip(a.bodies, b.bodies, strict=True):
        assert other.joints_m.dtype == np.float32
        assert other.confidence.dtype == np.uint8
        np.testing.assert_array_equal(one.joints_m.view(np.uint32), other.joints_m.view(np.uint32))
        np.testing.assert_array_equal(one.confidence, other.confidence)


def _scenes(path: Path) -> list[dict[str, Any]]:
    with path.open("rb") as file:
        messages = make_reader(file).iter_messages(topics=["scene.cam"])
        return [json.loads(message.data) for _, _, message in messages]


def _write_mcap(
    path: Path,
    *messages: bytes,
    schema: str = SKELETON_SCHEMA,
    topic: str = "skeleton.cam",
    encoding: str = "json",
    metadata: dict[str, str] | None = None,
    compression: CompressionType = CompressionType.ZSTD,
    use_chunking: bool = True,
) -> Path:
    with path.open("wb") as file:
        writer = Writer(file, compression=compression, use_chunking=use_chunking)
        writer.start()
        schema_id = writer.register_schema(schema, "jsonschema", b'{"type":"object","properties":{}}')
        channel = writer.register_channel(topic, encoding, schema_id, metadata or {})
        for i, message in enumerate(messages):
            writer.add_message(channel, START_NS + i, message, START_NS + i)
        writer.finish()  # type: ignore[no-untyped-call]
    return path


def _message(path: Path, **changes: Any) -> bytes:
    """Return a skeleton message as this program writes it, with some fields changed or (...) left out."""
    _record(path, [_frame(0, _body())])
    with path.open("rb") as file:
        [(_, _, message)] = make_reader(file).iter_messages(topics=["skeleton.cam"])
    path.unlink()
    content = {**json.loads(message.data), **changes}
    return json.dumps({key: value for key, value in content.items() if value is not ...}).encode()


def test_what_is_read_is_what_was_written_bit_for_bit(tmp_path: Path) -> None:
    joints_m = _body().joints_m.copy()
    joints_m[3] = np.nan
    joints_m[4, 1] = np.nan
    joints_m[5] = [0.1, -0.0, 1e-30]
    joints_m[6] = [np.nextafter(np.float32(1), np.float32(2)), np.float32(1) / 3, 99.99999]
    odd = replace(_body(id=2**40, seed=1), joints_m=joints_m)
    frames = [
        _frame(0, odd, _body(id=-3, seed=2)),
        _frame(1),
        replace(_frame(2, odd), seq=2**64 - 1, mirrored=True, axes="RDB", clock="Küche ☕", fps=0.1),
        *(_frame(3 + i, _body(layout, seed=i), layout=layout) for i, layout in enumerate(LAYOUTS)),
    ]
    read = list(read_recording(_record(tmp_path / "a.mcap", frames)))
    assert len(read) == len(frames)
    for frame, again in zip(frames, read, strict=True):
        _assert_same(frame, again)


def test_every_magnitude_of_float32_reads_back_the_same(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, (40, 25, 3), np.uint32)
    joints = bits.view(np.float32)
    near = np.abs(joints) < 100
    bodies = [
        replace(_body(), joints_m=np.where(mask, values, np.float32(0.5)))
        for mask, values in zip(near, joints, strict=True)
    ]
    frames = [_frame(i, body) for i, body in enumerate(bodies)]
    for frame, again in zip(frames, read_recording(_record(tmp_path / "a.mcap", frames)), strict=True):
        _assert_same(frame, again)


def test_a_coordinate_that_is_infinite_reads_back_as_missing(tmp_path: Path) -> None:
    joints_m = _body().joints_m.copy()
    joints_m[7] = [np.inf, 1, -np.inf]
    path = _record(tmp_path / "a.mcap", [_frame(0, replace(_body(), joints_m=joints_m))])
    [frame] = read_recording(path)
    np.testing.assert_array_equal(frame.bodies[0].joints_m[7], [np.nan, 1, np.nan])


def test_several_sources_share_a_file_and_can_be_read_apart(tmp_path: Path) -> None:
    frames = [_frame(i, _body(id=i), source=("left", "right")[i % 2]) for i in range(6)]
    path = _record(tmp_path / "a.mcap", frames)
    assert [frame.seq for frame in read_recording(path)] == [0, 1, 2, 3, 4, 5]
    assert [frame.seq for frame in read_recording(path, source="right")] == [1, 3, 5]
    summary = describe_recording(path)
    assert summary.sources == ("left", "right")
    assert summary.num_frames == 6
    assert summary.layouts == ("kinect25",)
    assert summary.duration_s == pytest.approx(5 / 30, rel=1e-6)
    assert summary.complete
    with pytest.raises(RecordingError, match="no source 'top': expected one of left, right"):
        list(read_recording(path, source="top"))


def test_a_source_may_change_its_layout_while_it_is_recorded(tmp_path: Path) -> None:
    frames = [_frame(0, _body()), _frame(1, _body("coco17"), layout="coco17"), _frame(2, _body())]
    path = _record(tmp_path / "a.mcap", frames)
    assert [frame.layout for frame in read_recording(path)] == ["kinect25", "coco17", "kinect25"]
    assert describe_recording(path).layouts == ("coco17", "kinect25")


def test_the_mcap_package_finds_schemas_channels_and_an_index(tmp_path: Path) -> None:
    path = _record(tmp_path / "a.mcap", [_frame(i, _body()) for i in range(100)])
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        messages = list(reader.iter_messages())
    assert summary is not None
    assert summary.statistics is not None
    assert summary.statistics.message_count == len(messages) == 200
    assert {schema.name: schema.encoding for schema in summary.schemas.values()} == {
        SKELETON_SCHEMA: "jsonschema",
        SCENE_SCHEMA: "jsonschema",
    }
    topics = {channel.topic: channel for channel in summary.channels.values()}
    assert set(topics) == {"skeleton.cam", "scene.cam"}
    assert topics["skeleton.cam"].metadata["layout"] == "kinect25"
    assert topics["skeleton.cam"].metadata["joints"].split(",") == list(LAYOUTS["kinect25"].joints)
    assert {index.compression for index in summary.chunk_indexes} == {"zstd"}
    assert [message.log_time for _, _, message in messages[::2]] == [START_NS + i * FRAME_NS for i in range(100)]


def _check_foxglove_can_parse(schema: dict[str, Any]) -> None:
    assert schema["type"] == "object"
    for field in schema["properties"].values():
        nested = field["items"] if field["type"] == "array" else field
        assert nested["type"] in ("string", "integer", "number", "boolean", "object")
        if nested["type"] == "object":
            _check_foxglove_can_parse(nested)


def _check_fits(schema: dict[str, Any], value: Any) -> None:
    kinds: dict[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list}
    if schema["type"] == "object":
        assert set(value) <= set(schema["properties"])
        for key, content in value.items():
            _check_fits(schema["properties"][key], content)
        return
    assert isinstance(value, kinds[schema["type"]])
    if isinstance(value, list):
        for item in value:
            _check_fits(schema["items"], item)


def test_the_schemas_are_ones_that_foxglove_can_parse_and_the_messages_fit(tmp_path: Path) -> None:
    path = _record(tmp_path / "a.mcap", [_frame(0, _body(id=1)), _frame(1, _body(id=2))])
    with path.open("rb") as file:
        for schema, _, message in make_reader(file).iter_messages():
            assert schema is not None
            content = json.loads(schema.data)
            _check_foxglove_can_parse(content)
            _check_fits(content, json.loads(message.data))


def test_the_scene_stands_upright_whatever_the_axes_of_the_sensor(tmp_path: Path) -> None:
    body = _body()
    body.joints_m[3] = [0.25, 1.75, 2.0]
    as_camera = replace(body, joints_m=body.joints_m * np.array([-1, -1, 1], np.float32))
    as_selfie = replace(body, joints_m=body.joints_m * np.array([-1, 1, 1], np.float32))
    path = _record(
        tmp_path / "a.mcap",
        [
            _frame(0, body),
            replace(_frame(1, as_camera), axes="RDF"),
            replace(_frame(2, as_selfie), mirrored=True),
        ],
    )
    first, *others = (scene["entities"][0]["lines"][0]["points"] for scene in _scenes(path))
    assert len(first) == 2 * len(LAYOUTS["kinect25"].bones)
    assert {"x": 2.0, "y": 0.25, "z": 1.75} in first
    assert others == [first, first]


def test_a_body_is_drawn_without_the_bones_of_joints_that_are_missing(tmp_path: Path) -> None:
    body, unseen = _body(id=7), _body(id=8)
    body.joints_m[3] = np.nan
    unseen.joints_m[:] = np.nan
    [scene] = _scenes(_record(tmp_path / "a.mcap", [_frame(0, body, unseen)]))
    [entity] = scene["entities"]
    assert entity["frame_id"] == "cam"
    assert entity["texts"][0]["text"] == "7"
    bones = [bone for bone in LAYOUTS["kinect25"].bones if 3 not in bone]
    assert len(entity["lines"][0]["points"]) == 2 * len(bones)


def test_a_body_that_left_is_deleted_from_the_scene(tmp_path: Path) -> None:
    frames = [_frame(0, _body(id=1), _body(id=2)), _frame(1, _body(id=2)), _frame(2), _frame(3)]
    scenes = _scenes(_record(tmp_path / "a.mcap", frames))
    assert [[entity["id"] for entity in scene["entities"]] for scene in scenes] == [["1", "2"], ["2"], [], []]
    assert [[gone["id"] for gone in scene["deletions"]] for scene in scenes] == [[], ["1"], ["2"], []]


_RECORD_UNTIL_KILLED = f"""
import itertools, sys
from pathlib import Path
import numpy as np
from streams.frame import Body, SkeletonFrame
from streams.recording import RecordingWriter

rng = np.random.default_rng(0)
writer = RecordingWriter(Path(sys.argv[1]))
for seq in itertools.count():
    body = Body(
        id=0, joints_m=rng.normal(size=(25, 3)).astype(np.float32), confidence=np.full(25, 2, np.uint8)
    )
    frame = SkeletonFrame(
        source="cam", epoch="e", seq=seq, timestamp_s=seq / 30, t_send_s=seq / 30, bodies=(body,)
    )
    writer.write(frame, log_time_ns={START_NS} + seq * {FRAME_NS})
    print(seq, flush=True)
"""


@pytest.mark.parametrize("num_frames", [1, 44, 200])
def test_a_recorder_that_is_killed_loses_at_most_a_second(tmp_path: Path, num_frames: int) -> None:
    path = tmp_path / "killed.mcap"
    with subprocess.Popen(
        [sys.executable, "-c", _RECORD_UNTIL_KILLED, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for _ in range(num_frames):
            assert child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split()
        assert child.wait() == -signal.SIGKILL
    num_written = num_frames + len(rest)
    read = [frame.seq for frame in read_recording(path)]
    assert read == list(range(len(read)))
    assert len(read) >= max(1, num_written - 30)
    summary = describe_recording(path)
    assert summary.num_frames == len(read)
    assert not summary.complete


def test_a_clock_that_is_set_back_does_not_put_off_the_sync(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "a.mcap")
    for seq in range(90):
        hour_ns = 3600 * 10**9 if seq < 30 else 0
        writer.write(_frame(seq), log_time_ns=START_NS + hour_ns + seq * FRAME_NS)
    assert len(list(read_recording(writer.path))) >= 60
    writer.close()


def test_nothing_but_a_recording_is_overwritten(tmp_path: Path) -> None:
    notes, pipe, empty = tmp_path / "notes", tmp_path / "pipe", tmp_path / "empty"
    notes.write_text("mine")
    os.mkfifo(pipe)
    empty.touch()
    for path in (notes, pipe, tmp_path):
        with pytest.raises(RecordingError, match="is no recording") as refused:
            RecordingWriter(path, overwrite=True)
        assert refused.value.code == "exists"
    assert notes.read_text() == "mine"
    for _ in range(2):
        with RecordingWriter(empty, overwrite=True) as writer:
            writer.write(_frame(), log_time_ns=START_NS)
        assert describe_recording(empty).complete


def test_a_slow_disk_is_not_asked_after_every_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, num_syncs = 1000.0, 0

    def sync(_file: int) -> None:
        nonlocal now_s, num_syncs
        now_s, num_syncs = now_s + 1.5, num_syncs + 1

    monkeypatch.setattr("streams.recording.time.monotonic", lambda: now_s)
    monkeypatch.setattr("streams.recording.os.fsync", sync)
    with RecordingWriter(tmp_path / "a.mcap") as writer:
        num_syncs = 0
        for seq in range(300):
            writer.write(_frame(seq), log_time_ns=START_NS + seq * FRAME_NS)
            now_s += FRAME_NS / 1e9
        # Ten seconds of frames, and as long for the disk.
        assert num_syncs <= 8
    assert len(list(read_recording(writer.path))) == 300


def test_a_truncated_file_gives_frames_or_an_error_wherever_it_ends(tmp_path: Path) -> None:
    frames = [_frame(i, _body(seed=i)) for i in range(90)]
    whole = _record(tmp_path / "a.mcap", frames).read_bytes()
    cut = tmp_path / "cut.mcap"
    num_read, codes = [], set()
    for size in [0, 1, 7, 8, 12, 17, 60, *np.linspace(100, len(whole) - 1, 30).astype(int).tolist()]:
        cut.write_bytes(whole[:size])
        try:
            read = list(read_recording(cut))
        except RecordingError as error:
            codes.add(error.code)
            continue
        for frame, again in zip(frames, read, strict=False):
            _assert_same(frame, again)
        num_read.append(len(read))
        summary = describe_recording(cut)
        assert summary.num_frames == len(read)
        assert not summary.complete
    assert codes == {"not_mcap", "no_skeletons"}
    assert num_read == sorted(num_read)
    assert num_read[-1] == 90


def test_blocks_that_a_power_loss_left_empty_end_the_recording(tmp_path: Path) -> None:
    whole = _record(tmp_path / "a.mcap", [_frame(i, _body()) for i in range(90)]).read_bytes()
    path = tmp_path / "lost.mcap"
    path.write_bytes(whole[: len(whole) // 2] + bytes(4096))
    assert 15 <= len(list(read_recording(path))) < 90
    assert not describe_recording(path).complete


def test_a_finished_file_with_a_flipped_bit_gives_frames_or_an_error(tmp_path: Path) -> None:
    whole = _record(tmp_path / "a.mcap", [_frame(i, _body(seed=i)) for i in range(20)]).read_bytes()
    path = tmp_path / "flipped.mcap"
    rng = np.random.default_rng(0)
    codes = set()
    for position in rng.integers(0, len(whole), 150):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            assert len(list(read_recording(path))) == 20
        except RecordingError as error:
            codes.add(error.code)
    assert "damaged" in codes


@pytest.mark.parametrize(("use_chunking", "compression"), [(False, CompressionType.NONE), (True, CompressionType.LZ4)])
def test_files_of_other_writers_are_read(tmp_path: Path, use_chunking: bool, compression: CompressionType) -> None:
    message = _message(tmp_path / "a.mcap")
    path = _write_mcap(tmp_path / "b.mcap", message, message, use_chunking=use_chunking, compression=compression)
    assert len(list(read_recording(path))) == 2


def test_a_file_that_exists_is_kept_unless_told_to_overwrite(tmp_path: Path) -> None:
    path = _record(tmp_path / "a.mcap", [_frame(0)])
    before = path.read_bytes()
    with pytest.raises(RecordingError, match=r"a\.mcap exists already") as refused:
        RecordingWriter(path)
    assert refused.value.code == "exists"
    assert path.read_bytes() == before
    with RecordingWriter(path, overwrite=True) as writer:
        writer.write(_frame(5), log_time_ns=START_NS)
    assert [frame.seq for frame in read_recording(path)] == [5]


def test_a_path_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"none/a\.mcap cannot be written: No such file") as error:
        RecordingWriter(tmp_path / "none" / "a.mcap")
    assert error.value.code == "write_failed"
    with pytest.raises(RecordingError, match="is no recording"):
        RecordingWriter(tmp_path, overwrite=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_full_disk_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing but a file is written to; this device stands for a disk.
    monkeypatch.setattr("streams.recording._check_replaceable", lambda path: None)
    with pytest.raises(RecordingError, match="/dev/full cannot be written: No space left on device"):
        RecordingWriter(Path("/dev/full"), overwrite=True)


@pytest.fixture
def no_file_over_100_kb() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("no_file_over_100_kb")
def test_a_disk_that_fills_up_ends_the_recording_and_keeps_what_was_written(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "a.mcap")
    frames = (_frame(seq, _body(seed=seq)) for seq in range(1000))
    with pytest.raises(RecordingError, match=r"a\.mcap cannot be written: File too large") as error:
        _write_all(writer, frames)
    assert error.value.code == "write_failed"
    with pytest.raises(RecordingError, match="is closed"):
        writer.write(_frame(), log_time_ns=START_NS)
    writer.close()
    num_read = len(list(read_recording(writer.path)))
    assert writer.num_frames - 30 < num_read <= writer.num_frames
    assert not describe_recording(writer.path).complete


@pytest.mark.usefixtures("no_file_over_100_kb")
def test_a_disk_that_fills_up_at_the_end_is_an_error_of_close(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "a.mcap")
    for seq in range(5):
        bodies = [_body(id=i, seed=100 * seq + i) for i in range(60 if seq else 1)]
        writer.write(_frame(seq, *bodies), log_time_ns=START_NS + seq)
    with pytest.raises(RecordingError, match="File too large"):
        writer.close()
    assert [frame.seq for frame in read_recording(writer.path)] == [0]


def test_a_writer_that_was_closed_says_so(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "a.mcap") as writer:
        writer.write(_frame(0), log_time_ns=START_NS)
    writer.close()
    assert writer.num_frames == 1
    with pytest.raises(RecordingError, match="is closed"):
        writer.write(_frame(1), log_time_ns=START_NS)


def test_a_frame_of_unknown_layout_or_axes_is_refused_and_the_rest_is_kept(tmp_path: Path) -> None:
    with RecordingWriter(tmp_path / "a.mcap") as writer:
        writer.write(_frame(0, _body()), log_time_ns=START_NS)
        with pytest.raises(LayoutError, match="layout 'spider' is not known"):
            writer.write(replace(_frame(1), layout="spider"), log_time_ns=START_NS)
        with pytest.raises(LayoutError, match="axes 'XYZ'"):
            writer.write(replace(_frame(1), axes="XYZ"), log_time_ns=START_NS)
        writer.write(_frame(2), log_time_ns=START_NS)
    assert [frame.seq for frame in read_recording(writer.path)] == [0, 2]


@pytest.mark.parametrize("content", [b"", b"PK\3\4 an archive", b"\x89MCAP0\r", b"\x89MCAP1\r\n" * 3])
def test_a_file_that_is_not_mcap_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(content)
    for read in (lambda: list(read_recording(path)), lambda: describe_recording(path)):
        with pytest.raises(RecordingError, match=r"a\.mcap is not an MCAP file"):
            read()


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"a\.mcap does not exist") as error:
        describe_recording(tmp_path / "a.mcap")
    assert error.value.code == "not_found"
    with pytest.raises(RecordingError, match="cannot be read: Is a directory"):
        list(read_recording(tmp_path))


def test_an_mcap_file_without_skeletons_is_refused(tmp_path: Path) -> None:
    path = _write_mcap(tmp_path / "a.mcap", b"{}", schema="foxglove.Log", topic="log")
    with pytest.raises(RecordingError, match=r"no skeleton frames.*cglg\.SkeletonFrame"):
        list(read_recording(path))
    with RecordingWriter(tmp_path / "b.mcap") as writer:
        pass
    with pytest.raises(RecordingError, match="no skeleton frames"):
        describe_recording(writer.path)


def test_a_recording_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = _write_mcap(tmp_path / "a.mcap", b"{}", metadata={"version": "2"})
    with pytest.raises(RecordingError, match="is of version '2': this program reads version 1") as error:
        describe_recording(path)
    assert error.value.code == "unsupported_version"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"timestamp_s": None}, "timestamp_s"),
        ({"timestamp_s": ...}, "missing required field `timestamp_s`"),
        ({"seq": -1}, "seq"),
        ({"seq": 1.5}, "seq"),
        ({"seq": 10**30}, "ints"),
        ({"epoch": ""}, "epoch ''"),
        ({"layout": "spider"}, "layout 'spider' is not known"),
        ({"layout": "coco17"}, "300 bytes, expected 204 for 17 joints"),
        ({"axes": "LUL"}, "axes 'LUL'"),
        ({"bodies": [{"id": 0, "joints_m": [], "confidence": []}]}, "0 bytes, expected 300"),
        ({"bodies": [{"id": 0, "joints_m": [None] * 25, "confidence": [4] * 25}]}, "confidence"),
        ({"bodies": [{"id": 0, "joints_m": [None] * 25, "confidence": [0] * 25}] * 2}, "same id"),
        (
            {"bodies": [{"id": i, "joints_m": [None] * 25, "confidence": [0] * 25} for i in range(65)]},
            "65 bodies",
        ),
        (
            {"bodies": [{"id": 0, "joints_m": [{"x": 1e300, "y": 0, "z": 0}] * 25, "confidence": [0] * 25}]},
            "<= 100.0 - at `$.bodies[0].joints_m[0].x`",
        ),
        ({"bodies": [{"id": 0, "joints_m": [{"x": 1, "y": 0}] * 25, "confidence": [0] * 25}]}, "`z`"),
    ],
)
def test_a_malformed_message_is_named_by_number_and_reason(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    good = _message(tmp_path / "a.mcap")
    path = _write_mcap(tmp_path / "b.mcap", good, _message(tmp_path / "a.mcap", **changes))
    frames = read_recording(path)
    next(frames)
    with pytest.raises(RecordingError) as error:
        next(frames)
    assert "skeleton message 2 is malformed" in error.value.message
    assert reason in error.value.message


@pytest.mark.parametrize("payload", [b"", b"not json", b'{"source": "\xff"}', b"[" * 100_000, b"null"])
def test_a_message_that_is_not_json_is_malformed(tmp_path: Path, payload: bytes) -> None:
    path = _write_mcap(tmp_path / "a.mcap", payload)
    for read in (lambda: list(read_recording(path)), lambda: describe_recording(path)):
        with pytest.raises(RecordingError, match="skeleton message 1 is malformed"):
            read()


def test_unknown_keys_in_a_message_are_ignored(tmp_path: Path) -> None:
    path = _write_mcap(tmp_path / "b.mcap", _message(tmp_path / "a.mcap", mood="good"))
    assert len(list(read_recording(path))) == 1


def test_an_hour_of_one_body_takes_less_than_150_mb(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    standing_m = _body().joints_m
    frames = [
        _frame(i, replace(_body(), joints_m=standing_m + rng.normal(0, 2e-3, (25, 3)).astype(np.float32)))
        for i in range(150)
    ]
    path = _record(tmp_path / "a.mcap", frames)
    assert path.stat().st_size / len(frames) * 30 * 3600 < 150e6
