"""`crossglg-edge train` as a person meets it: real processes on archives; needs the extra `train`."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="training needs the extra `train`")

from edge.cli.app import add_offline_commands, app
from streams.errors import CrossGLGError
from streams.layouts import KINECT25_JOINTS
from streams.performer import perform
from training.run.config import EncoderName, TrainConfig
from training.run.files import CHECKPOINT, COLUMNS, CURVE, RUN, WEIGHTS
from training.run.paper import ALWAYS, OTHER_TEXT_ENCODER

SCRIPT = Path(sys.executable).with_name("crossglg-edge")
# The performer's actions that have shipped texts.
ACTIONS = ("clap", "punch", "push", "swipe")
SMALL = """
width = 16
num_frames = 16
batch = 8
augmentation = { min_crop = 0.8 }
guidance = { shared_channels = 16 }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two archives, and the settings of a small training."""
    folder = tmp_path_factory.mktemp("archives")
    write_archive(folder / "first.npz", ACTIONS, range(8))
    write_archive(folder / "second.npz", ACTIONS[:2], range(8, 12))
    (folder / "small.toml").write_text(SMALL)
    return folder


def write_archive(path: Path, actions: tuple[str, ...], people: range) -> None:
    clips = [perform(action, seed=seed).joints_m for seed in people for action in actions]
    np.savez(
        path,
        frames=np.concatenate(clips),
        offsets=np.cumsum([0, *map(len, clips)]),
        label=np.tile(np.arange(len(actions)), len(people)),
        class_names=np.array(actions),
        joint_names=np.array(KINECT25_JOINTS),
        fps=30.0,
    )


def start(*args: object) -> subprocess.Popen[str]:
    """Start a training with one thread, so that two can be compared to the last digit."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [str(SCRIPT), "train", *map(str, args)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def refusal(*args: object) -> CrossGLGError:
    add_offline_commands()
    result = CliRunner().invoke(app, ["train", *map(str, args)])
    assert isinstance(result.exception, CrossGLGError), result.output
    return result.exception


def curve(run: Path) -> list[dict[str, str]]:
    with (run / CURVE).open(newline="") as file:
        return [{name: row[name] for name in COLUMNS if name != "seconds"} for row in csv.DictReader(file)]


def num_epochs(run: Path) -> int:
    return len((run / CURVE).read_text().splitlines()) - 1 if (run / CURVE).exists() else 0


