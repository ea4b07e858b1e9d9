"""Archives and data sets in, a training set out; what is prepared keeps its origin."""

from training.data import kinetics, ntu
from training.data.prepare import Sample, prepare_archives
from training.data.training_set import (
    NUM_TWINS,
    Augmentation,
    TrainingSet,
    archive_paths,
    augmented_windows,
    load_training_set,
    sampling_order,
    with_twins,
)

__all__ = [
    "NUM_TWINS",
    "Augmentation",
    "Sample",
    "TrainingSet",
    "archive_paths",
    "augmented_windows",
    "kinetics",
    "load_training_set",
    "ntu",
    "prepare_archives",
    "sampling_order",
    "with_twins",
]
