"""A label enrolled by words alone: what they must say before they are stored."""

from __future__ import annotations

from edge.gallery import Described
from edge.library import Library, created_now
from edge.protocol import EnrollWords
from streams.errors import EnrollError, TextToolError


def enroll_words(library: Library, request: EnrollWords) -> Described:
    """Store a label by what its words say.

    Raises TextToolError where no words are at hand; EnrollError: "says_nothing", unless `force`, "not_possible";
    GalleryError.
    """
    if library.words is None:
        raise library.words_error or TextToolError("no words are at hand", code="no_words")
    if library.config.model.matching == "calibrated":
        raise EnrollError(
            'matching = "calibrated" chooses among examples: words alone are none',
            code="not_possible",
            hint='Show the action once, or set matching = "cosine" under [model].',
        )
    label = library.gallery.check_label(request.label, mode=request.mode)
    if not request.force and not library.words.says_something(label, request.description):
        said = f"{label!r}, {request.description!r}" if request.description else repr(label)
        raise EnrollError(
            f"the words {said} say nothing about a movement: they tell no more than those of a label without meaning",
            code="says_nothing",
            hint="Say in English what the body does (--describe), or show it once; --force (force: true) stores it.",
        )
    return library.gallery.add_described(label, request.description, created=created_now(), mode=request.mode)
