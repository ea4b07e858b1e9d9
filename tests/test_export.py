"""A training run becomes a bundle that the device accepts; needs the extra `train`.

Shapes: N windows, T frames, V = 25, C = 3, E values of an embedding, D features.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
import pytest
import typer
from typer.testing import CliRunner, Result

torch = pytest.importorskip("torch", reason="export needs the extra `train`")
pytest.importorskip("onnxscript", reason="export needs the extra `train`")

import export.bundle
from edge.config import Model
from edge.match.distances import distances_between, take_apart
from edge.model.bundle import DEFAULT_BUNDLE, read_bundle
from edge.model.choose import open_encoder
from edge.motion.preprocess import fill_missing
from export.cli import export as export_command
from export.fit import branch_from_run, fit_alignment_weight, fit_score_curve, read_clips, some_of_each
from export.fold import FoldedBranch
from export.frozen import Embedding, FrozenBranch, embed
from export.onnx import export_onnx, load_branch, load_weights, weights_of
from export.recipe import make_bundle, measure_again
from streams.arrays import Array
from streams.errors import ArchiveError, BundleError, ConfigError
from streams.layouts import KINECT25_JOINTS
from streams.performer import perform
from training.data.training_set import TrainingSet
from training.model.crossglg import GuidanceConfig
from training.model.whitening import whitening
from training.run.config import TrainConfig
from training.run.loop import train

if TYPE_CHECKING:
    from tests.conftest import WriteRecordings


NUM_FRAMES = 32
SMALL = TrainConfig(windows="device", num_persons=1, num_frames=NUM_FRAMES, width=16)
ALONE = GuidanceConfig(global_to_local=False, local_to_global=False)
WINDOWS = np.random.default_rng(0).normal(0, 0.5, (6, NUM_FRAMES, 25, 3)).astype(np.float32)
ACTIONS = ["a", "b"] * (len(WINDOWS) // 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = TrainingSet(
        clips=tuple((perform(action, seed=seed),) for seed in range(2) for action in ("squat", "wave")),
        labels=np.array([0, 1, 0, 1]),
        classes=("squat", "wave"),
        archives={"performer": "synthetic"},
    )
    out = tmp_path_factory.mktemp("run")
    config = replace(SMALL, guidance=ALONE, epochs=1, batch=4, lr=1e-3)
    train(data, config, out)
    return out


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("data") / "a.npz", ("wave", "squat", "bow", "clap"))


def write_archive(path: Path, actions: tuple[str, ...]) -> Path:
    """Write two clips of each action by each of two people."""
    clips = [(action, subject) for action in actions for subject in (0, 1) for _ in range(2)]
    joints = [perform(action, seed=i).joints_m for i, (action, _) in enumerate(clips)]
    np.savez(
        path,
        frames=np.concatenate(joints),
        offsets=np.cumsum([0, *map(len, joints)]),
        label=np.array([actions.index(action) for action, _ in clips], np.int16),
        subject=np.array([subject for _, subject in clips], np.int16),
        class_names=np.array(actions),
        joint_names=np.array(KINECT25_JOINTS),
        fps=30.0,
    )
    return path


def call(*args: object) -> Result:
    app = typer.Typer()
    app.command()(export_command)
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def bundle(run: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what the command writes; torch takes seconds for it, so the tests share it."""
    out = tmp_path_factory.mktemp("bundles") / "bundle"
    result = call(run, "--out", out, "--calibrate", archive, "--name", "mine")
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def base(archive: Path) -> tuple[Array, list[str]]:
    """Return the windows of trained actions, and their actions."""
    clips = read_clips([archive], NUM_FRAMES)
    known = clips.take(i for i, action in enumerate(clips.actions) if action in ("wave", "squat"))
    # In the command's order: the directions of so few clips hang on the order in which they are added up.
    known = known.take(np.random.default_rng(0).permutation(len(known.actions)))
    return known.windows_NTVC, list(known.actions)


