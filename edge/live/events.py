"""The life of a body's events: from matches to onset, updates and end. Pure; time is the stream's own."""

from __future__ import annotations

import math
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Literal

from edge.config import Events
from edge.live.decision import Match


@dataclass(slots=True, kw_only=True)
class Active:
    """Hold an event that goes on: its best match, and when it began, was last matched and last told.

    `count`, `progress`: the repetitions so far, and how far the newest is, 0 to 1, as whoever counts them sets it.
    `is_kept`: not matched any more, but its action repeats.
    """

    match: Match
    t_start_s: float
    last_hit_s: float
    last_told_s: float
    id: str
    count: int = 1
    told_count: int = 1
    progress: float | None = None
    is_kept: bool = False


# So much of a window may be what an event before it already explained: people do not rest between two actions.
_MAX_OVERLAP = 0.4
# Decisions agree that are so near in time.
_AGREE_S = 1.2
_MAX_HITS = 64
# Decisions come a little early or late.
_TOLERANCE_S = 1e-3

Told = tuple[Literal["onset", "update", "end"], Active]


class BodyEvents:
    """Follow one body: at most one event at a time, and no movement is told twice.

    While an action is done, the distance of its label falls, is least where the window holds just the action, and
    rises again. An event begins when `hits` decisions agree on a label, or `settle_s` after the nearest of them, once
    nothing nearer has come. Its window has to lie mostly after the event before it: what was explained is not
    explained again. The event goes on while its label is matched and stays near the lowest distance; a second
    time the same action comes nearest, it is another event. While its action repeats, an event does not end, though
    it is not matched any more; what is matched again is another event still.
    """

    def __init__(self) -> None:
        self.active: Active | None = None
        self._nearest: tuple[Match, float] | None = None
        self._hits: deque[tuple[float, str]] = deque(maxlen=_MAX_HITS)
        self._explained_until_s = -math.inf

    def follow(self, match: Match | None, now_s: float, config: Events, *, repeats: bool = False) -> list[Told]:
        """Take in the match of a decision, or that there is none; return what is to be told.

        `repeats`: the action of the event that goes on is done again and again.
        """
        told = self._go_on(match, now_s, config, repeats=repeats)
        if match is not None and match.score >= config.min_score:
            self._consider(match, now_s)
        return told + self._settle(now_s, config, config.settle_s)

    def finish(self, now_s: float, config: Events, *, begins: bool = True) -> list[Told]:
        """End what goes on, as the body is followed no more; where it `begins`, tell what came nearest until then."""
        told = self._settle(now_s, config, 0.0) if begins else []
        if self.active is not None:
            told.append(self._end(self.active))
        return told

    def _settle(self, now_s: float, config: Events, settle_s: float) -> list[Told]:
        """Begin an event with a match that was the nearest for so long, if enough decisions agree."""
        if self._nearest is None or now_s - self._nearest[1] < settle_s - _TOLERANCE_S:
            return []
        told: list[Told] = []
        match, found_s = self._nearest
        self._nearest = None
        if not self._is_new(match, found_s):
            # While it waited, the event that went on explained it.
            return []
        num_hits = sum(label == match.label and at_s >= found_s - _AGREE_S for at_s, label in self._hits)
        if num_hits >= config.hits:
            if self.active is not None:
                told.append(self._end(self.active))
            self.active = Active(
                match=match, t_start_s=match.t_start_s, last_hit_s=found_s, last_told_s=now_s, id=str(uuid.uuid4())
            )
            self._explained_until_s = found_s
            self._hits.clear()
            told.append(("onset", self.active))
        return told

    def _go_on(self, match: Match | None, now_s: float, config: Events, *, repeats: bool) -> list[Told]:
        active = self.active
        if active is None:
            return []
        is_news = active.count > active.told_count
        if not active.is_kept and match is not None and _is_held(active, match, config):
            active.last_hit_s = self._explained_until_s = now_s
            if match.distance < active.match.distance:
                active.match = match
            is_news |= now_s - active.last_told_s >= config.update_s
        elif now_s - active.last_hit_s > config.release_s:
            if not repeats:
                return [self._end(active)]
            is_news |= not active.is_kept or now_s - active.last_told_s >= config.update_s
            active.is_kept = True
        if not is_news:
            return []
        active.last_told_s, active.told_count = now_s, active.count
        return [("update", active)]

    def _end(self, active: Active) -> Told:
        self.active = None
        return "end", active

    def _consider(self, match: Match, now_s: float) -> None:
        if not self._is_new(match, now_s):
            return
        self._hits.append((now_s, match.label))
        if self._nearest is None or _margin(match) < _margin(self._nearest[0]):
            self._nearest = match, now_s

    def _is_new(self, match: Match, found_s: float) -> bool:
        """Whether enough of a match's window lies after what was explained already."""
        overlap_s = _MAX_OVERLAP * (found_s - match.t_start_s)
        return match.t_start_s >= self._explained_until_s - overlap_s


def _margin(match: Match) -> float:
    """Return how far the match is from its label's own threshold; less is nearer."""
    return match.distance - match.threshold_distance


def _is_held(active: Active, match: Match, config: Events) -> bool:
    rise = match.distance - active.match.distance
    return (
        match.label == active.match.label
        and match.score >= config.min_score
        and rise <= config.hold_rise * match.threshold_distance
    )
