"""Which frames are taken, and the count of each one that is not."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field

from edge.config import Stream
from edge.protocol import SourceStatus
from streams.frame import SkeletonFrame
from streams.units import LIMB_M, limb_length_m
from streams.wire import MAX_NAME

# Names are the sender's choice: beyond this many, new ones are refused, so that memory stays bounded;
# one that was silent for this long makes room.
_MAX_SOURCES = 64
_FORGET_S = 60.0
# A sequence that leaps farther was numbered anew: ten hours of frames were not lost on the way.
_MAX_LEAP = 1_000_000
# So many frames in a row whose time does not rise are a clock that was set back, not late frames.
_CLOCK_RESTART_FRAMES = 30
# Times that lie farther apart are of two clocks, such as one since 1970 and one since the boot.
_MAX_APART_S = 3600.0
# First refusals that nobody took yet.
_MAX_REFUSALS = 64


@dataclass(slots=True)
class _Source:
    """Follow one source; `epoch` is "" while nothing but frames that were refused came under its name."""

    epoch: str
    seq: int
    timestamp_s: float
    arrival_s: float
    taken_s: float = -math.inf
    is_metric: bool = False
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
class Refusal:
    """Tell the first frame of a source that was refused for a reason, in words."""

    source: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Tell what came from each source, and count the messages of no known source that were dropped, by reason."""

    sources: dict[str, SourceStatus]
    dropped: dict[str, int]