def frozen(embedding: Embedding, guidance: GuidanceConfig) -> FrozenBranch:
    """Return a branch of width 16 with fresh weights."""
    torch.manual_seed(0)
    skeleton = replace(SMALL, guidance=guidance).make_branch(20)
    return FrozenBranch(skeleton, embedding).eval()


# The bundle


def test_a_run_becomes_a_bundle_whose_outputs_are_those_of_torch(
    run: Path, bundle: Path, base: tuple[Array, list[str]]
) -> None:
    branch, _ = branch_from_run(run, "joints", *base)
    embeddings, features = embed(branch, WINDOWS)
    encoder = open_encoder(bundle)
    for batch in (1, 3, 6):
        ours, our_features = encoder.encode_with_features(WINDOWS[:batch])
        np.testing.assert_allclose(ours, embeddings[:batch], atol=1e-4)
        np.testing.assert_allclose(our_features, features[:batch], atol=1e-4)
        assert our_features.min() >= 0
    assert features.max() > 0
    info = encoder.info
    assert (info.name, info.training["actions"], info.aligned_frames) == ("mine", ["squat", "wave"], 16)
    assert info.embedding_size == embeddings.shape[1] == 4 * 25 * 32 + 16 * 75 + 1
    assert info.cohort_weight == 0.75
    assert info.parameters == branch.num_parameters
    assert info.score_curve.source.startswith("a: ")
    assert info.rates is not None
    assert info.rates.source.startswith("a: ")
    assert info.alignment_weight > 0
    # The exporter would leave the names of our source files in it; weights may hold any bytes.
    model = onnx.load(bundle / "encoder.onnx")
    for initializer in model.graph.initializer:
        initializer.ClearField("raw_data")
    assert b".py" not in model.SerializeToString()


def test_the_statistics_in_the_bundle_are_those_of_the_trained_actions_clips_alone(
    run: Path, bundle: Path, base: tuple[Array, list[str]]
) -> None:
    info, _ = read_bundle(bundle)
    assert info.statistics_sha256 == hashlib.sha256((bundle / "statistics.npz").read_bytes()).hexdigest()
    statistics = open_encoder(bundle).statistics
    assert statistics is not None
    assert (statistics.classes, statistics.encoder_sha256) == (("squat", "wave"), info.onnx_sha256)
    windows_NTVC, actions = base
    branch, _ = branch_from_run(run, "joints", windows_NTVC, actions)
    _, features = embed(branch, windows_NTVC)
    for row, action in enumerate(statistics.classes):
        mean_D = features[[i for i, of in enumerate(actions) if of == action]].mean(axis=0)
        np.testing.assert_allclose(statistics.means_BF[row], mean_D, rtol=2e-3, atol=1e-4)


def test_the_same_run_and_archives_give_the_same_bundle_byte_for_byte(
    run: Path, bundle: Path, archive: Path, tmp_path: Path
) -> None:
    phases: list[str] = []
    made = make_bundle(run, [archive], tmp_path / "again", name="mine", report=lambda *phase: phases.append(phase[0]))
    assert list(dict.fromkeys(phases)) == ["read", "fit", "export", "measure"]
    assert (made.info, made.no_rates) == (read_bundle(bundle)[0], "")
    files = {file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()}
    assert files == {file.name: file.read_bytes() for file in bundle.iterdir()}


