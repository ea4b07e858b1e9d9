"""The cameras `demo` and `replay`: frames that are known beforehand, given when their time comes."""

from __future__ import annotations

import math
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import zmq

from streams.cameras.camera import CameraState, Note, Refused
from streams.clock import clock_name
from streams.errors import CameraError
from streams.frame import SkeletonFrame
from streams.performer import ACTIONS, Performer

# A camera that the daemon could not read for so long goes on from now, instead of catching up.
_MAX_LAG_S = 1.0


class TimedFrames(Protocol):
    """Give frames whose timestamps count from 0."""

    def frame(self) -> SkeletonFrame | None:
        """Return the next frame, None at the end."""

    def cue(self, label: str, after_s: float) -> bool: ...


class DemoFrames:
    """Give the built-in performer's frames; synthetic, see streams.performer. A seed repeats them."""

    def __init__(self, seed: int) -> None:
        self._performer = Performer(seed=seed)

    def frame(self) -> SkeletonFrame | None:
        return self._performer.frame()

    def cue(self, label: str, after_s: float) -> bool:
        # Otherwise whatever it does next would be enrolled under this label.
        if not self._performer.cue(label.strip().lower(), after_s):
            raise CameraError(
                f"the demo camera's performer does not know {label!r}: expected one of {', '.join(ACTIONS)}",
                code="unknown_action",
                hint="Your own actions need a real camera: --camera zmq.",
            )
        return True


class ReplayFrames:
    """Give a file's frames."""

    def __init__(self, frames: Iterator[SkeletonFrame]) -> None:
        self._frames = frames

    def frame(self) -> SkeletonFrame | None:
        return next(self._frames, None)

    def cue(self, label: str, after_s: float) -> bool:
        return False


class PacedCamera:
    """Give timed frames when their time comes, stamped with this machine's clock."""

    def __init__(self, frames: TimedFrames) -> None:
        self._frames = frames
        self._epoch = uuid.uuid4().hex
        self._num_frames: Counter[str] = Counter()
        self._next = frames.frame()
        self._start_s = time.monotonic() - (self._next.timestamp_s if self._next else 0.0)

    @property
    def socket(self) -> zmq.Socket[bytes] | None:
        return None

    def wait_s(self, now_s: float) -> float:
        return max(0.0, self._start_s + self._next.timestamp_s - now_s) if self._next else math.inf

    def read(self, now_s: float, limit: int) -> list[SkeletonFrame | Refused]:
        due: list[SkeletonFrame | Refused] = []
        if self._next and now_s - self._start_s - self._next.timestamp_s > _MAX_LAG_S:
            self._start_s = now_s - self._next.timestamp_s
        while self._next and len(due) < limit and self._start_s + self._next.timestamp_s <= now_s:
            due.append(
                replace(
                    self._next,
                    epoch=self._epoch,
                    seq=self._num_frames[self._next.source],
                    timestamp_s=self._start_s + self._next.timestamp_s,
                    t_send_s=now_s,
                    clock=clock_name(),
                )
            )
            self._num_frames[self._next.source] += 1
            self._next = self._frames.frame()
        return due

    def cue(self, label: str, after_s: float) -> bool:
        return self._frames.cue(label, after_s)

    def state(self, now_s: float) -> CameraState | None:
        return None

    def take_notes(self) -> list[Note]:
        return []

    def close(self) -> None:
        return
