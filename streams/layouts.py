"""Skeleton layouts: joint names, bones, left-right pairs, axes, and the map of each to kinect25.

Axes are three letters, one per coordinate, for the direction in which it grows as the sensor
sees it: L/R left/right, U/D up/down, F/B forward (away from the sensor) / backward. Kinect v2 is
"LUF", Azure Kinect and images are "RDF". Everything inside the project is kinect25 in "LUF", in
meters: a person who faces the sensor has the right shoulder at the larger x.

Shapes: J joints of a native layout, V = 25 joints of kinect25, T frames.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import msgspec
import numpy as np

from streams.arrays import Array, Mask
from streams.errors import LayoutError

KINECT25_JOINTS = (
    "SpineBase", "SpineMid", "Neck", "Head",
    "ShoulderLeft", "ElbowLeft", "WristLeft", "HandLeft",
    "ShoulderRight", "ElbowRight", "WristRight", "HandRight",
    "HipLeft", "KneeLeft", "AnkleLeft", "FootLeft",
    "HipRight", "KneeRight", "AnkleRight", "FootRight",
    "SpineShoulder", "HandTipLeft", "ThumbLeft", "HandTipRight", "ThumbRight",
)  # fmt: skip
KINECT25_AXES = "LUF"
# How joint names say left and right.
_SIDES = (("Left", "Right"), ("left", "right"), ("^L", "R"), ("^l", "r"))

# Parent of each kinect25 joint, rooted at SpineMid (joint 2 of NTU counts from 1).
KINECT25_PARENTS = (
    1, 1, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 7, 11, 11,
)  # fmt: skip
# The same as InfoGCN's authors have it: the tip of a hand hangs on its thumb.
INFOGCN_PARENTS = (*KINECT25_PARENTS[:21], 22, 7, 24, 11)
# Joints in an order in which a parent comes before its children, without the root.
KINECT25_PARENT_FIRST = (0, 20, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Describe how one kind of source names and orders its joints.

    `kinect25_weights`: shape (25, J), float32; row v mixes native joints into kinect25 joint v and
    sums to 1, or is all zero where the layout has nothing for it. `substitute`: shape (25,), bool;
    true where the row is only the nearest stand-in for the joint.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[int, int], ...]
    axes: str
    kinect25_weights: Array
    substitute: Mask

    @property
    def num_joints(self) -> int:
        """The number of native joints, J."""
        return len(self.joints)


def axes_matrix(axes: str) -> Array:
    """Return the (3, 3) float32 matrix that takes row vectors in `axes` to kinect25's "LUF".

    Raises LayoutError unless `axes` names left/right, up/down and forward/backward once each.
    """
    target = {"L": (0, 1.0), "R": (0, -1.0), "U": (1, 1.0), "D": (1, -1.0), "F": (2, 1.0), "B": (2, -1.0)}
    matrix = np.zeros((3, 3), np.float32)
    if len(axes) == 3 and all(letter in target for letter in axes):
        for row, letter in enumerate(axes):
            column, sign = target[letter]
            matrix[row, column] = sign
    if abs(float(np.linalg.det(matrix))) != 1.0:
        raise LayoutError(
            f"axes {axes!r}: expected three letters, one each of L/R, U/D and F/B",
            code="unknown_axes",
            hint='Kinect v2 is "LUF", Azure Kinect and image coordinates are "RDF".',
        )
    return matrix


@cache
def _axes_matrix_cached(axes: str) -> Array:
    matrix = axes_matrix(axes)
    matrix.setflags(write=False)
    return matrix


def to_kinect25(joints_m: Array, layout: Layout, *, axes: str | None = None, mirrored: bool = False) -> Array:
    """Map native joints to kinect25 joints in "LUF".

    `joints_m`: shape (..., J, 3), float32, meters, NaN where missing. Returns (..., 25, 3), NaN
    where every joint that a kinect25 joint is made of is missing. `axes` overrides the layout's
    own; `mirrored` undoes a selfie view (x negated, left and right swapped).
    """
    weights = layout.kinect25_weights
    present = np.isfinite(joints_m).all(axis=-1, keepdims=True)
    if present.all():
        mapped = weights @ joints_m
        if not weights.any(axis=1).all():
            mapped[..., ~weights.any(axis=1), :] = np.nan
    else:
        share = weights @ present.astype(np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):
            mapped = (weights @ np.where(present, joints_m, np.float32(0.0))) / share
        mapped[np.broadcast_to(share <= 1e-6, mapped.shape)] = np.nan
    axes = axes or layout.axes
    if axes != KINECT25_AXES:
        mapped = mapped @ _axes_matrix_cached(axes)
    return mirrored_view(mapped) if mirrored else np.asarray(mapped, np.float32)


def mirrored_view(joints_m: Array) -> Array:
    """Return what a mirror shows: kinect25 joints (..., 25, 3) in "LUF", left and right exchanged, x negated."""
    return np.asarray(joints_m[..., KINECT25_MIRROR, :] * np.array([-1, 1, 1], np.float32), np.float32)


class _JointMap(msgspec.Struct):
    joints: Annotated[list[str | None], msgspec.Meta(min_length=25, max_length=25)]
    exact: Annotated[list[bool], msgspec.Meta(min_length=25, max_length=25)]
    blend: dict[str, dict[str, Annotated[float, msgspec.Meta(ge=0.001, le=1000)]]]


def layout_from_map(name: str, native: Sequence[str], entry: Mapping[str, Any], person: str = "") -> Layout:
    """Build a layout from one entry of an archive's joint_maps.json.

    `native`: the archive's joint names. `entry` has `map` (or `map_p1`, chosen by `person` =
    "_p1"): a native joint per kinect25 joint, null where there is none; `exact`: false for a
    substitute; `blend`: native joints with weights, to prefer where given. Raises LayoutError.
    """
    parts = {
        "joints": entry.get(f"map{person}"),
        "exact": entry.get("exact") or [True] * 25,
        "blend": entry.get("blend") or {},
    }
    try:
        joint_map = msgspec.convert(parts, _JointMap)
    except msgspec.ValidationError as error:
        raise LayoutError(
            f"joint map {name!r}: {str(error).replace('$.joints', f'$.map{person}')}",
            code="bad_joint_map",
            hint="Give one native joint per kinect25 joint, null where there is none.",
        ) from error
    prefix = person.lstrip("_").upper() + "_" if person else ""
    sources: dict[str, dict[str, float]] = {
        joint: ({source: 1.0} if source is not None else {})
        for joint, source in zip(KINECT25_JOINTS, joint_map.joints, strict=True)
    }
    for joint, blend in joint_map.blend.items():
        sources[joint] = {part if part in native else prefix + part: weight for part, weight in blend.items()}
    substitutes = [joint for joint, is_exact in zip(KINECT25_JOINTS, joint_map.exact, strict=True) if not is_exact]
    return _layout(name, tuple(native), KINECT25_AXES, sources, substitutes)


def _layout(
    name: str,
    joints: tuple[str, ...],
    axes: str,
    sources: Mapping[str, Mapping[str, float]],
    substitutes: Sequence[str] = (),
) -> Layout:
    unknown = sources.keys() - set(KINECT25_JOINTS)
    if unknown:
        raise LayoutError(
            f"layout {name!r}: {', '.join(sorted(unknown))} is no kinect25 joint; "
            f"expected some of {', '.join(KINECT25_JOINTS)}",
            code="bad_joint_map",
        )
    order = {joint: i for i, joint in enumerate(joints)}
    weights = np.zeros((25, len(joints)), np.float32)
    for row, joint in enumerate(KINECT25_JOINTS):
        for source, weight in sources.get(joint, {}).items():
            if source not in order:
                raise LayoutError(
                    f"layout {name!r}: kinect25 joint {joint} is made of {source!r}, "
                    f"which is not among its joints {', '.join(joints)}",
                    code="bad_joint_map",
                )
            weights[row, order[source]] += weight
    totals = weights.sum(axis=1, keepdims=True)
    weights = np.divide(weights, totals, out=weights, where=totals > 0)
    weights.setflags(write=False)
    substitute = np.array([joint in substitutes for joint in KINECT25_JOINTS])
    substitute.setflags(write=False)
    return Layout(
        name=name,
        joints=joints,
        bones=_bones(joints, weights),
        pairs=_pairs(joints),
        axes=axes,
        kinect25_weights=weights,
        substitute=substitute,
    )


def _pairs(joints: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    order = {joint: i for i, joint in enumerate(joints)}
    pairs = []
    for joint, left in order.items():
        mirrored = (re.sub(side, other, joint, count=1) for side, other in _SIDES)
        right = next((order[name] for name in mirrored if name != joint and name in order), None)
        if right is not None:
            pairs.append((left, right))
    return tuple(pairs)


def _bones(joints: tuple[str, ...], weights: Array) -> tuple[tuple[int, int], ...]:
    """Carry the kinect25 tree over to the native joints that stand for its joints, for drawing."""
    stands_for = [int(row.argmax()) if row.any() else -1 for row in weights]
    bones = []
    for child, parent in enumerate(KINECT25_PARENTS):
        bone = (stands_for[child], stands_for[parent])
        if -1 not in bone and bone[0] != bone[1] and bone not in bones and bone[::-1] not in bones:
            bones.append(bone)
    return tuple(bones)


def _same(*joints: str) -> dict[str, dict[str, float]]:
    return {joint: {joint: 1.0} for joint in joints}


def _mean(*joints: str) -> dict[str, float]:
    return {joint: 1.0 / len(joints) for joint in joints}


KINECT25_MIRROR = np.arange(25)
for _left, _right in _pairs(KINECT25_JOINTS):
    KINECT25_MIRROR[[_left, _right]] = _right, _left
KINECT25_MIRROR.setflags(write=False)

_HANDS = ("HandTipLeft", "ThumbLeft", "HandTipRight", "ThumbRight")
_HANDS_FROM_HAND = {joint: {f"Hand{joint.removeprefix('HandTip').removeprefix('Thumb')}": 1.0} for joint in _HANDS}

_KINECT20_JOINTS = (
    "HipCenter", "Spine", "ShoulderCenter", "Head",
    "ShoulderLeft", "ElbowLeft", "WristLeft", "HandLeft",
    "ShoulderRight", "ElbowRight", "WristRight", "HandRight",
    "HipLeft", "KneeLeft", "AnkleLeft", "FootLeft",
    "HipRight", "KneeRight", "AnkleRight", "FootRight",
)  # fmt: skip

# Kinect v1's hip center lies above the line of the hips, and its spine joint just above that.
KINECT20_SOURCES: dict[str, dict[str, float]] = {
    **_same(*_KINECT20_JOINTS[3:]),
    "SpineBase": _mean("HipLeft", "HipRight"),
    "SpineMid": _mean("HipCenter", "ShoulderCenter"),
    "Neck": {"ShoulderCenter": 0.6, "Head": 0.4},
    "SpineShoulder": {"ShoulderCenter": 1.0},
    **_HANDS_FROM_HAND,
}

_K4A32_JOINTS = (
    "Pelvis", "SpineNavel", "SpineChest", "Neck",
    "ClavicleLeft", "ShoulderLeft", "ElbowLeft", "WristLeft", "HandLeft", "HandTipLeft", "ThumbLeft",
    "ClavicleRight", "ShoulderRight", "ElbowRight", "WristRight", "HandRight", "HandTipRight", "ThumbRight",
    "HipLeft", "KneeLeft", "AnkleLeft", "FootLeft", "HipRight", "KneeRight", "AnkleRight", "FootRight",
    "Head", "Nose", "EyeLeft", "EarLeft", "EyeRight", "EarRight",
)  # fmt: skip

_OPENNI15_JOINTS = (
    "Head", "Neck", "LeftShoulder", "RightShoulder", "LeftElbow", "RightElbow", "LeftHand", "RightHand",
    "Torso", "LeftHip", "RightHip", "LeftKnee", "RightKnee", "LeftFoot", "RightFoot",
)  # fmt: skip

_OPENPOSE18_JOINTS = (
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist",
    "RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar",
)  # fmt: skip

_COCO17_JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip

_MEDIAPIPE33_JOINTS = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky",
    "left_index", "right_index", "left_thumb", "right_thumb", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel", "right_heel",
    "left_foot_index", "right_foot_index",
)  # fmt: skip


def _limbs(left: str, right: str, names: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Map kinect25 limb joints, e.g. {"Wrist": "wrist"} -> WristLeft from left + "wrist"."""
    return {
        kinect + side: {prefix + native: 1.0}
        for side, prefix in (("Left", left), ("Right", right))
        for kinect, native in names.items()
    }


