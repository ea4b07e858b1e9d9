"""HD-GCN and MotionBERT as encoders of CrossGLG: trained, exported, served, explained; needs the extra `train`.

Shapes: N windows, T frames, V = 25, C = 3, E values of an embedding, K clips of a batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("onnxscript", reason="export needs the extra `train`")

from torch import nn

from edge.cli.app import add_offline_commands, app
from edge.model import open_encoder
from export.fit import branch_from_run, read_clips
from export.frozen import FrozenBranch, embed
from export.onnx import load_branch
from export.recipe import make_bundle
from streams.errors import BundleError, ConfigError
from streams.layouts import KINECT25_JOINTS
from streams.performer import perform
from training.data import TrainingSet, load_training_set, paired_order
from training.explain.explain import look
from training.model import (
    Guidance,
    GuidanceConfig,
    HDGCNChoices,
    MotionBERT,
    MotionBERTChoices,
    MotionBERTConfig,
    SkeletonBranch,
    merge_key_joints,
)
from training.reproduce.measure import pooled_features
from training.run import EncoderName, TrainConfig, deviations, read_train_config, train
from training.run.batches import batches
from training.run.files import RUN
from training.run.loop import Learner, Row, _make_optimizer, learning_rate, load_run
from training.run.losses import supcon_loss

if TYPE_CHECKING:
    from tests.conftest import MakeConfig, Serve

ACTIONS = ("bow", "clap", "squat", "wave")
TRAINED = ("squat", "wave")
GUIDED = GuidanceConfig(shared_channels=16, num_pre=1)
HD_GCN = replace(
    TrainConfig.preset("paper", "hd-gcn"), guidance=GUIDED, hd_gcn=HDGCNChoices(width=16), num_frames=16,
    epochs=1, batch=4, lr=1e-3, windows="device", num_persons=1,
)  # fmt: skip
MOTIONBERT = replace(
    TrainConfig.preset("paper", "motionbert"), guidance=GUIDED, num_frames=16, epochs=1, batch=4, lr=1e-3,
    windows="device", num_persons=1,
    motionbert=MotionBERTChoices(dim=16, depth=2, num_heads=2, dim_features=32, hidden=24),
)  # fmt: skip
CONFIGS = {"hd-gcn": HD_GCN, "motionbert": MOTIONBERT}
WINDOWS = np.random.default_rng(0).normal(0, 0.5, (6, 16, 25, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a clip of each action by each of two people."""
    clips = [(action, subject) for action in ACTIONS for subject in (0, 1)]
    joints = [perform(action, seed=i).joints_m for i, (action, _) in enumerate(clips)]
    path = tmp_path_factory.mktemp("data") / "a.npz"
    np.savez(
        path,
        frames=np.concatenate(joints),
        offsets=np.cumsum([0, *map(len, joints)]),
        label=np.array([ACTIONS.index(action) for action, _ in clips], np.int16),
        subject=np.array([subject for _, subject in clips], np.int16),
        class_names=np.array(ACTIONS),
        joint_names=np.array(KINECT25_JOINTS),
        fps=30.0,
    )
    return path


@pytest.fixture(scope="module")
def data(archive: Path) -> TrainingSet:
    return load_training_set([archive], actions=TRAINED)


def texts(num_classes: int = len(TRAINED)) -> Guidance:
    rng = np.random.default_rng(0)
    return Guidance(
        key_joints_AV=torch.from_numpy((rng.random((num_classes, 25)) < 0.3).astype(np.float32)),
        texts_AVC=torch.from_numpy(rng.standard_normal((num_classes, 25, 12), np.float32)),
        global_AC=torch.from_numpy(rng.standard_normal((num_classes, 12), np.float32)),
    )


Trained = Callable[[str], Path]


