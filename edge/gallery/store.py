"""The gallery: labeled examples, their embeddings and every change to them, in one SQLite file.

A prototype keeps its recorded example, so that a new model can embed it again. A negative is an example of no
label: ordinary movement that is no action. A counter-example has a label and is said not to be it. A revision keeps the
label of each example that it shows, so to undo is to show an earlier one; only `Gallery.vacuum` deletes.

Whoever restores a backup puts another file in the place of this one, while it is in use. So it is open only while it is
read or written, and looked at again before each change: what was replaced is read anew, and said.

Shapes: N examples, L frames as they came, V = 25 kinect25 joints, C = 3 in "LUF", D embedding size.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np

from edge.gallery.examples import (
    Damaged,
    Described,
    Example,
    LabelWords,
    Negative,
    Prototype,
    Revision,
    validate_example,
    validate_movement,
)
from edge.gallery.export import read_export, write_export
from edge.gallery.labels import find_spelling, label_key, validate_label
from edge.gallery.rows import DamagedRowError, read_embedding, read_recorded, read_row
from edge.gallery.schema import bad_gallery, file_errors, insert, read_stamp
from edge.gallery.storage import Head, Storage
from edge.motion import PREPROCESSING_VERSION
from edge.protocol import Mode, WordsCount
from streams.arrays import Array
from streams.errors import GalleryError
from streams.movement import Movement

# No label holds a tab.
_NOT = "not\t"


def _label_of(shown: str) -> str:
    """Return the label of an example, or the one that a counter-example is not; "" of a negative."""
    return shown.removeprefix(_NOT)


@dataclass(slots=True, kw_only=True)
class _Change:
    """Hold the next revision while it is made; `shown`: what each example is, by id, as edge.gallery.schema has it."""

    revision: int
    stands_for: int
    shown: dict[str, str]
    label: str = ""
    detail: str = ""

    @property
    def labels(self) -> list[str]:
        """The labels of the examples, as often as they have examples."""
        return [said for said in self.shown.values() if said and _label_of(said) == said]


class Gallery:
    """Keep the prototypes and negatives in memory and on disk; a change is on disk before the call returns.

    `prototypes`, `described`, `negatives`, `counters`: in the order in which they were first added. `counters`:
    counter-examples, each with the label that it is not. `revision`: the one that
    they show; 0 is an empty, new gallery. `num_reembedded`: how many had no sound embedding by this model and
    got one since opening. `damaged`: the examples that are set aside. `num_replaced`: how often the file was found to
    be another one since opening. Not for use from two threads; any number of processes may share the file.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        embed: Callable[[Sequence[Movement]], Array],
        model_sha256: str,
        embedding_size: int | None = None,
        words: LabelWords | None = None,
    ) -> None:
        """Open or create a gallery; what this model has not embedded yet is embedded now.

        `embed` turns movements into embeddings, shape (N, D), float32; `embedding_size`: D, where it is known: others
        are embedded again. `words`: of the same model; without it words do not count, and what was enrolled by them
        alone is kept, but compared with nothing. Raises GalleryError.
        """
        self.path = Path(path)
        self.prototypes: tuple[Prototype, ...] = ()
        self.described: tuple[Described, ...] = ()
        self.negatives: tuple[Negative, ...] = ()
        self.counters: tuple[Prototype, ...] = ()
        self.damaged: tuple[Damaged, ...] = ()
        self.revision = self.num_reembedded = self.num_replaced = 0
        self._embed = embed
        self._words = words
        self._model_sha256 = model_sha256
        self._model = f"{model_sha256} {PREPROCESSING_VERSION}"
        self._embedding_size = embedding_size
        self._storage = Storage(self.path)
        try:
            self._load()
        except BaseException:
            self._storage.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._storage.close()

    def labels(self) -> tuple[str, ...]:
        """Return the labels, each once, in the order in which they were first added."""
        labels = [prototype.label for prototype in self.prototypes] + [words.label for words in self.described]
        return tuple(dict.fromkeys(labels))

    def check_label(self, label: str, *, mode: Mode = "new") -> str:
        """Return a label as `add` would spell it; one that has words alone is as good as new.

        Raises GalleryError: "bad_label", "label_exists".
        """
        label = validate_label(label)
        found = find_spelling(label, self.labels())
        if found and mode == "new" and found in [prototype.label for prototype in self.prototypes]:
            raise self._label_exists([found])
        return found if found and mode == "add" else label

    def words_of(self, prototype: Prototype) -> WordsCount:
        """Return whether the words of its label count beside an example."""
        if self._words is None or prototype.words is None:
            return "off"
        return "unlike" if prototype.mixed is None else "mixed"

    def refresh(self) -> bool:
        """Take over what another process committed, or another file in its place; return whether the gallery changed.

        Cheap if not. What is in memory stays where the file is gone or cannot be read. Raises GalleryError.
        """
        if not self._storage.is_written() or (not self.damaged and self._storage.is_known()):
            return False
        before = self.revision, self.num_replaced, self.damaged
        self._load()
        return (self.revision, self.num_replaced, self.damaged) != before

    def add(
        self,
        label: str,
        movement: Movement,
        *,
        origin: str,
        created: str,
        mode: Mode = "new",
        expected_revision: int | None = None,
    ) -> Prototype:
        """Store an example and return its prototype.

        "new" refuses a label that exists, "add" gives it one more example, "replace" removes its
        examples first. `origin` and `created` as in Example. Raises GalleryError.
        """
        drafts = self.embed([Example(label=label, movement=movement, origin=origin, created=created)])
        return self.add_all(drafts, created=created, mode=mode, expected_revision=expected_revision)[0]

    def embed(self, examples: Sequence[Example]) -> list[Prototype]:
        """Return the prototypes that examples would be; nothing is stored. Raises GalleryError."""
        valid = [validate_example(example) for example in examples]
        if not valid:
            return []
        embeddings = self._embeddings([example.movement for example in valid])
        return [
            self._mix(self._prototype(str(uuid.uuid4()), example, embedding))
            for example, embedding in zip(valid, embeddings, strict=True)
        ]

    def add_all(
        self, drafts: Sequence[Prototype], *, created: str, mode: Mode = "new", expected_revision: int | None = None
    ) -> list[Prototype]:
        """Store prototypes that `embed` gave, as one change; modes as in `add`. Raises GalleryError."""
        with self._change("replace" if mode == "replace" else "add", created, expected_revision) as change:
            return self._insert(change, drafts, mode)

    def add_described(
        self,
        label: str,
        description: str = "",
        *,
        created: str,
        mode: Mode = "new",
        expected_revision: int | None = None,
    ) -> Described:
        """Store a label by words alone; its first example will take its place.

        "replace" puts it in place of other words. Raises GalleryError: "bad_label", "label_exists" for one that has
        examples, or, with another mode than "replace", words.
        """
        label = validate_label(label)
        described = Described(
            id=str(uuid.uuid4()),
            label=label,
            description=description,
            embedding=np.zeros(0, np.float32),
            duration_s=0.0,
            created=created,
        )
        with self._change("replace" if mode == "replace" else "add", created, expected_revision) as change:
            words = self._ids_of_words()
            found = {id: other for id, other in change.shown.items() if label_key(other) == label_key(label)}
            if found and (mode != "replace" or not words.issuperset(found)):
                raise self._label_exists([*found.values()][:1])
            change.label, change.detail = label, "by words"
            self._insert_described(change, [described], mode)
        return next(stored for stored in self.described if stored.id == described.id)

    def add_negatives(
        self, movements: Sequence[Movement], *, origin: str, created: str, expected_revision: int | None = None
    ) -> list[str]:
        """Store ordinary movement, as one change; return the ids. Raises GalleryError."""
        valid = [validate_movement(movement) for movement in movements]
        negatives = [Negative(movement=movement, origin=origin, created=created) for movement in valid]
        with self._change("add", created, expected_revision) as change:
            change.detail = f"{len(negatives)} negatives"
            return self._insert_negatives(change, negatives)

    def add_counter(
        self, label: str, movement: Movement, *, origin: str, created: str, expected_revision: int | None = None
    ) -> Prototype:
        """Store a movement that is not `label`; return it, with that label. Raises GalleryError."""
        (draft,) = self.embed([Example(label=label, movement=movement, origin=origin, created=created)])
        with self._change("add", created, expected_revision) as change:
            change.label = self._existing(label, change.labels)
            change.detail = "a counter-example"
            return self._store(change, replace(draft, label=change.label), is_counter=True)

    def movement(self, id: str) -> Movement:
        """Return the movement of one example, negative or counter-example, named by the beginning of its id.

        Raises GalleryError("unknown_id").
        """
        held: tuple[Prototype | Negative, ...] = (*self.prototypes, *self.negatives, *self.counters)
        found = [example for example in held if id and example.id.startswith(id)]
        if len(found) != 1:
            raise self._unknown_id(id, len(found))
        return found[0].movement

    def remove(self, label: str, *, created: str, expected_revision: int | None = None) -> int:
        """Remove a label with all its examples, and its counter-examples; return how many examples.

        Raises GalleryError("unknown_label").
        """
        with self._change("remove", created, expected_revision) as change:
            change.label = self._existing(label, change.labels)
            num_examples = change.labels.count(change.label)
            change.shown = {id: said for id, said in change.shown.items() if said != change.label}
        return num_examples

    def remove_example(self, id: str, *, created: str, expected_revision: int | None = None) -> str:
        """Remove one example, negative or counter-example, named by the beginning of its id; return the whole id.

        Raises GalleryError("unknown_id").
        """
        with self._change("remove", created, expected_revision) as change:
            found = [other for other in change.shown if id and other.startswith(id)]
            if len(found) != 1:
                raise self._unknown_id(id, len(found))
            said = change.shown[found[0]]
            change.label = _label_of(said)
            kind = "negative" if not said else "example" if said == change.label else "counter-example"
            change.detail = f"{kind} {found[0][:8]}"
            change.shown = {other: label for other, label in change.shown.items() if other != found[0]}
        return found[0]

    def rename(self, old: str, new: str, *, created: str, expected_revision: int | None = None) -> str:
        """Give a label another name; return it as it is stored.

        Raises GalleryError: "unknown_label", "label_exists", "bad_label".
        """
        new = validate_label(new)
        with self._change("rename", created, expected_revision) as change:
            spelling = self._existing(old, change.labels)
            taken = find_spelling(new, change.labels)
            # Another spelling of the same label, "Wave" for "wave", is a rename like any other.
            if taken and (taken != spelling or spelling == new):
                raise GalleryError(
                    f"label {old!r} cannot be renamed to {new!r}: {self.path} has {taken!r} already",
                    code="label_exists",
                    hint=f"Choose another name, or remove {taken!r} first.",
                )
            change.label, change.detail = spelling, f"to {new!r}"
            renamed = {spelling: new, f"{_NOT}{spelling}": f"{_NOT}{new}"}
            change.shown = {id: renamed.get(said, said) for id, said in change.shown.items()}
        return new

    def undo(self, *, created: str, expected_revision: int | None = None) -> str:
        """Take back the latest change that still stands; return what that was.

        Undoing again walks further back. Raises GalleryError("nothing_to_undo").
        """
        with self._change("undo", created, expected_revision) as change:
            standing, _ = self._read_revision(change.revision - 1)
            if standing <= self._storage.span()[0]:
                raise GalleryError(
                    f"nothing to undo: {self.path} holds no earlier state",
                    code="nothing_to_undo",
                    hint="`history` lists the changes, `revert` goes back to any of them.",
                )
            (undone,) = self._revisions("WHERE revision = ?", standing)
            change.stands_for, change.shown = self._read_revision(standing - 1)
            change.label, change.detail = undone.label, f"of revision {standing}"
        return undone.description

    def history(self, limit: int = 20) -> tuple[Revision, ...]:
        """Return the latest changes, the newest first."""
        with self._storage.transaction("DEFERRED"):
            return self._revisions("WHERE revision > 0 ORDER BY revision DESC")[: max(0, limit)]

    def revert(self, revision: int, *, created: str, expected_revision: int | None = None) -> None:
        """Restore the prototypes as of `revision`, as a new one. Raises GalleryError("unknown_revision")."""
        with self._change("revert", created, expected_revision) as change:
            oldest, newest = self._storage.span()
            if not oldest <= revision <= newest:
                raise GalleryError(
                    f"{self.path} has no revision {revision}: expected {oldest} to {newest}",
                    code="unknown_revision",
                    hint="`history` lists the changes.",
                )
            change.detail = f"to revision {revision}"
            _, change.shown = self._read_revision(revision)

    def export(self, path: Path | str, labels: Sequence[str] | None = None) -> int:
        """Write the raw examples and counter-examples of these labels, or of all with the negatives, to one .npz file.

        Return how many examples, counting neither negatives, counter-examples nor labels that have words alone.
        Raises GalleryError: "unknown_label", "export_failed".
        """
        path = Path(path)
        if path.resolve() == self.path.resolve():
            raise GalleryError(
                f"{path} is this gallery itself, expected another file",
                code="export_failed",
                hint="Exports are .npz files: name one.",
            )
        known = self.labels()
        wanted = known if labels is None else [self._existing(label, known) for label in labels]
        chosen = [prototype for prototype in self.prototypes if prototype.label in wanted]
        counters = [counter for counter in self.counters if counter.label in wanted]
        described = [words for words in self.described if words.label in wanted]
        write_export(path, chosen, self.negatives if labels is None else (), counters, described)
        return len(chosen)

    def import_(
        self, path: Path | str, *, mode: Mode = "new", created: str, expected_revision: int | None = None
    ) -> tuple[str, ...]:
        """Add the examples of an exported file, as one change, and return their labels; modes as in `add`.

        Negatives are added to those that are there, or, with "replace", take their place. Origin and
        creation time stay those of the example. What has words alone in the file comes where the label is new, or,
        with "replace", takes the place of other words. Raises GalleryError: "not_found", "bad_import", "label_exists".
        """
        examples, negatives, not_examples, described = read_export(Path(path))
        if not examples and not negatives and not described:
            return ()
        drafts, counters = self.embed(examples), self.embed(not_examples)
        with self._change("import", created, expected_revision) as change:
            change.detail = f"from {Path(path).name}"
            stored = self._insert(change, drafts, mode)
            if negatives and mode == "replace":
                change.shown = {id: said for id, said in change.shown.items() if said}
            self._insert_negatives(change, negatives)
            came = self._insert_described(change, described, mode)
            for counter in counters:
                label = self._existing(counter.label, change.labels)
                self._store(change, replace(counter, label=label), is_counter=True)
        return tuple(dict.fromkeys([*(prototype.label for prototype in stored), *came]))

    def vacuum(self, keep_revisions: int) -> int:
        """Delete for good what only changes before the last `keep_revisions` need; return how many examples.

        Those last changes can still be undone. Also drops the embeddings of other models.
        """
        with self._storage.use() as db:
            with self._storage.transaction("IMMEDIATE"):
                self._storage.check_same()
                # SQLite's own numbers are of 64 bits.
                kept = max(self._storage.span()[1] - max(0, keep_revisions), 0)
                db.execute("DELETE FROM revisions WHERE revision < ?", (kept,))
                shown = "SELECT key FROM revisions, json_each(shown)"
                num_deleted = db.execute(f"DELETE FROM examples WHERE id NOT IN ({shown})").rowcount
                ids = "SELECT id FROM examples"
                db.execute(f"DELETE FROM embeddings WHERE model != ? OR example NOT IN ({ids})", (self._model,))
            with file_errors(self.path):
                # Else the joints stay readable in the file, or in the log beside it.
                db.execute("VACUUM")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return num_deleted

    @contextmanager
    def _change(self, action: str, created: str, expected_revision: int | None) -> Iterator[_Change]:
        """Make the next revision in one transaction; when it is committed, load the outcome."""
        try:
            with self._storage.use():
                with self._next_revision(action, created, expected_revision) as change:
                    yield change
                self._load()
        except GalleryError as error:
            if error.code == "gallery_replaced":
                self._load()
            raise

    @contextmanager
    def _next_revision(self, action: str, created: str, expected_revision: int | None) -> Iterator[_Change]:
        with self._storage.transaction("IMMEDIATE") as db:
            self._storage.check_same()
            _, head = self._storage.span()
            if expected_revision not in (None, head):
                raise GalleryError(
                    f"expected revision {expected_revision}, but {self.path} is at revision {head}",
                    code="revision_conflict",
                    hint="The gallery was changed in the meantime: look at it again, then repeat the change.",
                )
            change = _Change(revision=head + 1, stands_for=head + 1, shown=self._read_revision(head)[1])
            yield change
            # What is said not to be a label is of no use once that is gone.
            labels = {"", *change.labels}
            change.shown = {id: said for id, said in change.shown.items() if _label_of(said) in labels}
            shown = msgspec.json.encode(change.shown).decode()
            row = (change.revision, change.stands_for, created, action, change.label, change.detail, shown)
            insert(db, "revisions", *row)

    def _prototype(self, id: str, example: Example, embedding: Array) -> Prototype:
        return Prototype(
            id=id,
            label=example.label,
            movement=example.movement,
            embedding=embedding,
            model_sha256=self._model_sha256,
            origin=example.origin,
            created=example.created,
            words=example.words,
        )

    def _insert(self, change: _Change, drafts: Sequence[Prototype], mode: Mode) -> list[Prototype]:
        """Store prototypes; return them with the label as the gallery spells it."""
        spelling: dict[str, str] = {}
        for draft in drafts:
            spelling.setdefault(label_key(draft.label), draft.label)
        # An example takes the place of words.
        words = {id for id in self._ids_of_words() if label_key(change.shown.get(id, "")) in spelling}
        change.shown = {id: said for id, said in change.shown.items() if id not in words}
        existing = {key: found for key in spelling if (found := find_spelling(key, change.labels))}
        if existing and mode == "new":
            raise self._label_exists(existing.values())
        if mode == "add":
            spelling |= existing
        if mode == "replace":
            replaced = set(existing.values())
            change.shown = {id: said for id, said in change.shown.items() if _label_of(said) not in replaced}
        change.label = ", ".join(spelling.values())
        stored = [replace(draft, label=spelling[label_key(draft.label)]) for draft in drafts]
        return [self._store(change, prototype) for prototype in stored]

    def _store(self, change: _Change, prototype: Prototype, *, is_counter: bool = False) -> Prototype:
        self._insert_example(prototype)
        insert(self._storage.db, "embeddings", prototype.id, self._model, prototype.embedding.tobytes())
        change.shown[prototype.id] = f"{_NOT}{prototype.label}" if is_counter else prototype.label
        return prototype

    def _insert_negatives(self, change: _Change, negatives: Sequence[Negative]) -> list[str]:
        for negative in negatives:
            self._insert_example(negative)
            change.shown[negative.id] = ""
        return [negative.id for negative in negatives]

    def _insert_example(self, example: Prototype | Negative) -> None:
        times, joints = example.movement.timestamps_s.tobytes(), example.movement.joints_m.tobytes()
        words = example.words if isinstance(example, Prototype) else None
        insert(self._storage.db, "examples", example.id, example.origin, example.created, times, joints, words)

    def _insert_described(self, change: _Change, described: Sequence[Described], mode: Mode) -> list[str]:
        """Store labels by words alone where nothing stands against it; return those that were."""
        stored, words = [], self._ids_of_words()
        for each in described:
            found = {id for id, label in change.shown.items() if label_key(label) == label_key(each.label)}
            if found and (mode != "replace" or not words.issuperset(found)):
                continue
            change.shown = {id: label for id, label in change.shown.items() if id not in found}
            insert(self._storage.db, "examples", each.id, "words", each.created, b"", b"", each.description)
            change.shown[each.id] = each.label
            words.add(each.id)
            stored.append(each.label)
        return stored

    def _ids_of_words(self) -> set[str]:
        """Return the ids of what was ever stored by words alone."""
        return {id for (id,) in self._storage.db.execute("SELECT id FROM examples WHERE length(timestamps_s) = 0")}

    def _load(self) -> None:
        """Read the newest revision; what is in memory already is not read again."""
        known = {prototype.id: prototype for prototype in (*self.prototypes, *self.counters)}
        negatives = {negative.id: negative for negative in self.negatives}
        stamp, damaged = read_stamp(self.path), []
        described: dict[str, Described] = {}
        with self._storage.transaction("DEFERRED") as db:
            is_replaced = self._storage.is_replaced()
            _, revision = self._storage.span()
            _, shown = self._read_revision(revision)
            (sha256,) = db.execute("SELECT sha256 FROM revisions WHERE revision = ?", (revision,)).fetchone()
            words = self._ids_of_words()
            found: dict[str, Prototype] = {}
            for id, said in shown.items():
                label = _label_of(said)
                try:
                    if id in words:
                        described[id] = self._read_described(id, label)
                    elif said:
                        found[id] = _relabeled(known[id], label) if id in known else self._read(id, label)
                    else:
                        negatives[id] = negatives[id] if id in negatives else read_recorded(db, id)[0]
                except DamagedRowError as error:
                    damaged.append(Damaged(id=id, label=label, problem=str(error)))
        stale = [prototype for prototype in found.values() if not len(prototype.embedding)]
        if stale:
            # Outside of a transaction: embedding many takes seconds, and other processes wait only so long.
            embeddings = self._embeddings([p.movement for p in stale])
            with self._storage.transaction("IMMEDIATE") as db:
                for p, embedding in zip(stale, embeddings, strict=True):
                    found[p.id] = replace(p, embedding=embedding)
                    insert(db, "embeddings", p.id, self._model, embedding.tobytes(), replace=True)
        self.prototypes = tuple(self._mix(p) for id, p in found.items() if shown[id] == p.label)
        self.counters = tuple(p for id, p in found.items() if shown[id] != p.label)
        self.negatives = tuple(negatives[id] for id, said in shown.items() if not said and id in negatives)
        self.described, self.damaged = tuple(described.values()), tuple(damaged)
        self.revision = revision
        self._storage.remember(stamp, Head(revision, sha256))
        self.num_reembedded += len(stale)
        self.num_replaced += is_replaced

    def _mix(self, prototype: Prototype) -> Prototype:
        """Return a prototype with what the words of its label say."""
        if self._words is None or prototype.words is None or prototype.mixed is not None:
            return prototype
        return replace(prototype, mixed=self._words.mix(prototype.label, prototype.words, prototype.embedding))

    def _read_described(self, id: str, label: str) -> Described:
        _, _, created, _, _, description = read_row(self._storage.db, "examples", "id = ?", id)
        embedding, duration_s = np.zeros(0, np.float32), 0.0
        if self._words is not None:
            embedding, duration_s = self._words.predict(label, description or "")
        return Described(
            id=id,
            label=label,
            description=description or "",
            embedding=embedding,
            duration_s=duration_s,
            created=created,
        )

    def _read(self, id: str, label: str) -> Prototype:
        """Read one prototype; its embedding is empty where this model has made none yet, or it is damaged."""
        stored, words = read_recorded(self._storage.db, id)
        try:
            example = Example(
                label=validate_label(label),
                movement=stored.movement,
                origin=stored.origin,
                created=stored.created,
                words=words,
            )
        except GalleryError as error:
            raise DamagedRowError(error.message) from error
        return self._prototype(id, example, read_embedding(self._storage.db, id, self._model, self._embedding_size))

    def _embeddings(self, movements: Sequence[Movement]) -> Array:
        """Return embeddings, shape (N, D), float32, read-only. Raises GalleryError if one is not finite."""
        embeddings_ND = np.array(self._embed(movements), "<f4")
        # One NaN among the distances would hide every other prototype.
        if not np.isfinite(embeddings_ND).all():
            raise GalleryError(
                "the model gives no finite embedding for an example",
                code="bad_example",
                hint="Check that the joints are in meters; if they are, the model is at fault.",
            )
        embeddings_ND.setflags(write=False)
        return embeddings_ND

    def _read_revision(self, revision: int) -> tuple[int, dict[str, str]]:
        """Return which revision one stands for, and the labels that it shows, by example id."""
        try:
            _, stands_for, *_, shown = read_row(self._storage.db, "revisions", "revision = ?", revision)
        except DamagedRowError as error:
            raise bad_gallery(self.path, f"revision {revision} is damaged: {error}") from error
        return int(stands_for), msgspec.json.decode(shown, type=dict[str, str])

    def _revisions(self, where: str, *values: int) -> tuple[Revision, ...]:
        columns = "revision, created, action, label, detail"
        rows = self._storage.db.execute(f"SELECT {columns} FROM revisions {where}", values)
        return tuple(Revision(**dict(zip(columns.split(", "), row, strict=True))) for row in rows)

    def _existing(self, label: str, labels: Iterable[str]) -> str:
        """Return how `labels` spell a label. Raises GalleryError("unknown_label")."""
        if spelling := find_spelling(label, labels):
            return spelling
        known = ", ".join(repr(other) for other in dict.fromkeys(labels) if other)
        raise GalleryError(
            f"no label {label!r} in {self.path}; it has {known or 'none'}",
            code="unknown_label",
            hint="Use one of its labels; upper and lower case are the same.",
        )

    def _unknown_id(self, id: str, num_found: int) -> GalleryError:
        return GalleryError(
            f"{num_found} examples in {self.path} have an id that begins with {id!r}, expected one",
            code="unknown_id",
            hint="`gallery show LABEL` and `gallery list` print the ids.",
        )

    def _label_exists(self, labels: Iterable[str]) -> GalleryError:
        return GalleryError(
            f"expected a new label, but {self.path} has {', '.join(map(repr, labels))} already",
            code="label_exists",
            hint="Use --add (mode 'add') to keep those examples too, --replace (mode 'replace') to remove them first.",
        )


def _relabeled(prototype: Prototype, label: str) -> Prototype:
    """Return a prototype of another label, whose words are not those of before."""
    return prototype if prototype.label == label else replace(prototype, label=label, mixed=None)
