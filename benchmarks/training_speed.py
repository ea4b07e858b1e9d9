"""Training steps a second: our InfoGCN beside the same architecture laid out the plain way, in one process.

    python benchmarks/training_speed.py [--num-frames 32] [--batch 64] [--steps 20] [--curve 30]

A step is forward, the authors' loss, backward and SGD. The ways take turns, step by step, so that what
else the machine does meets all alike. Then all learn the same `--curve` batches of synthetic people from
the same weights, and their losses are compared. Prints Markdown.

Shapes: N windows, M = 1 person, T frames, V = 25 joints, C = 3.
"""

from __future__ import annotations

import argparse
import copy
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge.motion import window_from_movement
from streams.performer import ACTIONS, perform
from training.model import InfoGCN, InfoGCNConfig
from training.run import TrainConfig, infogcn_loss

if __package__:
    from benchmarks.plain_infogcn import PlainInfoGCN
else:
    from plain_infogcn import PlainInfoGCN

Step = Callable[[Tensor, Tensor], float]
_CONFIG = TrainConfig()


def plain_from(ours: InfoGCN) -> PlainInfoGCN:
    """Return the plain network with the same weights."""
    plain = PlainInfoGCN(ours.config.num_classes, ours.config.num_persons, ours.config.noise_ratio)
    weights = {name: value for name, value in ours.state_dict().items() if name != "z_prior"}
    plain.load_state_dict(weights)
    return plain


def stepper(model: torch.nn.Module, z_prior: Tensor, *, plain: bool, bf16: bool, lr: float) -> Step:
    """Return a training step: windows (N, M, T, V, C) and labels (N,) to the loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4, nesterov=True)

    def step(x_NMTVC: Tensor, labels_N: Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits, z = model(x_NMTVC.permute(0, 4, 2, 3, 1).contiguous() if plain else x_NMTVC)
        loss = infogcn_loss(logits.float(), z.float(), labels_N, z_prior, _CONFIG)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def steppers(lr: float) -> dict[str, Step]:
    """Return the ways to compare, all with the same weights; the first is the reference."""
    torch.manual_seed(0)
    ours = InfoGCN(InfoGCNConfig(num_classes=len(ACTIONS)))
    arms: dict[str, dict[str, Any]] = {
        "plain, fp32": {"plain": True, "bf16": False},
        "ours, fp32": {"plain": False, "bf16": False},
        "ours, bf16": {"plain": False, "bf16": True},
    }
    return {
        name: stepper(plain_from(ours) if arm["plain"] else copy.deepcopy(ours), ours.z_prior, lr=lr, **arm)
        for name, arm in arms.items()
    }


def windows(num_frames: int) -> tuple[Tensor, Tensor]:
    """Return windows of synthetic people and their classes."""
    made = [(window_from_movement(perform(a, seed=s), num_frames), i) for s in range(12) for i, a in enumerate(ACTIONS)]
    return torch.from_numpy(np.stack([w for w, _ in made]))[:, None], torch.tensor([i for _, i in made])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--num-frames", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--curve", type=int, default=30, help="steps of the loss curves")
    parser.add_argument("--curve-batch", type=int, default=32)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    x_NMTVC, labels_N = windows(args.num_frames)
    rng = np.random.default_rng(0)

    def batch(size: int) -> tuple[Tensor, Tensor]:
        chosen = torch.from_numpy(rng.integers(len(labels_N), size=size))
        return x_NMTVC[chosen], labels_N[chosen]

    ways = steppers(1e-3)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(args.steps + 2):
        x, y = batch(args.batch)
        for name, step in ways.items():
            started = time.perf_counter()
            step(x, y)
            if number >= 2:
                seconds[name].append(time.perf_counter() - started)
    reference = np.array(next(iter(seconds.values())))
    print("| way | p50 ms a step | p95 | p99 | samples a second | times the plain one |\n|---|---|---|---|---|---|")
    for name, taken in seconds.items():
        p50, p95, p99 = 1e3 * np.percentile(taken, [50, 95, 99])
        ratios = [np.median(rng.choice(reference / taken, len(taken))) for _ in range(1000)]
        low, high = np.percentile(ratios, [2.5, 97.5])
        gain = f"{np.median(reference / taken):.2f} ({low:.2f} to {high:.2f})"
        print(f"| {name} | {p50:.0f} | {p95:.0f} | {p99:.0f} | {args.batch * 1e3 / p50:.1f} | {gain} |")
    curves = loss_curves(batch, args.curve, args.curve_batch)
    print(f"\n| loss after | {' | '.join(curves)} |\n|---|{'---|' * len(curves)}")
    for number in sorted({0, args.curve // 3, 2 * args.curve // 3, args.curve - 1}):
        print(f"| {number + 1} steps | {' | '.join(f'{losses[number]:.3f}' for losses in curves.values())} |")
    smooth = {name: np.convolve(losses, np.ones(5) / 5, "valid") for name, losses in curves.items()}
    first = next(iter(smooth.values()))
    worst = {name: float(np.abs(losses / first - 1).max()) for name, losses in smooth.items()}
    print("\nlargest relative difference of the losses, smoothed over 5 steps: " + str(worst))
    print(f"{args.batch} windows of {args.num_frames} frames, {args.steps} steps, {torch.get_num_threads()} threads, "
          f"torch {torch.__version__}, {platform.machine()}, {_cpu()}")  # fmt: skip


def loss_curves(batch: Callable[[int], tuple[Tensor, Tensor]], steps: int, size: int) -> dict[str, list[float]]:
    """Let all ways learn the same batches from the same weights; noise of the latent is seeded alike."""
    ways = steppers(2e-3)
    curves: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(steps):
        x, y = batch(size)
        for name, step in ways.items():
            torch.manual_seed(number)
            curves[name].append(step(x, y))
    return curves


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")


if __name__ == "__main__":
    main()
