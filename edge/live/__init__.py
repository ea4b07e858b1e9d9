"""Frames in, events out: pure, the time is told by the frames and an injected clock."""

from edge.live.decision import Decision, Match, Turn, Window
from edge.live.events import Active, BodyEvents
from edge.live.recognizer import Recognizer

__all__ = ["Active", "BodyEvents", "Decision", "Match", "Recognizer", "Turn", "Window"]
