"""The encoder, its data and its training; needs the extra `train`."""

from __future__ import annotations

import csv
import dataclasses
import json
import pickle
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from safetensors.torch import load_file
from torch import Tensor

from edge.model.choose import open_encoder
from edge.motion.preprocess import fill_missing, window_from_movement
from streams.errors import ArchiveError, ConfigError
from streams.layouts import KINECT25_JOINTS, KINECT25_MIRROR, KINECT25_PARENTS
from streams.movement import Movement
from streams.performer import ACTIONS, perform
from training.data.authors import authors_windows
from training.data.training_set import (
    Augmentation,
    TrainingSet,
    augmented_windows,
    load_training_set,
    sampling_order,
    with_twins,
)
from training.model.contrast import contrast_loss, sentences
from training.model.crossglg import Guidance, GuidanceConfig, calibration_loss, fixed_calibration_loss
from training.model.infogcn import InfoGCN, InfoGCNConfig, SpatialAttentionGC
from training.run.batches import batches
from training.run.config import stored_config
from training.run.files import CHECKPOINT, COLUMNS, EVENTS, LOSSES
from training.run.loop import CURVE, RUN, WEIGHTS, Learner, Row, TrainConfig, _Training, learning_rate, load_run, train
from training.run.losses import smoothed_cross_entropy
from training.run.paper import ALWAYS, OTHER_TEXT_ENCODER, deviations
from training.run.ranks import join_ranks
from training.texts.features import ENCODER

DATA = Path(__file__).parents[2] / "shared" / "data"
UNGUIDED = GuidanceConfig(global_to_local=False, local_to_global=False, project=False)
# What was chosen when the golden losses were taken; new choices have tests of their own.
TINY = TrainConfig(
    windows="device",
    num_frames=8,
    num_persons=1,
    initial_weights="torch",
    bone_tree="kinect25",
    noise_ratio=0.1,
    cross_smoothing=0.1,
    warmup="batch",
    drop_last=False,
    epochs=3,
    batch=11,
    lr=2e-4,
    guidance=UNGUIDED,
    augmentation=Augmentation(min_crop_frames=0, axis_scale=0.08, joint_noise=0.01, joint_drop=0.02),
)
SHARES = GuidanceConfig(key_joints="share")
GOLDEN_LOSSES = (29.1064, 17.0367, 16.9652)
GUIDED = replace(TINY, num_frames=16, guidance=SHARES, classifier="cosine", epochs=1)
GOLDEN_PARTS = {
    "latent": {"loss_skeleton": 12.1073, "loss_calibrate": 0.00575, "loss_cross": 13.7898},
    "cosine": {"loss_skeleton": 2.43726, "loss_calibrate": 0.00574, "loss_cross": 2.45677},
}
SMALL = replace(TINY, width=16, epochs=2, guidance=GuidanceConfig(shared_channels=16), num_frames=16)
NO_CHANGE = Augmentation(min_crop=1, min_crop_frames=0, max_turn_rad=0)
NOISY = replace(NO_CHANGE, max_turn_rad=0.3, axis_scale=0.1, joint_noise=0.05)
QUIET = replace(NO_CHANGE, reversed_share=0.5, mirrored_share=0.5)


def performed(num_people: int = 3, actions: tuple[str, ...] = ACTIONS) -> TrainingSet:
    clips = [perform(action, seed=seed) for seed in range(num_people) for action in actions]
    return TrainingSet(
        clips=tuple((fill_missing(clip),) for clip in clips),
        labels=np.tile(np.arange(len(actions)), num_people),
        classes=actions,
        archives={"performer": "synthetic"},
    )


def random_texts(num_classes: int = len(ACTIONS)) -> Guidance:
    rng = np.random.default_rng(0)
    return Guidance(
        key_joints_AV=torch.from_numpy((rng.random((num_classes, 25)) < 0.3).astype(np.float32)),
        texts_AVC=torch.from_numpy(rng.standard_normal((num_classes, 25, 12), np.float32)),
        global_AC=torch.from_numpy(rng.standard_normal((num_classes, 12), np.float32)),
    )


@pytest.mark.parametrize(
    ("num_classes", "parameters"), [(20, 1_546_527), (60, 1_556_807), (100, 1_567_087), (120, 1_572_227)]
)
def test_infogcn_has_the_authors_parameters_to_the_digit(num_classes: int, parameters: int) -> None:
    model = InfoGCN(InfoGCNConfig(num_classes=num_classes, num_persons=2))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_k_0_is_refused_because_it_makes_the_input_all_zero() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        InfoGCN(InfoGCNConfig(num_classes=2, k=0))


