"""A continuous recording with truth: who is seen, what is done when, and whose examples are enrolled.

Shapes: L frames, V = 25 kinect25 joints, C = 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.gallery import Example, Prototype
from edge.model import Encoder, embed_movements
from edge.words import Words
from streams.arrays import Array, Times
from streams.frame import SkeletonFrame, body_as_seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Name what a person did between two moments, seconds; `bodies`: the ids they were tracked by meanwhile.

    The span is from the first movement to the return to rest, as an enrolled example is trimmed
    (edge.motion.trim_rest), not the whole clip. `point_s`: the moment in it that an event must span, where a data
    set gives one. `is_scored`: false where it is neither missed nor recognized, whatever is told of it.
    """

    label: str
    start_s: float
    end_s: float
    bodies: frozenset[int] = frozenset({0})
    point_s: float | None = None
    is_scored: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Person:
    """Hold one person's part: `joints_m`, shape (L, 25, 3), float32, meters; `ids`, shape (L,), -1 while unseen."""

    joints_m: Array
    ids: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stream:
    """Hold one continuous recording: `timestamps_s`, shape (L,), rising; who is seen; what is true.

    `actions`: everything that was done, in the order of time; those whose label is among `examples` are to
    be recognized. `enrolled`: these labels, and their actions in the vocabulary over all data sets. `group`: whose
    recording it is, "archive/subject"; streams of one group are not independent.
    """

    name: str
    archive: str
    group: str
    fps: float
    examples: tuple[Example, ...]
    enrolled: frozenset[str]
    timestamps_s: Times
    people: tuple[Person, ...]
    actions: tuple[Action, ...]

    @property
    def truth(self) -> tuple[Action, ...]:
        """Return the actions that are to be recognized."""
        labels = {example.label for example in self.examples}
        return tuple(action for action in self.actions if action.label in labels and action.is_scored)

    @property
    def others(self) -> tuple[Action, ...]:
        """Return the actions that are not enrolled."""
        truth = self.truth
        return tuple(action for action in self.actions if action not in truth)

    @property
    def seen_s(self) -> float:
        """Return how long persons are seen, added up."""
        steps_s = np.diff(self.timestamps_s, append=self.timestamps_s[-1:])
        return float(sum(steps_s[person.ids >= 0].sum() for person in self.people))

    def frames(self) -> Iterator[SkeletonFrame]:
        """Yield the stream as a camera would publish it, in kinect25."""
        for i, timestamp_s in enumerate(self.timestamps_s.tolist()):
            yield SkeletonFrame(
                source=self.name,
                epoch="stream",
                seq=i,
                timestamp_s=timestamp_s,
                t_send_s=timestamp_s,
                fps=self.fps,
                bodies=tuple(
                    body_as_seen(int(person.ids[i]), person.joints_m[i]) for person in self.people if person.ids[i] >= 0
                ),
            )


def prototypes_of(stream: Stream, encoder: Encoder, words: Words | None = None) -> list[Prototype]:
    """Embed a stream's examples as the gallery does, with what the words of labels say where there are any."""
    embeddings_NE = embed_movements(encoder, [example.movement for example in stream.examples])
    return [
        Prototype(
            label=example.label,
            movement=example.movement,
            origin=example.origin,
            created=example.created,
            id=str(number),
            embedding=embedding,
            model_sha256=encoder.info.onnx_sha256,
            mixed=None if words is None else words.mix(example.label, "", embedding),
        )
        for number, (example, embedding) in enumerate(zip(stream.examples, embeddings_NE, strict=True))
    ]
