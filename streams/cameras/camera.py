"""What the daemon asks of a camera, and what it gets from one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import zmq

from streams import wire
from streams.errors import WireError
from streams.frame import SkeletonFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Stand for a message that is no frame: from whom (None: not known), and the reason to count."""

    source: str | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Say something to the log."""

    level: Literal["info", "warning", "error"]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraState:
    """Tell how a camera is that runs in a process of its own.

    `fps`: of the frames that came lately; `age_s`: time since the last one, None before the first. `num_skipped`:
    pictures that came too fast to look at. `last_error`: "" where there was none; `last_lines`: what the process said.
    """

    kind: str
    state: Literal["starting", "runs", "waits", "stopping", "ended", "failed"]
    pid: int | None
    fps: float
    age_s: float | None
    num_restarts: int
    num_skipped: int
    last_error: str
    last_lines: tuple[str, ...]


class Camera(Protocol):
    """Give frames. `now_s` is time.monotonic()."""

    @property
    def socket(self) -> zmq.Socket[bytes] | None:
        """The socket to wait on, or None for a camera that goes by the clock."""

    def wait_s(self, now_s: float) -> float:
        """Return how long the daemon may sleep until the next frame; infinite when none will come."""

    def read(self, now_s: float, limit: int) -> list[SkeletonFrame | Refused]:
        """Return what has come, oldest first, `limit` at most. Raises CameraError where no more can ever come."""

    def cue(self, label: str, after_s: float) -> bool:
        """Tell the performer what to do; false where nobody can be told. Raises CameraError."""

    def state(self, now_s: float) -> CameraState | None:
        """Tell how the camera's own process is; None where it has none."""

    def take_notes(self) -> list[Note]:
        """Return what the log should say since the last time."""

    def close(self) -> None:
        """Let go of the sensor or the socket."""


def frame_from_parts(parts: list[bytes]) -> SkeletonFrame | Refused:
    """Return the frame that a message carries, or why it carries none."""
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
