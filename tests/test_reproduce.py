"""`crossglg-edge reproduce`: whole tables on small files in the formats of NTU RGB+D and Kinetics-skeleton."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from edge.cli.app import add_offline_commands, app
from streams.errors import ArchiveError, ConfigError, CrossGLGError, DescriptionError
from streams.layouts import LAYOUTS
from streams.performer import perform
from training.cli.prepare import prepare
from training.cli.reproduce import Protocol, Table
from training.data.kinetics import kinetics_protocols
from training.data.ntu import ACTIONS, ntu_protocols
from training.reproduce.measure import Accuracies
from training.reproduce.paper import read_paper
from training.reproduce.results import interval, make_cell
from training.reproduce.rows import Arm, rows_of
from training.reproduce.setup import PROTOCOL_FILES, Size
from training.run.config import TrainConfig
from training.run.files import CHECKPOINT, CURVE, RUN, WEIGHTS
from training.texts.describe import SHIPPED

SCRIPT = Path(sys.executable).with_name("crossglg-edge")
TINY = """
width = 16
num_frames = 16
batch = 8
bf16 = false
place_channels = 4
augmentation = { reversed_share = 0.0, mirrored_share = 0.0 }
guidance = { shared_channels = 16, jid_hidden = 8, num_interactions = 1 }
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
MOVES = ("wave", "kick", "squat", "bow", "raise_arms", "arm_circle", "clap", "jumping_jack", "punch", "push")


# Small data sets


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Let tiny trainings run on one core: several wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_skeleton(folder: Path, name: str, action: int, subject: int) -> None:
    """Write a .skeleton file of one body in the authors' format."""
    joints_LVC = perform(MOVES[action % len(MOVES)], seed=100 * action + subject).joints_m[::4]
    lines = [str(len(joints_LVC))]
    for joints_VC in joints_LVC:
        lines += ["1", "72057594037931101 0 1 1 1 1 0 0.02 0.05 2", "25"]
        lines += [f"{x:.6g} {y:.6g} {z:.6g} 0 0 0 0 0 0 0 0 2" for x, y, z in joints_VC]
    (folder / f"{name}.skeleton").write_text("\n".join(lines) + "\n", encoding="ascii")


@pytest.fixture(scope="module")
def ntu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archives of a small NTU RGB+D 120: each novel action three times, four base actions, 32 setups."""
    folder = tmp_path_factory.mktemp("ntu")
    for exemplar in ntu_protocols()["ntu120_one_shot.json"]["exemplars"]:
        for subject in (8, 9, 10):
            write_skeleton(folder, exemplar.replace("P008", f"P{subject:03}"), int(exemplar[-3:]), subject)
    for setup in range(1, 33):
        for action in (2, 3) if setup <= 17 else (62, 63):
            write_skeleton(folder, f"S{setup:03}C001P008R001A{action:03}", action, setup)
    return prepared("ntu", folder)


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archives of a small Kinetics-skeleton: two clips of each novel action, three of each base action."""
    folder = tmp_path_factory.mktemp("kinetics")
    protocol = kinetics_protocols()["kinetics_one_shot.json"]
    for part, labels, number in (("kinetics_val", protocol["novel"], 2), ("kinetics_train", protocol["base_order"], 3)):
        (folder / part).mkdir()
        for i, label in enumerate(labels[:20]):
            for seed in range(number):
                content = json.dumps({"data": frames(i, seed), "label": label, "label_index": i})
                (folder / part / f"clip{i:02}_{seed}.json").write_text(content)
    return prepared("kinetics", folder)


def frames(move: int, seed: int) -> list[dict[str, Any]]:
    """Return the frames of a person seen by a camera, as OpenPose has them, coordinates from 0 to 1."""
    layout = LAYOUTS["openpose18"]
    movement = perform(MOVES[move % len(MOVES)], seed=31 * move + seed)
    # Each of its joints where the first kinect25 joint is that is made of it.
    source_J = layout.kinect25_weights.argmax(axis=0)
    xy_LJ2 = 0.5 - movement.joints_m[::3][:, source_J, :2] / 4
    found = []
    for index, xy_J2 in enumerate(xy_LJ2.astype(float), start=1):
        score = np.where(np.isfinite(xy_J2).all(axis=1), 0.8, 0.0)
        pose = np.nan_to_num(xy_J2).clip(0, 0.99).ravel()
        found.append({"frame_index": index, "skeleton": [{"pose": pose.tolist(), "score": score.tolist()}]})
    return found


