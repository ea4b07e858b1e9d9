"""From a movement, live or recorded, to a stored example; what will be refused is refused before anybody moves."""

from edge.enroll.capture import Example, example_from_capture, one_body
from edge.enroll.draft import commit_draft, draft_example
from edge.enroll.negatives import Piece, checked_pieces, pieces_of, store_negatives
from edge.enroll.session import Enrolling

__all__ = [
    "Enrolling",
    "Example",
    "Piece",
    "checked_pieces",
    "commit_draft",
    "draft_example",
    "example_from_capture",
    "one_body",
    "pieces_of",
    "store_negatives",
]
