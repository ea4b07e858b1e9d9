"""The SQLite file of a gallery: its tables, how it is opened, and what its errors mean.

Schema 2 is schema 1 with negatives: examples whose label is empty, which a program that knows only 1 would
take for prototypes. Schema 3 is schema 2 with counter-examples, which a program that knows only 2 would take for
prototypes of another label. The tables of the three are the same. Schema 4 knows what was enrolled by words: a column
for them, and examples without frames. Schema 5 has a checksum beside each row.

A gallery opens its file for each use and closes it again. SQLite finds the log beside a file by name: who held it open
while another took its name would write the pages of the one into the other.

Shapes: L frames of an example, kinect25 joints in "LUF", D embedding size.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from streams.errors import GalleryError

SCHEMA_VERSION = 5
BUSY_TIMEOUT_S = 5.0
MEMORY = Path(":memory:")
# "cglg": tells a gallery from the SQLite file of another program.
APPLICATION_ID = 0x63676C67

_PLACE = "Name a gallery file, or a new file in a folder that can be written to and has space."
# What SQLite says of a disk or a folder, not of the file.
_NO_DAMAGE = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")
_EXAMPLE, _EMBEDDING = "id, origin, created, timestamps_s, joints_m, words", "example, model, embedding"
_REVISION = "revision, stands_for, created, action, label, detail, shown"
# What a row's checksum is of: its other columns, in this order.
CHECKED = {"examples": _EXAMPLE, "embeddings": _EMBEDDING, "revisions": _REVISION}

_SCHEMA = (
    """CREATE TABLE revisions (
        revision INTEGER PRIMARY KEY,
        stands_for INTEGER NOT NULL, -- itself; for an undo the earlier revision whose gallery it shows
        created TEXT NOT NULL, action TEXT NOT NULL, label TEXT NOT NULL, detail TEXT NOT NULL,
        -- JSON, by id, in order: the label of each example in the gallery, "" of a negative, and of a
        -- counter-example "not", a tab, and the label that it is not
        shown TEXT NOT NULL,
        sha256 TEXT) -- of the row's other columns, as edge.gallery.schema.checksum has it""",
    """CREATE TABLE examples (
        id TEXT PRIMARY KEY, origin TEXT NOT NULL, created TEXT NOT NULL,
        timestamps_s BLOB NOT NULL, -- little-endian float64 (L,)
        joints_m BLOB NOT NULL, -- little-endian float32 (L, 25, 3)
        words TEXT DEFAULT '', -- a description beside the label's words; NULL: words do not count
        sha256 TEXT)""",
    """CREATE TABLE embeddings (
        example TEXT NOT NULL,
        model TEXT NOT NULL, -- its SHA-256 and the version of the preprocessing
        embedding BLOB NOT NULL, -- little-endian float32 (D,)
        sha256 TEXT,
        PRIMARY KEY (example, model))""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class Stamp(NamedTuple):
    """Tell a file and its log from what was there before: device, inode, size and time of change of both."""

    file: tuple[int, int, int, int] | None
    log: tuple[int, int, int, int] | None


def read_stamp(path: Path) -> Stamp:
    """Return the stamp of a gallery's file as it is now; None for what is not there."""

    def of(path: Path) -> tuple[int, int, int, int] | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    return Stamp(of(path), of(logs_of(path)[0]))


def logs_of(path: Path) -> tuple[Path, Path]:
    """Return the names that SQLite finds beside a file: its log and the index of that."""
    return path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def checksum(*row: object) -> str:
    """Return the SHA-256 of a row: of each value its type and length, then the value."""
    found = hashlib.sha256()
    for value in row:
        content = value if isinstance(value, bytes) else b"" if value is None else str(value).encode()
        kind = "n" if value is None else "b" if isinstance(value, bytes) else "s"
        found.update(f"{kind}{len(content)}:".encode())
        found.update(content)
    return found.hexdigest()


