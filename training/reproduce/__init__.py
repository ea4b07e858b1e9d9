"""The paper's tables and figures, each by one command: what is missing is trained, measured, and written beside."""

from training.reproduce.baselines import baseline_names, make_baselines
from training.reproduce.estimate import Estimate, estimate
from training.reproduce.figures import make_figure
from training.reproduce.paper import read_paper
from training.reproduce.rows import figure_arms
from training.reproduce.runner import Material, Progress, Run, check_runs, make_runs, plan_runs
from training.reproduce.setup import (
    NUM_DRAWS,
    Choices,
    ProtocolName,
    Setup,
    Size,
    begin,
    check_texts,
    open_setup,
)
from training.reproduce.tables import arms_of, make_table

__all__ = [
    "NUM_DRAWS",
    "Choices",
    "Estimate",
    "Material",
    "Progress",
    "ProtocolName",
    "Run",
    "Setup",
    "Size",
    "arms_of",
    "baseline_names",
    "begin",
    "check_runs",
    "check_texts",
    "estimate",
    "figure_arms",
    "make_baselines",
    "make_figure",
    "make_runs",
    "make_table",
    "open_setup",
    "plan_runs",
    "read_paper",
]
