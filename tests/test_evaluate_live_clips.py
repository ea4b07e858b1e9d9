"""Streams made of clips: what they hold, that nobody leaps, and that each slice changes its one thing.

Shapes: L frames, V = 25 kinect25 joints, N clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edge.motion.preprocess import fill_missing
from edge.motion.speed import trim_rest
from streams.archive import Archive, read_archive
from streams.arrays import Array
from streams.errors import ArchiveError
from streams.layouts import KINECT25_JOINTS, KINECT25_MIRROR
from streams.performer import perform
from training.evaluate.live.motion import bridge, rest
from training.evaluate.live.slices import SLICES, slice_stream
from training.evaluate.live.stream import Stream
from training.evaluate.live.streams_of_clips import build_streams, recordings_as_stream

ACTIONS = ("wave", "bow", "raise_arms", "clap", "punch")
SUBJECTS = (1, 2, 3)
FPS = 30.0
# Of a bridge: a minimum-jerk course is at most 1.875 times as fast as on average. Noise of 1 cm is 0.4 m/s.
TOP_SPEED_M_S = 1.875 * 1.2 + 0.5


def write(path: Path, clips: Sequence[tuple[str, int, Array]], class_names: Sequence[str] = ACTIONS) -> Archive:
    """Write clips of (label, subject, joints) as an archive; a clip's source says who did what."""
    labels, subjects, joints = zip(*clips, strict=True)
    np.savez(
        path,
        frames=np.concatenate(joints),
        offsets=np.cumsum([0, *map(len, joints)]),
        label=np.array([class_names.index(label) for label in labels]),
        subject=np.array(subjects),
        class_names=np.array(class_names),
        joint_names=np.array(KINECT25_JOINTS),
        source=np.array([f"s{subject} {label} {i}" for i, (label, subject, _) in enumerate(clips)]),
        fps=FPS,
    )
    return read_archive(path)


def clip(action: str, subject: int, take: int) -> Array:
    """Return a person's performance without rest around it, somewhere in the room and turned somehow."""
    shown = perform(action, seed=subject, fps=FPS)
    joints_LV3 = fill_missing(shown).part(trim_rest(shown)).joints_m
    turn = np.radians(20.0 * take)
    joints_LV3 = joints_LV3 @ np.array(
        [[np.cos(turn), 0, -np.sin(turn)], [0, 1, 0], [np.sin(turn), 0, np.cos(turn)]], np.float32
    )
    return np.asarray(joints_LV3 + np.array([take - 1.0, 0, 0.5 * subject], np.float32), np.float32)


