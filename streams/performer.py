"""A built-in performer: the camera of a machine that has none (`crossglg-edge serve --camera demo`).

It is synthetic. Its people are a few numbers, its actions a few key poses each, everyone is
right-handed: it shows how the device works, and no claim about accuracy may rest on it.

A pose is 15 pairs of degrees. A limb's pair is (side, forward): how far it is turned out of its
straight line, outwards and to the front, as one rotation about a horizontal axis; (0, 0) hangs
down, for trunk and head stands up; (90, 0) points outwards, (0, 90) to the front, (180, 0) the
other way up. Arms and head are relative to the trunk. So limbs keep their lengths, and a straight
line between two poses is the shortest turn. The last pair is (twist of the trunk, hop in cm).

Shapes: L frames, V = 25 kinect25 joints, K key poses, S = 15 pairs, 14 segments of the body and one
of the whole; 3 is x, y, z in "LUF", metres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from streams.errors import CameraError
from streams.frame import LOW, MEDIUM, NO_CONFIDENCE, Body, SkeletonFrame
from streams.layouts import KINECT25_JOINTS, KINECT25_PARENTS

Array = npt.NDArray[np.float32]
Float = npt.NDArray[np.float64]
Pose = Mapping[str, tuple[float, float]]

_J = {name: i for i, name in enumerate(KINECT25_JOINTS)}
_SEGMENTS = (
    "head", "upper_L", "fore_L", "hand_L", "upper_R", "fore_R", "hand_R",
    "trunk", "thigh_L", "shin_L", "foot_L", "thigh_R", "shin_R", "foot_R", "body",
)  # fmt: skip
_S = {name: i for i, name in enumerate(_SEGMENTS)}
_ARMS, _LEFT, _RIGHT = slice(0, 7), slice(1, 4), slice(4, 7)
# The joint at the far end of each segment.
_ENDS = [_J[name] for name in (
    "Head", "ElbowLeft", "WristLeft", "HandLeft", "ElbowRight", "WristRight", "HandRight",
    "SpineShoulder", "KneeLeft", "AnkleLeft", "FootLeft", "KneeRight", "AnkleRight", "FootRight",
)]  # fmt: skip
# From (side, up, forward) of a segment to x, y, z of a person who faces the sensor.
_SIGNS = np.array([[-1 if s.endswith("_L") else 1, 1 if s in ("head", "trunk") else -1, -1] for s in _SEGMENTS[:14]])

_SIDES = np.array([-1.0, 1.0])
_UPPER_ARMS, _HANDS = slice(1, 5, 3), slice(3, 7, 3)
_SHOULDERS, _HIPS, _TIPS, _THUMBS, _ANKLES = (
    [_J[name + "Left"], _J[name + "Right"]] for name in ("Shoulder", "Hip", "HandTip", "Thumb", "Ankle")
)
_ABOVE_TRUNK = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 21, 22, 23, 24]
_HIP_DIRECTIONS = np.array([[-0.95, -0.312, 0], [0.95, -0.312, 0]])
_UP = np.array([0.0, 1.0, 0.0])
_MINUS_XZ = np.array([-1.0, 1.0, -1.0])
# Row v marks the joints on the way from SpineMid to joint v: chains of bones sum to places.
_CHAINS = np.eye(25)
for _v in (0, 20, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24):
    _CHAINS[_v] += _CHAINS[KINECT25_PARENTS[_v]]

_REST: Pose = {
    "head": (0, 6), "trunk": (0, 2), "upper": (9, -3), "fore": (7, 12), "hand": (4, 16),
    "thigh": (4, 3), "shin": (3, -3), "foot": (12, 68),
}  # fmt: skip

# Parts of the height (Drillis and Contini 1966, as in Winter, Biomechanics, fig. 4.1), with the
# narrow hips and the long neck that a Kinect reports.
_PROPORTIONS = {
    "SpineBase": 0.150, "SpineShoulder": 0.132, "Neck": 0.042, "Head": 0.080,
    "Shoulder": 0.104, "Elbow": 0.172, "Wrist": 0.146, "Hand": 0.045, "HandTip": 0.050, "Thumb": 0.034,
    "Hip": 0.048, "Knee": 0.243, "Ankle": 0.240, "Foot": 0.072,
}  # fmt: skip
_ANKLE_HEIGHT = 0.042
_NOISE_M = {
    "Knee": 0.004, "Ankle": 0.006, "Foot": 0.008, "Elbow": 0.004, "Wrist": 0.005, "Hand": 0.006,
    "HandTip": 0.009, "Thumb": 0.009,
}  # fmt: skip
_OFTEN_LOST = ("Wrist", "Hand", "HandTip", "Thumb", "Ankle", "Foot")

_ARRIVE_S, _BREAK_OFF_S = 0.5, 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Action:
    """Hold an action's key poses, each with the seconds to reach it.

    A pose names what differs from the key before; "upper" is both upper arms, and so on; a hand
    follows its forearm unless named. After `repeats` cycles the body goes back to rest.
    """

    approach: tuple[tuple[float, Pose], ...] = ()
    cycle: tuple[tuple[float, Pose], ...]
    repeats: tuple[int, int] = (1, 1)
    leave_s: float = 0.7


_GUARD: Pose = {"upper": (16, 12), "fore": (-18, 132), "trunk": (0, 6), "body": (0, 0)}
_CHAMBER: Pose = {"upper": (26, -12), "fore": (4, 96), "hand": (0, 150), "trunk": (0, 0)}
_STRIDE: Pose = {"upper_L": (14, 32), "fore_L": (6, 55), "upper_R": (22, -24), "fore_R": (14, 2)}

_ASIDE: Pose = {"upper_R": (66, 34), "fore_R": (78, 52), "body": (-12, 0)}
_HOP: Pose = {"upper": (88, 4), "fore": (86, 6), "thigh": (13, 2), "shin": (13, -2), "body": (0, 9)}
_RING_TOP: Pose = {"upper": (112, 0), "fore": (114, 3)}

_ACTIONS: dict[str, _Action] = {
    "wave": _Action(
        approach=((0.7, {"upper_R": (78, 22), "fore_R": (165, 18)}),),
        cycle=(
            (0.28, {"fore_R": (132, 16), "hand_R": (120, 16)}),
            (0.28, {"fore_R": (204, 16), "hand_R": (212, 16)}),
        ),
        repeats=(2, 3),
    ),
    "clap": _Action(
        approach=((0.6, {"upper": (14, 38), "fore": (12, 92)}),),
        cycle=(
            (0.22, {"upper": (2, 40), "fore": (-52, 78), "hand": (-26, 94)}),
            (0.26, {"upper": (18, 36), "fore": (18, 90), "hand": (20, 94)}),
        ),
        repeats=(2, 4),
    ),
    "raise_arms": _Action(
        cycle=((1.0, {"upper": (8, 168), "fore": (4, 174)}), (0.4, {"upper": (9, 170)})),
        leave_s=1.0,
    ),
    "punch": _Action(
        approach=((0.5, _GUARD),),
        cycle=(
            (0.22, {"upper_R": (20, 84), "fore_R": (16, 90), "body": (26, 0), "trunk": (0, 12)}),
            (0.26, _GUARD),
            (0.2, {}),
        ),
        repeats=(1, 2),
    ),
    "kick": _Action(
        cycle=(
            (0.45, {**_STRIDE, "thigh_R": (4, -16), "shin_R": (4, -62), "foot_R": (8, 20), "trunk": (0, 6)}),
            (0.34, {"thigh_R": (4, 66), "shin_R": (4, 65), "foot_R": (6, 122), "trunk": (0, -10)}),
            (0.4, {"thigh_R": (4, 24), "shin_R": (4, -32), "foot_R": (8, 46), "trunk": (0, 2)}),
        ),
        leave_s=0.5,
    ),
    "squat": _Action(
        cycle=(
            (0.9, {"thigh": (14, 80), "shin": (5, -34), "trunk": (0, 36), "head": (0, -18),
                   "upper": (8, 96), "fore": (2, 98)}),
            (0.25, {}),
        ),
        leave_s=0.9,
    ),
    "bow": _Action(
        cycle=(
            (1.0, {"trunk": (0, 68), "head": (0, 16), "upper": (6, 42), "fore": (2, 54),
                   "thigh": (4, -9), "shin": (3, -9)}),
            (0.3, {}),
        ),
        leave_s=0.9,
    ),
    "jumping_jack": _Action(
        approach=((0.25, {"thigh": (5, 16), "shin": (3, -16)}),),
        cycle=(
            (0.22, _HOP),
            (0.22, {"upper": (162, 6), "fore": (176, 6), "thigh": (23, 8), "shin": (19, -8), "body": (0, 0)}),
            (0.22, _HOP),
            (0.22, {"upper": (12, 0), "fore": (10, 6), "thigh": (5, 12), "shin": (3, -12), "body": (0, 0)}),
        ),
        repeats=(2, 3),
        leave_s=0.4,
    ),
    "push": _Action(
        approach=((0.6, _CHAMBER),),
        cycle=((0.5, {"upper": (5, 85), "fore": (-2, 90), "hand": (0, 150), "trunk": (0, 12)}), (0.25, {})),
        leave_s=0.8,
    ),
    "swipe": _Action(
        approach=((0.6, _ASIDE),),
        cycle=((0.45, {"upper_R": (-14, 66), "fore_R": (-66, 62), "body": (16, 0)}), (0.2, {})),
        leave_s=0.7,
    ),
    "arm_circle": _Action(
        approach=((0.6, _RING_TOP),),
        cycle=(
            (0.17, {"upper": (88, 26), "fore": (88, 32)}),
            (0.17, {"upper": (62, 0), "fore": (60, 3)}),
            (0.17, {"upper": (88, -24), "fore": (88, -22)}),
            (0.17, _RING_TOP),
        ),
        repeats=(2, 3),
        leave_s=0.6,
    ),
}  # fmt: skip

ACTIONS: tuple[str, ...] = tuple(_ACTIONS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Person:
    """Hold one person: size, posture, place, and the slow sway of somebody who stands.

    `lengths_V1`: metres from each joint's parent. `rest_S2`, `sway_S2`: degrees, with the sway's
    `rate_S2` in radians per second and `phase_S2`. `ankles_23`: where the feet stand.
    """

    lengths_V1: Float
    rest_S2: Float
    sway_S2: Float
    rate_S2: Float
    phase_S2: Float
    ankles_23: Float
    room_from_body: Float
    place_3: Float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Motion:
    """Hold one performance: turns away from rest at `times_s` (K,), with the slopes there.

    `turns_KD`, `slopes_KD`: degrees, and per second, D = 2 S. `lags_D`: seconds by which the
    forearm and the hand follow.
    """

    times_s: Float
    turns_KD: Float
    slopes_KD: Float
    lags_D: Float
    duration_s: float


class _Sensor:
    """See joints as a depth sensor does: with noise, and now and then a hand or a foot badly."""

    def __init__(self, rng: np.random.Generator, fps: float) -> None:
        kinds = [name.removesuffix("Left").removesuffix("Right") for name in KINECT25_JOINTS]
        self._rng = rng
        self._fps = fps
        # Depth is the worst of the three.
        self._noise_m = np.array([_NOISE_M.get(kind, 0.003) for kind in kinds])[:, None] * [0.8, 0.8, 1.2]
        self._faults_per_frame = np.array([0.015 / fps if kind in _OFTEN_LOST else 0.0 for kind in kinds])
        self._frames_left = np.zeros(25, np.int64)
        self._lost = np.zeros(25, np.bool_)

    def see(self, joints_V3: Float) -> tuple[Array, npt.NDArray[np.uint8]]:
        """Return the joints as seen, NaN where lost, and their confidence."""
        seen_V3 = joints_V3 + self._noise_m * self._rng.standard_normal((25, 3))
        faults = self._rng.random(25) < self._faults_per_frame
        if faults.any():
            frames = self._rng.uniform(0.1, 0.4, 25) * self._fps
            self._frames_left[faults] = np.ceil(frames[faults]).astype(np.int64)
            self._lost[faults] = self._rng.random(25)[faults] < 0.3
        confidence = np.full(25, MEDIUM, np.uint8)
        poor = self._frames_left > 0
        if poor.any():
            confidence[poor] = LOW
            seen_V3[poor] += 2 * (seen_V3 - joints_V3)[poor]
            confidence[poor & self._lost] = NO_CONFIDENCE
            seen_V3[poor & self._lost] = np.nan
            self._frames_left[poor] -= 1
        return seen_V3.astype(np.float32), confidence


class Performer:
    """Play people who perform actions in turn before a sensor, one at a time, without end.

    Pure: no clock and no sleep; the same seed and the same cues give the same frames. Without a
    cue: rest, an action, rest, another; after some actions nobody, then somebody else.
    """

    def __init__(self, *, seed: int = 0, fps: float = 30.0, source: str = "demo", epoch: str | None = None) -> None:
        if not fps > 0:
            raise CameraError(f"performer: expected a frame rate above 0, got fps = {fps}", code="bad_fps")
        self._rng = np.random.default_rng([seed, 0])
        self._sensor = _Sensor(np.random.default_rng([seed, 1]), fps)
        self._fps = fps
        self._source = source
        self._epoch = f"demo-{seed}" if epoch is None else epoch
        self._floor_m = -self._rng.uniform(0.88, 0.98)
        self._seq = 0
        self._programme: list[str] = []
        self._cue: tuple[str, float] | None = None
        self._label: str | None = None
        self._stage: Literal["rest", "act", "away"] = "rest"
        self._body_id = 0
        self._arrive(0.0)

    @property
    def current(self) -> str | None:
        """The action in the newest frame, None at rest: the truth that a recogniser is held against."""
        return self._label

    def frame(self) -> SkeletonFrame:
        """Return the next frame, at seq / fps seconds from the start."""
        now_s = self._seq / self._fps
        if now_s >= self._until_s:
            self._next_stage(now_s)
        bodies: tuple[Body, ...] = ()
        if self._stage != "away":
            joints_V3, confidence = self._sensor.see(self._joints(now_s))
            bodies = (Body(id=self._body_id, joints_m=joints_V3, confidence=confidence),)
        frame = SkeletonFrame(
            source=self._source,
            epoch=self._epoch,
            seq=self._seq,
            timestamp_s=now_s,
            t_send_s=now_s,
            fps=self._fps,
            bodies=bodies,
        )
        self._seq += 1
        return frame

    def cue(self, label: str, after_s: float = 0.0) -> bool:
        """Have the person stand still and perform `label` in `after_s` seconds; False if unknown.

        A running action is broken off, which takes 0.4 s; where nobody is there, the next person
        is the one who performs. Afterwards somebody else comes, and performs it too, as the
        second action. A later cue takes the place of an earlier one.
        """
        if label not in _ACTIONS:
            return False
        now_s = self._seq / self._fps
        self._cue = (label, now_s + after_s)
        if self._stage == "act":
            self._stage, self._label = "rest", None
            self._broken_off_s = now_s
        if self._stage == "rest":
            self._until_s = max(now_s + after_s, self._broken_off_s + _BREAK_OFF_S)
        return True

    def _next_stage(self, now_s: float) -> None:
        if self._stage == "away":
            self._body_id += 1
            self._arrive(now_s)
        elif self._stage == "act":
            self._rest(now_s)
            if self._num_left == 0:
                # Who leaves stays a second longer, so that what watches sees the end of the action.
                self._until_s += 1.0
        elif self._cue is None and self._num_left == 0:
            self._stage, self._until_s = "away", now_s + self._rng.uniform(0.3, 0.8)
        else:
            self._act(now_s)

    def _arrive(self, now_s: float) -> None:
        self._person = _person(self._rng, self._floor_m)
        self._motion: _Motion | None = None
        self._num_left = int(self._rng.integers(3, 6))
        self._rest(now_s)
        if self._cue is not None:
            self._until_s = max(self._cue[1], now_s + _ARRIVE_S)

    def _rest(self, now_s: float) -> None:
        self._stage, self._label = "rest", None
        self._broken_off_s = -np.inf
        self._until_s = now_s + self._rng.uniform(1.0, 2.0)

    def _act(self, now_s: float) -> None:
        if not self._programme:
            self._programme = [ACTIONS[i] for i in self._rng.permutation(len(ACTIONS))]
        if self._cue is None:
            self._label = self._programme.pop(0)
            self._num_left -= 1
        else:
            self._label, self._cue = self._cue[0], None
            self._programme.insert(1, self._label)
            self._num_left = 0
        self._stage = "act"
        self._broken_off_s = np.inf
        self._motion, self._motion_start_s = _motion(_ACTIONS[self._label], self._rng), now_s
        self._until_s = now_s + self._motion.duration_s

    def _joints(self, now_s: float) -> Float:
        moment = np.array([now_s])
        turns_LS2 = None
        if self._motion is not None and now_s < self._motion_start_s + self._motion.duration_s:
            turns_LS2 = _turns(self._motion, moment - self._motion_start_s)
            if now_s > self._broken_off_s:
                left = max(0.0, 1 - (now_s - self._broken_off_s) / _BREAK_OFF_S)
                turns_LS2 *= left * left * (3 - 2 * left)
        joints_V3: Float = _joints(self._person, moment, turns_LS2)[0]
        return joints_V3


def perform(action: str, *, seed: int, fps: float = 30.0) -> tuple[Float, Array]:
    """Return one performance, with a little rest at both ends; a seed is one person.

    Returns timestamps (L,), float64, seconds from 0, and joints (L, 25, 3), float32, metres, NaN
    where missing. Raises CameraError for an action that is not in ACTIONS.
    """
    if action not in _ACTIONS:
        raise CameraError(
            f"performer: expected one of {', '.join(ACTIONS)}; got action {action!r}",
            code="unknown_action",
        )
    person = _person(np.random.default_rng([seed, 0]), floor_m=-0.93)
    rng = np.random.default_rng([seed, 1 + ACTIONS.index(action)])
    sensor = _Sensor(rng, fps)
    motion = _motion(_ACTIONS[action], rng)
    before_s, after_s = rng.uniform(0.2, 0.5, 2)
    timestamps_s = np.arange(0.0, before_s + motion.duration_s + after_s, 1 / fps)
    joints_LV3 = _joints(person, timestamps_s, _turns(motion, timestamps_s - before_s))
    return timestamps_s, np.stack([sensor.see(joints_V3)[0] for joints_V3 in joints_LV3])


def _pose(pose: Pose, before_S2: Float) -> Float:
    """Return the pose as (S, 2): `before_S2`, with what `pose` names put in place."""
    pose_S2 = before_S2.copy()
    hands = {name.replace("fore", "hand"): pair for name, pair in pose.items() if name.startswith("fore")}
    for name, pair in {**hands, **pose}.items():
        for segment in (name,) if name in _S else (name + "_L", name + "_R"):
            pose_S2[_S[segment]] = pair
    return pose_S2


def _person(rng: np.random.Generator, floor_m: float) -> _Person:
    height_m = rng.uniform(1.5, 1.95)
    arms, legs, trunk, width = rng.uniform(0.94, 1.06, 4)
    build = {
        **dict.fromkeys(("Elbow", "Wrist", "Hand", "HandTip", "Thumb"), arms),
        **dict.fromkeys(("Knee", "Ankle"), legs),
        **dict.fromkeys(("SpineBase", "SpineShoulder", "Neck"), trunk),
        **dict.fromkeys(("Shoulder", "Hip"), width),
    }
    kinds = [name.removesuffix("Left").removesuffix("Right") for name in KINECT25_JOINTS]
    lengths_V1 = np.array([[height_m * _PROPORTIONS.get(kind, 0.0) * build.get(kind, 1.0)] for kind in kinds])
    rest_S2 = _pose(_REST, np.zeros((15, 2)))
    rest_S2[_LEFT] += rng.normal(0, 2.0, 2)
    rest_S2[_RIGHT] += rng.normal(0, 2.0, 2)
    sway_S2 = np.full((15, 2), 1.0)
    rate_S2 = 2 * np.pi * rng.uniform(0.12, 0.35, (15, 2))
    phase_S2 = rng.uniform(0, 2 * np.pi, (15, 2))
    # Both legs lean as one, else the feet would slide; the feet stay.
    legs_S = [_S[name] for name in ("thigh_L", "shin_L", "thigh_R", "shin_R")]
    sway_S2[legs_S] = [[0.5, 0.4], [0.5, 0.4], [-0.5, 0.4], [-0.5, 0.4]]
    rate_S2[legs_S], phase_S2[legs_S] = rate_S2[legs_S[0]], phase_S2[legs_S[0]]
    sway_S2[[_S["foot_L"], _S["foot_R"], _S["body"]]] = 0
    facing = np.deg2rad(rng.uniform(-25, 25))
    cos, sin = np.cos(facing), np.sin(facing)
    posture_V3 = _posture(lengths_V1, rest_S2[None])[0]
    ankles_23 = posture_V3[_ANKLES] - posture_V3[_J["SpineBase"]]
    ankles_23[:, 1] = _ANKLE_HEIGHT * height_m
    return _Person(
        lengths_V1=lengths_V1,
        rest_S2=rest_S2,
        sway_S2=sway_S2,
        rate_S2=rate_S2,
        phase_S2=phase_S2,
        ankles_23=ankles_23,
        room_from_body=np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]),
        place_3=np.array([rng.uniform(-0.4, 0.4), floor_m, rng.uniform(2.2, 2.8)]),
    )


def _motion(action: _Action, rng: np.random.Generator) -> _Motion:
    """Draw one performance of an action: its speed, its reach, its repeats, and who leads."""
    rest_S2 = _pose(_REST, np.zeros((15, 2)))
    repeats = int(rng.integers(action.repeats[0], action.repeats[1] + 1))
    seconds, poses = [0.0], [rest_S2]
    for duration_s, pose in (*action.approach, *action.cycle * repeats, (action.leave_s, _REST)):
        seconds.append(duration_s)
        poses.append(_pose(pose, poses[-1]))
    num_keys = len(poses)
    poses[-1] = rest_S2
    speed = np.exp(rng.uniform(np.log(0.7), np.log(1.4)))
    times_s = np.cumsum(seconds * np.exp(rng.normal(0, 0.06, num_keys)) / speed)
    times_s -= times_s[0]
    reach_K11 = rng.uniform(0.86, 1.08) * (1 + rng.normal(0, 0.03, (num_keys, 1, 1)))
    turns_KS2 = (np.stack(poses) - rest_S2) * reach_K11
    turns_KS2[:, _LEFT] *= 1 + rng.normal(0, 0.02)
    lags_S2 = np.zeros((15, 2))
    lags_S2[_LEFT] += rng.uniform(0, 0.04)
    lags_S2[_RIGHT] += rng.uniform(0, 0.04)
    follow_s = rng.uniform(0.01, 0.04)
    lags_S2[_ARMS] += follow_s * np.array([0, 0, 1, 2, 0, 1, 2])[:, None]
    lags_D = lags_S2.reshape(-1)
    turns_KD = turns_KS2.reshape(num_keys, -1)
    return _Motion(
        times_s=times_s,
        turns_KD=turns_KD,
        slopes_KD=_slopes(times_s, turns_KD),
        lags_D=lags_D,
        duration_s=float(times_s[-1] + lags_D.max()),
    )


def _slopes(times_s: Float, turns_KD: Float) -> Float:
    """Return the slopes of a curve that eases in and out of every extreme and never overshoots.

    Source: Fritsch and Butland 1984, a harmonic mean where the curve goes on, else zero.
    """
    rise_KD = np.diff(turns_KD, axis=0) / np.diff(times_s)[:, None]
    before, after = rise_KD[:-1], rise_KD[1:]
    goes_on = before * after > 0
    total = np.where(goes_on, before + after, 1.0)
    slopes_KD = np.zeros_like(turns_KD)
    slopes_KD[1:-1] = np.where(goes_on, 2 * before * after / total, 0.0)
    return slopes_KD


def _turns(motion: _Motion, times_s: Float) -> Float:
    """Return the turns away from rest, shape (L, S, 2), degrees, zero before and after the motion."""
    times_LD = np.clip(times_s[:, None] - motion.lags_D, 0, motion.times_s[-1])
    key = np.minimum(np.searchsorted(motion.times_s, times_LD, side="right") - 1, len(motion.times_s) - 2)
    step_s = motion.times_s[key + 1] - motion.times_s[key]
    x = (times_LD - motion.times_s[key]) / step_s
    dof = np.arange(len(motion.lags_D))
    start, end = motion.turns_KD[key, dof], motion.turns_KD[key + 1, dof]
    leave, arrive = motion.slopes_KD[key, dof] * step_s, motion.slopes_KD[key + 1, dof] * step_s
    turns = start + x * x * (3 - 2 * x) * (end - start) + x * (1 - x) * ((1 - x) * leave - x * arrive)
    return np.asarray(turns.reshape(len(times_s), 15, 2), np.float64)


def _joints(person: _Person, times_s: Float, turns_LS2: Float | None) -> Float:
    """Return joints in the room, shape (L, 25, 3), metres: the feet stand, the rest follows."""
    phase_LS2 = person.rate_S2 * times_s[:, None, None] + person.phase_S2
    pose_LS2 = person.rest_S2 + person.sway_S2 * np.sin(phase_LS2)
    if turns_LS2 is not None:
        pose_LS2 += turns_LS2
    posture_LV3 = _posture(person.lengths_V1, pose_LS2)
    ankles_L23 = posture_LV3[:, _ANKLES]
    # The lower foot carries; 2 cm between "both" and "one" keeps the change smooth.
    carries_left = 1 / (1 + np.exp((ankles_L23[:, 0, 1] - ankles_L23[:, 1, 1]) / 0.02))
    carries_L2 = np.stack((carries_left, 1 - carries_left), axis=1)
    root_L3 = ((person.ankles_23 - ankles_L23) * carries_L2[..., None]).sum(axis=1)
    root_L3[:, 1] += pose_LS2[:, _S["body"], 1] / 100
    posture_LV3 += root_L3[:, None]
    return np.asarray(posture_LV3 @ person.room_from_body + person.place_3, np.float64)


def _posture(lengths_V1: Float, pose_LS2: Float) -> Float:
    """Return joints of a body that faces the sensor, shape (L, 25, 3), metres, SpineMid at zero."""
    angles_LS2 = np.deg2rad(pose_LS2)
    limbs_LS2 = angles_LS2[:, :14]
    # Never zero, so that sin(angle) / angle has its limit, 1.
    angle_LS1 = np.sqrt(np.einsum("lsc,lsc->ls", limbs_LS2, limbs_LS2) + 1e-18)[..., None]
    sinc_LS1, cos_LS1 = np.sin(angle_LS1) / angle_LS1, np.cos(angle_LS1)
    segments_LS3 = np.empty((len(pose_LS2), 14, 3))
    segments_LS3[..., ::2] = limbs_LS2 * sinc_LS1
    segments_LS3[..., 1:2] = cos_LS1
    segments_LS3 *= _SIGNS

    bones_LV3 = np.zeros((len(pose_LS2), 25, 3))
    bones_LV3[:, _ENDS] = segments_LS3
    bones_LV3[:, _J["Neck"], 1] = 1
    bones_LV3[:, _HIPS] = _HIP_DIRECTIONS
    # The collarbone rises with the arm, from 10 degrees below the level to 20 above.
    lift_L2 = np.deg2rad(5 + 15 * segments_LS3[:, _UPPER_ARMS, 1])
    bones_LV3[:, _SHOULDERS, 0], bones_LV3[:, _SHOULDERS, 1] = np.cos(lift_L2) * _SIDES, np.sin(lift_L2)
    bones_LV3[:, _TIPS] = segments_LS3[:, _HANDS]
    # A thumb lies to the front of a hanging hand, and turns with the hand.
    limbs_L22, angle_L2 = limbs_LS2[:, _HANDS], angle_LS1[:, _HANDS, 0]
    front_L23 = np.empty_like(segments_LS3[:, _HANDS])
    side, forward = limbs_L22[..., 0], limbs_L22[..., 1]
    bend = (cos_LS1[:, _HANDS, 0] - 1) / (angle_L2 * angle_L2)
    front_L23[..., 0] = side * forward * bend * _SIDES
    front_L23[..., 1] = forward * sinc_LS1[:, _HANDS, 0]
    front_L23[..., 2] = -1 - forward * forward * bend
    bones_LV3[:, _THUMBS] = 0.6 * segments_LS3[:, _HANDS] + 0.8 * front_L23

    trunk_L3 = segments_LS3[:, _S["trunk"]]
    turn_L33 = _twisted(angles_LS2[:, _S["body"], 0]) @ _bent(trunk_L3)
    bones_LV3[:, _ABOVE_TRUNK] = bones_LV3[:, _ABOVE_TRUNK] @ turn_L33
    # The lower back bends half as far as the chest.
    lower_L3 = trunk_L3 + _UP
    bones_LV3[:, _J["SpineBase"]] = lower_L3 / -np.sqrt((lower_L3 * lower_L3).sum(axis=1, keepdims=True))
    bones_LV3 *= lengths_V1
    return np.asarray(_CHAINS @ bones_LV3, np.float64)


def _twisted(angle_L: Float) -> Float:
    """Return matrices (L, 3, 3) for row vectors that bring the right shoulder to the front."""
    turn_L33 = np.zeros((len(angle_L), 3, 3))
    turn_L33[:, 0, 0] = turn_L33[:, 2, 2] = np.cos(angle_L)
    turn_L33[:, 2, 0] = np.sin(angle_L)
    turn_L33[:, 0, 2] = -turn_L33[:, 2, 0]
    turn_L33[:, 1, 1] = 1
    return turn_L33


def _bent(up_L3: Float) -> Float:
    """Return matrices (L, 3, 3) for row vectors: the shortest turn that takes up to `up_L3`."""
    column_L3: Float = up_L3 * _MINUS_XZ
    turn_L33: Float = column_L3[:, :, None] * (up_L3 / (1 + up_L3[:, 1:2]))[:, None]
    turn_L33[:, :, 1] = column_L3
    turn_L33[:, 1] = up_L3
    turn_L33[:, 0, 0] += 1
    turn_L33[:, 2, 2] += 1
    return turn_L33
