"""The command `crossglg-edge bench`."""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from edge.bench import QUICK, Effort, measure

_LIMIT_BROKEN = 1
_HEAD = ("p50", "p95", "p99", "count")


def bench(
    bundle: Annotated[Path | None, typer.Option(help="A model bundle's folder; default: that shipped.")] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="As in the configuration; may be repeated. Default: all that run here.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A rough answer in seconds, one thread, small sizes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Measure this machine: encoder by engine, frame to decision, enrolment, gallery match, sizes.

    Beside it in the same run: the authors' InfoGCN laid out the plain way in ONNX Runtime (where the package
    onnx is installed), whose p50 `ratio` divides ours by. Exit code 1 where the model is larger than it may be.
    """
    err = Console(stderr=True)
    with err.status("") as status:
        measured = measure(
            bundle, engine or (), QUICK if quick else Effort(), tell=lambda what: status.update(f"measuring {what}")
        )
    measured = {"machine": machine(), **measured}
    if as_json:
        typer.echo(json.dumps(measured))
    else:
        typer.echo(markdown(measured), nl=False)
    if measured["broken"]:
        raise typer.Exit(_LIMIT_BROKEN)


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
        "Enrolment, from an example's bytes to the disk, milliseconds": [
            _HEAD,
            _cells(measured["enrolment_ms"], 2),
        ],
        "Gallery match, the five windows of a decision, milliseconds": [
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
