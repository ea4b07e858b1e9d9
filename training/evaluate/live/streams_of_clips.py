"""Continuous recordings with truth, made from the clips of any archive: one person acts, another has enrolled.

A stream is one person's clips in random order, actions that are enrolled and others, with rests in between. Each
clip is turned and moved so that the body stands and faces as the clip before left it, and a bridge leads from the
last pose to the next first one at a person's speed. The clips themselves stay as the sensor saw them.

Shapes: L frames, V = 25 kinect25 joints, S poses.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from edge.config import Config
from edge.enroll import example_from_capture
from edge.gallery import Example
from edge.motion import trim_rest
from streams.archive import Archive, Clip
from streams.arrays import Array
from streams.errors import ArchiveError, EnrollError
from streams.layouts import KINECT25_JOINTS
from streams.movement import Movement
from training.evaluate.live.motion import at_speed, bridge, has_torso, rest, turn
from training.evaluate.live.stream import Action, Person, Stream

_EXTREMITIES = [KINECT25_JOINTS.index(name) for name in ("Head", "WristLeft", "WristRight", "AnkleLeft", "AnkleRight")]

# A clip that begins or ends farther from the person's rest is left out: to get there, they would have to do
# something that no label names, as to sit down before a clip of standing up. The nearer half is always kept:
# some archives are cut in the midst of movements.
_FAR_M = 0.3
# Poses in which a person's clips begin or end, and between which they shift while at rest.
_NEAR_M = 0.25
_REST_S = (1.5, 6.0)
_FIRST_REST_S, _LONG_REST_S = 3.0, 30.0
_SHARE_WITHOUT_REST = 0.3
_MAX_REPEATS = 4
# An exercise is done so often in a row, by each repetition as it was recorded, and then rested from.
_REPETITIONS = (3, 10)
_REST_BETWEEN_S = (6.0, 9.0)
# Rest is sought among so many poses.
_MAX_POSES = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Performer:
    """Hold what a person's clips give: those that can follow each other, rest poses (S, 25, 3), noise (25, 1)."""

    clips: tuple[Clip, ...]
    rest_SV3: Array
    noise_m: Array


def build_streams(
    archive: Archive, *, seed: int = 0, num_labels: int = 5, num_people: int = 1, speed: float = 1.0
) -> tuple[list[Stream], list[str]]:
    """Make a stream of each person of an archive, and say what was left out.

    Drawn for each stream: up to `num_labels` classes, enrolled by one clip each of another person; as many clips of
    other classes come in between. `num_people`: how many act at once, each on their own. `speed`: how much
    faster than they were recorded the actions are done. Where no subjects are known, all clips are one
    person's. The same seed gives the same streams. Raises ArchiveError where no stream can be made.
    """
    clips = [archive[i] for i in range(len(archive))]
    subjects = sorted({clip.subject for clip in clips if clip.subject >= 0}) or [-1]
    performers = {s: _performer([clip for clip in clips if clip.subject == s]) for s in subjects}
    streams = []
    for subject in subjects:
        rng = np.random.default_rng([seed, zlib.crc32(archive.name.encode()), subject + 1])
        others = [s for s in subjects if s != subject] or subjects
        enroller, examples = _enroll(performers[subject], clips, others, num_labels, rng)
        if not examples:
            continue
        able = [s for s in others if len(performers[s].clips) > 1]
        company = [s for s in able if s != enroller] or able
        people = [subject, *rng.permutation(company)[: num_people - 1].tolist()]
        parts = [_perform(performers[s], examples, body, speed, rng) for body, s in enumerate(people)]
        streams.append(_stream(archive, subject, examples, parts))
    if not streams:
        raise ArchiveError(
            f"{archive.path}: no stream can be made of its {len(clips)} clips of {len(archive.class_names)} classes by "
            f"{len(subjects)} people: expected two classes that one person does and another can enroll",
        )
    notes = [f"{len(streams)} of {len(subjects)} people make a stream"] if len(streams) < len(subjects) else []
    if num_far := sum(c.subject in subjects for c in clips) - sum(len(p.clips) for p in performers.values()):
        notes.append(f"left out: {num_far} of {len(clips)} clips that begin or end far from the person's rest")
    if len(subjects) == 1:
        notes.append("one person alone, or none known: who enrolls may be who acts")
    return streams, notes


