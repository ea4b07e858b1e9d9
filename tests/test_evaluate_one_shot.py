"""`crossglg-edge evaluate`: the draws, the numbers, and archives of every kind.

Shapes: N clips, L frames of one clip, V = 25 joints.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from edge.model.bundle import BundleInfo
from edge.model.statistics import base_statistics
from streams.arrays import Array, Indices
from streams.errors import ArchiveError, BundleError, CrossGLGError
from streams.layouts import KINECT25_JOINTS
from training.cli.evaluate import evaluate
from training.evaluate.draws import (
    Draw,
    accuracies,
    accuracies_of,
    balanced_accuracy,
    clip_distances,
    leave_out_draws,
    name_queries,
    plain_accuracy,
    protocol_draws,
    score,
)
from training.evaluate.one_shot import ClipSet, name_by_distribution

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
CLASSES = ("wave", "kick", "nod", "bow")


def _clip(label: int, subject: int, seed: int, num_frames: int = 20) -> Array:
    """Return a person of its own size, place and speed, shape (L, 25, 3), who moves what the class moves."""
    rng = np.random.default_rng([label, subject + 1, seed])
    pose_V3 = np.random.default_rng(0).normal(size=(25, 3)) * 0.4
    moving_V3 = np.random.default_rng([9, label]).normal(size=(25, 3)) * 0.5
    phase_L11 = np.sin(np.linspace(0, np.pi * rng.uniform(1.8, 2.2), num_frames))[:, None, None]
    joints = (pose_V3 + phase_L11 * moving_V3) * rng.uniform(0.8, 1.2) + [*rng.normal(size=2), 2]
    return np.asarray(joints + rng.normal(size=joints.shape) * 0.01, np.float32)


def _write_archive(
    path: Path,
    clips: Sequence[tuple[int, int, Array]],
    *,
    class_names: Sequence[str] = CLASSES,
    joint_names: Sequence[str] = KINECT25_JOINTS,
    with_subjects: bool = True,
) -> Path:
    """Write clips of (label, subject, joints) as a skeleton archive."""
    labels, subjects, joints = zip(*clips, strict=True)
    content: dict[str, Any] = {
        "frames": np.concatenate(joints),
        "offsets": np.cumsum([0, *map(len, joints)]),
        "label": np.array(labels, np.int16),
        "class_names": np.array(class_names),
        "joint_names": np.array(joint_names),
        "fps": 30.0,
    }
    if with_subjects:
        content["subject"] = np.array(subjects, np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **content)
    return path


def _grid(num_subjects: int = 3, num_clips: int = 2) -> list[tuple[int, int, Array]]:
    return [
        (label, subject, _clip(label, subject, i))
        for subject in range(num_subjects)
        for label in range(len(CLASSES))
        for i in range(num_clips)
    ]


def _run(*args: object) -> Result:
    return CliRunner().invoke(evaluate, [str(arg) for arg in args])


def _json(*args: object) -> dict[str, Any]:
    result = _run(*args, "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert isinstance(content, dict)
    return content


def _one_shot(archive: Path, bundle: Path, *args: object) -> dict[str, Any]:
    content = _json("one-shot", archive, "--encoder", bundle, "--draws", 5, *args)
    numbers = content["archives"][archive.stem]
    for method in ("encoder", "dtw"):
        low, high = numbers[method]["ci95"]
        assert 0 <= low <= numbers[method]["accuracy"] <= high <= 1
    assert isinstance(numbers, dict)
    return numbers


def _altered(bundle: Path, folder: Path, **changes: Any) -> Path:
    info = msgspec.json.decode((bundle / "bundle.json").read_bytes(), type=BundleInfo)
    shutil.copytree(bundle, folder)
    (folder / "bundle.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(info, **changes)))
    return folder


def _labels_and_subjects(num_clips: int = 200, seed: int = 0) -> tuple[Indices, Indices]:
    rng = np.random.default_rng(seed)
    return np.sort(rng.integers(0, 6, num_clips)), rng.integers(0, 5, num_clips)


def test_a_draw_enrols_one_clip_a_class_of_one_subject_and_asks_for_those_of_the_others() -> None:
    labels, subjects = _labels_and_subjects()
    draws, notes = leave_out_draws(labels, subjects, 20)
    assert not notes
    for d, draw in enumerate(draws):
        rng = np.random.default_rng(d)
        subject = rng.choice(5)
        expected = [rng.choice(np.flatnonzero((labels == k) & (subjects == subject))) for k in range(6)]
        assert draw.exemplars.tolist() == expected
        assert draw.queries.tolist() == np.flatnonzero(subjects != subject).tolist()
    assert len({int(subjects[draw.exemplars[0]]) for draw in draws}) > 1


def test_more_draws_begin_with_the_same_draws() -> None:
    labels, subjects = _labels_and_subjects()
    few, many = leave_out_draws(labels, subjects, 3)[0], leave_out_draws(labels, subjects, 9)[0]
    for a, b in zip(few, many[:3], strict=True):
        assert a.exemplars.tolist() == b.exemplars.tolist()


def test_only_subjects_with_70_percent_of_the_classes_enrol() -> None:
    labels = np.array([*range(10), *range(7), *range(6)])
    subjects = np.array([4] * 10 + [5] * 7 + [6] * 6)
    draws, notes = leave_out_draws(labels, subjects, 40)
    assert not notes
    assert {int(subjects[draw.exemplars[0]]) for draw in draws} == {4, 5}


def test_classes_that_the_subject_lacks_are_not_asked_for() -> None:
    labels = np.array([*range(10), *range(7)])
    subjects = np.array([1] * 10 + [2] * 7)
    draws, _ = leave_out_draws(labels, subjects, 40)
    of_two = next(draw for draw in draws if subjects[draw.exemplars[0]] == 2)
    assert labels[of_two.exemplars].tolist() == labels[of_two.queries].tolist() == list(range(7))


def test_where_no_subject_has_70_percent_those_with_most_classes_enrol() -> None:
    labels, subjects = np.array([0, 1, 2, 3, 3, 4]), np.array([1, 1, 2, 2, 3, 3])
    draws, (note,) = leave_out_draws(labels, subjects, 20)
    assert "no subject has 70 % of the 5 classes" in note
    assert {len(draw.exemplars) for draw in draws} == {2}


@pytest.mark.parametrize("subject", [-1, 7])
def test_without_two_known_subjects_every_clip_but_the_exemplars_is_asked_for(subject: int) -> None:
    labels, _ = _labels_and_subjects()
    draws, (note,) = leave_out_draws(labels, np.full(len(labels), subject), 3)
    assert "same person" in note
    for draw in draws:
        assert labels[draw.exemplars].tolist() == list(range(6))
        assert sorted([*draw.exemplars, *draw.queries]) == list(range(len(labels)))


def test_clips_of_unknown_subjects_are_left_out_beside_known_ones_and_noted() -> None:
    labels, subjects = _labels_and_subjects()
    subjects[:7] = -1
    draws, (note,) = leave_out_draws(labels, subjects, 5)
    assert "7 clips" in note
    assert all(draw.exemplars.min() >= 7 and draw.queries.min() >= 7 for draw in draws)


def test_protocol_draws_follow_the_protocol_to_the_letter() -> None:
    labels, subjects = _labels_and_subjects()
    labels = np.random.default_rng(1).permutation(labels)
    subjects[::9] = -1
    for d, draw in enumerate(protocol_draws(labels, subjects, 10)):
        rng = np.random.default_rng(d)
        queries = []
        for k in range(6):
            own = np.flatnonzero(labels == k)
            exemplar = own[rng.integers(len(own))]
            assert draw.exemplars[k] == exemplar
            for clip in own:
                other = subjects[clip] != subjects[exemplar] if subjects[exemplar] >= 0 else clip != exemplar
                queries += [int(clip)] if other else []
        assert draw.queries.tolist() == sorted(queries)


def test_more_exemplars_of_the_same_subject_come_after_the_one_that_is_drawn_alone() -> None:
    labels, subjects = _labels_and_subjects()
    one, three = (leave_out_draws(labels, subjects, 10, n)[0] for n in (1, 3))
    for a, b in zip(one, three, strict=True):
        subject = subjects[a.exemplars[0]]
        assert set(subjects[b.exemplars]) == {subject}
        assert len(set(b.exemplars.tolist())) == len(b.exemplars)
        for k in range(6):
            own = b.exemplars[labels[b.exemplars] == k]
            assert own[0] == a.exemplars[k]
            assert len(own) == min(3, int(((labels == k) & (subjects == subject)).sum()))
        assert b.queries.tolist() == a.queries.tolist(), "the clips of the others"


def test_of_a_protocols_exemplars_no_persons_clips_of_their_class_are_asked_for() -> None:
    labels, subjects = _labels_and_subjects()
    for one, three in zip(protocol_draws(labels, subjects, 10), protocol_draws(labels, subjects, 10, 3), strict=True):
        firsts = [int(three.exemplars[labels[three.exemplars] == k][0]) for k in range(6)]
        assert firsts == one.exemplars.tolist()
        known = {(labels[clip], subjects[clip]) for clip in three.exemplars}
        asked = [clip for clip in range(len(labels)) if (labels[clip], subjects[clip]) not in known]
        assert three.queries.tolist() == asked


def test_accuracy_is_the_mean_over_classes_not_over_clips() -> None:
    assert balanced_accuracy(np.array([0, 0, 0, 0, 2]), np.array([0, 0, 0, 1, 1])) == pytest.approx(0.375)


def test_plain_accuracy_is_the_share_of_all_clips() -> None:
    assert plain_accuracy(np.array([0, 0, 0, 0, 2]), np.array([0, 0, 0, 1, 1])) == pytest.approx(0.6)


def test_accuracies_equal_a_search_in_the_whole_distance_matrix() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(700) % 6
    matrix = rng.random((700, 700), np.float32)
    draws = [
        Draw(
            exemplars=np.array([rng.choice(np.flatnonzero(labels == k)) for k in range(6)]),
            queries=np.sort(rng.choice(700, 300, replace=False)),
        )
        for _ in range(150)
    ]
    seen: list[tuple[int, int]] = []
    got = accuracies(labels, draws, lambda e, q: matrix[np.ix_(e, q)], lambda *at: seen.append(at))
    for accuracy, draw in zip(got, draws, strict=True):
        named = [labels[min(draw.exemplars, key=matrix[:, q].__getitem__)] for q in draw.queries]
        asked = labels[draw.queries]
        shares = [np.mean([n == k for n, a in zip(named, asked, strict=True) if a == k]) for k in range(6)]
        assert accuracy == pytest.approx(np.mean(shares))
    assert len(seen) > 1
    assert seen[-1] == (700, 700)
    named_DN = name_queries(labels, draws, lambda e, q: matrix[np.ix_(e, q)])
    again = [balanced_accuracy(labels[d.queries], row[d.queries]) for d, row in zip(draws, named_DN, strict=True)]
    assert again == got.tolist()


def _cosine_distances(a_ND: Array, b_KD: Array) -> Array:
    return np.asarray(1 - a_ND @ b_KD.T, np.float32)


def test_the_distance_of_two_persons_takes_the_better_pairing() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 8)).astype(np.float32)
    persons = np.array([[0, 1], [2, 3], [4, 4], [5, 6], [7, 8], [9, 9], [10, 11]])
    rows, columns = persons[[0, 2, 5, 5]], persons[[1, 3, 4, 5, 6]]
    one = _cosine_distances(features, features)
    expected = [
        [min(one[a, c] + one[b, d], one[a, d] + one[b, c]) for c, d in columns.tolist()] for a, b in rows.tolist()
    ]
    np.testing.assert_allclose(clip_distances(features, rows, columns, _cosine_distances), expected, rtol=1e-5)


def test_the_interval_holds_the_mean_and_is_the_same_each_time() -> None:
    values = np.random.default_rng(0).random(50)
    result = score(values)
    assert result.ci95[0] < result.accuracy < result.ci95[1]
    assert result == score(values)
    assert result.ci95[1] - result.ci95[0] == pytest.approx(2 * 1.96 * values.std() / 50**0.5, rel=0.1)
    assert score(np.full(4, 0.25)).ci95 == (0.25, 0.25)


def test_calibrated_accuracies_name_a_clip_by_the_mean_of_its_persons() -> None:
    rng = np.random.default_rng(0)
    labels, num_features = np.repeat(np.arange(5), 12), 16
    centers = rng.exponential(1.0, (9, num_features))
    base = np.abs(np.repeat(centers[5:], 20, axis=0) + rng.normal(size=(80, num_features)) * 0.05)
    statistics = base_statistics(base.astype(np.float32), np.repeat(np.arange(4), 20), "abcd", encoder_sha256="0" * 64)
    # Neither person alone tells the class: their mean does.
    apart = rng.uniform(0, centers[labels])
    windows = np.concatenate((centers[labels] - apart, centers[labels] + apart)).astype(np.float32)
    clips = ClipSet(
        name="pairs",
        classes=("walk", "bow", "nod", "kick", "wave"),
        labels=labels,
        subjects=np.tile(np.arange(12), 5),
        movements=(),
        persons=np.stack((np.arange(60), np.arange(60, 120)), axis=1),
        sources=(),
    )
    draws, _ = leave_out_draws(clips.labels, clips.subjects, 3)
    seen: list[tuple[int, int]] = []
    named_DN = name_by_distribution(clips, draws, windows, statistics, lambda *at: seen.append(at))
    found = accuracies_of(named_DN, clips.labels, draws)
    assert found.tolist() == [1.0, 1.0, 1.0]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    one_person = replace(clips, persons=clips.persons[:, :1])
    alone_DN = name_by_distribution(one_person, draws, windows, statistics)
    assert accuracies_of(alone_DN, one_person.labels, draws).max() < 0.95


def test_several_numbers_of_examples_stand_beside_one(tiny_bundle: Path, tmp_path: Path) -> None:
    archive = _write_archive(tmp_path / "a.npz", _grid())
    alone = _json("one-shot", archive, "--encoder", tiny_bundle, "--draws", 4)
    several = _json("one-shot", archive, "--encoder", tiny_bundle, "--draws", 4, "--shots", "1,2")
    shots = several.pop("shots")
    assert several == alone
    assert shots.keys() == {"2"}
    assert shots["2"].keys() == alone.keys()
    refused = _run("one-shot", archive, "--shots", "0")
    assert refused.exit_code == 2
    assert "whole numbers from 1 to 20" in refused.output


def test_plain_accuracy_counts_all_queries_alike() -> None:
    labels = np.array([0, 1, 0, 0, 0, 1], np.int64)
    draw = Draw(exemplars=np.array([0, 1]), queries=np.array([2, 3, 4, 5]))
    named_DN = np.array([[-1, -1, 0, 0, 0, 0]], np.int32)
    assert accuracies_of(named_DN, labels, [draw]) == pytest.approx([0.5])
    assert accuracies_of(named_DN, labels, [draw], plain_accuracy) == pytest.approx([0.75])


def test_json_holds_every_archive_and_their_mean(tmp_path: Path, tiny_bundle: Path) -> None:
    a = _write_archive(tmp_path / "a.npz", _grid())
    b = _write_archive(tmp_path / "b.npz", _grid(num_subjects=2))
    content = _json("one-shot", a, b, "--encoder", tiny_bundle, "--draws", 4)
    assert set(content) == {"archives", "mean"}
    assert list(content["archives"]) == ["a", "b"]
    perfect = {"accuracy": 1.0, "ci95": [1.0, 1.0]}
    assert content["archives"]["a"] == {
        "ways": 4,
        "ways_used": 4.0,
        "draws": 4,
        "clips": 24,
        "encoder": perfect,
        "cosine": perfect,
        "dtw": perfect,
        "plain": dict.fromkeys(("encoder", "cosine", "dtw"), perfect),
        "notes": [],
    }
    assert content["mean"] == {"encoder": 1.0, "cosine": 1.0, "dtw": 1.0}


def test_distribution_calibration_is_one_more_method_where_it_is_asked_for(tmp_path: Path, tiny_bundle: Path) -> None:
    path = _write_protocol(tmp_path)
    archive = tmp_path / "b.npz"
    content = _json("one-shot", archive, "--encoder", tiny_bundle, "--draws", 2, "--calibrated")
    assert list(content["mean"]) == ["encoder", "cosine", "calibrated", "dtw"]
    assert content["archives"]["b"]["calibrated"]["accuracy"] > 0.8
    content = _json("protocol", path, "--encoder", tiny_bundle, "--draws", 2, "--calibrated")
    assert content["calibrated"]["accuracy"] > 0.8
    assert "calibrated" not in _json("protocol", path, "--encoder", tiny_bundle, "--draws", 2)
    bare = _altered(tiny_bundle, tmp_path / "bare", statistics_sha256="")
    error = _error("one-shot", tmp_path / "none.npz", "--encoder", bare, "--calibrated")
    assert isinstance(error, BundleError)
    assert "needs a model bundle with base statistics" in error.message
    assert "crossglg-edge export" in error.hint


def test_the_table_is_on_stdout_and_the_progress_on_stderr(tmp_path: Path, tiny_bundle: Path) -> None:
    archive = _write_archive(tmp_path / "mine.npz", _grid(), with_subjects=False)
    result = _run("one-shot", archive, "--encoder", tiny_bundle, "--draws", 2)
    assert result.exit_code == 0
    assert "100.0 (100.0–100.0)" in result.stdout
    assert "mine: fewer than two known subjects" in result.stdout
    assert "mine: DTW" in result.stderr
    assert "mine: encoder" in result.stderr


def test_by_action_merges_classes_and_keeps_those_without_an_action(tmp_path: Path, tiny_bundle: Path) -> None:
    archive = _write_archive(tmp_path / "a.npz", _grid())
    actions = {"wave": "move", "kick": "move", "nod": None}
    (tmp_path / "datasets.json").write_text(json.dumps({"a": {"class_to_action": actions}}))
    assert _one_shot(archive, tiny_bundle)["ways"] == 4
    assert _one_shot(archive, tiny_bundle, "--by", "action")["ways"] == 3


def test_odd_joint_names_and_no_subject_key_work(tmp_path: Path, tiny_bundle: Path) -> None:
    odd = [f"Gelenk {v}" for v in range(25)]
    (tmp_path / "joint_maps.json").write_text(json.dumps({"odd": {"map": [*odd[:24], None]}}))
    archive = _write_archive(tmp_path / "odd.npz", _grid(), joint_names=odd, with_subjects=False)
    assert _one_shot(archive, tiny_bundle)["dtw"]["accuracy"] == 1.0


def test_short_clips_lost_joints_and_classes_with_no_or_one_clip_work(tmp_path: Path, tiny_bundle: Path) -> None:
    clips = _grid()
    clips[0][2][3:9, 7] = np.nan
    clips[1][2][:, 20:] = np.nan
    clips[2][2][5] = 0
    clips += [(0, 0, _clip(0, 0, 5, 1)), (1, 1, _clip(1, 1, 5, 2)), (4, 0, _clip(4, 0, 0))]
    clips += [(2, 1, np.full((9, 25, 3), np.nan, np.float32)), (2, 2, np.zeros((9, 25, 3), np.float32))]
    archive = _write_archive(tmp_path / "a.npz", clips, class_names=[*CLASSES, "single", "never seen"])
    numbers = _one_shot(archive, tiny_bundle)
    assert numbers["ways"] == 5
    assert numbers["clips"] == len(clips) - 2
    assert numbers["notes"] == [
        "left out: 2 clips in which no joint was ever seen",
        "left out: 1 of 6 classes, which have no clip",
        "not counted: 1 classes with no clip beside the exemplars",
    ]
    assert 4 <= numbers["ways_used"] <= 5


def test_draws_without_a_query_are_left_out_and_noted(tmp_path: Path, tiny_bundle: Path) -> None:
    clips = [(label, subject, _clip(label, subject, 0)) for label, subject in itertools.product((0, 1), (1, 2))]
    clips += [(label, 3, _clip(label, 3, 0)) for label in (2, 3)]
    archive = _write_archive(tmp_path / "a.npz", clips)
    content = _json("one-shot", archive, "--encoder", tiny_bundle, "--draws", 20)
    assert any(note.endswith("draws whose classes no other subject has") for note in content["archives"]["a"]["notes"])


def test_two_persons_are_recognized_whoever_of_them_comes_first(tmp_path: Path, tiny_bundle: Path) -> None:
    names = [f"{person}_{joint}" for person in ("P1", "P2") for joint in KINECT25_JOINTS]
    maps = {f"map_p{i + 1}": names[25 * i : 25 * i + 25] for i in range(2)}
    (tmp_path / "joint_maps.json").write_text(json.dumps({"pairs": maps}))
    clips = []
    for subject, kind in itertools.product(range(4), range(3)):
        people = [_clip(kind, subject, 0), _clip(kind + 1, subject, 1)]
        clips.append((kind, subject, np.concatenate(people[:: 1 if subject % 2 else -1], axis=1)))
    clips[0][2][:, :25] = np.nan
    archive = _write_archive(tmp_path / "pairs.npz", clips, joint_names=names)
    numbers = _one_shot(archive, tiny_bundle)
    assert numbers["clips"] == 12
    assert numbers["ways"] == 3
    assert numbers["encoder"]["accuracy"] > 0.9
    assert numbers["dtw"]["accuracy"] > 0.9


def test_an_archive_that_the_encoder_was_trained_on_is_noted(tmp_path: Path, tiny_bundle: Path) -> None:
    archive = _write_archive(tmp_path / "a.npz", _grid())
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    for number, (training, words) in enumerate(
        (
            ({"archives": {"renamed": digest}}, "says nothing about new recordings"),
            ({"archives": {"a": "0" * 64}}, "another archive named 'a'"),
            ({}, "does not say which archives"),
        )
    ):
        bundle = _altered(tiny_bundle, tmp_path / f"bundle{number}", training=training)
        (note,) = _one_shot(archive, bundle)["notes"]
        assert words in note


def _write_protocol(folder: Path, novel: Sequence[str] = ("kick", "wave", "nod")) -> Path:
    _write_archive(folder / "b.npz", _grid())
    _write_archive(folder / "a.npz", _grid(num_subjects=2), with_subjects=False)
    path = folder / "novel.json"
    path.write_text(json.dumps({"sets": ["b", "a"], "novel": novel, "base_order": ["bow"], "settings": [1]}))
    return path


def test_the_protocol_tells_its_novel_actions_apart_over_all_sets(tmp_path: Path, tiny_bundle: Path) -> None:
    path = _write_protocol(tmp_path)
    content = _json("protocol", path, "--encoder", tiny_bundle, "--draws", 6)
    assert content["protocol"] == "novel"
    assert (content["ways"], content["draws"], content["clips"]) == (3, 6, 30)
    assert content["encoder"] == content["dtw"] == {"accuracy": 1.0, "ci95": [1.0, 1.0]}
    assert content["notes"] == []


def test_the_archives_of_a_protocol_may_lie_elsewhere(tmp_path: Path, tiny_bundle: Path) -> None:
    path = _write_protocol(tmp_path / "data").rename(tmp_path / "novel.json")
    args = ("protocol", path, "--encoder", tiny_bundle, "--draws", 2)
    assert _json(*args, "--data", tmp_path / "data")["ways"] == 3
    with pytest.raises(ArchiveError, match=r"a\.npz does not exist"):
        raise _error(*args)


def test_novel_actions_that_the_encoder_was_trained_on_are_noted(tmp_path: Path, tiny_bundle: Path) -> None:
    path = _write_protocol(tmp_path)
    bundle = _altered(tiny_bundle, tmp_path / "bundle", training={"actions": ["bow", "nod"]})
    (note,) = _json("protocol", path, "--encoder", bundle, "--draws", 2)["notes"]
    assert "1 of the 3 novel actions (nod)" in note
    assert "1 of the 3 novel actions (nod)" in _run("protocol", path, "--encoder", bundle, "--draws", 2).stdout


def _error(*args: object) -> CrossGLGError:
    error = _run(*args).exception
    assert isinstance(error, CrossGLGError), error
    return error


def test_files_that_cannot_be_evaluated_are_refused_with_what_was_expected(tmp_path: Path, tiny_bundle: Path) -> None:
    good = _write_archive(tmp_path / "good.npz", _grid())
    same = _write_archive(tmp_path / "other" / "good.npz", _grid())
    one_each = _write_archive(tmp_path / "one_each.npz", [(k, -1, _clip(k, 0, 0)) for k in range(4)])
    one_class = _write_archive(tmp_path / "one_class.npz", [(0, k, _clip(0, k, 0)) for k in range(4)])
    empty = _write_archive(tmp_path / "empty.npz", [(0, 0, np.zeros((4, 25, 3), np.float32))])
    encoder = ("--encoder", tiny_bundle)
    for paths, words in (
        ([tmp_path / "none.npz"], "does not exist"),
        ([good, same], "two archives are named 'good'"),
        ([good, one_each], "one_each: nothing to recognize: 4 clips of 4 classes"),
        ([one_class], "at least two classes to tell apart, got 1"),
        ([empty], "at least two classes to tell apart, got 0"),
    ):
        error = _error("one-shot", *paths, *encoder)
        assert isinstance(error, ArchiveError)
        assert words in error.message
    assert isinstance(_error("one-shot", good, "--encoder", tmp_path / "none"), BundleError)


def test_protocols_that_cannot_be_followed_are_refused(tmp_path: Path, tiny_bundle: Path) -> None:
    path = _write_protocol(tmp_path, novel=("wave", "fly"))
    broken = tmp_path / "broken.json"
    broken.write_text('{"sets": ["a"]}')
    for bad, words in (
        (path, "no clip of fly"),
        (broken, "is not a protocol"),
        (tmp_path / "none.json", "cannot be read"),
    ):
        error = _error("protocol", bad, "--encoder", tiny_bundle)
        assert isinstance(error, ArchiveError)
        assert words in error.message


@pytest.mark.parametrize("options", [("--draws", 0), ("--draws", "many"), ("--by", "color"), ("--color",)])
def test_bad_options_exit_with_2(options: tuple[object, ...], tmp_path: Path) -> None:
    result = _run("one-shot", tmp_path / "a.npz", *options)
    assert result.exit_code == 2
    assert str(options[0]) in result.stderr


def test_dtw_reaches_the_known_number_on_a_public_set(tiny_bundle: Path) -> None:
    archive = SHARED_DATA / "kard.npz"
    if not archive.exists():
        pytest.skip(f"needs the public recordings in {SHARED_DATA.name}")
    numbers = _json("one-shot", archive, "--encoder", tiny_bundle, "--draws", 20)["archives"]["kard"]
    assert numbers["ways"] == 18
    assert numbers["dtw"]["accuracy"] == pytest.approx(0.89, abs=0.03)