@pytest.mark.parametrize("k", [1, 8])
def test_the_input_map_gives_bones_for_k_1_and_joints_for_k_8(k: int) -> None:
    model = InfoGCN(InfoGCNConfig(num_classes=2, k=k))
    x_VC = torch.randn(25, 3)
    mapped = model.input_map_VV @ x_VC
    if k == 8:
        assert torch.equal(mapped, x_VC)
    else:
        assert torch.equal(mapped[1], x_VC[1])  # the root stays as it is
        torch.testing.assert_close(mapped[5], x_VC[5] - x_VC[4])  # left elbow minus left shoulder


def test_time_is_halved_twice_and_channels_end_at_256() -> None:
    model = InfoGCN(InfoGCNConfig(num_classes=2)).eval()
    with torch.inference_mode():
        assert model.features(torch.randn(2, 1, 16, 25, 3)).shape == (2, 256, 4, 25)


def test_attention_in_one_batched_product_equals_the_plain_way_head_by_head() -> None:
    torch.manual_seed(0)
    layer = SpatialAttentionGC(16, 32, 25).eval()
    x_NCTV = torch.randn(2, 16, 5, 25)
    with torch.inference_mode():
        x = x_NCTV.permute(0, 2, 3, 1).reshape(10, 25, 16)
        qk = layer.to_qk(layer.norm(x)).view(10, 25, 2, 3, 2)
        out = torch.zeros(2, 32, 5, 25)
        for head in range(3):
            q, k = qk[:, :, 0, head], qk[:, :, 1, head]
            attention = (q @ k.transpose(1, 2) / 2**0.5).softmax(dim=-1) * layer.shared_topology[head]
            mixed = (attention @ x).view(2, 5, 25, 16).permute(0, 3, 1, 2)
            out = out + layer.conv_d[head](mixed)
        expected = torch.relu(layer.bn(out) + layer.down(x_NCTV))
        torch.testing.assert_close(layer(x_NCTV), expected, atol=1e-5, rtol=1e-4)


def test_a_tiny_seeded_run_has_its_golden_loss(tmp_path: Path) -> None:
    rows: list[Row] = []
    train(performed(), TINY, tmp_path, on_epoch=rows.append)
    assert [row["loss"] for row in rows] == pytest.approx(GOLDEN_LOSSES, rel=0.02)


@pytest.mark.parametrize("classifier", ["latent", "cosine"])
def test_a_guided_run_has_its_golden_losses_and_their_weighed_sum_is_the_overall_loss(
    classifier: Literal["latent", "cosine"], tmp_path: Path
) -> None:
    rows: list[Row] = []
    train(performed(), replace(GUIDED, classifier=classifier), tmp_path, guidance=random_texts(), on_epoch=rows.append)
    row, golden = rows[0], GOLDEN_PARTS[classifier]
    assert {name: row[name] for name in golden} == pytest.approx(golden, rel=0.02)
    guided = 0.5 * row["loss_calibrate"] + 0.2 * row["loss_cross"]
    assert row["loss"] == pytest.approx(row["loss_skeleton"] + guided, rel=1e-5)


def test_guidance_that_is_off_leaves_no_trace_in_the_losses(tmp_path: Path) -> None:
    rows: list[Row] = []
    for way, guidance in (
        ("global_to_local", replace(SMALL.guidance, global_to_local=False)),
        ("local_to_global", replace(SMALL.guidance, local_to_global=False)),
    ):
        config = replace(SMALL, epochs=1, guidance=guidance)
        train(performed(), config, tmp_path / way, guidance=random_texts(), on_epoch=rows.append)
    assert [row["loss_calibrate"] == 0 for row in rows] == [True, False]
    assert [row["loss_cross"] == 0 for row in rows] == [False, True]


def test_contrast_with_texts_learns_to_say_them_and_leaves_nothing_in_the_branch(tmp_path: Path) -> None:
    rows: list[Row] = []
    only = GuidanceConfig(global_to_local=False, local_to_global=False, alpha_contrast=3.0)
    config = replace(GUIDED, guidance=only, augmentation=QUIET, epochs=12, lr=0.01)
    branch = train(performed(), config, tmp_path, guidance=random_texts(), on_epoch=rows.append)
    assert rows[-1]["loss_contrast"] < 0.9 * rows[0]["loss_contrast"]
    assert rows[-1]["loss"] == pytest.approx(rows[-1]["loss_skeleton"] + 3 * rows[-1]["loss_contrast"], rel=1e-4)
    assert not any("speak" in name for name in branch.state_dict())


def test_features_that_say_their_classes_sentences_have_the_least_contrast() -> None:
    guidance, labels_N = random_texts(), torch.arange(len(ACTIONS))
    sentences_ASP = sentences(guidance)
    assert sentences_ASP.shape == (len(ACTIONS), 26, 12)
    own, other = (contrast_loss(said, sentences_ASP, labels_N, 0.1) for said in (sentences_ASP, -sentences_ASP))
    assert own < other
    assert contrast_loss(sentences_ASP[:0], sentences_ASP, labels_N[:0], 0.1) == 0
    # What is said at a joint that every class describes alike counts nothing.
    guidance.texts_AVC[:, 3] = guidance.texts_AVC[0, 3]
    assert torch.allclose(sentences(guidance)[:, 3], torch.zeros(12), atol=1e-3)


