"""From a movement, live or recorded, to a stored example; what will be refused is refused before anybody moves."""

from edge.enroll.by_words import enroll_words
from edge.enroll.capture import TrimmedExample, example_from_capture
from edge.enroll.draft import commit_draft, draft_example
from edge.enroll.files import clip_request, movement_from_bytes, movement_to_bytes, negative_request
from edge.enroll.negatives import store_negatives, validate_pieces
from edge.enroll.session import Enrolling

__all__ = [
    "Enrolling",
    "TrimmedExample",
    "clip_request",
    "commit_draft",
    "draft_example",
    "enroll_words",
    "example_from_capture",
    "movement_from_bytes",
    "movement_to_bytes",
    "negative_request",
    "store_negatives",
    "validate_pieces",
]
