"""Everything that `crossglg-edge bench` measures, with torch and the floor beside it, as a results file.

    python benchmarks/latency.py [--bundle DIR] [--quick] [--out FILE]

Takes two to three minutes. The floor is the multiply-adds of one window over the matrix-product rate measured here.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

# One thread is what the rates of the floor are for, and numpy reads this when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import torch

from edge.bench import QUICK, Effort, machine, markdown, measure
from edge.model import read_bundle

if __package__:
    from benchmarks.floor import multiply_adds, rates
    from benchmarks.plain_infogcn import PlainInfoGCN
else:
    from floor import multiply_adds, rates
    from plain_infogcn import PlainInfoGCN


def torch_reference() -> Callable[[], object]:
    """Return a call of plain InfoGCN in torch eager: one window of 64 frames, fp32, one thread."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    model = PlainInfoGCN(num_classes=60).eval()
    # Fresh, a normalization weighs the attention's output with 1e-6: its products would be denormals.
    for name, parameter in model.named_parameters():
        if name.endswith("agcn.bn.weight"):
            torch.nn.init.ones_(parameter)
    return torch.inference_mode()(partial(model, torch.randn(1, 3, 64, 25, 1)))


def floor_lines(bundle: Path | None, measured: dict[str, Any], seconds: float) -> list[str]:
    """Return the floor as Markdown, with the distance of each engine to it, one thread and one window."""
    operations = multiply_adds(read_bundle(bundle)[1])
    found = rates(seconds)
    best = {
        precision: max(rate for name, rate in found.items() if name.endswith(precision))
        for precision in ("fp32", "bf16")
    }
    lines = ["## Floor", "", f"{operations / 1e6:.1f} million multiply-adds a window. Rates of one thread:", ""]
    lines += ["| product of 1024 x 1024 | 10^9 multiply-adds a second |", "| --- | --- |"]
    lines += [f"| {name} | {rate / 1e9:.0f} |" for name, rate in found.items()]
    lines += ["", "| engine | precision | p50 ms | floor ms | times the floor |", "| --- | --- | --- | --- | --- |"]
    for row in measured["encoder"]["times"]:
        if row["threads"] == row["batch"] == 1 and row["precision"] in best:
            floor_ms = 1e3 * operations / best[row["precision"]]
            p50_ms = row["ms"]["p50"]
            cells = (row["engine"], row["precision"], f"{p50_ms:.2f}", f"{floor_ms:.2f}", f"{p50_ms / floor_ms:.1f}")
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--quick", action="store_true", help="in seconds, to see whether it works")
    parser.add_argument("--out", type=Path, help="default: print")
    args = parser.parse_args()
    effort = QUICK if args.quick else Effort()
    measured = measure(args.bundle, (), effort, {"plain InfoGCN, torch eager fp32": torch_reference()})
    lines = [
        "# Speed, and its floor",
        "",
        f"- made by: `python benchmarks/latency.py`, model {measured['model']}, {datetime.now(UTC):%Y-%m-%d}",
        f"- on: {', '.join(f'{name} {value}' for name, value in machine().items())}, torch {torch.__version__}",
        "- engines and references take turns in blocks; an interval is a bootstrap over the blocks",
        "- frames: the synthetic performer; one frame in six decides and cuts up to seven windows, unless the body is "
        "at rest or just appeared",
        "",
        markdown(measured),
        *floor_lines(args.bundle, measured, effort.seconds),
    ]
    text = "\n".join(lines) + "\n"
    if args.out is None:
        sys.stdout.write(text)
    else:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
