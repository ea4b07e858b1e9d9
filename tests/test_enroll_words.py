"""Words at enrollment: beside an example, in place of one, turned off, missing, damaged; in a library and a daemon."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from edge.cli.app import app
from edge.cli.doctor import examine
from edge.config import Config, GalleryFile, Model, WordsUse
from edge.daemon import carry_out
from edge.library import Library, open_library
from edge.match import PrototypeIndex
from edge.model import embed_movements
from edge.protocol import (
    EnrollClip,
    EnrollWords,
    GalleryExport,
    GalleryGet,
    GalleryImport,
    GalleryList,
    GalleryRemove,
    GalleryRename,
    GalleryUndo,
    LabelDetails,
    StoredExample,
    StoredWords,
)
from streams.errors import BundleError, ControlError, EnrollError, GalleryError, TextToolError
from streams.performer import perform

if TYPE_CHECKING:
    from tests.conftest import MakeConfig, Serve

SHIPPED = Path(__file__).parents[1] / "edge" / "bundles" / "default"
Open = Callable[..., Library]


@pytest.fixture
def open_it(tmp_path: Path, text_encoder: Path) -> Iterator[Open]:
    """Return a function that opens one gallery with the shipped bundle, with words or without."""
    opened: list[Library] = []

    def open_(*, folder: Path = text_encoder, enabled: bool = True, bundle: str = "") -> Library:
        config = Config(
            model=Model(bundle=bundle, engine="onnxruntime"),
            gallery=GalleryFile(path=str(tmp_path / "gallery.db")),
            words=WordsUse(enabled=enabled, text_encoder=str(folder)),
        )
        opened.append(open_library(config))
        return opened[-1]

    yield open_
    for library in opened:
        library.gallery.close()


def clip(label: str, action: str = "wave", seed: int = 1, **more: Any) -> EnrollClip:
    shown = perform(action, seed=seed)
    return EnrollClip(
        label=label,
        timestamps_s=shown.timestamps_s.astype("<f8").tobytes(),
        joints_m=shown.joints_m.astype("<f4").tobytes(),
        origin="file:test",
        **more,
    )


def by_words(library: Library) -> dict[str, str]:
    listed = carry_out(library, GalleryList()).labels
    return {label.label: label.by_words.description for label in listed if label.by_words is not None}


# Beside an example


def test_the_words_of_a_label_count_beside_its_example_and_what_is_stored_is_the_example_alone(open_it: Open) -> None:
    library = open_it()
    stored = carry_out(library, clip("wave"))
    assert stored.words == "mixed"
    (wave,) = library.gallery.prototypes
    assert wave.mixed is not None
    assert not np.array_equal(wave.mixed, wave.embedding)
    (example,) = carry_out(library, GalleryGet(label="wave")).examples  # type: ignore[union-attr]
    assert example.words == "mixed"
    without = open_it(enabled=False)
    (same,) = without.gallery.prototypes
    np.testing.assert_array_equal(same.embedding, wave.embedding)
    assert same.mixed is None
    assert without.words_error is not None
    assert without.words_error.code == "words_off"
    (again,) = open_it().gallery.prototypes
    assert again.mixed is not None
    np.testing.assert_array_equal(again.mixed, wave.mixed)


def test_words_that_do_not_agree_with_the_example_do_not_count(open_it: Open) -> None:
    library = open_it()
    stored = carry_out(library, clip("sit down", "wave"))
    assert stored.words == "unlike"
    assert library.gallery.prototypes[0].mixed is None


def test_an_example_enrolled_without_words_stays_without(open_it: Open) -> None:
    assert carry_out(open_it(), clip("wave", words=False)).words == "off"
    library = open_it()
    (prototype,) = library.gallery.prototypes
    assert (prototype.words, prototype.mixed) == (None, None)


def test_renaming_a_label_changes_what_its_words_say_and_undo_brings_that_back(open_it: Open) -> None:
    library = open_it()
    carry_out(library, clip("wave"))
    before = library.gallery.prototypes[0].mixed
    assert before is not None
    carry_out(library, GalleryRename(old="wave", new="sit down"))
    assert library.gallery.prototypes[0].mixed is None
    carry_out(library, GalleryUndo())
    after = library.gallery.prototypes[0].mixed
    assert after is not None
    np.testing.assert_array_equal(after, before)


def test_a_description_counts_beside_the_label(open_it: Open) -> None:
    library = open_it()
    carry_out(library, clip("gesture 3", description="one hand is raised and waves from side to side"))
    (prototype,) = library.gallery.prototypes
    assert prototype.words == "one hand is raised and waves from side to side"
    assert prototype.mixed is not None


def test_words_choose_between_labels_and_leave_the_distances_as_they_are(open_it: Open) -> None:
    library = open_it()
    for label in ("wave", "kick", "clap"):
        carry_out(library, clip(label, force=True))
    info, prototypes = library.encoder.info, library.gallery.prototypes
    index, plain = PrototypeIndex(prototypes, info), PrototypeIndex([replace(p, mixed=None) for p in prototypes], info)
    windows_WE = embed_movements(library.encoder, [perform("wave", seed=5), perform("wave", seed=6)])
    comparable_WP = np.ones((2, len(prototypes)), np.bool_)
    distances_K, windows_K = index.distances(windows_WE, comparable_WP)
    np.testing.assert_array_equal(distances_K, plain.distances(windows_WE, comparable_WP)[0])
    assert not plain.said(windows_WE, windows_K).any()
    said_K = index.said(windows_WE, windows_K)
    assert said_K.any()
    # As if windows were compared with the mix.
    ordered = sorted(prototypes, key=lambda p: p.label)
    mixed = PrototypeIndex([p if p.mixed is None else replace(p, embedding=p.mixed, mixed=None) for p in ordered], info)
    mixed_K, nearest_K = mixed.distances(windows_WE, comparable_WP)
    np.testing.assert_array_equal(nearest_K, windows_K)
    np.testing.assert_allclose(distances_K - said_K, mixed_K, atol=1e-5)


# By words alone


def test_a_label_by_words_alone_is_marked_and_its_first_example_takes_its_place(open_it: Open) -> None:
    library = open_it()
    stored = carry_out(library, EnrollWords(label="raise both arms", description="the arms go up"))
    assert stored.by_words.in_use
    assert 0.5 < stored.by_words.duration_s < 10
    assert by_words(library) == {"raise both arms": "the arms go up"}
    shown = carry_out(library, GalleryGet(label="Raise both arms"))
    assert isinstance(shown, LabelDetails)
    assert (shown.examples, shown.apart) == ((), None)
    assert carry_out(library, clip("Raise both arms", "raise_arms")).words == "mixed"
    assert by_words(library) == {}
    assert library.gallery.labels() == ("Raise both arms",)
    carry_out(library, GalleryUndo())
    assert by_words(library) == {"raise both arms": "the arms go up"}
    assert by_words(open_it()) == {"raise both arms": "the arms go up"}


def test_words_alone_are_nearest_to_the_movement_that_they_name(open_it: Open) -> None:
    library = open_it()
    for label in ("clap", "kick", "wave"):
        carry_out(library, EnrollWords(label=label))
    for action in ("clap", "kick", "wave"):
        carry_out(library, clip(f"shown {action}", action, force=True))
    nearest = {
        words.label: carry_out(library, GalleryGet(label=words.label)).nearest[0].label  # type: ignore[union-attr]
        for words in library.gallery.described
    }
    assert nearest == {"clap": "shown clap", "kick": "shown kick", "wave": "shown wave"}


def test_words_alone_survive_export_and_import_and_give_way_to_examples(open_it: Open, tmp_path: Path) -> None:
    library = open_it()
    carry_out(library, EnrollWords(label="kick", description="a leg swings"))
    carry_out(library, EnrollWords(label="clap"))
    carry_out(library, clip("wave", words=False))
    path = str(tmp_path / "words.npz")
    carry_out(library, GalleryExport(path=path))
    for label in ("kick", "clap", "wave"):
        carry_out(library, GalleryRemove(label=label))
    carry_out(library, clip("clap", "clap"))
    assert carry_out(library, GalleryImport(path=path)).labels == ("wave", "kick")
    assert by_words(library) == {"kick": "a leg swings"}
    assert [prototype.words for prototype in library.gallery.prototypes if prototype.label == "wave"] == [None]
    shown = str(tmp_path / "shown.npz")
    carry_out(library, clip("Kick", "kick"))
    carry_out(library, GalleryExport(path=shown))
    carry_out(library, GalleryRemove(label="Kick"))
    carry_out(library, EnrollWords(label="kick"))
    carry_out(library, GalleryImport(path=shown, mode="replace"))
    assert by_words(library) == {}


@pytest.mark.parametrize("label", ["gesture 3", "42", "???", "手を振る", "winken"])
def test_words_that_say_nothing_are_refused_unless_forced_or_described(open_it: Open, label: str) -> None:
    library = open_it()
    with pytest.raises(EnrollError, match="say nothing about a movement") as refusal:
        carry_out(library, EnrollWords(label=label))
    assert refusal.value.code == "says_nothing"
    assert "--describe" in refusal.value.hint
    assert library.gallery.revision == 0
    carry_out(library, EnrollWords(label=label, description="the left leg swings forward"))
    carry_out(library, EnrollWords(label=label, force=True, mode="replace"))
    assert by_words(library) == {label: ""}


@pytest.mark.parametrize("label", ["a" * 500, "", "  ", "a\0b"])
def test_a_label_that_cannot_be_shown_is_refused_by_words_too(open_it: Open, label: str) -> None:
    library = open_it()
    with pytest.raises(GalleryError) as refusal:
        carry_out(library, EnrollWords(label=label))
    assert refusal.value.code == "bad_label"
    with pytest.raises(ControlError, match="length <= 500") as too_long:
        carry_out(library, EnrollWords(label="kick", description="a" * 501))
    assert too_long.value.code == "bad_args"
    assert library.gallery.revision == 0


def test_words_take_no_examples_place(open_it: Open) -> None:
    library = open_it()
    carry_out(library, clip("wave"))
    for mode in ("new", "replace"):
        with pytest.raises(GalleryError, match="has 'wave' already") as refusal:
            carry_out(library, EnrollWords(label="Wave", mode=mode))
        assert refusal.value.code == "label_exists"
    carry_out(library, EnrollWords(label="kick"))
    with pytest.raises(GalleryError, match="has 'kick' already"):
        carry_out(library, EnrollWords(label="KICK"))
    carry_out(library, EnrollWords(label="KICK", description="high", mode="replace"))
    assert by_words(library) == {"KICK": "high"}
    carry_out(library, GalleryRename(old="KICK", new="punch"))
    (words,) = library.gallery.described
    carry_out(library, GalleryRemove(id=words.id[:8]))
    assert library.gallery.labels() == ("wave",)
    assert library.gallery.vacuum(0) == 2


# What is missing or broken


def test_without_a_text_encoder_examples_serve_and_words_are_kept_but_not_used(open_it: Open, tmp_path: Path) -> None:
    carry_out(open_it(), EnrollWords(label="kick"))
    library = open_it(folder=tmp_path / "none")
    assert library.words_error is not None
    assert library.words_error.code == "no_text_encoder"
    assert carry_out(library, clip("wave")).words == "off"
    (listed,) = [label for label in carry_out(library, GalleryList()).labels if label.by_words is not None]
    assert listed.by_words is not None
    assert not listed.by_words.in_use
    assert carry_out(library, GalleryGet(label="kick")).nearest == ()  # type: ignore[union-attr]
    with pytest.raises(TextToolError, match="no text encoder is set up"):
        carry_out(library, EnrollWords(label="punch"))
    whole = open_it()
    assert len(whole.gallery.described[0].embedding)
    assert whole.gallery.prototypes[0].mixed is not None


def test_a_broken_text_encoder_and_broken_words_leave_examples_as_they_are(
    open_it: Open, text_encoder: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(text_encoder, broken)
    (broken / "encoder.onnx").write_bytes(b"broken")
    bundle = tmp_path / "bundle"
    shutil.copytree(SHIPPED, bundle)
    (bundle / "words.npz").write_bytes(b"broken")
    for library, kind in ((open_it(folder=broken), TextToolError), (open_it(bundle=str(bundle)), BundleError)):
        carry_out(library, clip("wave", mode="add"))
        with pytest.raises(kind):
            carry_out(library, EnrollWords(label="kick"))
    config = tmp_path / "config.toml"
    config.write_text(f'[words]\ntext_encoder = "{broken}"\n[gallery]\npath = "{tmp_path / "gallery.db"}"\n')
    (found,) = [finding for finding in examine(config) if finding.what == "words of labels"]
    assert (found.state, "setup words" in found.remedy) == ("broken", True)


# A daemon and the command line


def run(*args: str, config: Path) -> Result:
    return CliRunner().invoke(app, [*args, "--config", str(config)])


def test_a_daemon_enrolls_by_words_and_tells_of_them(
    serve: Serve, make_config: MakeConfig, text_encoder: Path, tmp_path: Path
) -> None:
    daemon = serve("demo:7", config=make_config(bundle=SHIPPED, engine="onnxruntime", text_encoder=text_encoder))
    assert daemon.ask("status")["model"]["words"] == "in use"
    done = run("enroll", "raise both arms", "--from-words", config=daemon.config)
    assert done.exit_code == 0, done.output
    assert "by words alone" in done.output
    assert "rough" in done.output
    for command in ("list", "show"):
        assert "known by words alone" in run("gallery", command, config=daemon.config).output
    assert "known by words alone" in run("gallery", "show", "raise both arms", config=daemon.config).output
    stored = daemon.ask("enroll.words", label="kick", mode="new")
    assert msgspec.to_builtins(msgspec.convert(stored, StoredWords)) == stored
    daemon.ask("gallery.undo")
    deadline = time.monotonic() + 20
    while not daemon.ask("status")["windows"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    clipped = msgspec.to_builtins(clip("Raise both arms", "raise_arms"), builtin_types=(bytes,))
    assert msgspec.convert(daemon.ask("enroll.clip", **clipped), StoredExample).words == "mixed"
    listed = json.loads(run("gallery", "list", "--json", config=daemon.config).output)
    assert [(label["label"], label["by_words"]) for label in listed["labels"]] == [("Raise both arms", None)]
    assert daemon.stop() == 0


def test_a_daemon_without_words_refuses_words_and_serves_on(
    serve: Serve, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(bundle=SHIPPED, engine="onnxruntime", text_encoder=tmp_path / "none")
    daemon = serve("demo:7", config=config)
    assert "no text encoder is set up" in daemon.ask("status")["model"]["words"]
    with pytest.raises(ControlError, match="no text encoder is set up") as refusal:
        daemon.ask("enroll.words", label="kick")
    assert refusal.value.code == "no_text_encoder"
    assert daemon.ask("gallery.list")["labels"] == []


@pytest.mark.parametrize(
    "args",
    [
        ("--from-words", "--from", "clip.mcap"),
        ("--from-words", "--add"),
        ("--from-words", "--examples", "2"),
        ("--from-words", "--no-words"),
        ("--describe", "a leg swings", "--no-words"),
    ],
)
def test_options_that_contradict_each_other_are_refused(make_config: MakeConfig, args: tuple[str, ...]) -> None:
    done = run("enroll", "kick", *args, config=make_config())
    assert done.exit_code == 2
    assert "Usage" in done.output
