"""The other systems of the paper's tables, on one protocol; each says what differs from its own paper."""

from training.baselines.compare import Setup, evaluate_baselines
from training.baselines.fit import PRESETS, Size
from training.baselines.ingredients import Sources
from training.baselines.results import Cell, Comparison, Run
from training.baselines.rows import ROWS, Row, choose_rows

__all__ = [
    "PRESETS",
    "ROWS",
    "Cell",
    "Comparison",
    "Row",
    "Run",
    "Setup",
    "Size",
    "Sources",
    "choose_rows",
    "evaluate_baselines",
]
