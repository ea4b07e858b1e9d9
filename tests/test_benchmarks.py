"""The benchmarks run briefly, so that they cannot rot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_latency_benchmark_writes_every_row_with_its_count(tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "latency.md"
    command = [sys.executable, BENCHMARKS / "latency.py", "--frames", "300", "--bundle", tiny_bundle, "--out", out]
    subprocess.run(command, check=True, cwd=BENCHMARKS.parent)
    rows = [line.split("|")[1:-1] for line in out.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert len(rows) == 9
    for name, p50, p95, p99, count in rows[1:]:
        values = [float(value.replace(",", "")) for value in (p50, p95, p99)]
        assert 0 < values[0] <= values[1] <= values[2], name
        assert int(count) >= 20, name
