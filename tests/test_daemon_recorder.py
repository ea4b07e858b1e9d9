"""What may stall, a disk or a terminal, and what must not wait for it: recordings and the log of the daemon."""

from __future__ import annotations

import io
import logging
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edge.daemon.log import PatientHandler
from edge.daemon.recorder import Recorder
from streams.errors import RecordingError
from streams.frame import Body, SkeletonFrame
from streams.recording import read_recording


def frame(seq: int) -> SkeletonFrame:
    body = Body(id=0, joints_m=np.full((25, 3), 0.5, np.float32), confidence=np.full(25, 2, np.uint8))
    return SkeletonFrame(
        source="cam", epoch="e", seq=seq, timestamp_s=seq / 30, t_send_s=seq / 30, layout="kinect25", bodies=(body,)
    )


class StalledDisk:
    """A disk that takes nothing until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_free = threading.Event()
        real = os.fsync
        monkeypatch.setattr("streams.recording.os.fsync", lambda file: (self.is_free.wait(20), real(file))[1])


def test_a_disk_that_stalls_costs_no_frame_and_no_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(tmp_path / "a.mcap")
    disk = StalledDisk(monkeypatch)
    for seq in range(200):
        recorder.write(frame(seq), log_time_ns=seq)
    assert not recorder.stop(0.05)
    assert (recorder.is_ending, recorder.is_over) == (True, False)
    disk.is_free.set()
    assert recorder.stop(20)
    assert recorder.take_error() is None
    assert (recorder.num_frames, recorder.num_dropped) == (200, 0)
    assert [read.seq for read in read_recording(tmp_path / "a.mcap")] == [*range(200)]


def test_frames_that_find_the_queue_full_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.daemon.recorder._MAX_WAITING", 10)
    recorder = Recorder(tmp_path / "a.mcap")
    disk = StalledDisk(monkeypatch)
    for seq in range(100):
        recorder.write(frame(seq), log_time_ns=seq)
    disk.is_free.set()
    assert recorder.stop(20)
    assert recorder.num_dropped >= 80
    assert recorder.num_frames + recorder.num_dropped == 100
    assert len([*read_recording(tmp_path / "a.mcap")]) == recorder.num_frames


def test_a_disk_that_fails_ends_the_recording_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(tmp_path / "a.mcap")

    def fail(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("streams.recording.os.fsync", fail)
    recorder.write(frame(0), log_time_ns=0)
    while not recorder.is_over:
        time.sleep(0.01)
    error = recorder.take_error()
    assert isinstance(error, RecordingError)
    assert "No space left" in error.message
    assert recorder.take_error() is None


class Pipe(io.StringIO):
    """A stream whose reader sleeps until it is woken."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = threading.Event()

    def write(self, text: str) -> int:
        self.is_read.wait(20)
        return super().write(text)


def test_a_log_that_nobody_reads_stops_nobody_and_what_is_lost_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.daemon.log._MAX_WAITING", 100)
    monkeypatch.setattr("edge.daemon.log._FLUSH_S", 0.05)
    pipe = Pipe()
    handler = PatientHandler(logging.StreamHandler(pipe))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    for number in range(1000):
        logger.warning("line %d", number)
    handler.close()
    pipe.is_read.set()
    monkeypatch.setattr("edge.daemon.log._FLUSH_S", 20)
    handler.close()
    lines = pipe.getvalue().splitlines()
    assert lines[0] == "line 0"
    lost = int(lines[-1].split()[0])
    assert lost >= 890
    assert len(lines) - 1 + lost == 1000
