"""Layouts and their map to kinect25.

Shapes: J joints of a native layout, V = 25, L frames.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streams.arrays import Array
from streams.errors import LayoutError
from streams.frame import HIGH, LOW, MEDIUM, NO_CONFIDENCE, Body, SkeletonFrame
from streams.layouts import (
    KINECT25_JOINTS,
    KINECT25_MIRROR,
    LAYOUTS,
    Layout,
    axes_matrix,
    layout_by_name,
    layout_from_map,
    to_kinect25,
)

_JOINT_MAPS = Path(__file__).parents[2] / "shared" / "data" / "joint_maps.json"
_AXES = [
    "".join(letters)
    for order in itertools.permutations(("LR", "UD", "FB"))
    for letters in itertools.product(*order)
]  # fmt: skip

every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())


def some_joints(layout: Layout, seed: int = 0, num_frames: int = 3) -> Array:
    return np.random.default_rng(seed).normal(size=(num_frames, layout.num_joints, 3)).astype(np.float32)


def frame(layout: str, joints_m: Array, confidence: Any = None, **fields: Any) -> SkeletonFrame:
    levels = np.full(len(joints_m), HIGH, np.uint8) if confidence is None else np.array(confidence, np.uint8)
    body = Body(id=7, joints_m=joints_m, confidence=levels)
    known: dict[str, Any] = {"axes": LAYOUTS[layout].axes} | fields
    return SkeletonFrame(
        source="test", epoch="1", seq=0, timestamp_s=0.0, t_send_s=0.0, layout=layout, bodies=(body,), **known
    )


# The table of layouts


@every_layout
def test_each_kinect25_joint_is_mixed_from_weights_that_sum_to_one(layout: Layout) -> None:
    assert layout.kinect25_weights.shape == (25, layout.num_joints)
    assert layout.kinect25_weights.dtype == np.float32
    np.testing.assert_allclose(layout.kinect25_weights.sum(axis=1), 1, atol=1e-6)
    assert (layout.kinect25_weights >= 0).all()


@every_layout
def test_bones_form_one_tree(layout: Layout) -> None:
    assert all(0 <= joint < layout.num_joints for bone in layout.bones for joint in bone)
    joined = {layout.bones[0][0]}
    for _ in layout.bones:
        joined |= {joint for bone in layout.bones if joined & set(bone) for joint in bone}
    assert joined == {joint for bone in layout.bones for joint in bone}
    assert len(layout.bones) == len(joined) - 1


@every_layout
def test_each_left_joint_is_paired_with_its_right_one(layout: Layout) -> None:
    left, right = zip(*layout.pairs, strict=True)
    assert len({*left, *right}) == 2 * len(layout.pairs)
    for a, b in layout.pairs:
        names = (layout.joints[a], layout.joints[b])
        assert any(names[0].replace(x, y, 1) == names[1] for x, y in (("Left", "Right"), ("left", "right"), ("L", "R")))
    unpaired = {joint for i, joint in enumerate(layout.joints) if i not in (*left, *right)}
    assert not [joint for joint in unpaired if "left" in joint.lower() or "right" in joint.lower()]
    assert unpaired <= {
        "SpineBase", "SpineMid", "SpineShoulder", "Neck", "Head", "Pelvis", "SpineNavel", "SpineChest", "Nose",
        "HipCenter", "Spine", "ShoulderCenter", "Torso", "nose",
    }  # fmt: skip


@every_layout
def test_left_joints_are_made_of_left_joints_as_right_ones_of_right_ones(layout: Layout) -> None:
    swap = np.arange(layout.num_joints)
    for left, right in layout.pairs:
        swap[[left, right]] = right, left
    np.testing.assert_allclose(layout.kinect25_weights[KINECT25_MIRROR][:, swap], layout.kinect25_weights, atol=1e-6)


@every_layout
def test_what_is_shared_cannot_be_written_to(layout: Layout) -> None:
    for array in (layout.kinect25_weights, layout.substitute, KINECT25_MIRROR):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_pairs_are_found_in_names_of_motion_capture() -> None:
    native = ("root", "lowerback", "lfemur", "rfemur", "lthumb", "rthumb", "head")
    layout = layout_from_map("mocap", native, {"map": [None] * 25})
    assert layout.pairs == ((2, 3), (4, 5))


def test_an_unknown_layout_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LayoutError, match=r"'kinect26'.*kinect25.*mediapipe33") as refusal:
        layout_by_name("kinect26")
    assert refusal.value.code == "unknown_layout"


@pytest.mark.skipif(not _JOINT_MAPS.exists(), reason="needs the skeleton archives' joint_maps.json")
@pytest.mark.parametrize(("layout", "entry"), [("kinect20", "g3d"), ("k4a32", "azure_kinect")])
def test_the_built_in_maps_are_those_of_the_archives(layout: str, entry: str) -> None:
    joint_map = json.loads(_JOINT_MAPS.read_text(encoding="utf-8"))[entry]
    native = LAYOUTS[layout].joints
    assert set(joint_map["native"]) == set(native)
    from_map = layout_from_map(entry, native, joint_map)
    np.testing.assert_allclose(from_map.kinect25_weights, LAYOUTS[layout].kinect25_weights, atol=1e-6)


# Axes


def test_every_choice_of_axes_is_a_turn_or_a_reflection() -> None:
    assert len(_AXES) == 48
    for axes in _AXES:
        matrix = axes_matrix(axes)
        np.testing.assert_array_equal(matrix @ matrix.T, np.eye(3))
        assert set(matrix.ravel().tolist()) <= {-1.0, 0.0, 1.0}
    assert len({axes_matrix(axes).tobytes() for axes in _AXES}) == 48


@pytest.mark.parametrize(("axes", "hand"), [("LUF", 1), ("RDF", 1), ("FLU", 1), ("RUB", 1), ("RUF", -1), ("LDF", -1)])
def test_axes_of_the_same_hand_differ_by_a_turn(axes: str, hand: int) -> None:
    assert np.linalg.det(axes_matrix(axes)) == pytest.approx(hand)


def test_what_the_sensor_sees_to_its_left_above_and_far_off_is_positive_everywhere() -> None:
    for axes in _AXES:
        there = np.array([1.0 if letter in "LUF" else -1.0 for letter in axes], np.float32)
        np.testing.assert_array_equal(there @ axes_matrix(axes), [1, 1, 1])


def test_a_point_of_an_azure_kinect_lands_where_a_kinect_2_sees_it() -> None:
    # 0.3 m to the right of the sensor, 0.5 m above it, 2 m away.
    joints = np.tile(np.array([0.3, -0.5, 2], np.float32), (32, 1))
    np.testing.assert_allclose(to_kinect25(joints, LAYOUTS["k4a32"])[0], [-0.3, 0.5, 2])
    np.testing.assert_allclose(to_kinect25(joints, LAYOUTS["k4a32"], axes="LUF")[0], [0.3, -0.5, 2])


@pytest.mark.parametrize("axes", ["", "LU", "LUFF", "LLF", "LRU", "luf", "XYZ", "LU ", "L\0F"])
def test_axes_that_span_no_space_are_refused(axes: str) -> None:
    with pytest.raises(LayoutError) as refusal:
        axes_matrix(axes)
    assert refusal.value.code == "unknown_axes"
    assert "RDF" in refusal.value.hint


# The map to kinect25


@every_layout
def test_the_map_is_the_weighted_sum_of_native_joints(layout: Layout) -> None:
    joints = some_joints(layout)
    expected = np.einsum("vj,ljc->lvc", layout.kinect25_weights, joints) @ axes_matrix(layout.axes)
    mapped = to_kinect25(joints, layout)
    assert mapped.dtype == np.float32
    np.testing.assert_allclose(mapped, expected, atol=1e-6)
    np.testing.assert_allclose(to_kinect25(joints[0], layout), expected[0], atol=1e-6)


@every_layout
def test_a_blend_goes_on_with_the_joints_that_are_there(layout: Layout) -> None:
    joints = some_joints(layout, num_frames=20)
    missing = np.random.default_rng(1).random(joints.shape[:2]) < 0.4
    joints[missing, 0] = np.nan  # one coordinate is enough
    mapped = to_kinect25(joints, layout, axes="LUF")
    for i, v in np.ndindex(20, 25):
        there = (layout.kinect25_weights[v] > 0) & ~missing[i]
        if there.any():
            expected = np.average(joints[i, there], axis=0, weights=layout.kinect25_weights[v, there])
            np.testing.assert_allclose(mapped[i, v], expected, atol=1e-5)
        else:
            assert np.isnan(mapped[i, v]).all()


@every_layout
def test_nobody_is_made_of_missing_joints_only(layout: Layout) -> None:
    assert np.isnan(to_kinect25(np.full((2, layout.num_joints, 3), np.nan, np.float32), layout)).all()


def test_an_infinite_joint_counts_as_missing() -> None:
    joints = some_joints(LAYOUTS["kinect25"])
    joints[1, 3, 1] = np.inf
    mapped = to_kinect25(joints, LAYOUTS["kinect25"])
    assert np.isnan(mapped[1, 3]).all()
    assert np.isfinite(mapped).sum() == mapped.size - 3


@pytest.mark.parametrize("with_missing", [False, True])
def test_mirrored_twice_is_as_before(with_missing: bool) -> None:
    layout = LAYOUTS["kinect25"]
    joints = some_joints(layout)
    if with_missing:
        joints[1, 4] = np.nan
    once = to_kinect25(joints, layout, mirrored=True)
    np.testing.assert_array_equal(to_kinect25(once, layout, mirrored=True), joints)
    left, right = layout.pairs[0]
    np.testing.assert_array_equal(once[:, left], joints[:, right] * [-1, 1, 1])


# A frame as a whole


def test_a_kinect25_frame_needs_no_conversion() -> None:
    native = frame("kinect25", some_joints(LAYOUTS["kinect25"])[0])
    assert native.to_kinect25() is native


@every_layout
def test_a_frame_becomes_kinect25_in_its_axes(layout: Layout) -> None:
    joints = some_joints(layout)[0]
    converted = frame(layout.name, joints).to_kinect25()
    assert (converted.layout, converted.axes, converted.mirrored) == ("kinect25", "LUF", False)
    (body,) = converted.bodies
    assert body.id == 7
    np.testing.assert_allclose(body.joints_m, to_kinect25(joints, layout), atol=1e-6)
    assert body.confidence.dtype == np.uint8
    assert (body.confidence == HIGH).all()


def test_a_joint_is_as_sure_as_the_least_sure_joint_it_is_made_of() -> None:
    layout = LAYOUTS["k4a32"]
    levels = dict.fromkeys(layout.joints, HIGH) | {"EarLeft": LOW, "Neck": MEDIUM}
    (body,) = frame("k4a32", some_joints(layout)[0], list(levels.values())).to_kinect25().bodies
    expected = dict.fromkeys(KINECT25_JOINTS, HIGH) | {"Head": LOW, "Neck": MEDIUM}
    assert body.confidence.tolist() == list(expected.values())


def test_a_joint_that_was_not_seen_takes_no_part_in_a_blend() -> None:
    layout = LAYOUTS["coco17"]
    joints = some_joints(layout)[0]
    levels = dict.fromkeys(layout.joints, MEDIUM) | {"left_ear": NO_CONFIDENCE, "left_knee": NO_CONFIDENCE}
    (body,) = frame("coco17", joints, list(levels.values()), axes="LUF").to_kinect25().bodies
    ear, nose = layout.joints.index("right_ear"), layout.joints.index("nose")
    head, knee = KINECT25_JOINTS.index("Head"), KINECT25_JOINTS.index("KneeLeft")
    np.testing.assert_allclose(body.joints_m[head], (joints[ear] + joints[nose]) / 2, atol=1e-6)
    assert body.confidence[head] == MEDIUM
    assert np.isnan(body.joints_m[knee]).all()
    assert body.confidence[knee] == NO_CONFIDENCE


def test_a_mirrored_frame_swaps_confidences_with_the_joints() -> None:
    levels = np.full(25, HIGH)
    levels[KINECT25_JOINTS.index("HandLeft")] = LOW
    joints = some_joints(LAYOUTS["kinect25"])[0]
    (body,) = frame("kinect25", joints, levels, mirrored=True).to_kinect25().bodies
    assert np.flatnonzero(body.confidence == LOW).tolist() == [KINECT25_JOINTS.index("HandRight")]
    np.testing.assert_array_equal(body.joints_m, to_kinect25(joints, LAYOUTS["kinect25"], mirrored=True))


# Joint maps of archives


def test_a_joint_map_names_substitutes_blends_and_gaps() -> None:
    native = ("hip", "chest", "head")
    joints: list[str | None] = [None] * 25
    joints[KINECT25_JOINTS.index("SpineBase")] = "hip"
    joints[KINECT25_JOINTS.index("Head")] = "head"
    entry = {"map": joints, "exact": [True, False] + [True] * 23, "blend": {"SpineMid": {"hip": 1, "chest": 3}}}
    layout = layout_from_map("odd", native, entry)
    weights = {name: row.tolist() for name, row in zip(KINECT25_JOINTS, layout.kinect25_weights, strict=True)}
    assert weights["SpineBase"] == [1, 0, 0]
    assert weights["SpineMid"] == [0.25, 0.75, 0]
    assert weights["Head"] == [0, 0, 1]
    assert not any(any(row) for name, row in weights.items() if name not in ("SpineBase", "SpineMid", "Head"))
    assert np.flatnonzero(layout.substitute).tolist() == [1]
    mapped = to_kinect25(np.ones((3, 3), np.float32), layout)
    assert np.isfinite(mapped).all(axis=1).sum() == 3


def test_two_persons_have_a_map_each() -> None:
    native = ("P1_Head", "P1_Hip", "P2_Head", "P2_Hip")
    entry = {
        "map_p1": ["P1_Head"] * 25,
        "map_p2": ["P2_Head"] * 25,
        "blend": {"SpineBase": {"Hip": 1}, "Neck": {"Head": 1, "Hip": 1}},
    }
    first, second = (layout_from_map("pair", native, entry, person).kinect25_weights for person in ("_p1", "_p2"))
    np.testing.assert_array_equal(first[[0, 2, 3]], [[0, 1, 0, 0], [0.5, 0.5, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(second[[0, 2, 3]], [[0, 0, 0, 1], [0, 0, 0.5, 0.5], [0, 0, 1, 0]])


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ({}, "map"),
        ({"map": ["hip"] * 24}, "25"),
        ({"map": "hip"}, "map"),
        ({"map": ["hip"] * 24 + [3]}, r"map\[24\]"),
        ({"map": ["hip"] * 24 + ["tail"]}, "'tail'"),
        ({"map": ["hip"] * 25, "exact": [True]}, "exact"),
        ({"map": ["hip"] * 25, "exact": [2] * 25}, "exact"),
        ({"map": ["hip"] * 25, "blend": ["Head"]}, "blend"),
        ({"map": ["hip"] * 25, "blend": {"Head": {"tail": 1}}}, "'tail'"),
        ({"map": ["hip"] * 25, "blend": {"Haed": {"hip": 1}}}, "Haed"),
        ({"map": ["hip"] * 25, "blend": {"Head": {"hip": "1"}}}, "blend"),
        ({"map": ["hip"] * 25, "blend": {"Head": {"hip": 0}}}, "blend"),
        ({"map": ["hip"] * 25, "blend": {"Head": {"hip": float("inf")}}}, "blend"),
        ({"map": ["hip"] * 25, "blend": {"Head": {"hip": -1, "chest": 2}}}, "blend"),
    ],
)
def test_a_joint_map_that_fits_nothing_is_refused(entry: dict[str, Any], names: str) -> None:
    with pytest.raises(LayoutError, match=names) as refusal:
        layout_from_map("odd", ("hip", "chest"), entry)
    assert refusal.value.code == "bad_joint_map"
