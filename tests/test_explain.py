"""What runs look at: the numbers behind the figures, and `crossglg-edge explain` on runs and an archive made here."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="runs need the extra `train`")
pytest.importorskip("matplotlib", reason="figures need the extra `explain`")

from torch import nn

from edge.motion.preprocess import fill_missing, window_from_movement
from streams.errors import ArchiveError, ConfigError
from streams.layouts import KINECT25_JOINTS
from streams.movement import Movement
from streams.performer import perform
from training.cli.explain import explain
from training.data.training_set import load_training_set
from training.explain.explain import PersonClip, explain_runs, key_joint_shares, look, most_moving, read_clips
from training.model.crossglg import GuidanceConfig, SkeletonBranch
from training.model.infogcn import SpatialAttentionGC
from training.run.guidance import load_guidance
from training.run.loop import TrainConfig, load_run, train
from training.texts.key_joints import read_key_joints

SCRIPT = str(Path(sys.executable).with_name("crossglg-edge"))
GUIDED = TrainConfig(
    windows="device",
    num_persons=1,
    num_frames=16,
    width=16,
    epochs=1,
    batch=4,
    guidance=GuidanceConfig(shared_channels=16),
)
UNGUIDED = replace(GUIDED, guidance=GuidanceConfig(global_to_local=False, local_to_global=False))


def write_archive(path: Path, actions: tuple[str, ...], num_people: int = 3) -> Path:
    clips = [perform(action, seed=seed).joints_m for seed in range(num_people) for action in actions]
    np.savez(
        path,
        frames=np.concatenate(clips),
        offsets=np.cumsum([0, *map(len, clips)]),
        label=np.tile(np.arange(len(actions)), num_people),
        class_names=np.array(actions),
        joint_names=np.array(KINECT25_JOINTS),
        fps=np.float32(30),
    )
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive of two actions whose texts are shipped, and one without a text."""
    return write_archive(tmp_path_factory.mktemp("archive") / "performer.npz", ("clap", "punch", "raise_arms"))


