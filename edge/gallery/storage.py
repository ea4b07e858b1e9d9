"""The gallery's file as it is used: open only for as long as it is read or written, and known again afterwards.

Whoever restores a backup puts another file in the place of this one, under a running daemon. What is not open cannot be
ruined by that, and what was read tells whether it still is the same file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from edge.gallery.schema import MEMORY, Stamp, connect, file_errors, read_stamp
from streams.errors import GalleryError


class Head(NamedTuple):
    """Tell the revision that was read: its number, and its checksum, which no other file has at that number."""

    revision: int
    sha256: str


class Storage:
    """Open the file for each use. `head`: what was read of it last, None before."""

    def __init__(self, path: Path) -> None:
        """Make the file where there is none. Raises GalleryError."""
        self.path = path
        self.head: Head | None = None
        self._stamp: Stamp | None = None
        self._db: sqlite3.Connection | None = None
        # It is gone when it is closed.
        self._memory = connect(path, create=True) if path == MEMORY else None
        if self._memory is None:
            connect(path, create=True).close()

    def close(self) -> None:
        """Let go of what is not kept in a file."""
        if self._memory is not None:
            self._memory.close()

    @property
    def db(self) -> sqlite3.Connection:
        """The connection of the use that goes on."""
        if self._db is None:
            raise RuntimeError("the gallery's file is not open: expected a use of it around")
        return self._db

    @contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """Open the file, and close it again, unless it is open. Raises GalleryError."""
        if self._db is not None:
            yield self._db
            return
        if self._memory is None and not self.path.exists():
            raise GalleryError(
                f"{self.path} was removed or moved away while it was in use; nothing is written",
                code="gallery_missing",
                hint="Put it back. A daemon still knows the examples: `crossglg-edge gallery export FILE` saves them.",
            )
        self._db = connect(self.path, create=False) if self._memory is None else self._memory
        try:
            yield self._db
        finally:
            if self._memory is None:
                self._db.close()
            self._db = None

    @contextmanager
    def transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[sqlite3.Connection]:
        """Make what is done within one change, or none. Raises GalleryError."""
        with self.use() as db, file_errors(self.path):
            db.execute(f"BEGIN {kind}")
            with db:
                yield db

    def span(self) -> tuple[int, int]:
        """Return the oldest revision that is kept and the newest; within a use."""
        with file_errors(self.path):
            oldest, newest = self.db.execute("SELECT min(revision), max(revision) FROM revisions").fetchone()
        return oldest or 0, newest or 0

    def is_written(self) -> bool:
        """Return whether anything was written since `remember`; cheap."""
        return self._memory is not None or read_stamp(self.path) != self._stamp

    def is_known(self) -> bool:
        """Return whether the newest revision is the one that was read. Raises GalleryError."""
        stamp = read_stamp(self.path)
        with self.transaction("DEFERRED"):
            is_known = self.head is not None and not self.is_replaced() and self.span()[1] == self.head.revision
        if is_known:
            self._stamp = stamp
        return is_known

    def remember(self, stamp: Stamp, head: Head) -> None:
        """Take what was read for known; `stamp` is of before that."""
        self._stamp, self.head = stamp, head

    def is_replaced(self) -> bool:
        """Say whether the file is another one than that which was read; within a use."""
        if self.head is None:
            return False
        oldest, newest = self.span()
        if oldest <= self.head.revision <= newest:
            row = self.db.execute("SELECT sha256 FROM revisions WHERE revision = ?", (self.head.revision,)).fetchone()
            return row is None or row[0] != self.head.sha256
        # A vacuum of another process took it; the revisions only ever go on.
        return newest < self.head.revision

    def check_same(self) -> None:
        """Refuse to write where another file has taken the place of the one that was read."""
        if self.is_replaced():
            raise GalleryError(
                f"{self.path} was replaced by another file since it was read; nothing was written",
                code="gallery_replaced",
                hint="The new one is read now: look at it, `crossglg-edge gallery list`, and repeat the change.",
            )
