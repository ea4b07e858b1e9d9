"""A gallery's file in good and bad times: checked, backed up, restored, repaired. No model is needed, nor a daemon.

All work beside a daemon that has the gallery in use: it notices a new revision, or another file, within a second.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from edge.gallery.examples import Damaged
from edge.gallery.rows import DamagedRowError, read_recorded, read_row
from edge.gallery.schema import (
    BUSY_TIMEOUT_S,
    CHECKED,
    bad_gallery,
    check_schema,
    checksum,
    connect,
    file_errors,
    insert,
    logs_of,
    make_tables,
)
from streams.errors import GalleryError
from streams.files import replacing

BACKUPS = "backups"
_STAMP = "%Y%m%d-%H%M%S"
# "not" of a counter-example, see edge.gallery.schema.
_NOT = "not\t"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Tell how a gallery's file is: `problems` of the file as a whole, `damaged` examples of the newest revision."""

    path: Path
    revision: int
    num_examples: int
    problems: tuple[str, ...]
    damaged: tuple[Damaged, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.problems and not self.damaged


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """Tell what a repair or a restoration did.

    `left_out`: what could not be brought back. `kept`: where the file as it was before is kept, None where it was
    not replaced.
    """

    revision: int
    num_examples: int
    left_out: tuple[Damaged, ...]
    kept: Path | None


def check_gallery(path: Path) -> Condition:
    """Look at every page, and at each row of the newest revision; nothing is changed. Raises GalleryError."""
    with _snapshot(path) as db:
        problems = _page_problems(db)
        try:
            revision, shown = _newest(db, path)
        except GalleryError as error:
            return Condition(path=path, revision=0, num_examples=0, problems=(*problems, error.message), damaged=())
        damaged = _damaged(db, shown)
        return Condition(
            path=path, revision=revision, num_examples=len(shown) - len(damaged), problems=problems, damaged=damaged
        )


def back_up(path: Path, to: Path) -> Path:
    """Write a copy of a sound gallery, whole or not at all; return its path. Raises GalleryError."""
    if to.resolve() == path.resolve():
        raise GalleryError(f"{to} is the gallery itself: expected another file", code="backup_failed")
    condition = check_gallery(path)
    if not condition.is_sound:
        raise GalleryError(
            f"{path} is damaged, and no backup of it is made: {_first(condition)}",
            code="backup_failed",
            hint="`crossglg-edge gallery check` says what, `gallery repair` mends it.",
        )
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with replacing(to) as temporary, _reading(path) as source, closing(sqlite3.connect(temporary)) as copy:
            source.backup(copy)
            # One file alone, that nothing beside it belongs to.
            copy.execute("PRAGMA journal_mode = DELETE")
    except (OSError, sqlite3.Error) as error:
        raise GalleryError(
            f"{to} cannot be written: {getattr(error, 'strerror', None) or error}",
            code="backup_failed",
            hint="Name a file in a folder that can be written to and has space.",
        ) from error
    return to


def back_up_now(path: Path, keep: int) -> Path:
    """Back a gallery up beside it, by the date, and remove all but the last `keep` such files. Raises GalleryError."""
    folder = path.parent / BACKUPS
    made = back_up(path, folder / f"{path.stem}-{datetime.now(UTC).strftime(_STAMP)}.db")
    others = [old for old in backups_of(path) if old != made]
    for old in others[: max(0, len(others) + 1 - max(keep, 1))]:
        old.unlink(missing_ok=True)
    return made


def backups_of(path: Path) -> list[Path]:
    """Return the backups that were made beside a gallery by the date, the oldest first."""
    return sorted((path.parent / BACKUPS).glob(f"{path.stem}-????????-??????.db"))


def is_backup_due(path: Path, now_s: float) -> bool:
    """Say whether the last backup is over a day old, and the gallery was written since. `now_s`: time.time()."""
    last = backups_of(path)
    try:
        changed_s = max(file.stat().st_mtime for file in (path, *logs_of(path)) if file.exists())
        return not last or (now_s - last[-1].stat().st_mtime > 86_400 and changed_s > last[-1].stat().st_mtime)
    except (OSError, ValueError):
        return False


def restore(path: Path, source: Path, *, created: str) -> Mended:
    """Make a gallery show what a backup shows, as a new revision, which can be undone.

    A gallery that cannot be read is kept beside it, and the backup takes its place. Raises GalleryError.
    """
    if source.resolve() == path.resolve():
        raise GalleryError(f"{source} is the gallery itself: expected a backup of it", code="restore_failed")
    with _snapshot(source) as backup:
        number, shown = _newest(backup, source)
        left_out = _damaged(backup, shown)
        lost = {damaged.id for damaged in left_out}
        shown = {id: said for id, said in shown.items() if id not in lost}
        kept = None
        if not _is_readable(path):
            kept = _set_aside(path)
            path.unlink()
        with closing(connect(path, create=True)) as db, file_errors(path):
            db.execute("BEGIN IMMEDIATE")
            with db:
                for id in shown:
                    _bring(db, backup, id)
                detail = f"of {source.name}, its revision {number}"
                revision = _add_revision(db, created, "restore", detail, shown)
    return Mended(revision=revision, num_examples=len(shown), left_out=left_out, kept=kept)


def repair(path: Path, *, created: str) -> Mended:
    """Take out of a gallery what is damaged, as a new revision; the file as it was is kept beside it.

    Where pages or the newest revision are damaged, what can be read goes into a new file. Raises GalleryError.
    """
    condition = check_gallery(path)
    if condition.is_sound:
        return Mended(revision=condition.revision, num_examples=condition.num_examples, left_out=(), kept=None)
    if condition.problems:
        return _salvage(path, created)
    kept = _name_aside(path)
    with _reading(path) as source, closing(sqlite3.connect(kept)) as copy:
        source.backup(copy)
    lost = {damaged.id for damaged in condition.damaged}
    with closing(connect(path, create=False)) as db, file_errors(path):
        db.execute("BEGIN IMMEDIATE")
        with db:
            _, shown = _newest(db, path)
            shown = {id: said for id, said in shown.items() if id not in lost}
            revision = _add_revision(db, created, "repair", f"{len(lost)} damaged examples taken out", shown)
    return Mended(revision=revision, num_examples=len(shown), left_out=condition.damaged, kept=kept)


def _salvage(path: Path, created: str) -> Mended:
    """Put what can be read of a file into a new one, which takes its place."""
    with _reading(path) as db:
        revisions = {row[0]: row for row in _sound_rows(db, "revisions")}
        examples = {row[0]: row for row in _sound_rows(db, "examples")}
    newest = max((number for number in revisions if number > 0), default=0)
    shown: dict[str, str] = {}
    if newest:
        shown = msgspec.json.decode(revisions[newest][-1], type=dict[str, str])
    known = {id: said for id, said in shown.items() if id in examples}
    if not newest:
        # The names are gone with the revisions; the movements are not.
        known = {id: f"recovered {number}" for number, id in enumerate(examples, start=1) if examples[id][3]}
    lost = [id for id in shown if id not in examples]
    left_out = tuple(Damaged(id=id, label=_label(shown[id]), problem="it cannot be read") for id in lost)
    with replacing(path) as temporary:
        with closing(sqlite3.connect(temporary, isolation_level=None)) as db, file_errors(path), db:
            db.execute("BEGIN")
            make_tables(db)
            for row in examples.values():
                insert(db, "examples", *row)
            for number, row in sorted(revisions.items()):
                insert(db, "revisions", *row, replace=number == 0)
            revision = _add_revision(db, created, "repair", f"{len(lost)} examples could not be read", known)
        kept = _set_aside(path)
    return Mended(revision=revision, num_examples=len(known), left_out=left_out, kept=kept)


def _sound_rows(db: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows whose checksum holds, from both ends as far as each can be read."""
    seen = set()
    for order in ("ASC", "DESC"):
        try:
            for row in db.execute(f"SELECT {CHECKED[table]}, sha256 FROM {table} ORDER BY rowid {order}"):
                if row[0] not in seen and row[-1] == checksum(*row[:-1]):
                    seen.add(row[0])
                    yield tuple(row[:-1])
        except (sqlite3.DatabaseError, UnicodeError):
            continue


def _bring(db: sqlite3.Connection, backup: sqlite3.Connection, id: str) -> None:
    """Store an example of a backup, unless the gallery has it, and sound."""
    try:
        read_row(db, "examples", "id = ?", id)
    except DamagedRowError:
        insert(db, "examples", *read_row(backup, "examples", "id = ?", id), replace=True)


def _add_revision(db: sqlite3.Connection, created: str, action: str, detail: str, shown: dict[str, str]) -> int:
    (head,) = db.execute("SELECT max(revision) FROM revisions").fetchone()
    content = msgspec.json.encode(shown).decode()
    insert(db, "revisions", head + 1, head + 1, created, action, "", detail, content)
    return int(head) + 1


def _newest(db: sqlite3.Connection, path: Path) -> tuple[int, dict[str, str]]:
    """Return the number of the newest revision, and what it shows. Raises GalleryError where it is damaged."""
    with file_errors(path):
        (newest,) = db.execute("SELECT max(revision) FROM revisions").fetchone()
        try:
            *_, shown = read_row(db, "revisions", "revision = ?", newest)
        except DamagedRowError as error:
            raise bad_gallery(path, f"revision {newest} is damaged: {error}") from error
        return int(newest), msgspec.json.decode(shown, type=dict[str, str])


def _damaged(db: sqlite3.Connection, shown: dict[str, str]) -> tuple[Damaged, ...]:
    found = []
    for id, said in shown.items():
        try:
            *_, times, _, _ = read_row(db, "examples", "id = ?", id)
            if times:  # words alone have no frames
                read_recorded(db, id)
        except DamagedRowError as error:
            found.append(Damaged(id=id, label=_label(said), problem=str(error)))
    return tuple(found)


def _page_problems(db: sqlite3.Connection) -> tuple[str, ...]:
    try:
        found = [str(row[0]) for row in db.execute("PRAGMA quick_check(10)")]
    except sqlite3.DatabaseError as error:
        return (str(error),)
    return () if found == ["ok"] else tuple(found)


def _label(said: str) -> str:
    return said.removeprefix(_NOT)


def _first(condition: Condition) -> str:
    return condition.problems[0] if condition.problems else f"example {condition.damaged[0].id[:8]}"


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file to read it as it is. Raises GalleryError."""
    if not path.is_file():
        raise GalleryError(f"{path} does not exist: expected a gallery", code="not_found", hint="Check the path.")
    with file_errors(path):
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, timeout=BUSY_TIMEOUT_S, uri=True)) as db:
            yield db


@contextmanager
def _snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Copy a file of any schema, and bring the copy to today's. Raises GalleryError."""
    # A name of nothing is a temporary file, which SQLite removes.
    with closing(sqlite3.connect("", isolation_level=None)) as copy:
        with _reading(path) as source:
            source.backup(copy)
        with file_errors(path):
            check_schema(copy, path, create=False)
        yield copy


def _is_readable(path: Path) -> bool:
    if not path.exists():
        return True
    try:
        return not check_gallery(path).problems
    except GalleryError:
        return False


def _name_aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.damaged-{datetime.now(UTC).strftime(_STAMP)}")


def _set_aside(path: Path) -> Path:
    """Copy a file to another name, and move there what belongs to it. Raises GalleryError."""
    kept = _name_aside(path)
    with file_errors(path):
        # The log first: beside a new file it would be read into that.
        for log in logs_of(path):
            if log.exists():
                shutil.move(log, kept.with_name(f"{kept.name}{log.name.removeprefix(path.name)}"))
        shutil.copy2(path, kept)
    return kept