@pytest.fixture(scope="module")
def runs(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a tiny run without guidance, and one with, of two of the archive's actions."""
    folder = tmp_path_factory.mktemp("runs")
    data = load_training_set([archive], actions=["clap", "punch"])
    train(data, UNGUIDED, folder / "baseline")
    train(data, GUIDED, folder / "guided", guidance=load_guidance("claude", data.classes))
    return folder / "baseline", folder / "guided"


def branch_of(num_pre: int = 5, *, jid: bool = True) -> SkeletonBranch:
    """Return a branch of random weights in which joint v looks at joint v + 1 alone, the last at the first."""
    torch.manual_seed(0)
    guidance = GuidanceConfig(num_pre=num_pre, global_to_local=jid)
    branch = replace(GUIDED, guidance=guidance).make_branch(2).eval()
    for layer in attention_layers(branch):
        nn.init.zeros_(layer.to_qk.weight)
        nn.init.zeros_(layer.to_qk.bias)
        layer.shared_topology.data[:] = torch.eye(25).roll(1, dims=1)
    if branch.jid is not None:
        for parameter in branch.jid.parameters():
            nn.init.normal_(parameter)
    return branch


def attention_layers(branch: SkeletonBranch) -> list[SpatialAttentionGC]:
    return [layer for layer in branch.modules() if isinstance(layer, SpatialAttentionGC)]


def some_windows(num_windows: int = 3) -> np.ndarray:
    clips = [perform("clap", seed=seed) for seed in range(num_windows)]
    return np.stack([window_from_movement(clip, 16) for clip in clips])


# The numbers


def test_the_attention_of_a_layer_is_what_its_output_is_mixed_by() -> None:
    torch.manual_seed(0)
    layer = SpatialAttentionGC(16, 16, 25).eval()
    with torch.no_grad():
        layer.shared_topology.zero_()
        layer.shared_topology[:, 5, 9] = 1
        layer.bn.weight.fill_(1)
    x = torch.randn(2, 16, 4, 25)
    other = x.clone()
    other[..., 9] += 1
    with torch.inference_mode():
        attention_NTHVV = layer.attention(x)
        differs_V = (layer(x) != layer(other)).any(dim=0).any(dim=0).any(dim=0)
    assert attention_NTHVV.shape == (2, 4, 3, 25, 25)
    assert attention_NTHVV.nonzero()[:, 3:].unique(dim=0).tolist() == [[5, 9]]
    assert differs_V.nonzero().flatten().tolist() == [5, 9]  # 9 by the way past the attention


@pytest.mark.parametrize("jid", [False, True])
def test_shares_of_attention_sum_to_one_over_the_joints_of_each_block(jid: bool) -> None:
    branch = replace(GUIDED, guidance=GuidanceConfig(global_to_local=jid)).make_branch(2).eval()
    looked = look(branch, some_windows())
    assert looked.attention_NLV.shape == (3, 9, 25)
    assert looked.weighed_NV.shape == looked.importance_NV.shape == (3, 25)
    np.testing.assert_allclose(looked.attention_NLV.sum(axis=2), 1, rtol=1e-5)
    np.testing.assert_allclose(looked.weighed_NV.sum(axis=1), 1, rtol=1e-5)


def test_a_joint_that_all_joints_look_at_gets_all_attention() -> None:
    branch = branch_of()
    with torch.no_grad():
        for layer in attention_layers(branch):
            layer.shared_topology.zero_()
            layer.shared_topology[..., 7] = -1
    looked = look(branch, some_windows())
    np.testing.assert_allclose(looked.attention_NLV[..., 7], 1, rtol=1e-5)
    np.testing.assert_allclose(looked.weighed_NV[..., 7], 1, rtol=1e-5)


@pytest.mark.parametrize("num_pre", [1, 5, 9])
def test_what_a_joint_looks_at_counts_by_its_k_out(num_pre: int) -> None:
    branch = branch_of(num_pre)
    looked = look(branch, some_windows())
    with torch.inference_mode():
        _, importance_BV = branch.features(torch.from_numpy(some_windows())[:, None])
    assert importance_BV is not None
    assert importance_BV.std() > 1e-3
    np.testing.assert_allclose(looked.importance_NV, importance_BV, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(looked.weighed_NV, np.roll(importance_BV, 1, axis=1), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(looked.attention_NLV, 1 / 25, rtol=1e-5)


def test_without_jid_what_counts_is_the_attention_of_the_same_blocks() -> None:
    torch.manual_seed(0)
    branch = UNGUIDED.make_branch(2).eval()
    looked = look(branch, some_windows())
    np.testing.assert_allclose(looked.weighed_NV, looked.attention_NLV[:, 5:].mean(axis=1), rtol=1e-4)
    assert (looked.importance_NV == 1).all()


def test_an_encoder_of_two_persons_is_looked_at_with_one() -> None:
    looked = look(replace(GUIDED, num_persons=2).make_branch(2).eval(), some_windows())
    assert looked.attention_NLV.shape == (3, 9, 25)
    assert looked.importance_NV.shape == (3, 25)


def test_an_explanation_is_the_mean_over_an_actions_clips_and_jids_row_is_k_out(
    runs: tuple[Path, Path], archive: Path
) -> None:
    baseline, guided = explain_runs(runs, read_clips([archive], ["punch", "clap"]), shown=2)
    assert baseline.importance_AV is None
    assert guided.classes == ("clap", "punch")
    branch, _ = load_run(runs[1])
    clips = read_clips([archive], ["clap"])["clap"]
    windows_NTVC = np.stack([window_from_movement(clip.movement, 16) for clip in clips])
    with torch.inference_mode():
        _, importance_BV = branch.features(torch.from_numpy(windows_NTVC)[:, None])
    assert importance_BV is not None
    assert guided.importance_AV is not None
    looked = look(branch, windows_NTVC)
    np.testing.assert_allclose(guided.importance_AV[1], importance_BV.mean(dim=0), rtol=1e-4)
    np.testing.assert_allclose(guided.attention_ALV[1], looked.attention_NLV.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(guided.weighed_AV[1], looked.weighed_NV[2], rtol=1e-4)


def test_key_joints_are_shares_and_an_action_without_text_is_noted() -> None:
    shares_AV, notes = key_joint_shares("claude", ["clap", "no such action"])
    (key_joints_V,) = read_key_joints("claude", ["clap"])
    np.testing.assert_allclose(shares_AV[0], key_joints_V / key_joints_V.sum())
    assert np.isnan(shares_AV[1]).all()
    assert len(notes) == 1
    assert "no such action" in notes[0]


def test_the_pose_shown_is_from_amid_the_fastest_half_second() -> None:
    still_TVC = np.repeat(fill_missing(perform("clap", seed=0)).joints_m[:1], 90, axis=0)
    hand = KINECT25_JOINTS.index("HandRight")
    still_TVC[:, hand, 1] += np.interp(np.arange(90), [60, 75], [0, 1.0])
    clip = PersonClip("made:0", Movement(timestamps_s=np.arange(90) / 30, joints_m=still_TVC))
    pose_VC = most_moving(clip)
    ends_VC = [most_moving(PersonClip("made:0", clip.movement.part(slice(i, i + 1)))) for i in (0, 89)]
    share = (pose_VC[hand, 1] - ends_VC[0][hand, 1]) / (ends_VC[1][hand, 1] - ends_VC[0][hand, 1])
    assert 0.3 < share < 0.7


# The command


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    return int(width), int(height)


def test_the_command_draws_the_three_figures(runs: tuple[Path, Path], archive: Path, tmp_path: Path) -> None:
    command = [SCRIPT, "explain", *map(str, runs), str(archive), "--out", str(tmp_path / "figures")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "no key joints of 'raise_arms'" in done.stderr
    assert "Warning" not in done.stderr
    sizes = {path.name: png_size(path) for path in (tmp_path / "figures").iterdir()}
    assert sorted(sizes) == ["joint_importance.png", "skeletons.png", "spatial_attention.png"]
    assert all(900 <= width <= 4000 and 700 <= height <= 4000 for width, height in sizes.values())


def test_a_run_without_jid_alone_is_drawn_too(runs: tuple[Path, Path], archive: Path, tmp_path: Path) -> None:
    explain([runs[0], archive], tmp_path, actions="clap", clip=1)
    assert png_size(tmp_path / "joint_importance.png")[0] > 900


def test_names_of_any_kind_are_drawn_as_they_are(runs: tuple[Path, Path], tmp_path: Path) -> None:
    named = write_archive(tmp_path / "named.npz", ("clap", "punch"), num_people=1)
    with np.load(named) as arrays:
        np.savez(named, **{**arrays, "class_names": np.array(["$\\frac{a}$ [b]", "a very long name " * 12])})
    explain([runs[1], named], tmp_path / "figures")
    assert png_size(tmp_path / "figures" / "skeletons.png")[0] > 900


Call = Callable[[tuple[Path, Path], Path, Path], None]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda runs, archive, out: explain([*runs, archive], out, actions="clap,fly"),
            ArchiveError,
            "no clip of 'fly'",
        ),
        (lambda runs, archive, out: explain([*runs, archive], out, clip=3), ArchiveError, "no clip 3: expected 0 to 2"),
        (lambda runs, archive, out: explain([out, archive], out), ConfigError, "not a finished training run"),
        (lambda runs, archive, out: explain([archive], out), ConfigError, "no run is named"),
        (lambda runs, archive, out: explain([*runs], out), ArchiveError, "no archive is named"),
        (lambda runs, archive, out: explain([*runs, out / "x.npz"], out), ArchiveError, "does not exist"),
        (lambda runs, archive, out: explain([*runs, archive], archive), ConfigError, "cannot be made"),
        (lambda runs, archive, out: explain([*runs, archive], out, actions="a," * 12), ConfigError, "has room for 12"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    call: Call, error: type[Exception], message: str, runs: tuple[Path, Path], archive: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        call(runs, archive, tmp_path)
    assert not [*tmp_path.glob("*.png")]


def test_unknown_actions_are_answered_with_those_there_are(runs: tuple[Path, Path], archive: Path) -> None:
    with pytest.raises(ArchiveError) as refused:
        read_clips([archive], ["fly"])
    assert refused.value.hint == "The actions there: clap, punch, raise_arms."


def test_the_command_is_found_without_torch_and_matplotlib() -> None:
    code = "import sys, training.cli; sys.exit(bool({'torch', 'matplotlib'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
