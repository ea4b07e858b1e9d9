"""Words offline: fitted by `export --to words`, measured by `evaluate ... --words`."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("torch", reason="export needs the extra `train`")

from edge.model import read_bundle, words_file
from edge.words import read_word_map
from export.cli import export
from export.words import MIN_ACTIONS
from streams.errors import BundleError, ConfigError, TextToolError
from streams.layouts import KINECT25_JOINTS
from streams.performer import ACTIONS, perform
from training.cli.evaluate import evaluate
from training.evaluate.words import _permutations

EXPORT = typer.Typer()
EXPORT.command()(export)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text_encoder: Path) -> Path:
    """Set the text encoder up for a user of its own; return where it is."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "data" / "crossglg-edge" / "text-encoder"
    shutil.copytree(text_encoder, folder)
    return folder


def archive(path: Path, class_names: list[str], num_people: int = 2) -> Path:
    """Write one clip of each class by each person; a class moves as one of the performer's actions does."""
    clips = [
        (number, person, perform(ACTIONS[number % len(ACTIONS)], seed=10 * number + person))
        for number in range(len(class_names))
        for person in range(num_people)
    ]
    np.savez(
        path,
        frames=np.concatenate([movement.joints_m for *_, movement in clips]),
        offsets=np.cumsum([0, *(len(movement) for *_, movement in clips)]),
        label=np.array([number for number, *_ in clips], np.int16),
        subject=np.array([person for _, person, _ in clips], np.int16),
        class_names=np.array(class_names),
        joint_names=np.array(KINECT25_JOINTS),
        fps=30.0,
    )
    return path


def trained_actions() -> list[str]:
    actions = read_bundle()[0].training["actions"]
    assert isinstance(actions, list)
    return [str(action) for action in actions]


def test_export_gives_a_bundle_words_and_leaves_the_model_as_it_is(tmp_path: Path, user: Path) -> None:
    clips = archive(tmp_path / "clips.npz", [*trained_actions()[:MIN_ACTIONS], "another action"])
    out = tmp_path / "bundle"
    command = ["--to", "words", "--calibrate", str(clips), "--out", str(out)]
    digests = set()
    for _ in range(2):
        done = CliRunner().invoke(EXPORT, command)
        assert done.exit_code == 0, done.output
        digests.add(hashlib.sha256((out / "words.npz").read_bytes()).hexdigest())
    before, (info, onnx) = read_bundle()[0], read_bundle(out)
    assert digests == {info.words_sha256}
    assert (info.onnx_sha256, info.score_curve) == (before.onnx_sha256, before.score_curve)
    assert (out / "statistics.npz").is_file()
    path = words_file(info, onnx.parent)
    assert path is not None
    words = read_word_map(path, encoder_sha256=info.onnx_sha256, num_learned=info.num_learned)
    assert words.header.actions == tuple(sorted(trained_actions()[:MIN_ACTIONS]))
    assert 0 < words.header.least < 1
    assert (words.durations_B > 0.3).all()
    # The names first, then the descriptions that are shipped.
    assert words.action_T.tolist() == [*range(MIN_ACTIONS), *range(MIN_ACTIONS)]


def test_words_of_too_few_actions_or_without_a_text_encoder_are_refused(tmp_path: Path, user: Path) -> None:
    clips = archive(tmp_path / "clips.npz", trained_actions()[:5])
    others = archive(tmp_path / "others.npz", ["nothing known", "nor this"])
    out = tmp_path / "bundle"
    for path, message in ((clips, "5 trained actions have clips"), (others, "no clip of a trained action")):
        done = CliRunner().invoke(EXPORT, ["--to", "words", "--calibrate", str(path), "--out", str(out)])
        assert isinstance(done.exception, BundleError)
        assert message in done.exception.message
    shutil.rmtree(user)
    done = CliRunner().invoke(EXPORT, ["--to", "words", "--calibrate", str(clips), "--out", str(out)])
    assert isinstance(done.exception, TextToolError)
    done = CliRunner().invoke(EXPORT, ["--to", "words", "--out", str(out)])
    assert isinstance(done.exception, ConfigError)
    assert not out.exists()


def test_evaluate_says_what_words_add_draw_by_draw(tmp_path: Path, user: Path) -> None:
    clips = archive(tmp_path / "clips.npz", ["wave", "kick", "clap", "push"], num_people=4)
    command = ["one-shot", str(clips), "--draws", "4", "--words"]
    done = CliRunner().invoke(evaluate, [*command, "--json"])
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)["archives"].values()
    kinds = {"words", "words permuted", "words meaningless", "words alone"}
    assert {*result["gains"]} == kinds
    for kind in kinds:
        gain: dict[str, Any] = result["gains"][kind]
        assert gain["accuracy"] == pytest.approx(result[kind]["accuracy"] - result["encoder"]["accuracy"])
    assert "words meaningless" in CliRunner().invoke(evaluate, command).output
    without = CliRunner().invoke(evaluate, [*command[:-1], "--json"])
    assert "gains" not in json.loads(without.stdout)["archives"]["clips"]
    shutil.rmtree(user)
    assert isinstance(CliRunner().invoke(evaluate, command).exception, TextToolError)


@pytest.mark.parametrize("num_classes", [2, 5, 20])
def test_no_permutation_leaves_a_name_where_it_was(num_classes: int) -> None:
    classes = [f"action {number}" for number in range(num_classes)]
    for names in _permutations(classes):
        assert sorted(names) == sorted(classes)
        assert not any(own == other for own, other in zip(classes, names, strict=True))
