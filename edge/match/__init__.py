"""Embeddings in, distances, scores and labels out; knows no time and no stream."""

from edge.match.distances import Prototypes, distances_between, take_apart
from edge.match.distribution import Classifier, fit
from edge.match.fitting import fit_gallery
from edge.match.index import PrototypeIndex
from edge.match.likeness import likenesses, separability, separability_of_words
from edge.match.score import distance_at_score, is_same_action, score_from_distance, too_similar_distance

__all__ = [
    "Classifier",
    "PrototypeIndex",
    "Prototypes",
    "distance_at_score",
    "distances_between",
    "fit",
    "fit_gallery",
    "is_same_action",
    "likenesses",
    "score_from_distance",
    "separability",
    "separability_of_words",
    "take_apart",
    "too_similar_distance",
]