@pytest.fixture
def exported(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the encoder from `bundle` instead of exporting it anew, which takes seconds."""
    monkeypatch.setattr(
        export.bundle, "export_onnx", lambda branch, num_frames, path: shutil.copy(bundle / "encoder.onnx", path)
    )


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("PARITY_TOLERANCE", -1.0, "ONNX and torch differ"),
        ("MAX_STATISTICS_BYTES", 1000, "statistics of 2 classes take .* at most 1,000"),
    ],
)
def test_a_bundle_that_is_refused_leaves_the_one_before_as_it_was(
    run: Path,
    bundle: Path,
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: float,
    words: str,
) -> None:
    out = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    (out / "MODEL_CARD.md").write_text("kept")
    before = read_bundle(out)[0]
    with monkeypatch.context() as change:
        change.setattr(export.bundle, limit, value)
        with pytest.raises(BundleError, match=words):
            make_bundle(run, [archive], out, name="other")
    assert read_bundle(out)[0] == before
    made = make_bundle(run, [archive], out)
    assert made.info == read_bundle(out)[0] == open_encoder(out).info
    assert read_bundle(out)[0].name == run.name != before.name
    assert (out / "MODEL_CARD.md").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"], "nothing half written lies beside it"


@pytest.mark.usefixtures("exported")
def test_a_bundle_without_rates_is_whole_and_says_why_it_has_none(run: Path, archive: Path, tmp_path: Path) -> None:
    with np.load(archive) as content:
        # Each person does one action alone, so that nobody does what another enrolls.
        alone = content["label"] * 2 + content["subject"]
        np.savez(tmp_path / "a.npz", **{**content, "subject": alone.astype(np.int16)})
    result = call(run, "--out", tmp_path / "bundle", "--calibrate", tmp_path / "a.npz")
    assert result.exit_code == 0, result.output
    assert "no rates of false alarms: rates cannot be measured on these archives" in result.stderr
    info = open_encoder(tmp_path / "bundle").info
    assert (info.rates, info.dtw_midpoint) == (None, None)
    assert "at the midpoint, by `rates`" not in info.score_curve.source


def test_a_bundle_gets_another_score_and_keeps_its_weights(
    bundle: Path, tmp_path: Path, write_recordings: WriteRecordings
) -> None:
    other = write_archive(tmp_path / "b.npz", ("kick", "squat", "bow", "clap"))
    recordings = write_recordings(tmp_path / "real.npz", actions=("kick", "bow", "clap"))
    before = read_bundle(bundle)[0]
    out = tmp_path / "new"
    result = call(bundle, "--out", out, "--calibrate", other, "--recordings", recordings)
    assert result.exit_code == 0, result.output
    after = open_encoder(out).info
    assert after.onnx_sha256 == before.onnx_sha256
    assert (out / "statistics.npz").read_bytes() == (bundle / "statistics.npz").read_bytes()
    assert after.score_curve.source.startswith("b: ")
    assert "finds most in real recordings of real (3), of five labels each" in after.score_curve.source
    assert after.rates is not None
    assert after.rates.source.startswith("b: ")
    changed = {"score_curve", "rates", "dtw_midpoint", "alignment_weight"}
    same = {field for field in before.__struct_fields__ if getattr(before, field) == getattr(after, field)}
    assert {*before.__struct_fields__} - same <= changed
    # In its own place.
    assert call(out, "--out", out, "--calibrate", other, "--recordings", recordings).exit_code == 0
    assert open_encoder(out).info == after


def test_a_score_needs_actions_that_the_bundle_was_not_trained_on(bundle: Path, tmp_path: Path) -> None:
    known = write_archive(tmp_path / "b.npz", ("wave", "squat"))
    before = {file.name: file.read_bytes() for file in bundle.iterdir()}
    with pytest.raises(BundleError, match=r"every action in .*b\.npz is one that 'mine' was trained on"):
        measure_again(bundle, [known], bundle)
    with pytest.raises(ArchiveError, match="no timestamps_s, truth_stream"):
        measure_again(bundle, [write_archive(known, ("kick", "bow"))], bundle, recordings=[known])
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == before


def test_a_bundle_that_cannot_be_put_in_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with (
        pytest.raises(BundleError, match=r"bundle .*/file/bundle cannot be written"),
        export.bundle.replacing(tmp_path / "file" / "bundle"),
    ):
        pass
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.parametrize("is_shipped", [True, False])
def test_a_bundle_gives_back_its_torch_encoder(bundle: Path, is_shipped: bool) -> None:
    path = DEFAULT_BUNDLE if is_shipped else bundle
    ours, features = embed(load_branch(path), WINDOWS)
    theirs = open_encoder(path, Model(engine="onnxruntime")).encode_with_features(WINDOWS)
    np.testing.assert_allclose(ours, theirs[0], atol=1e-4)
    np.testing.assert_allclose(features, theirs[1], atol=1e-4)


def test_each_weight_is_in_a_bundle_once(bundle: Path) -> None:
    for path in (bundle, DEFAULT_BUNDLE):
        names = {file.name for file in path.rglob("*") if file.is_file() and file.suffix != ".md"}
        assert names - {"words.npz"} == {"bundle.json", "encoder.onnx", "statistics.npz"}
    assert sum(file.stat().st_size for file in DEFAULT_BUNDLE.rglob("*")) < 8_000_000


@pytest.mark.parametrize("embedding", ["joints", "pooled"])
def test_torch_takes_every_weight_back_from_the_onnx_file(embedding: Embedding, tmp_path: Path) -> None:
    folded = FoldedBranch(frozen(embedding, GuidanceConfig()))
    export_onnx(folded, NUM_FRAMES, tmp_path / "encoder.onnx")
    other = FoldedBranch(frozen(embedding, GuidanceConfig()))
    for tensor in other.state_dict().values():
        tensor.fill_(7)
    load_weights(other, weights_of(tmp_path / "encoder.onnx"), tmp_path / "encoder.onnx")
    for name, tensor in folded.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=0, atol=0, msg=name)


def test_a_bundle_of_before_with_its_own_file_of_torch_weights_is_read_as_any_other(
    bundle: Path, tmp_path: Path
) -> None:
    before = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    (before / "weights.safetensors").write_bytes(b"the same weights once more")
    alter(before, weights_sha256=hashlib.sha256(b"the same weights once more").hexdigest())
    np.testing.assert_array_equal(embed(load_branch(before), WINDOWS)[0], embed(load_branch(bundle), WINDOWS)[0])
    assert open_encoder(before).info.weights_sha256


def test_an_encoder_that_torch_cannot_build_is_refused_with_what_is_wrong(
    bundle: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match=r"torch takes no random projection back .*: expected InfoGCN"):
        load_branch(tiny_bundle)
    other = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    training = read_bundle(other)[0].training
    alter(other, training={})
    with pytest.raises(BundleError, match=r"training\.config in bundle\.json .* 'config' is missing") as refusal:
        load_branch(other)
    assert "crossglg-edge export RUN" in refusal.value.hint
    alter(other, training=training | {"config": dict(training["config"]) | {"width": 24}})  # type: ignore[call-overload]
    with pytest.raises(BundleError, match=r"weights do not fit .* embed\.weight: expected \[24, 3\], found \[16, 3\]"):
        load_branch(other)


def alter(bundle: Path, **changes: object) -> None:
    file = bundle / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | changes), encoding="utf-8")


def test_some_of_each_draws_no_clip_twice_and_all_where_there_are_few() -> None:
    actions = ["a"] * 50 + ["b"] * 3
    drawn = some_of_each(actions, 30, np.random.default_rng(0)).tolist()
    assert len(drawn) == len(set(drawn)) == 33
    assert {i for i in drawn if i >= 50} == {50, 51, 52}


# The embedding


@pytest.mark.parametrize("embedding", ["joints", "pooled"])
def test_an_embedding_is_a_learned_part_of_length_1_and_frames_seen_from_the_spine_base(
    embedding: Embedding,
) -> None:
    embeddings, features = embed(frozen(embedding, GuidanceConfig()), WINDOWS)
    learned, frames = embeddings[:, : -16 * 75], embeddings[:, -16 * 75 :]
    assert learned.shape[1] == (4 * 25 * 64 if embedding == "joints" else 64)
    np.testing.assert_allclose(np.linalg.norm(learned, axis=1), 1, atol=1e-5)
    places_NTVC = WINDOWS - WINDOWS[:, :, [KINECT25_JOINTS.index("SpineBase")]]
    pairs = (places_NTVC[:, 0::2] + places_NTVC[:, 1::2]) / 2
    np.testing.assert_allclose(frames, pairs.reshape(len(WINDOWS), -1), atol=1e-6)
    assert features.shape == (len(WINDOWS), 64)
    assert features.min() >= 0
    assert features.max() > 0


def test_windows_are_embedded_alike_in_batches_of_any_size() -> None:
    branch = frozen("joints", GuidanceConfig())
    for together, apart in zip(embed(branch, WINDOWS), embed(branch, WINDOWS, batch=4), strict=True):
        np.testing.assert_allclose(together, apart, atol=1e-5)


def test_parameters_are_counted_as_by_hand() -> None:
    def block(a: int, b: int, stride: int = 1) -> int:
        q, qk = b // 4, 6 * (a // 8)
        attention = 2 * a + (a * qk + qk) + 3 * 25 * 25 + 3 * (a * b + b) + 2 * b + (a != b) * (a * b + 3 * b)
        entry = b * q + 3 * q
        tcn = 2 * (entry + 5 * q * q + 3 * q) + (entry + 2 * q) + (b * q + 3 * q)
        return attention + tcn + (a != b or stride != 1) * (a * b + 3 * b)

    stem = (3 * 16 + 16) + 25 * 16 + 2 * 25 * 16
    blocks = 3 * block(16, 16) + block(16, 32, 2) + 2 * block(32, 32) + block(32, 64, 2) + 2 * block(64, 64)
    joint_importance = 32 * 128 + 128 + 128 + 1
    projection, project = 64 * 64, 64 * 64 + 64
    inference = stem + blocks + projection
    assert frozen("joints", ALONE).num_parameters == inference
    assert frozen("joints", GuidanceConfig()).num_parameters == inference + joint_importance
    assert frozen("pooled", GuidanceConfig()).num_parameters == inference + joint_importance + project


@pytest.mark.parametrize("embedding", ["joints", "pooled"])
@pytest.mark.parametrize(
    "guidance", [ALONE, GuidanceConfig(), GuidanceConfig(num_pre=9), GuidanceConfig(project=False)]
)
def test_the_parameters_that_are_counted_are_those_that_an_embedding_depends_on(
    embedding: Embedding, guidance: GuidanceConfig
) -> None:
    branch = frozen(embedding, guidance)
    embeddings, _ = branch(torch.from_numpy(WINDOWS[:2]))
    embeddings.square().sum().backward()
    # A bias before a normalization is used, but its gradient, which is zero, is not computed.
    used = sum(
        p.numel()
        for name, p in branch.named_parameters()
        if p.grad is not None or ("encoder.blocks" in name and name.endswith("bias"))
    )
    assert branch.num_parameters == used + branch.projection.numel() + branch.cohort_KE.numel()


@pytest.mark.parametrize("embedding", ["joints", "pooled"])
def test_the_mean_over_training_clips_is_taken_off(run: Path, embedding: Embedding) -> None:
    branch, _ = branch_from_run(run, embedding, WINDOWS, ACTIONS)
    with torch.inference_mode():
        features_NCTV, _ = branch.branch.features(torch.from_numpy(WINDOWS)[:, None])
        places = branch.places(features_NCTV) - branch.mean_C
    torch.testing.assert_close(places.mean(dim=(0, 1)), torch.zeros(64), atol=1e-5, rtol=0)


def test_the_channels_of_joints_are_uncorrelated_and_none_outweighs_the_others(run: Path) -> None:
    branch, _ = branch_from_run(run, "joints", WINDOWS, ACTIONS)
    with torch.inference_mode():
        features_NCTV, _ = branch.branch.features(torch.from_numpy(WINDOWS)[:, None])
        projected = ((branch.places(features_NCTV) - branch.mean_C) @ branch.projection).flatten(0, 1)
    covariance = np.cov(projected.numpy().T)
    variances = np.diag(covariance)
    assert covariance.shape == (32, 32)
    assert 0.9 < variances.max() < 1.01
    assert np.abs(covariance - np.diag(variances)).max() < 0.01


# The score


def test_a_fit_is_the_same_in_whatever_order_its_sums_are_taken(run: Path) -> None:
    windows_NTVC = np.concatenate([WINDOWS + np.float32(0.1 * i) for i in range(20)])
    actions = ACTIONS * 20
    first, _ = branch_from_run(run, "joints", windows_NTVC, actions)
    # Reversed, other windows share a batch too, so that the last digits of all sums differ.
    second, _ = branch_from_run(run, "joints", windows_NTVC[::-1].copy(), actions[::-1])
    np.testing.assert_allclose(second.projection, first.projection, atol=1e-3)
    np.testing.assert_allclose(embed(second, WINDOWS)[0], embed(first, WINDOWS)[0], atol=1e-4)


def test_the_largest_component_of_a_whitening_direction_is_positive() -> None:
    spread_CC = torch.randn(48, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    covariance_CC = spread_CC @ spread_CC.T
    projection = whitening(covariance_CC)
    assert (projection.gather(0, projection.abs().argmax(dim=0, keepdim=True)) > 0).all()


def _clips(num_clips: int = 200) -> tuple[Array, list[str], list[tuple[str, int]]]:
    """Return embeddings of 10 actions by 8 people, with frames that say as much as the learned part, and a cohort."""
    rng = np.random.default_rng(0)
    actions = np.arange(num_clips) % 10
    learned = rng.normal(size=(10, 32))[actions] + rng.normal(size=(num_clips, 32))
    learned /= np.linalg.norm(learned, axis=1, keepdims=True)
    frames = rng.normal(size=(10, 16 * 75))[actions] + rng.normal(size=(num_clips, 16 * 75))
    people = [("set", i // 10 % 8) for i in range(num_clips)]
    cohort = rng.uniform(0.5, 1, (num_clips, 1))
    embeddings = np.concatenate((learned, frames, cohort), axis=1).astype(np.float32)
    return embeddings, [f"action {i}" for i in actions], people


def test_alignment_spreads_by_six_tenths_of_what_the_cosine_does() -> None:
    embeddings, _, _ = _clips(60)
    weight = fit_alignment_weight(embeddings)
    clips, pairs = take_apart(embeddings, 16, has_cohort=True), np.triu_indices(60, 1)
    cosine = distances_between(clips, clips, 0.0)[pairs]
    spread = np.std(distances_between(clips, clips, weight)[pairs] - cosine)
    assert spread == pytest.approx(0.6 * np.std(cosine), rel=1e-3)
    # Nobody moves: there is nothing to align.
    still = np.concatenate((embeddings[:, :32], np.zeros((60, 16 * 75 + 1), np.float32)), axis=1)
    assert np.isfinite(fit_alignment_weight(still))


def test_the_midpoint_lets_through_the_wanted_share_of_different_actions() -> None:
    embeddings, actions, people = _clips()
    weight = fit_alignment_weight(embeddings)
    curve = fit_score_curve(embeddings, actions, people, "test", alignment_weight=weight, fmr=0.05)
    clips = take_apart(embeddings, 16, has_cohort=True)
    distances = distances_between(clips, clips, weight, 0.75)
    labels, subjects = np.array(actions), np.array([subject for _, subject in people])
    impostor = distances[(labels[:, None] != labels) & (subjects[:, None] != subjects)]
    assert (impostor < curve.midpoint).mean() == pytest.approx(0.05, abs=0.005)
    assert curve.slope > 0


def test_a_score_curve_without_two_people_or_two_actions_is_refused() -> None:
    embeddings, _, _ = _clips(5)
    with pytest.raises(BundleError, match="at least two actions by two people"):
        fit_score_curve(embeddings, ["a"] * 5, [("set", i) for i in range(5)], "test", alignment_weight=0.1)


def test_the_cohort_is_each_trained_actions_mean_and_the_distance_to_it_the_last_of_an_embedding(run: Path) -> None:
    branch, _ = branch_from_run(run, "joints", WINDOWS, ACTIONS)
    embeddings, _ = embed(branch, WINDOWS)
    learned = embeddings[:, : 4 * 25 * 32]
    means = np.stack([learned[[i for i, a in enumerate(ACTIONS) if a == name]].mean(axis=0) for name in "ab"])
    cosines = learned @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    # Two fifths of two actions are the nearest one.
    np.testing.assert_allclose(embeddings[:, -1], 1 - cosines.max(axis=1), atol=1e-5)


# What cannot be exported


@pytest.mark.parametrize("num_frames", [12, 24, 40])
@pytest.mark.parametrize("embedding", ["joints", "pooled"])
def test_windows_that_cannot_be_divided_are_refused(run: Path, num_frames: int, embedding: Embedding) -> None:
    with pytest.raises(BundleError, match=f"windows have {num_frames} frames: expected a multiple of 16"):
        branch_from_run(run, embedding, np.zeros((2, num_frames, 25, 3), np.float32), ["wave", "squat"])


@pytest.mark.parametrize(("windows", "num_persons"), [("authors", 1), ("device", 2)])
def test_a_run_on_windows_that_no_device_makes_is_refused(
    windows: Literal["authors", "device"], num_persons: Literal[1, 2], tmp_path: Path
) -> None:
    clips = [(fill_missing(perform(action, seed=seed)),) for seed in range(2) for action in ("wave", "squat")]
    data = TrainingSet(
        clips=tuple(clips), labels=np.tile([0, 1], 2), classes=("wave", "squat"), archives={"performer": "synthetic"}
    )
    config = replace(SMALL, windows=windows, num_persons=num_persons, guidance=ALONE, epochs=1, batch=4, lr=1e-3)
    train(data, config, tmp_path)
    with pytest.raises(BundleError, match=f"windows '{windows}' of {num_persons} persons: expected"):
        branch_from_run(tmp_path, "pooled", WINDOWS, ACTIONS)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a finished training run"):
        branch_from_run(tmp_path, "pooled", WINDOWS, ACTIONS)


@pytest.mark.parametrize(
    ("actions", "counted", "lacking"),
    [
        (
            ("wave", "squat"),
            "8 clips of trained and 0 of other actions",
            "encoder was not trained on",
        ),
        (("bow", "clap"), "0 clips of trained and 8 of other actions", "encoder was trained on"),
    ],
)
def test_archives_without_trained_or_without_other_actions_are_refused_with_what_is_missing(
    run: Path, tmp_path: Path, actions: tuple[str, ...], counted: str, lacking: str
) -> None:
    archive = write_archive(tmp_path / "a.npz", actions)
    error = call(run, "--out", tmp_path / "bundle", "--calibrate", archive).exception
    assert isinstance(error, BundleError)
    assert counted in error.message
    assert lacking in error.hint
    assert not (tmp_path / "bundle").exists()


def test_what_a_bundle_still_needs_is_named(run: Path, archive: Path, tmp_path: Path) -> None:
    for args, missing in (
        ((run, "--out", tmp_path / "bundle"), "--calibrate ARCHIVE"),
        ((run, "--calibrate", archive), "--out FOLDER"),
        ((), "RUN or BUNDLE, --out FOLDER, --calibrate ARCHIVE"),
    ):
        error = call(*args).exception
        assert isinstance(error, ConfigError)
        assert error.message == f"without --to, export makes a bundle: {missing} is missing"
