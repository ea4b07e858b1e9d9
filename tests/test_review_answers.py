"""Answers to clips: what they make of the gallery, that they can be undone, and that they change what is recognized.

Shapes: L frames, V = 25 kinect25 joints, W windows, P prototypes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edge.cli.app import app
from edge.cli.terminal import out
from edge.config import Config, GalleryFile, Model, Review
from edge.daemon import carry_out
from edge.gallery import Gallery
from edge.library import Library, open_library
from edge.match import PrototypeIndex
from edge.model import embed_movements
from edge.protocol import (
    GalleryExport,
    GalleryGet,
    GalleryImport,
    GalleryRename,
    GalleryUndo,
    LabelDetails,
    Request,
    ReviewAnswer,
    ReviewClear,
    ReviewClip,
    ReviewList,
    ReviewUndo,
    Why,
)
from edge.review import Moment, keep_moment, ring_path
from streams.errors import CrossGLGError, ReviewError
from streams.movement import Movement
from streams.performer import perform

NOW = "2030-01-02T03:04:05Z"


@pytest.fixture
def library(tiny_bundle: Path, tmp_path: Path) -> Iterator[Library]:
    config = Config(model=Model(bundle=str(tiny_bundle)), gallery=GalleryFile(path=str(tmp_path / "gallery.db")))
    opened = open_library(config)
    for label in ("wave", "bow"):
        opened.gallery.add(label, perform(label, seed=0), origin="live:cam", created=NOW)
    with opened.gallery:
        yield opened


def keep(library: Library, label: str, action: str, *, seed: int = 5, why: Why = "told") -> ReviewClip:
    moment = Moment(
        label=label,
        source="cam",
        body=0,
        movement=perform(action, seed=seed),
        time_s=9.0,
        score=0.6,
        distance=0.7,
        threshold_distance=0.8,
        why=why,
        nearer="",
    )
    return keep_moment(ring_path(library.gallery.path), moment, Review(), NOW)


def labels_of(gallery: Gallery) -> list[tuple[str, str]]:
    return [(prototype.label, prototype.origin) for prototype in gallery.prototypes]


def refusal(library: Library, request: Request[Any]) -> CrossGLGError:
    revision = library.gallery.revision
    with pytest.raises(CrossGLGError) as refused:
        carry_out(library, request)
    assert library.gallery.revision == revision, "nothing has changed"
    return refused.value


def test_what_was_right_becomes_an_example_that_says_where_it_is_from(library: Library) -> None:
    clip = keep(library, "wave", "wave")
    answered = carry_out(library, ReviewAnswer(id=clip.id[:5], answer="right"))
    assert (answered.id, answered.answer) == (clip.id, "is wave")
    assert labels_of(library.gallery)[2:] == [("wave", f"review:{clip.id}")]
    details = carry_out(library, GalleryGet(label="wave"))
    assert isinstance(details, LabelDetails)
    assert [example.origin for example in details.examples] == ["live:cam", f"review:{clip.id}"]
    (listed,) = carry_out(library, ReviewList()).clips
    assert listed.answer == "is wave"


def test_what_is_another_action_becomes_an_example_of_that(library: Library) -> None:
    clip = keep(library, "wave", "bow")
    assert carry_out(library, ReviewAnswer(id=clip.id, answer="is", label=" BOW ")).answer == "is bow"
    assert labels_of(library.gallery)[2:] == [("bow", f"review:{clip.id}")]


@pytest.mark.parametrize("why", ["told", "threshold"])
def test_what_was_wrong_becomes_a_counter_example_and_is_not_recognized_again(library: Library, why: Why) -> None:
    clip = keep(library, "wave", "raise_arms", why=why)
    again = perform("raise_arms", seed=6)
    before, _ = distances(library, again)
    answered = carry_out(library, ReviewAnswer(id=clip.id, answer="wrong"))
    assert answered.answer == "is not wave"
    (counter,) = library.gallery.counters
    assert (counter.id, counter.label, counter.origin) == (answered.example, "wave", f"review:{clip.id}")
    assert labels_of(library.gallery) == [("wave", "live:cam"), ("bow", "live:cam")]
    after, labels = distances(library, again)
    assert np.isfinite(before).all()
    assert dict(zip(labels, np.isfinite(after).tolist(), strict=True)) == {"bow": True, "wave": False}
    waved, _ = distances(library, perform("wave", seed=1))
    assert np.isfinite(waved).all(), "a wave is nearer to the wave than to what was none"
    details = carry_out(library, GalleryGet(label="wave"))
    assert isinstance(details, LabelDetails)
    assert [counter.origin for counter in details.counters] == [f"review:{clip.id}"]


def distances(library: Library, movement: Movement) -> tuple[np.ndarray, list[str]]:
    gallery, info = library.gallery, library.encoder.info
    index = PrototypeIndex(gallery.prototypes, info, counters=gallery.counters)
    embeddings_WE = embed_movements(library.encoder, [movement])
    return index.distances(embeddings_WE, np.ones((1, len(index)), np.bool_))[0], index.labels


def test_a_clip_is_answered_once(library: Library) -> None:
    clip = keep(library, "wave", "wave")
    carry_out(library, ReviewAnswer(id=clip.id, answer="right"))
    for request in (
        ReviewAnswer(id=clip.id, answer="right"),
        ReviewAnswer(id=clip.id, answer="wrong"),
        ReviewAnswer(id=clip.id, answer="is", label="bow"),
    ):
        error = refusal(library, request)
        assert (error.code, "is wave" in error.message) == ("already_answered", True)
        assert f"review undo {clip.id}" in error.hint


def test_an_answer_is_undone_once_and_may_be_given_again(library: Library) -> None:
    clip = keep(library, "wave", "raise_arms")
    carry_out(library, ReviewAnswer(id=clip.id, answer="wrong"))
    undone = carry_out(library, ReviewUndo(id=clip.id))
    assert (undone.id, undone.answer) == (clip.id, "is not wave")
    assert not library.gallery.counters
    assert refusal(library, ReviewUndo(id=clip.id)).code == "not_answered"
    assert refusal(library, ReviewUndo()).code == "not_answered"
    carry_out(library, ReviewAnswer(id=clip.id, answer="right"))
    assert len(library.gallery.prototypes) == 3


def test_the_last_answer_is_undone_first(library: Library) -> None:
    clips = [keep(library, "wave", "wave", seed=seed) for seed in (5, 6, 7)]
    for clip, answer in zip(clips, ("right", "wrong", "right"), strict=True):
        carry_out(library, ReviewAnswer(id=clip.id, answer=answer))  # type: ignore[arg-type]
    assert [carry_out(library, ReviewUndo()).id for _ in clips] == [clip.id for clip in reversed(clips)]
    assert refusal(library, ReviewUndo()).code == "not_answered"


def test_undo_of_the_gallery_takes_an_answer_back_too(library: Library) -> None:
    clip = keep(library, "wave", "wave")
    carry_out(library, ReviewAnswer(id=clip.id, answer="right"))
    carry_out(library, GalleryUndo())
    assert carry_out(library, ReviewList()).clips[0].answer == ""
    carry_out(library, ReviewAnswer(id=clip.id, answer="wrong"))


def test_an_answer_outlives_its_clip_and_can_be_undone_without_it(library: Library) -> None:
    clip = keep(library, "wave", "raise_arms")
    carry_out(library, ReviewAnswer(id=clip.id, answer="wrong"))
    assert carry_out(library, ReviewClear()).deleted == 1
    assert refusal(library, ReviewAnswer(id=clip.id, answer="right")).code == "unknown_id"
    assert len(library.gallery.counters) == 1
    carry_out(library, ReviewUndo(id=clip.id))
    assert not library.gallery.counters


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (ReviewAnswer(id="nothing", answer="right"), "unknown_id"),
        (ReviewAnswer(id="", answer="right"), "unknown_id"),
        (ReviewAnswer(id="CLIP", answer="is"), "bad_args"),
        (ReviewAnswer(id="CLIP", answer="right", label="bow"), "bad_args"),
        (ReviewAnswer(id="CLIP", answer="is", label="jump"), "unknown_label"),
        (ReviewAnswer(id="CLIP", answer="is", label=""), "unknown_label"),
        (ReviewUndo(id=""), "not_answered"),
    ],
)
def test_an_answer_that_cannot_be_changes_nothing(library: Library, request_: Request[Any], code: str) -> None:
    clip = keep(library, "wave", "wave")
    if isinstance(request_, ReviewAnswer) and request_.id == "CLIP":
        request_ = ReviewAnswer(id=clip.id, answer=request_.answer, label=request_.label)
    assert refusal(library, request_).code == code


def test_a_label_that_was_renamed_or_removed_meanwhile_is_named(library: Library) -> None:
    clip = keep(library, "wave", "wave")
    carry_out(library, GalleryRename(old="wave", new="greet"))
    error = refusal(library, ReviewAnswer(id=clip.id, answer="right"))
    assert error.code == "unknown_label"
    assert "'greet'" in error.message
    assert carry_out(library, ReviewAnswer(id=clip.id, answer="is", label="greet")).answer == "is greet"


def test_clips_are_listed_newest_first_and_by_label(library: Library) -> None:
    first, second = keep(library, "wave", "wave"), keep(library, "bow", "bow", why="few")
    listed = carry_out(library, ReviewList())
    assert ([clip.id for clip in listed.clips], listed.total) == ([second.id, first.id], 2)
    assert [clip.why for clip in carry_out(library, ReviewList(label="BOW")).clips] == ["few"]
    assert len(carry_out(library, ReviewList(limit=1)).clips) == 1
    assert not carry_out(library, ReviewList(label="jump")).clips


def test_a_damaged_ring_says_so_and_answers_stay(library: Library) -> None:
    clip = keep(library, "wave", "wave")
    carry_out(library, ReviewAnswer(id=clip.id, answer="right"))
    ring_path(library.gallery.path).write_bytes(b"no database")
    requests: tuple[Request[Any], ...] = (ReviewList(), ReviewAnswer(id=clip.id, answer="wrong"))
    for request in requests:
        with pytest.raises(ReviewError) as refused:
            carry_out(library, request)
        assert refused.value.code == "bad_review"
    carry_out(library, ReviewUndo(id=clip.id))


# Counter-examples in the gallery


def test_counter_examples_follow_their_label_and_go_with_it(library: Library) -> None:
    gallery = library.gallery
    gallery.add_counter("WAVE", perform("kick", seed=1), origin="test", created=NOW)
    gallery.rename("wave", "greet", created=NOW)
    assert [counter.label for counter in gallery.counters] == ["greet"]
    assert gallery.remove("greet", created=NOW) == 1
    assert (gallery.labels(), gallery.counters) == (("bow",), ())
    gallery.undo(created=NOW)
    assert [counter.label for counter in gallery.counters] == ["greet"]
    with Gallery(gallery.path, embed=lambda m: embed_movements(library.encoder, m), model_sha256="f" * 64) as other:
        assert [counter.label for counter in other.counters] == ["greet"]
        assert other.num_reembedded == 3
        other.add("greet", perform("wave", seed=3), origin="test", created=NOW, mode="replace")
        assert other.counters == (), "what it was not is not what the new one is not"
    assert gallery.refresh()
    assert not gallery.counters


def test_a_counter_example_of_nothing_is_refused(library: Library) -> None:
    with pytest.raises(CrossGLGError) as refused:
        library.gallery.add_counter("not\twave", perform("kick", seed=1), origin="test", created=NOW)
    assert refused.value.code == "bad_label"
    with pytest.raises(CrossGLGError) as refused:
        library.gallery.add_counter("jump", perform("kick", seed=1), origin="test", created=NOW)
    assert refused.value.code == "unknown_label"


def test_counter_examples_are_exported_and_imported(library: Library, tmp_path: Path) -> None:
    gallery = library.gallery
    stored = gallery.add_counter("wave", perform("kick", seed=1), origin="test", created=NOW)
    carry_out(library, GalleryExport(path=str(tmp_path / "all.npz")))
    carry_out(library, GalleryExport(path=str(tmp_path / "bow.npz"), labels=["bow"]))
    for label in ("wave", "bow"):
        gallery.remove(label, created=NOW)
    carry_out(library, GalleryImport(path=str(tmp_path / "bow.npz")))
    assert not gallery.counters
    carry_out(library, GalleryImport(path=str(tmp_path / "all.npz"), mode="replace"))
    counter = gallery.counters[-1]
    assert (len(gallery.counters), counter.label, counter.origin) == (1, "wave", "test")
    assert counter.movement.joints_m.tobytes() == stored.movement.joints_m.tobytes()


def test_one_counter_example_is_removed_by_its_id(library: Library) -> None:
    gallery = library.gallery
    stored = gallery.add_counter("wave", perform("kick", seed=1), origin="test", created=NOW)
    gallery.remove_example(stored.id[:8], created=NOW)
    assert not gallery.counters
    assert gallery.history()[0].description.endswith(f"remove 'wave' counter-example {stored.id[:8]}")
    gallery.undo(created=NOW)
    gallery.vacuum(0)
    assert len(gallery.counters) == 1


# The command line


def call(library: Library, *args: str) -> str:
    """Return what a command says, on the gallery's file as there is no daemon."""
    folder = library.gallery.path.parent
    config = folder / "config.toml"
    sockets = [f'{name} = "ipc://{folder / name}"' for name in ("frames", "events", "control")]
    model, path = library.config.model.bundle, library.gallery.path
    lines = ["[sockets]", *sockets, "[model]", f'bundle = "{model}"', "[gallery]", f'path = "{path}"']
    config.write_text("\n".join(lines), encoding="utf-8")
    # A console keeps the width that it was made with.
    out.cache_clear()
    answer = CliRunner().invoke(app, [*args, "--config", str(config)], catch_exceptions=False, env={"COLUMNS": "200"})
    out.cache_clear()
    assert answer.exit_code == 0, answer.output
    library.gallery.refresh()
    return answer.stdout