def exercise_streams(archive: Archive, *, seed: int = 0, num_labels: int = 5) -> list[Stream]:
    """Make a stream of each person who does classes several times: each class 3 to 10 times in a row, then a rest.

    Up to `num_labels` classes are enrolled by one clip each of another person; as many others are done as well. Who
    has fewer clips of a class does not do it. The same seed gives the same streams.
    """
    clips = [archive[i] for i in range(len(archive))]
    subjects = sorted({clip.subject for clip in clips if clip.subject >= 0})
    performers = {s: _performer([clip for clip in clips if clip.subject == s]) for s in subjects}
    streams = []
    for subject in subjects:
        rng = np.random.default_rng([seed, zlib.crc32(archive.name.encode()), subject + 1])
        _, examples = _enroll(performers[subject], clips, [s for s in subjects if s != subject], num_labels, rng)
        labels = {example.label for example in examples}
        sets: list[list[Clip]] = []
        for label in rng.permutation(sorted({clip.label for clip in performers[subject].clips})).tolist():
            own = [clip for clip in performers[subject].clips if clip.label == label]
            wanted = int(rng.integers(_REPETITIONS[0], _REPETITIONS[1] + 1))
            is_other = label not in labels
            if len(own) >= _REPETITIONS[0] and (
                not is_other or sum(s[0].label not in labels for s in sets) < num_labels
            ):
                sets.append([own[i] for i in rng.permutation(len(own))[:wanted]])
        if any(own[0].label in labels for own in sets):
            streams.append(_stream(archive, subject, examples, [_exercise(performers[subject], sets, rng)]))
    return streams


def _exercise(
    performer: _Performer, sets: Sequence[Sequence[Clip]], rng: np.random.Generator
) -> tuple[Array, list[Action]]:
    """Play sets of clips, without a rest within one; return joints (L, 25, 3) and what was done."""
    fps, rest_SV3, noise_m = sets[0][0].fps, performer.rest_SV3, performer.noise_m
    parts = [rest(rest_SV3[0], rest_SV3, noise_m, _FIRST_REST_S, fps, rng)]
    actions = []
    for own in sets:
        for clip in own:
            action, joined = _append(parts, clip, fps, noise_m, rng)
            parts += joined
            actions.append(action)
        parts.append(rest(parts[-1][-1], rest_SV3, noise_m, rng.uniform(*_REST_BETWEEN_S), fps, rng))
    return np.concatenate(parts), actions


def _append(
    parts: Sequence[Array],
    clip: Clip,
    fps: float,
    noise_m: Array,
    rng: np.random.Generator,
    *,
    body: int = 0,
    speed: float = 1.0,
) -> tuple[Action, list[Array]]:
    """Return what is done in a clip after the parts before it, and the bridge to it with its joints."""
    joints = turn(at_speed(clip.persons[0].joints_m, speed), parts[-1][-1])
    way = bridge(parts[-1][-1], joints[0], noise_m, fps, rng)
    kept = trim_rest(Movement(timestamps_s=np.arange(len(joints)) / fps, joints_m=joints))
    start = sum(map(len, parts)) + len(way)
    action = Action(
        label=clip.label,
        start_s=(start + kept.start) / fps,
        end_s=(start + kept.stop - 1) / fps,
        bodies=frozenset({body}),
    )
    return action, [way, joints]


def recordings_as_stream(archive: Archive, stream: Stream) -> Stream:
    """Return the clips of an archive one after another, each a body of its own, with the examples of a stream.

    For recordings in which nothing enrolled is done: a clip of an enrolled action is left out.
    """
    clips = [archive[i] for i in range(len(archive)) if not stream.enrolled & {archive[i].label, archive[i].action}]
    joints_m = np.concatenate([np.zeros((0, 25, 3), np.float32), *(clip.persons[0].joints_m for clip in clips)])
    return replace(
        stream,
        name=f"{stream.name}+{archive.name}",
        fps=archive.fps,
        timestamps_s=np.arange(len(joints_m)) / archive.fps,
        people=(Person(joints_m=joints_m, ids=np.repeat(np.arange(len(clips)), [len(c.persons[0]) for c in clips])),),
        actions=(),
    )


def _stream(
    archive: Archive,
    subject: int,
    examples: Sequence[Example],
    parts: Sequence[tuple[Array, list[Action]]],
) -> Stream:
    action_of = dict(zip(archive.class_names, archive.actions, strict=True))
    length = max(len(joints) for joints, _ in parts)
    people = []
    for body, (joints, _) in enumerate(parts):
        unseen = np.full((length - len(joints), 25, 3), np.nan, np.float32)
        # People stand beside each other, not in each other.
        joints_m = np.concatenate((joints + np.array([1.5 * body, 0, 0], np.float32), unseen))
        people.append(Person(joints_m=joints_m, ids=np.where(np.arange(length) < len(joints), body, -1)))
    return Stream(
        name=f"{archive.name}/{subject}",
        archive=archive.name,
        group=f"{archive.name}/{subject}",
        fps=archive.fps,
        examples=tuple(examples),
        enrolled=frozenset(name for e in examples for name in (e.label, action_of[e.label])),
        timestamps_s=np.arange(length) / archive.fps,
        people=tuple(people),
        actions=tuple(sorted((a for _, actions in parts for a in actions), key=lambda action: action.start_s)),
    )


