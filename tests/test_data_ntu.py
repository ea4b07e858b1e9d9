"""NTU RGB+D: .skeleton files, written here in the authors' format -> archives -> evaluation and training.

Shapes: F frames of one body, L frames of a clip, V = 25 joints.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from edge.model.choose import open_encoder
from streams.archive import read_archive
from streams.arrays import Array
from streams.errors import ArchiveError
from training.cli.prepare import prepare
from training.data.ntu import ACTIONS, ntu_parts, ntu_protocols, read_sample, read_skeleton, two_persons
from training.data.training_set import Augmentation, augmented_windows, load_training_set
from training.evaluate.draws import named_draw
from training.evaluate.one_shot import evaluate_protocol, read_protocol

SCRIPT = Path(sys.executable).with_name("crossglg-edge")
# Kinect's ids are so long that a float would take these two for one.
ANNA, BERT, CARL, TABLE = "72057594037931101", "72057594037931102", "72057594037932000", "72057594037933333"
NAME = "S001C001P003R001A001"

Frame = Sequence[tuple[str, Array]]


def body(num_frames: int, seed: int = 0, motion_m: float = 0.2, width: float = 0.3) -> Array:
    """Return an upright body of its own that moves, shape (F, 25, 3), meters, 3 m away."""
    rng = np.random.default_rng(seed)
    pose = rng.uniform(-0.5, 0.5, (25, 3)) * [width * 1.7, 1.7, 0.3] + [0, 0, 3]
    pose[[0, 1], 1] = -0.85, 0.85
    moving = rng.normal(size=(25, 3)) * np.array([0.2, 1, 1]) * motion_m
    moving[[0, 1]] = 0
    return np.asarray(pose + np.sin(np.linspace(0, 5, num_frames))[:, None, None] * moving, np.float32)


def alone(joints_FV3: Array, name: str = ANNA) -> list[Frame]:
    return [[(name, joints)] for joints in joints_FV3]


def skeleton_text(frames: Sequence[Frame]) -> str:
    """Return the text of a .skeleton file: frames of (body id, joints)."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for name, joints_V3 in bodies:
            lines += [f"{name} 0 1 1 1 1 0 0.02764709 0.05745083 2", "25"]
            lines += [
                f"{x:.7g} {y:.7g} {z:.7g} 277.4 191.9 1036.2 519.2 -0.21 0.04 0.97 -0.01 2" for x, y, z in joints_V3
            ]
    return "\r\n".join(lines) + "\r\n"


def write(folder: Path, frames: Sequence[Frame], name: str = NAME) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.skeleton"
    path.write_text(skeleton_text(frames), encoding="ascii", newline="")
    return path


def persons(frames: Sequence[Frame], folder: Path) -> Array:
    return two_persons(*read_skeleton(write(folder, frames)))


def run(*args: object) -> Result:
    return CliRunner().invoke(prepare, [str(arg) for arg in args])


def refused(*args: object) -> ArchiveError:
    error = run(*args).exception
    assert isinstance(error, ArchiveError), error
    return error


# One file


def test_bodies_come_back_joint_for_joint_whatever_their_order_in_a_frame(tmp_path: Path) -> None:
    anna, bert = body(20, 1), body(20, 2)
    frames = [[(ANNA, a), (BERT, b)][:: 1 if i % 3 else -1] for i, (a, b) in enumerate(zip(anna, bert, strict=True))]
    tracks, num_frames = read_skeleton(write(tmp_path, frames))
    assert num_frames == 20
    assert len(tracks) == 2
    for track, joints in zip(tracks, (bert, anna), strict=True):
        assert track.frames.tolist() == list(range(20))
        np.testing.assert_allclose(track.joints, joints, atol=1e-6)


def test_frames_without_a_body_are_dropped(tmp_path: Path) -> None:
    anna = body(15)
    frames: list[Frame] = [[], *alone(anna[:7]), [], [], *alone(anna[7:]), []]
    joints = persons(frames, tmp_path)
    assert joints.shape == (15, 2, 25, 3)
    np.testing.assert_allclose(joints[:, 0], anna, atol=1e-6)
    assert np.isnan(joints[:, 1]).all()


