"""Frames at the pace of the clock: what a camera sees from now on, and a file's frames sent as if they were live."""

from __future__ import annotations

import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from streams.cameras import Camera, Note, Refused
from streams.clock import clock_name
from streams.frame import SkeletonFrame

_READ_LIMIT = 512
_LONGEST_SLEEP_S = 0.01
_LOOK_MS = 50


def wait_until_ready(camera: Camera, tell: Callable[[Note], None] = lambda note: None) -> None:
    """Wait until a camera with a process of its own has something to give; return at once for any other one.

    No frame is taken. `tell` gets what the camera has to say. Raises CameraError where no frame can ever come.
    """
    while camera.socket is not None and camera.state(now_s := time.monotonic()) and camera.wait_s(now_s) < math.inf:
        if camera.socket.poll(_LOOK_MS):
            return
        camera.read(time.monotonic(), 0)
        for note in camera.take_notes():
            tell(note)


def frames_until(
    camera: Camera, end_s: float, tell: Callable[[Note], None] = lambda note: None
) -> Iterator[SkeletonFrame | Refused]:
    """Yield what a camera gives, as it comes, until `end_s` of time.monotonic() or the camera's last frame.

    `tell` gets what the camera has to say meanwhile. Raises CameraError where no frame can ever come.
    """
    while (now_s := time.monotonic()) < end_s and camera.wait_s(now_s) < math.inf:
        yield from camera.read(now_s, _READ_LIMIT)
        for note in camera.take_notes():
            tell(note)
        time.sleep(min(_LONGEST_SLEEP_S, camera.wait_s(now_s)))


def pace_frames(
    frames: Iterable[SkeletonFrame], *, speed: float = 1.0, source: str | None = None
) -> Iterator[SkeletonFrame]:
    """Yield frames, whose timestamps count from 0, when their time comes, as a publisher that just started sends them.

    `speed`: times real time; where that is not 1, the frames' time is not this machine's, so no clock is named.
    `source`: the name to publish under; None: each frame's own.
    """
    epoch, start_s, num_frames = uuid.uuid4().hex, time.monotonic(), Counter[str]()
    clock = clock_name() if speed == 1.0 else ""
    for frame in frames:
        wait_s = start_s + frame.timestamp_s / speed - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        timestamp_s, name = start_s + frame.timestamp_s, source or frame.source
        yield replace(
            frame,
            source=name,
            epoch=epoch,
            seq=num_frames[name],
            timestamp_s=timestamp_s,
            t_send_s=time.monotonic() if clock else timestamp_s,
            clock=clock,
        )
        num_frames[name] += 1