def _performer(clips: Sequence[Clip]) -> _Performer:
    """Find a person's rest, and the clips that begin and end near it."""
    whole = [clip for clip in clips if len(clip.persons[0]) >= 4 and has_torso(clip.persons[0].joints_m[[0, -1]])]
    if not whole:
        return _Performer(clips=(), rest_SV3=np.zeros((0, 25, 3), np.float32), noise_m=np.zeros((25, 1), np.float32))
    poses_SV3 = np.stack([turn(clip.persons[0].joints_m[[i]])[0] for clip in whole for i in (0, -1)])
    ends_SE3 = np.nan_to_num(poses_SV3[:, _EXTREMITIES])
    some_KE3 = ends_SE3[np.linspace(0, len(ends_SE3) - 1, min(len(ends_SE3), _MAX_POSES)).astype(int)]
    ways_KS = np.linalg.norm(some_KE3[:, None] - ends_SE3, axis=3).max(axis=2)
    away_S = ways_KS[np.median(ways_KS, axis=1).argmin()]
    away_C = away_S.reshape(-1, 2).max(axis=1)
    is_usable = away_C <= max(_FAR_M, float(np.median(away_C)))
    # White noise shows in second differences, times the root of 6; movement hardly does.
    jerks = np.concatenate([np.abs(np.diff(clip.persons[0].joints_m, n=2, axis=0)) for clip in whole])
    noise_V = np.median(np.nan_to_num(jerks), axis=(0, 2)) / (0.6745 * 6**0.5)
    return _Performer(
        clips=tuple(clip for clip, usable in zip(whole, is_usable, strict=True) if usable),
        rest_SV3=poses_SV3[away_S <= _NEAR_M],
        noise_m=np.asarray(noise_V[:, None], np.float32),
    )


def _enroll(
    performer: _Performer, clips: Sequence[Clip], others: Sequence[int], num_labels: int, rng: np.random.Generator
) -> tuple[int, list[Example]]:
    """Draw who enrolls, which labels, and one clip of each; nothing where nobody can."""
    acted = {clip.label for clip in performer.clips}
    # At least one class is left that is never enrolled.
    num_wanted = min(num_labels, len(acted) - 1)
    best: tuple[int, list[Example]] = (-1, [])
    for subject in rng.permutation(others).tolist():
        by_label: dict[str, list[Clip]] = {}
        for clip in clips:
            if clip.subject == subject and clip.label in acted:
                by_label.setdefault(clip.label, []).append(clip)
        found: list[Example] = []
        for label in rng.permutation(sorted(by_label)).tolist():
            candidates = [by_label[label][i] for i in rng.permutation(len(by_label[label]))]
            if len(found) < num_wanted and (example := _first_example(candidates)) is not None:
                found.append(example)
        if len(found) > len(best[1]):
            best = subject, found
        if len(found) == num_wanted:
            break
    return best


def _first_example(clips: Sequence[Clip]) -> Example | None:
    """Return the first clip that a live enrollment would accept, trimmed as it would be."""
    for clip in clips:
        with suppress(EnrollError):
            example = example_from_capture(clip.persons[0], Config())
            return Example(
                label=clip.label,
                movement=example.movement.from_zero(),
                origin=f"file:{clip.source}",
                created="",
            )
    return None


def _perform(
    performer: _Performer, examples: Sequence[Example], body: int, speed: float, rng: np.random.Generator
) -> tuple[Array, list[Action]]:
    """Play a person's clips in random order with rests and bridges; return joints (L, 25, 3) and what was done."""
    fps = performer.clips[0].fps
    labels = {example.label for example in examples}
    # Where who enrolls is who acts, the example is not acted again.
    clips = [c for c in performer.clips if f"file:{c.source}" not in {example.origin for example in examples}]
    clips = [clips[i] for i in rng.permutation(len(clips))]
    chosen = [c for label in sorted(labels) for c in [c for c in clips if c.label == label][:_MAX_REPEATS]]
    chosen += [c for c in clips if c.label not in labels][: max(len(chosen), _MAX_REPEATS)]
    chosen = [chosen[i] for i in rng.permutation(len(chosen))]
    long_rest = rng.integers(len(chosen))
    rest_SV3, noise_m = performer.rest_SV3, performer.noise_m
    parts = [rest(rest_SV3[0], rest_SV3, noise_m, _FIRST_REST_S, fps, rng)]
    actions = []
    for place, clip in enumerate(chosen):
        action, joined = _append(parts, clip, fps, noise_m, rng, body=body, speed=speed)
        parts += joined
        actions.append(action)
        rest_s = _LONG_REST_S if place == long_rest else rng.uniform(*_REST_S)
        if rng.random() >= _SHARE_WITHOUT_REST or place in (long_rest, len(chosen) - 1):
            parts.append(rest(parts[-1][-1], rest_SV3, noise_m, rest_s, fps, rng))
    return np.concatenate(parts), actions
