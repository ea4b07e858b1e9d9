"""What was told or nearly told is kept for review, and an answer makes an example or a counter-example of it."""

from edge.review.answers import answer_clip, answers_to, undo_answer
from edge.review.moments import Moment, MomentWatch
from edge.review.ring import clear_ring, keep_moment, most_useful, read_clip, read_clips, ring_path

__all__ = [
    "Moment",
    "MomentWatch",
    "answer_clip",
    "answers_to",
    "clear_ring",
    "keep_moment",
    "most_useful",
    "read_clip",
    "read_clips",
    "ring_path",
    "undo_answer",
]
