"""What rows are made with besides recordings: texts, embedded once for all classes, and weights of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.baselines.gap import ClassTexts
from training.baselines.local import PART_NAMES, part_relevance
from training.baselines.part_texts import embed_part_texts, read_part_texts
from training.baselines.rows import Ingredients, Need, Row
from training.texts import ANY_SHIPPED, embed_sentences


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Name what rows are made with, besides recordings; None for what ships with the program.

    `imagenet`: torchvision's ResNet-18. `text_encoder`: a folder that transformers reads, such as a copy of CLIP.
    `descriptions`: an LLM whose texts are shipped, or a folder. `part_texts`: a file in GAP's form instead.
    """

    imagenet: Path | None = None
    text_encoder: Path | None = None
    descriptions: str = ANY_SHIPPED
    part_texts: Path | None = None


class Texts:
    """Hold the texts of all classes, embedded once; `ingredients` is what rows are made of for some of them."""

    def __init__(self, rows: Sequence[Row], base: Sequence[str], novel: Sequence[str], sources: Sources) -> None:
        needs: set[Need] = {need for row in rows for need in row.needs}
        self._base, self._sources, self._needs = list(base), sources, needs
        self._texts: ClassTexts | None = None
        self._relevance: dict[str, Tensor] = {}
        self._encoder = self._origin = ""
        if "texts" in needs:
            texts, self._origin = read_part_texts(base, sources.descriptions, sources.part_texts)
            self._texts, self._encoder = embed_part_texts(texts, sources.text_encoder)
        if "relevance" in needs:
            names = [*base, *novel]
            embedded, self._encoder = embed_sentences([*names, *PART_NAMES], sources.text_encoder)
            actions, parts = torch.from_numpy(embedded).split([len(names), len(PART_NAMES)])
            self._relevance = dict(zip(names, part_relevance(actions, parts), strict=True))

    def ingredients(self, classes: Sequence[str]) -> Ingredients:
        """Return what rows of these classes are made of."""
        chosen = None
        if self._texts is not None:
            rows = [self._base.index(name) for name in classes]
            texts = self._texts
            chosen = ClassTexts(
                names_AWE=texts.names_AWE[rows],
                num_names_A=texts.num_names_A[rows],
                parts_APE=texts.parts_APE[rows],
            )
        relevance = self.relevance(classes) if self._relevance else None
        imagenet = self._sources.imagenet if "imagenet" in self._needs else None
        return Ingredients(num_classes=len(classes), imagenet=imagenet, texts=chosen, relevance_KP=relevance)

    def relevance(self, classes: Sequence[str]) -> Tensor:
        """Return how much each part matters to each of these actions, shape (K, P)."""
        return torch.stack([self._relevance[name] for name in classes])

    def notes(self, row: Row) -> list[str]:
        """Return what is to be said of what a row was made of."""
        sources, said = self._sources, []
        if "texts" in row.needs:
            said.append(
                f"part texts: {self._origin}, embedded by {self._encoder}, frozen; GAP trains CLIP's text tower"
            )
        if "relevance" in row.needs:
            said.append(f"names embedded by {self._encoder}")
        if "imagenet" in row.needs:
            start = f"ImageNet weights of {sources.imagenet.name}" if sources.imagenet else "random weights"
            said.append(f"{start} at first" + ("" if sources.imagenet else "; the paper's are ImageNet's"))
        return said
