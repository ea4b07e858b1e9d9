"""The performer's figure: a body of a few numbers, its poses, and where they put its joints.

A pose is 15 pairs of degrees. A limb's pair is (side, forward): how far it is turned out of its
straight line, outwards and to the front, as one rotation about a horizontal axis; (0, 0) hangs
down, for trunk and head stands up; (90, 0) points outwards, (0, 90) to the front, (180, 0) the
other way up. Arms and head are relative to the trunk. So limbs keep their lengths, and a straight
line between two poses is the shortest turn. The last pair is (twist of the trunk, hop in cm).

Shapes: L frames, V = 25 kinect25 joints, S = 15 pairs, 14 segments of the body and one of the whole;
3 is x, y, z in "LUF", meters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streams.layouts import KINECT25_JOINTS, KINECT25_PARENT_FIRST, KINECT25_PARENTS

Float = npt.NDArray[np.float64]
Pose = Mapping[str, tuple[float, float]]

_J = {name: i for i, name in enumerate(KINECT25_JOINTS)}
_SEGMENTS = (
    "head", "upper_L", "fore_L", "hand_L", "upper_R", "fore_R", "hand_R",
    "trunk", "thigh_L", "shin_L", "foot_L", "thigh_R", "shin_R", "foot_R", "body",
)  # fmt: skip
_S = {name: i for i, name in enumerate(_SEGMENTS)}
ARMS, LEFT, RIGHT = slice(0, 7), slice(1, 4), slice(4, 7)
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
for _v in KINECT25_PARENT_FIRST:
    _CHAINS[_v] += _CHAINS[KINECT25_PARENTS[_v]]

REST: Pose = {
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
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

ACTION_POSES: dict[str, Action] = {
    "wave": Action(
        approach=((0.7, {"upper_R": (78, 22), "fore_R": (165, 18)}),),
        cycle=((0.28, {"fore_R": (132, 16), "hand_R": (120, 16)}), (0.28, {"fore_R": (204, 16), "hand_R": (212, 16)})),
        repeats=(2, 3),
    ),
    "clap": Action(
        approach=((0.6, {"upper": (14, 38), "fore": (12, 92)}),),
        cycle=(
            (0.22, {"upper": (2, 40), "fore": (-52, 78), "hand": (-26, 94)}),
            (0.26, {"upper": (18, 36), "fore": (18, 90), "hand": (20, 94)}),
        ),
        repeats=(2, 4),
    ),
    "raise_arms": Action(cycle=((1.0, {"upper": (8, 168), "fore": (4, 174)}), (0.4, {"upper": (9, 170)})), leave_s=1.0),
    "punch": Action(
        approach=((0.5, _GUARD),),
        cycle=(
            (0.22, {"upper_R": (20, 84), "fore_R": (16, 90), "body": (26, 0), "trunk": (0, 12)}),
            (0.26, _GUARD),
            (0.2, {}),
        ),
        repeats=(1, 2),
    ),
    "kick": Action(
        cycle=(
            (0.45, {**_STRIDE, "thigh_R": (4, -16), "shin_R": (4, -62), "foot_R": (8, 20), "trunk": (0, 6)}),
            (0.34, {"thigh_R": (4, 66), "shin_R": (4, 65), "foot_R": (6, 122), "trunk": (0, -10)}),
            (0.4, {"thigh_R": (4, 24), "shin_R": (4, -32), "foot_R": (8, 46), "trunk": (0, 2)}),
        ),
        leave_s=0.5,
    ),
    "squat": Action(
        cycle=(
            (0.9, {"thigh": (14, 80), "shin": (5, -34), "trunk": (0, 36), "head": (0, -18),
                   "upper": (8, 96), "fore": (2, 98)}),
            (0.25, {}),
        ),
        leave_s=0.9,
    ),
    "bow": Action(
        cycle=(
            (1.0, {"trunk": (0, 68), "head": (0, 16), "upper": (6, 42), "fore": (2, 54),
                   "thigh": (4, -9), "shin": (3, -9)}),
            (0.3, {}),
        ),
        leave_s=0.9,
    ),
    "jumping_jack": Action(
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
    "push": Action(
        approach=((0.6, _CHAMBER),),
        cycle=((0.5, {"upper": (5, 85), "fore": (-2, 90), "hand": (0, 150), "trunk": (0, 12)}), (0.25, {})),
        leave_s=0.8,
    ),
    "swipe": Action(
        approach=((0.6, _ASIDE),),
        cycle=((0.45, {"upper_R": (-14, 66), "fore_R": (-66, 62), "body": (16, 0)}), (0.2, {})),
    ),
    "arm_circle": Action(
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Person:
    """Hold one person: size, posture, place, and the slow sway of somebody who stands.

    `lengths_V1`: meters from each joint's parent. `rest_S2`, `sway_S2`: degrees, with the sway's
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


def apply_pose(pose: Pose, before_S2: Float) -> Float:
    """Return the pose as (S, 2): `before_S2`, with what `pose` names put in place."""
    pose_S2 = before_S2.copy()
    hands = {name.replace("fore", "hand"): pair for name, pair in pose.items() if name.startswith("fore")}
    for name, pair in {**hands, **pose}.items():
        for segment in (name,) if name in _S else (name + "_L", name + "_R"):
            pose_S2[_S[segment]] = pair
    return pose_S2


