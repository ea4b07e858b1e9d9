"""Examples on disk: every change is a revision, and nothing is lost but by `vacuum`."""

from edge.gallery.care import (
    Condition,
    Mended,
    back_up,
    back_up_now,
    backups_of,
    check_gallery,
    is_backup_due,
    repair,
    restore,
)
from edge.gallery.examples import Damaged, Described, Example, LabelWords, Negative, Prototype
from edge.gallery.labels import find_spelling, label_key, validate_label
from edge.gallery.store import Gallery

__all__ = [
    "Condition",
    "Damaged",
    "Described",
    "Example",
    "Gallery",
    "LabelWords",
    "Mended",
    "Negative",
    "Prototype",
    "back_up",
    "back_up_now",
    "backups_of",
    "check_gallery",
    "find_spelling",
    "is_backup_due",
    "label_key",
    "repair",
    "restore",
    "validate_label",
]
