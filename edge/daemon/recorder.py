"""A recording as the daemon makes it: written in a thread of its own, so that no frame waits for a disk."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

from streams.errors import RecordingError
from streams.frame import SkeletonFrame
from streams.recording import RecordingWriter

# A minute of one camera: a disk that stalls for longer loses frames, which are counted.
_MAX_WAITING = 1800
_LOOK_S = 0.2


class Recorder:
    """Write frames to a new file, in the order in which they come; `write` never waits.

    `num_frames`: those that are written; `num_dropped`: those that found the queue full. Raises RecordingError where
    the file cannot be made.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        self.num_dropped = 0
        self._writer = RecordingWriter(path, overwrite=overwrite)
        self._waiting: queue.Queue[tuple[SkeletonFrame, int]] = queue.Queue(_MAX_WAITING)
        self._is_ending = threading.Event()
        self._error: RecordingError | None = None
        self._thread = threading.Thread(target=self._write_all, name="recorder", daemon=True)
        self._thread.start()

    @property
    def num_frames(self) -> int:
        """How many frames are in the file."""
        return self._writer.num_frames

    @property
    def is_ending(self) -> bool:
        """Whether the recording was stopped, and what waits is still being written."""
        return self._is_ending.is_set()

    @property
    def is_over(self) -> bool:
        """Whether the file is closed, whole or after an error."""
        return not self._thread.is_alive()

    def write(self, frame: SkeletonFrame, *, log_time_ns: int) -> None:
        """Have a frame written soon; `log_time_ns` as in RecordingWriter."""
        try:
            self._waiting.put_nowait((frame, log_time_ns))
        except queue.Full:
            self.num_dropped += 1

    def take_error(self) -> RecordingError | None:
        """Return why the recording ended by itself, once."""
        error, self._error = self._error, None
        return error

    def stop(self, wait_s: float) -> bool:
        """Write what waits and close the file; return whether that was done within the time."""
        self._is_ending.set()
        self._thread.join(wait_s)
        return self.is_over

    def _write_all(self) -> None:
        try:
            while not (self._is_ending.is_set() and self._waiting.empty()):
                try:
                    frame, log_time_ns = self._waiting.get(timeout=_LOOK_S)
                except queue.Empty:
                    continue
                self._writer.write(frame, log_time_ns=log_time_ns)
            self._writer.close()
        except RecordingError as error:
            self._error = error
