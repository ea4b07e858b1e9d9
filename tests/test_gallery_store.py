"""The gallery through its public seam: real files, real processes, a small real embedding.

Shapes: N examples, L frames, T = 8 frames of a window, V = 25, D embedding size.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edge.gallery.care import back_up, back_up_now, backups_of, check_gallery, is_backup_due, repair, restore
from edge.gallery.examples import Prototype
from edge.gallery.schema import logs_of
from edge.gallery.store import Gallery
from edge.motion.preprocess import window_from_movement
from streams.arrays import Array
from streams.errors import GalleryError
from streams.movement import Movement

Embed = Callable[[Sequence[Movement]], Array]
NOW = "2030-01-02T03:04:05Z"


def model(seed: int, size: int = 16) -> Embed:
    """Make an encoder: a fixed random projection of the window, length 1."""
    weights = np.random.default_rng(seed).normal(size=(8 * 25 * 3, size)).astype(np.float32)

    def embed(movements: Sequence[Movement]) -> Array:
        windows = np.stack([window_from_movement(movement, 8).reshape(-1) for movement in movements])
        embeddings_ND = windows @ weights
        return np.asarray(embeddings_ND / np.linalg.norm(embeddings_ND, axis=1, keepdims=True), np.float32)

    return embed


def example(seed: int = 0, num_frames: int = 12) -> Movement:
    rng = np.random.default_rng(seed)
    times = 100 + np.cumsum(rng.uniform(0.02, 0.05, num_frames))
    return Movement(timestamps_s=times, joints_m=rng.normal(size=(num_frames, 25, 3)).astype(np.float32))


def open_gallery(path: Path | str, seed: int = 1, size: int = 16) -> Gallery:
    return Gallery(path, embed=model(seed, size), model_sha256=f"{seed:064x}")


def add(gallery: Gallery, label: str, seed: int = 0, **options: Any) -> Prototype:
    return gallery.add(label, example(seed), **{"origin": "live:test", "created": NOW} | options)


def shown(gallery: Gallery) -> dict[str, str]:
    return {prototype.id: prototype.label for prototype in gallery.prototypes}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.db"


# What is stored


def test_a_prototype_comes_back_bit_for_bit(path: Path) -> None:
    recorded = example()
    times, joints = recorded.timestamps_s, recorded.joints_m
    joints[3:5, 7] = np.nan
    joints.view(np.uint32)[0, 0, 0] = 0x7FC12345  # a NaN with a payload
    with open_gallery(path) as gallery:
        stored = gallery.add("wave", recorded, origin="live:kinect", created=NOW)
    with open_gallery(path) as gallery:
        (read,) = gallery.prototypes
    assert read.movement.timestamps_s.tobytes() == times.tobytes()
    assert read.movement.joints_m.tobytes() == joints.tobytes()
    assert read.embedding.tobytes() == stored.embedding.tobytes()
    assert (read.id, read.label, read.origin, read.created) == (stored.id, "wave", "live:kinect", NOW)
    assert read.movement.joints_m.dtype == np.float32
    assert read.movement.timestamps_s.dtype == np.float64
    assert read.movement.duration_s == times[-1] - times[0]
    assert read.model_sha256 == f"{1:064x}"


def test_a_stored_prototype_is_no_view_of_the_callers_array() -> None:
    recorded = example()
    with open_gallery(":memory:") as gallery:
        prototype = gallery.add("wave", recorded, origin="live:test", created=NOW)
        recorded.joints_m[:] = 0
        assert prototype.movement.joints_m.any()
        with pytest.raises(ValueError, match="read-only"):
            prototype.movement.joints_m[0] = 0


def test_missing_folders_are_made(tmp_path: Path) -> None:
    with open_gallery(tmp_path / "a" / "b" / "gallery.db") as gallery:
        assert gallery.revision == 0


# Labels and examples


def test_a_new_label_that_exists_is_refused_with_the_two_other_ways(path: Path) -> None:
    with open_gallery(path) as gallery:
        add(gallery, "Wave")
        with pytest.raises(GalleryError, match="'Wave'") as refusal:
            add(gallery, " wave ")
        assert refusal.value.code == "label_exists"
        assert "'add'" in refusal.value.hint
        assert "'replace'" in refusal.value.hint
        assert gallery.revision == 1


def test_adding_appends_under_the_spelling_of_the_gallery(path: Path) -> None:
    with open_gallery(path) as gallery:
        first = add(gallery, "Wave", seed=1)
        second = add(gallery, "wave", seed=2, mode="add")
        assert shown(gallery) == {first.id: "Wave", second.id: "Wave"}
        assert gallery.labels() == ("Wave",)


def test_a_label_can_be_checked_before_anybody_moves() -> None:
    with open_gallery(":memory:") as gallery:
        add(gallery, "Wave")
        assert gallery.check_label(" clap ") == "clap"
        assert gallery.check_label("wave", mode="add") == "Wave"
        assert gallery.check_label("clap", mode="add") == "clap"
        assert gallery.check_label("wave", mode="replace") == "wave"
        for label, code in (("wave", "label_exists"), ("a\nb", "bad_label")):
            with pytest.raises(GalleryError) as refusal:
                gallery.check_label(label)
            assert refusal.value.code == code


def test_replacing_removes_the_examples_of_that_label_only(path: Path) -> None:
    with open_gallery(path) as gallery:
        clap = add(gallery, "clap", seed=1)
        add(gallery, "Wave", seed=2)
        add(gallery, "wave", seed=3, mode="add")
        wave = add(gallery, "wave", seed=4, mode="replace")
        assert shown(gallery) == {clap.id: "clap", wave.id: "wave"}


def test_labels_are_compared_after_composing_and_folding() -> None:
    with open_gallery(":memory:") as gallery:
        add(gallery, unicodedata.normalize("NFD", "Größe Ölwechsel"))
        assert gallery.labels() == (unicodedata.normalize("NFC", "Größe Ölwechsel"),)
        with pytest.raises(GalleryError) as refusal:
            add(gallery, "GRÖSSE ÖLWECHSEL")
        assert refusal.value.code == "label_exists"


@pytest.mark.parametrize("label", ["x" * 100, "hello 👋🏽", "👨‍👩‍👧", "می‌خواهم", "手を振る", "a, b", "'; --"])
def test_plain_labels_of_any_script_are_kept(path: Path, label: str) -> None:
    with open_gallery(path) as gallery:
        add(gallery, label)
    with open_gallery(path) as gallery:
        assert gallery.labels() == (unicodedata.normalize("NFC", label),)


@pytest.mark.parametrize(
    "label", ["", "  ", "x" * 101, "a\nb", "a\0b", "a\x1bb", "a\u2028b", "a\u202eb", "a\u200bb", "a\ud800"]
)
def test_labels_that_cannot_be_shown_are_refused(label: str) -> None:
    with open_gallery(":memory:") as gallery:
        add(gallery, "wave")
        with pytest.raises(GalleryError) as refusal:
            add(gallery, label)
        assert refusal.value.code == "bad_label"
        with pytest.raises(GalleryError) as refusal:
            gallery.rename("wave", label, created=NOW)
        assert refusal.value.code == "bad_label"
        with pytest.raises(GalleryError) as refusal:
            gallery.remove(label, created=NOW)
        assert refusal.value.code == "unknown_label"


def test_bad_examples_are_refused_and_nothing_is_stored() -> None:
    recorded = example()
    times, joints = recorded.timestamps_s, recorded.joints_m
    infinite, repeated, not_finite = joints.copy(), times.copy(), times.copy()
    infinite[2, 3, 1] = np.inf
    repeated[5] = repeated[4]
    not_finite[5] = np.nan
    unseen = np.full_like(joints, np.nan)
    unseen[..., :2] = 1  # two of three coordinates are no position
    bad: list[tuple[Any, Any, str]] = [
        (times[:1], joints[:1], "at least 2 frames"),
        (times[:5], joints, "expected timestamps"),
        (times, joints[:, :24], "expected timestamps"),
        (times[::-1], joints, "each after the one before"),
        (repeated, joints, "each after the one before"),
        (not_finite, joints, "finite timestamps"),
        (times, infinite, "more than 100 m away"),
        (times, joints * 1000, "more than 100 m away"),
        (times, unseen, "no joint was seen"),
    ]
    with open_gallery(":memory:") as gallery:
        for bad_times, bad_joints, message in bad:
            bad_one = Movement(timestamps_s=bad_times, joints_m=bad_joints)
            with pytest.raises(GalleryError, match=message) as refusal:
                gallery.add("wave", bad_one, origin="live:test", created=NOW)
            assert refusal.value.code == "bad_example"
        assert gallery.revision == 0


def test_an_embedding_that_is_not_finite_is_refused() -> None:
    def broken(examples: Sequence[object]) -> Array:
        return np.full((len(examples), 4), np.nan, np.float32)

    with Gallery(":memory:", embed=broken, model_sha256="0") as gallery:
        with pytest.raises(GalleryError, match="no finite embedding") as refusal:
            add(gallery, "wave")
        assert refusal.value.code == "bad_example"
        assert gallery.prototypes == ()


# Changes


def test_removing_takes_all_examples_of_a_label() -> None:
    with open_gallery(":memory:") as gallery:
        add(gallery, "wave", seed=1)
        add(gallery, "wave", seed=2, mode="add")
        add(gallery, "clap", seed=3)
        assert gallery.remove("WAVE", created=NOW) == 2
        assert gallery.labels() == ("clap",)


def test_renaming_keeps_the_prototypes_and_their_order() -> None:
    with open_gallery(":memory:") as gallery:
        first = add(gallery, "wave", seed=1)
        second = add(gallery, "clap", seed=2)
        gallery.rename("wave", "Hello", created=NOW)
        assert list(shown(gallery).items()) == [(first.id, "Hello"), (second.id, "clap")]
        gallery.rename("hello", "HELLO", created=NOW)
        assert gallery.labels() == ("HELLO", "clap")
        assert gallery.undo(created=NOW) == "revision 4: rename 'Hello' to 'HELLO'"
        assert gallery.labels() == ("Hello", "clap")


@pytest.mark.parametrize("new", ["clap", "CLAP", "wave"])
def test_renaming_to_a_label_that_exists_is_refused(new: str) -> None:
    with open_gallery(":memory:") as gallery:
        add(gallery, "wave", seed=1)
        add(gallery, "clap", seed=2)
        with pytest.raises(GalleryError) as refusal:
            gallery.rename("wave", new, created=NOW)
        assert refusal.value.code == "label_exists"
        assert gallery.labels() == ("wave", "clap")


def test_an_unknown_label_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with open_gallery(":memory:") as gallery:
        add(gallery, "wave")
        for request in (
            lambda: gallery.remove("clap", created=NOW),
            lambda: gallery.rename("clap", "x", created=NOW),
            lambda: gallery.export(tmp_path / "x.npz", ["wave", "clap"]),
        ):
            with pytest.raises(GalleryError, match=r"'clap'.*it has 'wave'") as refusal:
                request()
            assert refusal.value.code == "unknown_label"
        assert gallery.revision == 1


def test_every_change_with_another_revision_in_mind_is_refused(tmp_path: Path) -> None:
    with open_gallery(":memory:") as gallery:
        add(gallery, "wave", expected_revision=0)
        gallery.export(tmp_path / "x.npz")
        options: dict[str, Any] = {"created": NOW, "expected_revision": 7}
        for request in (
            lambda: add(gallery, "clap", expected_revision=7),
            lambda: gallery.remove("wave", **options),
            lambda: gallery.rename("wave", "x", **options),
            lambda: gallery.undo(**options),
            lambda: gallery.revert(0, **options),
            lambda: gallery.import_(tmp_path / "x.npz", mode="add", **options),
        ):
            with pytest.raises(GalleryError, match=r"expected revision 7.* at revision 1") as refusal:
                request()
            assert refusal.value.code == "revision_conflict"
        assert gallery.revision == 1


def test_history_lists_the_latest_changes_first(tmp_path: Path) -> None:
    with open_gallery(":memory:") as gallery:
        assert gallery.history() == ()
        add(gallery, "wave", created="t1")
        gallery.rename("wave", "hello", created="t2")
        gallery.undo(created="t3")
        gallery.revert(2, created="t4")
        gallery.export(tmp_path / "x.npz")
        gallery.import_(tmp_path / "x.npz", mode="replace", created="t5")
        gallery.remove("HELLO", created="t6")
        lines = [(r.revision, r.created, r.description) for r in gallery.history()]
        assert lines == [
            (6, "t6", "revision 6: remove 'hello'"),
            (5, "t5", "revision 5: import 'hello' from x.npz"),
            (4, "t4", "revision 4: revert to revision 2"),
            (3, "t3", "revision 3: undo 'wave' of revision 2"),
            (2, "t2", "revision 2: rename 'wave' to 'hello'"),
            (1, "t1", "revision 1: add 'wave'"),
        ]
        assert [r.revision for r in gallery.history(2)] == [6, 5]
        assert gallery.history(0) == gallery.history(-1) == ()
        assert len(gallery.history(2**64)) == 6


def test_undo_walks_back_and_stops_at_the_beginning() -> None:
    with open_gallery(":memory:") as gallery:
        add(gallery, "a", seed=1)
        add(gallery, "b", seed=2)
        gallery.undo(created=NOW)
        add(gallery, "c", seed=3)
        undone = [gallery.undo(created=NOW), gallery.undo(created=NOW)]
        assert undone == ["revision 4: add 'c'", "revision 1: add 'a'"]
        with pytest.raises(GalleryError) as refusal:
            gallery.undo(created=NOW)
        assert refusal.value.code == "nothing_to_undo"
        assert gallery.revision == 6
        assert gallery.prototypes == ()


def test_any_sequence_of_changes_matches_a_stack_of_states(path: Path) -> None:
    rng = random.Random(0)
    by_revision: list[dict[str, str]] = [{}]
    stack: list[dict[str, str]] = [{}]
    with open_gallery(path) as gallery:
        for step in range(60):
            labels = gallery.labels()
            action = rng.choice(["add", "add", "more", "replace", "remove", "rename", "undo", "undo", "revert"])
            if action == "undo" and len(stack) > 1:
                gallery.undo(created=NOW)
                stack.pop()
                assert shown(gallery) == stack[-1]
            elif action == "revert":
                revision = rng.randrange(len(by_revision))
                gallery.revert(revision, created=NOW)
                assert shown(gallery) == by_revision[revision]
                stack.append(shown(gallery))
            else:
                if action in ("more", "replace") and labels:
                    add(gallery, rng.choice(labels), step, mode="add" if action == "more" else "replace")
                elif action == "remove" and labels:
                    gallery.remove(rng.choice(labels), created=NOW)
                elif action == "rename" and labels:
                    gallery.rename(rng.choice(labels), f"renamed {step}", created=NOW)
                else:
                    add(gallery, f"label {step}", step)
                stack.append(shown(gallery))
            by_revision.append(shown(gallery))
            assert gallery.revision == len(by_revision) - 1
        in_memory = shown(gallery)
    with open_gallery(path) as gallery:
        assert list(shown(gallery).items()) == list(in_memory.items())


@pytest.mark.parametrize("revision", [-1, 2, 10**30])
def test_reverting_to_a_revision_that_never_was_is_refused(revision: int) -> None:
    with open_gallery(":memory:") as gallery:
        add(gallery, "wave")
        with pytest.raises(GalleryError, match="expected 0 to 1") as refusal:
            gallery.revert(revision, created=NOW)
        assert refusal.value.code == "unknown_revision"


def test_vacuum_forgets_what_older_revisions_held_and_keeps_the_rest(path: Path) -> None:
    with open_gallery(path) as gallery:
        for i in range(6):
            add(gallery, f"label {i}", seed=i, mode="new")
        joints = gallery.prototypes[0].movement.joints_m.tobytes()
        gallery.remove("label 0", created=NOW)
        gallery.remove("label 1", created=NOW)
        before = shown(gallery)
        assert gallery.vacuum(keep_revisions=1) == 1
        assert shown(gallery) == before
        assert gallery.revision == 8
        assert gallery.undo(created=NOW) == "revision 8: remove 'label 1'"
        assert "label 1" in gallery.labels()
        with pytest.raises(GalleryError) as refusal:
            gallery.undo(created=NOW)
        assert refusal.value.code == "nothing_to_undo"
        with pytest.raises(GalleryError, match="expected 7 to 9"):
            gallery.revert(6, created=NOW)
        assert joints not in path.read_bytes()
        add(gallery, "wave", seed=9)
        assert gallery.vacuum(keep_revisions=0) == 0
    with open_gallery(path) as gallery:
        assert gallery.labels() == ("label 1", *(f"label {i}" for i in range(2, 6)), "wave")
        assert gallery.revision == 10
        assert [revision.revision for revision in gallery.history()] == [10]


# One example, and negatives


def raw(seed: int, num_frames: int = 30) -> Movement:
    return example(seed, num_frames)


def add_negatives(gallery: Gallery, *seeds: int, **options: Any) -> list[str]:
    return gallery.add_negatives([raw(seed) for seed in seeds], origin="live:test", created=NOW, **options)


def test_one_example_is_removed_by_the_beginning_of_its_id(path: Path) -> None:
    with open_gallery(path) as gallery:
        first = add(gallery, "wave", seed=1)
        second = add(gallery, "wave", seed=2, mode="add")
        assert gallery.remove_example(first.id[:8], created=NOW) == first.id
        assert shown(gallery) == {second.id: "wave"}
        assert gallery.history(1)[0].description == f"revision 3: remove 'wave' example {first.id[:8]}"
        gallery.undo(created=NOW)
        assert list(shown(gallery)) == [first.id, second.id]
        for id in ("", "no such id", first.id + "0"):
            with pytest.raises(GalleryError) as refusal:
                gallery.remove_example(id, created=NOW)
            assert refusal.value.code == "unknown_id"
        with pytest.raises(GalleryError) as refusal:
            gallery.remove_example(first.id, created=NOW, expected_revision=1)
        assert refusal.value.code == "revision_conflict"


def test_negatives_come_back_bit_for_bit_and_are_no_prototypes(path: Path) -> None:
    with open_gallery(path) as gallery:
        add(gallery, "wave")
        ids = add_negatives(gallery, 1, 2)
        assert gallery.revision == 2
    with open_gallery(path) as gallery:
        assert [negative.id for negative in gallery.negatives] == ids
        for negative, expected in zip(gallery.negatives, (raw(1), raw(2)), strict=True):
            assert negative.movement.timestamps_s.tobytes() == expected.timestamps_s.tobytes()
            assert negative.movement.joints_m.tobytes() == expected.joints_m.tobytes()
            assert (negative.origin, negative.created) == ("live:test", NOW)
            assert negative.movement.duration_s == expected.duration_s
            with pytest.raises(ValueError, match="read-only"):
                negative.movement.joints_m[0] = 0
        assert gallery.labels() == ("wave",)
        assert len(gallery.prototypes) == 1
    with open_gallery(path, seed=2, size=24) as gallery:
        assert gallery.num_reembedded == 1, "a negative has no embedding"


def test_negatives_are_undone_removed_reverted_and_vacuumed_as_examples_are(path: Path) -> None:
    with open_gallery(path) as gallery:
        first, second = add_negatives(gallery, 1, 2)
        add(gallery, "wave")
        gallery.rename("wave", "hello", created=NOW)
        gallery.remove("hello", created=NOW)
        assert [negative.id for negative in gallery.negatives] == [first, second]
        gallery.remove_example(first, created=NOW)
        assert [negative.id for negative in gallery.negatives] == [second]
        assert gallery.undo(created=NOW) == f"revision 5: remove negative {first[:8]}"
        assert [negative.id for negative in gallery.negatives] == [first, second]
        gallery.revert(0, created=NOW)
        assert not gallery.negatives
        gallery.revert(1, created=NOW)
        assert gallery.history(20)[-1].description == "revision 1: add 2 negatives"
        gallery.remove_example(second, created=NOW)
        assert gallery.vacuum(0) == 2, "the wave and a negative"
        assert raw(2).joints_m.tobytes() not in path.read_bytes()
        assert [negative.id for negative in gallery.negatives] == [first]
    with open_gallery(path) as gallery:
        assert [negative.id for negative in gallery.negatives] == [first]
        for label in ("", "negative"):
            with pytest.raises(GalleryError, match="it has none") as refusal:
                gallery.remove(label, created=NOW)
            assert refusal.value.code == "unknown_label"


def test_a_bad_negative_is_refused_and_none_is_stored() -> None:
    bad = raw(1)
    bad.joints_m[:] = np.nan
    with open_gallery(":memory:") as gallery:
        with pytest.raises(GalleryError) as refusal:
            gallery.add_negatives([raw(2), bad], origin="live:test", created=NOW)
        assert refusal.value.code == "bad_example"
        assert (gallery.negatives, gallery.revision) == ((), 0)


def test_negatives_of_another_process_are_seen(path: Path) -> None:
    with open_gallery(path) as one, open_gallery(path) as two:
        ids = add_negatives(one, 1)
        assert two.refresh()
        assert [negative.id for negative in two.negatives] == ids
        kept = two.negatives
        add(one, "wave")
        assert two.refresh()
        assert two.negatives == kept, "what is in memory is not read again"


def test_negatives_are_exported_with_everything_and_imported_once_more_or_instead(tmp_path: Path) -> None:
    with open_gallery(":memory:") as gallery:
        add(gallery, "wave")
        add_negatives(gallery, 1, 2)
        assert gallery.export(tmp_path / "all.npz") == 1
        assert gallery.export(tmp_path / "wave.npz", ["wave"]) == 1
    with open_gallery(":memory:") as gallery:
        assert gallery.import_(tmp_path / "wave.npz", created=NOW) == ("wave",)
        assert not gallery.negatives
        gallery.undo(created=NOW)
        assert gallery.import_(tmp_path / "all.npz", created=NOW) == ("wave",)
        for negative, expected in zip(gallery.negatives, (raw(1), raw(2)), strict=True):
            assert negative.movement.joints_m.tobytes() == expected.joints_m.tobytes()
            assert negative.origin == "live:test"
        gallery.import_(tmp_path / "all.npz", mode="add", created=NOW)
        assert (len(gallery.prototypes), len(gallery.negatives)) == (2, 4)
        gallery.import_(tmp_path / "all.npz", mode="replace", created=NOW)
        assert (len(gallery.prototypes), len(gallery.negatives)) == (1, 2)
        gallery.undo(created=NOW)
        assert len(gallery.negatives) == 4
    with open_gallery(":memory:") as gallery:
        add_negatives(gallery, 3)
        gallery.export(tmp_path / "negatives.npz")
        gallery.undo(created=NOW)
        assert gallery.import_(tmp_path / "negatives.npz", created=NOW) == ()
        assert len(gallery.negatives) == 1


def test_a_program_that_knows_no_negatives_refuses_an_export_with_them(tmp_path: Path) -> None:
    with open_gallery(":memory:") as gallery:
        add(gallery, "wave")
        gallery.export(tmp_path / "without.npz")
        add_negatives(gallery, 1)
        gallery.export(tmp_path / "with.npz")
    for name, version in (("without.npz", 1), ("with.npz", 2)):
        with np.load(tmp_path / name) as file:
            assert f'"export_version":{version}' in file["header"].tobytes().decode()


# Another model


def test_another_model_embeds_every_prototype_again_once(path: Path) -> None:
    with open_gallery(path) as gallery:
        for i in range(40):
            add(gallery, f"label {i}", seed=i)
        assert gallery.num_reembedded == 0
    with open_gallery(path, seed=2, size=24) as gallery:
        assert gallery.num_reembedded == 40
        assert gallery.revision == 40
        embed = model(2, 24)
        for prototype in gallery.prototypes:
            expected = embed([prototype.movement])[0]
            np.testing.assert_allclose(prototype.embedding, expected, atol=1e-6)
            assert prototype.model_sha256 == f"{2:064x}"
    with open_gallery(path, seed=2, size=24) as gallery:
        assert gallery.num_reembedded == 0


def test_what_a_former_model_knew_is_embedded_when_undo_brings_it_back(path: Path) -> None:
    with open_gallery(path) as gallery:
        add(gallery, "wave")
        gallery.remove("wave", created=NOW)
    with open_gallery(path, seed=2, size=24) as gallery:
        assert gallery.num_reembedded == 0
        gallery.undo(created=NOW)
        assert gallery.prototypes[0].embedding.shape == (24,)
        assert gallery.num_reembedded == 1


def test_a_model_that_fails_leaves_the_gallery_as_it_was(path: Path) -> None:
    def failing(examples: Sequence[object]) -> Array:
        raise RuntimeError("no model today")

    with open_gallery(path) as gallery:
        add(gallery, "wave")
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="no model today"):
        Gallery(path, embed=failing, model_sha256="other")
    assert path.read_bytes() == before


def test_two_models_share_a_file_without_embedding_in_turns(path: Path) -> None:
    with open_gallery(path, seed=1) as one, open_gallery(path, seed=2, size=24) as two:
        add(one, "wave", seed=1)
        assert two.refresh()
        assert two.prototypes[0].embedding.shape == (24,)
        add(two, "clap", seed=2)
        assert one.refresh()
        assert [prototype.embedding.shape for prototype in one.prototypes] == [(16,), (16,)]
        assert not one.refresh()
        assert not two.refresh()
        one.vacuum(0)
    with open_gallery(path, seed=1) as gallery:
        assert gallery.num_reembedded == 0


def test_other_preprocessing_means_embedding_again(path: Path) -> None:
    with open_gallery(path) as gallery:
        add(gallery, "wave")
    edit(path, "UPDATE embeddings SET model = model || '0'")
    with open_gallery(path) as gallery:
        assert gallery.num_reembedded == 1


# Export and import


def test_import_of_an_export_gives_the_same_prototypes(tmp_path: Path) -> None:
    with open_gallery(tmp_path / "a.db") as one, open_gallery(tmp_path / "b.db", seed=2, size=24) as two:
        add(one, "Wave", seed=1, origin="live:kinect", created="2029-01-01T00:00:00Z")
        recorded = example(2, num_frames=30)
        recorded.joints_m[4, 4] = np.nan
        one.add("Wave", recorded, origin="file:x.npz", created=NOW, mode="add")
        add(one, "拍手", seed=3)
        assert one.export(tmp_path / "x.npz") == 3
        assert two.import_(tmp_path / "x.npz", created=NOW) == ("Wave", "拍手")
        assert two.revision == 1
        for a, b in zip(one.prototypes, two.prototypes, strict=True):
            assert (a.label, a.origin, a.created) == (b.label, b.origin, b.created)
            assert a.movement.timestamps_s.tobytes() == b.movement.timestamps_s.tobytes()
            assert a.movement.joints_m.tobytes() == b.movement.joints_m.tobytes()
            np.testing.assert_allclose(b.embedding, model(2, 24)([a.movement])[0], atol=1e-6)
            assert a.id != b.id
        two.undo(created=NOW)
        assert two.prototypes == ()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.db", "b.db", "x.npz"]


def test_export_of_some_labels_takes_only_those(tmp_path: Path) -> None:
    with open_gallery(":memory:") as gallery:
        add(gallery, "wave", seed=1)
        add(gallery, "clap", seed=2)
        assert gallery.export(tmp_path / "x.npz", ["WAVE"]) == 1
        with open_gallery(":memory:") as other:
            assert other.import_(tmp_path / "x.npz", created=NOW) == ("wave",)
        assert gallery.export(tmp_path / "x.npz", []) == 0
        assert gallery.import_(tmp_path / "x.npz", created=NOW) == ()
        assert gallery.revision == 2


def test_import_modes_are_those_of_add(tmp_path: Path) -> None:
    with open_gallery(":memory:") as source:
        add(source, "Wave", seed=1)
        add(source, "clap", seed=2)
        source.export(tmp_path / "x.npz")
    with open_gallery(":memory:") as gallery:
        add(gallery, "wave", seed=3)
        add(gallery, "jump", seed=4)
        with pytest.raises(GalleryError, match="'wave'") as refusal:
            gallery.import_(tmp_path / "x.npz", created=NOW)
        assert refusal.value.code == "label_exists"
        assert gallery.labels() == ("wave", "jump")
        assert gallery.import_(tmp_path / "x.npz", mode="add", created=NOW) == ("wave", "clap")
        assert [p.label for p in gallery.prototypes] == ["wave", "jump", "wave", "clap"]
        assert gallery.import_(tmp_path / "x.npz", mode="replace", created=NOW) == ("Wave", "clap")
        assert [p.label for p in gallery.prototypes] == ["jump", "Wave", "clap"]


def test_the_gallery_itself_is_not_exported_to(path: Path) -> None:
    with open_gallery(path) as gallery:
        add(gallery, "wave")
        with pytest.raises(GalleryError, match="this gallery itself"):
            gallery.export(path)
    with open_gallery(path) as gallery:
        assert gallery.labels() == ("wave",)


def test_an_export_that_fails_leaves_the_former_file_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with open_gallery(":memory:") as gallery:
        add(gallery, "wave")
        for target in (tmp_path, tmp_path / "file" / "x.npz", tmp_path / "none" / "x.npz"):
            with pytest.raises(GalleryError) as refusal:
                gallery.export(target)
            assert refusal.value.code == "export_failed"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


def exported(tmp_path: Path, **changed: Any) -> Path:
    """Write an export of two examples, members changed or, where None, left out."""
    with open_gallery(":memory:") as gallery:
        add(gallery, "wave", seed=1)
        add(gallery, "clap", seed=2)
        gallery.export(tmp_path / "x.npz")
    if changed:
        with np.load(tmp_path / "x.npz") as file:
            members = {**file, **changed}
        np.savez(tmp_path / "x.npz", **{name: array for name, array in members.items() if array is not None})
    return tmp_path / "x.npz"


def header(old: str, new: str, tmp_path: Path) -> npt.NDArray[np.uint8]:
    with np.load(exported(tmp_path)) as file:
        text = file["header"].tobytes().decode()
    assert old in text
    return np.frombuffer(text.replace(old, new).encode(), np.uint8)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"export_version":1', '"export_version":5'),
        ('"kinect25"', '"coco17"'),
        ('"LUF"', '"RDF"'),
        ('"num_frames":12', '"num_frames":1'),
        ('"num_frames":12', '"num_frames":13'),
        ('"num_frames":12', '"num_frames":-12'),
        ('"wave"', '"wa\\u0000ve"'),
        ('"wave"', "7"),
        ('"axes"', '"axis"'),
        ("{", ""),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = exported(tmp_path, header=header(old, new, tmp_path))
    with open_gallery(":memory:") as gallery:
        with pytest.raises(GalleryError, match=r"x\.npz cannot be imported") as refusal:
            gallery.import_(path, created=NOW)
        assert refusal.value.code == "bad_import"
        assert gallery.revision == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"header": None},
        {"joints_m": None},
        {"timestamps_s": np.zeros(24)},
        {"timestamps_s": np.arange(23.0)},
        {"joints_m": np.full((24, 25, 3), np.nan, np.float32)},
        {"joints_m": np.zeros((24, 25, 2), np.float32)},
        {"joints_m": np.array([{"pickled": True}], object)},
    ],
    ids=str,
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = exported(tmp_path, **changed)
    with open_gallery(":memory:") as gallery:
        with pytest.raises(GalleryError) as refusal:
            gallery.import_(path, created=NOW)
        assert refusal.value.code == "bad_import"


def test_a_file_that_is_no_export_or_damaged_is_refused(tmp_path: Path) -> None:
    whole = exported(tmp_path).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:-100])
    (tmp_path / "flipped.npz").write_bytes(whole.replace(b"\x93NUMPY", b"\x93NUMPX"))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").touch()
    np.save(tmp_path / "array.npy", np.zeros(3))
    with open_gallery(":memory:") as gallery:
        for name in ("cut.npz", "flipped.npz", "text.npz", "empty.npz", "array.npy", "."):
            with pytest.raises(GalleryError) as refusal:
                gallery.import_(tmp_path / name, created=NOW)
            assert refusal.value.code == "bad_import"
        with pytest.raises(GalleryError) as refusal:
            gallery.import_(tmp_path / "none.npz", created=NOW)
        assert refusal.value.code == "not_found"


# Files that are no gallery


def edit(path: Path, statement: str, *values: str) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(statement, values)
    database.close()


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("my notes\n" * 1000)
    (tmp_path / "header").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    (tmp_path / "zeros").write_bytes(bytes(8192))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for name in before:
        with pytest.raises(GalleryError) as refusal:
            open_gallery(tmp_path / name)
        assert refusal.value.code == "bad_gallery"
        assert str(tmp_path / name) in refusal.value.message
        assert refusal.value.hint
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "gallery.db", tmp_path / ("x" * 300)):
        with pytest.raises(GalleryError) as refusal:
            open_gallery(place)
        assert refusal.value.code == "bad_gallery"
        assert str(place) in refusal.value.message
        assert refusal.value.hint


def test_the_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    for statement in ("CREATE TABLE notes (text)", "PRAGMA user_version = 1", "PRAGMA application_id = 5"):
        edit(path, statement)
        before = path.read_bytes()
        with pytest.raises(GalleryError, match="another program") as refusal:
            open_gallery(path)
        assert refusal.value.code == "bad_gallery"
        assert path.read_bytes() == before


def test_a_gallery_of_a_newer_version_is_refused_and_left_alone(path: Path) -> None:
    with open_gallery(path) as gallery:
        add(gallery, "wave")
    edit(path, "PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(GalleryError, match="schema 99") as refusal:
        open_gallery(path)
    assert refusal.value.code == "bad_gallery"
    assert "the version of crossglg-edge that wrote it" in refusal.value.hint
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


SCHEMA_1 = """
CREATE TABLE revisions (
    revision INTEGER PRIMARY KEY, stands_for INTEGER NOT NULL, created TEXT NOT NULL, action TEXT NOT NULL,
    label TEXT NOT NULL, detail TEXT NOT NULL, shown TEXT NOT NULL);
