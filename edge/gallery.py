"""The prototypes on disk: labelled examples, their embeddings and every change to them, in one SQLite file.

A prototype keeps its raw example, so that a new model can embed it again. Nothing is deleted before
`Gallery.vacuum`: a row of `prototypes` says which example bore which label from revision `added_in`
up to, not including, `removed_in`. An embedding is kept per model, so two models can share a file.

Shapes: N examples, L frames as they came, V = 25 kinect25 joints, C = 3 in "LUF", D embedding size.
"""

from __future__ import annotations

import os
import sqlite3
import time
import unicodedata
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, Self

import msgspec
import numpy as np
import numpy.typing as npt

from edge.normalize import PREPROCESSING_VERSION
from streams.errors import GalleryError

Array = npt.NDArray[np.float32]
Times = npt.NDArray[np.float64]
Example = tuple[Times, Array]
Mode = Literal["new", "add", "replace"]

SCHEMA_VERSION = 1
EXPORT_VERSION = 1
BUSY_TIMEOUT_S = 5.0
MAX_LABEL_LENGTH = 100
MAX_EXPORT_BYTES = 1 << 30
# "cglg": tells a gallery from the SQLite file of another program.
_APPLICATION_ID = 0x63676C67
# No clock and no body gets there; what does is another unit or damage, and overflows in the encoder.
_MAX_TIMESTAMP_S = 1e12
_MAX_JOINT_M = 1e6
# A thousand windows at once would take gigabytes in the encoder.
_EMBED_BATCH = 32
# Joiners shape words in Persian and Hindi and make emoji; all other format characters only hide in a label.
_JOINERS = "\u200c\u200d"

