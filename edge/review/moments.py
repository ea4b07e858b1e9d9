"""Which moments deserve a second look: what was told, and what nearly was. Pure; time is the stream's own.

A label's distance falls and rises again while somebody moves: a valley. Its bottom is a moment to be kept where it
lies below `near_miss` times the label's threshold, once for each movement.

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

# An event may be told so long after the bottom of its valley, and no lower bottom is to come after it.
_SETTLE_S = 1.2
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
    """Hold the lowest place of a label's distance so far, and what was told meanwhile."""

    label: str
    distance: float
    threshold: float
    score: float
    start_s: float
    time_s: float
    nearer: str
    movement: Movement
    num_hits: int = 0
    event: str = ""
    told_until_s: float = -math.inf

    @property
    def ratio(self) -> float:
        """The distance, in thresholds."""
        return self.distance / max(self.threshold, 1e-9)

    def shows(self, start_s: float, end_s: float) -> bool:
        """Return whether a span is of the same movement."""
        return _is_same(self.start_s, max(self.time_s, self.told_until_s), start_s, end_s)


@dataclass(slots=True)
class _Course:
    """Hold what one body did lately: the open valleys by label, and those that were closed."""

    open: dict[str, _Valley] = field(default_factory=dict)
    closed: list[_Valley] = field(default_factory=list)
    told_until_s: float = -math.inf
    newest_s: float = -math.inf


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

    def hear(self, events: Sequence[Event]) -> list[Moment]:
        """Take in events; return as `look`."""
        found: list[Moment] = []
        for event in events:
            course = self._courses.get((event.source, event.body))
            if course is None:
                continue
            if event.type == "onset" and (valley := course.open.get(event.label)) is not None:
                valley.event = event.id
            course.told_until_s = max(course.told_until_s, event.t_end)
            for valley in [*course.open.values()]:
                if valley.event == event.id and event.type == "end":
                    valley.told_until_s = event.t_end
                    found += self._close(valley, course, event.source, event.body)
        return found

    def leave(self, bodies: Iterable[tuple[str, int]]) -> list[Moment]:
        """Take in who is followed still; return as `look`, of those who are not."""
        found: list[Moment] = []
        if not self._courses:
            return found
        for source, body in self._courses.keys() - {*bodies}:
            course = self._courses.pop((source, body))
            for valley in [*course.open.values()]:
                found += self._close(valley, course, source, body)
        return found

    def _thresholds_of(self, index: PrototypeIndex) -> Doubles:
        known, thresholds_K = self._thresholds
        if known is not index:
            min_score = self.config.events.min_score
            thresholds_K = np.array([distance_at_score(min_score, self._curve, float(m)) for m in index.midpoints_K])
            self._thresholds = index, thresholds_K
        return thresholds_K

    def _look(self, decision: Decision, thresholds_K: Doubles, follower: Follower) -> list[Moment]:
        who = decision.source, decision.body
        near: npt.NDArray[np.intp] = np.flatnonzero(decision.distances_K < self.config.review.near_miss * thresholds_K)
        course = self._courses.get(who)
        if course is None:
            if not len(near):
                return []
            course = self._courses[who] = _Course()
        found = []
        if decision.time_s < course.newest_s:  # another epoch: what was seen before is over
            for valley in [*course.open.values()]:
                found += self._close(valley, course, *who)
            course = self._courses[who] = _Course()
        course.newest_s = decision.time_s
        for label in near.tolist():
            found += self._lower(decision, label, float(thresholds_K[label]), course, follower)
        for valley in [*course.open.values()]:
            if not valley.event and decision.time_s - valley.time_s > _SETTLE_S:
                found += self._close(valley, course, *who)
        return found

    def _lower(
        self, decision: Decision, number: int, threshold: float, course: _Course, follower: Follower
    ) -> list[Moment]:
        """Note a label's distance where it is a valley's lowest so far; close the valley of an earlier movement."""
        label, distance = decision.labels[number], float(decision.distances_K[number])
        start_s, found = decision.windows[int(decision.windows_K[number])].start_s, []
        valley = course.open.get(label)
        is_best = decision.match is not None and decision.match.label == label
        is_hit = is_best and distance <= threshold
        if valley is not None and not valley.event and not valley.shows(start_s, decision.time_s):
            found = self._close(valley, course, decision.source, decision.body)
            valley = None
        if valley is None and any(v.label == label and v.shows(start_s, decision.time_s) for v in course.closed):
            return found
        if valley is None or distance < valley.distance:
            nearer = "" if is_best or decision.match is None else decision.match.label
            lowest = _Valley(
                label=label,
                distance=distance,
                threshold=threshold,
                score=_score(distance, threshold, self.config.events.min_score, self._curve),
                start_s=start_s,
                time_s=decision.time_s,
                nearer=nearer,
                movement=follower.movement(decision.source, decision.body, start_s),
                num_hits=0 if valley is None else valley.num_hits,
                event="" if valley is None else valley.event,
            )
            course.open[label] = valley = lowest
        valley.num_hits += is_hit
        return found

    def _close(self, valley: _Valley, course: _Course, source: str, body: int) -> list[Moment]:
        """Return what a valley was, or nothing where it is not worth a look."""
        del course.open[valley.label]
        course.closed = [v for v in course.closed if v.time_s > valley.time_s - _REMEMBERED_S]
        others = [v for v in (*course.open.values(), *course.closed) if v.label != valley.label]
        course.closed.append(valley)
        if not valley.event and valley.distance > valley.threshold:
            # Of labels that were all too far, the nearest says enough about a movement, and an event says all.
            same = [other for other in others if other.shows(valley.start_s, valley.time_s)]
            if any(other.event or other.ratio < valley.ratio for other in same):
                return []
        if not valley.event and not self._has_room(source, valley.time_s):
            self.num_skipped += 1
            return []
        return [
            Moment(
                label=valley.label,
                source=source,
                body=body,
                movement=valley.movement.from_zero(),
                time_s=valley.time_s,
                score=valley.score,
                distance=valley.distance,
                threshold_distance=valley.threshold,
                why=self._why(valley, course),
                nearer=valley.nearer,
            )
        ]

    def _why(self, valley: _Valley, course: _Course) -> Why:
        if valley.event:
            return "told"
        if valley.distance > valley.threshold:
            return "threshold"
        if valley.nearer:
            return "nearer"
        if valley.num_hits < self.config.events.hits:
            return "few"
        told = [other for other in course.closed if other.event and other.shows(valley.start_s, valley.time_s)]
        return "overlap" if told or valley.start_s < course.told_until_s else "rules"

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


def _is_same(start_s: float, end_s: float, other_start_s: float, other_end_s: float) -> bool:
    common_s = min(end_s, other_end_s) - max(start_s, other_start_s)
    return common_s > _SAME * max(1e-9, min(end_s - start_s, other_end_s - other_start_s))
