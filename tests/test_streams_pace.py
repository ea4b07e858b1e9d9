"""Frames at the pace of the clock: stamped as a publisher stamps them, and taken until a camera's end."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from streams.cameras import PacedCamera, ReplayFrames, clock_name
from streams.frame import SkeletonFrame
from streams.pace import frames_until, pace_frames

FRAMES = [
    SkeletonFrame(source=source, epoch="old", seq=7, timestamp_s=timestamp_s, t_send_s=timestamp_s, clock="other")
    for timestamp_s, source in ((0.0, "a"), (0.05, "b"), (0.1, "a"))
]


def test_frames_come_when_their_time_comes_as_from_a_new_publisher() -> None:
    start_s = time.monotonic()
    sent = list(pace_frames(FRAMES))
    assert time.monotonic() - start_s >= 0.1
    assert [(frame.source, frame.seq) for frame in sent] == [("a", 0), ("b", 0), ("a", 1)]
    assert {frame.clock for frame in sent} == {clock_name()}
    assert len({frame.epoch for frame in sent} - {"old"}) == 1
    assert [frame.timestamp_s - sent[0].timestamp_s for frame in sent] == pytest.approx([0.0, 0.05, 0.1])
    assert all(frame.timestamp_s <= frame.t_send_s <= time.monotonic() for frame in sent)


def test_frames_at_another_speed_name_no_clock_and_keep_their_times() -> None:
    sent = list(pace_frames(FRAMES, speed=1000, source="played"))
    assert [(frame.source, frame.seq) for frame in sent] == [("played", 0), ("played", 1), ("played", 2)]
    assert {frame.clock for frame in sent} == {""}
    assert sent[2].timestamp_s - sent[0].timestamp_s == pytest.approx(0.1)
    assert all(frame.t_send_s == frame.timestamp_s for frame in sent)


def test_a_camera_is_read_until_its_last_frame_or_the_time_is_over() -> None:
    def camera() -> PacedCamera:
        return PacedCamera(ReplayFrames(iter([*FRAMES, replace(FRAMES[0], timestamp_s=0.2)])))

    assert len(list(frames_until(camera(), end_s=time.monotonic() + 10))) == 4
    assert len(list(frames_until(camera(), end_s=time.monotonic() + 0.12))) in (2, 3)