def test_a_person_lists_answers_and_undoes(library: Library) -> None:
    told, near = keep(library, "wave", "wave"), keep(library, "bow", "raise_arms", why="threshold")
    for said in (call(library, "review"), call(library, "review", "list")):
        lines = said.splitlines()
        assert [line for line in lines if told.id in line and "told" in line]
        assert [line for line in lines if near.id in line and "too far by -0.10" in line]
        assert said.index(near.id) < said.index(told.id)
    assert told.id not in call(library, "review", "--label", "bow")
    assert "1 of 2 clips" in call(library, "review", "list", "--limit", "1")
    assert f"clip {told.id} is wave" in call(library, "review", "right", told.id[:4])
    assert f"clip {near.id} is not bow" in call(library, "review", "wrong", near.id)
    assert "is not bow" in call(library, "review", "list")
    assert told.id not in call(library, "review", "list", "--useful")
    assert "taken for bow, and not it" in call(library, "gallery", "show", "bow")
    assert f"review:{told.id}" in call(library, "gallery", "show", "wave")
    assert f"clip {near.id} is not bow" in call(library, "review", "undo")
    assert f"clip {told.id} is wave" in call(library, "review", "undo", told.id)
    assert f"clip {near.id} is wave" in call(library, "review", "is", "wave", near.id)
    assert "2 clips deleted" in call(library, "review", "clear")
    assert json.loads(call(library, "review", "--json")) == {"clips": [], "total": 0}
