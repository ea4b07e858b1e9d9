"""To calibrate is to find each label's threshold, the distance that is near enough, by false alarms an hour."""

from edge.thresholds import report
from edge.thresholds.file import changed_at, thresholds_path
from edge.thresholds.replay import DecisionLog, Decisions, all_spells, decisions_of, spells
from edge.thresholds.report import OTHER_MODEL, Job, are_of_another_model, midpoints_in_force

__all__ = [
    "OTHER_MODEL",
    "DecisionLog",
    "Decisions",
    "Job",
    "all_spells",
    "are_of_another_model",
    "changed_at",
    "decisions_of",
    "midpoints_in_force",
    "report",
    "spells",
    "thresholds_path",
]
