"""One training run: configuration, batches, steps, checkpoints; a killed run goes on with the same curve."""

from training.run.config import EncoderName, TrainConfig, read_train_config, stored_config
from training.run.files import LOSSES, WEIGHTS, Row, begin_run
from training.run.guidance import load_guidance, text_encoder_at_hand
from training.run.loop import load_run, train
from training.run.losses import infogcn_loss
from training.run.paper import deviations

__all__ = [
    "LOSSES",
    "WEIGHTS",
    "EncoderName",
    "Row",
    "TrainConfig",
    "begin_run",
    "deviations",
    "infogcn_loss",
    "load_guidance",
    "load_run",
    "read_train_config",
    "stored_config",
    "text_encoder_at_hand",
    "train",
]