def insert(db: sqlite3.Connection, table: str, *row: object, replace: bool = False) -> None:
    """Store a row of one of CHECKED with its checksum."""
    marks = ", ".join("?" * (len(row) + 1))
    verb = "INSERT OR REPLACE" if replace else "INSERT"
    db.execute(f"{verb} INTO {table} ({CHECKED[table]}, sha256) VALUES ({marks})", (*row, checksum(*row)))


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the file; leave one that is no gallery as it is. Raises GalleryError.

    `create`: make it where there is none, or nothing in it; else that is an error.
    """
    with file_errors(path):
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        name = str(path) if path == MEMORY else f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}"
        # isolation_level None: transactions begin where this module says so, not where Python guesses.
        db = sqlite3.connect(name, timeout=BUSY_TIMEOUT_S, isolation_level=None, uri=path != MEMORY)
        try:
            check_schema(db, path, create=create)
            _write_ahead(db)
        except BaseException:
            db.close()
            raise
    return db


def check_schema(db: sqlite3.Connection, path: Path, *, create: bool) -> None:
    """Refuse what is no gallery; bring an older one to today's schema. Raises GalleryError."""
    application, version, num_tables = _read_kind(db)
    is_empty = not (application or version or num_tables)
    if is_empty and not create:
        raise bad_gallery(path, "it is empty")
    if not is_empty and application != APPLICATION_ID:
        raise bad_gallery(path, "it is an SQLite database of another program")
    if not is_empty and not 1 <= version <= SCHEMA_VERSION:
        raise GalleryError(
            f"{path} has gallery schema {version}, expected {SCHEMA_VERSION}",
            hint="Use the version of crossglg-edge that wrote it, or name another gallery file.",
        )
    if version < SCHEMA_VERSION:
        # Of two processes that find no file, or an old one, the second waits here until the first is done.
        db.execute("BEGIN IMMEDIATE")
        with db:
            _, version, num_tables = _read_kind(db)
            if not num_tables:
                make_tables(db)
            elif version < SCHEMA_VERSION:
                _migrate(db, version)


def make_tables(db: sqlite3.Connection) -> None:
    """Make an empty gallery of an empty file, within a transaction."""
    for statement in _SCHEMA:
        db.execute(statement)
    insert(db, "revisions", 0, 0, "", "create", "", "", "{}")


def _read_kind(db: sqlite3.Connection) -> tuple[int, int, int]:
    """Return the application, the schema's version and the number of tables."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (num_tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return application, version, num_tables


def _migrate(db: sqlite3.Connection, version: int) -> None:
    """Bring an older file to today's schema, within a transaction; what it holds is trusted as it is."""
    if version < 4:
        db.execute("ALTER TABLE examples ADD COLUMN words TEXT DEFAULT ''")
    db.create_function("checksum", -1, checksum, deterministic=True)
    for table, columns in CHECKED.items():
        db.execute(f"ALTER TABLE {table} ADD COLUMN sha256 TEXT")
        db.execute(f"UPDATE {table} SET sha256 = checksum({columns})")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, so that readers never wait; each commit is synced to the disk.

    SQLite does not wait by itself when two processes switch a new file at once.
    """
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)
    db.execute("PRAGMA synchronous = FULL")


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong with the file into GalleryError: "busy", "bad_gallery"."""
    try:
        yield
    # What SQLite or msgspec quotes of a damaged file, or a file name with bad bytes, may be no Unicode.
    except (sqlite3.Error, OSError, msgspec.DecodeError, UnicodeError) as error:
        # The low byte is the kind of error; those that the Python module finds itself have none.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            raise GalleryError(
                f"{path} is locked: another process has been writing to it for over {BUSY_TIMEOUT_S:g} s",
                code="busy",
                hint="Try again; if it stays so, find the process that has the file open.",
            ) from error
        if isinstance(error, OSError) or getattr(error, "sqlite_errorname", "").startswith(_NO_DAMAGE):
            raise GalleryError(f"{path} cannot be used as a gallery: {error}", hint=_PLACE) from error
        raise bad_gallery(path, str(error)) from error


def bad_gallery(path: Path, problem: str) -> GalleryError:
    """Return the error for a file that is no gallery, or is damaged."""
    hint = "`crossglg-edge gallery restore` brings a backup back, `gallery repair` saves what can still be read."
    return GalleryError(f"{path} cannot be used as a gallery: {problem}", hint=hint if _is_gallery(path) else _PLACE)


def _is_gallery(path: Path) -> bool:
    """Say whether the header, of 100 bytes, is that of a gallery, whatever comes after it."""
    with suppress(OSError, ValueError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            header = os.read(descriptor, 72)
        finally:
            os.close(descriptor)
        return header.startswith(b"SQLite format 3\0") and header[68:72] == APPLICATION_ID.to_bytes(4, "big")
    return False
