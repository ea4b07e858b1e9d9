"""One example from the live stream or a file: stillness, countdown, capture, trim, quality check.

Shapes: L frames, V = 25 kinect25 joints, C = 3, meters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge.config import Config
from edge.motion import REST_M_S, extremity_speed_m_s, moved_most, travel_m, trim_rest
from edge.protocol import JointPath, Likeness, Preview, WordsCount
from streams.arrays import Array
from streams.errors import CrossGLGError, EnrollError
from streams.frame import Body, SkeletonFrame
from streams.movement import Movement

# Grace for a person who steps into view when the capture has begun.
NOBODY_S = 1.5
# Whoever rests so long stands still; the last frame of it came up to a frame ago.
_STILL_S, _FRAME_S = 0.5, 0.15
_NOBODY = "nobody is in view"
State = Literal["stillness", "countdown", "capture", "captured", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrimmedExample:
    """Hold one example without the rest before and after it.

    `trimmed_s`: what was cut at both ends, seconds. `notes`: what a person should know of its capture.
    """

    movement: Movement
    trimmed_s: tuple[float, float]
    notes: tuple[str, ...] = ()

    def preview(
        self, label: str, *, similar: Likeness | None = None, words: WordsCount = "off", notes: Sequence[str] = ()
    ) -> Preview:
        """Return what a person wants to know about the example."""
        movement = self.movement
        return Preview(
            label=label,
            duration_s=round(movement.duration_s, 3),
            frames=len(movement),
            fps=round(movement.fps, 1),
            joints=round(movement.joints_seen, 3),
            trimmed_s=(round(self.trimmed_s[0], 3), round(self.trimmed_s[1], 3)),
            motion_m=round(travel_m(movement.joints_m), 3),
            moved=tuple(JointPath(joint=joint, path_m=round(path_m, 2)) for joint, path_m in moved_most(movement)),
            similar=similar,
            words=words,
            notes=tuple(notes),
        )


def example_from_capture(movement: Movement, config: Config, *, trim: bool = True) -> TrimmedExample:
    """Trim the rest at both ends, if wanted, and check the quality.

    Raises EnrollError: too_short, too_long, or low_quality, with the measured value and the bound.
    """
    if len(movement) < 2:
        raise EnrollError(f"{len(movement)} frames were captured: expected at least 2", code="too_short")
    way_m = travel_m(movement.joints_m)
    if way_m < config.windows.min_motion_m:
        raise EnrollError(
            f"nothing moved: the hands, feet and head stayed within {way_m:.2f} m, "
            f"expected more than {config.windows.min_motion_m:g} m",
            code="low_quality",
            hint="Do the action once after the countdown; events are about movements, not poses.",
        )
    kept, times_s = trim_rest(movement) if trim else slice(0, len(movement)), movement.timestamps_s
    example = TrimmedExample(
        movement=movement.part(kept),
        trimmed_s=(float(times_s[kept.start] - times_s[0]), float(times_s[-1] - times_s[kept.stop - 1])),
    )
    duration_s = example.movement.duration_s
    if duration_s < config.enroll.min_example_s:
        raise EnrollError(
            f"the movement lasts {duration_s:.2f} s: expected at least {config.enroll.min_example_s:g} s",
            code="too_short",
            hint="Do the action at its normal speed, from rest to rest.",
        )
    _check_fits(duration_s, config)
    check_rate_and_joints(round(example.movement.fps, 1), round(example.movement.joints_seen, 3), config)
    return example


def check_rate_and_joints(fps: float, joints: float, config: Config) -> None:
    """Raise EnrollError("low_quality") where frames came too slowly, or too small a share of the joints was seen."""
    for what, value, bound in (
        ("frames per second", fps, config.stream.min_rate_fps),
        ("share of joints seen", joints, config.enroll.min_joints),
    ):
        if value < bound:
            raise EnrollError(
                f"{what}: {value:g}, expected at least {bound:g}",
                code="low_quality",
                hint="Stand in full view of the camera; `crossglg-edge status` shows the rate that arrives.",
            )


def _check_fits(duration_s: float, config: Config) -> None:
    """Refuse an example that no window is compared with: it would be stored and never recognized."""
    lengths_s, stretch = config.windows.lengths_s, config.windows.max_stretch
    if any(1 / stretch <= length_s / duration_s <= stretch for length_s in lengths_s):
        return
    raise EnrollError(
        f"the movement lasts {duration_s:.2f} s: expected {min(lengths_s) / stretch:.2f} to "
        f"{max(lengths_s) * stretch:.2f} s, {stretch:g} times shorter or longer than a window",
        code="too_short" if duration_s < min(lengths_s) else "too_long",
        hint="Show the one movement alone, or set windows.lengths_s in the config to its length.",
    )


class Enrollment:
    """Capture one example from the live stream, told the frames and this machine's clock.

    States: stillness -> countdown -> capture -> captured (`movement` and, trimmed, `example` are there) or failed
    (`error` is there). Without a countdown the capture begins at once, without stillness either. `message`: what a
    person should know now. `notes`: what they should know afterwards.
    """

    def __init__(
        self,
        label: str,
        config: Config,
        *,
        now_s: float,
        countdown_s: float,
        source: str | None = None,
        body: int | None = None,
    ) -> None:
        self.label = label
        self.source = source
        self.body = body
        self.state: State = "stillness" if countdown_s and config.enroll.stillness_s else "countdown"
        self.movement: Movement | None = None
        self.example: TrimmedExample | None = None
        self.error: CrossGLGError | None = None
        self.message = _NOBODY if self.state == "stillness" else ""
        self.notes: list[str] = []
        self._config = config
        self._countdown_s = countdown_s
        self._until_s = now_s + (config.enroll.stillness_s if self.state == "stillness" else countdown_s)
        self._last: deque[tuple[float, Array]] = deque()
        self._timestamps_s: list[float] = []
        self._joints_m: list[Array] = []
        self._checked = 0
        self._seen: tuple[str, int] | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to come: an example was captured, or why not is known."""
        return self.state in ("captured", "failed")

    @property
    def seen_source(self) -> str:
        """Name the source that the example was captured from."""
        return self._seen[0] if self._seen else ""

    def left_s(self, now_s: float) -> float:
        """Return the seconds left in the present state, at most."""
        return max(0.0, self._until_s - now_s)

    def step(self, frames: Sequence[SkeletonFrame], now_s: float) -> None:
        """Take in the frames (kinect25) that came, and go on to the next state when it is time."""
        frames = [frame for frame in frames if self.source in (None, frame.source)]
        if self.state == "stillness":
            for frame in frames:
                self._watch(frame)
            self._count_down_when_still(now_s)
        elif self.state == "countdown" and now_s >= self._until_s:
            self.state, self.message, self._seen = "capture", "", None
            self._until_s += self._config.enroll.capture_s
        if self.state == "capture":
            try:
                self._capture(frames, now_s)
            except CrossGLGError as error:
                self.state, self.error = "failed", error

    def _watch(self, frame: SkeletonFrame) -> None:
        """Keep the last half second of the person in view, as long as it is one, and the same."""
        bodies = self._choose_bodies(frame)
        if len(bodies) != 1:
            self._last.clear()
            self.message = "more than one person is in view" if bodies else _NOBODY
            return
        self.message = ""
        seen = (frame.source, bodies[0].id)
        if self._seen != seen or (self._last and frame.timestamp_s <= self._last[-1][0]):
            self._last.clear()
        self._seen = seen
        self._last.append((frame.timestamp_s, bodies[0].joints_m))
        while self._last[-1][0] - self._last[0][0] > _STILL_S:
            self._last.popleft()

    def _count_down_when_still(self, now_s: float) -> None:
        is_still = False
        if self._last and self._last[-1][0] - self._last[0][0] > _STILL_S - _FRAME_S:
            timestamps_s, joints_m = zip(*self._last, strict=True)
            is_still = extremity_speed_m_s(np.array(timestamps_s), np.array(joints_m)).max() <= REST_M_S
            self.message = "" if is_still else "you are moving"
        if not is_still:
            if now_s < self._until_s:
                return
            self.message = f"{self.message or 'too few frames came'}: counted down all the same"
            self.notes.append(self.message)
        self.state, self._until_s = "countdown", now_s + self._countdown_s

    def _choose_bodies(self, frame: SkeletonFrame) -> list[Body]:
        return [body for body in frame.bodies if self.body is None or body.id == self.body]

    def _capture(self, frames: Sequence[SkeletonFrame], now_s: float) -> None:
        for frame in frames:
            self._take(frame)
        waited_s = self._config.enroll.capture_s - (self._until_s - now_s)
        if not self._timestamps_s and waited_s >= min(NOBODY_S, self._config.enroll.capture_s):
            raise nobody_seen(self.source, self.body)
        if now_s >= self._until_s or self._has_come_to_rest():
            movement = Movement(timestamps_s=np.array(self._timestamps_s), joints_m=np.array(self._joints_m))
            self.movement = movement.from_zero()
            self.example = example_from_capture(self.movement, self._config)
            self.state = "captured"

    def _take(self, frame: SkeletonFrame) -> None:
        bodies = self._choose_bodies(frame)
        if not bodies:
            return
        if len(bodies) > 1 or (self._seen is not None and self._seen[0] != frame.source):
            raise EnrollError(
                f"more than one person is in view: {', '.join(f'body {b.id} of {frame.source}' for b in bodies)}"
                + (f", and one of {self._seen[0]}" if self._seen and self._seen[0] != frame.source else ""),
                code="multiple_bodies",
                hint="Let one person stay in view, or name one with --body ID (and --source NAME).",
            )
        if self._seen is not None and self._seen[1] != bodies[0].id:
            raise EnrollError(
                f"the body changed from {self._seen[1]} to {bodies[0].id} during the capture",
                code="low_quality",
                hint="The tracker lost the person: stay in full view and try again.",
            )
        if self._timestamps_s and frame.timestamp_s <= self._timestamps_s[-1]:
            raise EnrollError("the source's time ran backwards during the capture", code="low_quality",
                              hint="The publisher was restarted: try again.")  # fmt: skip
        self._seen = (frame.source, bodies[0].id)
        self._timestamps_s.append(frame.timestamp_s)
        self._joints_m.append(bodies[0].joints_m)

    def _has_come_to_rest(self) -> bool:
        """Look every tenth of a second whether the person moved and then rested."""
        rest_s = self._config.enroll.rest_s
        if not self._timestamps_s or self._timestamps_s[-1] - self._timestamps_s[0] < rest_s + 0.3:
            return False
        if len(self._timestamps_s) - self._checked < 3:
            return False
        self._checked = len(self._timestamps_s)
        timestamps_s, joints_m = np.array(self._timestamps_s), np.array(self._joints_m)
        speed_m_s = extremity_speed_m_s(timestamps_s, joints_m)
        threshold = max(REST_M_S, 0.25 * float(np.quantile(speed_m_s, 0.95)))
        fast = np.flatnonzero(speed_m_s > threshold)
        return (
            travel_m(joints_m) >= 2 * self._config.windows.min_motion_m
            and len(fast) > 0
            and bool(timestamps_s[-1] - timestamps_s[fast[-1]] >= rest_s)
        )


