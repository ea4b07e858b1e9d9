"""The other systems of the paper's tables, one row each: how it is made, trained, and what differs from its paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from streams.errors import ConfigError
from training.baselines.dml import DeepMetric
from training.baselines.gap import GAP, ClassTexts
from training.baselines.local import LocalComponents, PartRelevance
from training.baselines.udtw import UncertaintyDTW
from training.model import CTRGCNConfig, InfoGCNConfig, SkeletonEncoder

View = Literal["window", "sl-dml", "skeleton-dml"]
Need = Literal["texts", "relevance", "imagenet"]


class Method(Protocol):
    """Name what training and evaluation use of a system, which is an nn.Module.

    `training_only`: the parts that a device would not have, by the beginnings of their names.
    """

    training_only: tuple[str, ...]

    def encode(self, x: Tensor) -> Tensor:
        """Return the trunk's features of views (N, ...), float32; it may run in bfloat16."""
        ...

    def loss(self, encoded: Tensor, labels_N: Tensor) -> Tensor:
        """Return the loss of a batch."""
        ...

    def embed(self, encoded: Tensor) -> Tensor:
        """Return what is compared, a row a view."""
        ...

    def distances(self, exemplars: Tensor, queries: Tensor) -> Tensor:
        """Return the distance of each pair, shape (A, B)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Name how a row is trained; from its authors where they say it.

    `per_class`: windows of each class in a batch, 0 for clips in any order. `schedule` "step" is that of CrossGLG's
    training; "constant" never changes.
    """

    optimizer: Literal["sgd", "adam", "rmsprop"]
    lr: float
    batch: int
    epochs: int
    per_class: int = 0
    weight_decay: float = 0.0
    schedule: Literal["step", "constant"] = "constant"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ingredients:
    """Hold what rows are made of; None where no row that was asked for needs it."""

    num_classes: int
    imagenet: Path | None
    texts: ClassTexts | None
    relevance_KP: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """Hold a row: its name in commands, its title, and what is to be said of it beside its number."""

    name: str
    title: str
    make: Callable[[Ingredients], Method]
    recipe: Recipe
    view: View = "window"
    needs: frozenset[Need] = frozenset()
    notes: tuple[str, ...] = ()


_GAP_RECIPE = Recipe(optimizer="sgd", lr=0.1, batch=200, epochs=110, weight_decay=5e-4, schedule="step")
_EPISODES = Recipe(
    optimizer="sgd", lr=0.05, batch=128, epochs=110, per_class=4, weight_decay=5e-4, schedule="step"
)  # fmt: skip
_DML = Recipe(optimizer="rmsprop", lr=1e-6, batch=32, epochs=100, per_class=4)
_ALONE = "GAP's recipe without texts, so that the texts alone are the difference"


def _infogcn(num_classes: int) -> SkeletonEncoder:
    # GAP's k: from 8 on the input is the plain joints.
    return InfoGCNConfig(num_classes=num_classes, k=8).make()


def _ctr_gcn(num_classes: int) -> SkeletonEncoder:
    return CTRGCNConfig(num_classes=num_classes).make()


def _relevant(given: Ingredients) -> Method:
    assert given.relevance_KP is not None
    return PartRelevance(_infogcn(given.num_classes), given.relevance_KP)


_ROWS = (
    Row(
        name="apsr",
        title="APSR, approximated",
        make=_relevant,
        recipe=_EPISODES,
        needs=frozenset({"relevance"}),
        notes=(
            "only the idea: the paper's relevance of parts to an action's name, on InfoGCN in the place of a "
            "spatio-temporal LSTM, with sentence embeddings for word embeddings",
        ),
    ),
    Row(
        name="udtw",
        title="uDTW",
        make=lambda given: UncertaintyDTW(),
        recipe=Recipe(optimizer="adam", lr=1e-3, batch=32, epochs=100, per_class=4),
        notes=(
            "the distance is the authors'; blocks, encoder, loss and optimizer are ours: no code of theirs is public",
        ),
    ),
    Row(
        name="sl-dml",
        title="SL-DML",
        make=lambda given: DeepMetric(given.num_classes, given.imagenet),
        recipe=_DML,
        view="sl-dml",
        needs=frozenset({"imagenet"}),
    ),
    Row(
        name="skeleton-dml",
        title="Skeleton-DML",
        make=lambda given: DeepMetric(given.num_classes, given.imagenet),
        recipe=_DML,
        view="skeleton-dml",
        needs=frozenset({"imagenet"}),
    ),
    Row(
        name="alca-gcn",
        title="ALCA-GCN, approximated",
        make=lambda given: LocalComponents(_infogcn(given.num_classes)),
        recipe=_EPISODES,
        notes=(
            "only the idea: similarities of parts and segments, weighed by the exemplar, on InfoGCN; no code of "
            "the authors is public",
        ),
    ),
    Row(
        name="infogcn",
        title="InfoGCN, as in GAP",
        make=lambda given: GAP(_infogcn(given.num_classes), None),
        recipe=_GAP_RECIPE,
        notes=(_ALONE,),
    ),
    Row(
        name="gap-infogcn",
        title="InfoGCN + GAP",
        make=lambda given: GAP(_infogcn(given.num_classes), given.texts),
        recipe=_GAP_RECIPE,
        needs=frozenset({"texts"}),
    ),
    Row(
        name="ctr-gcn",
        title="CTR-GCN, as in GAP",
        make=lambda given: GAP(_ctr_gcn(given.num_classes), None),
        recipe=_GAP_RECIPE,
        notes=(_ALONE,),
    ),
    Row(
        name="gap-ctr-gcn",
        title="CTR-GCN + GAP",
        make=lambda given: GAP(_ctr_gcn(given.num_classes), given.texts),
        recipe=_GAP_RECIPE,
        needs=frozenset({"texts"}),
    ),
)
ROWS = {row.name: row for row in _ROWS}


def choose_rows(names: list[str] | None) -> list[Row]:
    """Return the rows of these names, in the order of the table; all of them for None. Raises ConfigError."""
    unknown = [name for name in names or [] if name not in ROWS]
    if unknown or names == []:
        came = f"unknown row {', '.join(unknown)}" if unknown else "no row"
        raise ConfigError(
            f"{came}: expected some of {', '.join(ROWS)}",
            hint="Leave out --rows for all of them.",
        )
    return [row for row in _ROWS if names is None or row.name in names]


def num_parameters(method: Method) -> int:
    """Return how many parameters are kept after training."""
    assert isinstance(method, torch.nn.Module)
    kept = (p for name, p in method.named_parameters() if not name.startswith(method.training_only or ("\0",)))
    return sum(parameter.numel() for parameter in kept)