def _spine_from_girdles(shoulders: tuple[str, str], hips: tuple[str, str]) -> dict[str, dict[str, float]]:
    return {
        "SpineBase": _mean(*hips),
        "SpineShoulder": _mean(*shoulders),
        "SpineMid": _mean(*shoulders, *hips),
    }


_ARM_ENDS_AT_WRIST = {"Shoulder": "shoulder", "Elbow": "elbow", "Wrist": "wrist", "Hand": "wrist",
                      "HandTip": "wrist", "Thumb": "wrist"}  # fmt: skip
_LEG_ENDS_AT_ANKLE = {"Hip": "hip", "Knee": "knee", "Ankle": "ankle", "Foot": "ankle"}
_WRIST_SUBSTITUTES = ("HandLeft", "HandRight", *_HANDS)
_GIRDLE_SUBSTITUTES = ("SpineBase", "SpineMid", "SpineShoulder", "Neck", "Head")

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        _layout("kinect25", KINECT25_JOINTS, "LUF", _same(*KINECT25_JOINTS)),
        _layout(
            "k4a32",
            _K4A32_JOINTS,
            "RDF",
            {
                **_same(*KINECT25_JOINTS[4:20], *_HANDS),
                "SpineBase": {"Pelvis": 1.0},
                "SpineMid": _mean("SpineNavel", "SpineChest"),
                "SpineShoulder": _mean("ClavicleLeft", "ClavicleRight"),
                "Neck": {"Neck": 0.75, "Head": 0.25},
                "Head": {"Head": 0.5, "EarLeft": 0.25, "EarRight": 0.25},
            },
        ),
        _layout("kinect20", _KINECT20_JOINTS, "LUF", KINECT20_SOURCES, ("Neck", *_HANDS)),
        _layout(
            "openni15",
            _OPENNI15_JOINTS,
            "RUF",
            {
                **_limbs("Left", "Right", {
                    "Shoulder": "Shoulder", "Elbow": "Elbow", "Wrist": "Hand", "Hand": "Hand",
                    "HandTip": "Hand", "Thumb": "Hand", "Hip": "Hip", "Knee": "Knee", "Ankle": "Foot", "Foot": "Foot",
                }),
                "SpineBase": _mean("LeftHip", "RightHip"),
                "SpineMid": {"Torso": 1.0},
                "SpineShoulder": _mean("LeftShoulder", "RightShoulder"),
                "Neck": {"Neck": 0.75, "Head": 0.25},
                "Head": {"Head": 1.0},
            },
            ("WristLeft", "WristRight", "AnkleLeft", "AnkleRight", "SpineBase", "SpineShoulder", "Neck", *_HANDS),
        ),
        _layout(
            "openpose18",
            _OPENPOSE18_JOINTS,
            "RDF",
            {
                **_limbs("L", "R", {k: v.title() for k, v in (_ARM_ENDS_AT_WRIST | _LEG_ENDS_AT_ANKLE).items()}),
                **_spine_from_girdles(("LShoulder", "RShoulder"), ("LHip", "RHip")),
                "Neck": {"Neck": 0.6, "Nose": 0.4},
                "Head": _mean("REar", "LEar", "Nose"),
            },
            (*_GIRDLE_SUBSTITUTES, *_WRIST_SUBSTITUTES, "FootLeft", "FootRight"),
        ),
        _layout(
            "coco17",
            _COCO17_JOINTS,
            "RDF",
            {
                **_limbs("left_", "right_", _ARM_ENDS_AT_WRIST | _LEG_ENDS_AT_ANKLE),
                **_spine_from_girdles(("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")),
                "Neck": {"left_shoulder": 0.3, "right_shoulder": 0.3, "nose": 0.4},
                "Head": _mean("left_ear", "right_ear", "nose"),
            },
            (*_GIRDLE_SUBSTITUTES, *_WRIST_SUBSTITUTES, "FootLeft", "FootRight"),
        ),
        _layout(
            "mediapipe33",
            _MEDIAPIPE33_JOINTS,
            "RDF",
            {
                **_limbs("left_", "right_", {
                    "Shoulder": "shoulder", "Elbow": "elbow", "Wrist": "wrist", "HandTip": "index", "Thumb": "thumb",
                    "Hip": "hip", "Knee": "knee", "Ankle": "ankle", "Foot": "foot_index",
                }),
                "HandLeft": _mean("left_wrist", "left_index", "left_pinky"),
                "HandRight": _mean("right_wrist", "right_index", "right_pinky"),
                **_spine_from_girdles(("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")),
                "Neck": {"left_shoulder": 0.3, "right_shoulder": 0.3, "mouth_left": 0.2, "mouth_right": 0.2},
                "Head": _mean("left_ear", "right_ear"),
            },
            _GIRDLE_SUBSTITUTES,
        ),
    )
}  # fmt: skip


def layout_by_name(name: str) -> Layout:
    """Return the layout of that name. Raises LayoutError that lists the known ones."""
    layout = LAYOUTS.get(name)
    if layout is None:
        raise LayoutError(
            f"layout {name!r} is not known: expected one of {', '.join(LAYOUTS)}",
            hint="Send one of these layouts, or map your joints to kinect25 before you publish.",
        )
    return layout