def test_joints_at_zero_or_not_a_number_are_missing(tmp_path: Path) -> None:
    anna = body(3)
    anna[0, 5], anna[1, 6, 1], anna[2] = 0, np.nan, 0
    joints = persons(alone(anna), tmp_path)
    assert joints.shape == (2, 2, 25, 3)  # in the third frame nobody is seen
    missing = np.isnan(joints[:, 0]).any(axis=2)
    assert list(zip(*np.nonzero(missing), strict=True)) == [(0, 5), (1, 6)]


def test_of_several_bodies_those_of_eleven_frames_go_and_those_of_twelve_stay(tmp_path: Path) -> None:
    for length, stays in ((11, False), (12, True)):
        anna, bert = body(30, 1), body(length, 2)
        frames = [[(ANNA, a), *([(BERT, bert[i])] if i < length else [])] for i, a in enumerate(anna)]
        assert np.isfinite(persons(frames, tmp_path)[:, 1]).any() == stays


def test_a_body_alone_stays_however_short_or_wide(tmp_path: Path) -> None:
    assert len(persons(alone(body(5, width=3)), tmp_path)) == 5


@pytest.mark.parametrize(("num_wide", "stays"), [(20, True), (21, False)])
def test_a_body_that_is_mostly_wider_than_high_goes_if_another_is_left(
    tmp_path: Path, num_wide: int, stays: bool
) -> None:
    table = np.concatenate((body(num_wide, 2, 0, width=3), body(30 - num_wide, 2, 0)))
    frames = [[(TABLE, t), (ANNA, a)] for t, a in zip(table, body(30, 1), strict=True)]
    joints = persons(frames, tmp_path)
    assert np.isfinite(joints[:, 1]).all() == stays
    assert any(np.allclose(joints[:, person], body(30, 1), atol=1e-6) for person in range(1 + stays))
    wide_only = [[(TABLE, t), (CARL, t + 1)] for t in body(30, 2, width=3)]
    assert np.isfinite(persons(wide_only, tmp_path)[:, 0]).all()


def test_who_moves_more_is_the_first_person_and_a_third_one_goes(tmp_path: Path) -> None:
    by_motion = [body(20, 1, 0.1), body(20, 2, 0.4), body(20, 3, 0.2)]
    # All are in the same place, so that only the motion makes the variance.
    by_motion = [joints - joints[:1] + body(1, 9) for joints in by_motion]
    frames = [list(zip((ANNA, BERT, CARL), joints, strict=True)) for joints in zip(*by_motion, strict=True)]
    joints = persons(frames, tmp_path)
    np.testing.assert_allclose(joints[:, 0], by_motion[1], atol=1e-5)
    np.testing.assert_allclose(joints[:, 1], by_motion[2], atol=1e-5)


def test_bodies_that_follow_each_other_are_one_person(tmp_path: Path) -> None:
    first, second, other = body(15, 1, 0.4), body(15, 2, 0.3), body(14, 3, 0.1)
    frames: list[Frame] = [[(ANNA, joints)] for joints in first]
    frames += [[(BERT, joints), *([(CARL, other[i])] if i < 14 else [])] for i, joints in enumerate(second)]
    joints = persons(frames, tmp_path)
    np.testing.assert_allclose(joints[:, 0], np.concatenate((first, second)), atol=1e-6)
    np.testing.assert_allclose(joints[15:29, 1], other, atol=1e-6)
    assert np.isnan(joints[:15, 1]).all()


def test_a_body_that_comes_back_keeps_its_frames(tmp_path: Path) -> None:
    anna, bert = body(30, 1), body(30, 1, 0.05)
    frames = [[(BERT, bert[i]), *([] if 10 <= i < 15 else [(ANNA, anna[i])])] for i in range(30)]
    joints = persons(frames, tmp_path)
    np.testing.assert_allclose(joints[15:, 0], anna[15:], atol=1e-6)
    assert np.isnan(joints[10:15, 0]).all()