_SCHEMA = (
    """CREATE TABLE revisions (
        revision INTEGER PRIMARY KEY,
        stands_for INTEGER NOT NULL, -- itself; for an undo the earlier revision whose gallery it shows
        created TEXT NOT NULL, action TEXT NOT NULL, label TEXT NOT NULL, detail TEXT NOT NULL)""",
    """CREATE TABLE examples (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
        origin TEXT NOT NULL, created TEXT NOT NULL,
        timestamps_s BLOB NOT NULL, -- little-endian float64 (L,)
        joints_m BLOB NOT NULL) -- little-endian float32 (L, 25, 3)""",
    """CREATE TABLE embeddings (
        example TEXT NOT NULL REFERENCES examples (id) ON DELETE CASCADE,
        model_sha256 TEXT NOT NULL, preprocessing_version INTEGER NOT NULL,
        embedding BLOB NOT NULL, -- little-endian float32 (D,)
        PRIMARY KEY (example, model_sha256, preprocessing_version))""",
    """CREATE TABLE prototypes (
        example TEXT NOT NULL REFERENCES examples (id), label TEXT NOT NULL, label_key TEXT NOT NULL,
        added_in INTEGER NOT NULL REFERENCES revisions (revision),
        removed_in INTEGER REFERENCES revisions (revision))""",
    "CREATE INDEX prototypes_by_example ON prototypes (example)",
    "CREATE INDEX prototypes_by_removal ON prototypes (removed_in, label_key)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prototype:
    """Hold one example of a label, and what the model makes of it; the arrays are read-only.

    `timestamps_s`: shape (L,), float64, seconds, rising. `joints_m`: shape (L, 25, 3), float32,
    metres, "LUF", NaN where missing. `embedding`: shape (D,), float32, by the model `model_sha256`.
    `origin`: "live:<source>", "file:<name>". `created`: ISO 8601, UTC.
    """

    id: str
    label: str
    timestamps_s: Times
    joints_m: Array
    embedding: Array
    model_sha256: str
    origin: str
    created: str

    @property
    def duration_s(self) -> float:
        return float(self.timestamps_s[-1] - self.timestamps_s[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """Hold one change: what was done (`action`), to which label or labels, and when.

    `action`: "add", "replace", "remove", "rename", "import", "undo" or "revert".
    """

    revision: int
    created: str
    action: str
    label: str
    detail: str = ""

    @property
    def description(self) -> str:
        what = (f"revision {self.revision}: {self.action}", self.label and repr(self.label), self.detail)
        return " ".join(filter(None, what))


class _ExportedExample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    label: str
    origin: str
    created: str
    num_frames: Annotated[int, msgspec.Meta(ge=2)]


class _ExportHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe an export. The examples are raw, so `preprocessing_version` only tells where it is from."""

    export_version: int
    layout: str
    axes: str
    preprocessing_version: int
    examples: list[_ExportedExample]


class Gallery:
    """Keep the prototypes in memory and on disk; a change is on disk before the call returns.

    Not for use from two threads; any number of processes may share the file.
    """

    def __init__(self, path: Path | str, *, embed: Callable[[Sequence[Example]], Array], model_sha256: str) -> None:
        """Open or create a gallery; what this model has not embedded yet is embedded now.

        `embed` turns examples into embeddings, shape (N, D), float32. Raises GalleryError.
        """
        self.path = Path(path)
        self._embed = embed
        self._model = (model_sha256, PREPROCESSING_VERSION)
        self._prototypes: tuple[Prototype, ...] = ()
        self._revision = self._data_version = self._num_reembedded = 0
        self._db = _connect(self.path)
        try:
            self._load()
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @property
    def revision(self) -> int:
        """The revision that `prototypes` shows; 0 is an empty, new gallery."""
        return self._revision

    @property
    def prototypes(self) -> tuple[Prototype, ...]:
        """The prototypes in memory, in the order in which they were first added."""
        return self._prototypes

    @property
    def num_reembedded(self) -> int:
        """How many prototypes had no embedding by this model and got one since opening."""
        return self._num_reembedded

    def labels(self) -> tuple[str, ...]:
        """Return the labels, each once, in the order in which they were first added."""
        return tuple(dict.fromkeys(prototype.label for prototype in self._prototypes))

    def check_label(self, label: str, *, mode: Mode = "new") -> str:
        """Return a label as `add` would spell it. Raises GalleryError: "bad_label", "label_exists"."""
        label = _checked_label(label)
        with _sqlite_errors(self.path):
            found = self._find(label)
        if found and mode == "new":
            raise self._label_exists([found])
        return found if found and mode == "add" else label

    def refresh(self) -> bool:
        """Take over what another process committed; return whether the gallery changed. Cheap if not."""
        with _sqlite_errors(self.path):
            if _number(self._db, "PRAGMA data_version") == self._data_version:
                return False
        before = self._revision
        self._load()
        return self._revision != before

    def add(
        self,
        label: str,
        timestamps_s: Times,
        joints_m: Array,
        *,
        origin: str,
        created: str,
        mode: Mode = "new",
        expected_revision: int | None = None,
    ) -> Prototype:
        """Store an example and return its prototype.

        "new" refuses a label that exists, "add" gives it one more example, "replace" removes its
        examples first. Shapes, units and `created` as in Prototype. Raises GalleryError.
        """
        label = _checked_label(label)
        example = _checked_example(timestamps_s, joints_m)
        drafts = self._drafts([(label, origin, created)], [example])
        action = "replace" if mode == "replace" else "add"
        (prototype,) = self._insert(drafts, mode, action, created, expected_revision)
        return prototype

    def remove(self, label: str, *, created: str, expected_revision: int | None = None) -> int:
        """Remove a label with all its examples; return how many. Raises GalleryError("unknown_label")."""
        with self._change(expected_revision) as revision:
            spelling = self._existing(label)
            self._record(revision, created, "remove", spelling)
            return self._remove(label, revision)

    def rename(self, old: str, new: str, *, created: str, expected_revision: int | None = None) -> None:
        """Give a label another name. Raises GalleryError: "unknown_label", "label_exists", "bad_label"."""
        new = _checked_label(new)
        with self._change(expected_revision) as revision:
            spelling = self._existing(old)
            taken = self._find(new)
            # Another spelling of the same label, "Wave" for "wave", is a rename like any other.
            if taken and (_key(old) != _key(new) or spelling == new):
                raise GalleryError(
                    f"label {old!r} cannot be renamed to {new!r}: {self.path} has {taken!r} already",
                    code="label_exists",
                    hint=f"Choose another name, or remove {taken!r} first.",
                )
            self._record(revision, created, "rename", spelling, f"to {new!r}")
            self._db.execute(
                "INSERT INTO prototypes SELECT example, ?, ?, ?, NULL FROM prototypes"
                " WHERE label_key = ? AND removed_in IS NULL",
                (new, _key(new), revision, _key(old)),
            )
            self._remove(old, revision)

    def undo(self, *, created: str, expected_revision: int | None = None) -> str:
        """Take back the latest change that still stands; return what that was.

        Undoing again walks further back. Raises GalleryError("nothing_to_undo").
        """
        with self._change(expected_revision) as revision:
            standing = self._stands_for(revision - 1)
            if standing - 1 < _oldest(self._db):
                raise GalleryError(
                    f"nothing to undo: {self.path} holds no earlier state",
                    code="nothing_to_undo",
                    hint="`history` lists the changes, `revert` goes back to any of them.",
                )
            (undone,) = self._revisions("WHERE revision = ?", standing)
            shown = self._stands_for(standing - 1)
            self._record(revision, created, "undo", undone.label, f"of revision {standing}", shown)
            self._restore(standing - 1, revision)
        return undone.description

    def history(self, limit: int = 20) -> tuple[Revision, ...]:
        """Return the latest changes, the newest first."""
        limit = max(0, min(limit, 1 << 32))  # SQLite takes a negative one for all, and has no larger than 63 bits
        with _sqlite_errors(self.path):
            return self._revisions("ORDER BY revision DESC LIMIT ?", limit)

    def revert(self, revision: int, *, created: str, expected_revision: int | None = None) -> None:
        """Restore the prototypes as of `revision`, as a new one. Raises GalleryError("unknown_revision")."""
        with self._change(expected_revision) as new:
            oldest = _oldest(self._db)
            if not oldest <= revision < new:
                raise GalleryError(
                    f"{self.path} has no revision {revision}: expected {oldest} to {new - 1}",
                    code="unknown_revision",
                    hint="`history` lists the changes.",
                )
            self._record(new, created, "revert", "", f"to revision {revision}")
            self._restore(revision, new)

    def export(self, path: Path | str, labels: Sequence[str] | None = None) -> int:
        """Write the raw examples of these labels, or of all, to one .npz file; return how many.

        Raises GalleryError: "unknown_label", "export_failed".
        """
        path = Path(path)
        self._refuse_own_file(path, "export_failed")
        known = {_key(label) for label in self.labels()}
        for label in labels or ():
            if _key(label) not in known:
                raise self._unknown_label(label)
        keys = known if labels is None else {_key(label) for label in labels}
        chosen = [prototype for prototype in self._prototypes if _key(prototype.label) in keys]
        header = _ExportHeader(
            export_version=EXPORT_VERSION,
            layout="kinect25",
            axes="LUF",
            preprocessing_version=PREPROCESSING_VERSION,
            examples=[
                _ExportedExample(label=p.label, origin=p.origin, created=p.created, num_frames=len(p.joints_m))
                for p in chosen
            ],
        )
        _write_export(path, header, [(p.timestamps_s, p.joints_m) for p in chosen])
        return len(chosen)

    def import_(
        self, path: Path | str, *, mode: Mode = "new", created: str, expected_revision: int | None = None
    ) -> tuple[str, ...]:
        """Add the examples of an exported file, as one change, and return their labels; modes as in `add`.

        Origin and creation time stay those of the example. Raises GalleryError: "not_found",
        "bad_import", "label_exists".
        """
        path = Path(path)
        self._refuse_own_file(path, "bad_import")
        facts, examples = _read_export(path)
        if not facts:
            return ()
        drafts = self._drafts(facts, examples)
        detail = f"from {_printable(path.name)}"
        stored = self._insert(drafts, mode, "import", created, expected_revision, detail)
        return tuple(dict.fromkeys(prototype.label for prototype in stored))

    def vacuum(self, keep_revisions: int) -> int:
        """Delete for good what only changes before the last `keep_revisions` need; return how many examples.

        Those last changes can still be undone. Also drops the embeddings of other models.
        """
        if keep_revisions < 0:
            raise GalleryError(f"keep_revisions is {keep_revisions}, expected 0 or more", code="bad_value")
        with self._transaction("IMMEDIATE") as db:
            base, num_deleted = _number(db, "SELECT max(revision) FROM revisions") - keep_revisions, 0
            if base > _oldest(db):
                db.execute("DELETE FROM prototypes WHERE removed_in <= ?", (base,))
                db.execute("UPDATE prototypes SET added_in = ? WHERE added_in < ?", (base, base))
                unused = "DELETE FROM examples WHERE id NOT IN (SELECT example FROM prototypes)"
                num_deleted = db.execute(unused).rowcount
                db.execute("DELETE FROM revisions WHERE revision < ?", (base,))
            db.execute("DELETE FROM embeddings WHERE model_sha256 != ? OR preprocessing_version != ?", self._model)
        with _sqlite_errors(self.path):
            self._db.execute("VACUUM")
            # Without it the deleted joints stay readable in the write-ahead log.
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return num_deleted

    @contextmanager
    def _transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[sqlite3.Connection]:
        with _sqlite_errors(self.path):
            self._db.execute(f"BEGIN {kind}")
            with self._db:
                yield self._db

    @contextmanager
    def _change(self, expected_revision: int | None) -> Iterator[int]:
        """Open the transaction that makes the next revision; when it is committed, load the outcome."""
        with self._transaction("IMMEDIATE") as db:
            head = _number(db, "SELECT max(revision) FROM revisions")
            if expected_revision not in (None, head):
                raise GalleryError(
                    f"expected revision {expected_revision}, but {self.path} is at revision {head}",
                    code="revision_conflict",
                    hint="The gallery was changed in the meantime: look at it again, then repeat the change.",
                )
            yield head + 1
        self._load()

    def _record(
        self, revision: int, created: str, action: str, label: str, detail: str = "", shown: int | None = None
    ) -> None:
        row = (revision, revision if shown is None else shown, created, action, label, detail)
        self._db.execute("INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?)", row)

    def _load(self) -> None:
        """Read the current prototypes; what is in memory already is not read again."""
        known = {prototype.id: prototype for prototype in self._prototypes}
        with self._transaction("DEFERRED") as db:
            data_version = _number(db, "PRAGMA data_version")
            revision = _number(db, "SELECT max(revision) FROM revisions")
            rows = db.execute(
                "SELECT id, label FROM prototypes JOIN examples ON id = example"
                " WHERE removed_in IS NULL ORDER BY number"
            ).fetchall()
            prototypes = [
                replace(known[id], label=label) if id in known else self._read(id, label) for id, label in rows
            ]
        stale = [prototype for prototype in prototypes if not len(prototype.embedding)]
        if stale:
            # Outside of a transaction: embedding many takes seconds, and other processes wait only so long.
            embeddings = self._embeddings([(p.timestamps_s, p.joints_m) for p in stale])
            fresh = {p.id: replace(p, embedding=row) for p, row in zip(stale, embeddings, strict=True)}
            prototypes = [fresh.get(prototype.id, prototype) for prototype in prototypes]
            self._store_embeddings(tuple(fresh.values()))
        self._prototypes, self._revision, self._data_version = tuple(prototypes), revision, data_version
        self._num_reembedded += len(stale)

    def _read(self, id: str, label: str) -> Prototype:
        """Read one prototype; its embedding is empty where this model has made none yet."""
        row = self._db.execute(
            "SELECT origin, created, timestamps_s, joints_m, embedding FROM examples LEFT JOIN embeddings"
            " ON example = id AND model_sha256 = ? AND preprocessing_version = ? WHERE id = ?",
            (*self._model, id),
        ).fetchone()
        try:
            origin, created, times, joints, embedding = row
            prototype = Prototype(
                id=id,
                label=label,
                timestamps_s=np.frombuffer(times, "<f8"),
                joints_m=np.frombuffer(joints, "<f4").reshape(-1, 25, 3),
                embedding=np.frombuffer(embedding or b"", "<f4"),
                model_sha256=self._model[0],
                origin=origin,
                created=created,
            )
            num_times, num_frames = len(prototype.timestamps_s), len(prototype.joints_m)
            if not 2 <= num_times == num_frames:
                raise ValueError(f"{num_times} timestamps and {num_frames} frames")
            if not embedding:  # it was good when it was stored, but may be damaged, and is to be embedded
                _checked_example(prototype.timestamps_s, prototype.joints_m)
        except (TypeError, ValueError, GalleryError) as error:
            raise _bad_gallery(self.path, f"the example {id} of {label!r} is damaged: {error}") from error
        return prototype

    def _embeddings(self, examples: Sequence[Example]) -> Array:
        """Return embeddings, shape (N, D), float32, read-only. Raises GalleryError if one is not finite."""
        batches = [examples[i : i + _EMBED_BATCH] for i in range(0, len(examples), _EMBED_BATCH)]
        embeddings_ND = np.concatenate([np.array(self._embed(batch), "<f4") for batch in batches])
        bad = np.flatnonzero(~np.isfinite(embeddings_ND).all(axis=1))
        if len(bad):
            raise GalleryError(
                f"{len(bad)} of {len(examples)} examples get no finite embedding, the first is {bad[0]}",
                code="bad_example",
                hint="Check that the joints are in metres; if they are, the model is at fault.",
            )
        embeddings_ND.setflags(write=False)
        return embeddings_ND

    def _store_embeddings(self, prototypes: Sequence[Prototype]) -> None:
        """Store embeddings, all or none."""
        try:
            with self._transaction("IMMEDIATE") as db:
                # Another process may have embedded an example since it was read, or vacuumed it away.
                db.executemany(
                    "INSERT OR IGNORE INTO embeddings SELECT id, ?, ?, ? FROM examples WHERE id = ?",
                    [(*self._model, p.embedding.tobytes(), p.id) for p in prototypes],
                )
        except GalleryError as error:
            # They are in memory; not storing them only costs embedding them again at the next opening.
            if error.code != "busy":
                raise

    def _drafts(self, facts: Sequence[tuple[str, str, str]], examples: Sequence[Example]) -> list[Prototype]:
        """Make prototypes of examples and their (label, origin, created); nothing is stored."""
        return [
            Prototype(
                id=str(uuid.uuid4()),
                label=label,
                timestamps_s=timestamps_s,
                joints_m=joints_m,
                embedding=embedding,
                model_sha256=self._model[0],
                origin=_printable(origin),
                created=_printable(created),
            )
            for (label, origin, created), (timestamps_s, joints_m), embedding in zip(
                facts, examples, self._embeddings(examples), strict=True
            )
        ]

    def _insert(
        self,
        drafts: Sequence[Prototype],
        mode: Mode,
        action: str,
        created: str,
        expected_revision: int | None,
        detail: str = "",
    ) -> list[Prototype]:
        """Store prototypes as one change; return them with the label as the gallery spells it."""
        spelling: dict[str, str] = {}
        for draft in drafts:
            spelling.setdefault(_key(draft.label), draft.label)
        with self._change(expected_revision) as revision:
            existing = {key: found for key, label in spelling.items() if (found := self._find(label))}
            if existing and mode == "new":
                raise self._label_exists(existing.values())
            if mode == "add":
                spelling |= existing
            self._record(revision, created, action, ", ".join(spelling.values()), detail)
            if mode == "replace":
                for label in existing.values():
                    self._remove(label, revision)
            stored = [replace(draft, label=spelling[_key(draft.label)]) for draft in drafts]
            for p in stored:
                times, joints = p.timestamps_s.tobytes(), p.joints_m.tobytes()
                for statement, row in (
                    ("examples VALUES (NULL, ?, ?, ?, ?, ?)", (p.id, p.origin, p.created, times, joints)),
                    ("embeddings VALUES (?, ?, ?, ?)", (p.id, *self._model, p.embedding.tobytes())),
                    ("prototypes VALUES (?, ?, ?, ?, NULL)", (p.id, p.label, _key(p.label), revision)),
                ):
                    self._db.execute(f"INSERT INTO {statement}", row)
        return stored

    def _find(self, label: str) -> str:
        """Return how the gallery spells a label; "" is a label that it does not have."""
        row = self._db.execute(
            "SELECT label FROM prototypes WHERE label_key = ? AND removed_in IS NULL", (_key(label),)
        ).fetchone()
        return str(row[0]) if row else ""

    def _existing(self, label: str) -> str:
        if spelling := self._find(label):
            return spelling
        raise self._unknown_label(label)

    def _remove(self, label: str, revision: int) -> int:
        return self._db.execute(
            "UPDATE prototypes SET removed_in = ?1 WHERE label_key = ?2 AND removed_in IS NULL AND added_in < ?1",
            (revision, _key(label)),
        ).rowcount

    def _restore(self, old: int, new: int) -> None:
        """Make revision `new` show what revision `old` showed."""
        self._db.execute(
            "INSERT INTO prototypes SELECT example, label, label_key, ?, NULL FROM prototypes"
            " WHERE added_in <= ? AND removed_in > ?",
            (new, old, old),
        )
        self._db.execute(
            "UPDATE prototypes SET removed_in = ? WHERE removed_in IS NULL AND added_in > ? AND added_in < ?",
            (new, old, new),
        )

    def _stands_for(self, revision: int) -> int:
        return _number(self._db, "SELECT stands_for FROM revisions WHERE revision = ?", revision)

    def _revisions(self, where: str, value: int) -> tuple[Revision, ...]:
        columns = "revision, created, action, label, detail"
        rows = self._db.execute(f"SELECT {columns} FROM revisions {where}", (value,))
        return tuple(
            Revision(revision=revision, created=created, action=action, label=label, detail=detail)
            for revision, created, action, label, detail in rows
        )

    def _label_exists(self, labels: Iterable[str]) -> GalleryError:
        return GalleryError(
            f"expected a new label, but {self.path} has {', '.join(map(repr, labels))} already",
            code="label_exists",
            hint="Use mode 'add' to keep those examples too, or 'replace' to remove them first.",
        )

    def _unknown_label(self, label: str) -> GalleryError:
        return GalleryError(
            f"no label {label!r} in {self.path}; it has {', '.join(map(repr, self.labels())) or 'none'}",
            code="unknown_label",
            hint="Use one of its labels; upper and lower case are the same.",
        )

    def _refuse_own_file(self, path: Path, code: str) -> None:
        # Replacing it would lose the gallery; and opening and closing it, even to read, would drop the
        # locks that SQLite holds for this process (sqlite.org/howtocorrupt.html, section 2.2).
        with suppress(OSError):
            if path.samefile(self.path):
                raise GalleryError(
                    f"{path} is this gallery itself, expected another file",
                    code=code,
                    hint="Exports are .npz files: name one.",
                )


def _connect(path: Path) -> sqlite3.Connection:
    """Open or create the file; leave one that is no gallery as it is. Raises GalleryError."""
    if str(path) != ":memory:":
        _check_place(path)
    with _sqlite_errors(path):
        # isolation_level None: transactions begin where this module says so, not where Python guesses.
        db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            db.execute("PRAGMA foreign_keys = ON")
            # With less than FULL, a commit in write-ahead mode can be lost when the power goes.
            db.execute("PRAGMA synchronous = FULL")
            _check_schema(db, path)
            _write_ahead(db)
        except BaseException:
            db.close()
            raise
    return db


def _check_place(path: Path) -> None:
    """Refuse what SQLite would refuse without saying why, or would overwrite. Makes missing folders."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        size = path.stat().st_size if path.exists() else 0
    except OSError as error:
        raise _bad_gallery(path, f"{error.strerror}: {error.filename}") from error
    if path.exists() and not path.is_file():
        raise _bad_gallery(path, "expected a file, this is a folder or a device")
    if size == 1:  # SQLite takes a file of one byte for an empty one
        raise _bad_gallery(path, "file is not a database")
    # SQLite keeps its log beside the file, so the folder counts too.
    for place in (path, path.parent):
        if place.exists() and not os.access(place, os.W_OK):
            raise _bad_gallery(path, f"{place} is not writable")


def _check_schema(db: sqlite3.Connection, path: Path) -> None:
    def is_current() -> bool:
        version = _number(db, "PRAGMA user_version")
        application = _number(db, "PRAGMA application_id")
        if application == _APPLICATION_ID and version > SCHEMA_VERSION:
            raise GalleryError(
                f"{path} has gallery schema {version}, expected {SCHEMA_VERSION} or lower",
                hint="Use the newer version of crossglg-edge that wrote it, or name another gallery file.",
            )
        if application != _APPLICATION_ID and _number(db, "SELECT count(*) FROM sqlite_master") + version:
            raise _bad_gallery(path, "it is an SQLite database of another program")
        return application == _APPLICATION_ID

    # In a transaction, or another process could make the tables between one question and the next.
    db.execute("BEGIN")
    with db:
        if is_current():
            return
    db.execute("BEGIN IMMEDIATE")
    with db:
        if not is_current():  # else another process made it while this one waited
            for statement in _SCHEMA:
                db.execute(statement)


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, in which readers never wait for a writer."""
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # SQLite does not wait here by itself when two processes create one file at once.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)


@contextmanager
def _sqlite_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a fault of this program, such as a call from another thread, not of the file
    # SQLite quotes damaged files in its messages, and Python fails to decode those.
    except (sqlite3.Error, UnicodeDecodeError) as error:
        # The low byte is the kind of error; those that the Python module finds itself have none.
        kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if kind == sqlite3.SQLITE_BUSY:
            raise GalleryError(
                f"{path} is locked: another process has been writing to it for over {BUSY_TIMEOUT_S:g} s",
                code="busy",
                hint="Try again; if it stays so, find the process that has the file open.",
            ) from error
        if kind == sqlite3.SQLITE_FULL:
            raise GalleryError(
                f"{path}: the disk is full, nothing was stored",
                code="disk_full",
                hint="Free some space, then try again.",
            ) from error
        raise _bad_gallery(path, str(error)) from error


def _bad_gallery(path: Path, problem: str) -> GalleryError:
    return GalleryError(
        f"{path} cannot be used as a gallery: {problem}",
        hint="Name a gallery file, or a new file in a folder that can be written to.",
    )


def _number(db: sqlite3.Connection, query: str, *values: int) -> int:
    """Return the one number of a query; none is 0."""
    row = db.execute(query, values).fetchone()
    return int(row[0] or 0) if row else 0


def _oldest(db: sqlite3.Connection) -> int:
    """Return the oldest revision that can be restored; the empty gallery before revision 1 always can."""
    oldest = _number(db, "SELECT min(revision) FROM revisions")
    return 0 if oldest == 1 else oldest


def _key(label: str) -> str:
    """Return what is the same for all spellings of a label."""
    label = unicodedata.normalize("NFC", _printable(label.strip()))
    return unicodedata.normalize("NFC", label.casefold())


def _is_printable(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in _JOINERS


def _printable(text: str) -> str:
    """Replace what cannot be shown or stored, such as the bad bytes of a file name."""
    return "".join(c if _is_printable(c) else "\ufffd" for c in text)


def _checked_label(label: str) -> str:
    label = unicodedata.normalize("NFC", label.strip())
    if not 1 <= len(label) <= MAX_LABEL_LENGTH or not all(map(_is_printable, label)):
        raise GalleryError(
            f"label {label[:MAX_LABEL_LENGTH]!r} has {len(label)} characters; "
            f"expected 1 to {MAX_LABEL_LENGTH}, none of them a control character",
            code="bad_label",
            hint="Choose a short, plain name such as 'wave'.",
        )
    return label


def _checked_example(timestamps_s: npt.ArrayLike, joints_m: npt.ArrayLike) -> Example:
    """Return read-only copies, little-endian float64 (L,) and float32 (L, 25, 3), of a good example."""
    times = np.array(timestamps_s, "<f8")
    with np.errstate(over="ignore"):  # what overflows is refused as infinite below
        joints = np.array(joints_m, "<f4")
    problem = ""
    if times.ndim != 1 or joints.shape != (len(times), 25, 3):
        problem = f"expected timestamps (L,) and joints (L, 25, 3), got {times.shape} and {joints.shape}"
    elif len(times) < 2:
        problem = f"expected at least 2 frames, got {len(times)}"
    elif not (np.abs(times) < _MAX_TIMESTAMP_S).all() or (np.diff(times) <= 0).any():
        problem = "expected finite timestamps in seconds, each after the one before"
    elif (np.abs(joints) > _MAX_JOINT_M).any():
        problem = f"a joint is infinite or over {_MAX_JOINT_M:g} m away; expected metres, or NaN where it is missing"
    elif not np.isfinite(joints).all(axis=2).any():
        problem = "no joint was seen in it"
    if problem:
        raise GalleryError(f"not an example: {problem}", code="bad_example", hint="Record the example again.")
    times.setflags(write=False)
    joints.setflags(write=False)
    return times, joints


def _write_export(path: Path, header: _ExportHeader, examples: Sequence[Example]) -> None:
    if path.is_dir():
        raise GalleryError(
            f"{path} is a folder, expected a file to export to",
            code="export_failed",
            hint="Name an .npz file in it.",
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            np.savez(
                file,
                header=np.frombuffer(msgspec.json.encode(header), np.uint8),
                timestamps_s=np.concatenate([np.zeros(0, "<f8"), *(times for times, _ in examples)]),
                joints_m=np.concatenate([np.zeros((0, 25, 3), "<f4"), *(joints for _, joints in examples)]),
            )
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise GalleryError(
            f"{path} cannot be written: {error.strerror}",
            code="export_failed",
            hint="Name a file in a folder that exists, can be written to and has space.",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _read_export(path: Path) -> tuple[list[tuple[str, str, str]], list[Example]]:
    """Return the (label, origin, created) and the examples of an exported file, which nobody vouches for."""

    def refused(problem: str) -> GalleryError:
        return GalleryError(
            f"{path} cannot be imported: {problem}",
            code="bad_import",
            hint="Import a file that `export` wrote, unaltered.",
        )

    try:
        if (size := path.stat().st_size) > MAX_EXPORT_BYTES:
            raise refused(f"it has {size} bytes, expected at most {MAX_EXPORT_BYTES}")
        with zipfile.ZipFile(path) as archive:
            header_bytes, times, joints = (
                _read_member(archive, f"{name}.npy") for name in ("header", "timestamps_s", "joints_m")
            )
        header = msgspec.json.decode(header_bytes.tobytes(), type=_ExportHeader)
    except FileNotFoundError as error:
        raise GalleryError(f"{path} does not exist", code="not_found", hint="Check the path.") from error
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise refused(str(error)) from error
    for what, expected, got in (
        ("export_version", EXPORT_VERSION, header.export_version),
        ("layout", "kinect25", header.layout),
        ("axes", "LUF", header.axes),
    ):
        if got != expected:
            raise refused(f"{what} is {got!r}, expected {expected!r}")
    num_frames = sum(example.num_frames for example in header.examples)
    for name, array, dtype, shape in (
        ("timestamps_s", times, "<f8", (num_frames,)),
        ("joints_m", joints, "<f4", (num_frames, 25, 3)),
    ):
        if array.dtype != dtype or array.shape != shape:
            raise refused(f"{name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
    facts, examples, start = [], [], 0
    for i, example in enumerate(header.examples):
        part = slice(start, start := start + example.num_frames)
        try:
            facts.append((_checked_label(example.label), example.origin, example.created))
            examples.append(_checked_example(times[part], joints[part]))
        except GalleryError as error:
            raise refused(f"its example {i}: {error.message}") from error
    return facts, examples


def _read_member(archive: zipfile.ZipFile, name: str) -> npt.NDArray[np.generic]:
    member = archive.getinfo(name)
    # `export` stores plainly; a compressed member could unpack to any size.
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise ValueError(f"{name} is compressed or encrypted, expected it stored plainly")
    try:
        with archive.open(member) as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except Exception as error:  # numpy lets the errors of its header's tokenizer and parser through
        raise ValueError(f"{name} is no array: {error}") from error