def draw_person(rng: np.random.Generator, floor_m: float) -> Person:
    """Draw somebody who stands on the floor 2.2 to 2.8 m before the sensor."""
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
    rest_S2 = apply_pose(REST, np.zeros((15, 2)))
    rest_S2[LEFT] += rng.normal(0, 2.0, 2)
    rest_S2[RIGHT] += rng.normal(0, 2.0, 2)
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
    return Person(
        lengths_V1=lengths_V1,
        rest_S2=rest_S2,
        sway_S2=sway_S2,
        rate_S2=rate_S2,
        phase_S2=phase_S2,
        ankles_23=ankles_23,
        room_from_body=np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]),
        place_3=np.array([rng.uniform(-0.4, 0.4), floor_m, rng.uniform(2.2, 2.8)]),
    )


def joints_at(person: Person, times_s: Float, turns_LS2: Float | None) -> Float:
    """Return joints in the room, shape (L, 25, 3), meters: the feet stand, the rest follows."""
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


def _segments(pose_LS2: Float) -> Float:
    """Return the directions of the 14 segments of a body that faces the sensor, shape (L, 14, 3), length 1."""
    angles_LS2 = np.deg2rad(pose_LS2[:, :14])
    # Never zero, so that sin(angle) / angle has its limit, 1.
    angle_LS1 = np.sqrt(np.einsum("lsc,lsc->ls", angles_LS2, angles_LS2) + 1e-18)[..., None]
    segments_LS3 = np.empty((len(pose_LS2), 14, 3))
    segments_LS3[..., ::2] = angles_LS2 * (np.sin(angle_LS1) / angle_LS1)
    segments_LS3[..., 1:2] = np.cos(angle_LS1)
    segments_LS3 *= _SIGNS
    return segments_LS3


def _posture(lengths_V1: Float, pose_LS2: Float) -> Float:
    """Return joints of a body that faces the sensor, shape (L, 25, 3), meters, SpineMid at zero."""
    segments_LS3 = _segments(pose_LS2)
    bones_LV3 = np.zeros((len(pose_LS2), 25, 3))
    bones_LV3[:, _ENDS] = segments_LS3
    bones_LV3[:, _J["Neck"], 1] = 1
    bones_LV3[:, _HIPS] = _HIP_DIRECTIONS
    # The collarbone rises with the arm, from 10 degrees below the level to 20 above.
    lift_L2 = np.deg2rad(5 + 15 * segments_LS3[:, _UPPER_ARMS, 1])
    bones_LV3[:, _SHOULDERS, 0], bones_LV3[:, _SHOULDERS, 1] = np.cos(lift_L2) * _SIDES, np.sin(lift_L2)
    # A thumb lies to the front of a hanging hand, and turns with the hand.
    hands_L23 = segments_LS3[:, _HANDS]
    front_L23 = -_bend(-hands_L23.reshape(-1, 3))[:, 2].reshape(hands_L23.shape)
    bones_LV3[:, _TIPS] = hands_L23
    bones_LV3[:, _THUMBS] = 0.6 * hands_L23 + 0.8 * front_L23

    trunk_L3 = segments_LS3[:, _S["trunk"]]
    turn_L33 = _twist(np.deg2rad(pose_LS2[:, _S["body"], 0])) @ _bend(trunk_L3)
    bones_LV3[:, _ABOVE_TRUNK] = bones_LV3[:, _ABOVE_TRUNK] @ turn_L33
    # The lower back bends half as far as the chest.
    lower_L3 = trunk_L3 + _UP
    bones_LV3[:, _J["SpineBase"]] = lower_L3 / -np.sqrt((lower_L3 * lower_L3).sum(axis=1, keepdims=True))
    bones_LV3 *= lengths_V1
    return np.asarray(_CHAINS @ bones_LV3, np.float64)


def _twist(angle_L: Float) -> Float:
    """Return matrices (L, 3, 3) for row vectors that bring the right shoulder to the front."""
    turn_L33 = np.zeros((len(angle_L), 3, 3))
    turn_L33[:, 0, 0] = turn_L33[:, 2, 2] = np.cos(angle_L)
    turn_L33[:, 2, 0] = np.sin(angle_L)
    turn_L33[:, 0, 2] = -turn_L33[:, 2, 0]
    turn_L33[:, 1, 1] = 1
    return turn_L33


def _bend(up_L3: Float) -> Float:
    """Return matrices (L, 3, 3) for row vectors: the shortest turn that takes up to `up_L3`."""
    column_L3: Float = up_L3 * _MINUS_XZ
    turn_L33: Float = column_L3[:, :, None] * (up_L3 / (1 + up_L3[:, 1:2]))[:, None]
    turn_L33[:, :, 1] = column_L3
    turn_L33[:, 1] = up_L3
    turn_L33[:, 0, 0] += 1
    turn_L33[:, 2, 2] += 1
    return turn_L33