@pytest.mark.parametrize("frames", [[], [[], [], []], alone(np.zeros((4, 25, 3), np.float32))])
def test_a_file_in_which_nobody_is_seen_gives_no_sample(tmp_path: Path, frames: list[Frame]) -> None:
    assert read_sample(write(tmp_path, frames)) is None


def test_a_sample_knows_its_performer_and_action(tmp_path: Path) -> None:
    sample = read_sample(write(tmp_path, alone(body(14)), "S032C003P106R002A120"))
    assert sample is not None
    assert (sample.source, sample.subject) == ("S032C003P106R002A120", 106)
    assert sample.label == "finger-guessing game (playing rock-paper-scissors)"


# What is refused


def test_a_file_cut_off_anywhere_is_refused_with_its_name_and_line(tmp_path: Path) -> None:
    lines = skeleton_text(alone(body(3))).splitlines(keepends=True)
    path = tmp_path / f"{NAME}.skeleton"
    for length in range(len(lines)):
        path.write_text("".join(lines[:length]), encoding="ascii")
        with pytest.raises(ArchiveError, match=rf"{NAME}\.skeleton, line {length + 1}: the file ends where"):
            read_sample(path)


@pytest.mark.parametrize(
    ("line", "text", "words"),
    [
        (0, "many", "expected the frame count"),
        (0, "-2", "whole number from 0 up"),
        (0, "2.5", "whole number from 0 up"),
        (0, "nan", "whole number from 0 up"),
        (0, "1", "expected the end of the file"),
        (1, "1 1", "expected a body count"),
        (1, "", "expected a body count"),
        (1, "2", "expected the fields of a body"),
        (2, f"{ANNA} 0 1 1 1 1 0 0.02 0.05", "expected the fields of a body (10 numbers)"),
        (2, "a 0 1 1 1 1 0 0.02 0.05 2", "expected the fields of a body"),
        (3, "24", "expected 25 joints, got 24"),
        (3, "0", "expected 25 joints, got 0"),
        (10, "0.1 0.2 0.3", "expected the fields of a joint (12 numbers)"),
        (10, "0.1 0,2 0.3 277.4 191.9 1036.2 519.2 -0.21 0.04 0.97 -0.01 2", "expected the fields of a joint"),
        (10, "0.1 0.2 0.3 277.4 191.9 1036.2 519.2 -0.21 0.04 0.97 -0.01 2 9", "expected the fields of a joint"),
        (10, "0.1 0.2 0.3 277.4 \xff 1036.2 519.2 -0.21 0.04 0.97 -0.01 2", "expected the fields of a joint"),
    ],
)
def test_a_line_that_is_not_in_the_format_is_refused_with_its_number(
    tmp_path: Path, line: int, text: str, words: str
) -> None:
    lines = skeleton_text(alone(body(2))).splitlines()
    lines[line] = text
    path = tmp_path / f"{NAME}.skeleton"
    path.write_text("\n".join(lines), encoding="latin-1")
    with pytest.raises(ArchiveError) as refusal:
        read_sample(path)
    assert words in refusal.value.message
    assert f"{path}, line " in refusal.value.message
    assert "--skip" in refusal.value.hint


def test_a_body_twice_in_one_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="line 30: the same body is twice"):
        read_sample(write(tmp_path, [[(ANNA, body(1)[0])] * 2]))


def test_names_that_tell_no_action_are_refused(tmp_path: Path) -> None:
    for i, (name, words) in enumerate(
        (
            ("S001C001P003R001", "expected a name such as"),
            ("S001C001P003R001A001 copy", "expected a name such as"),
            ("S001C001P003R001A121", "A121 is none of A001 to A120"),
            ("S001C001P003R001A000", "A000 is none of"),
        )
    ):
        folder = tmp_path / str(i)
        write(folder, alone(body(14)), name)
        assert words in refused("ntu", folder, "--out", tmp_path / "out").message
    assert "no .skeleton file" in refused("ntu", tmp_path / "none", "--out", tmp_path / "out").message
    for part in ("a", "b"):
        write(tmp_path / "twice" / part, alone(body(14)))
    assert "have the same name" in refused("ntu", tmp_path / "twice", "--out", tmp_path / "out").message