@pytest.mark.parametrize("key_joints", ["share", "binary", "sigmoid"])
def test_no_fixed_weights_are_nearer_to_all_key_joints(key_joints: Literal["share", "binary", "sigmoid"]) -> None:
    config = GuidanceConfig(key_joints=key_joints, calibrate_sum=True)
    key_joints_AV = random_texts().key_joints_AV
    both_BV = torch.cat([key_joints_AV, key_joints_AV[:, KINECT25_MIRROR.tolist()]])
    least = fixed_calibration_loss(key_joints_AV, config)
    noise_NV = torch.from_numpy(np.random.default_rng(0).normal(0, 3, (300, 25)).astype(np.float32))
    tried_NV = noise_NV.sigmoid() if key_joints == "sigmoid" else noise_NV.softmax(dim=1)
    assert least <= min(float(calibration_loss(fixed_V.expand_as(both_BV), both_BV, config)) for fixed_V in tried_NV)
    mean_V = both_BV.mean(dim=0)
    if key_joints == "sigmoid":
        assert least == pytest.approx(float((both_BV - mean_V).square().sum(dim=1).mean()), rel=1e-5)


def test_permuted_texts_are_those_of_another_class_for_every_class(tmp_path: Path) -> None:
    texts = random_texts(7)
    permuted = texts.permute(3)
    distance_AA = torch.cdist(permuted.texts_AVC.flatten(1), texts.texts_AVC.flatten(1))
    of_A = distance_AA.argmin(dim=1)
    assert sorted(of_A.tolist()) == [*range(7)]
    assert not (of_A == torch.arange(7)).any()
    assert torch.equal(permuted.key_joints_AV, texts.key_joints_AV[of_A])
    assert torch.equal(permuted.global_AC, texts.global_AC[of_A])
    own: list[Row] = []
    other: list[Row] = []
    for rows, permute in ((own, False), (other, True)):
        config = replace(GUIDED, permute_texts=permute)
        train(performed(), config, tmp_path / str(permute), guidance=random_texts(), on_epoch=rows.append)
    assert own[0]["loss_calibrate"] != other[0]["loss_calibrate"]


def test_jid_and_phi_learn_at_a_rate_of_their_own(tmp_path: Path) -> None:
    config = replace(GUIDED, lr_guidance=0.0, warmup_share=0.0)
    fresh = {name: value.clone() for name, value in _fresh(config).items()}
    trained = train(performed(), config, tmp_path, guidance=random_texts()).state_dict()
    assert all(torch.equal(trained[name], fresh[name]) for name in fresh if name.startswith("jid."))
    assert not torch.equal(trained["place.weight"], fresh["place.weight"])


def _fresh(config: TrainConfig) -> dict[str, Tensor]:
    torch.manual_seed(config.seed)
    return dict(Learner(config, len(ACTIONS), 12).branch.state_dict())


def test_the_skeleton_branch_alone_is_kept_and_loaded_as_it_was_trained(tmp_path: Path) -> None:
    trained = train(performed(), replace(SMALL, classifier="cosine"), tmp_path, guidance=random_texts())
    loaded, run = load_run(tmp_path)
    assert set(load_file(tmp_path / WEIGHTS)) == set(loaded.state_dict())
    assert not any("phi" in name or "proxies" in name for name in loaded.state_dict())
    assert not loaded.training
    assert run["classes"] == list(ACTIONS)
    x_NMTVC = torch.randn(2, 1, 16, 25, 3)
    with torch.inference_mode():
        (features, importance), (again, again_importance) = trained.features(x_NMTVC), loaded.features(x_NMTVC)
        assert torch.equal(features, again)
        assert torch.equal(importance, again_importance)
        assert torch.equal(trained.places(features), loaded.places(again))


@pytest.mark.parametrize(
    ("classifier", "learnt", "idle"), [("latent", "project", "place"), ("cosine", "place", "project")]
)
def test_what_no_loss_reaches_is_left_as_it_was_drawn(
    classifier: Literal["latent", "cosine"], learnt: str, idle: str, tmp_path: Path
) -> None:
    config = replace(SMALL, epochs=1, classifier=classifier)
    trained = train(performed(), config, tmp_path, guidance=random_texts())
    torch.manual_seed(config.seed)
    fresh = config.make_branch(len(ACTIONS))
    assert torch.equal(trained.get_submodule(idle).weight, fresh.get_submodule(idle).weight)
    assert not torch.equal(trained.get_submodule(learnt).weight, fresh.get_submodule(learnt).weight)


