"""Frames in, events out: pure, the time is told by the frames and an injected clock."""

from edge.live.events import Active, BodyEvents, Match
from edge.live.intake import Intake
from edge.live.recognizer import Recognizer

__all__ = ["Active", "BodyEvents", "Intake", "Match", "Recognizer"]
