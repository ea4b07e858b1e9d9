"""Measures, and serves nobody: every figure stands beside a reference of the same run."""

from edge.bench.encoder import kind_of, open_engines, plain_reference
from edge.bench.measure import NoEncoder, decision_times, enroll, gallery_match, measure, messages
from edge.bench.report import machine, markdown
from edge.bench.timing import QUICK, Effort, time_in_turns

__all__ = [
    "QUICK",
    "Effort",
    "NoEncoder",
    "decision_times",
    "enroll",
    "gallery_match",
    "kind_of",
    "machine",
    "markdown",
    "measure",
    "messages",
    "open_engines",
    "plain_reference",
    "time_in_turns",
]