CREATE TABLE examples (
    id TEXT PRIMARY KEY, origin TEXT NOT NULL, created TEXT NOT NULL,
    timestamps_s BLOB NOT NULL, joints_m BLOB NOT NULL);
CREATE TABLE embeddings (
    example TEXT NOT NULL, model TEXT NOT NULL, embedding BLOB NOT NULL, PRIMARY KEY (example, model));
INSERT INTO revisions VALUES (0, 0, '', 'create', '', '', '{}');
INSERT INTO revisions VALUES (1, 1, 'then', 'add', 'wave', '', '{"an-id":"wave"}');
PRAGMA application_id = 0x63676C67;
PRAGMA user_version = 1;
"""


@pytest.mark.parametrize("version", [2, 3])
def test_a_gallery_of_schema_2_or_3_is_taken_over_whole(path: Path, version: int) -> None:
    database = sqlite3.connect(path)
    database.executescript(SCHEMA_1.replace("user_version = 1", f"user_version = {version}"))
    shown = '{"an-id":"wave","other-id":""}'
    database.execute("INSERT INTO revisions VALUES (2, 2, 'then', 'add', '', '1 negatives', ?)", (shown,))
    recorded = example(7)
    for id in ("an-id", "other-id"):
        row = (id, "live:then", "then", recorded.timestamps_s.tobytes(), recorded.joints_m.tobytes())
        database.execute("INSERT INTO examples VALUES (?, ?, ?, ?, ?)", row)
    database.commit()
    database.close()
    for _ in range(2):
        with open_gallery(path) as gallery:
            (wave,), (negative,) = gallery.prototypes, gallery.negatives
            assert (wave.id, wave.words, negative.id, gallery.revision) == ("an-id", "", "other-id", 2)
    with open_gallery(path) as gallery:
        gallery.add_described("kick", "one leg swings", created=NOW)
        gallery.undo(created=NOW)
        assert (gallery.labels(), gallery.described) == (("wave",), ())


def test_a_gallery_of_schema_1_is_taken_over_whole(path: Path) -> None:
    database = sqlite3.connect(path)
    database.executescript(SCHEMA_1)
    recorded = example(7)
    times, joints = recorded.timestamps_s, recorded.joints_m
    row = ("an-id", "live:then", "then", times.tobytes(), joints.tobytes())
    database.execute("INSERT INTO examples VALUES (?, ?, ?, ?, ?)", row)
    database.commit()
    database.close()
    with open_gallery(path) as gallery:
        (wave,) = gallery.prototypes
        assert (wave.id, wave.label, wave.origin, gallery.revision) == ("an-id", "wave", "live:then", 1)
        assert wave.movement.joints_m.tobytes() == joints.tobytes()
        assert not gallery.negatives
        add_negatives(gallery, 1)
    with open_gallery(path) as gallery:
        assert (gallery.labels(), len(gallery.negatives), gallery.revision) == (("wave",), 1, 2)
        gallery.undo(created=NOW)
        gallery.undo(created=NOW)
        assert (gallery.prototypes, gallery.negatives) == ((), ())
    database = sqlite3.connect(path)
    # What knows only schema 1 would take a negative for a prototype, and must refuse the file.
    assert database.execute("PRAGMA user_version").fetchone() == (5,)
    database.close()


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_an_older_file_is_brought_to_todays_schema_whole_or_not_at_all(path: Path, version: int) -> None:
    database = sqlite3.connect(path)
    database.executescript(SCHEMA_1.replace("user_version = 1", f"user_version = {version}"))
    if version == 4:
        database.execute("ALTER TABLE examples ADD COLUMN words TEXT DEFAULT ''")
    recorded = example(7)
    row = ("an-id", "live:then", "then", recorded.timestamps_s.tobytes(), recorded.joints_m.tobytes())
    database.execute("INSERT INTO examples (id, origin, created, timestamps_s, joints_m) VALUES (?, ?, ?, ?, ?)", row)
    database.commit()
    database.close()
    before = path.read_bytes()
    # Another process has the file for itself: nothing is half done.
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge.gallery.schema.BUSY_TIMEOUT_S", 0.1)
        with pytest.raises(GalleryError, match="locked"):
            open_gallery(path)
    other.execute("ROLLBACK")
    other.close()
    assert path.read_bytes() == before
    with open_gallery(path) as gallery:
        (wave,) = gallery.prototypes
        assert (wave.id, wave.label, wave.words, gallery.damaged) == ("an-id", "wave", "", ())
        assert wave.movement.joints_m.tobytes() == recorded.joints_m.tobytes()
    assert check_gallery(path).is_sound


# What is damaged


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE examples SET joints_m = x'00' WHERE id = ?",
        "UPDATE examples SET origin = 'live:elsewhere' WHERE id = ?",
        "UPDATE examples SET joints_m = CAST(joints_m || x'' AS TEXT) WHERE id = ?",
        "UPDATE examples SET timestamps_s = zeroblob(length(timestamps_s)) WHERE id = ?",
        "DELETE FROM examples WHERE id = ?",
    ],
)
def test_a_damaged_example_is_set_aside_by_name_and_the_others_serve(path: Path, statement: str) -> None:
    with open_gallery(path) as gallery:
        wave, bow = add(gallery, "wave"), add(gallery, "bow", 1)
        (negative,) = add_negatives(gallery, 1)
    edit(path, statement, wave.id)
    with open_gallery(path) as gallery:
        assert shown(gallery) == {bow.id: "bow"}
        assert [n.id for n in gallery.negatives] == [negative]
        assert [(damaged.id, damaged.label) for damaged in gallery.damaged] == [(wave.id, "wave")]
        # What goes on is kept.
        add(gallery, "kick", 2)
        assert gallery.labels() == ("bow", "kick")
    edit(path, statement, negative)
    with open_gallery(path) as gallery:
        assert {damaged.id for damaged in gallery.damaged} == {wave.id, negative}
    condition = check_gallery(path)
    assert (condition.num_examples, condition.problems, len(condition.damaged)) == (2, (), 2)
    mended = repair(path, created=NOW)
    assert {damaged.id for damaged in mended.left_out} == {wave.id, negative}
    assert mended.kept is not None
    assert len(check_gallery(mended.kept).damaged) == 2
    assert check_gallery(path).is_sound
    with open_gallery(path) as gallery:
        assert (gallery.labels(), gallery.damaged) == (("bow", "kick"), ())
        assert gallery.history(1)[0].action == "repair"


@pytest.mark.parametrize(
    "embedding", ["x''", "x'00'", "zeroblob(64)", "'text'", "x'0000c07f'", "randomblob(64)", "CAST(embedding AS TEXT)"]
)
def test_an_embedding_that_is_not_what_was_stored_is_made_again(path: Path, embedding: str) -> None:
    with open_gallery(path) as gallery:
        wave = add(gallery, "wave")
    edit(path, f"UPDATE embeddings SET embedding = {embedding}")
    with open_gallery(path) as gallery:
        assert np.array_equal(gallery.prototypes[0].embedding, wave.embedding)
        assert (gallery.num_reembedded, gallery.damaged) == (1, ())
    with open_gallery(path) as gallery:
        assert gallery.num_reembedded == 0


def test_an_embedding_of_another_size_is_made_again_though_its_checksum_holds(path: Path) -> None:
    with open_gallery(path) as gallery:
        wave = add(gallery, "wave")
    with Gallery(path, embed=model(1), model_sha256=f"{1:064x}", embedding_size=17) as gallery:
        assert gallery.num_reembedded == 1
    with Gallery(path, embed=model(1), model_sha256=f"{1:064x}", embedding_size=16) as gallery:
        assert np.array_equal(gallery.prototypes[0].embedding, wave.embedding)


def test_random_bytes_never_change_an_example_unseen(path: Path) -> None:
    with open_gallery(path) as gallery:
        stored = {add(gallery, f"label {i}", i).id: example(i).joints_m.tobytes() for i in range(6)}
    whole, rng = path.read_bytes(), random.Random(0)
    seen = Counter[str]()
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(rng.randrange(1, 20)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        with suppress(GalleryError), open_gallery(path) as gallery:
            for prototype in gallery.prototypes:
                assert stored[prototype.id] == prototype.movement.joints_m.tobytes()
                assert prototype.label == f"label {[*stored].index(prototype.id)}"
            lost = {damaged.id for damaged in gallery.damaged}
            assert {prototype.id for prototype in gallery.prototypes} | lost == stored.keys()
            seen["fewer" if lost else "all"] += 1
        for log in logs_of(path):
            log.unlink(missing_ok=True)
    assert seen["fewer"]


def test_what_can_be_read_of_a_broken_file_is_saved_into_a_new_one(path: Path) -> None:
    with open_gallery(path) as gallery:
        ids = [add(gallery, f"label {i}", i).id for i in range(8)]
    content = bytearray(path.read_bytes())
    page = int.from_bytes(content[16:18], "big")
    # A page in the middle, of an example: SQLite reads up to it from both ends.
    at = content.find(example(4).joints_m.tobytes()[:64]) // page * page
    content[at : at + page] = bytes(page)
    path.write_bytes(content)
    assert check_gallery(path).problems
    mended = repair(path, created=NOW)
    assert mended.kept is not None
    assert mended.kept.read_bytes() == content
    assert check_gallery(path).is_sound
    with open_gallery(path) as gallery:
        assert len(gallery.prototypes) == mended.num_examples
        assert {*shown(gallery)} < {*ids}
        assert len(gallery.prototypes) + len(mended.left_out) == len(ids)
        assert len(gallery.prototypes) >= 4


def test_names_are_gone_with_the_revisions_and_movements_are_not(path: Path) -> None:
    with open_gallery(path) as gallery:
        add(gallery, "wave")
        add(gallery, "bow", 1)
    edit(path, "UPDATE revisions SET shown = '{}' || shown")
    with pytest.raises(GalleryError, match="revision 2 is damaged") as refusal:
        open_gallery(path)
    assert "gallery repair" in refusal.value.hint
    assert repair(path, created=NOW).num_examples == 2
    with open_gallery(path) as gallery:
        assert gallery.labels() == ("recovered 1", "recovered 2")


# A file that is replaced while it is in use


def test_a_backup_that_takes_the_files_place_is_noticed_and_never_ruined(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "copy.db"
    for replaced_by in (lambda: backup.replace(path), lambda: path.write_bytes(backup.read_bytes())):
        with open_gallery(path) as gallery:
            add(gallery, "wave", mode="add")
            add(gallery, "bow", 1, mode="add")
            shutil.copy(path, backup)
            theirs = shown(gallery)
            add(gallery, "kick", 2, mode="add")
            replaced_by()
            # Before it is looked at, a change finds out.
            with pytest.raises(GalleryError, match="was replaced by another file") as refusal:
                add(gallery, "clap", 3)
            assert refusal.value.code == "gallery_replaced"
            assert (shown(gallery), gallery.num_replaced) == (theirs, 1)
            assert not gallery.refresh()
            add(gallery, "clap", 3)
        assert check_gallery(path).is_sound
        with open_gallery(path) as gallery:
            assert [*shown(gallery)][:-1] == [*theirs]
            gallery.remove("clap", created=NOW)


def test_a_backup_is_noticed_by_a_look_as_well(path: Path, tmp_path: Path) -> None:
    with open_gallery(path) as gallery:
        add(gallery, "wave")
        shutil.copy(path, tmp_path / "copy.db")
        add(gallery, "bow", 1)
        (tmp_path / "copy.db").replace(path)
        assert gallery.refresh()
        assert (gallery.labels(), gallery.revision, gallery.num_replaced) == (("wave",), 1, 1)
        assert not gallery.refresh()


def test_a_removed_or_emptied_file_is_refused_and_what_is_known_stays(path: Path, tmp_path: Path) -> None:
    with open_gallery(path) as gallery:
        wave = add(gallery, "wave")
        shutil.copy(path, tmp_path / "copy.db")
        for spoil, code in ((path.unlink, "gallery_missing"), (path.touch, "bad_gallery")):
            spoil()
            for use in (gallery.refresh, lambda: add(gallery, "bow", 1), lambda: gallery.undo(created=NOW)):
                with pytest.raises(GalleryError) as refusal:
                    use()
                assert refusal.value.code == code
                assert refusal.value.hint
            assert shown(gallery) == {wave.id: "wave"}
            assert not path.exists() or path.read_bytes() == b""
        assert gallery.export(tmp_path / "saved.npz") == 1
        (tmp_path / "copy.db").replace(path)
        assert not gallery.refresh()
        add(gallery, "bow", 1)
    assert check_gallery(path).is_sound


def test_nothing_beside_the_file_belongs_to_it_between_its_uses(path: Path) -> None:
    with open_gallery(path) as gallery:
        add(gallery, "wave")
        assert [file.name for file in path.parent.iterdir()] == [path.name]


# Backups


def test_a_backup_comes_back_as_a_revision_that_can_be_undone(path: Path, tmp_path: Path) -> None:
    with open_gallery(path) as gallery, open_gallery(path) as other:
        wave = add(gallery, "wave")
        add_negatives(gallery, 1)
        copy = back_up(path, tmp_path / "backups" / "copy.db")
        gallery.remove("wave", created=NOW)
        gallery.vacuum(0)
        add(gallery, "bow", 1)
        restored = restore(path, copy, created=NOW)
        assert (restored.num_examples, restored.left_out, restored.kept) == (2, (), None)
        assert other.refresh()
        assert (shown(other), len(other.negatives)) == ({wave.id: "wave"}, 1)
        assert other.num_replaced == 0
        other.undo(created=NOW)
        assert other.labels() == ("bow",)
    assert [file.name for file in copy.parent.iterdir()] == ["copy.db"]


def test_a_backup_mends_examples_that_were_damaged(path: Path, tmp_path: Path) -> None:
    with open_gallery(path) as gallery:
        wave = add(gallery, "wave")
        back_up(path, tmp_path / "copy.db")
        edit(path, "UPDATE examples SET joints_m = x'00'")
        with pytest.raises(GalleryError, match="no backup of it is made"):
            back_up(path, tmp_path / "copy.db")
    with open_gallery(path) as gallery:
        assert gallery.damaged
        restore(path, tmp_path / "copy.db", created=NOW)
        assert gallery.refresh()
        assert (shown(gallery), gallery.damaged) == ({wave.id: "wave"}, ())


def test_a_backup_takes_the_place_of_a_file_that_cannot_be_read(path: Path, tmp_path: Path) -> None:
    with open_gallery(path) as gallery:
        wave = add(gallery, "wave")
    back_up(path, tmp_path / "copy.db")
    path.write_bytes(b"rubbish" * 1000)
    restored = restore(path, tmp_path / "copy.db", created=NOW)
    assert restored.kept is not None
    assert restored.kept.read_bytes() == b"rubbish" * 1000
    with open_gallery(path) as gallery:
        assert shown(gallery) == {wave.id: "wave"}
    path.unlink()
    restore(path, tmp_path / "copy.db", created=NOW)
    with open_gallery(path) as gallery:
        assert shown(gallery) == {wave.id: "wave"}


def test_a_backup_of_an_older_version_is_restored_and_left_as_it_is(path: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    database = sqlite3.connect(old)
    database.executescript(SCHEMA_1)
    recorded = example(7)
    row = ("an-id", "live:then", "then", recorded.timestamps_s.tobytes(), recorded.joints_m.tobytes())
    database.execute("INSERT INTO examples VALUES (?, ?, ?, ?, ?)", row)
    database.commit()
    database.close()
    before = old.read_bytes()
    assert restore(path, old, created=NOW).num_examples == 1
    assert old.read_bytes() == before
    with open_gallery(path) as gallery:
        assert shown(gallery) == {"an-id": "wave"}


def test_what_is_no_backup_is_refused_and_nothing_is_changed(path: Path, tmp_path: Path) -> None:
    with open_gallery(path) as gallery:
        add(gallery, "wave")
    before = path.read_bytes()
    (tmp_path / "text").write_text("no gallery")
    (tmp_path / "empty").touch()
    for source in ("missing", "text", "empty", "gallery.db", "."):
        with pytest.raises(GalleryError) as refusal:
            restore(path, tmp_path / source, created=NOW)
        assert str(tmp_path / source) in refusal.value.message
    assert path.read_bytes() == before
    with pytest.raises(GalleryError, match="the gallery itself"):
        back_up(path, path)
    with pytest.raises(GalleryError, match="cannot be written"):
        back_up(path, tmp_path / "text" / "copy.db")


def test_the_last_backups_by_date_are_kept(path: Path) -> None:
    with open_gallery(path) as gallery:
        add(gallery, "wave")
    assert is_backup_due(path, time.time())
    folder = path.parent / "backups"
    folder.mkdir()
    for day in range(1, 6):
        (folder / f"gallery-2030010{day}-000000.db").touch()
    (folder / "mine.db").touch()
    made = back_up_now(path, 7)
    assert len(backups_of(path)) == 6
    made.unlink()
    made = back_up_now(path, 3)
    kept = ["gallery-20300104-000000.db", "gallery-20300105-000000.db"]
    # By the clock of this machine, the new one is the oldest of all, and stays all the same.
    assert {file.name for file in folder.iterdir()} == {"mine.db", made.name, *kept}
    assert not is_backup_due(path, time.time())
    with open_gallery(path) as gallery:
        assert not is_backup_due(path, time.time() + 2 * 86_400)
        add(gallery, "bow", 1)
    os.utime(made, (0, 0))
    for name in kept:
        (folder / name).unlink()
    assert is_backup_due(path, time.time())


# Several processes


CHILD = """
import sys
from test_gallery_store import example, open_gallery
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
gallery = open_gallery(path)
for i in range(count):
    if i % 5 == 4:
        gallery.close()
        gallery = open_gallery(path)
    prototype = gallery.add(f"{name} {i}", example(i, 200), origin="live:child", created="now")
    print(prototype.id, flush=True)
