"""The benchmarks run briefly, so that they cannot rot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from streams.layouts import KINECT25_JOINTS
from streams.performer import perform
from training.texts.describe import read_descriptions

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))


def run(script: str, *args: object) -> str:
    """Run a benchmark from the repository root; return what it wrote to its --out file."""
    out = Path(str(args[-1]))
    command = [sys.executable, f"benchmarks/{script}", *map(str, args[:-1]), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return out.read_text(encoding="utf-8")


def rows(text: str, start: str) -> list[list[str]]:
    """Return the cells of the table rows that begin with a word."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_the_latency_benchmark_writes_the_references_and_the_floor(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the references need the extra `train`")
    text = run("latency.py", "--quick", "--bundle", tiny_bundle, tmp_path / "latency.md")
    assert len(rows(text, "plain InfoGCN")) == 2
    assert "0.1 million multiply-adds a window" in text
    (measured, floor) = [row for row in rows(text, "onnxruntime") if row[1] == "fp32"][::2]
    assert measured[2:4] == ["1", "1"]
    # From the time of one window to the floor, the one divided by the other.
    assert float(floor[2]) == float(measured[4])
    assert [row[0] for row in rows(text, "torch")] == ["torch fp32", "torch bf16"]


def test_the_multiply_adds_of_the_authors_infogcn_are_those_that_are_published(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="the rates of the floor need the extra `train`")
    from floor import multiply_adds

    from edge.bench.plain_infogcn import plain_infogcn

    (tmp_path / "plain.onnx").write_bytes(plain_infogcn())
    assert 2 * multiply_adds(tmp_path / "plain.onnx") == pytest.approx(1.784e9, rel=1e-3)
    assert multiply_adds(tiny_bundle / "encoder.onnx") == 16 * 25 * 3 * 64


def test_growth_plays_bodies_and_draws_a_plot(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot needs the extra `explain`")
    text = run("growth.py", "--quick", "--bundle", tiny_bundle, tmp_path / "growth.md")
    one, four = rows(text, "1 ")
    assert [one[1], four[1]] == ["1", "4"]
    assert 0 < float(one[3]) < float(four[3])
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert "![Work and latency by bodies](growth.png)" in text
    assert "A body that is followed takes" in text


def test_browsers_take_turns_beside_a_daemon(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="the page needs the extra `web`")
    text = run("web.py", "--quick", "--bundle", tiny_bundle, tmp_path / "web.md")
    assert all(int(row[4]) > 0 for row in (*rows(text, "no page"), *rows(text, "a page")))
    assert len(rows(text, "a page")) == 2


def test_a_frames_way_is_timed_by_who_listens(tiny_bundle: Path, tmp_path: Path) -> None:
    text = run("topics.py", "--seconds", 0.4, "--rounds", 1, "--bundle", tiny_bundle, tmp_path / "topics.md")
    ways = [row[0] for row in rows(text, "") if row[1] == "not compared"]
    assert ways == [
        "the recognizer alone, no daemon", "nobody", "events", "events, skeletons", "events, skeletons, scores",
    ]  # fmt: skip
    for row in rows(text, "events, skeletons"):
        assert float(row[2].replace(",", "")) > 0


def test_engines_are_held_against_fp32_on_a_protocol(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs the extra `train`")
    actions = ("wave", "kick", "squat")
    shown = [(label, seed, perform(action, seed=seed)) for seed in range(4) for label, action in enumerate(actions)]
    clips = [(label, seed, movement.joints_m) for label, seed, movement in shown]
    np.savez(
        tmp_path / "people.npz",
        frames=np.concatenate([joints for *_, joints in clips]),
        offsets=np.cumsum([0, *(len(joints) for *_, joints in clips)]),
        label=np.array([label for label, *_ in clips], np.int16),
        subject=np.array([seed for _, seed, _ in clips], np.int16),
        class_names=np.array(actions),
        joint_names=np.array(KINECT25_JOINTS),
        fps=30.0,
    )
    (tmp_path / "protocol.json").write_text(json.dumps({"sets": ["people"], "novel": actions}))
    args = ("--data", tmp_path, "--bundle", tiny_bundle, "--draws", 3)
    text = run("engine_parity.py", *args, tmp_path / "parity.md")
    ((_, error, cosine, *_, same, accuracy, less),) = rows(text, "ONNX Runtime, fp32")
    assert (float(error), float(cosine), float(same)) == (0, 1, 100)
    assert 0 < float(accuracy.split()[0]) <= 100
    assert less == "0.00 (0.00 to 0.00)"
    assert "not run: " in rows(text, "torch, fp32")[0][1]
    assert "12 clips of the 3 novel actions" in text


def test_the_measurements_run_one_by_one_under_pytest_benchmark(tiny_bundle: Path) -> None:
    pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")
    command = [sys.executable, "-m", "pytest", "benchmarks", "-q", "--benchmark-disable", "-p", "no:cacheprovider"]
    environment = {**os.environ, "BUNDLE": str(tiny_bundle)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_texts_that_embeddings_follow_name_unseen_actions_and_permuted_ones_do_not() -> None:
    pytest.importorskip("safetensors", reason="text features need the extra `train`")
    import text_styles

    actions = sorted(read_descriptions("claude-contrastive"))
    texts_C = text_styles.features("claude-contrastive", "both", actions)
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(len(texts_C[actions[0]]), 64))
    clips = {
        action: text_styles.unit(text_C @ seen + rng.normal(size=(4, 64)) / 4) for action, text_C in texts_C.items()
    }
    found = text_styles.recall(texts_C, clips, actions[:90], actions[90:])
    assert found[0].mean() > 0.5
    assert found[1:].mean() < 0.15


def test_the_styles_of_text_are_compared_on_a_protocol(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="text features need the extra `train`")
    actions = sorted(read_descriptions("claude-contrastive"))[:35]
    clips = [perform("wave", seed=seed).joints_m for seed in range(len(actions))]
    np.savez(
        tmp_path / "few.npz", frames=np.concatenate(clips), offsets=np.cumsum([0, *map(len, clips)]),
        label=np.arange(len(actions)), class_names=np.array(actions), joint_names=np.array(KINECT25_JOINTS), fps=30.0,
    )  # fmt: skip
    protocol = {"sets": ["few"], "novel": actions[:5], "base_order": actions[5:]}
    (tmp_path / "protocol.json").write_text(json.dumps(protocol))
    command = [sys.executable, "benchmarks/text_styles.py", "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert [row[1] for row in rows(done.stdout, "claude ")] == ["global", "joints", "both"]
    assert len(rows(done.stdout, "claude-contrastive ")) == 6


def test_the_benchmark_of_a_cameras_process_compares_it_with_none(tmp_path: Path) -> None:
    text = run("camera_process.py", "--seconds", 1, tmp_path / "camera.md")
    assert len(rows(text, "no process")) == len(rows(text, "hangs")) == len(rows(text, "dies")) == 1


def test_bridges_that_are_stuck_are_held_against_none(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt.client", reason="needs the extra `bridge`")
    if shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("needs a broker: apt-get install mosquitto")
    text = run("bridges.py", "--quick", "--bundle", tiny_bundle, tmp_path / "bridges.md")
    ((*_, alone_ms, num_alone, one),) = rows(text, "alone")
    ((*_, stuck_ms, num_stuck, ratio),) = rows(text, "stuck")
    assert one == "1"
    assert int(num_alone) > 5
    assert int(num_stuck) > 5
    assert float(ratio.split()[0]) == pytest.approx(float(stuck_ms) / float(alone_ms), rel=0.05)