@pytest.fixture(scope="module")
def trained(data: TrainingSet, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return the folder of a small guided run of an encoder, which is trained once."""
    runs: dict[str, Path] = {}

    def run(encoder: str) -> Path:
        if encoder not in runs:
            runs[encoder] = tmp_path_factory.mktemp("run")
            train(data, CONFIGS[encoder], runs[encoder], guidance=texts())
        return runs[encoder]

    return run


# Training


@pytest.mark.parametrize("encoder", CONFIGS)
def test_a_guided_training_teaches_every_part_and_is_kept_whole(
    encoder: str, data: TrainingSet, trained: Trained
) -> None:
    fresh = Learner(CONFIGS[encoder], 2, 12).branch.state_dict()
    branch, about = load_run(trained(encoder))
    assert about["config"]["encoder"] == encoder
    loss = json.loads((trained(encoder) / RUN).read_text())
    assert loss["pretrained_sha256"] is None
    with torch.inference_mode():
        features, importance_BV = branch.features(torch.from_numpy(WINDOWS)[:, None])
    assert importance_BV is not None
    num_joints = {"hd-gcn": 25, "motionbert": 17}[encoder]
    assert importance_BV.shape == (6, num_joints)
    assert features.shape[-1] == num_joints
    assert branch.state_dict().keys() == fresh.keys()


@pytest.mark.parametrize("encoder", CONFIGS)
def test_the_gradient_of_each_loss_reaches_jid_and_the_first_block(encoder: str) -> None:
    torch.manual_seed(0)
    learner = Learner(CONFIGS[encoder], 4, 12).train()
    for layer in learner.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)  # HD-GCN's blocks begin as good as switched off
    windows = torch.randn(4, 1, 16, 25, 3)
    joints = list(learner.branch.encoder.joints)
    outputs = learner(windows, texts(4).texts_AVC[:, joints])
    assert outputs.cross_logits_NA is not None
    first = next(
        parameter for name, parameter in learner.branch.encoder.named_parameters()  # type: ignore[attr-defined]
        if name.startswith(("blocks.0.", "backbone.blocks_st.0."))
    )  # fmt: skip
    assert learner.branch.jid is not None
    jid = learner.branch.jid.layers[0].weight
    for answers in (outputs.logits_NA, outputs.cross_logits_NA):
        for gradient in torch.autograd.grad(answers[:, 0].sum(), (first, jid), retain_graph=True):
            assert gradient.abs().max() > 0


def test_key_joints_that_an_encoder_does_not_see_count_as_the_next_ones_that_it_does() -> None:
    encoder = MOTIONBERT.make_branch(2).encoder
    key_joints_NV = torch.zeros(2, 25)
    key_joints_NV[0, [KINECT25_JOINTS.index(name) for name in ("HandTipLeft", "ThumbLeft", "FootRight", "Head")]] = 1
    merged_NV = merge_key_joints(key_joints_NV, encoder.joints)
    named = {KINECT25_JOINTS[encoder.joints[v]] for v in merged_NV[0].nonzero().flatten().tolist()}
    assert named == {"WristLeft", "AnkleRight", "Head"}
    assert merged_NV.max() == 1
    assert not merged_NV[1].any()
    assert torch.equal(merge_key_joints(key_joints_NV, range(25)), key_joints_NV)


def test_a_run_of_an_encoder_alone_has_no_guidance_in_it(data: TrainingSet, tmp_path: Path) -> None:
    rows: list[Row] = []
    alone = replace(GUIDED, global_to_local=False, local_to_global=False, project=False)
    for name, config in CONFIGS.items():
        branch = train(data, replace(config, guidance=alone), tmp_path / name, on_epoch=rows.append)
        assert branch.jid is None
    assert all(row["loss"] == row["loss_skeleton"] > 0 for row in rows)


def test_a_stopped_run_goes_on_with_the_same_curve(data: TrainingSet, tmp_path: Path) -> None:
    whole: list[Row] = []
    again: list[Row] = []
    config = replace(MOTIONBERT, epochs=2)
    train(data, config, tmp_path / "a", guidance=texts(), on_epoch=whole.append)

    class StoppedError(Exception):
        pass

    def stop(row: Row) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        train(data, config, tmp_path / "b", guidance=texts(), on_epoch=stop)
    train(data, config, tmp_path / "b", guidance=texts(), on_epoch=again.append)
    assert again[0]["loss"] == pytest.approx(whole[1]["loss"], rel=1e-5)
    assert again[0]["lr"] == whole[1]["lr"] == pytest.approx(0.99e-3)


def test_supcon_is_what_its_authors_write() -> None:
    embeddings = nn.functional.normalize(torch.randn(6, 5, dtype=torch.float64), dim=1)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    sims = (embeddings @ embeddings.T / 0.1).exp()
    expected = 0.0
    for i, twin in enumerate((1, 0, 3, 2, 5, 4)):
        expected -= float(torch.log(sims[i, twin] / (sims[i].sum() - sims[i, i]))) / 6
    assert float(supcon_loss(embeddings, labels, 0.1)) == pytest.approx(expected)


def test_a_batch_for_supcon_has_few_classes_and_two_clips_of_each() -> None:
    labels = np.repeat(np.arange(20), [1, *[5] * 19])
    order = paired_order(labels, 8, 2, np.random.default_rng(0))
    assert len(order) == len(labels) // 8 * 8
    for batch in order.reshape(-1, 8):
        first, second = labels[batch[:4]], labels[batch[4:]]
        assert len(set(first)) == 4
        assert (first == second).all()
        assert all(a != b or labels[a] == 0 for a, b in zip(batch[:4], batch[4:], strict=True))
    # Where a batch has room for more than all classes, each has more clips; two processes share its classes.
    assert sorted(labels[paired_order(labels[:11], 9, 2, np.random.default_rng(0))]) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_every_batch_of_supcon_has_pairs_and_they_are_the_same_for_the_same_seed(data: TrainingSet) -> None:
    first, again = (list(batches(data, replace(MOTIONBERT, batch=4), epoch=1)) for _ in range(2))
    assert len(first) == len(data) // 4 == 1
    for one, other in zip(first, again, strict=True):
        assert sorted(one.labels_N.tolist()) == [0, 0, 1, 1]
        assert torch.equal(one.x_NMTVC, other.x_NMTVC)


def test_the_head_and_guidance_learn_at_a_rate_of_their_own() -> None:
    learner = Learner(MOTIONBERT, 2, 12)
    optimizer = _make_optimizer(learner, MOTIONBERT)
    assert isinstance(optimizer, torch.optim.AdamW)
    own, other = optimizer.param_groups
    backbone = {id(parameter) for parameter in learner.branch.encoder.backbone.parameters()}  # type: ignore[attr-defined]
    assert {id(parameter) for parameter in own["params"]} < backbone  # all but the pose head
    assert not {id(parameter) for parameter in other["params"]} & backbone
    assert (own["lr_factor"], other["lr_factor"]) == (1.0, pytest.approx(1e-3 / MOTIONBERT.lr))
    (only,) = _make_optimizer(Learner(HD_GCN, 2, 12), HD_GCN).param_groups
    assert only["weight_decay"] == 4e-4


# Choices


def test_the_paper_preset_has_each_encoders_own_recipe() -> None:
    hd_gcn = TrainConfig.preset("paper", "hd-gcn")
    assert (hd_gcn.lr, hd_gcn.batch, hd_gcn.epochs, hd_gcn.weight_decay) == (0.05, 64, 90, 4e-4)
    assert (hd_gcn.schedule, hd_gcn.hd_gcn.center_of_mass, hd_gcn.guidance.num_pre) == ("cosine", 21, 5)
    motionbert = TrainConfig.preset("paper", "motionbert")
    assert (motionbert.classifier, motionbert.temperature, motionbert.optimizer) == ("supcon", 0.1, "adamw")
    assert (motionbert.lr, motionbert.lr_head, motionbert.weight_decay) == (8e-5, 1e-3, 0.01)
    assert (motionbert.batch, motionbert.epochs, motionbert.samples_per_class) == (32, 50, 2)
    assert learning_rate(motionbert, 10.5) == pytest.approx(8e-5 * 0.99**10)
    lite = TrainConfig.preset("paper", "motionbert-lite").motionbert
    assert (lite.dim, lite.mlp_ratio, lite.dim_features) == (256, 4, 512)


def test_joints_in_images_have_y_up_whatever_the_windows() -> None:
    def up(**keys: Any) -> str:
        config = read_train_config("paper", None, {"encoder": "motionbert", **keys}).encoder_config(2)
        assert isinstance(config, MotionBERTConfig)
        return config.up or ""

    assert up() == "z"
    assert up(motionbert={"up": "y"}) == "y"
    assert up(windows="device") == "y"


def test_two_cores_get_smaller_encoders_and_a_rate_at_which_embeddings_stay_apart() -> None:
    for name in ("motionbert", "motionbert-lite"):
        config = TrainConfig.preset("2-cores", name)
        assert (config.lr, config.windows, config.num_persons) == (2e-4, "device", 1)
        assert config.motionbert.dim <= 96
    assert TrainConfig.preset("2-cores", "hd-gcn").hd_gcn.width == 32


def test_what_is_not_the_papers_is_told_by_encoder() -> None:
    told = {name: deviations(TrainConfig.preset("paper", name)) for name in get_args(EncoderName)}
    assert {name: len(sentences) - len(told["infogcn"]) for name, sentences in told.items()} == {
        "infogcn": 0, "hd-gcn": 2, "motionbert": 5, "motionbert-lite": 5,
    }  # fmt: skip
    assert any("96 frames" in sentence for sentence in told["motionbert"])


@pytest.mark.parametrize(
    ("encoder", "head", "alone"),
    [("hd-gcn", "fc", 1_670_260), ("motionbert", "head", 60_294_157), ("motionbert-lite", "head", 33_829_389)],
)
def test_an_encoder_of_the_paper_preset_has_its_authors_parameters(encoder: Any, head: str, alone: int) -> None:
    config = replace(TrainConfig.preset("paper", encoder), num_persons=2)
    with torch.device("meta"):
        branch = config.make_branch(100)
    assert sum(parameter.numel() for parameter in branch.encoder.parameters()) == alone  # type: ignore[attr-defined]
    assert hasattr(branch.encoder, head)
    channels, pre = branch.encoder.num_features, branch.encoder.channels_after(config.guidance.num_pre)
    added = sum(parameter.numel() for parameter in branch.parameters()) - alone
    assert added == (pre * 128 + 128 + 129) + (channels * channels + channels) + (channels * 32 + 32)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"encoder": "gcn"}, "encoder is 'gcn': expected one of infogcn, hd-gcn, motionbert, motionbert-lite"),
        ({"encoder": "hd-gcn", "guidance": {"num_pre": 11}}, "num_pre is 11: expected 1 to 10, the blocks of hd-gcn"),
        ({"encoder": "motionbert", "guidance": {"num_pre": 6}}, "num_pre is 6: expected 1 to 5"),
        ({"encoder": "motionbert", "num_frames": 244}, "windows have 244 frames: expected at most 243"),
        ({"encoder": "hd-gcn", "classifier": "supcon"}, "needs the encoder motionbert or motionbert-lite, not hd-gcn"),
        ({"encoder": "hd-gcn", "hd_gcn": {"center_of_mass": 4}}, "center_of_mass"),
        ({"encoder": "motionbert", "motionbert": {"heads": 4}}, "unknown key motionbert.heads"),
        ({"temperature": 0.0}, "temperature is 0.0"),
    ],
)
def test_a_choice_that_does_not_fit_the_encoder_is_refused(flags: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        read_train_config("paper", None, flags)


def test_the_encoder_may_be_named_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('encoder = "hd-gcn"\nhd_gcn = { center_of_mass = 2 }\n')
    config = read_train_config("paper", file, {})
    assert (config.epochs, config.hd_gcn.center_of_mass) == (90, 2)
    assert read_train_config("paper", file, {"encoder": "motionbert"}).classifier == "supcon"


def test_a_class_head_takes_the_place_of_supcon(data: TrainingSet, tmp_path: Path) -> None:
    rows: list[Row] = []
    config = replace(MOTIONBERT, classifier="latent")
    branch = train(data, config, tmp_path, guidance=texts(), on_epoch=rows.append)
    assert isinstance(branch.encoder, MotionBERT)
    assert branch.encoder.head.fc2 is not None
    assert rows[0]["loss_cross"] > 0


def test_the_command_trains_an_encoder_by_its_name(archive: Path, tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text(
        "num_frames = 16\nbatch = 8\nmotionbert = { dim = 16, depth = 3, dim_features = 16, hidden = 16 }\n"
    )
    add_offline_commands()
    alone = ("--no-global-to-local", "--no-local-to-global", "--epochs", "1", "--config", str(file))
    result = CliRunner().invoke(
        app, ["train", str(archive), "--out", str(tmp_path / "run"), "--encoder", "motionbert-lite", *alone]
    )
    assert result.exit_code == 0, result.output
    assert "motionbert-lite: 8 clips of 4 actions" in result.output
    branch, about = load_run(tmp_path / "run")
    assert isinstance(branch.encoder, MotionBERT)
    assert about["config"]["motionbert"]["mlp_ratio"] == 4
    refused = CliRunner().invoke(
        app, ["train", str(archive), "--out", str(tmp_path / "other"), "--pretrained", str(tmp_path / "a.bin"), *alone]
    )
    assert isinstance(refused.exception, ConfigError)
    assert "pretrained weights are read into MotionBERT alone, not InfoGCN" in refused.exception.message


# Weights to begin with


def test_a_run_begins_with_pretrained_weights_and_says_which(data: TrainingSet, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        theirs = Learner(MOTIONBERT, 2, 12).branch.encoder
    assert isinstance(theirs, MotionBERT)
    file = tmp_path / "best_epoch.bin"
    torch.save({"model_pos": {f"module.{n}": w for n, w in theirs.backbone.state_dict().items()}}, file)
    config = replace(MOTIONBERT, lr=0.0)
    branch = train(data, config, tmp_path / "run", guidance=texts(), pretrained=file)
    assert isinstance(branch.encoder, MotionBERT)
    expected = theirs.backbone.state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in branch.encoder.backbone.state_dict().items())
    assert len(json.loads((tmp_path / "run" / RUN).read_text())["pretrained_sha256"]) == 64
    with pytest.raises(ConfigError, match="another pretrained_sha256"):
        train(data, config, tmp_path / "run", guidance=texts())


def test_pretrained_weights_that_do_not_fit_leave_no_run(data: TrainingSet, tmp_path: Path) -> None:
    torch.save({"model_pos": {"module.a": torch.zeros(1)}}, tmp_path / "a.bin")
    for config, expected in ((MOTIONBERT, "do not fit"), (HD_GCN, "read into MotionBERT alone, not HDGCN")):
        with pytest.raises(ConfigError, match=expected):
            train(data, config, tmp_path / "run", guidance=texts(), pretrained=tmp_path / "a.bin")
    assert not (tmp_path / "run").exists()


# The bundle


@pytest.mark.parametrize("encoder", CONFIGS)
def test_a_run_becomes_a_bundle_that_a_daemon_serves(
    encoder: str, trained: Trained, archive: Path, make_config: MakeConfig, serve: Serve, tmp_path: Path
) -> None:
    bundle, run = tmp_path / "bundle", trained(encoder)
    made = make_bundle(run, [archive], bundle, name=encoder)
    assert not made.no_rates
    known = read_clips([archive], 16)
    known = known.take(i for i, action in enumerate(known.actions) if action in TRAINED)
    known = known.take(np.random.default_rng(0).permutation(len(known.actions)))
    branch, _ = branch_from_run(run, "joints", known.windows_NTVC, known.actions)
    opened = open_encoder(bundle)
    ours, our_features = opened.encode_with_features(WINDOWS)
    theirs, their_features = embed(branch, WINDOWS)
    # Where neighbors are looked up, rounding may choose another one.
    is_near_N = (np.abs(ours - theirs).max(axis=1) < 1e-4) & (np.abs(our_features - their_features).max(axis=1) < 1e-4)
    assert is_near_N.mean() >= (0.8 if encoder == "hd-gcn" else 1.0)
    assert our_features.min() >= 0
    info = opened.info
    assert info.encoder == {"hd-gcn": "HDGCN", "motionbert": "MotionBERT"}[encoder]
    assert info.num_learned == 4 * 32 * {"hd-gcn": 25, "motionbert": 17}[encoder]
    assert info.parameters == branch.num_parameters
    with pytest.raises(BundleError, match="torch takes no"):
        load_branch(bundle)
    daemon = serve("zmq", config=make_config(bundle=bundle))
    status = daemon.ask("status")
    assert encoder in json.dumps(status)


def test_the_pooled_embedding_of_supcon_is_its_heads(trained: Trained) -> None:
    actions = ["a", "b"] * 3
    branch, _ = branch_from_run(trained("motionbert"), "pooled", WINDOWS, actions)
    assert branch.is_used("branch.encoder.head.fc1.weight")
    assert not branch.is_used("branch.encoder.backbone.head.weight")
    embeddings, _ = embed(branch, WINDOWS)
    assert embeddings.shape[1] == 24 + 16 * 75 + 1
    skeleton = branch.branch
    with torch.inference_mode():
        features, _ = skeleton.features(torch.from_numpy(WINDOWS)[:, None])
        theirs, _ = skeleton.encoder.classify(skeleton.to_classify(features))
    learned = nn.functional.normalize(theirs - theirs.mean(dim=0), dim=1)
    np.testing.assert_allclose(embeddings[:, :24], learned, atol=1e-5)


def test_what_inference_uses_is_counted(trained: Trained) -> None:
    branch, _ = branch_from_run(trained("motionbert"), "joints", WINDOWS, ["a", "b"] * 3)
    dropped = ("encoder.head.", "encoder.backbone.head.", "place.", "project.")
    used = sum(
        parameter.numel() for name, parameter in branch.branch.named_parameters() if not name.startswith(dropped)
    )
    assert branch.num_parameters == used + branch.projection.numel() + branch.cohort_KE.numel()


def test_windows_of_a_class_head_are_pooled_by_their_mean() -> None:
    config = replace(MOTIONBERT, classifier="latent")
    branch = FrozenBranch(config.make_branch(2), "pooled").eval()
    assert branch.mean_C.shape == (32,)
    assert embed(branch, WINDOWS)[0].shape == (6, 32 + 16 * 75)


def test_the_papers_tables_compare_the_embedding_of_the_head_over_all_persons() -> None:
    alone = replace(GUIDED, global_to_local=False, local_to_global=False, project=False)
    config = replace(MOTIONBERT, num_persons=2, guidance=alone)
    branch = config.make_branch(2).eval()
    windows = torch.randn(3, 2, 16, 25, 3)
    with torch.inference_mode():
        features, _ = branch.features(windows)
        pooled_BC = pooled_features(branch, config, features)
        assert isinstance(branch.encoder, MotionBERT)
        expected_NC = branch.encoder(windows)
    torch.testing.assert_close(pooled_BC, expected_NC.repeat_interleave(2, dim=0))


# Explain


@pytest.mark.parametrize("encoder", CONFIGS)
def test_what_an_encoder_looks_at_is_shown_on_all_25_joints(encoder: str, trained: Trained) -> None:
    branch, _ = load_run(trained(encoder))
    seen = look(branch, WINDOWS)
    num_blocks = branch.encoder.num_blocks
    assert seen.attention_NLV.shape == (6, num_blocks, 25)
    np.testing.assert_allclose(seen.attention_NLV.sum(axis=2), 1, atol=1e-5)
    np.testing.assert_allclose(seen.importance_NV.sum(axis=1), 1, atol=1e-5)
    others = sorted(set(range(25)) - set(branch.encoder.joints))
    assert (seen.attention_NLV[..., others] == 0).all()
    assert len(others) == {"hd-gcn": 0, "motionbert": 8}[encoder]


def test_a_teacher_of_other_joints_is_refused(data: TrainingSet, tmp_path: Path) -> None:
    config = replace(MOTIONBERT, num_frames=32)
    with pytest.raises(ConfigError, match="sees 17 joints, which no teacher has"):
        train(data, config, tmp_path, guidance=texts(), teachers=[open_encoder()])


def test_a_branch_may_hold_any_of_them() -> None:
    for config in CONFIGS.values():
        assert isinstance(config.make_branch(2), SkeletonBranch)
