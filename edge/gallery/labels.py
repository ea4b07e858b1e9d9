"""How labels are written and compared: composed, without outer spaces, upper and lower case the same."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from streams.errors import GalleryError

MAX_LABEL_LENGTH = 100
# Joiners shape words in Persian and Hindi and make emoji; all other format characters only hide in a label.
_JOINERS = "\u200c\u200d"


def validate_label(label: str) -> str:
    """Return a label as it is stored. Raises GalleryError("bad_label") for one that cannot be shown."""
    label = unicodedata.normalize("NFC", label.strip())
    hidden = [c for c in label if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in _JOINERS]
    if not 1 <= len(label) <= MAX_LABEL_LENGTH or hidden:
        raise GalleryError(
            f"label {label[:MAX_LABEL_LENGTH]!r} has {len(label)} characters; "
            f"expected 1 to {MAX_LABEL_LENGTH}, none of them a control character",
            code="bad_label",
            hint="Choose a short, plain name such as 'wave'.",
        )
    return label


def label_key(label: str) -> str:
    """Return what is the same for all spellings of a label."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", label.strip()).casefold())


def find_spelling(label: str, labels: Iterable[str]) -> str:
    """Return how `labels` spell a label; "" is a label that is not among them."""
    return next((other for other in labels if label_key(other) == label_key(label)), "")