def prepared(kind: str, folder: Path) -> Path:
    result = CliRunner().invoke(prepare, [kind, str(folder), "--out", str(folder / "archives")])
    assert result.exit_code == 0, result.output
    (folder / "archives" / "tiny.toml").write_text(TINY)
    return folder / "archives"


# The command


def arguments(data: Path, out: Path, *more: object) -> list[str]:
    options = ["--data", data, "--out", out, "--config", data / "tiny.toml", "--steps", 6, "--draws", 2, *more]
    return ["reproduce", *map(str, options)]


def start(data: Path, out: Path, *more: object) -> subprocess.Popen[str]:
    command = [str(SCRIPT), *arguments(data, out, *more)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def run_here(data: Path, out: Path, *more: object) -> str:
    add_offline_commands()
    result = CliRunner().invoke(app, arguments(data, out, *more), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stderr


def refusal(data: Path, out: Path, *more: object) -> CrossGLGError:
    add_offline_commands()
    result = CliRunner().invoke(app, arguments(data, out, *more))
    assert isinstance(result.exception, CrossGLGError), result.output
    return result.exception


def rows(markdown: Path, start: str) -> list[list[str]]:
    lines = [line for line in markdown.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {start} |")]
    return [[cell.strip() for cell in line.split("|")[2:-1]] for line in lines]


def test_table_4_of_ntu_is_whole_though_it_is_killed_and_two_commands_go_on_at_once(ntu: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["table4", "--columns", "40", "--steps", 24]
    killed = start(ntu, out, *options)
    while killed.poll() is None and not len([*out.glob("runs/*/scores.json")]) >= 1:
        time.sleep(0.02)
    deadline = time.monotonic() + 1
    while killed.poll() is None and time.monotonic() < deadline and not unfinished(out):
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    output = killed.communicate()[1]
    assert killed.returncode == -signal.SIGKILL, output
    finished = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/scores.json")}
    assert 1 <= len(finished) < 5
    both = [start(ntu, out, *options, "--resume") for _ in range(2)]
    outputs = [each.communicate()[1] for each in both]
    assert [each.returncode for each in both] == [0, 0], outputs
    assert "holds runs already" in refusal(ntu, out, *options).message
    # Each that was missing was made by one of the two.
    names = sorted(path.parent.name for path in out.glob("runs/*/scores.json"))
    assert len(names) == 5
    made = [name for name in names for output in outputs if f"{name}\n" in output]
    assert sorted(made) == sorted({*names} - {path.parent.name for path in finished})
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert not [*out.glob(f"runs/*/{CHECKPOINT}")]
    assert all((path.parent / WEIGHTS).exists() for path in finished)
    markdown, content = out / "table4_ntu120.md", json.loads((out / "table4_ntu120.json").read_text())
    assert "one draw" not in markdown.read_text()
    assert [row["row"] for row in content["rows"]][:4] == [row.row for row in read_paper().tables["table4"].rows]
    # Three ways to compare, plain and balanced; then the paper's own, and how the trainings ended.
    both_ways = rows(markdown, "G2L and L2G")
    assert len(both_ways) == 3 * 2 + 1 + 1
    assert both_ways[6][1:] == ["45.3", "56.8", "62.1", "61.6", "62.6"]
    # The protocol's own exemplars are one draw, and one seed: no interval, the paper's number beside.
    assert both_ways[0][1].endswith(" [56.8]")
    assert "(" not in both_ways[0][1]
    cell = content["rows"][3]["cells"]["40"]
    assert cell["paper"] == 56.8
    assert cell["scores"]["calibrated"]["plain"]["ci95"] is None
    for method in ("calibrated", "pooled", "cosine"):
        assert 0 <= cell["scores"][method]["balanced"]["mean"] <= 1
        less = cell["less"]["no G2L, no L2G"][method]["plain"]["mean"]
        without = content["rows"][0]["cells"]["40"]["scores"][method]["plain"]["mean"]
        assert less == pytest.approx(cell["scores"][method]["plain"]["mean"] - without)
    assert content["made"]["command"] == (
        "crossglg-edge reproduce table4 --data DATA --out OUT --protocol ntu120 --preset 2-cores --seeds 1 "
        "--columns 40 --config tiny.toml --steps 24 --draws 2"
    )
    assert str(tmp_path) not in markdown.read_text() + json.dumps(content)
    # Of a run that was killed no epoch is lost, and none is there twice.
    for path in out.glob(f"runs/*/{CURVE}"):
        epochs = [int(line.split(",")[0]) for line in path.read_text().splitlines()[1:]]
        assert epochs == [*range(json.loads((path.parent / RUN).read_text())["config"]["epochs"])]


def unfinished(out: Path) -> bool:
    """Say whether some run is amid its epochs."""
    return any(not (path.parent / WEIGHTS).exists() for path in out.glob(f"runs/*/{CURVE}"))


def test_other_tables_and_figures_of_a_folder_train_only_what_is_new(ntu: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="figures need the extra `explain`")
    out = tmp_path / "out"
    assert "2 of 2 trainings are missing" in run_here(ntu, out, "table6", "--columns", "20")
    told = run_here(ntu, out, "figure5", "--columns", "20", "--resume")
    assert "3 of 4 trainings are missing" in told
    assert "about" in told
    assert (out / "figure5_ntu120.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((out / "figure5_ntu120.json").read_text())
    assert np.array(content["runs"]["G2L and L2G"]["importance"]).shape == (len(content["actions"]), 25)
    assert content["runs"]["L2G"]["importance"] is None
    assert "1 of 1 trainings" not in run_here(ntu, out, "figure4", "--columns", "20", "--resume")
    run_here(ntu, out, "figure6", "--columns", "20", "--resume")
    assert {*json.loads((out / "figure6_ntu120.json").read_text())["actions"]} <= {*ACTIONS[::6]}
    # A folder of the user's beside the shipped texts: the same texts give the same numbers, and one training is there.
    shutil.copytree(SHIPPED / "claude", tmp_path / "mine")
    options = ["table7", "--columns", "20", "--texts", tmp_path / "mine", "--resume"]
    assert "1 of 2 trainings are missing" in run_here(ntu, out, *options, "--dry-run")
    # Only what is asked for is written.
    assert not (out / "table7_ntu120.md").exists()
    run_here(ntu, out, *options)
    content = json.loads((out / "table7_ntu120.json").read_text())
    assert [row["row"] for row in content["rows"]] == ["texts of claude", "texts of mine"]
    assert content["rows"][1]["cells"]["20"]["less"]["texts of claude"]["cosine"]["plain"]["mean"] == 0
    assert str(tmp_path) not in json.dumps(content)


def test_table_3_of_kinetics_trains_on_one_part_and_tests_on_the_other(kinetics: Path, tmp_path: Path) -> None:
    told = run_here(kinetics, tmp_path / "out", "table3", "--columns", "20", "--steps", 2)
    assert "clip" not in told
    content = json.loads((tmp_path / "out" / "table3_kinetics.json").read_text())
    found = {row["row"]: row for row in content["rows"]}
    assert found["InfoGCN + CrossGLG"]["parameters"] > found["InfoGCN"]["parameters"]
    # Exemplars are drawn: two draws give an interval.
    low, high = found["InfoGCN"]["cells"]["20"]["scores"]["cosine"]["plain"]["ci95"]
    assert low <= found["InfoGCN"]["cells"]["20"]["scores"]["cosine"]["plain"]["mean"] <= high
    assert found["DTW"]["cells"]["20"]["scores"]["own"]["plain"]["mean"] > 0.2
    run = json.loads(next((tmp_path / "out" / "runs").glob("infogcn_g2l*/run.json")).read_text())
    assert [*run["archives"]] == ["kinetics_train"]
    assert run["config"]["descriptions"] == "claude-kinetics"


def test_the_papers_preset_sees_two_persons_and_the_scores_of_kinetics(kinetics: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow.toml"
    slow.write_text(f"lr = 0.001\n{TINY}")
    run_here(kinetics, tmp_path / "out", "table6", "--columns", "20", "--preset", "paper", "--config", slow)
    content = json.loads((tmp_path / "out" / "table6_kinetics.json").read_text())
    assert content["made"]["command"].count("--preset paper") == 1
    assert any("not as in the paper: The texts are Claude's" in note for note in content["notes"])
    run = json.loads(next((tmp_path / "out" / "runs").glob("*/run.json")).read_text())
    chosen = run["config"]
    assert (chosen["windows"], chosen["num_persons"], chosen["second_person"]) == ("authors", 2, "zeros")
    cell = content["rows"][1]["cells"]["20"]
    assert {*cell["scores"]} == {"calibrated", "pooled", "cosine"}
    assert cell["paper"] == 42.5


def test_a_training_that_diverges_is_told_and_the_others_are_made(ntu: Path, tmp_path: Path) -> None:
    wild = tmp_path / "wild.toml"
    wild.write_text(f"lr = 1e30\ngrad_clip = 0.0\n{TINY}")
    run_here(ntu, tmp_path / "out", "table4", "--columns", "20", "--config", wild)
    content = json.loads((tmp_path / "out" / "table4_ntu120.json").read_text())
    (alone, *_, untrained, _) = content["rows"]
    assert alone["cells"] == {}
    assert "the training diverged" in alone["notes"][0]
    assert untrained["cells"]["20"]["scores"]["pooled"]["plain"]["mean"] > 0
    assert rows(tmp_path / "out" / "table4_ntu120.md", "no G2L, no L2G")[0][1] == "diverged [37]"


def test_table_2_has_the_other_systems_and_encoders_by_their_own_ways(ntu: Path, tmp_path: Path) -> None:
    pytest.importorskip("pytorch_metric_learning", reason="MotionBERT and the other systems need the extra `baselines`")
    told = run_here(ntu, tmp_path / "out", "table2", "--protocol", "ntu60", "--columns", "20", "--steps", 2)
    assert "the other systems, udtw, come first" in told
    content = json.loads((tmp_path / "out" / "table2_ntu60.json").read_text())
    found = {row["row"]: row for row in content["rows"]}
    assert {*found["uDTW"]["cells"]["20"]["scores"]} == {"own"}
    assert {*found["MotionBERT"]["cells"]["20"]["scores"]} == {"calibrated", "pooled", "cosine"}
    assert "SupCon" in found["MotionBERT"]["notes"][0]
    assert not any(row["missing"] for row in content["rows"])
    assert rows(tmp_path / "out" / "table2_ntu60.md", "uDTW")[0][1].endswith("[61.2]")


def test_a_table_is_made_by_several_processes(ntu: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    command = [*torchrun, str(SCRIPT), *arguments(ntu, tmp_path / "out", "table6", "--columns", "20")]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "table6_ntu120.md").exists()
    assert done.stderr.count("2 of 2 trainings are missing") == 1


# What is refused, before anything long


def test_what_cannot_be_made_is_refused_with_what_to_do(ntu: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    error = refusal(tmp_path, out, "table4", "--config", ntu / "tiny.toml")
    assert isinstance(error, ArchiveError)
    assert "holds no protocol" in error.message
    error = refusal(ntu, out, "table3", "--protocol", "kinetics")
    assert "kinetics_one_shot.json" in error.message
    assert "prepare kinetics" in error.hint
    error = refusal(ntu, out, "table4", "--columns", "20,400")
    assert "expected 2 to 100" in error.message
    assert "2 protocols" in refusal(ntu, out, "table3").message
    few = tmp_path / "few"
    few.mkdir()
    for name in ("ntu120_one_shot.json", "S001.npz", "tiny.toml"):
        (few / name).write_bytes((ntu / name).read_bytes())
    error = refusal(few, out, "table4")
    assert "lacks S002.npz" in error.message
    assert "prepare ntu" in error.hint
    assert not out.exists()


def test_actions_without_texts_are_refused_before_archives_are_read(ntu: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    protocol = json.loads((ntu / "ntu120_one_shot.json").read_text())
    protocol["base_order"][3] = "juggling swords"
    (folder / "ntu120_one_shot.json").write_text(json.dumps(protocol))
    (folder / "tiny.toml").write_text(TINY)
    for name in protocol["sets"]:
        (folder / f"{name}.npz").write_bytes(b"not read")
    error = refusal(folder, tmp_path / "out", "table4")
    assert isinstance(error, DescriptionError)
    assert "juggling swords" in error.message
    assert "crossglg-edge describe" in error.hint
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_runs_is_refused(ntu: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_here(ntu, out, "table6", "--columns", "20")
    error = refusal(ntu, out, "table6", "--columns", "20", "--steps", 7, "--resume")
    assert isinstance(error, ConfigError)
    assert "another size" in error.message
    assert "another --out" in error.hint
    # A run of another configuration, however it came there.
    path = next(out.glob(f"runs/infogcn_l2g_base20*/{RUN}"))
    content = json.loads(path.read_text())
    content["config"]["lr"] = 0.3
    path.write_text(json.dumps(content))
    error = refusal(ntu, out, "table6", "--columns", "20", "--resume")
    assert "infogcn_l2g_base20_seed0 holds a run with another config.lr" in error.message


# Plan and numbers


def test_the_commands_tables_and_protocols_are_those_of_the_plan() -> None:
    assert [*Table] == [*read_paper().tables, *read_paper().figures]
    assert [*Protocol] == [*PROTOCOL_FILES]


@pytest.mark.parametrize("table", [name for name in read_paper().tables if name != "table7"])
def test_a_tables_rows_are_the_papers_in_its_order(table: str) -> None:
    ours = rows_of(table)
    assert [row.title for row in ours if not row.is_ours] == [row.row for row in read_paper().tables[table].rows]
    titles = {row.title for row in ours}
    assert all({*row.less} <= titles for row in ours)
    assert all(len(row.values) == len(read_paper().tables[table].columns) for row in read_paper().tables[table].rows)


def test_arms_that_are_the_same_share_their_run_whatever_table_asks() -> None:
    preset = TrainConfig.preset("paper")
    names = {
        row.title: row.arm.name(preset) for t in ("table4", "table5", "appendix3") for row in rows_of(t) if row.arm
    }
    assert names["Npre 5"] == names["G2L"] == names["alpha 2 = 0"] == "infogcn_g2l"
    assert names["alpha 1 = 0.5"] == names["alpha 2 = 0.2"] == names["G2L and L2G"] == "infogcn_g2l-l2g"
    assert names["alpha 1 = 0"] == names["L2G"] == "infogcn_l2g"
    assert names["Npre 9"] == "infogcn_g2l_npre9"
    (without, _) = rows_of("table6")
    assert without.arm is not None
    assert without.arm.name(preset) == "infogcn_l2g_tt0"
    texts = [row.arm for row in rows_of("table7", ("a", "b"))]
    assert texts == [Arm(texts="a"), Arm(texts="b")]


def test_each_way_of_guidance_has_the_same_with_permuted_texts_beside_it() -> None:
    rows = {row.title: row for row in rows_of("guidance")}
    ways = [row for row in rows.values() if len(row.less) == 2]
    assert len(ways) == 6
    for row in ways:
        none, permuted = (rows[title].arm for title in row.less)
        assert row.arm is not None
        assert permuted == replace(row.arm, permute_texts=True)
        assert none is not None
        assert not none.is_guided
    names = [row.arm.name(TrainConfig.preset("2-cores")) for row in rows.values() if row.arm]
    assert len({*names}) == len(rows)


def test_a_size_counts_windows_or_steps_whatever_the_base_set() -> None:
    config = TrainConfig.preset("2-cores")
    assert Size().epochs(config, 1000) == config.epochs
    assert Size(num_windows=8000).epochs(config, 1119) == 7
    assert Size(num_steps=100).epochs(config, 1600) == 100 * config.batch // 1600
    assert Size(num_windows=10).epochs(config, 1119) == 1


def test_differences_are_paired_by_seed_and_draw() -> None:
    rng = np.random.default_rng(0)
    hard_D = rng.uniform(0.2, 0.8, 50)
    runs = [of(hard_D + gain) for gain in (0.02, 0.03)]
    cell = make_cell(runs, {"hard": [of(hard_D), of(hard_D)]})
    assert cell.less["hard"]["cosine"]["plain"].mean == pytest.approx(0.025)
    low, high = cell.less["hard"]["cosine"]["plain"].ci95 or (0, 0)
    assert (low, high) == pytest.approx((0.02, 0.03))
    wide = cell.scores["cosine"]["plain"].ci95 or (0, 0)
    assert wide[1] - wide[0] > 0.05
    assert cell.by_seed["cosine"]["plain"] == pytest.approx((hard_D.mean() + 0.02, hard_D.mean() + 0.03))
    assert interval(np.array([[0.5]])).ci95 is None
    # Seeds that are not all there are not compared.
    assert not make_cell(runs, {"hard": [of(hard_D)]}).less


def of(shares_D: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Accuracies]:
    return {"cosine": Accuracies(balanced=tuple(shares_D), plain=tuple(shares_D))}
