"""One training run: configuration, batches, steps, checkpoints; a killed run goes on with the same curve."""

from training.run.config import TrainConfig, read_train_config
from training.run.files import LOSSES, WEIGHTS, Row, begin_run
from training.run.guidance import load_guidance
from training.run.loop import load_run, train
from training.run.losses import infogcn_loss

__all__ = [
    "LOSSES",
    "WEIGHTS",
    "Row",
    "TrainConfig",
    "begin_run",
    "infogcn_loss",
    "load_guidance",
    "load_run",
    "read_train_config",
    "train",
]
