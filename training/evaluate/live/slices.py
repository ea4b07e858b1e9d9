"""What a stream is put through, one thing at a time: another rate, lost frames, a tilted camera, a second person.

Shapes: L frames, V = 25 kinect25 joints, J native joints.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from edge.motion import frames_at
from streams.arrays import Array
from streams.layouts import KINECT25_AXES, KINECT25_JOINTS, KINECT25_MIRROR, LAYOUTS, to_kinect25
from training.evaluate.live.stream import Action, Person, Stream

Change = Callable[[Stream, np.random.Generator], Stream]

_LOST_SHARE = 0.2
_GAP_EVERY_S, _GAP_S = 10.0, (0.2, 0.5)
_HIDDEN_EVERY_S, _HIDDEN_S = 4.0, (0.3, 1.0)
_LIMBS = [
    [i for i, name in enumerate(KINECT25_JOINTS) if name.endswith(side) and name.startswith(limb)]
    for side in ("Left", "Right")
    for limb in (("Elbow", "Wrist", "Hand", "Thumb"), ("Knee", "Ankle", "Foot"))
]
_YAW, _PITCH = np.radians(45), np.radians(20)
_SWAP_EVERY_S = 10.0
# COCO's joints in the order of its layout, each as the kinect25 joint nearest to it: five of the face, then pairs.
_COCO = [KINECT25_JOINTS.index("Head")] * 5 + [
    KINECT25_JOINTS.index(part + side)
    for part in ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
    for side in ("Left", "Right")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Say how the streams of a slice are made (training.evaluate.live.build_streams), and what is changed then."""

    what: str
    num_people: int = 1
    speed: float = 1.0
    change: Change = lambda stream, rng: stream


def slice_stream(stream: Stream, name: str, seed: int) -> Stream:
    """Return a stream as the slice of that name has it; the same seed gives the same."""
    rng = np.random.default_rng([seed, zlib.crc32(stream.name.encode()), zlib.crc32(name.encode())])
    return SLICES[name].change(stream, rng)


def _at_rate(stream: Stream, rng: np.random.Generator, *, fps: float) -> Stream:
    """Interpolate at another rate."""
    moments_s = np.arange(stream.timestamps_s[0], stream.timestamps_s[-1], 1 / fps)
    at = np.interp(moments_s, stream.timestamps_s, np.arange(len(stream.timestamps_s)))
    before = np.minimum(at.astype(np.intp), len(stream.timestamps_s) - 2)
    people = [
        replace(person, joints_m=frames_at(person.joints_m, at), ids=person.ids[before]) for person in stream.people
    ]
    return replace(stream, fps=fps, timestamps_s=moments_s, people=tuple(people))


def _lose_frames(stream: Stream, rng: np.random.Generator) -> Stream:
    kept = rng.random(len(stream.timestamps_s)) >= _LOST_SHARE
    for start_s, end_s in _spells(stream, rng, _GAP_EVERY_S, _GAP_S):
        kept &= (stream.timestamps_s < start_s) | (stream.timestamps_s >= end_s)
    people = [Person(joints_m=person.joints_m[kept], ids=person.ids[kept]) for person in stream.people]
    return replace(stream, timestamps_s=stream.timestamps_s[kept], people=tuple(people))


def _hide_joints(stream: Stream, rng: np.random.Generator) -> Stream:
    """Hide a limb now and then, an arm or a leg."""
    people = []
    for person in stream.people:
        joints_m = person.joints_m.copy()
        for start_s, end_s in _spells(stream, rng, _HIDDEN_EVERY_S, _HIDDEN_S):
            first, last = np.searchsorted(stream.timestamps_s, (start_s, end_s))
            joints_m[first:last, _LIMBS[rng.integers(len(_LIMBS))]] = np.nan
        people.append(replace(person, joints_m=joints_m))
    return replace(stream, people=tuple(people))


def _spells(
    stream: Stream, rng: np.random.Generator, every_s: float, length_s: tuple[float, float]
) -> Sequence[tuple[float, float]]:
    num = int((stream.timestamps_s[-1] - stream.timestamps_s[0]) / every_s)
    starts_s = np.sort(rng.uniform(stream.timestamps_s[0], stream.timestamps_s[-1], num))
    return list(zip(starts_s.tolist(), (starts_s + rng.uniform(*length_s, num)).tolist(), strict=True))


def _with_joints(stream: Stream, change: Callable[[Array], Array]) -> Stream:
    return replace(stream, people=tuple(replace(p, joints_m=change(p.joints_m)) for p in stream.people))


def _mirror(stream: Stream, rng: np.random.Generator) -> Stream:
    return _with_joints(stream, lambda joints_LV3: joints_LV3[:, KINECT25_MIRROR] * np.array([-1, 1, 1], np.float32))


def _move_camera(stream: Stream, rng: np.random.Generator) -> Stream:
    cos, sin = np.cos(_YAW), np.sin(_YAW)
    yaw = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    cos, sin = np.cos(_PITCH), np.sin(_PITCH)
    pitch = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    return _with_joints(stream, lambda joints_LV3: np.asarray(joints_LV3 @ (yaw @ pitch), np.float32))


def _as_coco(stream: Stream, rng: np.random.Generator) -> Stream:
    return _with_joints(stream, lambda joints: to_kinect25(joints[:, _COCO], LAYOUTS["coco17"], axes=KINECT25_AXES))


def _swap_ids(stream: Stream, rng: np.random.Generator) -> Stream:
    """Exchange the ids of two people every now and then; what one did has the ids that they had meanwhile."""
    if len(stream.people) != 2:
        return stream
    times_s = stream.timestamps_s
    swaps_s = [start_s for start_s, _ in _spells(stream, rng, _SWAP_EVERY_S, (0.0, 1.0))]
    is_swapped = np.searchsorted(swaps_s, times_s, side="right") % 2 == 1
    # Nobody is swapped with somebody who has left.
    is_swapped &= (stream.people[0].ids >= 0) & (stream.people[1].ids >= 0)
    people = tuple(replace(person, ids=np.where(is_swapped, 1 - person.ids, person.ids)) for person in stream.people)

    def seen_as(action: Action) -> Action:
        (body,) = action.bodies
        meanwhile = (times_s >= action.start_s) & (times_s <= action.end_s)
        return replace(action, bodies=frozenset(people[body].ids[meanwhile].tolist()))

    return replace(stream, people=people, actions=tuple(map(seen_as, stream.actions)))


SLICES = {
    "clean": Slice(what="as the sensor saw the clips"),
    **{
        f"{fps}-fps": Slice(what=f"{fps} frames a second", change=partial(_at_rate, fps=fps)) for fps in (5, 10, 15, 30)
    },
    "lost-frames": Slice(what="a fifth of the frames lost, and gaps of 0.2 to 0.5 s", change=_lose_frames),
    "missing-joints": Slice(what="an arm or a leg hidden for 0.3 to 1 s, every 4 s", change=_hide_joints),
    "mirrored": Slice(what="everything done with the other side", change=_mirror),
    "half-speed": Slice(what="actions done at half their speed", speed=0.5),
    "double-speed": Slice(what="actions done at twice their speed", speed=2.0),
    "view": Slice(what="seen from 45 degrees aside and 20 above", change=_move_camera),
    "layout": Slice(what="COCO's 17 joints", change=_as_coco),
    "two-people": Slice(what="a second person acts beside", num_people=2),
    "id-swap": Slice(what="two people whose ids are exchanged every 10 s", num_people=2, change=_swap_ids),
}
