"""The SQLite file of a gallery: its tables, how it is opened, and what its errors mean.

Schema 2 is schema 1 with negatives: examples whose label is empty, which a program that knows only 1 would
take for prototypes. Schema 3 is schema 2 with counter-examples, which a program that knows only 2 would take for
prototypes of another label. The tables of the three are the same. Schema 4 knows what was enrolled by words: a column
for them, and examples without frames.

Shapes: L frames of an example, kinect25 joints in "LUF", D embedding size.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from streams.errors import GalleryError

SCHEMA_VERSION = 4
BUSY_TIMEOUT_S = 5.0
# "cglg": tells a gallery from the SQLite file of another program.
_APPLICATION_ID = 0x63676C67

_SCHEMA = (
    """CREATE TABLE revisions (
        revision INTEGER PRIMARY KEY,
        stands_for INTEGER NOT NULL, -- itself; for an undo the earlier revision whose gallery it shows
        created TEXT NOT NULL, action TEXT NOT NULL, label TEXT NOT NULL, detail TEXT NOT NULL,
        -- JSON, by id, in order: the label of each example in the gallery, "" of a negative, and of a
        -- counter-example "not", a tab, and the label that it is not
        shown TEXT NOT NULL)""",
    """CREATE TABLE examples (
        id TEXT PRIMARY KEY, origin TEXT NOT NULL, created TEXT NOT NULL,
        timestamps_s BLOB NOT NULL, -- little-endian float64 (L,)
        joints_m BLOB NOT NULL, -- little-endian float32 (L, 25, 3)
        words TEXT DEFAULT '') -- a description beside the label's words; NULL: words do not count""",
    """CREATE TABLE embeddings (
        example TEXT NOT NULL,
        model TEXT NOT NULL, -- its SHA-256 and the version of the preprocessing
        embedding BLOB NOT NULL, -- little-endian float32 (D,)
        PRIMARY KEY (example, model))""",
    "INSERT INTO revisions VALUES (0, 0, '', 'create', '', '', '{}')",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


def connect(path: Path) -> sqlite3.Connection:
    """Open or create the file; leave one that is no gallery as it is. Raises GalleryError."""
    with file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # isolation_level None: transactions begin where this module says so, not where Python guesses.
        db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            # Of two processes that find no file, the second waits here until the first has made it.
            db.execute("BEGIN IMMEDIATE")
            with db:
                _check_schema(db, path)
            _write_ahead(db)
        except BaseException:
            db.close()
            raise
    return db


def _check_schema(db: sqlite3.Connection, path: Path) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (num_tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not (application or version or num_tables):
        for statement in _SCHEMA:
            db.execute(statement)
    elif application != _APPLICATION_ID:
        raise bad_gallery(path, "it is an SQLite database of another program")
    elif version in (1, 2, 3):
        db.execute("ALTER TABLE examples ADD COLUMN words TEXT DEFAULT ''")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    elif version != SCHEMA_VERSION:
        raise GalleryError(
            f"{path} has gallery schema {version}, expected {SCHEMA_VERSION}",
            hint="Use the version of crossglg-edge that wrote it, or name another gallery file.",
        )


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
        raise bad_gallery(path, str(error)) from error


def bad_gallery(path: Path, problem: str) -> GalleryError:
    """Return the error for a file that is no gallery, or is damaged."""
    return GalleryError(
        f"{path} cannot be used as a gallery: {problem}",
        hint="Name a gallery file, or a new file in a folder that can be written to and has space.",
    )