def nobody_seen(source: str | None, body: int | None) -> EnrollError:
    """Return the error for a capture in which nobody came into view."""
    return EnrollError(
        "nobody was seen" + (f" by {source!r}" if source else "")
        + (f" with body id {body}" if body is not None else ""),
        code="no_body",
        hint="Stand in view of the camera; `crossglg-edge status` shows sources and bodies.",
    )  # fmt: skip


def one_body(frames: Iterable[SkeletonFrame], *, source: str | None = None, body: int | None = None) -> Movement:
    """Return the movement of the one body in a recording.

    Raises EnrollError, multiple_bodies or no_body, where `source` and `body` do not name just one.
    """
    timestamps_s: list[float] = []
    joints_m: list[Array] = []
    seen: set[tuple[str, int]] = set()
    for native in frames:
        if source is not None and native.source != source:
            continue
        frame = native.to_kinect25()
        for person in frame.bodies:
            if body is None or person.id == body:
                seen.add((frame.source, person.id))
                timestamps_s.append(frame.timestamp_s)
                joints_m.append(person.joints_m)
    if len(seen) != 1:
        raise EnrollError(
            f"the recording shows {', '.join(f'body {b} of {s}' for s, b in sorted(seen)) or 'nobody'}: expected one",
            code="multiple_bodies" if seen else "no_body",
            hint="Name one with --source NAME and --body ID." if seen else "",
        )
    return Movement(timestamps_s=np.array(timestamps_s), joints_m=np.array(joints_m))