# From files to archives


def test_prepare_writes_an_archive_a_setup_that_holds_what_the_files_say(tmp_path: Path) -> None:
    two = [[(ANNA, a), (BERT, b)] for a, b in zip(body(20, 1, 0.4), body(20, 2), strict=True)]
    write(tmp_path / "a", alone(body(14, 3)), "S001C001P003R001A001")
    write(tmp_path / "a", two, "S001C002P004R002A058")
    write(tmp_path / "a", [[]], "S001C003P004R002A058")
    write(tmp_path / "b" / "c", alone(body(30, 4)), "S018C001P041R001A120")
    (tmp_path / "a" / "NTU_RGBD_samples_with_missing_skeletons.txt").write_text("S001C002P006R001A008\n")
    out = tmp_path / "out"
    result = run("ntu", tmp_path, "--out", out)
    assert result.exit_code == 0, result.output
    assert "S001: 2 clips, 1 files without a body left out" in result.stdout
    assert "S018: 1 clips\n3 clips in" in result.stdout
    assert sorted(file.name for file in out.iterdir()) == [
        "S001.npz", "S018.npz", "ntu120_one_shot.json", "ntu60_one_shot.json",
    ]  # fmt: skip
    archive = read_archive(out / "S001.npz")
    assert (archive.fps, archive.actions) == (30.0, ("drink water", "handshaking"))
    single, pair = archive[0], archive[1]
    assert (single.source, single.label, single.subject) == ("S001C001P003R001A001", "drink water", 3)
    assert (pair.source, pair.label, pair.subject) == ("S001C002P004R002A058", "handshaking", 4)
    np.testing.assert_allclose(single.persons[0].joints_m, body(14, 3), atol=1e-6)
    assert np.isnan(single.persons[1].joints_m).all()
    np.testing.assert_allclose(pair.persons[0].joints_m, body(20, 1, 0.4), atol=1e-6)
    np.testing.assert_allclose(pair.persons[1].joints_m, body(20, 2), atol=1e-6)
    with np.load(out / "S001.npz") as arrays:
        assert json.loads(arrays["meta"].item())["without_body"] == ["S001C003P004R002A058"]


def test_samples_named_in_a_list_are_left_out(tmp_path: Path) -> None:
    for subject in (3, 4, 5):
        write(tmp_path, alone(body(14)), f"S001C001P{subject:03}R001A001")
    (tmp_path / "S001C001P004R001A001.skeleton").write_text("broken")
    missing = tmp_path / "missing.txt"
    missing.write_text("2 of the samples have missing skeletons.\n\nS001C001P004R001A001\nS009C001P003R001A001\n")
    result = run("ntu", tmp_path, "--out", tmp_path / "out", "--skip", missing)
    assert result.exit_code == 0, result.output
    assert read_archive(tmp_path / "out" / "S001.npz").subjects.tolist() == [3, 5]
    assert "S001C001P004R001A001.skeleton, line 1" in refused("ntu", tmp_path, "--out", tmp_path / "out").message
    missing.write_text("nothing")
    assert "no name such as" in refused("ntu", tmp_path, "--out", tmp_path, "--skip", missing).message
    assert refused("ntu", tmp_path, "--out", tmp_path, "--skip", tmp_path / "no.txt").code == "not_found"


