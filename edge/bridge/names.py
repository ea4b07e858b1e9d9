"""Names of labels in topics and addresses, where only few characters mean themselves."""

from __future__ import annotations

import hashlib
import re

_PLAIN = re.compile(r"[A-Za-z0-9_ ]+")
_OTHERS = re.compile(r"[^A-Za-z0-9_]+")


def address_name(text: str) -> str:
    """Return a name of A-Z a-z 0-9 _ - for a label; two labels never share one.

    `swipe left` is `swipe-left`, and a label with other characters gets six digits of its SHA-256: `Jäger` is
    `J-ger-0c3f5d`. Nobody enrolls a label that is made to look like that.
    """
    if _PLAIN.fullmatch(text):
        return text.replace(" ", "-")
    digits = hashlib.sha256(text.encode()).hexdigest()[:6]
    return f"{_OTHERS.sub('-', text).strip('-')}-{digits}".lstrip("-")
