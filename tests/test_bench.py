"""`crossglg-edge bench`: what it prints for scripts, what it refuses, and how it times."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.bench.measure import MAX_FP16_BYTES, sizes_of
from edge.bench.timing import percentiles, ratio, time_in_turns
from edge.model.bundle import BundleInfo, read_bundle
from edge.model.engines import engine_file
from edge.model.engines.engine_file import EngineFile

# A device that has neither.
WITHOUT_TORCH_AND_ONNX = "import sys; sys.modules.update(torch=None, onnx=None); from edge.cli.app import main; main()"


def bench(*args: object, code: str = "from edge.cli.app import main; main()") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, "bench", "--quick", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def altered(bundle: Path, folder: Path, **changes: Any) -> Path:
    """Copy a bundle with other values in bundle.json."""
    shutil.copytree(bundle, folder)
    info = msgspec.json.decode((folder / "bundle.json").read_bytes(), type=BundleInfo)
    (folder / "bundle.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(info, **changes)))
    return folder


@pytest.fixture(scope="module")
def measured(tiny_bundle: Path) -> dict[str, Any]:
    done = bench("--bundle", tiny_bundle, "--engine", "onnxruntime", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert isinstance(content, dict)
    return content


def test_a_script_finds_the_encoder_beside_the_reference(measured: dict[str, Any]) -> None:
    pytest.importorskip("onnx", reason="the reference is built with onnx, of the extra `train`")
    encoder = measured["encoder"]
    (first, *others) = encoder["times"]
    assert (first["engine"], first["precision"], first["threads"], first["batch"]) == ("onnxruntime", "fp32", 1, 1)
    assert encoder["ours_ms"] == first["ms"]["p50"] > 0
    plain = encoder["references_ms"]["plain InfoGCN, ONNX Runtime fp32"]
    assert encoder["plain_infogcn_ort_ms"] == plain["p50"] > 0
    assert plain["count"] >= 3
    low, high = encoder["ratio_ci95"]
    assert 0 < low <= encoder["ratio"] <= high
    assert {row["batch"] for row in others} == {8}
    assert all(row["ratio"] is None for row in others)


def test_a_script_finds_decision_enrollment_gallery_and_sizes(measured: dict[str, Any], tiny_bundle: Path) -> None:
    decision = measured["frame_to_decision_us"]
    every = decision["with the encoder, all frames"]
    assert every["count"] == 400
    assert 0 < decision["count"] <= 400 / 6 + 1
    assert 0 < decision["p50"] <= decision["p95"] <= decision["p99"]
    assert decision["without the encoder"]["count"] == decision["count"]
    assert measured["enrolment_ms"]["count"] == 10
    matches = measured["gallery_match_ms"]
    assert set(matches) == {"10", "1000", "10, DTW alone"}
    assert all(times["count"] >= 3 for times in matches.values())
    assert measured["parameters"] == 1200 * 64
    assert measured["fp16_bytes"] == (tiny_bundle / "encoder.onnx").stat().st_size - 2 * 1200 * 64
    assert measured["machine"]["cores"] >= 1
    assert measured["broken"] == []


def test_a_device_without_torch_and_onnx_is_measured_and_told_why_the_reference_is_missing(tiny_bundle: Path) -> None:
    args = ("--bundle", tiny_bundle, "--engine", "onnxruntime")
    done = bench(*args, "--json", code=WITHOUT_TORCH_AND_ONNX)
    assert done.returncode == 0, done.stderr
    encoder = json.loads(done.stdout)["encoder"]
    assert encoder["ours_ms"] > 0
    assert encoder["plain_infogcn_ort_ms"] is encoder["ratio"] is encoder["ratio_ci95"] is None
    assert "pip install onnx" in encoder["not_run"]["plain InfoGCN, ONNX Runtime fp32"]


def test_a_model_with_too_many_parameters_is_bad_news(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = altered(tiny_bundle, tmp_path / "large", parameters=1_700_001)
    done = bench("--bundle", bundle, "--engine", "onnxruntime")
    assert done.returncode == 1
    assert "1,700,001, at most 1,700,000 are allowed" in done.stdout
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| onnxruntime")]
    assert [row[4].strip() for row in rows] == ["1", "8"]


def test_the_fp16_file_of_export_is_what_counts_where_there_is_one(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = altered(tiny_bundle, tmp_path / "bundle")
    info, onnx = read_bundle(bundle)
    about = EngineFile(kind="onnx", version="17", precision="fp16", onnx_sha256=info.onnx_sha256, built="2026-01-01")
    half = bundle / "engines" / "encoder_fp16.onnx"
    engine_file.write(half, b"x" * 1000, about)
    assert sizes_of(bundle)["fp16_bytes"] == 1000
    engine_file.write(half, b"x" * (MAX_FP16_BYTES + 1), about)
    found = sizes_of(bundle)
    assert found["fp16_from"] == str(half)
    assert found["file_bytes"] == {str(onnx): onnx.stat().st_size, str(half): MAX_FP16_BYTES + 1}
    assert [limit.partition(":")[0] for limit in found["broken"]] == ["fp16_bytes"]
    half.write_bytes(b"half written")
    assert sizes_of(bundle)["fp16_from"].startswith("encoder.onnx")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--engine", "abacus"], "expected auto, onnxruntime"),
        (["--engine", "oip://127.0.0.1:9/none"], "error ("),
        (["--bundle", "/nowhere"], "is not a whole model bundle"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_what_to_do(args: list[str], expected: str) -> None:
    done = bench(*args)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) >= 2, "no hint"
    assert not done.stdout


def test_ways_take_turns_block_by_block() -> None:
    order: list[str] = []
    times = time_in_turns({name: lambda name=name: order.append(name) for name in "ab"}, seconds=0.0, num_blocks=3)  # type: ignore[misc]
    assert times["a"].shape == times["b"].shape == (3, 1)
    # Twice each to learn how long it takes, then in each block once unmeasured and once measured.
    assert "".join(order) == "aabb" + 3 * "aabb"


def test_a_ratio_is_that_of_the_blocks_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(0)
    slow_machine_B1 = np.linspace(1, 5, 20)[:, None]
    theirs_BK = slow_machine_B1 * rng.normal(10, 0.1, size=(20, 30))
    ours_BK = slow_machine_B1 * rng.normal(2, 0.1, size=(20, 50))
    median, low, high = ratio(ours_BK, theirs_BK)
    assert median == pytest.approx(0.2, rel=0.02)
    assert low <= median <= high
    assert high - low < 0.02
    assert percentiles(theirs_BK).count == 600
