"""Ordinary movement: how it is captured and cut into pieces, and what is refused.

Shapes: L frames, V = 25 kinect25 joints.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.config import Config
from edge.enroll.negatives import NegativeCapture, cut_pieces, pieces_report, validate_pieces
from streams.errors import EnrollError
from streams.frame import HIGH, Body, SkeletonFrame
from streams.movement import Movement
from streams.performer import Performer, perform

CONFIG = Config()
STANDING = perform("wave", seed=1).joints_m[0]


def frames_of(seconds: float, *bodies: int, start_s: float = 0.0, fps: float = 30.0) -> list[SkeletonFrame]:
    confidence = np.full(25, HIGH, np.uint8)
    return [
        SkeletonFrame(
            source="cam",
            epoch="e",
            seq=i,
            timestamp_s=start_s + i / fps,
            t_send_s=start_s + i / fps,
            bodies=tuple(Body(id=id, joints_m=STANDING + np.float32(id), confidence=confidence) for id in bodies),
        )
        for i in range(round(seconds * fps))
    ]


def capture(frames: list[SkeletonFrame], *, seconds: float = 5.0, countdown_s: float = 0.0) -> NegativeCapture:
    capturing = NegativeCapture(CONFIG, now_s=0.0, countdown_s=countdown_s, seconds=seconds)
    for now_s in np.arange(0, countdown_s + seconds + 1, 0.1).tolist():
        capturing.step([frame for frame in frames if now_s - 0.1 < frame.timestamp_s <= now_s], now_s)
        if capturing.is_over:
            break
    return capturing


def spans(pieces: list[Movement]) -> list[float]:
    return [round(piece.duration_s, 1) for piece in pieces]


def code_of(capturing: NegativeCapture) -> str:
    assert capturing.state == "failed"
    assert isinstance(capturing.error, EnrollError)
    return capturing.error.code


def test_ordinary_movement_is_captured_for_the_time_asked_for() -> None:
    performer = Performer(seed=3)
    capturing = capture([performer.frame() for _ in range(30 * 20)], seconds=10.0, countdown_s=2.0)
    assert capturing.state == "captured"
    report = pieces_report(capturing.pieces)
    assert 8 < report["duration_s"] < 10.2
    assert report["fps"] == pytest.approx(30, abs=0.2)
    assert report["joints"] > 0.95
    assert capturing.seen_source == "demo"


def test_standing_still_is_ordinary_too() -> None:
    assert spans(capture(frames_of(9, 1)).pieces) == [5.0]


def test_everybody_in_view_counts_and_whoever_becomes_another_body_is_a_new_piece() -> None:
    frames = [*frames_of(2, 1, 2), *frames_of(2, 2, 3, start_s=2.0)]
    pieces = cut_pieces(frames, CONFIG)
    assert spans(pieces) == [2.0, 4.0, 2.0]
    assert [float(piece.joints_m[0, 0, 0] - STANDING[0, 0]) for piece in pieces] == pytest.approx([1, 2, 3])
    assert spans(cut_pieces(frames, CONFIG, body=3)) == [2.0]
    assert cut_pieces(frames, CONFIG, source="other") == []


def test_a_gap_or_a_time_that_runs_backwards_begins_a_new_piece() -> None:
    gap = [*frames_of(2, 1), *frames_of(3, 1, start_s=2 + CONFIG.stream.max_gap_s)]
    assert spans(cut_pieces(gap, CONFIG)) == [2.0, 3.0]
    assert spans(cut_pieces([*frames_of(2, 1, start_s=5.0), *frames_of(3, 1)], CONFIG)) == [2.0, 3.0]
    short_gap = [*frames_of(2, 1), *frames_of(3, 1, start_s=2.3)]
    assert len(cut_pieces(short_gap, CONFIG)) == 1


def test_pieces_too_short_for_a_window_are_left_out() -> None:
    pieces = cut_pieces([*frames_of(0.5, 1), *frames_of(2, 1, start_s=5.0)], CONFIG)
    assert spans(validate_pieces(pieces, CONFIG)) == [2.0]
    with pytest.raises(EnrollError) as refused:
        validate_pieces(pieces[:1], CONFIG)
    assert refused.value.code == "too_short"


def test_more_than_an_indexer_can_take_is_refused() -> None:
    times, joints = np.arange(0.0, 601.0, 0.1), np.repeat(STANDING[None], 6010, axis=0)
    with pytest.raises(EnrollError) as refused:
        validate_pieces([Movement(timestamps_s=times, joints_m=joints)], CONFIG)
    assert refused.value.code == "too_long"


def test_nobody_in_view_is_refused_soon() -> None:
    capturing = capture([replace(frame, bodies=()) for frame in frames_of(60, 1)], seconds=60.0)
    assert code_of(capturing) == "no_body"
    assert capturing.left_s(2.0) > 50


def test_a_slow_source_and_a_body_half_seen_are_refused() -> None:
    assert code_of(capture(frames_of(6, 1, fps=5.0))) == "low_quality"
    half = STANDING.copy()
    half[12:] = np.nan
    frames = [replace(f, bodies=(replace(f.bodies[0], joints_m=half),)) for f in frames_of(6, 1)]
    capturing = capture(frames)
    assert code_of(capturing) == "low_quality"
    assert "0.48" in str(capturing.error)
