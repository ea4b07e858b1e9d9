"""Train the skeleton encoder on archives.

Shapes: N windows, M persons, T frames, V joints, C = 3.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from streams.errors import ConfigError
from training.data import Augmentation, TrainingSet, augmented_window, sampling_order
from training.encoders.infogcn import InfoGCN, InfoGCNConfig

_CHECKPOINT = "checkpoint.pt"
WEIGHTS = "encoder.safetensors"
RUN = "run.json"
CURVE = "curve.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Name each choice of a training run. Optimiser and loss are the authors' (stnoah1/infogcn).

    The learning rate rises over `warmup_share` of the epochs and falls tenfold at each of
    `milestones`, both as shares of `epochs`: 5, 90 and 100 of the authors' 110.
    """

    num_frames: int = 64
    epochs: int = 110
    batch: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_share: float = 5 / 110
    milestones: tuple[float, ...] = (90 / 110, 100 / 110)
    label_smoothing: float = 0.1
    lambda_class_mean: float = 0.1
    lambda_mean_norm: float = 1e-4
    balance: float = 0.0
    k: int = 1
    seed: int = 0
    bf16: bool = False
    compile: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)


def learning_rate(config: TrainConfig, epoch: float) -> float:
    """Return the learning rate at a (fractional) epoch."""
    warmup = config.warmup_share * config.epochs
    if epoch < warmup:
        return config.lr * epoch / warmup
    return config.lr * 0.1 ** sum(epoch >= share * config.epochs for share in config.milestones)


def infogcn_loss(logits: Tensor, z_ND: Tensor, labels_N: Tensor, z_prior_KD: Tensor, config: TrainConfig) -> Tensor:
    """Return the authors' loss: smoothed cross-entropy + 0.1 * class-mean MSE + 1e-4 * mean norm."""
    loss = nn.functional.cross_entropy(logits, labels_N, label_smoothing=config.label_smoothing)
    present, inverse = torch.unique(labels_N, return_inverse=True)
    sums = torch.zeros(len(present), z_ND.shape[1], dtype=z_ND.dtype).index_add_(0, inverse, z_ND)
    means_KD = sums / torch.bincount(inverse)[:, None]
    class_mean = nn.functional.mse_loss(means_KD, z_prior_KD[present])
    mean_norm: Tensor = z_ND.mean(dim=0).norm()
    return loss + config.lambda_class_mean * class_mean + config.lambda_mean_norm * mean_norm


def batches(data: TrainingSet, config: TrainConfig, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch: x_NMTVC with M = 1, and labels; the same for the same seed and epoch.

    A last batch of fewer than two windows is left out: batch normalisation needs two.
    """
    rng = np.random.default_rng((config.seed, epoch))
    order = sampling_order(data.labels, config.balance, rng)
    for start in range(0, len(order), config.batch):
        chosen = order[start : start + config.batch]
        if len(chosen) < 2:
            continue
        windows = [
            augmented_window(timestamps_s, joints_LV3, config.num_frames, config.augmentation, rng)
            for timestamps_s, joints_LV3 in (data.clips[i] for i in chosen)
        ]
        yield torch.from_numpy(np.stack(windows))[:, None], torch.from_numpy(data.labels[chosen])


def train(
    data: TrainingSet,
    config: TrainConfig,
    out: Path,
    *,
    on_epoch: Callable[[int, float, float], None] | None = None,
) -> InfoGCN:
    """Train, or go on from the checkpoint in `out`, and write encoder.safetensors, curve.csv, run.json.

    A run that was killed goes on from its last whole epoch with the same batches and noise. Raises
    ConfigError if `out` holds a run of another configuration.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    model = InfoGCN(InfoGCNConfig(num_classes=len(data.classes), k=config.k))
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=True,
    )
    first = _resume(out, model, optimizer, config, data)
    step = torch.compile(model, dynamic=False) if config.compile else model
    # A fresh InfoGCN is full of denormals, twenty times slower than zeros; the caller keeps its own setting.
    torch.set_flush_denormal(True)
    try:
        for epoch in range(first, config.epochs):
            torch.manual_seed(config.seed * 1_000_003 + epoch)
            started = time.monotonic()
            loss, accuracy = _epoch(step, model, optimizer, data, config, epoch)
            _save(out, model, optimizer, epoch, (loss, accuracy, time.monotonic() - started))
            if on_epoch is not None:
                on_epoch(epoch, loss, accuracy)
    finally:
        torch.set_flush_denormal(False)
    save_file(model.state_dict(), out / WEIGHTS)
    return model.eval()


def load_run(out: Path) -> tuple[InfoGCN, dict[str, object]]:
    """Return the trained model in evaluation mode and its run.json. Raises ConfigError."""
    try:
        run = json.loads((out / RUN).read_text(encoding="utf-8"))
        weights = load_file(out / WEIGHTS)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{out} is not a finished training run: {error.filename} is missing",
            hint="Run `crossglg-edge train` with this folder as --out; it goes on where it stopped.",
        ) from error
    model = InfoGCN(InfoGCNConfig(num_classes=len(run["classes"]), k=run["config"]["k"]))
    model.load_state_dict(weights)
    return model.eval(), run


def _epoch(
    step: Callable[[Tensor], tuple[Tensor, Tensor]],
    model: InfoGCN,
    optimizer: torch.optim.Optimizer,
    data: TrainingSet,
    config: TrainConfig,
    epoch: int,
) -> tuple[float, float]:
    model.train()
    total, right, seen = 0.0, 0, 0
    num_batches = max(1, len(data) // config.batch)
    for i, (x_NMTVC, labels_N) in enumerate(batches(data, config, epoch)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, epoch + min(i / num_batches, 1.0))
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            # Another size would be compiled anew, for every size, and run at a third of the speed.
            logits, z_ND = (step if len(x_NMTVC) == config.batch else model)(x_NMTVC)
        loss = infogcn_loss(logits.float(), z_ND.float(), labels_N, model.z_prior, config)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels_N)
        right += int((logits.argmax(dim=1) == labels_N).sum())
        seen += len(labels_N)
    return total / seen, right / seen


def _resume(out: Path, model: InfoGCN, optimizer: torch.optim.Optimizer, config: TrainConfig, data: TrainingSet) -> int:
    run = {
        "config": dataclasses.asdict(config),
        "classes": list(data.classes),
        "clips": len(data),
        "archives": data.archives,
        "torch": torch.__version__,
    }
    run = json.loads(json.dumps(run))
    if (out / RUN).exists():
        before = json.loads((out / RUN).read_text(encoding="utf-8"))
        changed = sorted(key for key in run if before.get(key) != run[key])
        if changed:
            raise ConfigError(
                f"{out} holds a training run with another {', '.join(changed)}",
                hint="Choose another --out, or remove that folder.",
            )
    else:
        (out / RUN).write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    if not (out / _CHECKPOINT).exists():
        with (out / CURVE).open("w", newline="") as file:
            csv.writer(file).writerow(("epoch", "loss", "accuracy", "seconds"))
        return 0
    state = torch.load(out / _CHECKPOINT, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epoch"]) + 1


def _save(
    out: Path, model: InfoGCN, optimizer: torch.optim.Optimizer, epoch: int, row: tuple[float, float, float]
) -> None:
    partial = out / (_CHECKPOINT + ".partial")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}, partial)
    partial.replace(out / _CHECKPOINT)
    with (out / CURVE).open("a", newline="") as file:
        csv.writer(file).writerow((epoch, *(f"{value:.6g}" for value in row)))
