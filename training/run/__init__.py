"""One training run: configuration, batches, steps, checkpoints; a killed run goes on with the same curve."""

from training.run.batches import whole_windows
from training.run.config import EncoderName, Preset, TrainConfig, read_train_config, stored_config
from training.run.files import CHECKPOINT, CURVE, LOSSES, RUN, WEIGHTS, Row, begin_run, find_changes
from training.run.guidance import load_guidance, text_encoder_at_hand
from training.run.loop import load_run, train
from training.run.losses import infogcn_loss
from training.run.paper import deviations
from training.run.ranks import Ranks, join_ranks

__all__ = [
    "CHECKPOINT",
    "CURVE",
    "LOSSES",
    "RUN",
    "WEIGHTS",
    "EncoderName",
    "Preset",
    "Ranks",
    "Row",
    "TrainConfig",
    "begin_run",
    "deviations",
    "find_changes",
    "infogcn_loss",
    "join_ranks",
    "load_guidance",
    "load_run",
    "read_train_config",
    "stored_config",
    "text_encoder_at_hand",
    "train",
    "whole_windows",
]