gallery.close()
"""


def start_child(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), name, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])},
    )
    assert child.stdout
    assert child.stdout.readline() == "ready\n"
    return child


def go(child: subprocess.Popen[str]) -> None:
    assert child.stdin
    child.stdin.write("\n")
    child.stdin.flush()


def is_sound(path: Path) -> bool:
    database = sqlite3.connect(path)
    integrity = database.execute("PRAGMA integrity_check").fetchall()
    database.close()
    return integrity == [("ok",)]


def test_every_acknowledged_prototype_survives_kill_9(path: Path) -> None:
    acknowledged: list[str] = []
    rng = random.Random(0)
    for round_ in range(3):
        with start_child(path, f"round {round_}", 10**6) as child:
            assert child.stdout
            go(child)
            acknowledged += [child.stdout.readline().strip() for _ in range(rng.randrange(5, 25))]
            child.send_signal(signal.SIGKILL)
            acknowledged += child.stdout.read().split()
        assert child.returncode == -signal.SIGKILL
        with open_gallery(path) as gallery:
            # One more may have been stored and killed before it was acknowledged.
            assert set(acknowledged) <= shown(gallery).keys()
            assert len(gallery.prototypes) <= len(acknowledged) + round_ + 1
            assert gallery.revision == len(gallery.prototypes)
        assert is_sound(path)


def test_processes_that_add_at_once_lose_nothing(path: Path) -> None:
    children = [start_child(path, f"child {i}", 20) for i in range(2)]
    for child in children:
        go(child)  # both find no file, and make it
    acknowledged = [line for child in children for line in child.communicate(timeout=60)[0].split()]
    assert [child.returncode for child in children] == [0, 0]
    assert len(acknowledged) == 40
    with open_gallery(path) as gallery:
        assert shown(gallery).keys() == set(acknowledged)
        assert gallery.revision == 40
    assert is_sound(path)


def test_refresh_takes_over_what_another_process_committed(path: Path) -> None:
    with open_gallery(path) as gallery:
        mine = add(gallery, "mine")
        assert not gallery.refresh()
        with start_child(path, "child", 3) as child:
            go(child)
            theirs = child.communicate(timeout=60)[0].split()
        snapshot = gallery.prototypes
        assert gallery.revision == 1
        assert gallery.refresh()
        assert gallery.revision == 4
        assert list(shown(gallery)) == [mine.id, *theirs]
        assert [prototype.id for prototype in snapshot] == [mine.id]
        assert not gallery.refresh()


def test_a_change_builds_on_what_others_committed_meanwhile(path: Path) -> None:
    with open_gallery(path) as one, open_gallery(path) as two:
        add(one, "wave")
        with pytest.raises(GalleryError) as refusal:
            add(two, "wave")
        assert refusal.value.code == "label_exists"
        with pytest.raises(GalleryError, match="at revision 1") as refusal:
            add(two, "clap", expected_revision=two.revision)
        assert refusal.value.code == "revision_conflict"
        add(two, "clap")
        assert two.labels() == ("wave", "clap")
        assert two.revision == 2


def test_a_writer_that_cannot_get_the_lock_says_busy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.gallery.schema.BUSY_TIMEOUT_S", 0.2)
    with open_gallery(path) as gallery:
        add(gallery, "wave")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(GalleryError, match="locked") as refusal:
            add(gallery, "clap")
        assert refusal.value.code == "busy"
        other.execute("ROLLBACK")
        other.close()
        add(gallery, "clap")
        assert gallery.revision == 2


def test_a_writer_waits_for_another_that_is_soon_done(path: Path) -> None:
    with open_gallery(path) as gallery:
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.execute, ["ROLLBACK"])
        release.start()
        add(gallery, "wave")
        release.join()
        other.close()
        assert gallery.revision == 1


def test_an_export_replaces_nothing_but_an_export(path: Path, tmp_path: Path) -> None:
    notes, empty, export = tmp_path / "notes.txt", tmp_path / "empty.npz", tmp_path / "export.npz"
    notes.write_text("mine")
    empty.touch()
    with open_gallery(path) as gallery:
        add(gallery, "wave")
        other = back_up(path, tmp_path / "copy.db")
        np.savez(tmp_path / "other.npz", joints=np.zeros(3))
        for target in (notes, other, tmp_path / "other.npz"):
            before = target.read_bytes()
            with pytest.raises(GalleryError, match="is no export of a gallery") as refused:
                gallery.export(target)
            assert refused.value.code == "export_failed"
            assert target.read_bytes() == before
        for target in (empty, export, export):
            assert gallery.export(target) == 1


def test_what_blocks_or_unpacks_to_too_much_is_not_imported(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with open_gallery(path) as gallery:
        add(gallery, "wave")
        for source in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
            with pytest.raises(GalleryError, match="it is no file"):
                gallery.import_(source, created=NOW)
        gallery.export(tmp_path / "export.npz")
        monkeypatch.setattr("edge.gallery.export._MAX_BYTES", 1000)
        with pytest.raises(GalleryError, match="unpacks to") as refused:
            gallery.import_(tmp_path / "export.npz", created=NOW)
        assert refused.value.code == "bad_import"


def test_what_is_no_file_is_not_replaced_by_an_export(tmp_path: Path) -> None:
    with Gallery(":memory:", embed=model(1), model_sha256="1") as gallery:
        for target in (Path("/dev/null"), tmp_path, Path("/")):
            with pytest.raises(GalleryError, match="is no file") as refused:
                gallery.export(target)
            assert refused.value.code == "export_failed"
    assert Path("/dev/null").is_char_device()
