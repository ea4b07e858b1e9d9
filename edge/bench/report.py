"""What was measured, as Markdown, and the machine that it was measured on."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_HEAD = ("p50", "p95", "p99", "count")


def machine() -> dict[str, str | int]:
    """Return what the times depend on: processor, cores, versions."""
    versions = {}
    for name in ("crossglg-edge", "numpy", "onnxruntime", "openvino", "tensorrt"):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    cpus = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return {
        "cpu": cpus[0] if cpus else platform.machine(),
        "cores": os.cpu_count() or 1,
        "system": platform.system(),
        "python": platform.python_version(),
        **versions,
    }


def markdown(measured: dict[str, Any]) -> str:
    """Return what was measured as Markdown."""
    lines = []
    for title, rows in _sections(measured).items():
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows = [rows[0], tuple("-" * width for width in widths), *rows[1:]]
        table = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
        lines += [f"## {title}", "", *table, ""]
    lines += [f"- Not run: {name}: {reason}" for name, reason in measured["encoder"]["not_run"].items()]
    lines += [f"- LARGER THAN ALLOWED: {limit}" for limit in measured["broken"]]
    return "\n".join(lines) + "\n"


def _sections(measured: dict[str, Any]) -> dict[str, list[tuple[str, ...]]]:
    """Return tables by title; the first row is the head."""
    encoder, decision = measured["encoder"], measured["frame_to_decision_us"]
    engines = [("engine", "precision", "threads", "windows", *_HEAD, "p50 a window", "of plain InfoGCN")]
    for row in encoder["times"]:
        times = _cells(row["ms"], 2)
        engines.append(
            (
                row["engine"],
                row["precision"],
                str(row["threads"]),
                str(row["batch"]),
                *times,
                f"{row['ms']['p50'] / row['batch']:.2f}",
                _interval(row["ratio"]),
            )
        )
    engines += [
        (name, "", "1", "1", *_cells(times, 2), f"{times['p50']:.2f}", "")
        for name, times in encoder["references_ms"].items()
    ]
    frames = [(name, times) for name, times in decision.items() if isinstance(times, dict)]
    return {
        f"Encoder {measured['model']}, milliseconds a call": engines,
        "From a frame's bytes to the decision, one body at 30 fps, ten enrolled actions, microseconds": [
            ("frames whose decision cuts windows, and all", *_HEAD),
            ("with the encoder", *_cells(decision, 0)),
            *((name, *_cells(times, 0)) for name, times in frames),
        ],
        "Enrollment, from an example's bytes to the disk, milliseconds": [
            _HEAD,
            _cells(measured["enrolment_ms"], 2),
        ],
        "Gallery match of five windows, milliseconds": [
            ("prototypes", *_HEAD),
            *((size, *_cells(times, 2)) for size, times in measured["gallery_match_ms"].items()),
        ],
        "Sizes": [
            ("what", "size"),
            ("parameters at inference", f"{measured['parameters']:,}"),
            (f"bytes in fp16, from {Path(measured['fp16_from']).name}", f"{measured['fp16_bytes']:,}"),
            *((Path(name).name, f"{size:,} bytes") for name, size in measured["file_bytes"].items()),
        ],
    }


def _cells(times: dict[str, Any], digits: int) -> tuple[str, ...]:
    return (*(f"{times[name]:,.{digits}f}" for name in _HEAD[:3]), str(times["count"]))


def _interval(ratio: list[float] | None) -> str:
    return "" if ratio is None else f"{ratio[0]:.3f} ({ratio[1]:.3f} to {ratio[2]:.3f})"