def test_a_training_killed_within_an_epoch_goes_on_to_the_same_curve_and_weights(folder: Path, tmp_path: Path) -> None:
    options = ["--config", folder / "small.toml", "--epochs", 4, "--lr", 0.001]
    whole = start(folder, "--out", tmp_path / "whole", *options)
    killed = start(folder, "--out", tmp_path / "killed", *options)
    while killed.poll() is None and num_epochs(tmp_path / "killed") < 2:
        time.sleep(0.01)
    time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    output = killed.communicate()[1]
    assert killed.returncode == -signal.SIGKILL, output
    assert 2 <= num_epochs(tmp_path / "killed") < 4
    assert not (tmp_path / "killed" / WEIGHTS).exists()
    again = start(folder, "--out", tmp_path / "killed", *options)
    output = again.communicate()[1]
    assert again.returncode == 0, output
    assert "epoch 1:" in whole.communicate()[1]
    assert whole.returncode == 0
    assert "epoch 0:" not in output
    assert "epoch 3: loss" in output
    assert "40 clips of 4 actions from 2 archives, guided by the texts of claude" in output
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
    assert [row["epoch"] for row in curve(tmp_path / "whole")] == ["0", "1", "2", "3"]
    assert (tmp_path / "killed" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_actions_of_kinetics_find_their_texts_unasked(folder: Path, tmp_path: Path) -> None:
    actions = ("salsa dancing", "ice skating", "lunge")
    clips = [perform("kick", seed=seed).joints_m for seed in range(12)]
    np.savez(
        tmp_path / "kinetics_train.npz", frames=np.concatenate(clips), offsets=np.cumsum([0, *map(len, clips)]),
        label=np.arange(12) % 3, class_names=np.array(actions), joint_names=np.array(KINECT25_JOINTS), fps=6.0,
    )  # fmt: skip
    protocol = tmp_path / "protocol.json"
    protocol.write_text(json.dumps({"sets": ["kinetics_train"], "novel": [], "base_order": actions}))
    args = [tmp_path / "kinetics_train.npz", "--out", tmp_path / "run", "--config", folder / "small.toml"]
    args += ["--preset", "paper", "--epochs", 1, "--batch", 4, "--base-of", protocol]
    add_offline_commands()
    result = CliRunner().invoke(app, ["train", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "run" / RUN).read_text())["config"]["descriptions"] == "claude-kinetics"


def test_a_protocol_whose_actions_lack_texts_is_refused_before_archives_are_read(folder: Path, tmp_path: Path) -> None:
    protocol = tmp_path / "protocol.json"
    protocol.write_text(json.dumps({"sets": ["first"], "novel": [], "base_order": ["sailing", "juggling soup"]}))
    error = refusal(tmp_path / "no_such_archive.npz", "--out", tmp_path / "run", "--base-of", protocol)
    assert "juggling soup" in error.message
    assert "sailing" not in error.message
    assert "crossglg-edge describe 'juggling soup'" in error.hint


def test_flags_go_before_the_file_and_the_file_before_the_preset(folder: Path, tmp_path: Path) -> None:
    protocol = tmp_path / "protocol.json"
    protocol.write_text(json.dumps({"sets": ["first"], "novel": ["clap"], "base_order": ["push", "swipe", "punch"]}))
    args = [folder, "--out", tmp_path / "run", "--preset", "paper", "--config", folder / "small.toml"]
    args += ["--epochs", 1, "--batch", 4, "--num-pre", 7, "--no-local-to-global", "--seed", 3, "--lr", 1e-3]
    args += ["--base-of", protocol, "--base", 2]
    add_offline_commands()
    result = CliRunner().invoke(app, ["train", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    run = json.loads((tmp_path / "run" / RUN).read_text())
    config = run["config"]
    assert (config["batch"], config["seed"], config["epochs"]) == (4, 3, 1)
    assert (config["width"], config["num_frames"], config["augmentation"]["min_crop"]) == (16, 16, 0.8)
    assert (config["lr"], config["schedule"], config["windows"]) == (1e-3, "step", "authors")
    guidance = config["guidance"]
    assert (guidance["num_pre"], guidance["local_to_global"], guidance["global_to_local"]) == (7, False, True)
    assert guidance["shared_channels"] == 16
    assert run["classes"] == ["push", "swipe"]
    told = " ".join(result.output.split())
    assert all(f"not as in the paper: {each}" in told for each in (*ALWAYS, OTHER_TEXT_ENCODER, "width is 16"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("widht = 8", "unknown key widht: expected one of encoder, windows, num_frames"),
        ("[guidance]\nnum_prae = 5", "unknown key guidance.num_prae"),
        ("width = 'wide'", "Expected `int`, got `str` - at `$.width`"),
        ("width = 9", "expected a multiple of 8"),
        ("epochs = 0", "epochs is 0: expected 1 or more"),
        ("[guidance]\nkey_joints = 'all'", "Invalid enum value 'all' - at `$.guidance.key_joints`"),
        ('num_frames = 20\nclassifier = "cosine"', "the embedding needs a multiple of 4"),
        ("width = ", "Invalid value"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_setting_that_is_not_known_or_not_right_is_refused(
    text: str | None, reason: str, folder: Path, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "config.toml").write_text(text)
    error = refusal(folder, "--out", tmp_path / "run", "--config", tmp_path / "config.toml")
    assert reason in error.message
    assert str(tmp_path / "config.toml") in error.message
    assert not (tmp_path / "run").exists()


def test_classes_without_texts_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    write_archive(tmp_path / "mine.npz", ("clap", "wave", "bow"), range(2))
    error = refusal(tmp_path, "--out", tmp_path / "run")
    assert "no description of 2 of 3 actions: bow, wave" in error.message
    assert "crossglg-edge describe bow wave" in error.hint


def test_what_has_no_texts_is_told_before_frames_are_read(tmp_path: Path) -> None:
    write_archive(tmp_path / "mine.npz", ("clap", "wave"), range(2))
    with np.load(tmp_path / "mine.npz") as arrays:
        damaged = {**arrays, "frames": np.zeros(3)}
    np.savez(tmp_path / "mine.npz", **damaged)
    assert "no description of 1 of 2 actions: wave" in refusal(tmp_path, "--out", tmp_path / "run").message
    error = refusal(tmp_path, "--out", tmp_path / "run", "--descriptions", tmp_path / "none")
    assert str(tmp_path / "none") in error.message
    assert (
        "frames" in refusal(tmp_path, "--out", tmp_path / "run", "--no-global-to-local", "--no-local-to-global").message
    )


def test_a_smoke_run_is_small_and_names_the_command_that_makes_a_bundle_of_it(folder: Path, tmp_path: Path) -> None:
    add_offline_commands()
    result = CliRunner().invoke(app, ["train", str(folder), "--out", str(tmp_path / "run"), "--preset", "smoke"])
    assert result.exit_code == 0, result.output
    config = json.loads((tmp_path / "run" / RUN).read_text())["config"]
    # As a device has them: what comes of it can be exported.
    assert (config["epochs"], config["width"], config["windows"], config["num_persons"]) == (1, 16, "device", 1)
    assert f"crossglg-edge export {tmp_path / 'run'} --out BUNDLE --calibrate ARCHIVE" in " ".join(
        result.output.split()
    )


@pytest.mark.parametrize("encoder", get_args(EncoderName))
def test_every_encoder_has_a_smoke_preset_of_less_than_half_the_weights(encoder: EncoderName) -> None:
    def num_weights(config: TrainConfig) -> int:
        return sum(weight.numel() for weight in config.make_branch(num_classes=20).parameters())

    smoke, ours = (TrainConfig.preset(name, encoder) for name in ("smoke", "2-cores"))
    assert smoke.epochs == 1
    assert 2 * num_weights(smoke) < num_weights(ours)


def test_without_guidance_own_data_needs_no_texts(folder: Path, tmp_path: Path) -> None:
    write_archive(tmp_path / "mine.npz", ("wave", "bow"), range(4))
    add_offline_commands()
    args = [tmp_path, "--out", tmp_path / "run", "--config", folder / "small.toml", "--epochs", 1]
    args += ["--no-global-to-local", "--no-local-to-global"]
    result = CliRunner().invoke(app, ["train", *map(str, args)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "run" / RUN).read_text())["classes"] == ["bow", "wave"]


def test_a_folder_without_archives_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, "--out", tmp_path / "run")
    assert "holds no skeleton archive" in error.message


def test_more_base_actions_than_there_are_are_refused(folder: Path, tmp_path: Path) -> None:
    protocol = tmp_path / "protocol.json"
    protocol.write_text(json.dumps({"sets": ["first"], "novel": ["clap"], "base_order": ["push"]}))
    assert (
        "has 1 base actions, expected 2"
        in refusal(folder, "--out", tmp_path, "--base-of", protocol, "--base", 2).message
    )
    assert "--base-of" in refusal(folder, "--out", tmp_path, "--base", 2).hint


def test_an_out_folder_that_cannot_be_made_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = refusal(folder, "--out", tmp_path / "file" / "run", "--config", folder / "small.toml")
    assert "cannot be written" in error.message
    assert not (tmp_path / CHECKPOINT).exists()