class Intake:
    """Follow each source's epoch, sequence and time; drop and count what cannot be used.

    Reasons counted here: wrong_clock, too_old, time_still, time_backwards, too_fast, not_metres, duplicate_source,
    too_many_sources. The wire's codes join them. A time that jumped back for good is a restart, no reason to drop. How
    old a frame is can only be told of one that was sent by the clock `clock_name`, this machine's own. A source is in
    meters once the limbs of a body say so; until then each body is looked at.
    """

    def __init__(self, config: Stream, *, clock_name: str = "") -> None:
        self.config = config
        self._clock_name = clock_name
        self._sources: dict[str, _Source] = {}
        self._unknown: Counter[str] = Counter()
        self._refusals: deque[Refusal] = deque(maxlen=_MAX_REFUSALS)

    def accept(self, frame: SkeletonFrame, now_s: float) -> bool:
        """Return whether the frame is to be used; `now_s` is this machine's monotonic clock at its arrival."""
        source = self._sources.get(frame.source)
        if source is None:
            if len(self._sources) >= _MAX_SOURCES and not self._forget_one(now_s):
                self._refuse(self._unknown, frame, "too_many_sources", f"expected at most {_MAX_SOURCES} sources")
                return False
            source = _Source("", frame.seq - 1, -math.inf, now_s)
            self._sources[frame.source] = source
        if frame.epoch != source.epoch:
            if source.epoch and now_s - source.arrival_s < self.config.takeover_s:
                self._refuse(
                    source.dropped, frame, "duplicate_source", "another program publishes under this name already"
                )
                return False
            source.epoch, source.seq, source.timestamp_s = frame.epoch, frame.seq - 1, -math.inf
            source.is_metric = False
        num_missing = frame.seq - source.seq - 1
        source.num_lost += num_missing if 0 < num_missing <= _MAX_LEAP else 0
        source.seq = max(source.seq, frame.seq)
        source.arrival_s = now_s
        if (
            refused := self._clock_refusal(frame, now_s)
            or self._time_refusal(source, frame)
            or _unit_refusal(source, frame)
        ):
            self._refuse(source.dropped, frame, *refused)
            return False
        self._take(source, frame, now_s)
        return True

    def _clock_refusal(self, frame: SkeletonFrame, now_s: float) -> tuple[str, str] | None:
        """Return the reason and the words for which a frame's clocks cannot be right, or it is too old."""
        apart_s = frame.t_send_s - frame.timestamp_s
        if abs(apart_s) > _MAX_APART_S:
            return "wrong_clock", f"t_send is {apart_s:.0f} s after timestamp: expected both of one monotonic clock"
        if not frame.clock or frame.clock != self._clock_name:
            return None
        age_s = now_s - frame.t_send_s
        if abs(age_s) > _MAX_APART_S:
            return "wrong_clock", f"it was sent {age_s:.0f} s ago by the clock {frame.clock!r}: is that its clock?"
        if age_s > self.config.max_age_s:
            return (
                "too_old",
                f"it waited {age_s:.1f} s, expected at most {self.config.max_age_s:g}: the machine is too slow",
            )
        return None

    def _time_refusal(self, source: _Source, frame: SkeletonFrame) -> tuple[str, str] | None:
        """Return the reason and the words for which a frame's time does not follow the one before it."""
        step_s = frame.timestamp_s - source.timestamp_s
        if step_s == 0:
            source.num_stale += 1
            return "time_still", f"its timestamp is that of the frame before, {frame.timestamp_s:.3f} s"
        if step_s < 0:
            source.num_stale += 1
            if source.num_stale < _CLOCK_RESTART_FRAMES:
                return "time_backwards", f"its timestamp is {-step_s:.3f} s earlier than the one before"
        elif step_s < 0.98 / self.config.max_rate_fps:
            return (
                "too_fast",
                f"{1000 * step_s:.1f} ms after the one before: expected at most {self.config.max_rate_fps:g} fps",
            )
        return None

    def _take(self, source: _Source, frame: SkeletonFrame, now_s: float) -> None:
        step_s = frame.timestamp_s - source.timestamp_s
        if step_s < 0:
            source.num_restarts += 1
        elif step_s < math.inf:
            # The period is smoothed, not the rate, whose mean jitter drives up. A pause counts, or a
            # rate that collapses would not show.
            step_s = min(step_s, self.config.max_gap_s)
            source.period_s += 0.05 * (step_s - source.period_s) if source.period_s else step_s
        source.num_stale = 0
        source.seq, source.timestamp_s, source.taken_s = frame.seq, frame.timestamp_s, now_s
        source.num_frames += 1

    def _refuse(self, dropped: Counter[str], frame: SkeletonFrame, reason: str, message: str) -> None:
        dropped[reason] += 1
        if dropped[reason] == 1:
            self._refusals.append(Refusal(source=frame.source, reason=reason, message=message))

    def take_refusals(self) -> list[Refusal]:
        """Return, once, what was refused of each source for a reason for the first time."""
        taken = list(self._refusals)
        self._refusals.clear()
        return taken

    def _forget_one(self, now_s: float) -> bool:
        """Make room: a name under which no frame was ever taken goes first."""
        name = min(self._sources, key=lambda name: (self._sources[name].num_frames > 0, self._sources[name].arrival_s))
        if self._sources[name].num_frames and now_s - self._sources[name].arrival_s < _FORGET_S:
            return False
        del self._sources[name]
        return True

    def drop(self, name: str | None, reason: str, now_s: float) -> None:
        """Count a message that was refused before it became a frame, under the source that its topic names."""
        source = self._sources.get(name) if name is not None else None
        is_name = name is not None and 0 < len(name) <= MAX_NAME and name.isprintable()
        if source is None and name is not None and is_name and len(self._sources) < _MAX_SOURCES:
            source = self._sources[name] = _Source("", -1, -math.inf, now_s)
        if source is None:
            self._unknown[reason] += 1
            return
        source.seq += 1  # it had a number of its own, and is not to count as lost on the way as well
        source.dropped[reason] += 1
        if not source.epoch:
            source.arrival_s = now_s

    def num_dropped(self, source: str) -> int:
        """Return how many frames of a source were dropped or lost so far."""
        known = self._sources.get(source)
        return known.num_lost + sum(known.dropped.values()) if known is not None else 0

    def rate_fps(self, source: str) -> float:
        """Return a source's rate, smoothed over about twenty frames; 0 before it is known."""
        known = self._sources.get(source)
        return known.fps if known is not None else 0.0

    def status(self, now_s: float) -> Arrivals:
        """Return what was taken, lost on the way (gaps in `seq`) and dropped; who is silent has no rate."""
        rates_fps = {
            name: source.fps if now_s - source.taken_s <= self.config.takeover_s else 0.0
            for name, source in self._sources.items()
        }
        sources = {
            name: SourceStatus(
                epoch=source.epoch,
                frames=source.num_frames,
                fps=round(rates_fps[name], 1),
                slow=0 < rates_fps[name] < self.config.min_rate_fps,
                age_s=round(now_s - source.arrival_s, 3),
                lost=source.num_lost,
                restarts=source.num_restarts,
                dropped=dict(source.dropped),
            )
            for name, source in self._sources.items()
        }
        return Arrivals(sources=sources, dropped=dict(self._unknown))


def _unit_refusal(source: _Source, frame: SkeletonFrame) -> tuple[str, str] | None:
    """Return the reason and the words for which a frame cannot be in meters: none of its bodies has limbs of people."""
    if source.is_metric:
        return None
    lengths_m = [length_m for body in frame.bodies if (length_m := limb_length_m(body, frame.layout)) is not None]
    if not lengths_m:
        return None
    shortest_m, longest_m = LIMB_M
    source.is_metric = any(shortest_m <= length_m <= longest_m for length_m in lengths_m)
    if source.is_metric:
        return None
    return "not_metres", (
        f"upper and lower arms and legs are {lengths_m[0]:.3g} m long: expected {shortest_m:g} to {longest_m:g} m; "
        "send meters (centimeters / 100), not pixels or shares of a picture"
    )
