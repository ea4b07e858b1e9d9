"""Train one row on the base actions' clips, and embed clips by it.

Shapes: N views of a batch, T frames of a window, W movements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from edge.motion import window_from_movement
from streams.arrays import Array, Indices
from streams.movement import Movement
from training.baselines.dml import skeleton_image
from training.baselines.episodes import class_batch
from training.baselines.rows import Method, Recipe, Row, View
from training.data import Augmentation, TrainingSet, augmented_windows, sampling_order

# The authors' of InfoGCN: crop and turn, nothing else.
_AUGMENTATION = Augmentation()
_WARMUP_SHARE, _MILESTONES = 5 / 110, (90 / 110, 100 / 110)
_EMBED_BATCH = 16
# The mean loss is told of so many last steps.
_TOLD_STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Name how large a training is: `steps` None means the recipe's epochs, `batch` bounds the recipe's.

    `grad_clip`: the largest norm of a gradient, 0 for any.
    """

    num_frames: int = 64
    steps: int | None = None
    batch: int | None = None
    bf16: bool = False
    grad_clip: float = 0.0

    def num_steps(self, recipe: Recipe, num_clips: int) -> int:
        """Return how many steps a row takes."""
        return self.steps or recipe.epochs * max(1, math.ceil(num_clips / self.num_windows(recipe)))

    def num_windows(self, recipe: Recipe) -> int:
        """Return how many windows a step learns from."""
        return min(recipe.batch, self.batch or recipe.batch)


# What the papers say, and what two CPU cores manage.
PRESETS = {"paper": Size(), "2-cores": Size(num_frames=32, steps=300, batch=64, bf16=True, grad_clip=5.0)}


class DivergedError(Exception):
    """Say that a loss is no longer finite."""


def fit(
    method: Method, row: Row, data: TrainingSet, size: Size, seed: int, report: Callable[[int, int], None]
) -> float:
    """Train for the row's steps and return the mean loss of the last 20. Raises DivergedError."""
    module, recipe = cast(nn.Module, method), row.recipe
    device = next(module.parameters()).device
    torch.manual_seed(seed)
    optimizer = _make_optimizer(module, recipe)
    num_steps = size.num_steps(recipe, len(data))
    rng = np.random.default_rng([seed, 1])
    module.train()
    losses: list[float] = []
    for step, chosen in zip(range(num_steps), _batches(data, recipe, size, rng), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * _factor(recipe, step / num_steps)
        clips = [data.clips[i][:1] for i in chosen.tolist()]
        if row.view == "window":
            views, _ = augmented_windows(clips, size.num_frames, _AUGMENTATION, rng)
            x = torch.from_numpy(views[:, 0])
        else:
            x = view_movements([clip[0] for clip in clips], row.view, size.num_frames)
        with torch.autocast(device.type, torch.bfloat16, enabled=size.bf16):
            encoded = method.encode(x.to(device))
        loss = method.loss(encoded, torch.from_numpy(data.labels[chosen]).to(device))
        optimizer.zero_grad()
        loss.backward()
        if size.grad_clip:
            nn.utils.clip_grad_norm_(module.parameters(), size.grad_clip)
        optimizer.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise DivergedError(f"the loss was {losses[-1]} at step {step} of {num_steps}")
        report(step + 1, num_steps)
    return float(np.mean(losses[-_TOLD_STEPS:]))


def embed(
    method: Method, row: Row, movements: Sequence[Movement], size: Size, report: Callable[[int, int], None]
) -> Tensor:
    """Return what is compared of each movement, (W, ...), on the method's device."""
    module = cast(nn.Module, method)
    device = next(module.parameters()).device
    module.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(movements), _EMBED_BATCH):
            x = view_movements(movements[start : start + _EMBED_BATCH], row.view, size.num_frames)
            with torch.autocast(device.type, torch.bfloat16, enabled=size.bf16):
                encoded = method.encode(x.to(device))
            parts.append(method.embed(encoded))
            report(start + len(x), len(movements))
    return torch.cat(parts)


def view_movements(movements: Sequence[Movement], view: View, num_frames: int) -> Tensor:
    """Return whole movements as a row takes them: windows (W, T, 25, 3) as the device cuts them, or images.

    An image has the movement's own frames, in the body's frame.
    """
    if view == "window":
        return torch.from_numpy(np.stack([window_from_movement(m, num_frames) for m in movements]))
    return torch.stack([skeleton_image(_evenly(movement), view) for movement in movements])


def _evenly(movement: Movement) -> Array:
    return window_from_movement(movement, max(2, len(movement)), motion_share=0.0)


def _batches(data: TrainingSet, recipe: Recipe, size: Size, rng: np.random.Generator) -> Iterator[Indices]:
    """Yield clip numbers without end: of some classes alike, or epochs in any order."""
    num_windows = min(size.num_windows(recipe), len(data))
    while True:
        if recipe.per_class:
            yield class_batch(data.labels, max(2, num_windows // recipe.per_class), recipe.per_class, rng)
            continue
        order = sampling_order(data.labels, 0.0, rng)
        for start in range(0, len(order) - num_windows + 1, num_windows):
            yield order[start : start + num_windows]


def _make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = list(module.parameters())
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=recipe.lr, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
        )  # fmt: skip
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.RMSprop
    return kind(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)


def _factor(recipe: Recipe, done: float) -> float:
    """Return what the learning rate is multiplied by after a share of the steps."""
    if recipe.schedule == "constant":
        return 1.0
    if done < _WARMUP_SHARE:
        return max(done / _WARMUP_SHARE, 0.02)
    return float(0.1 ** sum(done >= share for share in _MILESTONES))
