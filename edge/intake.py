"""Which frames are taken, and the count of each one that is not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from edge.config import Stream
from streams.frame import SkeletonFrame

# Names are the sender's choice: beyond this many, new ones are refused, so that memory stays bounded.
_MAX_SOURCES = 64
# So many frames in a row whose time does not rise are a clock that was set back, not late frames.
_CLOCK_RESTART_FRAMES = 30


@dataclass(slots=True)
class _Source:
    epoch: str
    seq: int
    timestamp_s: float
    arrival_s: float
    fps: float = 0.0
    num_frames: int = 0
    num_lost: int = 0
    num_stale: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class Intake:
    """Follow each source's epoch, sequence and time; drop and count what cannot be used.

    Reasons counted here: time_still, time_backwards, time_restarted (not dropped: the time jumped
    back for good), too_fast, duplicate_source, too_many_sources. The wire's codes join them.
    """

    def __init__(self, config: Stream) -> None:
        self.config = config
        self._sources: dict[str, _Source] = {}
        self._unknown: Counter[str] = Counter()

    def accept(self, frame: SkeletonFrame, now_s: float) -> bool:
        """Return whether the frame is to be used; `now_s` is this machine's monotonic clock at its arrival."""
        source = self._sources.get(frame.source)
        if source is None:
            if len(self._sources) >= _MAX_SOURCES:
                self._unknown["too_many_sources"] += 1
                return False
            source = _Source(frame.epoch, frame.seq - 1, -float("inf"), now_s)
            self._sources[frame.source] = source
        if frame.epoch != source.epoch:
            if now_s - source.arrival_s < self.config.takeover_s and source.num_frames:
                source.dropped["duplicate_source"] += 1
                return False
            source.epoch, source.seq, source.timestamp_s = frame.epoch, frame.seq - 1, -float("inf")
        source.num_lost += max(0, frame.seq - source.seq - 1)
        source.seq = max(source.seq, frame.seq)
        step_s = frame.timestamp_s - source.timestamp_s
        if step_s <= 0:
            source.num_stale += 1
            if source.num_stale < _CLOCK_RESTART_FRAMES or step_s == 0:
                source.dropped["time_still" if step_s == 0 else "time_backwards"] += 1
                source.arrival_s = now_s
                return False
            source.dropped["time_restarted"] += 1
            source.seq, step_s = frame.seq, 0.0
        elif step_s < 0.98 / self.config.max_rate_fps:
            source.dropped["too_fast"] += 1
            source.arrival_s = now_s
            return False
        source.num_stale = 0
        if 0 < step_s < self.config.max_gap_s:
            source.fps += 0.05 * (1 / step_s - source.fps) if source.fps else 1 / step_s
        source.timestamp_s, source.arrival_s = frame.timestamp_s, now_s
        source.num_frames += 1
        return True

    def silent(self, now_s: float) -> list[str]:
        """Return the sources from which nothing has come for `takeover_s`."""
        late_s = now_s - self.config.takeover_s
        return [name for name, source in self._sources.items() if source.arrival_s < late_s]

    def drop(self, source: str | None, reason: str) -> None:
        """Count a message that was refused before it became a frame."""
        known = self._sources.get(source) if source is not None else None
        (known.dropped if known is not None else self._unknown)[reason] += 1

    def num_dropped(self, source: str) -> int:
        """Return how many frames of a source were dropped or lost so far."""
        known = self._sources.get(source)
        return known.num_lost + sum(known.dropped.values()) if known is not None else 0

    def rate_fps(self, source: str) -> float:
        """Return a source's rate, smoothed over about twenty frames; 0 before it is known."""
        known = self._sources.get(source)
        return known.fps if known is not None else 0.0

    def status(self, now_s: float) -> dict[str, Any]:
        """Return per source the frames taken, lost on the way (gaps in `seq`) and dropped, by reason."""
        return {
            "sources": {
                name: {
                    "epoch": source.epoch,
                    "frames": source.num_frames,
                    "fps": round(source.fps, 1),
                    "slow": 0 < source.fps < self.config.min_rate_fps,
                    "age_s": round(now_s - source.arrival_s, 3),
                    "lost": source.num_lost,
                    "dropped": dict(source.dropped),
                }
                for name, source in self._sources.items()
            },
            "dropped": dict(self._unknown),
        }
