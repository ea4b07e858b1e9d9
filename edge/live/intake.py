"""Which frames are taken, and the count of each one that is not."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from edge.config import Stream
from edge.protocol import SourceStatus
from streams.frame import SkeletonFrame

# Names are the sender's choice: beyond this many, new ones are refused, so that memory stays bounded;
# one that was silent for this long makes room.
_MAX_SOURCES = 64
_FORGET_S = 60.0
# A sequence that leaps farther was numbered anew: ten hours of frames were not lost on the way.
_MAX_LEAP = 1_000_000
# So many frames in a row whose time does not rise are a clock that was set back, not late frames.
_CLOCK_RESTART_FRAMES = 30


@dataclass(slots=True)
class _Source:
    epoch: str
    seq: int
    timestamp_s: float
    arrival_s: float
    period_s: float = 0.0
    num_frames: int = 0
    num_lost: int = 0
    num_stale: int = 0
    num_restarts: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def fps(self) -> float:
        return 1 / self.period_s if self.period_s else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Tell what came from each source, and count the messages of no known source that were dropped, by reason."""

    sources: dict[str, SourceStatus]
    dropped: dict[str, int]


class Intake:
    """Follow each source's epoch, sequence and time; drop and count what cannot be used.

    Reasons counted here: too_old, time_still, time_backwards, too_fast, duplicate_source, too_many_sources.
    The wire's codes join them. A time that jumped back for good is a restart, no reason to drop. How old a frame
    is can only be told of one that was sent by the clock `clock_name`, this machine's own.
    """

    def __init__(self, config: Stream, *, clock_name: str = "") -> None:
        self.config = config
        self._clock_name = clock_name
        self._sources: dict[str, _Source] = {}
        self._unknown: Counter[str] = Counter()

    def accept(self, frame: SkeletonFrame, now_s: float) -> bool:
        """Return whether the frame is to be used; `now_s` is this machine's monotonic clock at its arrival."""
        source = self._sources.get(frame.source)
        if source is None:
            if len(self._sources) >= _MAX_SOURCES and not self._forget_one(now_s):
                self._unknown["too_many_sources"] += 1
                return False
            source = _Source(frame.epoch, frame.seq - 1, -math.inf, now_s)
            self._sources[frame.source] = source
        if frame.epoch != source.epoch:
            if now_s - source.arrival_s < self.config.takeover_s:
                source.dropped["duplicate_source"] += 1
                return False
            source.epoch, source.seq, source.timestamp_s = frame.epoch, frame.seq - 1, -math.inf
        num_missing = frame.seq - source.seq - 1
        source.num_lost += num_missing if 0 < num_missing <= _MAX_LEAP else 0
        source.seq = max(source.seq, frame.seq)
        if frame.clock and frame.clock == self._clock_name and now_s - frame.t_send_s > self.config.max_age_s:
            source.dropped["too_old"] += 1
            source.arrival_s = now_s
            return False
        step_s = frame.timestamp_s - source.timestamp_s
        if step_s <= 0:
            source.num_stale += 1
            if source.num_stale < _CLOCK_RESTART_FRAMES or step_s == 0:
                source.dropped["time_still" if step_s == 0 else "time_backwards"] += 1
                source.arrival_s = now_s
                return False
            source.num_restarts += 1
            step_s = math.inf
        elif step_s < 0.98 / self.config.max_rate_fps:
            source.dropped["too_fast"] += 1
            source.arrival_s = now_s
            return False
        source.num_stale = 0
        if step_s < math.inf:
            # The period is smoothed, not the rate, whose mean jitter drives up. A pause counts, or a
            # rate that collapses would not show.
            step_s = min(step_s, self.config.max_gap_s)
            source.period_s += 0.05 * (step_s - source.period_s) if source.period_s else step_s
        source.seq, source.timestamp_s, source.arrival_s = frame.seq, frame.timestamp_s, now_s
        source.num_frames += 1
        return True

    def _forget_one(self, now_s: float) -> bool:
        name = min(self._sources, key=lambda name: self._sources[name].arrival_s)
        if now_s - self._sources[name].arrival_s < _FORGET_S:
            return False
        del self._sources[name]
        return True

    def drop(self, source: str | None, reason: str) -> None:
        """Count a message that was refused before it became a frame."""
        known = self._sources.get(source) if source is not None else None
        if known is not None:
            known.seq += 1  # it had a number of its own, and is not to count as lost on the way as well
        (known.dropped if known is not None else self._unknown)[reason] += 1

    def num_dropped(self, source: str) -> int:
        """Return how many frames of a source were dropped or lost so far."""
        known = self._sources.get(source)
        return known.num_lost + sum(known.dropped.values()) if known is not None else 0

    def rate_fps(self, source: str) -> float:
        """Return a source's rate, smoothed over about twenty frames; 0 before it is known."""
        known = self._sources.get(source)
        return known.fps if known is not None else 0.0

    def status(self, now_s: float) -> Arrivals:
        """Return what was taken, lost on the way (gaps in `seq`) and dropped."""
        sources = {
            name: SourceStatus(
                epoch=source.epoch,
                frames=source.num_frames,
                fps=round(source.fps, 1),
                slow=0 < source.fps < self.config.min_rate_fps,
                age_s=round(now_s - source.arrival_s, 3),
                lost=source.num_lost,
                restarts=source.num_restarts,
                dropped=dict(source.dropped),
            )
            for name, source in self._sources.items()
        }
        return Arrivals(sources=sources, dropped=dict(self._unknown))
