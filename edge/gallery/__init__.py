"""Examples on disk: every change is a revision, and nothing is lost but by `vacuum`."""

from edge.gallery.examples import Example, Negative, Prototype
from edge.gallery.labels import find_spelling, label_key
from edge.gallery.store import Gallery

__all__ = ["Example", "Gallery", "Negative", "Prototype", "find_spelling", "label_key"]
