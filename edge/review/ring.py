"""The ring of clips beside the gallery: bounded by number and size, the oldest go first; safe from kill -9.

One SQLite file, opened for each use and closed again: any number of processes may share it, and it may be deleted at
any time. Readers never wait for a writer.

Shapes: L frames of a clip, kinect25 joints in "LUF".
"""

from __future__ import annotations

import sqlite3
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import numpy as np

from edge.config import Review
from edge.protocol import ReviewClip
from edge.review.moments import Moment
from streams.errors import ReviewError
from streams.movement import Movement

SCHEMA_VERSION = 1
# "cgrv": tells a ring from the SQLite file of another program.
_APPLICATION_ID = 0x63677276
_BUSY_TIMEOUT_S = 2.0
_SCHEMA = (
    """CREATE TABLE clips (
        number INTEGER PRIMARY KEY, -- rises in the order in which they were kept
        id TEXT NOT NULL UNIQUE,
        about TEXT NOT NULL, -- JSON: ReviewClip
        is_told INTEGER NOT NULL,
        num_bytes INTEGER NOT NULL,
        timestamps_s BLOB NOT NULL, -- little-endian float64 (L,)
        joints_m BLOB NOT NULL) -- little-endian float32 (L, 25, 3)""",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


def ring_path(gallery: Path) -> Path:
    """Return where the ring of a gallery is."""
    return gallery.with_name(f"{gallery.name}.review.db")


def keep_moment(path: Path, moment: Moment, settings: Review, created: str) -> ReviewClip:
    """Put a moment into the ring, make room for it, and return it as a clip. Raises ReviewError.

    Told moments and near misses each go when they have more than their half, so that one kind cannot drive out the
    other.
    """
    movement = moment.movement
    clip = ReviewClip(
        id=uuid.uuid4().hex[:8],
        created=created,
        label=moment.label,
        source=moment.source,
        body=moment.body,
        time_s=moment.time_s,
        duration_s=movement.duration_s,
        frames=len(movement),
        score=moment.score,
        distance=moment.distance,
        threshold_distance=moment.threshold_distance,
        why=moment.why,
        nearer=moment.nearer,
    )
    times = np.asarray(movement.timestamps_s, "<f8").tobytes()
    joints = np.asarray(movement.joints_m, "<f4").tobytes()
    row = (clip.id, msgspec.json.encode(clip).decode(), moment.is_told, len(times) + len(joints), times, joints)
    with _opened(path) as db:
        db.execute("BEGIN IMMEDIATE")
        with db:
            columns = "id, about, is_told, num_bytes, timestamps_s, joints_m"
            db.execute(f"INSERT INTO clips ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row)
            _make_room(db, settings)
    return clip


def _make_room(db: sqlite3.Connection, settings: Review) -> None:
    while True:
        count, size = db.execute("SELECT count(*), coalesce(sum(num_bytes), 0) FROM clips").fetchone()
        if count <= 1 or (count <= settings.max_clips and size <= 1e6 * settings.max_megabytes):
            return
        (num_told,) = db.execute("SELECT count(*) FROM clips WHERE is_told").fetchone()
        is_told = int(2 * num_told > count)
        db.execute("DELETE FROM clips WHERE number = (SELECT min(number) FROM clips WHERE is_told = ?)", (is_told,))


def read_clips(path: Path) -> list[ReviewClip]:
    """Return the clips, the newest first; none where there is no ring. Raises ReviewError."""
    if not path.exists():
        return []
    with _opened(path) as db:
        rows = db.execute("SELECT about FROM clips ORDER BY number DESC").fetchall()
        return [msgspec.json.decode(about, type=ReviewClip) for (about,) in rows]


def read_clip(path: Path, id: str) -> tuple[ReviewClip, Movement]:
    """Return the clip whose id begins with `id`, and its movement. Raises ReviewError: "unknown_id", "bad_review"."""
    rows = []
    if path.exists():
        with _opened(path) as db:
            query = "SELECT about, timestamps_s, joints_m FROM clips WHERE substr(id, 1, ?) = ?"
            rows = db.execute(query, (len(id), id)).fetchall() if id else []
    if len(rows) != 1:
        raise ReviewError(
            f"{len(rows)} clips in {path} have an id that begins with {id!r}, expected one",
            code="unknown_id",
            hint="`crossglg-edge review list` prints the ids. Older clips make room for newer ones.",
        )
    ((about, times, joints),) = rows
    with _file_errors(path):
        clip = msgspec.json.decode(about, type=ReviewClip)
        timestamps_s, joints_LV3 = np.frombuffer(times, "<f8"), np.frombuffer(joints, "<f4").reshape(-1, 25, 3)
        if not len(timestamps_s) == len(joints_LV3) == clip.frames:
            raise ValueError(f"clip {clip.id} has {len(timestamps_s)} times and {len(joints_LV3)} frames")
    return clip, Movement(timestamps_s=timestamps_s, joints_m=joints_LV3)


def clear_ring(path: Path) -> int:
    """Delete the ring for good, a damaged one too; return how many clips it had. Raises ReviewError."""
    try:
        num_clips = len(read_clips(path))
    except ReviewError as error:
        if error.code == "other_program":
            raise
        num_clips = 0
    with _file_errors(path):
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
    return num_clips


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the ring, or create it. Raises ReviewError."""
    with _file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)) as db:
            _check_schema(db, path)
            # A crash of the machine may cost the last clips, but does not damage the file.
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            yield db


def _check_schema(db: sqlite3.Connection, path: Path) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application == 0:
        # Of two processes that find no file, the second waits here until the first has made it.
        db.execute("BEGIN IMMEDIATE")
        with db:
            (num_tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if not num_tables:
                for statement in _SCHEMA:
                    db.execute(statement)
        (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if (application, version) != (_APPLICATION_ID, SCHEMA_VERSION):
        raise ReviewError(
            f"{path} is not a ring of clips of version {SCHEMA_VERSION}",
            code="other_program",
            hint="Move the file away, or use the version of crossglg-edge that wrote it.",
        )


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, msgspec.DecodeError, ValueError) as error:
        raise ReviewError(
            f"{path} cannot be used to keep clips for review: {error}",
            hint="Its folder needs space, and must be one that may be written to. "
            "`crossglg-edge review clear` deletes a damaged file.",
        ) from error


def most_useful(clips: Sequence[ReviewClip]) -> list[ReviewClip]:
    """Return clips in the order in which answers to them teach most, by what half an hour of each of three sets gave.

    In turn each label's events and its near misses, of each the nearest to the label first.
    """
    waiting = sorted(clips, key=lambda clip: clip.distance / max(clip.threshold_distance, 1e-9))
    num_taken: Counter[tuple[str, bool]] = Counter()
    ranks = []
    for clip in waiting:
        kind = clip.label, clip.why == "told"
        ranks.append(num_taken[kind])
        num_taken[kind] += 1
    order = sorted(range(len(waiting)), key=lambda i: (ranks[i], i))
    return [waiting[i] for i in order]
