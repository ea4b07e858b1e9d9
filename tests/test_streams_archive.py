"""Skeleton archives, written here in the documented format, and the JSON files beside them.

Shapes: N clips, L frames of a clip, J native joints, V = 25.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from streams.archive import Archive, read_archive
from streams.errors import ArchiveError
from streams.frame import HIGH, NO_CONFIDENCE
from streams.layouts import KINECT25_JOINTS, LAYOUTS

_DATA = Path(__file__).parents[2] / "shared" / "data"
_LENGTHS = (4, 1, 6)
_HEAD, _FOOT = KINECT25_JOINTS.index("Head"), KINECT25_JOINTS.index("FootLeft")


def arrays(joints: tuple[str, ...] = KINECT25_JOINTS, /, **changes: Any) -> dict[str, npt.NDArray[Any]]:
    """Make an archive of three clips of two classes; a change to None leaves a key out."""
    offsets = np.concatenate(([0], np.cumsum(_LENGTHS)))
    frames = np.random.default_rng(0).normal(size=(offsets[-1], len(joints), 3))
    data = {
        "frames": frames.astype(np.float32),
        "offsets": offsets,
        "label": np.array([1, 0, 1], np.int16),
        "subject": np.array([3, -1, 4], np.int16),
        "class_names": np.array(["wave", "clap hands"]),
        "joint_names": np.array(joints),
        "fps": np.float32(12.5),
        "source": np.array(["a/1.txt", "a/2.txt", "7"]),
        "meta": np.array(json.dumps({"from": "test"})),
    } | changes
    return {key: np.asarray(value) for key, value in data.items() if value is not None}


def write(folder: Path, data: dict[str, npt.NDArray[Any]], name: str = "moves", **beside: Any) -> Path:
    """Write the archive, and `joint_maps` and `datasets` beside it."""
    path = folder / f"{name}.npz"
    np.savez_compressed(path, **data)  # type: ignore[arg-type]
    for file, content in beside.items():
        (folder / f"{file}.json").write_text(json.dumps(content), encoding="utf-8")
    return path


def refused(path: Path) -> ArchiveError:
    with pytest.raises(ArchiveError) as refusal:
        read_archive(path)
    return refusal.value


# What is read


def test_clips_are_cut_at_the_offsets_with_all_that_is_known_of_them(tmp_path: Path) -> None:
    data = arrays()
    archive = read_archive(write(tmp_path, data))
    assert (archive.name, archive.fps, len(archive)) == ("moves", 12.5, 3)
    assert (archive.class_names, archive.actions) == (("wave", "clap hands"),) * 2
    starts = (0, 4, 5)
    for i, (start, length) in enumerate(zip(starts, _LENGTHS, strict=True)):
        clip = archive[i]
        (movement,) = clip.persons
        joints = movement.joints_m
        assert joints.dtype == np.float32
        np.testing.assert_allclose(joints, data["frames"][start : start + length], atol=1e-6)
        np.testing.assert_allclose(clip.timestamps_s, np.arange(length) / 12.5)
        assert (clip.archive, clip.index, clip.fps) == ("moves", i, 12.5)
    assert [archive[i].label for i in range(3)] == ["clap hands", "wave", "clap hands"]
    assert [archive[i].subject for i in range(3)] == [3, -1, 4]
    assert [archive[i].source for i in range(3)] == ["a/1.txt", "a/2.txt", "7"]


def test_subjects_and_sources_may_be_left_out(tmp_path: Path) -> None:
    archive = read_archive(write(tmp_path, arrays(subject=None, source=None, meta=None)))
    assert [archive[i].subject for i in range(3)] == [-1, -1, -1]
    assert archive.sources == ("0", "1", "2")


def test_a_clip_is_found_by_its_number_or_its_source_name(tmp_path: Path) -> None:
    archive = read_archive(write(tmp_path, arrays()))
    assert [archive.find(name).index for name in ("0", "2", "a/2.txt", "7")] == [0, 2, 1, 2]
    for name in ("3", "-1", "", "b", "00", "9" * 5000):
        with pytest.raises(ArchiveError, match=r"0 to 2.*a/1\.txt") as refusal:
            archive.find(name)
        assert refusal.value.code == "no_clip"
    for index in (-1, 3):
        with pytest.raises(ArchiveError, match="0 to 2"):
            archive[index]


def test_zero_and_infinite_joints_are_missing_ones(tmp_path: Path) -> None:
    data = arrays()
    data["frames"][0, 2] = 0
    data["frames"][1, 3] = [0, 0, 1e-20]
    data["frames"][2, 4] = np.nan
    data["frames"][3, 5, 1] = np.inf
    clip = read_archive(write(tmp_path, data))[0]
    missing = ~np.isfinite(clip.persons[0].joints_m).all(axis=2)
    assert list(zip(*np.nonzero(missing), strict=True)) == [(0, 2), (2, 4), (3, 5)]
    assert np.isnan(clip.persons[0].joints_m[missing]).all()
    bodies = [frame.bodies[0] for frame in clip.frames()]
    confidence = np.where(missing, NO_CONFIDENCE, HIGH)
    np.testing.assert_array_equal([body.confidence for body in bodies], confidence)
    assert {body.confidence.dtype for body in bodies} == {np.dtype(np.uint8)}


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_frames_may_be_of_another_number_type(tmp_path: Path, dtype: type) -> None:
    data = arrays(fps=30)
    data["frames"] = data["frames"].astype(dtype)
    if dtype is np.float64:
        data["frames"][0, 0] = 1e300
    archive = read_archive(write(tmp_path, data))
    assert archive.persons[0].dtype == np.float32
    assert np.isnan(archive.persons[0][0, 0]).all() == (dtype is not np.float16)


def test_a_clip_becomes_frames(tmp_path: Path) -> None:
    clip = read_archive(write(tmp_path, arrays()))[2]
    frames = list(clip.frames(body=5))
    assert [frame.seq for frame in frames] == list(range(6))
    assert [frame.timestamp_s for frame in frames] == pytest.approx(np.arange(6) / 12.5)
    assert [frame.t_send_s for frame in frames] == [frame.timestamp_s for frame in frames]
    assert {(frame.source, frame.layout, frame.axes, frame.fps) for frame in frames} == {
        ("moves", "kinect25", "LUF", 12.5)
    }
    assert [[body.id for body in frame.bodies] for frame in frames] == [[5]] * 6
    np.testing.assert_array_equal([frame.bodies[0].joints_m for frame in frames], clip.persons[0].joints_m)
    assert {frame.source for frame in clip.frames("camera")} == {"camera"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_joints_of_a_known_layout_need_no_map_and_are_in_the_archives_axes(tmp_path: Path, layout: str) -> None:
    names = LAYOUTS[layout].joints
    data = arrays(names)
    (joints,) = read_archive(write(tmp_path, data)).persons
    expected = np.einsum("vj,ljc->lvc", LAYOUTS[layout].kinect25_weights, data["frames"])
    np.testing.assert_allclose(joints, expected, atol=1e-6)


def test_kinect25_joints_in_another_order_need_no_map(tmp_path: Path) -> None:
    names = ("Tail", *reversed(KINECT25_JOINTS))
    data = arrays(names)
    (joints,) = read_archive(write(tmp_path, data)).persons
    np.testing.assert_allclose(joints, data["frames"][:, :0:-1], atol=1e-6)


def test_odd_joints_are_mapped_by_the_entry_beside_the_archive(tmp_path: Path) -> None:
    names = ("becken", "kopf", "fuß")
    entry: dict[str, Any] = {"map": [None] * 25, "blend": {"SpineMid": {"becken": 0.5, "kopf": 0.5}}}
    entry["map"][_HEAD], entry["map"][_FOOT] = "kopf", "fuß"
    data = arrays(names)
    path = write(tmp_path, data, joint_maps={"other": {"map": 5}, "moves": entry})
    (joints,) = read_archive(path).persons
    np.testing.assert_allclose(joints[:, _HEAD], data["frames"][:, 1], atol=1e-6)
    np.testing.assert_allclose(joints[:, _FOOT], data["frames"][:, 2], atol=1e-6)
    np.testing.assert_allclose(joints[:, 1], data["frames"][:, :2].mean(axis=1), atol=1e-6)
    assert np.isfinite(joints).all(axis=(0, 2)).sum() == 3
    assert np.isnan(joints).all(axis=(0, 2)).sum() == 22


def test_two_persons_in_a_clip_are_two_bodies(tmp_path: Path) -> None:
    names = tuple(f"{person}_{joint}" for person in ("P1", "P2") for joint in ("Head", "Hip"))
    entry = {"map_p1": ["P1_Head"] * 25, "map_p2": ["P2_Head"] * 25, "blend": {"SpineBase": {"Hip": 1}}}
    data = arrays(names)
    clip = read_archive(write(tmp_path, data, joint_maps={"moves": entry}))[0]
    assert len(clip.persons) == 2
    for person, joints in enumerate(movement.joints_m for movement in clip.persons):
        np.testing.assert_allclose(joints[:, 1], data["frames"][:4, 2 * person], atol=1e-6)
        np.testing.assert_allclose(joints[:, 0], data["frames"][:4, 2 * person + 1], atol=1e-6)
    assert [[body.id for body in frame.bodies] for frame in clip.frames(body=8)] == [[8, 9]] * 4


def test_classes_take_their_action_from_the_common_vocabulary(tmp_path: Path) -> None:
    datasets = {"moves": {"class_to_action": {"clap hands": "clap", "jump": "jump"}}, "other": 3}
    archive = read_archive(write(tmp_path, arrays(), datasets=datasets))
    assert archive.actions == ("wave", "clap")
    assert [(archive[i].label, archive[i].action) for i in (0, 1)] == [("clap hands", "clap"), ("wave", "wave")]


@pytest.mark.skipif(not (_DATA / "azure_kinect.npz").exists(), reason="needs the shared skeleton archives")
def test_a_real_archive_stands_upright_with_and_without_its_map(tmp_path: Path) -> None:
    def upright(archive: Archive) -> bool:
        (joints,) = archive.persons
        return bool(np.nanmedian(joints[:, _HEAD, 1] - joints[:, _FOOT, 1]) > 0.5)

    mapped = read_archive(_DATA / "azure_kinect.npz")
    assert upright(mapped)
    alone = tmp_path / "azure_kinect.npz"
    alone.symlink_to(_DATA / "azure_kinect.npz")
    assert upright(read_archive(alone))
    np.testing.assert_allclose(read_archive(alone).persons[0], mapped.persons[0], atol=1e-5)


# What is refused


@pytest.mark.parametrize("key", ["frames", "offsets", "label", "class_names", "joint_names", "fps"])
def test_an_archive_without_an_array_is_refused_with_its_name(tmp_path: Path, key: str) -> None:
    data = arrays()
    del data[key]
    error = refused(write(tmp_path, data))
    assert f"no {key} in it" in error.message
    assert "data-format.md" in error.hint


_F = np.zeros((11, 25, 3), np.float32)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"frames": _F[0]}, "frames"),
        ({"frames": _F[:, :24]}, "25 joint names"),
        ({"frames": _F[..., :2]}, "frames"),
        ({"frames": _F[:5]}, "offsets"),
        ({"frames": _F.astype("U")}, "frames"),
        ({"frames": _F.astype(complex)}, "frames"),
        ({"joint_names": "Head"}, "joint_names"),
        ({"joint_names": np.arange(25)}, "joint_names"),
        ({"joint_names": np.array([f"j{i}" for i in range(25)])}, "joint_maps.json"),
        ({"offsets": [0, 4, 5]}, "offsets"),
        ({"offsets": [0, 4, 5, 12]}, "offsets"),
        ({"offsets": [1, 4, 5, 11]}, "offsets"),
        ({"offsets": [0, 5, 5, 11]}, "offsets"),
        ({"offsets": [0, 5, 4, 11]}, "offsets"),
        ({"offsets": np.array([0, 5, 4, 11], np.uint8)}, "offsets"),
        ({"offsets": [0.0, 4.0, 5.0, 11.0]}, "offsets"),
        ({"offsets": [[0, 4, 5, 11]]}, "offsets"),
        ({"offsets": 11}, "offsets"),
        ({"offsets": [0], "frames": _F[:0], "label": np.zeros(0, int), "subject": None, "source": None}, "offsets"),
        ({"label": [0, 1, 2]}, "labels are 0 to 2, expected 0 to 1"),
        ({"label": [0, 1, -1]}, "labels are -1 to 1"),
        ({"label": [0, 1]}, "2 entries in label"),
        ({"label": np.zeros(0, np.int16)}, "0 entries in label"),
        ({"label": ["a", "b", "c"]}, "label"),
        ({"label": 0}, "label"),
        ({"class_names": np.array([], "U1")}, "labels"),
        ({"class_names": "wave"}, "class_names"),
        ({"fps": 0}, "fps is 0"),
        ({"fps": -30}, "fps is -30"),
        ({"fps": np.nan}, "fps is nan"),
        ({"fps": np.inf}, "fps is inf"),
        ({"fps": [30, 30]}, "fps"),
        ({"fps": "30"}, "fps"),
        ({"subject": [1, 2]}, "2 entries in subject"),
        ({"subject": 1}, "subject"),
        ({"source": ["a"]}, "1 entries in source"),
        ({"source": np.array(["a", {}, None], object)}, "cannot be read"),
        ({"frames": np.array([None] * 11, object)}, "cannot be read"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(tmp_path: Path, changes: dict[str, Any], names: str) -> None:
    path = write(tmp_path, arrays(**changes))
    error = refused(path)
    assert names in error.message
    assert str(path) in error.message


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "moves.npz"
    assert refused(path).code == "not_found"
    for content in (b"", b"PK", b"hello", b"PK\x05\x06" + bytes(18)):
        path.write_bytes(content)
        assert refused(path).code == "bad_archive"
    path.unlink()
    path.mkdir()
    assert refused(path).code == "bad_archive"


def test_a_damaged_archive_is_refused_or_read_but_never_crashes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = write(tmp_path, arrays()).read_bytes()
    plain = tmp_path / "plain.npz"
    np.savez(plain, **arrays())  # type: ignore[arg-type]
    path = tmp_path / "damaged.npz"
    num_refused = 0
    for round_ in range(400):
        content = bytearray(whole if round_ % 2 else plain.read_bytes())
        if round_ % 4 < 2:
            for _ in range(rng.integers(1, 8)):
                content[rng.integers(len(content))] = rng.integers(256)
        else:
            content = content[: rng.integers(len(content))]
        path.write_bytes(content)
        try:
            read_archive(path)
        except ArchiveError:
            num_refused += 1
    assert num_refused > 300


@pytest.mark.parametrize("file", ["joint_maps", "datasets"])
@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", '"map"', '{"moves": 5}', '{"moves": ["a"]}', "[" * 10_000, "\udcff", '{"moves": "x"}']
)
def test_a_damaged_file_beside_the_archive_is_refused_with_its_name(tmp_path: Path, file: str, text: str) -> None:
    path = write(tmp_path, arrays())
    (tmp_path / f"{file}.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert f"{file}.json" in refused(path).message


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ({"map": ["Head"] * 24}, "25"),
        ({"map": ["Tail"] * 25}, "'Tail'"),
        ({"map_p1": ["Head"] * 25}, "map_p2"),
        ({"map": ["Head"] * 25, "blend": 5}, "blend"),
        ({"exact": [True] * 25}, "map"),
    ],
)
def test_a_joint_map_that_does_not_fit_is_refused_with_the_file(
    tmp_path: Path, entry: dict[str, Any], names: str
) -> None:
    error = refused(write(tmp_path, arrays(), joint_maps={"moves": entry}))
    assert names in error.message
    assert "joint_maps.json" in error.message
    assert error.code == "bad_joint_map"


def test_actions_that_are_no_map_are_refused(tmp_path: Path) -> None:
    error = refused(write(tmp_path, arrays(), datasets={"moves": {"class_to_action": ["wave"]}}))
    assert "datasets.json" in error.message
    assert "class_to_action" in error.message
