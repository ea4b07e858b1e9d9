"""Examples on disk: every change is a revision, and nothing is lost but by `vacuum`."""

from edge.gallery.examples import Described, Example, LabelWords, Negative, Prototype
from edge.gallery.labels import find_spelling, label_key, validate_label
from edge.gallery.store import Gallery

__all__ = [
    "Described",
    "Example",
    "Gallery",
    "LabelWords",
    "Negative",
    "Prototype",
    "find_spelling",
    "label_key",
    "validate_label",
]
