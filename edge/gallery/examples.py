"""What a gallery holds: movements with a label and their embedding, and ordinary ones without.

Shapes: L frames as they came, V = 25 kinect25 joints, C = 3 in "LUF", D embedding size.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from edge.gallery.labels import validate_label
from streams.arrays import Array
from streams.errors import GalleryError
from streams.movement import Movement
from streams.wire import MAX_COORDINATE_M


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """Hold one example of a label, as it was recorded.

    `origin`: "live:<source>", "file:<name>". `created`: ISO 8601, UTC. `words`: a description that counts beside the
    label's own words, "" for those alone, None where words do not count.
    """

    label: str
    movement: Movement
    origin: str
    created: str
    words: str | None = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prototype:
    """Hold one example of a label, and its embedding; the arrays are read-only. The rest as in Example.

    `embedding`: shape (D,), float32, by the model `model_sha256`. `mixed`: the same with what the label's words say,
    which helps to choose between labels; None where they do not count or do not agree with the example.
    """

    id: str
    label: str
    movement: Movement
    embedding: Array
    model_sha256: str
    origin: str
    created: str
    words: str | None = None
    mixed: Array | None = None

    @property
    def duration_s(self) -> float:
        """How long the movement takes."""
        return self.movement.duration_s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Described:
    """Hold a label that was enrolled by words alone. Creation as in Example.

    `description`: beside the label's own words, may be "". `embedding`: what the words predict, as in Prototype, or
    empty where no text encoder is at hand: then nothing is compared with it. `duration_s`: as predicted.
    """

    id: str
    label: str
    description: str
    embedding: Array
    duration_s: float
    created: str


class LabelWords(Protocol):
    """Tell what a label's words say of its movement (edge.words)."""

    def mix(self, label: str, description: str, embedding_E: Array) -> Array | None:
        """Return an example's embedding with what the words say mixed in; None where the two do not agree."""

    def predict(self, label: str, description: str = "") -> tuple[Array, float]:
        """Return the embedding (E,), float32, that words alone predict, and the length in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Negative:
    """Hold ordinary movement, in which no action is shown. Origin and creation as in Example."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    movement: Movement
    origin: str
    created: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """Name an example that cannot be used: what was its label ("" of a negative), and what is wrong with it."""

    id: str
    label: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """Hold one change: what was done (`action`), to which label or labels, and when.

    `action`: "add", "replace", "remove", "rename", "import", "undo" or "revert".
    """

    revision: int
    created: str
    action: str
    label: str
    detail: str = ""

    @property
    def description(self) -> str:
        """The change as a line for people."""
        what = (f"revision {self.revision}: {self.action}", self.label and repr(self.label), self.detail)
        return " ".join(filter(None, what))


def validate_example(example: Example) -> Example:
    """Return an example with its label as it is stored, its arrays read-only copies.

    Raises GalleryError: "bad_label", "bad_example".
    """
    return replace(example, movement=validate_movement(example.movement), label=validate_label(example.label))


def validate_movement(movement: Movement) -> Movement:
    """Return a movement, its arrays read-only copies. Raises GalleryError("bad_example")."""
    times, joints = np.array(movement.timestamps_s, "<f8"), np.array(movement.joints_m, "<f4")
    problem = ""
    if times.ndim != 1 or joints.shape != (len(times), 25, 3):
        problem = f"expected timestamps (L,) and joints (L, 25, 3), got {times.shape} and {joints.shape}"
    elif len(times) < 2:
        problem = f"expected at least 2 frames, got {len(times)}"
    elif not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        problem = "expected finite timestamps in seconds, each after the one before"
    elif (np.abs(joints) > MAX_COORDINATE_M).any():
        problem = f"a joint is more than {MAX_COORDINATE_M:g} m away; expected meters, or NaN where it is missing"
    elif not np.isfinite(joints).all(axis=2).any():
        problem = "no joint was seen in it"
    if problem:
        raise GalleryError(f"not an example: {problem}", code="bad_example", hint="Record the example again.")
    times.setflags(write=False)
    joints.setflags(write=False)
    return Movement(timestamps_s=times, joints_m=joints)
