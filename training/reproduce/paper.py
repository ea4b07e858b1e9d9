"""The paper's own numbers, which stand beside ours, and the actions of its figures."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec


class PaperRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold a row as printed: accuracies in %, one a column, and the parameters in millions."""

    row: str
    values: tuple[float, ...]
    parameters_millions: float | None = None


class PaperTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold a table as printed; `columns` are numbers of base actions. One of ours has no rows of the paper."""

    title: str
    protocol: str
    columns: tuple[int, ...]
    rows: tuple[PaperRow, ...]

    def number(self, row: str, num_base: int) -> float | None:
        """Return the accuracy in % of a row at so many base actions; None where the paper has none."""
        found = next((each for each in self.rows if each.row == row), None)
        return found.values[self.columns.index(num_base)] if found and num_base in self.columns else None


class PaperFigure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold what a figure shows: the actions by their names in the data set."""

    title: str
    protocol: str
    actions: tuple[str, ...]


class Paper(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold all that is in paper.json."""

    source: str
    tables: dict[str, PaperTable]
    figures: dict[str, PaperFigure]


@cache
def read_paper() -> Paper:
    """Return the paper's numbers."""
    return msgspec.json.decode(Path(__file__).with_name("paper.json").read_bytes(), type=Paper)
