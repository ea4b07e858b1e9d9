"""Kinetics-skeleton: clips, written here in its JSON format -> archives -> evaluation and training.

Shapes: L frames of a clip, V = 25 kinect25 joints; 18 OpenPose joints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner, Result

from edge.model.choose import open_encoder
from edge.motion.preprocess import window_from_movement
from streams.archive import read_archive
from streams.errors import ArchiveError
from streams.layouts import KINECT25_JOINTS, LAYOUTS
from streams.movement import Movement
from training.cli.prepare import prepare
from training.data.authors import authors_windows, turned_at_random
from training.data.kinetics import kinetics_protocols, read_sample
from training.data.training_set import Augmentation, augmented_windows, load_training_set
from training.evaluate.one_shot import evaluate_protocol, read_protocol

Array = npt.NDArray[np.float64]
JOINTS = LAYOUTS["openpose18"].joints
# A person who faces the camera: their right side is on the left of the image, y grows downwards.
FACING = np.array(
    [
        (0.50, 0.20), (0.50, 0.28), (0.45, 0.28), (0.43, 0.40), (0.42, 0.50), (0.55, 0.28), (0.57, 0.40), (0.58, 0.50),
        (0.47, 0.52), (0.47, 0.68), (0.47, 0.84), (0.53, 0.52), (0.53, 0.68), (0.53, 0.84), (0.49, 0.19), (0.51, 0.19),
        (0.48, 0.20), (0.52, 0.20),
    ]
)  # fmt: skip

Person = tuple[Array, Sequence[float]]


def person(xy: Array = FACING, score: float = 0.5) -> Person:
    return xy, [score] * 18


def clip_json(frames: Mapping[int, Sequence[Person]], label: str | None = "yoga", **changes: Any) -> dict[str, Any]:
    """Return a clip with people, as (xy, scores), in the frames of those numbers."""
    data = [
        {
            "frame_index": index,
            "skeleton": [
                {"pose": np.where(np.array(score)[:, None] > 0, xy, 0).round(3).ravel().tolist(), "score": list(score)}
                for xy, score in people
            ],
        }
        for index, people in frames.items()
    ]
    return {"data": data, "label": label, "label_index": 0} | changes


def write(folder: Path, clip: object, name: str = "-0z5hqXtb6Q") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(clip), encoding="utf-8")
    return path


def moving(label: str, seed: int, num_frames: int = 80) -> dict[str, Any]:
    """Return a clip of one person who moves as the label says, with some joints and frames lost."""
    rng = np.random.default_rng(seed)
    moves = np.random.default_rng(list(label.encode())).normal(size=(18, 2)) * 0.06
    moves[[2, 5, 8, 11]] = 0
    place, size = rng.uniform(-0.1, 0.1, 2), rng.uniform(0.7, 1)
    frames: dict[int, list[Person]] = {}
    for index in range(1, num_frames + 1):
        pose = 0.5 + place + (FACING - 0.5 + moves * np.sin(index / num_frames * 6)) * size
        score = np.where(rng.random(18) < 0.05, 0, rng.uniform(0.2, 0.9, 18))
        frames[index] = [] if index % 7 == 0 else [(pose, score.round(3).tolist())]
    return clip_json(frames, label)


def run(*args: object) -> Result:
    return CliRunner().invoke(prepare, ["kinetics", *map(str, args)])


def refused(path: Path) -> ArchiveError:
    with pytest.raises(ArchiveError) as refusal:
        read_sample(path)
    assert str(path) in refusal.value.message
    return refusal.value


# One clip


def test_a_clip_is_sampled_at_60_even_frames_from_the_first_to_the_last_that_somebody_is_in(tmp_path: Path) -> None:
    frames = {index: [person(FACING + index / 1000)] for index in range(11, 130)}
    sample = read_sample(write(tmp_path, clip_json({1: [], **frames, 300: []})))
    assert sample is not None
    assert sample.joints.shape == (60, 2, 18, 3)
    assert (sample.source, sample.label, sample.subject) == ("-0z5hqXtb6Q", "yoga", -1)
    picked = np.linspace(11, 129, 60).round()
    np.testing.assert_allclose(sample.joints[:, 0, 0, 1], 0.5 - 0.2 - picked / 1000, atol=4e-4)
    short = read_sample(write(tmp_path, clip_json({5: [person()], 7: [person()]})))
    assert short is not None
    assert short.joints.shape == (60, 2, 18, 3)


def test_coordinates_are_in_image_heights_to_the_left_and_up_from_the_middle(tmp_path: Path) -> None:
    sample = read_sample(write(tmp_path, clip_json({0: [person()]})))
    assert sample is not None
    joints = sample.joints[0, 0]
    np.testing.assert_allclose(joints[:, 0], (0.5 - FACING[:, 0]) * 340 / 256, atol=3e-4)
    np.testing.assert_allclose(joints[:, 1], 0.5 - FACING[:, 1], atol=3e-4)
    assert (joints[:, 2] == 0).all()
    assert np.isnan(sample.joints[:, 1]).all()


def test_the_two_best_of_the_first_five_people_stay_in_order_of_score(tmp_path: Path) -> None:
    people = [person(FACING + i / 100, score) for i, score in enumerate((0.2, 0.0, 0.8, 0.3, 0.5, 0.9))]
    sample = read_sample(write(tmp_path, clip_json({0: people})))
    assert sample is not None
    np.testing.assert_allclose(sample.joints[0, :, 0, 1], [0.5 - 0.22, 0.5 - 0.24], atol=3e-4)


def test_a_joint_of_score_0_is_missing_and_a_clip_without_any_is_no_sample(tmp_path: Path) -> None:
    sample = read_sample(write(tmp_path, clip_json({0: [(FACING, [0.0, 0.3] * 9)]})))
    assert sample is not None
    assert np.isnan(sample.joints[0, 0]).all(axis=1).tolist() == [True, False] * 9
    for i, clip in enumerate((clip_json({}), clip_json({0: [], 1: []}), clip_json({0: [person(score=0)]}))):
        assert read_sample(write(tmp_path, clip, str(i))) is None


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        ([], "Expected `object`"),
        ({"label": "yoga", "label_index": 1}, "`data`"),
        (clip_json({}, label=None), "$.label"),
        (clip_json({}, label=""), "$.label"),
        (clip_json({}, label_index="1"), "$.label_index"),
        (clip_json({-1: []}), "$.data[0].frame_index"),
        (clip_json({2**70: []}), "frame_index"),
        (clip_json({}, data=[{"frame_index": 1}]), "`skeleton`"),
        (clip_json({0: [(FACING[:17], [0.5] * 17)]}), "$.data[0].skeleton[0].pose"),
        (clip_json({}, data=[{"frame_index": 1, "skeleton": [{"pose": [0.1] * 36, "score": [1] * 17}]}]), "score"),
        (clip_json({}, data=[{"frame_index": 1, "skeleton": [{"pose": ["a"] * 36, "score": [1] * 18}]}]), "pose"),
        (clip_json({}, data=[{"frame_index": 1, "skeleton": []}] * 2), "frame_index is there twice"),
    ],
)
def test_a_clip_of_another_shape_is_refused_with_the_file_and_the_place(tmp_path: Path, clip: Any, words: str) -> None:
    assert words in refused(write(tmp_path, clip)).message


def test_a_damaged_or_missing_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, clip_json({0: [person()]}))
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole[:200], b"\xff" + whole, whole.replace(b"0.5", b"NaN"), b"[" * 100_000):
        path.write_bytes(content)
        assert "is no clip of Kinetics-skeleton" in refused(path).message
    path.unlink()
    assert "cannot be read" in refused(path).message


def test_a_coordinate_beyond_sense_is_a_missing_joint(tmp_path: Path) -> None:
    xy = FACING.copy()
    xy[3, 0], xy[4, 1] = 1e300, -1e6
    sample = read_sample(write(tmp_path, clip_json({0: [person(xy)]})))
    assert sample is not None
    assert np.flatnonzero(np.isnan(sample.joints[0, 0]).any(axis=1)).tolist() == [3, 4]


# The window of a flat body


def test_a_flat_body_becomes_a_window_of_its_own_size_that_faces_the_camera(tmp_path: Path) -> None:
    windows = []
    for place, size in ((0.0, 1.0), (0.2, 0.4)):
        sample = read_sample(write(tmp_path, moving_flat(place, size)))
        assert sample is not None
        (joints, _) = archive_persons(tmp_path / str(size), sample.joints)
        windows.append(window_from_movement(Movement(timestamps_s=np.arange(60) / 6, joints_m=joints), 16))
    for window in windows:
        assert np.isfinite(window).all()
        assert (window[:, :, 2] == 0).all()
        joint = dict(zip(KINECT25_JOINTS, window[0], strict=True))
        assert joint["ShoulderRight"][0] > 0.1 > -0.1 > joint["ShoulderLeft"][0]
        assert joint["Head"][1] > 0.5 > -0.5 > joint["AnkleLeft"][1]
    np.testing.assert_allclose(windows[0], windows[1], atol=0.05)


def moving_flat(place: float, size: float) -> dict[str, Any]:
    wave = np.zeros((18, 2))
    wave[4] = 0, -0.3
    return clip_json({i: [person(0.5 + place + (FACING - 0.5 + np.sin(i / 20) * wave) * size)] for i in range(1, 61)})


def archive_persons(folder: Path, joints: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
    """Return the joints as they are read from an archive that holds them, as kinect25."""
    folder.mkdir()
    names = [f"{person}_{joint}" for person in ("P1", "P2") for joint in JOINTS]
    np.savez(
        folder / "one.npz", frames=joints.reshape(-1, 36, 3), offsets=[0, len(joints)], label=[0],
        class_names=["a"], joint_names=names, fps=6.0,
    )  # fmt: skip
    return read_archive(folder / "one.npz").persons


# From clips to archives


@pytest.fixture(scope="module")
def kinetics_archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archives of a small Kinetics-skeleton: two clips of each novel action, one of 25 base actions."""
    folder = tmp_path_factory.mktemp("kinetics")
    protocol = kinetics_protocols()["kinetics_one_shot.json"]
    for i, label in enumerate(protocol["novel"]):
        for seed in (2 * i, 2 * i + 1):
            write(folder / "kinetics_val", moving(label, seed), f"novel{seed:02}")
    for i, label in enumerate(protocol["base_order"][:25]):
        write(folder / "kinetics_train", moving(label, 100 + i), f"base{i:02}")
    write(folder / "kinetics_train", clip_json({}), "nobody")
    (folder / "kinetics_train_label.json").write_text("{}")
    result = run(folder, "--out", folder / "archives")
    assert result.exit_code == 0, result.output
    assert "kinetics_train: 25 clips, 1 files without a body left out" in result.stdout
    assert "kinetics_val: 40 clips\n65 clips in" in result.stdout
    return folder / "archives"