def test_a_softmax_over_some_classes_is_that_of_their_logits_alone() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 5, requires_grad=True)
    labels, among = torch.tensor([0, 2, 4, 0, 2, 4]), torch.tensor([True, False, True, False, True]).repeat(6, 1)
    loss = smoothed_cross_entropy(logits, labels, 0.1, among)
    expected = torch.nn.functional.cross_entropy(logits[:, ::2], labels // 2, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert (logits.grad[:, 1::2] == 0).all()
    everything = smoothed_cross_entropy(logits, labels, 0.1, torch.ones(6, 5, dtype=torch.bool))
    torch.testing.assert_close(everything, smoothed_cross_entropy(logits, labels, 0.1, None))


def test_a_window_is_not_told_apart_from_its_own_reversed_and_mirrored_twins(tmp_path: Path) -> None:
    config = replace(
        SMALL, epochs=1, classifier="cosine", augmentation=Augmentation(reversed_share=0.5, mirrored_share=0.5)
    )
    rows: list[Row] = []
    for name, actions in (("one", ACTIONS[:1]), ("two", ACTIONS[:2])):
        data = performed(6 // len(actions), actions)
        train(data, config, tmp_path / name, guidance=random_texts(len(actions)), on_epoch=rows.append)
    assert rows[0]["loss_skeleton"] == rows[0]["loss_cross"] == 0  # of one class alone there is nothing to tell apart
    assert rows[1]["loss_skeleton"] > 0.5


def test_a_gradient_is_clipped_to_its_largest_norm(tmp_path: Path) -> None:
    config = replace(SMALL, epochs=1, lr=0.1, weight_decay=0.0, guidance=UNGUIDED)
    for name, grad_clip in (("clipped", 1e-6), ("free", 0.0)):
        trained = train(performed(), replace(config, grad_clip=grad_clip), tmp_path / name)
        torch.manual_seed(config.seed)
        fresh = config.make_branch(len(ACTIONS))
        moved = max((a - b).abs().max() for a, b in zip(trained.parameters(), fresh.parameters(), strict=True))
        assert (moved < 1e-6) == bool(grad_clip)


def test_a_run_that_stopped_goes_on_with_the_same_curve(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop_after_the_first(row: Row) -> None:
        raise Stopped

    def run(name: str, **hooks: Any) -> None:
        train(performed(), SMALL, tmp_path / name, guidance=random_texts(), **hooks)

    run("whole")
    with pytest.raises(Stopped):
        run("stopped", on_epoch=stop_after_the_first)
    assert len(curve(tmp_path / "stopped")) == 1
    (tmp_path / "stopped" / CURVE).write_text("damaged")  # it is made anew from the checkpoint
    run("stopped")
    assert len(curve(tmp_path / "whole")) == SMALL.epochs
    assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")
    assert (tmp_path / "stopped" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    assert events(tmp_path / "stopped") == events(tmp_path / "whole")
    assert [step for tag, step, _ in events(tmp_path / "whole") if tag == "loss_cross"] == [0, 1]


def curve(run: Path) -> list[dict[str, str]]:
    with (run / CURVE).open(newline="") as file:
        return [{name: row[name] for name in COLUMNS if name != "seconds"} for row in csv.DictReader(file)]


def events(run: Path) -> list[tuple[str, int, float]]:
    """Return tag, step and value of all scalars in a run's TensorBoard files, without the seconds."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in (run / EVENTS).iterdir():
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)  # length, its checksum, the event, its checksum
            event = Event.FromString(content[at + 12 : at + 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            at += length + 16
    return [scalar for scalar in found if scalar[0] != "seconds"]


class _Malicious:
    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("damage", ["half", "empty", "foreign", "of another model", "code"])
def test_a_checkpoint_that_is_no_checkpoint_of_this_run_is_refused(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = replace(SMALL, epochs=1, guidance=UNGUIDED)
    train(performed(), config, tmp_path / "run")
    path = tmp_path / "run" / CHECKPOINT
    if damage == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        torch.save({"model": torch.zeros(3)}, path)
    elif damage == "of another model":
        train(performed(), replace(config, width=32), tmp_path / "wide")
        (tmp_path / "wide" / CHECKPOINT).replace(path)
    else:
        path.write_bytes(pickle.dumps(_Malicious(), protocol=2))
    with pytest.raises(ConfigError, match="no checkpoint of this run") as refused:
        train(performed(), config, tmp_path / "run")
    assert str(path) in refused.value.message
    assert not (tmp_path / "ran").exists()


def test_a_run_of_another_configuration_or_other_texts_is_not_gone_on_with(tmp_path: Path) -> None:
    config = replace(SMALL, epochs=1)
    train(performed(), config, tmp_path, guidance=random_texts())
    with pytest.raises(ConfigError, match=r"with another config\.lr$"):
        train(performed(), replace(config, lr=0.1), tmp_path, guidance=random_texts())
    texts = random_texts()
    with pytest.raises(ConfigError, match="another texts_sha256"):
        train(performed(), config, tmp_path, guidance=replace(texts, texts_AVC=texts.texts_AVC + 1))


def test_an_unfinished_or_damaged_run_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a finished training run"):
        load_run(tmp_path)
    train(performed(), replace(SMALL, epochs=1, guidance=UNGUIDED), tmp_path)
    weights, run = (tmp_path / WEIGHTS).read_bytes(), json.loads((tmp_path / RUN).read_text())
    (tmp_path / WEIGHTS).write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ConfigError, match="does not fit"):
        load_run(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(weights)
    (tmp_path / RUN).write_text(json.dumps(run | {"classes": ["one"]}))
    with pytest.raises(ConfigError, match="does not fit"):
        load_run(tmp_path)
    (tmp_path / RUN).write_text('{"config": ')
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        load_run(tmp_path)


def test_a_training_that_diverges_stops_and_keeps_no_checkpoint_of_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="diverged") as stopped:
        train(performed(), replace(SMALL, lr=1e30, warmup_share=0.0, guidance=UNGUIDED), tmp_path)
    assert "grad_clip" in stopped.value.hint
    assert not (tmp_path / CHECKPOINT).exists()


def test_guided_training_without_texts_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for texts in (None, random_texts(2)):
        with pytest.raises(ConfigError, match=f"texts of its {len(ACTIONS)} classes"):
            train(performed(), SMALL, tmp_path / "run", guidance=texts)
    assert not (tmp_path / "run").exists()


def test_one_clip_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 clips in batches of 11"):
        train(performed(1, ("wave",)), TINY, tmp_path)


def test_batches_are_the_same_for_the_same_seed_and_epoch_and_others_otherwise() -> None:
    data = performed()
    first, again, other = (next(iter(batches(data, TINY, epoch)))[0] for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (11, 1, 8, 25, 3)
    assert first.isfinite().all()


def test_a_view_without_any_change_is_the_window_that_the_device_sees() -> None:
    data = performed()
    views, _ = augmented_windows(data.clips, 32, NO_CHANGE, np.random.default_rng(0))
    for view, (movement,) in zip(views, data.clips, strict=True):
        np.testing.assert_allclose(view[0], window_from_movement(movement, 32), atol=1e-6)


def test_a_view_turns_scales_and_crops_but_stays_near_its_clip() -> None:
    clips, rng = performed().clips, np.random.default_rng(0)
    plain, _ = augmented_windows(clips, 32, NO_CHANGE, rng)
    turned, _ = augmented_windows(clips, 32, replace(NO_CHANGE, max_turn_rad=0.3), rng)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(plain, axis=-1), atol=1e-5)
    assert 0.02 < np.abs(turned - plain).mean() < 0.3
    cropped, _ = augmented_windows(clips, 32, replace(NO_CHANGE, min_crop=0.5), rng)
    assert np.abs(cropped - plain).mean() > 0.02
    dropped, _ = augmented_windows(clips, 32, replace(NO_CHANGE, joint_drop=0.2), rng)
    in_parents_place = (dropped == dropped[..., KINECT25_PARENTS, :]).all(axis=(2, 4)).mean()
    assert 0.15 < in_parents_place < 0.3
    assert np.isfinite(dropped).all()


def test_a_twin_runs_backwards_and_has_left_and_right_exchanged() -> None:
    windows, _ = augmented_windows(performed().clips, 16, NO_CHANGE, np.random.default_rng(0))
    for changes, twin in (("reversed_share",), 1), (("mirrored_share",), 2), (("reversed_share", "mirrored_share"), 3):
        shares: dict[str, Any] = dict.fromkeys(changes, 1.0)
        augmentation = replace(NO_CHANGE, **shares)
        twins, numbers = with_twins(windows, augmentation, np.random.default_rng(0))
        assert set(numbers) == {twin}
        expected = windows[:, :, ::-1] if "reversed_share" in changes else windows
        left, right = KINECT25_JOINTS.index("HandLeft"), KINECT25_JOINTS.index("HandRight")
        side, flip = (right, [-1, 1, 1]) if "mirrored_share" in changes else (left, [1, 1, 1])
        np.testing.assert_array_equal(twins[:, :, :, left], expected[:, :, :, side] * np.array(flip, np.float32))
    same, numbers = with_twins(windows, NO_CHANGE, np.random.default_rng(0))
    np.testing.assert_array_equal(same, windows)
    assert set(numbers) == {0}


def test_a_second_person_keeps_its_place_beside_the_first_and_a_missing_one_is_zero() -> None:
    (first,) = performed().clips[0]
    joints_LV3 = first.joints_m
    beside = replace(first, joints_m=joints_LV3 + np.array([0.8, 0, 0.3], np.float32))
    data = replace(
        performed(),
        clips=((first, beside), (first,)),
        labels=np.zeros(2, np.int64),
    )
    config = replace(TINY, num_persons=2, batch=2, augmentation=NO_CHANGE)
    (batch,) = batches(data, config, 0)
    assert batch.x_NMTVC.shape == (2, 2, 8, 25, 3)
    both, alone = sorted(batch.x_NMTVC, key=lambda x_MTVC: -float(x_MTVC[1].abs().sum()))
    torch.testing.assert_close(both[0], alone[0])
    assert (alone[1] == 0).all()
    away = both[1] - both[0]
    torch.testing.assert_close(away, away[:1, :1].expand_as(away), atol=1e-3, rtol=0)
    size = np.ptp(both[0].numpy(), axis=(0, 1)).max() / np.ptp(joints_LV3, axis=(0, 1)).max()
    assert float(away[0, 0].norm()) == pytest.approx(size * np.hypot(0.8, 0.3), rel=0.15)


def test_two_persons_are_trained_together(tmp_path: Path) -> None:
    data = performed()
    data = replace(data, clips=tuple((x, *(() if i % 2 else (x,))) for i, (x,) in enumerate(data.clips)))
    rows: list[Row] = []
    config = replace(SMALL, num_persons=2, epochs=1, classifier="cosine")
    train(data, config, tmp_path, guidance=random_texts(), on_epoch=rows.append)
    assert all(
        np.isfinite(rows[0][name]) and rows[0][name] > 0
        for name in LOSSES
        if name not in ("loss_contrast", "loss_teacher")
    )
    branch, _ = load_run(tmp_path)
    with torch.inference_mode():
        assert branch.features(torch.randn(3, 2, 16, 25, 3))[0].shape[0] == 6


def test_a_student_learns_its_teachers_embedding_of_undistorted_windows(tmp_path: Path) -> None:
    teacher = open_encoder()
    config = replace(
        SMALL, num_frames=32, epochs=6, classifier="cosine", guidance=UNGUIDED, lr=0.02, augmentation=NOISY
    )
    rows: list[Row] = []
    train(performed(), config, tmp_path, teachers=[teacher], on_epoch=rows.append)
    assert rows[-1]["loss_teacher"] < 0.85 * rows[0]["loss_teacher"]
    assert rows[0]["loss"] == pytest.approx(rows[0]["loss_skeleton"] + 10 * rows[0]["loss_teacher"], rel=1e-5)
    assert not any("imitate" in name for name in load_file(tmp_path / WEIGHTS))
    _, run = load_run(tmp_path)
    assert run["teacher_sha256"] == teacher.info.onnx_sha256
    with pytest.raises(ConfigError, match="another teacher_sha256"):
        train(performed(), config, tmp_path)


def test_two_teachers_are_imitated_side_by_side_at_each_place(tmp_path: Path) -> None:
    teacher = open_encoder()
    config = replace(SMALL, num_frames=32, epochs=1, classifier="cosine", guidance=UNGUIDED, lr=0.0)
    with join_ranks() as ranks:
        training = _Training(performed(), config, None, [teacher, teacher], ranks)
    batch = next(batches(performed(), config, 0))
    both_NE = training.taught(batch.undistorted_NMTVC)
    one_NE = teacher.encode(batch.undistorted_NMTVC[:, 0].numpy())[:, : teacher.info.num_learned]
    one_NPC = torch.from_numpy(one_NE).unflatten(1, (100, -1))
    assert both_NE is not None
    torch.testing.assert_close(both_NE.unflatten(1, (100, -1)), torch.cat((one_NPC, one_NPC), dim=2))
    assert training.learner.imitate is not None
    assert training.learner.imitate.out_features == 2 * one_NPC.shape[2]


def test_the_teacher_sees_the_same_crop_and_the_same_twin_without_noise() -> None:
    noisy = replace(NOISY, reversed_share=0.5, mirrored_share=0.5)
    config = replace(SMALL, batch=len(performed()), classifier="cosine", augmentation=noisy)
    (batch,) = batches(performed(), config, 0)
    (quiet,) = batches(performed(), replace(config, augmentation=QUIET), 0)
    torch.testing.assert_close(batch.undistorted_NMTVC, quiet.x_NMTVC)
    assert float((batch.x_NMTVC - batch.undistorted_NMTVC).abs().mean()) > 0.02


def test_a_teacher_that_does_not_fit_is_refused(tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match="'num_frames': 16"):
        train(performed(), replace(SMALL, guidance=UNGUIDED), tmp_path, teachers=[open_encoder()])
    with pytest.raises(ConfigError, match="'embedding': 'projection'"):
        train(performed(), replace(SMALL, guidance=UNGUIDED), tmp_path, teachers=[open_encoder(tiny_bundle)])
    assert not any(tmp_path.iterdir())


def test_balanced_sampling_draws_rare_classes_as_often_as_frequent_ones() -> None:
    labels = np.array([0] * 900 + [1] * 100)
    order = sampling_order(labels, 1.0, np.random.default_rng(0))
    assert 0.45 < (labels[order] == 1).mean() < 0.55
    assert sorted(sampling_order(labels, 0.0, np.random.default_rng(0))) == list(range(1000))


def test_the_learning_rate_warms_up_and_falls_tenfold_at_the_authors_epochs() -> None:
    rates = [learning_rate(TrainConfig(warmup="batch"), epoch) for epoch in (0, 2.5, 5, 89, 90, 100)]
    assert rates == pytest.approx([0.0, 0.025, 0.05, 0.05, 0.005, 0.0005])


def test_the_learning_rate_falls_as_a_cosine_to_zero() -> None:
    config = TrainConfig(schedule="cosine", warmup="batch", epochs=110, lr=1.0)
    rates = [learning_rate(config, epoch) for epoch in (0, 2.5, 5, 57.5, 110)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0])


def test_the_paper_preset_is_the_papers() -> None:
    paper = TrainConfig.preset("paper")
    assert (paper.num_frames, paper.epochs, paper.batch, paper.lr, paper.width) == (64, 110, 128, 0.05, 64)
    assert (paper.guidance.num_pre, paper.guidance.alpha_calibrate, paper.guidance.alpha_cross) == (5, 0.5, 0.2)
    assert paper.classifier == "latent"


def test_what_the_paper_preset_still_does_otherwise_is_told_and_documented() -> None:
    docs = " ".join((Path(__file__).parents[1] / "docs" / "train.md").read_text().split())
    own = replace(TrainConfig.preset("paper"), text_encoder=ENCODER)
    assert deviations(own) == [*ALWAYS, OTHER_TEXT_ENCODER]
    assert all(" ".join(told.split()) in docs for told in (*ALWAYS, OTHER_TEXT_ENCODER))
    assert "width is 48: the paper has 64." in deviations(replace(own, width=48))


def test_a_run_of_before_keeps_what_it_did_and_could_not_name() -> None:
    before = stored_config({"width": 48, "label_smoothing": 0.2, "augmentation": {"min_crop": 0.7}})
    config = msgspec.convert(before, TrainConfig)
    assert (config.windows, config.initial_weights, config.bone_tree, config.noise_ratio) == (
        "device", "torch", "kinect25", 0.1,
    )  # fmt: skip
    assert (config.warmup, config.drop_last, config.cross_smoothing) == ("batch", False, 0.2)
    assert (config.augmentation.min_crop, config.augmentation.min_crop_frames) == (0.7, 0)
    now = dataclasses.asdict(TrainConfig())
    assert stored_config(now) == now


def test_the_warm_up_of_the_authors_is_a_step_an_epoch() -> None:
    rates = [learning_rate(TrainConfig(), epoch) for epoch in (0, 0.9, 1, 4, 4.9, 5)]
    assert rates == pytest.approx([0.01, 0.01, 0.02, 0.05, 0.05, 0.05])


def test_a_batch_that_is_not_whole_is_left_out_unless_it_is_the_only_one() -> None:
    config = replace(TINY, batch=7, drop_last=True)
    data = performed()
    sizes = [len(batch.labels_N) for batch in batches(data, config, 0)]
    assert sizes == [7] * (len(data) // 7)
    assert [len(batch.labels_N) for batch in batches(data, replace(config, batch=100), 0)] == [len(data)]


# The windows of InfoGCN's authors


def test_the_authors_windows_turn_the_first_frame_upright_and_keep_the_second_person_beside_the_first() -> None:
    first, second = fill_missing(perform("wave", seed=0)), fill_missing(perform("squat", seed=1))
    beside = second.joints_m + np.array([1.5, 0, 0], np.float32)
    shortest = slice(0, min(len(first), len(second)))
    both = first.part(shortest), replace(second, joints_m=beside).part(shortest)
    (window,) = authors_windows([both], 64, 2, rng=np.random.default_rng(0), min_crop=1)
    spine = {name: KINECT25_JOINTS.index(name) for name in ("SpineBase", "SpineMid", "HipLeft", "HipRight")}
    up = window[0, 0, spine["SpineMid"]] - window[0, 0, spine["SpineBase"]]
    across = window[0, 0, spine["HipLeft"]] - window[0, 0, spine["HipRight"]]
    np.testing.assert_allclose(up[:2], 0, atol=0.02)
    assert up[2] > 0.1
    assert across[0] > 0.1
    np.testing.assert_allclose(across[1], 0, atol=0.02)
    np.testing.assert_allclose(window[0, 0, spine["SpineMid"]], 0, atol=0.02)
    assert np.linalg.norm(window[1, 0, spine["SpineMid"]]) > 1


@pytest.mark.parametrize("second", ["zeros", "first"])
def test_a_missing_second_person_is_nobody_or_the_first_again(second: Literal["zeros", "first"]) -> None:
    (window,) = authors_windows([(fill_missing(perform("wave", seed=0)),)], 64, 2, second=second)
    np.testing.assert_array_equal(window[1], window[0] if second == "first" else np.zeros_like(window[0]))


def test_the_authors_crop_keeps_64_frames_or_all_and_the_middle_in_a_test() -> None:
    length, joint = 200, KINECT25_JOINTS.index("HandLeft")
    joints = np.zeros((length, 25, 3), np.float32)
    joints[:, joint, 0] = np.arange(length)
    clip = (Movement(timestamps_s=np.arange(length) / 30.0, joints_m=joints),)
    (middle,) = authors_windows([clip], 64, 1)
    assert middle[0, 0, joint, 0] == pytest.approx(5 + 0.5 * 190 / 64 - 0.5)  # 5 of 200 are cut at either end
    spans = []
    for seed in range(40):
        (window,) = authors_windows([clip], 64, 1, rng=np.random.default_rng(seed), min_crop=0.1)
        spans.append((window[0, -1, joint, 0] - window[0, 0, joint, 0]) * 64 / 63)
    assert 63.5 < min(spans) < 80
    assert max(spans) > 150
    short = (clip[0].part(slice(0, 40)),)
    (window,) = authors_windows([short], 64, 1, rng=np.random.default_rng(0), min_crop=0.1)
    expected = torch.nn.functional.interpolate(torch.arange(40.0)[None, None], 64, mode="linear")[0, 0]
    np.testing.assert_allclose(window[0, :, joint, 0], expected, atol=1e-4)


def test_fresh_weights_are_drawn_as_the_authors_draw_them() -> None:
    torch.manual_seed(0)
    blocks = InfoGCN(InfoGCNConfig(num_classes=60, num_persons=2)).blocks
    state = blocks.state_dict()
    of = {
        "0.agcn.to_qk.weight": 1.0,
        "0.agcn.conv_d.0.weight": (2 / (64 * 64 * 3)) ** 0.5,  # 0.0127
        "3.agcn.down.0.weight": 0.125,
        "3.residual.0.weight": 0.125,
        "0.tcn.branches.0.0.weight": 64**-0.5 / 3**0.5,  # torch's default
    }
    for name, std in of.items():
        assert float(state[name].std()) == pytest.approx(std, rel=0.05), name
    assert not state["3.residual.0.bias"].any()
    torch.manual_seed(0)
    even = InfoGCN(InfoGCNConfig(num_classes=60, num_persons=2, initial_weights="torch")).blocks.state_dict()
    assert float(even["0.agcn.to_qk.weight"].std()) == pytest.approx(0.072, rel=0.05)


def test_the_tip_of_a_hand_hangs_on_its_thumb_in_the_authors_tree_alone() -> None:
    tip, thumb, hand = (KINECT25_JOINTS.index(name) for name in ("HandTipLeft", "ThumbLeft", "HandLeft"))
    authors, own = (
        InfoGCN(InfoGCNConfig(num_classes=2, bone_tree=tree)).input_map_VV for tree in ("authors", "kinect25")
    )
    assert (authors[tip, thumb], authors[thumb, hand], own[tip, hand]) == (-1, -1, -1)
    assert sorted(set(np.argwhere((authors != own).numpy())[:, 0])) == [tip, KINECT25_JOINTS.index("HandTipRight")]


def test_the_paper_preset_trains_two_persons_on_the_authors_windows(tmp_path: Path) -> None:
    config = replace(
        TrainConfig.preset("paper"), width=16, epochs=1, batch=6, num_frames=16, guidance=SMALL.guidance, lr=1e-3
    )
    rows: list[Row] = []
    train(performed(), config, tmp_path, guidance=random_texts(), on_epoch=rows.append)
    assert np.isfinite(rows[0]["loss"])
    branch, about = load_run(tmp_path)
    assert branch.encoder.config.num_persons == 2
    assert about["config"]["windows"] == "authors"


def test_more_augmentation_than_the_authors_have_is_refused_for_their_windows() -> None:
    with pytest.raises(ValueError, match="cropped and turned only"):
        replace(TrainConfig(), augmentation=Augmentation(joint_noise=0.01))


@pytest.mark.skipif(not DATA.exists(), reason="the recordings are not there")
def test_base_actions_alone_are_kept_and_two_persons_are_two_clips() -> None:
    data = load_training_set([DATA / "sbu.npz"], actions=["approaching", "hugging"])
    assert data.classes == ("approaching", "hugging")
    assert len(data) % 2 == 0
    with pytest.raises(ArchiveError, match="no clip of the wanted actions"):
        load_training_set([DATA / "sbu.npz"], actions=["no such action"])


@pytest.mark.skipif(not DATA.exists(), reason="the recordings are not there")
def test_two_persons_can_be_one_clip() -> None:
    paths = [DATA / "sbu.npz", DATA / "kard.npz"]
    apart, together = (load_training_set(paths, num_persons=number) for number in (1, 2))
    people = [len(clip) for clip in together.clips]
    assert sum(people) == len(apart)
    assert max(people) == 2
    assert apart.classes == together.classes
