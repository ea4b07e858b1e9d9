"""Frames from archives and recordings: their names, order and time."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from streams.errors import ArchiveError, CrossGLGError, RecordingError
from streams.frame import Body, SkeletonFrame
from streams.layouts import KINECT25_JOINTS
from streams.playback import is_archive, read_clip, read_frames, repeat_frames
from streams.recording import RecordingWriter

_LENGTHS = (4, 1, 6)
_FPS = 10.0


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """Write an archive of three clips; the joints of a frame all lie at its number plus one."""
    offsets = np.concatenate(([0], np.cumsum(_LENGTHS)))
    frames = np.ones((offsets[-1], 25, 3), np.float32) * np.arange(1, offsets[-1] + 1)[:, None, None]
    path = tmp_path / "moves.npz"
    np.savez(
        path,
        frames=frames.astype(np.float32),
        offsets=offsets,
        label=np.zeros(3, np.int16),
        class_names=np.array(["wave"]),
        joint_names=np.array(KINECT25_JOINTS),
        fps=np.float32(_FPS),
        source=np.array(["s01/a", "s01/b", "s02/a:1"]),
    )
    return str(path)


def frame(seq: int, timestamp_s: float, source: str = "kinect", epoch: str = "a") -> SkeletonFrame:
    joints_m = np.full((25, 3), seq, np.float32)
    body = Body(id=1, joints_m=joints_m, confidence=np.full(25, 2, np.uint8))
    return SkeletonFrame(
        source=source, epoch=epoch, seq=seq, timestamp_s=timestamp_s, t_send_s=timestamp_s + 0.01, bodies=(body,)
    )


def record(path: Path, frames: list[SkeletonFrame]) -> str:
    with RecordingWriter(path) as writer:
        for i, item in enumerate(frames):
            writer.write(item, log_time_ns=i * 33_000_000)
    return str(path)


def numbers(frames: list[SkeletonFrame]) -> list[int]:
    """Return the number of each frame in its file, 0 where nobody is there."""
    return [int(item.bodies[0].joints_m[0, 0]) if item.bodies else 0 for item in frames]


# Names


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("a.npz", True),
        ("folder.d/a.npz", True),
        ("a.npz:3", True),
        ("a.npz:s01/b", True),
        ("a.npz:s01/b:2.txt", True),
        ("a.npz:", True),
        ("a.mcap", False),
        ("a.npz.mcap", False),
        ("a.npz/b.mcap", False),
        ("", False),
    ],
)
def test_an_archive_is_known_by_its_name(spec: str, expected: bool) -> None:
    assert is_archive(spec) == expected


def test_a_clip_is_named_by_number_or_source_name(archive: str) -> None:
    assert read_clip(f"{archive}:1").index == 1
    assert read_clip(f"{archive}:s01/b").index == 1
    assert read_clip(f"{archive}:s02/a:1").index == 2
    assert numbers(list(read_frames(f"{archive}:s02/a:1"))) == [6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("clip", ["", ":", ":3", ":-1", ":s03/a", ":1:"])
def test_a_clip_that_is_not_there_is_refused(archive: str, clip: str) -> None:
    with pytest.raises(ArchiveError, match="expected") as refusal:
        read_clip(archive + clip)
    assert refusal.value.code == "no_clip"


@pytest.mark.parametrize("spec", ["none.npz", "none.npz:0", "none.mcap", "none", "none.npz.mcap"])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, spec: str) -> None:
    for read in (read_frames, lambda name: repeat_frames(name, loop=True)):
        with pytest.raises(CrossGLGError):
            next(read(str(tmp_path / spec)))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    for name, kind in (("a.npz", ArchiveError), ("a.mcap", RecordingError)):
        (tmp_path / name).write_bytes(b"hello")
        with pytest.raises(kind):
            next(read_frames(str(tmp_path / name)))


# Archives


def test_all_clips_follow_one_another_with_nobody_in_between(archive: str) -> None:
    frames = list(read_frames(archive))
    nobody = [0] * 10
    assert numbers(frames) == [1, 2, 3, 4, *nobody, 5, *nobody, 6, 7, 8, 9, 10, 11, *nobody]
    assert [item.seq for item in frames] == list(range(len(frames)))
    np.testing.assert_allclose([item.timestamp_s for item in frames], np.arange(len(frames)) / _FPS, atol=1e-9)
    assert [item.t_send_s for item in frames] == [item.timestamp_s for item in frames]
    assert {item.epoch for item in frames} == {"archive"}


def test_each_clip_is_another_body(archive: str) -> None:
    ids = [{body.id for body in item.bodies} for item in read_frames(archive)]
    assert [sum(i in bodies for bodies in ids) for i in range(4)] == [*_LENGTHS, 0]
    assert max(len(bodies) for bodies in ids) == 1


def test_a_clip_alone_starts_at_zero(archive: str) -> None:
    frames = list(repeat_frames(f"{archive}:2", loop=False))
    assert numbers(frames) == [6, 7, 8, 9, 10, 11]
    assert [item.timestamp_s for item in frames] == pytest.approx(np.arange(6) / _FPS)


# Again and again


@pytest.mark.parametrize("clip", ["", ":0", ":1"])
def test_time_rises_over_loops(archive: str, clip: str) -> None:
    once = list(repeat_frames(archive + clip, loop=False))
    looped = list(islice(repeat_frames(archive + clip, loop=True), 3 * len(once) + 1))
    assert numbers(looped) == (numbers(once) * 4)[: len(looped)]
    steps_s = [b.timestamp_s - a.timestamp_s for a, b in pairwise(looped)]
    assert min(steps_s) > 0.5 / _FPS
    # A body that begins again is another one: nobody is seen for a second.
    assert [steps_s[i * len(once) - 1] for i in (1, 2, 3)] == pytest.approx([1.0] * 3)
    assert [item.t_send_s for item in looped] == pytest.approx([item.timestamp_s for item in looped])


def test_a_recording_is_moved_to_zero_and_keeps_its_age(tmp_path: Path) -> None:
    spec = record(tmp_path / "a.mcap", [frame(seq, 5000 + seq / 30) for seq in range(10)])
    frames = list(repeat_frames(spec, loop=False))
    assert [item.timestamp_s for item in frames] == pytest.approx(np.arange(10) / 30)
    assert [item.t_send_s - item.timestamp_s for item in frames] == pytest.approx([0.01] * 10)
    assert [item.timestamp_s for item in read_frames(spec)] == pytest.approx(5000 + np.arange(10) / 30)


def test_publishers_with_clocks_of_their_own_are_put_on_one_time(tmp_path: Path) -> None:
    left = [frame(seq, 9000 + seq / 8, "left") for seq in range(10)]
    right = [frame(seq, 5 + seq / 8, "right") for seq in range(5)]
    restarted = [replace(item, epoch="b", timestamp_s=item.timestamp_s - 8000) for item in left]
    together = [item for pair in zip(left[5:], right, strict=True) for item in pair]
    spec = record(tmp_path / "a.mcap", left[:5] + together + restarted)
    once = list(repeat_frames(spec, loop=False))
    times_s = [item.timestamp_s for item in once]
    assert times_s == sorted(times_s)
    assert times_s[-1] == 9 / 8 + 9 / 8
    by_source = [item.timestamp_s for item in once if item.source == "right"]
    assert by_source == [seq / 8 for seq in range(5, 10)]
    twice = list(islice(repeat_frames(spec, loop=True), 2 * len(once)))
    assert [item.timestamp_s - times_s[-1] - 1 for item in twice[len(once) :]] == times_s


def test_a_recording_of_nothing_is_not_looped_for_ever(tmp_path: Path) -> None:
    spec = record(tmp_path / "a.mcap", [])
    with pytest.raises(RecordingError):
        list(repeat_frames(spec, loop=True))
