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
    """Hold an event that goes on: its best match, and when it began, was last matched and last told."""

    match: Match
    t_start_s: float
    last_hit_s: float
    last_told_s: float
    id: str


# So much of a window may be what an event before it already explained: people do not rest between two actions.
_MAX_OVERLAP = 0.4

Told = tuple[Literal["onset", "update", "end"], Active]


class BodyEvents:
    """Follow one body: at most one event at a time, and no movement is told twice.

    An event begins when `hits` of the last `out_of` decisions agree on a label, or one is sure, and the window
    that matches lies mostly after the event before it was last matched: what was explained is not explained
    again. It goes on while a lower score than it took to begin is held.
    """

    def __init__(self, out_of: int) -> None:
        self.active: Active | None = None
        self._recent: deque[str | None] = deque(maxlen=out_of)
        self._ended_s: dict[str, float] = {}
        self._explained_until_s = -math.inf

    def follow(self, match: Match | None, now_s: float, config: Events) -> list[Told]:
        """Take in the match of a decision, or that there is none; return what is to be told."""
        is_hit = match is not None and match.score >= config.min_score
        self._recent.append(match.label if match is not None and is_hit else None)
        active = self.active
        is_held = match is not None and match.score >= config.hold_score * config.min_score
        if active is not None and match is not None and is_held and match.label == active.match.label:
            return self._goes_on(active, match, now_s, config)
        told: list[Told] = []
        begins = match is not None and is_hit and self._may_begin(match, now_s, config)
        if active is not None and (begins or now_s - active.last_hit_s > config.release_s):
            self._ended_s[active.match.label] = now_s
            self.active = None
            told.append(("end", active))
        if begins and match is not None:
            self.active = Active(
                match=match, t_start_s=match.t_start_s, last_hit_s=now_s, last_told_s=now_s, id=str(uuid.uuid4())
            )
            self._explained_until_s = now_s
            told.append(("onset", self.active))
        return told

    def _goes_on(self, active: Active, match: Match, now_s: float, config: Events) -> list[Told]:
        active.last_hit_s = self._explained_until_s = now_s
        if match.score > active.match.score:
            active.match = match
        if now_s - active.last_told_s < config.update_s:
            return []
        active.last_told_s = now_s
        return [("update", active)]

    def _may_begin(self, match: Match, now_s: float, config: Events) -> bool:
        agree = self._recent.count(match.label) >= config.hits or match.score >= config.sure_score
        rested = now_s - self._ended_s.get(match.label, -math.inf) > config.refractory_s
        overlap_s = _MAX_OVERLAP * (now_s - match.t_start_s)
        return agree and rested and match.t_start_s >= self._explained_until_s - overlap_s
