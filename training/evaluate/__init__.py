"""Accuracy of whole clips, one example each, with DTW beside it."""

from training.evaluate.draws import Draw, Score, accuracies, balanced_accuracy, clip_distances, protocol_draws
from training.evaluate.one_shot import (
    By,
    ClipSet,
    Report,
    Result,
    distribution_accuracies,
    dtw_features,
    encoder_distances,
    evaluate_archives,
    evaluate_protocol,
    read_clips,
    read_protocol,
)

__all__ = [
    "By",
    "ClipSet",
    "Draw",
    "Report",
    "Result",
    "Score",
    "accuracies",
    "balanced_accuracy",
    "clip_distances",
    "distribution_accuracies",
    "dtw_features",
    "encoder_distances",
    "evaluate_archives",
    "evaluate_protocol",
    "protocol_draws",
    "read_clips",
    "read_protocol",
]