def test_prepared_clips_are_read_as_two_persons_of_kinect25(kinetics_archives: Path) -> None:
    archive = read_archive(kinetics_archives / "kinetics_val.npz")
    assert (len(archive), archive.fps, set(archive.subjects)) == (40, 6.0, {-1})
    clip = archive.find("novel05")
    assert clip.action == "capoeira"
    assert len(clip.timestamps_s) == 60
    assert np.isnan(clip.persons[1].joints_m).all()
    shoulder, wrist, hand = (KINECT25_JOINTS.index(name) for name in ("ShoulderLeft", "WristLeft", "HandLeft"))
    expected = read_sample(kinetics_archives.parent / "kinetics_val" / "novel05.json")
    assert expected is not None
    for joint, native in ((shoulder, "LShoulder"), (wrist, "LWrist"), (hand, "LWrist")):
        np.testing.assert_array_equal(
            clip.persons[0].joints_m[:, joint], expected.joints[:, 0, JOINTS.index(native)].astype(np.float32)
        )


def test_scores_stand_in_the_place_of_z_on_demand_alone(kinetics_archives: Path) -> None:
    path = kinetics_archives / "kinetics_val.npz"
    plain, scored = read_archive(path).find("novel05"), read_archive(path, scores=True).find("novel05")
    wrist = KINECT25_JOINTS.index("WristLeft")
    sample = read_sample(kinetics_archives.parent / "kinetics_val" / "novel05.json")
    assert sample is not None
    assert sample.scores is not None
    seen = np.isfinite(plain.persons[0].joints_m[:, wrist, 0])
    assert not plain.persons[0].joints_m[seen, wrist, 2].any()
    found = scored.persons[0].joints_m
    np.testing.assert_array_equal(found[seen, wrist, 2], sample.scores[seen, 0, JOINTS.index("LWrist")])
    np.testing.assert_array_equal(found[..., :2], plain.persons[0].joints_m[..., :2])