def test_a_finished_archive_is_kept_and_made_anew_only_if_its_files_changed_or_it_is_damaged(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    for setup in (1, 2):
        write(data, alone(body(14)), f"S{setup:03}C001P003R001A001")

    def prepared() -> tuple[int, int]:
        assert run("ntu", data, "--out", out).exit_code == 0
        first, second = (read_archive(out / f"{name}.npz").path.stat().st_mtime_ns for name in ("S001", "S002"))
        return first, second

    before = prepared()
    assert prepared() == before
    write(data, alone(body(14)), "S002C001P004R001A001")
    added = prepared()
    assert added[0] == before[0]
    assert len(read_archive(out / "S002.npz")) == 2
    write(data, alone(body(15)), "S002C001P004R001A001")
    added = prepared()
    assert len(read_archive(out / "S002.npz").persons[0]) == 14 + 15
    whole = (out / "S001.npz").read_bytes()
    for damaged in (whole[:-100], whole[:500] + bytes(100) + whole[600:]):
        (out / "S001.npz").write_bytes(damaged)
        assert prepared()[1] == added[1]
        assert len(read_archive(out / "S001.npz")) == 1


def test_prepare_that_finds_nobody_or_cannot_write_says_so(tmp_path: Path) -> None:
    write(tmp_path / "data", [[]])
    assert "no body was seen in any of 1 files" in refused("ntu", tmp_path / "data", "--out", tmp_path / "out").message
    write(tmp_path / "data", alone(body(14)))
    (tmp_path / "file").write_text("")
    assert "expected to write" in refused("ntu", tmp_path / "data", "--out", tmp_path / "file").message


def test_a_killed_prepare_leaves_no_process_and_no_half_archive_and_goes_on_where_it_was(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    text = skeleton_text(alone(body(20)))
    data.mkdir()
    for setup in range(1, 11):
        for subject in range(30):
            (data / f"S{setup:03}C001P{subject:03}R001A001.skeleton").write_text(text)
    command = [str(SCRIPT), "prepare", "ntu", str(data), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not (out / "S001.npz").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in out.glob("*.npz")}
    assert 1 <= len(finished) < 10
    assert all(len(read_archive(path)) == 30 for path in finished)
    deadline = time.monotonic() + 20
    while session_has_processes(process.pid):
        assert time.monotonic() < deadline, "workers outlive the killed parent"
        time.sleep(0.05)
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.count("30 clips") == 10
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert [len(read_archive(out / f"S{setup:03}.npz")) for setup in range(1, 11)] == [30] * 10


def session_has_processes(session: int) -> bool:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            return True
    return False


# Protocols


def test_the_protocols_are_those_of_the_authors() -> None:
    assert len(ACTIONS) == len(set(ACTIONS)) == 120
    protocols = ntu_protocols()
    for name, num_actions, num_setups in (("ntu60_one_shot.json", 60, 17), ("ntu120_one_shot.json", 120, 32)):
        protocol = protocols[name]
        assert protocol["novel"] == [ACTIONS[number - 1] for number in range(1, num_actions, 6)]
        assert protocol["sets"] == [f"S{setup:03}" for setup in range(1, num_setups + 1)]
        assert set(protocol["base_order"]) == set(ACTIONS[:num_actions]) - set(protocol["novel"])
        assert len(protocol["base_order"]) == 5 * num_actions // 6 == protocol["settings"][-1]
        assert [name[-4:] for name in protocol["exemplars"]] == [f"A{n:03}" for n in range(1, num_actions, 6)]
    exemplars = protocols["ntu120_one_shot.json"]["exemplars"]
    assert (exemplars[9], exemplars[10]) == ("S001C003P008R001A055", "S018C003P008R001A061")
    # The smallest base set is A2, A8, ..., A116.
    assert protocols["ntu120_one_shot.json"]["base_order"][19] == "follow other person"


def test_named_exemplars_are_taken_and_all_other_clips_are_queries() -> None:
    labels = np.array([1, 0, 1, 0, 1])
    draw = named_draw(labels, "abcde", ["e", "b"])
    assert (draw.exemplars.tolist(), draw.queries.tolist()) == ([1, 4], [0, 2, 3])
    for exemplars, words in ((["e", "x"], "x"), (["e"], "1 clips of 1"), (["a", "c", "b"], "3 clips of 2 classes")):
        with pytest.raises(ArchiveError, match=words):
            named_draw(labels, "abcde", exemplars)


@pytest.fixture(scope="module")
def ntu_archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archives of a small NTU-120: each novel action three times, some base actions, 32 setups."""
    folder = tmp_path_factory.mktemp("ntu")
    out = folder / "archives"

    def perform(name: str) -> None:
        action, subject = int(name[-3:]), int(name[9:12])
        frames = body(14, action, 0.6) + np.float32(0.002) * body(14, 1000 * action + subject)
        other = body(14, 500 + action, 0.1)
        pair = action >= 50 and subject == 8
        write(folder, [[(ANNA, a), *([(BERT, b)] if pair else [])] for a, b in zip(frames, other, strict=True)], name)

    for exemplar in ntu_protocols()["ntu120_one_shot.json"]["exemplars"]:
        for subject in (8, 9, 10):
            perform(exemplar.replace("P008", f"P{subject:03}"))
    for setup in range(1, 33):
        for action in (2, 3) if setup <= 17 else (62, 63):
            perform(f"S{setup:03}C001P008R001A{action:03}")
    result = run("ntu", folder, "--out", out)
    assert result.exit_code == 0, result.output
    return out


def test_evaluation_of_the_protocol_enrols_its_exemplars(ntu_archives: Path, tiny_bundle: Path) -> None:
    result = evaluate_protocol(
        ntu_archives / "ntu120_one_shot.json", open_encoder(tiny_bundle), data=ntu_archives, num_draws=9,
        report=lambda what, done, total: None,
    )[1]  # fmt: skip
    assert (result.ways, result.draws, result.clips) == (20, 1, 60)
    assert "the exemplars are those that the protocol names: one draw, no interval" in result.notes
    assert result.scores["dtw"].accuracy > 0.9
    # An exemplar that is not there is named.
    protocol: dict[str, Any] = json.loads((ntu_archives / "ntu60_one_shot.json").read_text())
    protocol["exemplars"][3] = "S001C003P008R002A019"
    path = ntu_archives / "other.json"
    path.write_text(json.dumps(protocol))
    with pytest.raises(ArchiveError, match="S001C003P008R002A019"):
        evaluate_protocol(path, open_encoder(tiny_bundle), data=ntu_archives, num_draws=9, report=lambda *_: None)


def test_every_person_that_was_seen_can_be_trained_on(ntu_archives: Path) -> None:
    protocol = read_protocol(ntu_archives / "ntu120_one_shot.json")
    assert protocol.settings == (20, 40, 60, 80, 100)
    data = load_training_set(sorted(ntu_archives.glob("S*.npz")), actions=protocol.base_order[:40])
    assert data.classes == ("brushing teeth", "eat meal/snack", "shoot at the basket", "take off headphone")
    assert len(data) == 2 * 17 + 2 * 15 * 2
    rng = np.random.default_rng(0)
    for clip in data.clips:
        assert np.isfinite(augmented_windows([clip], 8, Augmentation(), rng)[0]).all()


def test_guided_training_takes_the_first_base_actions_of_the_protocol(ntu_archives: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs the extra `train`")
    archives = [str(ntu_archives / f"S{setup:03}.npz") for setup in (1, 2, 18)]
    options = ["--base-of", str(ntu_archives / "ntu120_one_shot.json"), "--base", "20", "--out", str(tmp_path / "run")]
    options += ["--epochs", "1", "--num-frames", "16", "--batch", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(SCRIPT), "train", *archives, *options], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert run["classes"] == ["eat meal/snack", "take off headphone"]
    assert "guided by the texts of claude" in " ".join((done.stdout + done.stderr).split())


def test_the_names_of_setups_and_files_are_found_below_the_folder(tmp_path: Path) -> None:
    for name in ("x/S002C001P003R001A001", "S001C002P003R001A001", "y/z/S001C001P003R001A001"):
        write((tmp_path / name).parent, alone(body(1)), name.rpartition("/")[2])
    parts = ntu_parts(tmp_path)
    assert list(parts) == ["S001", "S002"]
    assert [file.name[:8] for file in parts["S001"]] == ["S001C001", "S001C002"]
