"""One training in two real processes (torchrun, gloo); needs the extra `train`."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from training.run.files import COLUMNS, CURVE

_TRAIN = """
import os, sys
from pathlib import Path

import numpy as np
import torch

from edge.motion.preprocess import fill_missing
from streams.performer import perform
from training.model import Guidance, GuidanceConfig
from training.data import Augmentation, TrainingSet
from training.run import TrainConfig, train

out, stop_after = Path(sys.argv[1]), int(sys.argv[2])
actions = ("wave", "squat", "kick", "bow")
clips = [perform(action, seed=seed) for seed in range(8) for action in actions]
data = TrainingSet(
    clips=tuple((fill_missing(clip),) for clip in clips),
    labels=np.tile(np.arange(4), 8), classes=actions, archives={"performer": "synthetic"},
)
config = TrainConfig(
    windows="device", num_persons=1, initial_weights="torch", warmup="batch", drop_last=False, cross_smoothing=0.1,
    width=16, num_frames=16, epochs=4, batch=14, lr=0.005, warmup_share=0.0, classifier="cosine",
    augmentation=Augmentation(min_crop=1, min_crop_frames=0, max_turn_rad=0),
    guidance=GuidanceConfig(key_joints="share", shared_channels=16, text_self_attention=False),
)
torch.manual_seed(0)
guidance = Guidance(
    key_joints_AV=(torch.rand(4, 25) < 0.3).float(), texts_AVC=torch.randn(4, 25, 12), global_AC=torch.randn(4, 12)
)

def stop(row):
    if row["epoch"] + 1 == stop_after:
        os._exit(7)

branch = train(data, config, out, guidance=guidance, on_epoch=stop)
parameters = {name: parameter.detach() for name, parameter in branch.named_parameters()}
torch.save(parameters, f"{out}.{os.environ.get('RANK', '0')}.pt")
"""


def start(tmp_path: Path, name: str, num_processes: int, stop_after: int = 0) -> subprocess.Popen[str]:
    script = tmp_path / "run.py"
    script.write_text(_TRAIN)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes)]
    command = [sys.executable, *(launcher if num_processes > 1 else ()), str(script), str(tmp_path / name)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, str(stop_after)], stderr=subprocess.PIPE, text=True, env=environment)


def curve(run: Path) -> list[dict[str, float]]:
    with (run / CURVE).open(newline="") as file:
        return [{name: float(row[name]) for name in COLUMNS if name != "seconds"} for row in csv.DictReader(file)]


def finish(process: subprocess.Popen[str]) -> None:
    output = process.communicate()[1]
    assert process.returncode == 0, output
    assert "Warning" not in output


def test_two_processes_learn_the_same_weights_near_those_of_one_even_after_a_stop(tmp_path: Path) -> None:
    alone, stopped = start(tmp_path, "alone", 1), start(tmp_path, "two", 2, stop_after=2)
    stopped.communicate()
    assert stopped.returncode != 0
    assert len(curve(tmp_path / "two")) == 2
    finish(start(tmp_path, "two", 2))
    finish(alone)
    first, second = (torch.load(tmp_path / f"two.{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, parameter in first.items():
        assert parameter.isfinite().all()
        assert torch.equal(parameter, second[name]), name
    # Not equal: each process normalizes by the statistics of its half of a batch.
    one, both = curve(tmp_path / "alone"), curve(tmp_path / "two")
    for name in ("loss", "loss_calibrate", "loss_cross"):
        assert [row[name] for row in both] == pytest.approx([row[name] for row in one], rel=0.15)
    assert [row["lr"] for row in both] == [row["lr"] for row in one]
