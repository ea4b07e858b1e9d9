"""The ring of clips on a real disk: bounded, safe from kill -9, and clear about what is wrong with it.

Shapes: L frames of a clip, V = 25 kinect25 joints.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge.config import Review
from edge.daemon.background import Keeping
from edge.protocol import Why
from edge.review import Moment, clear_ring, keep_moment, read_clip, read_clips, ring_path
from streams.errors import ReviewError
from streams.movement import Movement

NOW = "2030-01-02T03:04:05Z"
FRAME_BYTES = 8 + 25 * 3 * 4


def moment(label: str = "wave", why: Why = "threshold", num_frames: int = 30, seed: int = 0) -> Moment:
    rng = np.random.default_rng(seed)
    joints_m = rng.normal(size=(num_frames, 25, 3)).astype(np.float32)
    joints_m[0, 3] = np.nan
    return Moment(
        label=label,
        source="cam",
        body=7,
        movement=Movement(timestamps_s=np.arange(num_frames) / 30, joints_m=joints_m),
        time_s=12.5,
        score=0.4,
        distance=0.9,
        threshold_distance=0.8,
        why=why,
        nearer="bow" if why == "nearer" else "",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return ring_path(tmp_path / "gallery.db")


def test_a_clip_comes_back_bit_for_bit(path: Path) -> None:
    kept = moment(why="nearer")
    stored = keep_moment(path, kept, Review(), NOW)
    assert read_clips(path) == [stored]
    clip, movement = read_clip(path, stored.id[:4])
    assert clip == stored
    assert (clip.label, clip.source, clip.body, clip.time_s) == ("wave", "cam", 7, 12.5)
    assert (clip.why, clip.nearer, clip.created, clip.frames) == ("nearer", "bow", NOW, 30)
    assert movement.joints_m.tobytes() == kept.movement.joints_m.tobytes()
    assert movement.timestamps_s.tobytes() == kept.movement.timestamps_s.tobytes()


def test_where_nothing_was_kept_there_is_nothing_and_no_file_is_made(path: Path) -> None:
    assert read_clips(path) == []
    assert clear_ring(path) == 0
    with pytest.raises(ReviewError) as refused:
        read_clip(path, "ab")
    assert refused.value.code == "unknown_id"
    assert not path.exists()


@pytest.mark.parametrize("id", ["", "zz", "%", "' OR 1"])
def test_an_id_that_names_no_clip_or_several_is_refused(path: Path, id: str) -> None:
    for _ in range(2):
        keep_moment(path, moment(), Review(), NOW)
    with pytest.raises(ReviewError, match="expected one") as refused:
        read_clip(path, id)
    assert refused.value.code == "unknown_id"


def test_the_oldest_go_when_there_are_too_many(path: Path) -> None:
    stored = [keep_moment(path, moment(str(n)), Review(max_clips=5), NOW) for n in range(12)]
    assert read_clips(path) == stored[:-6:-1]
    with pytest.raises(ReviewError):
        read_clip(path, stored[0].id)


def test_the_oldest_go_when_they_take_too_much_room(path: Path) -> None:
    settings = Review(max_megabytes=0.5)
    for n in range(20):
        keep_moment(path, moment(str(n), num_frames=300), settings, NOW)
    assert [clip.label for clip in read_clips(path)] == ["19", "18", "17", "16", "15"]
    keep_moment(path, moment("huge", num_frames=3000), settings, NOW)
    assert [clip.label for clip in read_clips(path)] == ["huge"], "the newest is kept, however large it is"
    for n in range(100):
        keep_moment(path, moment(str(n), num_frames=300), settings, NOW)
    assert path.stat().st_size < 3 * 3000 * FRAME_BYTES, "room of what went is used again"


def test_near_misses_do_not_drive_out_events_nor_events_near_misses(path: Path) -> None:
    settings = Review(max_clips=6)
    for _ in range(6):
        keep_moment(path, moment(why="told"), settings, NOW)
    for _ in range(20):
        keep_moment(path, moment(why="threshold"), settings, NOW)
    assert sorted(clip.why for clip in read_clips(path)) == ["threshold"] * 3 + ["told"] * 3


def test_clearing_deletes_the_joints_too(path: Path) -> None:
    for n in range(3):
        keep_moment(path, moment(str(n)), Review(), NOW)
    assert clear_ring(path) == 3
    assert [*path.parent.iterdir()] == []
    keep_moment(path, moment(), Review(), NOW)
    assert len(read_clips(path)) == 1


# What goes wrong


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + bytes(4080), bytes(4096)])
def test_a_damaged_ring_is_refused_until_it_is_cleared(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for use in (lambda: read_clips(path), lambda: keep_moment(path, moment(), Review(), NOW)):
        if content == bytes(4096):
            break  # SQLite takes it for an empty file
        with pytest.raises(ReviewError, match=r"review\.db") as refused:
            use()
        assert refused.value.code == "bad_review"
        assert "review clear" in refused.value.hint
    assert clear_ring(path) == 0
    keep_moment(path, moment(), Review(), NOW)
    assert len(read_clips(path)) == 1


def test_a_ring_that_is_damaged_in_the_middle_is_refused(path: Path) -> None:
    stored = [keep_moment(path, moment(seed=n), Review(), NOW) for n in range(5)]
    content = bytearray(path.read_bytes())
    content[4096:] = random.Random(0).randbytes(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(ReviewError) as refused:
        read_clips(path)
    assert refused.value.code == "bad_review"
    with pytest.raises(ReviewError):
        read_clip(path, stored[0].id)
    with pytest.raises(ReviewError):
        keep_moment(path, moment(), Review(), NOW)


def test_a_clip_whose_frames_are_cut_off_is_refused(path: Path) -> None:
    stored = keep_moment(path, moment(), Review(), NOW)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE clips SET joints_m = substr(joints_m, 1, 600)")
    with pytest.raises(ReviewError, match="30 times and 2 frames"):
        read_clip(path, stored.id)


def test_the_database_of_another_program_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    for use in (lambda: read_clips(path), lambda: keep_moment(path, moment(), Review(), NOW), lambda: clear_ring(path)):
        with pytest.raises(ReviewError) as refused:
            use()
        assert refused.value.code == "other_program"
    assert path.read_bytes() == before


def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ReviewError, match="cannot be used"):
        keep_moment(tmp_path / "file" / "x.review.db", moment(), Review(), NOW)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ReviewError, match="cannot be used"):
        keep_moment(tmp_path / "folder", moment(), Review(), NOW)


WRITE = """
import sys
from pathlib import Path
from test_review_ring import NOW, Review, keep_moment, moment
for n in range(10_000):
    print(keep_moment(Path(sys.argv[1]), moment(str(n), seed=n), Review(max_clips=20), NOW).id, flush=True)
