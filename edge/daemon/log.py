"""Logging that nobody waits for: a stopped terminal, or a pipe that nobody reads, must not stop the daemon."""

from __future__ import annotations

import logging
import queue
import threading
from logging.handlers import QueueHandler

_MAX_WAITING = 1000
_FLUSH_S = 1.0


class PatientHandler(QueueHandler):
    """Hand records to another handler in a thread of its own; what finds the queue full is counted, and told later."""

    def __init__(self, handler: logging.Handler) -> None:
        self._records: queue.Queue[logging.LogRecord | None] = queue.Queue(_MAX_WAITING)
        super().__init__(self._records)
        self._handler = handler
        self._num_lost = 0
        self._is_idle = threading.Event()
        self._is_idle.set()
        # A daemon thread: one that is stuck in a write must not keep the process.
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def enqueue(self, record: logging.LogRecord) -> None:
        """Take a record, or count it."""
        self._is_idle.clear()
        try:
            self._records.put_nowait(record)
        except queue.Full:
            self._num_lost += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Return the record as it is: the thread's handler formats it."""
        return record

    @property
    def is_stuck(self) -> bool:
        """Whether something waits to be written."""
        return not self._is_idle.is_set()

    def close(self) -> None:
        """Write what waits, for a second at most."""
        self._is_idle.wait(_FLUSH_S)
        super().close()

    def _write_all(self) -> None:
        while True:
            record = self._records.get()
            if record is not None:
                self._handler.handle(record)
            if self._num_lost and self._records.empty():
                lost, self._num_lost = self._num_lost, 0
                told = f"{lost} lines of the log were lost: nobody read them in time"
                self._handler.handle(logging.makeLogRecord({"levelno": 30, "levelname": "WARNING", "msg": told}))
            if self._records.empty():
                self._is_idle.set()