def test_the_authors_windows_keep_scores_as_they_are(kinetics_archives: Path) -> None:
    data = load_training_set([kinetics_archives / "kinetics_train.npz"], num_persons=2, scores=True)
    assert data.has_scores
    rng = np.random.default_rng(0)
    windows = authors_windows(data.clips[:4], 64, 2, second="zeros", has_scores=True)
    turned = turned_at_random(windows, 0.3, rng, has_scores=True)
    np.testing.assert_allclose(turned[..., 2], windows[..., 2], atol=1e-6)
    assert 0 <= windows[:, 0, ..., 2].min() < windows[:, 0, ..., 2].max() <= 1
    assert np.abs(turned[..., :2] - windows[..., :2]).max() > 0.01


def test_archives_with_scores_and_without_are_not_mixed(kinetics_archives: Path, tmp_path: Path) -> None:
    path = kinetics_archives / "kinetics_val.npz"
    with np.load(path) as arrays:
        np.savez(tmp_path / "bare.npz", **{name: array for name, array in arrays.items() if name != "scores"})
        np.savez(tmp_path / "wrong.npz", **{**arrays, "scores": arrays["scores"][:, :5]})
    with pytest.raises(ArchiveError, match="some archives have scores"):
        load_training_set([path, tmp_path / "bare.npz"], scores=True)
    with pytest.raises(ArchiveError, match="one for each joint"):
        load_training_set([tmp_path / "wrong.npz"], scores=True)
    assert not load_training_set([path, tmp_path / "bare.npz"]).has_scores


