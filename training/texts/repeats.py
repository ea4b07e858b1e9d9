"""Sentences that are said twice: a text that two joints or two actions share tells neither from the other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from streams.layouts import LAYOUTS
from training.texts.describe import Description


class Sentences:
    """Remember whose each sentence is. Case, punctuation and spaces make no difference."""

    def __init__(self) -> None:
        self._whose: dict[str, str] = {}

    def add(self, text: Description) -> None:
        """Remember the sentences of an action."""
        for joint, sentence in _sentences(text):
            self._whose.setdefault(_key(sentence), f"{joint} of {text.action!r}")

    def repeats(self, text: Description) -> list[str]:
        """Return which sentences of an action are said twice, there or in one added before; in words for its author."""
        joints: dict[str, list[str]] = {}
        for joint, sentence in _sentences(text):
            joints.setdefault(_key(sentence), []).append(joint)
        found = []
        for sentence in dict.fromkeys(sentence for _, sentence in _sentences(text)):
            # A sentence that differs only in its punctuation was reported with the first.
            whose = joints.pop(_key(sentence), [])
            whose += [self._whose[_key(sentence)]] if whose and _key(sentence) in self._whose else []
            if len(whose) > 1:
                shared = f"{', '.join(whose[:-1])} and {whose[-1]} share the sentence {sentence!r}"
                found.append(f"{shared}, expected one of its own for each, on how it moves in {text.action!r}")
        return found


def repeated_sentences(texts: Iterable[Description]) -> list[str]:
    """Return which sentences two joints or two actions share, in words for their author."""
    said, found = Sentences(), []
    for text in texts:
        found += said.repeats(text)
        said.add(text)
    return found


def _sentences(text: Description) -> Iterator[tuple[str, str]]:
    yield "the whole action", text.global_text
    yield from zip(LAYOUTS[text.layout].joints, text.joints, strict=True)


def _key(sentence: str) -> str:
    return " ".join(re.findall(r"\w+", sentence.casefold())) or sentence
