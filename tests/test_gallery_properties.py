"""What holds of every sequence of changes: the gallery on disk is what a list of dictionaries says it is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.gallery import Gallery, Negative, Prototype
from edge.protocol import Mode
from streams.arrays import Array
from streams.errors import GalleryError
from streams.movement import Movement

NOW = "2030-01-02T03:04:05Z"
# Upper and lower case are the same label, composed and decomposed too.
_LABELS = st.sampled_from(["wave", "Wave", "bow", "gr\u00fc\u00dfen", "GRU\u0308SSEN"])
_SPELLINGS = {"wave": 0, "Wave": 0, "bow": 1, "gr\u00fc\u00dfen": 2, "GR\u00dcSSEN": 2, "GRU\u0308SSEN": 2}
_STORED = {"GRU\u0308SSEN": "GR\u00dcSSEN"}


def embed(movements: Sequence[Movement]) -> Array:
    return np.stack([np.nan_to_num(movement.joints_m).mean(axis=(0, 1)) for movement in movements])


class GalleryAsAList(RuleBasedStateMachine):
    """Hold a gallery, and beside it each revision as (revision that it stands for, labels by id).

    The label of a negative is "", that of a counter-example "!" and what it is not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.revisions: dict[int, tuple[int, dict[str, str]]] = {0: (0, {})}
        self.joints: dict[str, bytes] = {}

    @initialize()
    def open_new(self) -> None:
        self.gallery, self.watching = self.opened(), self.opened()

    def opened(self) -> Gallery:
        return Gallery(Path(self.folder.name) / "gallery.db", embed=embed, model_sha256="0" * 64)

    def teardown(self) -> None:
        self.gallery.close()
        self.watching.close()
        self.folder.cleanup()

    @property
    def head(self) -> int:
        return max(self.revisions)

    @property
    def shown(self) -> dict[str, str]:
        return dict(self.revisions[self.head][1])

    def spelled(self, label: str) -> str:
        labels = (other for other in self.shown.values() if other and other[0] != "!")
        same = (other for other in labels if _SPELLINGS[other] == _SPELLINGS[label])
        return next(same, "")

    def now_shows(self, shown: dict[str, str], stands_for: int | None = None) -> None:
        shown = {id: label for id, label in shown.items() if label[:1] != "!" or label[1:] in shown.values()}
        self.revisions[self.head + 1] = (self.head + 1 if stands_for is None else stands_for, shown)

    def movement(self, seed: int) -> Movement:
        joints_m = np.random.default_rng(seed).normal(size=(3, 25, 3)).astype(np.float32)
        joints_m[1, seed % 25] = np.nan
        return Movement(timestamps_s=np.arange(3.0), joints_m=joints_m)

    @rule(label=_LABELS, mode=st.sampled_from(["new", "add", "replace"]), seed=st.integers(0, 99))
    def add(self, label: str, mode: Mode, seed: int) -> None:
        existing = self.spelled(label)
        if existing and mode == "new":
            self.refused("label_exists", lambda: self.gallery.add(label, self.movement(seed), origin="", created=NOW))
            return
        added = self.gallery.add(label, self.movement(seed), origin="live:test", created=NOW, mode=mode)
        self.joints[added.id] = self.movement(seed).joints_m.tobytes()
        shown = {
            id: other
            for id, other in self.shown.items()
            if mode != "replace" or not existing or other not in {existing, f"!{existing}"}
        }
        stored = existing if existing and mode == "add" else _STORED.get(label, label)
        self.now_shows(shown | {added.id: stored})

    @rule(seeds=st.lists(st.integers(0, 99), min_size=1, max_size=2))
    def add_negatives(self, seeds: list[int]) -> None:
        movements = [self.movement(seed) for seed in seeds]
        ids = self.gallery.add_negatives(movements, origin="live:test", created=NOW)
        self.joints |= {id: movement.joints_m.tobytes() for id, movement in zip(ids, movements, strict=True)}
        self.now_shows(self.shown | dict.fromkeys(ids, ""))

    @rule(label=_LABELS, seed=st.integers(0, 99))
    def add_counter(self, label: str, seed: int) -> None:
        def add() -> Prototype:
            return self.gallery.add_counter(label, self.movement(seed), origin="live:test", created=NOW)

        if not (existing := self.spelled(label)):
            self.refused("unknown_label", add)
            return
        added = add()
        self.joints[added.id] = self.movement(seed).joints_m.tobytes()
        self.now_shows(self.shown | {added.id: f"!{existing}"})

    @rule(label=_LABELS)
    def remove(self, label: str) -> None:
        if not (existing := self.spelled(label)):
            self.refused("unknown_label", lambda: self.gallery.remove(label, created=NOW))
            return
        kept = {id: other for id, other in self.shown.items() if other != existing}
        assert self.gallery.remove(label, created=NOW) == len(self.shown) - len(kept)
        self.now_shows(kept)

    @precondition(lambda self: self.shown)
    @rule(data=st.data())
    def remove_example(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(list(self.shown)))
        assert self.gallery.remove_example(id, created=NOW) == id
        self.now_shows({other: label for other, label in self.shown.items() if other != id})

    @rule(old=_LABELS, new=_LABELS)
    def rename(self, old: str, new: str) -> None:
        existing, taken, stored = self.spelled(old), self.spelled(new), _STORED.get(new, new)
        if not existing or (taken and (taken != existing or existing == stored)):
            code = "label_exists" if existing else "unknown_label"
            self.refused(code, lambda: self.gallery.rename(old, new, created=NOW))
            return
        assert self.gallery.rename(old, new, created=NOW) == stored
        renamed = {existing: stored, f"!{existing}": f"!{stored}"}
        self.now_shows({id: renamed.get(label, label) for id, label in self.shown.items()})

    @rule()
    def undo(self) -> None:
        standing = self.revisions[self.head][0]
        if standing <= min(self.revisions):
            self.refused("nothing_to_undo", lambda: self.gallery.undo(created=NOW))
            return
        self.gallery.undo(created=NOW)
        stands_for, shown = self.revisions[standing - 1]
        self.now_shows(dict(shown), stands_for)

    @rule(data=st.data())
    def revert(self, data: st.DataObject) -> None:
        revision = data.draw(st.integers(0, self.head + 1))
        if revision not in self.revisions:
            self.refused("unknown_revision", lambda: self.gallery.revert(revision, created=NOW))
            return
        self.gallery.revert(revision, created=NOW)
        self.now_shows(dict(self.revisions[revision][1]))

    @rule(keep=st.integers(0, 5))
    def vacuum(self, keep: int) -> None:
        oldest = max(self.head - keep, min(self.revisions))
        before = {id for _, shown in self.revisions.values() for id in shown}
        self.revisions = {number: stored for number, stored in self.revisions.items() if number >= oldest}
        after = {id for _, shown in self.revisions.values() for id in shown}
        assert self.gallery.vacuum(keep) == len(before - after)

    @rule()
    def reopen(self) -> None:
        self.gallery.close()
        self.gallery = self.opened()
        assert self.gallery.num_reembedded == 0

    def refused(self, code: str, change: Callable[[], object]) -> None:
        with pytest.raises(GalleryError) as refusal:
            change()
        assert refusal.value.code == code

    @invariant()
    def both_views_show_what_the_list_says(self) -> None:
        self.watching.refresh()
        for gallery in (self.gallery, self.watching):
            assert gallery.revision == self.head
            prototypes = [(p.id, p.label) for p in gallery.prototypes]
            assert prototypes == [(id, label) for id, label in self.shown.items() if label and label[0] != "!"]
            counters = [(c.id, f"!{c.label}") for c in gallery.counters]
            assert counters == [(id, label) for id, label in self.shown.items() if label[:1] == "!"]
            assert [negative.id for negative in gallery.negatives] == [
                id for id, label in self.shown.items() if not label
            ]
            everything: list[Prototype | Negative] = [*gallery.prototypes, *gallery.counters, *gallery.negatives]
            for stored in everything:
                assert stored.movement.joints_m.tobytes() == self.joints[stored.id]


TestGalleryAsAList = GalleryAsAList.TestCase
TestGalleryAsAList.settings = settings(max_examples=settings().max_examples // 3, stateful_step_count=25)