def test_the_protocol_is_that_of_the_paper(kinetics_archives: Path, tiny_bundle: Path) -> None:
    path = kinetics_archives / "kinetics_one_shot.json"
    protocol = read_protocol(path)
    assert protocol.settings == (20, 40)
    assert (len(set(protocol.novel)), len(set(protocol.base_order))) == (20, 40)
    assert not set(protocol.novel) & set(protocol.base_order)
    # The list of 400 is in alphabetical order: the lists 2, 22, ... and 3, 23, ... and 4, 24, ... run along each other.
    together = zip(protocol.base_order[:20], protocol.novel, protocol.base_order[20:], strict=True)
    in_order = [name for names in together for name in names]
    assert in_order == sorted(in_order)
    result = evaluate_protocol(
        path, open_encoder(tiny_bundle), data=kinetics_archives, num_draws=3, report=lambda what, done, total: None
    )[1]
    assert (result.ways, result.draws, result.clips) == (20, 3, 40)
    assert result.scores["dtw"].accuracy > 0.8


def test_every_clip_can_be_trained_on(kinetics_archives: Path) -> None:
    base = read_protocol(kinetics_archives / "kinetics_one_shot.json").base_order
    data = load_training_set([kinetics_archives / "kinetics_train.npz"], actions=base[:20])
    assert data.classes == tuple(sorted(base[:20]))
    rng = np.random.default_rng(0)
    for clip in data.clips:
        window, _ = augmented_windows([clip], 8, Augmentation(joint_drop=0.3), rng)
        assert np.isfinite(window).all()
        assert np.abs(window).max() < 20


def test_a_folder_without_clips_is_refused(tmp_path: Path) -> None:
    write(tmp_path, clip_json({0: [person()]}))
    error = run(tmp_path, "--out", tmp_path / "out").exception
    assert isinstance(error, ArchiveError)
    assert "kinetics_train" in error.message
    assert error.code == "not_found"


def test_a_broken_clip_stops_the_work_with_its_name(tmp_path: Path) -> None:
    for i in range(40):
        write(tmp_path / "kinetics_val", clip_json({0: [person()]}), f"clip{i:02}")
    (tmp_path / "kinetics_val" / "clip23.json").write_text('{"data": [')
    error = run(tmp_path, "--out", tmp_path / "out").exception
    assert isinstance(error, ArchiveError)
    assert "clip23.json" in error.message
    assert error.hint
    assert list((tmp_path / "out").iterdir()) == []
