"""Events in continuous recordings with truth, scored beside sliding DTW."""

from training.evaluate.live.answers import evaluate_answers
from training.evaluate.live.dtw import JointsEncoder, dtw_index
from training.evaluate.live.evaluate import Build, Method, evaluate_streams, outcome_of, play
from training.evaluate.live.rates import MakeIndex, fit_rates
from training.evaluate.live.recordings import Enrollment, evaluate_recordings, streams_with_own_examples
from training.evaluate.live.remembering import RememberingEncoder
from training.evaluate.live.repetitions import evaluate_repetitions
from training.evaluate.live.report import (
    answers_json,
    print_answers,
    print_recordings,
    print_repetitions,
    print_streams,
    recording_json,
    repetitions_json,
    stream_json,
)
from training.evaluate.live.score import Outcome, f1_of, score_streams
from training.evaluate.live.slices import SLICES
from training.evaluate.live.stream import Stream, prototypes_of
from training.evaluate.live.streams_of_clips import build_streams
from training.evaluate.live.travel import FACTORS, choose, f1_by_factor

__all__ = [
    "FACTORS",
    "SLICES",
    "Build",
    "Enrollment",
    "JointsEncoder",
    "MakeIndex",
    "Method",
    "Outcome",
    "RememberingEncoder",
    "Stream",
    "answers_json",
    "build_streams",
    "choose",
    "dtw_index",
    "evaluate_answers",
    "evaluate_recordings",
    "evaluate_repetitions",
    "evaluate_streams",
    "f1_by_factor",
    "f1_of",
    "fit_rates",
    "outcome_of",
    "play",
    "print_answers",
    "print_recordings",
    "print_repetitions",
    "print_streams",
    "prototypes_of",
    "recording_json",
    "repetitions_json",
    "score_streams",
    "stream_json",
    "streams_with_own_examples",
]