"""


def test_kill_9_while_it_is_written_loses_no_clip_that_was_kept(path: Path) -> None:
    for attempt in range(3):
        command = [sys.executable, "-c", WRITE, str(path)]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True) as process:
            assert process.stdout is not None
            ids = [process.stdout.readline().strip() for _ in range(25 + 7 * attempt)]
            process.send_signal(signal.SIGKILL)
            ids += process.stdout.read().split()
        kept = [clip.id for clip in read_clips(path)]
        said = [id for id in kept if id in ids]
        assert said == ids[::-1][: len(said)]
        assert (len(kept), len(said)) in {(20, 20), (20, 19)}, "one may be there that was not said any more"
        for id in kept:
            assert len(read_clip(path, id)[1]) == 30


FILL = """
import resource, sys
from pathlib import Path
from test_review_ring import NOW, Review, ReviewError, keep_moment, moment, read_clips
path = Path(sys.argv[1])
keep_moment(path, moment(), Review(), NOW)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    for n in range(100):
        keep_moment(path, moment(seed=n), Review(), NOW)
    print("never full")
except ReviewError as error:
    print(error.code)
resource.setrlimit(resource.RLIMIT_FSIZE, 2 * (resource.getrlimit(resource.RLIMIT_FSIZE)[1],))
before = len(read_clips(path))
keep_moment(path, moment(), Review(), NOW)
print(before > 3, len(read_clips(path)) == before + 1)
"""


def test_on_a_full_disk_what_was_kept_stays_and_it_goes_on_when_there_is_room(path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, check=True, timeout=60, env=env
    )
    assert done.stdout.split() == ["bad_review", "True", "True"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200_000


# In the background


def test_clips_are_written_in_the_background_and_counted(path: Path) -> None:
    keeping = Keeping(path)
    for _ in range(3):
        keeping.keep(moment(), Review(), NOW)
    keeping.close()
    status = keeping.status(Review(), 4)
    assert (status.kept, status.not_kept, status.state, status.path) == (3, {"rate": 4}, "", str(path))
    assert keeping.status(Review(enabled=False), 0).state == "off"
    assert len(read_clips(path)) == 3


def test_a_disk_that_is_slower_than_the_clips_loses_clips_and_makes_nobody_wait(path: Path) -> None:
    keep_moment(path, moment(), Review(), NOW)
    keeping = Keeping(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as blocking:
        blocking.execute("BEGIN IMMEDIATE")
        for _ in range(40):
            keeping.keep(moment(), Review(), NOW)
        blocking.execute("ROLLBACK")
    keeping.close()
    status = keeping.status(Review(), 0)
    assert status.not_kept == {"queue_full": 8}
    assert status.kept == 32


def test_why_no_clip_is_kept_is_told_until_one_is_kept_again(path: Path) -> None:
    path.write_bytes(b"no database")
    keeping = Keeping(path)
    keeping.keep(moment(), Review(), NOW)
    until_written(keeping)
    error = keeping.take_error()
    assert error is not None
    assert "review.db" in keeping.status(Review(), 0).state
    path.unlink()
    keeping.keep(moment(), Review(), NOW)
    keeping.close()
    status = keeping.status(Review(), 0)
    assert (status.kept, status.not_kept, status.state) == (1, {"failed": 1}, "")


def until_written(keeping: Keeping) -> None:
    while keeping.status(Review(), 0).not_kept.get("failed") is None:
        pass
