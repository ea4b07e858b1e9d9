"""From a picture's poses to bodies: who is who from picture to picture, and where in the room each one is.

MediaPipe gives each pose twice: in the picture, and in meters around the middle of the hips. Only both together tell
that somebody jumps or walks. The position is where the joints in meters are seen as in the picture, by a camera with
one ordinary lens. A webcam does not tell its focal length. It changes the distance alone, so heights and sides hold.

Shapes: J = 33 joints of mediapipe33; x right, y down, z forward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.arrays import Array, Mask
from streams.frame import HIGH, LOW, MEDIUM, NO_CONFIDENCE, Body

_HIPS = [23, 24]
# Of the picture's longer side: about 53 degrees, between a laptop's camera and a phone's.
_FOCAL_LENGTH = 1.0
_NEAREST_M, _FARTHEST_M = 0.3, 20.0
# The distance comes from the body's size in the picture, which breathes with every pose: it follows slowly.
_DISTANCE_FOLLOWS_S = 0.5
# Below this share a joint is a guess, mostly of one outside the picture.
_MIN_VISIBILITY = 0.1
_MIN_JOINTS = 4
# The same person moves by less, as a share of the picture's longer side: a jitter, and more with the time.
_NEAR, _NEAR_PER_S = 0.1, 0.6
# The daemon forgets a body that is unseen for as long.
_KEPT_S = 0.7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pose:
    """Hold one person as MediaPipe finds them.

    `picture_J2`: shape (J, 2), 0 to 1 of the picture's width and height; beyond where a joint is outside.
    `joints_m`: shape (J, 3), meters around the middle of the hips. `visibility_J`: shape (J,), 0 to 1.
    """

    picture_J2: Array
    joints_m: Array
    visibility_J: Array


@dataclass(slots=True)
class _Person:
    id: int
    hips: Array
    distance_m: float
    seen_s: float


class People:
    """Follow people by the place of their hips; one who is unseen for 0.7 s is another one afterwards."""

    def __init__(self) -> None:
        self._people: list[_Person] = []
        self._next_id = 0

    def bodies(self, poses: Sequence[Pose], timestamp_s: float, width: int, height: int) -> list[Body]:
        """Return the bodies of a picture of so many pixels, taken at `timestamp_s`, which rises."""
        self._people = [person for person in self._people if timestamp_s - person.seen_s <= _KEPT_S]
        size = np.array([width, height], np.float32) / np.float32(max(width, height))
        known = [pose for pose in poses if np.count_nonzero(_is_seen(pose)) >= _MIN_JOINTS]
        hips = [np.asarray(pose.picture_J2[_HIPS].mean(axis=0) * size, np.float32) for pose in known]
        found = self._match(hips, timestamp_s)
        return [
            self._body(pose, person, hip, timestamp_s, size)
            for pose, person, hip in zip(known, found, hips, strict=True)
        ]

    def _match(self, hips: list[Array], timestamp_s: float) -> list[_Person | None]:
        """Give each hip the nearest person that no nearer hip has."""
        pairs = sorted(
            (float(np.linalg.norm(hip - person.hips)), number, place)
            for number, hip in enumerate(hips)
            for place, person in enumerate(self._people)
        )
        found: list[_Person | None] = [None] * len(hips)
        taken: set[int] = set()
        for way, number, place in pairs:
            person = self._people[place]
            near = _NEAR + _NEAR_PER_S * (timestamp_s - person.seen_s)
            if way <= near and found[number] is None and place not in taken:
                found[number] = person
                taken.add(place)
        return found

    def _body(self, pose: Pose, person: _Person | None, hips: Array, timestamp_s: float, size: Array) -> Body:
        seen = (pose.picture_J2 - 0.5) * size / _FOCAL_LENGTH
        weights = np.where(_is_seen(pose), pose.visibility_J, 0).astype(np.float32)
        distance_m = min(max(_distance_m(seen, pose.joints_m, weights), _NEAREST_M), _FARTHEST_M)
        if person is None:
            person = _Person(self._next_id, hips, distance_m, timestamp_s)
            self._people.append(person)
            self._next_id += 1
        share = 1 - math.exp(-(timestamp_s - person.seen_s) / _DISTANCE_FOLLOWS_S)
        person.distance_m += share * (distance_m - person.distance_m)
        person.hips, person.seen_s = hips, timestamp_s
        depth_J1 = pose.joints_m[:, 2:] + person.distance_m
        side_2 = np.average(seen * depth_J1 - pose.joints_m[:, :2], axis=0, weights=weights)
        joints_m = pose.joints_m + np.append(side_2, person.distance_m)
        return Body(id=person.id, joints_m=joints_m.astype(np.float32), confidence=_confidence(pose))


def _is_seen(pose: Pose) -> Mask:
    """Return which joints (J,) are visible and within the picture."""
    inside = ((pose.picture_J2 >= 0) & (pose.picture_J2 <= 1)).all(axis=1)
    return np.asarray(inside & (pose.visibility_J >= _MIN_VISIBILITY))


def _distance_m(seen_J2: Array, joints_m: Array, weights_J: Array) -> float:
    """Return the distance at which joints (J, 3) are seen at `seen_J2`, x / z and y / z, by weighted least squares.

    x / z of a joint p of a body at t is (p_x + t_x) / (p_z + t_z): linear in t.
    """
    rows = len(joints_m)
    factors = np.zeros((2, rows, 3))
    factors[0, :, 0] = factors[1, :, 1] = 1
    factors[:, :, 2] = -seen_J2.T
    values = seen_J2.T * joints_m[:, 2] - joints_m[:, :2].T
    weights = np.tile(weights_J, 2)[:, None]
    place, *_ = np.linalg.lstsq(factors.reshape(-1, 3) * weights, values.reshape(-1) * weights[:, 0], rcond=None)
    return float(place[2])


def _confidence(pose: Pose) -> npt.NDArray[np.uint8]:
    share = pose.visibility_J
    levels = np.select([share < _MIN_VISIBILITY, share < 1 / 3, share < 2 / 3], [NO_CONFIDENCE, LOW, MEDIUM], HIGH)
    return np.asarray(levels, np.uint8)