def clips_of_all() -> list[tuple[str, int, Array]]:
    return [(a, s, clip(a, s, take)) for s in SUBJECTS for a in ACTIONS for take in (0, 1)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    clips = [
        (action, subject, clip(action, subject, take)) for subject in SUBJECTS for action in ACTIONS for take in (0, 1)
    ]
    return write(tmp_path_factory.mktemp("archive") / "people.npz", clips)


@pytest.fixture(scope="module")
def stream(archive: Archive) -> Stream:
    return build_streams(archive, num_labels=2)[0][0]


def test_the_same_seed_gives_the_same_streams_and_another_gives_others(archive: Archive) -> None:
    first, again, other = (build_streams(archive, seed=seed, num_labels=2)[0] for seed in (3, 3, 4))
    assert [s.actions for s in first] == [s.actions for s in again]
    assert all(np.array_equal(a.people[0].joints_m, b.people[0].joints_m) for a, b in zip(first, again, strict=True))
    assert [s.actions for s in first] != [s.actions for s in other]


def test_one_person_acts_what_another_enrolled(archive: Archive) -> None:
    streams, notes = build_streams(archive, num_labels=2)
    assert [stream.name for stream in streams] == ["people/1", "people/2", "people/3"]
    for stream in streams:
        own = f"file:s{stream.name.rpartition('/')[2]} "
        enrollers = {example.origin.split()[0] for example in stream.examples}
        assert len(stream.examples) == 2
        assert len(enrollers) == 1
        assert not any(example.origin.startswith(own) for example in stream.examples)
        labels = {example.label for example in stream.examples}
        assert {action.label for action in stream.truth} == labels
        assert not labels & {action.label for action in stream.others}
        assert len(stream.others) == len(stream.truth) == 4
    assert notes == []


def test_a_clip_lies_in_the_stream_as_the_sensor_saw_it(archive: Archive, stream: Stream) -> None:
    """Turned and moved, no more: the distances between joints are the clip's, and the truth is where it moves."""
    joints_LV3 = stream.people[0].joints_m
    originals = [archive[i] for i in range(len(archive)) if archive[i].subject == 1]
    for action in stream.actions:
        first, last = (round(s * FPS) for s in (action.start_s, action.end_s))
        seen = shape_of(joints_LV3[first : last + 1])
        errors = []
        for original in originals:
            if original.label == action.label:
                whole = shape_of(original.persons[0].joints_m)
                starts = range(len(whole) - len(seen) + 1)
                errors += [float(np.abs(whole[s : s + len(seen)] - seen).max()) for s in starts]
        assert min(errors) < 1e-4, action
        hands = joints_LV3[first : last + 1, [7, 11, 3]]
        assert np.ptp(hands, axis=0).max() > 0.15


def shape_of(joints_LV3: Array) -> Array:
    """Return distances from each joint to the left wrist and to the head, shape (L, 25, 2)."""
    to = [KINECT25_JOINTS.index(name) for name in ("WristLeft", "Head")]
    return np.asarray(np.linalg.norm(joints_LV3[:, :, None] - joints_LV3[:, None, to], axis=3), np.float32)


@pytest.mark.parametrize("fps", [FPS, 10.0])
def test_nobody_leaps_between_clips(archive: Archive, stream: Stream, fps: float) -> None:
    """Outside the clips no joint is faster than a bridge may be; nowhere is it faster than in the clips or that."""
    if fps != FPS:
        stream = slice_stream(stream, "10-fps", 0)
    speed_m_s = np.linalg.norm(np.diff(stream.people[0].joints_m, axis=0), axis=2).max(axis=1) * fps
    top = max(
        float(np.linalg.norm(np.diff(c.persons[0].joints_m, axis=0), axis=2).max())
        for c in map(archive.__getitem__, range(30))
    )
    assert speed_m_s.max() < max(top * FPS, TOP_SPEED_M_S) + 0.1
    at_s = stream.timestamps_s[:-1]
    idle = np.ones(len(at_s), np.bool_)
    for action in stream.actions:
        idle &= (at_s < action.start_s - 1 / fps) | (at_s > action.end_s)
    assert idle.sum() / fps > 20
    assert speed_m_s[idle].max() < TOP_SPEED_M_S


def test_a_bridge_is_smooth_and_as_long_as_its_way_needs() -> None:
    joints_LV3 = clip("raise_arms", 1, 0)
    up_V3 = joints_LV3[len(joints_LV3) // 2]
    for goal_V3, least_s in ((joints_LV3[0], 0.4), (up_V3, 0.9), (up_V3 + 3.0, 3.0)):
        between = bridge(joints_LV3[0], goal_V3, np.zeros((25, 1), np.float32), FPS, np.random.default_rng(0))
        course = np.concatenate((joints_LV3[:1], between, goal_V3[None]))
        speed_m_s = np.linalg.norm(np.diff(course, axis=0), axis=2).max(axis=1) * FPS
        assert len(course) / FPS > least_s
        assert speed_m_s.max() < 1.875 * 1.2 + 0.1
        assert max(speed_m_s[0], speed_m_s[-1]) <= 0.1 * speed_m_s.max()


def test_a_person_at_rest_stays_where_she_is_and_is_never_quite_still() -> None:
    poses_SV3 = np.stack([clip(action, 1, 1)[0] for action in ACTIONS])
    before_V3 = clip("wave", 1, 0)[-1]
    joints_LV3 = rest(before_V3, poses_SV3, np.full((25, 1), 0.003, np.float32), 60.0, FPS, np.random.default_rng(0))
    assert len(joints_LV3) == 60 * FPS
    assert np.linalg.norm(joints_LV3[0] - before_V3, axis=1).max() < 0.1
    hips_m = joints_LV3[:, 0, [0, 2]]
    assert 0.005 < np.ptp(hips_m, axis=0).max() < 0.1
    assert (np.linalg.norm(np.diff(joints_LV3, axis=0), axis=2).max(axis=1) > 0.001).all()


def test_actions_are_in_the_order_of_time_and_rest_lies_between(stream: Stream) -> None:
    starts_s = [action.start_s for action in stream.actions]
    assert starts_s == sorted(starts_s)
    assert starts_s[0] > 2.0
    gaps_s = [b.start_s - a.end_s for a, b in zip(stream.actions, stream.actions[1:], strict=False)]
    # A bridge alone, and the long rest.
    assert 0.35 < min(gaps_s) < 1.2
    assert max(gaps_s) > 28
    assert stream.seen_s == pytest.approx(stream.timestamps_s[-1])


def test_frames_are_what_a_camera_would_publish(stream: Stream) -> None:
    frames = list(stream.frames())
    assert len(frames) == len(stream.timestamps_s)
    assert np.diff([frame.timestamp_s for frame in frames]).min() > 0
    assert [frame.seq for frame in frames] == list(range(len(frames)))
    assert all(body.joints_m.shape == (25, 3) and body.id == 0 for frame in frames for body in frame.bodies)


@pytest.mark.parametrize("fps", [5, 10, 15, 30])
def test_a_slice_of_another_rate_has_the_same_truth_and_course(stream: Stream, fps: int) -> None:
    found = slice_stream(stream, f"{fps}-fps", 0)
    assert np.diff(found.timestamps_s) == pytest.approx(1 / fps)
    assert found.timestamps_s[-1] == pytest.approx(stream.timestamps_s[-1], abs=1 / fps)
    assert found.actions == stream.actions
    for at in (0, 100, len(found.timestamps_s) - 2):
        there = round(found.timestamps_s[at] * FPS)
        np.testing.assert_allclose(found.people[0].joints_m[at], stream.people[0].joints_m[there], atol=1e-4)


def test_slices_change_one_thing_and_leave_the_truth(stream: Stream) -> None:
    joints_LV3 = stream.people[0].joints_m
    lost = slice_stream(stream, "lost-frames", 0)
    assert 0.7 < len(lost.timestamps_s) / len(stream.timestamps_s) < 0.82
    assert np.diff(lost.timestamps_s).max() > 0.2
    assert lost.seen_s == pytest.approx(stream.seen_s, rel=0.02)
    missing = slice_stream(stream, "missing-joints", 0).people[0].joints_m
    assert 0.02 < np.isnan(missing).mean() < 0.1
    np.testing.assert_array_equal(missing[np.isfinite(missing)], joints_LV3[np.isfinite(missing)])
    mirrored = slice_stream(stream, "mirrored", 0).people[0].joints_m
    np.testing.assert_array_equal(mirrored[:, KINECT25_MIRROR, 1:], joints_LV3[:, :, 1:])
    np.testing.assert_array_equal(mirrored[:, KINECT25_MIRROR, 0], -joints_LV3[:, :, 0])
    view = slice_stream(stream, "view", 0).people[0].joints_m
    np.testing.assert_allclose(shape_of(view), shape_of(joints_LV3), atol=1e-4)
    assert np.abs(view - joints_LV3).max() > 0.3
    layout = slice_stream(stream, "layout", 0).people[0].joints_m
    hand, wrist, knee = (KINECT25_JOINTS.index(name) for name in ("HandLeft", "WristLeft", "KneeLeft"))
    np.testing.assert_array_equal(layout[:, hand], joints_LV3[:, wrist])
    np.testing.assert_allclose(layout[:, knee], joints_LV3[:, knee], atol=1e-6)
    for name in ("lost-frames", "missing-joints", "mirrored", "view", "layout"):
        assert slice_stream(stream, name, 0).actions == stream.actions
    again = slice_stream(stream, "missing-joints", 0).people[0].joints_m
    np.testing.assert_array_equal(again, missing)


def test_actions_are_done_at_the_speed_of_their_slice(archive: Archive, stream: Stream) -> None:
    usual_s = {a.label: a.end_s - a.start_s for a in stream.actions}
    for name in ("half-speed", "double-speed"):
        (found, *_), _ = build_streams(archive, num_labels=2, speed=SLICES[name].speed)
        assert [e.origin for e in found.examples] == [e.origin for e in stream.examples]
        seconds = {a.label: a.end_s - a.start_s for a in found.actions}
        ratio = np.mean([seconds[label] / usual_s[label] for label in usual_s])
        assert ratio == pytest.approx(1 / SLICES[name].speed, rel=0.3)


def test_a_second_person_acts_beside_the_first_and_ids_are_exchanged(archive: Archive) -> None:
    (both, *_), _ = build_streams(archive, num_labels=2, num_people=2)
    assert {body for action in both.truth for body in action.bodies} == {0, 1}
    together = (both.people[0].ids >= 0) & (both.people[1].ids >= 0)
    assert {len(frame.bodies) for frame in both.frames()} <= {1, 2}
    apart_m = np.linalg.norm(both.people[0].joints_m[:, 0] - both.people[1].joints_m[:, 0], axis=1)
    assert np.nanmin(apart_m) > 0.3
    swapped = slice_stream(both, "id-swap", 0)
    ids = np.stack([person.ids for person in swapped.people])
    assert (ids[:, together].sum(axis=0) == 1).all()
    assert np.abs(np.diff(ids[0, together])).sum() >= 3
    assert len(swapped.actions) == len(both.actions)
    assert any(len(action.bodies) == 2 for action in swapped.actions)
    for action, before in zip(swapped.actions, both.actions, strict=True):
        (person,) = before.bodies
        during = (swapped.timestamps_s >= action.start_s) & (swapped.timestamps_s <= action.end_s)
        assert action.bodies == set(swapped.people[person].ids[during].tolist())


def test_recordings_without_truth_leave_out_what_is_enrolled(archive: Archive, stream: Stream) -> None:
    found = recordings_as_stream(archive, stream)
    labels = {example.label for example in stream.examples}
    kept = [archive[i] for i in range(len(archive)) if archive[i].label not in labels]
    assert found.examples == stream.examples
    assert found.truth == ()
    assert len(np.unique(found.people[0].ids)) == len(kept) == 18
    assert found.seen_s == pytest.approx(sum(len(c.persons[0].joints_m) for c in kept) / FPS, abs=0.1)


def test_clips_that_begin_far_from_rest_are_left_out_and_said(tmp_path: Path) -> None:
    raised = [(a, s, x[len(x) // 2 :] if a == "raise_arms" else x) for a, s, x in clips_of_all()]
    streams, notes = build_streams(write(tmp_path / "cut.npz", raised), num_labels=2)
    assert notes == ["left out: 6 of 30 clips that begin or end far from the person's rest"]
    assert all(action.label != "raise_arms" for stream in streams for action in stream.actions)


def test_where_nobody_is_known_the_example_is_not_acted_again(tmp_path: Path) -> None:
    clips = [(a, -1, clip(a, 1, take)) for a in ACTIONS for take in range(3)]
    (stream,), notes = build_streams(write(tmp_path / "unknown.npz", clips), num_labels=2)
    assert len(stream.truth) == 4
    assert notes == ["one person alone, or none known: who enrolls may be who acts"]


@pytest.mark.parametrize(
    "clips",
    [
        pytest.param([("wave", s, clip("wave", s, 0)) for s in SUBJECTS], id="one class"),
        pytest.param([(a, 1, np.repeat(clip(a, 1, 0)[:1], 40, axis=0)) for a in ACTIONS], id="nobody moves"),
        pytest.param([(a, s, np.full((40, 25, 3), np.nan)) for a in ACTIONS for s in SUBJECTS], id="nobody is seen"),
        pytest.param([(a, s, clip(a, s, 0)[:2]) for a in ACTIONS for s in SUBJECTS], id="two frames"),
    ],
)
def test_an_archive_that_makes_no_stream_is_refused_with_the_reason(
    tmp_path: Path, clips: list[tuple[str, int, Array]]
) -> None:
    with pytest.raises(ArchiveError, match="no stream can be made of its"):
        build_streams(write(tmp_path / "bad.npz", clips))
