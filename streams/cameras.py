"""What `--camera` names: demo[:SEED], zmq, replay:PATH, k4a. Each gives the daemon frames as they come."""

from __future__ import annotations

import functools
import math
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import zmq

from streams import wire
from streams.errors import CameraError, WireError
from streams.frame import SkeletonFrame
from streams.performer import ACTIONS, Performer
from streams.playback import repeat_frames
from streams.sockets import FrameSubscriber

# A camera that the daemon could not read for so long goes on from now, instead of catching up.
_MAX_LAG_S = 1.0


@functools.cache
def clock_name() -> str:
    """Name this machine's monotonic clock: host and boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}:{boot.read_text().strip() if boot.exists() else uuid.getnode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Stand for a message that is no frame: from whom (None: not known), and the reason to count."""

    source: str | None
    reason: str
    message: str


class Camera(Protocol):
    """Give frames. `now_s` is time.monotonic()."""

    @property
    def socket(self) -> zmq.Socket[bytes] | None:
        """The socket to wait on, or None for a camera that goes by the clock."""

    def wait_s(self, now_s: float) -> float:
        """Return how long the daemon may sleep until the next frame; infinite when none will come."""

    def read(self, now_s: float, limit: int) -> list[SkeletonFrame | Refused]:
        """Return what has come, oldest first, `limit` at most."""

    def cue(self, label: str, after_s: float) -> bool:
        """Tell the performer what to do; false where nobody can be told. Raises CameraError."""

    def close(self) -> None:
        """Let go of the sensor or the socket."""


def open_camera(name: str, *, frames_endpoint: str, loop: bool = True) -> Camera:
    """Open the camera that a user named. Raises CameraError that lists the names."""
    if name == "zmq":
        return ZmqCamera(frames_endpoint)
    if name == "demo":
        return PacedCamera(DemoFrames(int(time.time())))
    if name.startswith("demo:") and name.removeprefix("demo:").isdecimal():
        return PacedCamera(DemoFrames(int(name.removeprefix("demo:"))))
    if name.startswith("replay:"):
        frames = repeat_frames(name.removeprefix("replay:"), loop=loop)
        return PacedCamera(ReplayFrames(frames))
    if name == "k4a":
        return open_k4a()
    raise CameraError(
        f"camera {name!r} is not known: expected demo, demo:SEED, zmq, replay:PATH or k4a",
        hint="demo needs nothing; zmq takes frames that a program publishes.",
    )


class ZmqCamera:
    """Take frames from publishers over ZeroMQ."""

    def __init__(self, endpoint: str) -> None:
        self._subscriber = FrameSubscriber(endpoint)

    @property
    def socket(self) -> zmq.Socket[bytes] | None:
        return self._subscriber.socket

    def wait_s(self, now_s: float) -> float:
        return 3600.0

    def read(self, now_s: float, limit: int) -> list[SkeletonFrame | Refused]:
        return [_frame_from_parts(parts) for parts in self._subscriber.receive(limit)]

    def cue(self, label: str, after_s: float) -> bool:
        return False

    def close(self) -> None:
        self._subscriber.close()


def _frame_from_parts(parts: list[bytes]) -> SkeletonFrame | Refused:
    topic = parts[0].decode("utf-8", "replace")
    if not topic.startswith(wire.FRAME_TOPIC):
        message = f"topic {topic[: wire.MAX_NAME]!r}: expected {wire.FRAME_TOPIC}<source>"
        return Refused(source=None, reason="bad_topic", message=message)
    source = topic.removeprefix(wire.FRAME_TOPIC)[: wire.MAX_NAME]
    try:
        if len(parts) != 2:
            raise WireError(f"a message of {len(parts)} parts: expected topic and frame", code="bad_parts")
        frame = wire.decode_frame(parts[1])
        if frame.source != source:
            raise WireError(f"topic names {source!r}, the frame {frame.source!r}", code="topic_mismatch")
        return frame
    except WireError as error:
        return Refused(source=source, reason=error.code, message=error.message)


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

    def close(self) -> None:
        return


def open_k4a() -> Camera:
    """Open an Azure Kinect (or an Orbbec Femto through its K4A wrapper) with pyk4a.

    Body tracking, which makes skeletons of its depth frames, is not part of this version: once the
    sensor has opened, CameraError says so. Raises CameraError where the package, the SDK or the
    sensor is missing.
    """
    try:
        import pyk4a
    except ImportError as error:
        raise CameraError(
            f"the Azure Kinect SDK's Python package cannot be loaded: {error}",
            code="no_sdk",
            hint="Install it with `pip install 'crossglg-edge[k4a]'` (x86_64); it brings the SDK's libraries.",
        ) from error
    config: Any = pyk4a.Config(color_resolution=pyk4a.ColorResolution.OFF, depth_mode=pyk4a.DepthMode.NFOV_UNBINNED)
    device = pyk4a.PyK4A(config=config)
    try:
        device.start()
    except pyk4a.K4AException as error:
        raise CameraError(
            f"no Azure Kinect could be opened: {error or type(error).__name__}",
            code="no_sensor",
            hint="Is it plugged into USB 3 and powered? On Linux the udev rule 99-k4a.rules gives access. "
            "`--camera demo` runs without a sensor.",
        ) from error
    device.stop()
    raise CameraError(
        "the Azure Kinect was opened, but body tracking is not part of this version",
        code="no_body_tracking",
        hint="Run a body tracker that publishes skeletons (docs/publish.md), and --camera zmq.",
    )
