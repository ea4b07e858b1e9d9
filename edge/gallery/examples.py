"""What a gallery holds: movement as it was recorded, with a label or without, and its embedding.

Shapes: L frames as they came, V = 25 kinect25 joints, C = 3 in "LUF", D embedding size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from edge.gallery.labels import checked_label
from streams.arrays import Array, Times
from streams.errors import GalleryError
from streams.wire import MAX_COORDINATE_M


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawExample:
    """Hold movement as it was recorded.

    `timestamps_s`: shape (L,), float64, seconds, rising. `joints_m`: shape (L, 25, 3), float32,
    meters, "LUF", NaN where missing. `origin`: "live:<source>", "file:<name>". `created`: ISO 8601, UTC.
    """

    timestamps_s: Times
    joints_m: Array
    origin: str
    created: str

    @property
    def duration_s(self) -> float:
        return float(self.timestamps_s[-1] - self.timestamps_s[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabeledExample(RawExample):
    """Hold one example of a label."""

    label: str


def checked_example(example: LabeledExample) -> LabeledExample:
    """Return an example with its label as it is stored, its arrays read-only copies.

    Raises GalleryError: "bad_label", "bad_example".
    """
    return replace(checked_arrays(example), label=checked_label(example.label))


_RawT = TypeVar("_RawT", bound=RawExample)


def checked_arrays(example: _RawT) -> _RawT:
    """Return an example, its arrays read-only copies. Raises GalleryError("bad_example")."""
    times, joints = np.array(example.timestamps_s, "<f8"), np.array(example.joints_m, "<f4")
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
    return replace(example, timestamps_s=times, joints_m=joints)


def labeled(raw: RawExample, label: str) -> LabeledExample:
    """Return a raw example with a label, checked. Raises as `checked_example`."""
    return checked_example(
        LabeledExample(
            label=label,
            timestamps_s=raw.timestamps_s,
            joints_m=raw.joints_m,
            origin=raw.origin,
            created=raw.created,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prototype(LabeledExample):
    """Hold one example of a label, and what the model makes of it; the arrays are read-only.

    `embedding`: shape (D,), float32, by the model `model_sha256`.
    """

    id: str
    embedding: Array
    model_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Negative(RawExample):
    """Hold ordinary movement, in which no action is shown; the arrays are read-only."""

    id: str


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
        what = (f"revision {self.revision}: {self.action}", self.label and repr(self.label), self.detail)
        return " ".join(filter(None, what))
