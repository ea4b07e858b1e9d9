"""Examples on disk: every change is a revision, and nothing is lost but by `vacuum`."""

from edge.gallery.examples import LabeledExample, Negative, Prototype, RawExample
from edge.gallery.labels import label_key, spelled
from edge.gallery.store import Gallery

__all__ = ["Gallery", "LabeledExample", "Negative", "Prototype", "RawExample", "label_key", "spelled"]
