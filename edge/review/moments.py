"""Which moments deserve a second look: what was told, and what nearly was. Pure; time is the stream's own.

A label's distance falls and rises again while somebody moves: a valley. Its bottom is a moment to be kept where it
lies below `near_miss` times the label's threshold, once for each movement. Of an event that goes on for long the first
bottom is kept.

Shapes: K labels.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge.config import Config
from edge.live import Decision
from edge.match import PrototypeIndex, distance_at_score, score_from_distance
from edge.model import ScoreCurve
from edge.protocol import Why
from streams.event import Event
from streams.movement import Movement

Doubles = npt.NDArray[np.float64]

# An event is told `events.settle_s` after the bottom of its valley; whatever comes so long after that is another one.
_LATER_S = 0.7
# Two windows that share more than this of the shorter one show the same movement.
_SAME = 0.5
# As long as windows may be, and a moment to settle in: what lies further back shares no window.
_REMEMBERED_S = 30.0
_MAX_SOURCES = 256


class Follower(Protocol):
    """What is asked of the recognizer: whom it follows, and what they did last."""

    @property
    def bodies(self) -> Iterable[tuple[str, int]]:
        """The source and id of each body that is followed now."""

    def movement(self, source: str, body: int, start_s: float) -> Movement:
        """Return a copy of what a followed body did from `start_s` on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moment:
    """Hold one movement that was told, or nearly was, as `label`.

    `time_s`: the newest moment of the window that was nearest, seconds of the publisher's clock; `movement`: that
    window, from 0. `why`: "told", or what was missing; `nearer`: the label that was nearer then, "" where none was.
    """

    label: str
    source: str
    body: int
    movement: Movement
    time_s: float
    score: float
    distance: float
    threshold_distance: float
    why: Why
    nearer: str

    @property
    def is_told(self) -> bool:
        """Whether an event told it."""
        return self.why == "told"

    @property
    def start_s(self) -> float:
        """When the window began, seconds of the publisher's clock."""
        return self.time_s - self.movement.duration_s


@dataclass(slots=True, kw_only=True)
class _Valley:
    """Hold the lowest place so far of a label's distance in one movement, and how many decisions were hits."""

    label: str
    threshold: float
    distance: float = math.inf
    start_s: float = math.inf
    time_s: float = -math.inf
    nearer: str = ""
    movement: Movement | None = None
    num_hits: int = 0
    is_told: bool = False

    @property
    def ratio(self) -> float:
        """The distance, in thresholds."""
        return self.distance / max(self.threshold, 1e-9)

    def shows(self, start_s: float, end_s: float) -> bool:
        """Return whether a span is of the same movement."""
        return _share(self.start_s, self.time_s, start_s, end_s) > _SAME


@dataclass(slots=True, kw_only=True)
class _Span:
    """Hold when an event was; `end_s` is infinite while it goes on."""

    id: str
    label: str
    start_s: float
    end_s: float = math.inf


@dataclass(slots=True)
class _Course:
    """Hold what one body did lately: valleys that may get lower, those that are over, and events."""

    open: list[_Valley] = field(default_factory=list)
    closed: list[_Valley] = field(default_factory=list)
    events: list[_Span] = field(default_factory=list)
    newest_s: float = -math.inf

    def forget(self, before_s: float) -> None:
        """Forget what is over since then."""
        self.closed = [valley for valley in self.closed if valley.time_s >= before_s]
        self.events = [event for event in self.events if event.end_s >= before_s]


