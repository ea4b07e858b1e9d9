"""Frames in, events out: pure, the time is told by the frames and an injected clock."""

from edge.live.decision import Decision, Match, Turn, Window
from edge.live.events import Active, BodyEvents
from edge.live.recognizer import Recognizer
from edge.live.repetitions import turns_of
from edge.live.scores import scores_of

__all__ = ["Active", "BodyEvents", "Decision", "Match", "Recognizer", "Turn", "Window", "scores_of", "turns_of"]
