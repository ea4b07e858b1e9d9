"""Archives and data sets in, a training set out; what is prepared keeps its origin."""

from training.data import kinetics, ntu
from training.data.authors import SecondPerson, authors_windows, turned_at_random
from training.data.prepare import Sample, prepare_archives
from training.data.training_set import (
    NUM_TWINS,
    Augmentation,
    Persons,
    TrainingSet,
    archive_paths,
    augmented_windows,
    load_training_set,
    paired_order,
    sampling_order,
    take_actions,
    with_twins,
)

__all__ = [
    "NUM_TWINS",
    "Augmentation",
    "Persons",
    "Sample",
    "SecondPerson",
    "TrainingSet",
    "archive_paths",
    "augmented_windows",
    "authors_windows",
    "kinetics",
    "load_training_set",
    "ntu",
    "paired_order",
    "prepare_archives",
    "sampling_order",
    "take_actions",
    "turned_at_random",
    "with_twins",
]
