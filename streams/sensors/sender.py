"""The sensor's side: frames, signs of life and errors, sent to the camera that began this process."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Literal, NoReturn

import msgspec
import zmq

from streams import wire
from streams.clients import connect, terminate
from streams.clock import clock_name
from streams.frame import Body, SkeletonFrame
from streams.layouts import layout_by_name
from streams.sensors.start import (
    ALIVE_TOPIC,
    END_TOPIC,
    NOTE_TOPIC,
    Alive,
    ExitCode,
    SensorError,
    SensorStart,
    Told,
    Trouble,
)

# Some seconds of frames: a daemon that is stopped for longer loses what is older than it wants anyway.
_HWM = 300
_CONNECT_S = 10.0
_ALIVE_EVERY_S = 0.5
_PR_SET_PDEATHSIG = 1


class Sender:
    """Send frames to the camera. `num_skipped`: pictures that came too fast to look at."""

    def __init__(self, start: SensorStart) -> None:
        self.num_skipped = 0
        self._source, self._epoch, self._seq = start.source, uuid.uuid4().hex, 0
        self._alive_due_s = 0.0
        self._socket = connect(zmq.XPUB, start.endpoint, linger_ms=1000)
        self._socket.setsockopt(zmq.SNDHWM, _HWM)
        # An XPUB sees the subscription come in, so nothing is lost to a slow joiner.
        if not self._socket.poll(int(_CONNECT_S * 1000)):
            raise SensorError(f"no daemon listens at {start.endpoint}", code="unreachable")
        self._socket.recv()

    def send(
        self,
        bodies: Sequence[Body],
        *,
        layout: str,
        timestamp_s: float,
        fps: float = 0.0,
        mirrored: bool = False,
        axes: str | None = None,
        is_live: bool = True,
    ) -> None:
        """Send what one exposure shows. `timestamp_s`: its time by time.monotonic(). Counts as a sign of life.

        `axes`: None for the layout's own. `is_live`: false where the time is a file's own, which no age follows from.
        """
        frame = SkeletonFrame(
            source=self._source,
            epoch=self._epoch,
            seq=self._seq,
            timestamp_s=timestamp_s,
            t_send_s=time.monotonic() if is_live else timestamp_s,
            clock=clock_name() if is_live else "",
            layout=layout,
            axes=axes or layout_by_name(layout).axes,
            mirrored=mirrored,
            fps=fps,
            bodies=tuple(bodies),
        )
        self._seq += 1
        self._socket.send_multipart(wire.encode_frame(frame))
        self.alive()

    def alive(self) -> None:
        """Say that the sensor is well; call it at least each second once the sensor runs. Often costs nothing."""
        now_s = time.monotonic()
        if now_s >= self._alive_due_s:
            self._alive_due_s = now_s + _ALIVE_EVERY_S
            self._send(ALIVE_TOPIC, Alive(skipped=self.num_skipped))

    def note(self, level: Literal["info", "warning", "error"], message: str) -> None:
        """Let the daemon's log say something."""
        self._send(NOTE_TOPIC, Told(level=level, message=message))

    def end(self) -> None:
        """Say that this was the last frame: a file is over."""
        self._send(ALIVE_TOPIC, Alive(skipped=self.num_skipped))
        self._send(END_TOPIC, Alive())

    def _send(self, topic: bytes, message: msgspec.Struct) -> None:
        self._socket.send_multipart([topic, wire.encode_map(message)])


def run_sensor(watch: Callable[[Sender, SensorStart], None]) -> NoReturn:
    """Run a sensor's program until it returns (its file is over) or fails, then exit as a camera understands it.

    `watch` gets the sender and what is to be watched. Its SensorError becomes a line of JSON and an exit code; any
    other exception is a crash, after which the camera starts the process again.
    """
    start = msgspec.json.decode(sys.argv[-1], type=SensorStart)
    _die_with(start.parent)
    # A sensor is let go of in order, as far as its driver answers; else the camera kills the process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.ENDED))
    try:
        sender = Sender(start)
        watch(sender, start)
        sender.end()
        code = ExitCode.ENDED
    except SensorError as error:
        trouble = Trouble(code=error.code, message=error.message, hint=error.hint)
        sys.stderr.write("\n" + msgspec.json.encode(trouble).decode() + "\n")
        code = ExitCode.GIVE_UP if error.is_final else ExitCode.TRY_AGAIN
    terminate()
    sys.stderr.flush()
    # Not sys.exit: threads that a driver began, or that wait in it, would hold the process.
    os._exit(code)


def _die_with(parent: int) -> None:
    """Let the kernel kill this process with the thread that began it, even where that is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before it was asked
        os._exit(ExitCode.TRY_AGAIN)