class MomentWatch:
    """Watch the recognizer's decisions and events; hand out each moment once, when nothing nearer is to come.

    `config` may be replaced. `num_skipped`: near misses beyond `review.max_per_minute`.
    """

    def __init__(self, config: Config, curve: ScoreCurve) -> None:
        self.config = config
        self.num_skipped = 0
        self._curve = curve
        self._courses: dict[tuple[str, int], _Course] = {}
        self._thresholds: tuple[PrototypeIndex | None, Doubles] = (None, np.zeros(0))
        self._near_misses_s: dict[str, deque[float]] = {}

    def look(self, decisions: Sequence[Decision], index: PrototypeIndex, follower: Follower) -> list[Moment]:
        """Take in decisions, matched with `index`, before the events that follow; return the moments that are over."""
        found: list[Moment] = []
        for decision in decisions:
            found += self._look(decision, self._thresholds_of(index), follower)
        return found

    def hear(self, events: Sequence[Event]) -> None:
        """Take in events, after the decisions that caused them."""
        for event in events:
            course = self._courses.get((event.source, event.body))
            if course is None:
                continue
            # An event that goes on for its repetitions alone explains nothing that came after its last match.
            if event.type == "end" or event.t_end < course.newest_s:
                for span in course.events:
                    span.end_s = event.t_end if span.id == event.id else span.end_s
            elif event.type == "onset":
                course.events.append(_Span(id=event.id, label=event.label, start_s=event.t_start))
                own = [valley for valley in course.open if valley.label == event.label and not valley.is_told]
                if own:
                    min(own, key=lambda valley: abs(valley.start_s - event.t_start)).is_told = True

    def leave(self, bodies: Iterable[tuple[str, int]]) -> list[Moment]:
        """Take in who is followed still; return the moments of those who are not."""
        found: list[Moment] = []
        if not self._courses:
            return found
        for source, body in self._courses.keys() - {*bodies}:
            found += self._close_all(self._courses.pop((source, body)), source, body)
        return found

    def _thresholds_of(self, index: PrototypeIndex) -> Doubles:
        known, thresholds_K = self._thresholds
        if known is not index:
            min_score = self.config.events.min_score
            thresholds_K = np.array([distance_at_score(min_score, self._curve, float(m)) for m in index.midpoints_K])
            self._thresholds = index, thresholds_K
        return thresholds_K

    def _look(self, decision: Decision, thresholds_K: Doubles, follower: Follower) -> list[Moment]:
        source, body, now_s = decision.source, decision.body, decision.time_s
        near = np.flatnonzero(decision.distances_K < self.config.review.near_miss * thresholds_K)
        course = self._courses.get((source, body))
        if course is None:
            if not len(near):
                return []
            course = self._courses[source, body] = _Course()
        found = []
        if now_s < course.newest_s:  # another epoch: what was seen before is over
            found = self._close_all(course, source, body)
            course = self._courses[source, body] = _Course()
        course.newest_s = now_s
        course.forget(now_s - _REMEMBERED_S - self.config.events.settle_s)
        for label in near.tolist():
            self._lower(decision, label, float(thresholds_K[label]), course, follower)
        settled_s = now_s - self.config.events.settle_s - _LATER_S
        for valley in [valley for valley in course.open if valley.time_s < settled_s]:
            found += self._close(valley, course, source, body)
        return found

    def _lower(self, decision: Decision, number: int, threshold: float, course: _Course, follower: Follower) -> None:
        """Note a label's distance, if it is the lowest so far in its movement, with what was seen in the window."""
        label, distance = decision.labels[number], float(decision.distances_K[number])
        start_s = decision.windows[int(decision.windows_K[number])].start_s
        own = [valley for valley in course.open if valley.label == label and valley.shows(start_s, decision.time_s)]
        if own:
            valley = own[-1]
        elif any(valley.label == label and valley.shows(start_s, decision.time_s) for valley in course.closed):
            return
        else:
            valley = _Valley(label=label, threshold=threshold)
            course.open.append(valley)
        is_best = decision.match is not None and decision.match.label == label
        valley.num_hits += is_best and distance <= threshold
        if distance < valley.distance:
            valley.distance, valley.start_s, valley.time_s = distance, start_s, decision.time_s
            valley.nearer = "" if is_best or decision.match is None else decision.match.label
            valley.movement = follower.movement(decision.source, decision.body, start_s)

    def _close_all(self, course: _Course, source: str, body: int) -> list[Moment]:
        return [moment for valley in [*course.open] for moment in self._close(valley, course, source, body)]

    def _close(self, valley: _Valley, course: _Course, source: str, body: int) -> list[Moment]:
        """Return what a valley was, or nothing where it is not worth a look."""
        course.open.remove(valley)
        course.closed.append(valley)
        if not valley.is_told and self._is_explained(valley, course):
            return []
        if not valley.is_told and not self._has_room(source, valley.time_s):
            self.num_skipped += 1
            return []
        assert valley.movement is not None
        return [
            Moment(
                label=valley.label,
                source=source,
                body=body,
                movement=valley.movement.from_zero(),
                time_s=valley.time_s,
                score=_score(valley.distance, valley.threshold, self.config.events.min_score, self._curve),
                distance=valley.distance,
                threshold_distance=valley.threshold,
                why=self._why(valley, course),
                nearer=valley.nearer,
            )
        ]

    def _is_explained(self, valley: _Valley, course: _Course) -> bool:
        """Return whether an event says what a valley was, or another label that was too far says more."""
        events = [
            event
            for event in course.events
            if _share(event.start_s, event.end_s, valley.start_s, valley.time_s) > _SAME
        ]
        if any(event.label == valley.label for event in events):
            return True
        if valley.distance <= valley.threshold:
            return False
        others = [other for other in (*course.open, *course.closed) if other.label != valley.label]
        same = [other for other in others if other.shows(valley.start_s, valley.time_s)]
        return bool(events) or any(other.is_told or other.ratio < valley.ratio for other in same)

    def _why(self, valley: _Valley, course: _Course) -> Why:
        if valley.is_told:
            return "told"
        if valley.distance > valley.threshold:
            return "threshold"
        if valley.nearer:
            return "nearer"
        if valley.num_hits < self.config.events.hits:
            return "few"
        told = any(event.start_s < valley.time_s and event.end_s > valley.start_s for event in course.events)
        return "overlap" if told else "rules"

    def _has_room(self, source: str, time_s: float) -> bool:
        """Count a near miss of a source; return whether it has no more of them in a minute than it may."""
        recent = self._near_misses_s.setdefault(source, deque())
        while recent and not 0 <= time_s - recent[0] < 60:
            recent.popleft()
        if len(recent) >= self.config.review.max_per_minute:
            return False
        recent.append(time_s)
        if len(self._near_misses_s) > _MAX_SOURCES:
            del self._near_misses_s[next(iter(self._near_misses_s))]
        return True


def _score(distance: float, threshold: float, min_score: float, curve: ScoreCurve) -> float:
    """Return the score on the label's own curve, which has `min_score` at its threshold."""
    midpoint = threshold - (distance_at_score(min_score, curve) - curve.midpoint)
    return score_from_distance(distance, curve, midpoint)


def _share(start_s: float, end_s: float, other_start_s: float, other_end_s: float) -> float:
    """Return how much of the shorter of two spans they have in common."""
    common_s = min(end_s, other_end_s) - max(start_s, other_start_s)
    return max(0.0, common_s) / max(1e-9, min(end_s - start_s, other_end_s - other_start_s))
