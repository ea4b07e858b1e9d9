"""MotionBERT is what its authors describe, and reads their weights; needs the extra `train`.

Shapes: N windows, M persons, T frames, J joints of the encoder, C channels, D embedding.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from torch import Tensor, nn

from edge.motion import fill_missing, window_from_movement
from streams.errors import ConfigError
from streams.layouts import KINECT25_JOINTS
from streams.performer import perform
from training.data import authors_windows
from training.model.motionbert import Attention, DSTBlock, MotionBERT, MotionBERTConfig
from training.model.pretrained import load_pretrained

FULL = MotionBERTConfig(num_classes=60)
LITE = replace(FULL, dim=256, mlp_ratio=4)
SMALL = MotionBERTConfig(num_classes=3, dim=32, depth=2, num_heads=4, dim_features=16, hidden=24)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(config: MotionBERTConfig) -> MotionBERT:
    """Return an encoder of shapes alone: drawing 60 million weights takes seconds."""
    with torch.device("meta"):
        return MotionBERT(config)


def small(config: MotionBERTConfig = SMALL) -> MotionBERT:
    torch.manual_seed(0)
    model = MotionBERT(config).eval()
    for parameter in model.backbone.parameters():
        # Fresh weights are so small that all joints come out nearly alike.
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return model


def windows(num: int = 2, num_persons: int = 1, num_frames: int = 12) -> Tensor:
    x_NMTVC: Tensor = torch.randn(num, num_persons, num_frames, 25, 3, generator=torch.Generator().manual_seed(0))
    return x_NMTVC


def test_motionbert_has_the_authors_parameters_to_the_digit() -> None:
    model = on_meta(FULL)
    backbone = model.backbone
    assert parameters(backbone) == 42_466_317
    assert parameters(model) == 60_294_157
    assert parameters(model.head) == 17_827_840
    parts = {
        "joints_embed": 2_048, "blocks_st": 21_027_840, "blocks_ts": 21_027_840, "norm": 1_024,
        "pre_logits": 262_656, "head": 1_539, "ts_attn": 10_250,
    }  # fmt: skip
    assert {name: parameters(backbone.get_submodule(name)) for name in parts} == parts
    assert parameters(backbone.blocks_st[0]) == 4_205_568
    assert backbone.pos_embed.shape == (1, 17, 512)
    assert backbone.temp_embed.shape == (1, 243, 1, 512)


def test_lite_has_the_authors_parameters_to_the_digit() -> None:
    assert parameters(on_meta(LITE).backbone) == 16_001_549
    assert parameters(on_meta(LITE)) == 33_829_389


@pytest.mark.parametrize(
    ("num_classes", "h36m", "kinect25"), [(60, 60_421_193, 68_813_897), (120, 60_544_133, 68_936_837)]
)
def test_the_class_head_has_the_authors_parameters(num_classes: int, h36m: int, kinect25: int) -> None:
    config = replace(FULL, head="class", num_classes=num_classes)
    assert parameters(on_meta(config)) == h36m
    assert parameters(on_meta(replace(config, layout="kinect25"))) == kinect25


def test_all_25_joints_can_be_taken() -> None:
    assert parameters(on_meta(replace(FULL, layout="kinect25"))) == 68_686_861


def test_fresh_weights_are_spread_as_the_authors_draw_them() -> None:
    torch.manual_seed(0)
    backbone = MotionBERT(replace(SMALL, dim=128)).backbone
    for name in ("joints_embed.weight", "blocks_st.1.attn_s.qkv.weight", "temp_embed"):
        assert backbone.get_parameter(name).std().item() == pytest.approx(0.02, rel=0.1)
    for name, value in (("blocks_ts.0.mlp_t.fc1.bias", 0.0), ("ts_attn.0.weight", 0.0), ("ts_attn.0.bias", 0.5)):
        assert set(backbone.get_parameter(name).flatten().tolist()) == {value}
    assert backbone.norm.eps == 1e-6


def test_each_joint_of_human36m_has_a_kinect_joint_of_its_own() -> None:
    model = small()
    assert len(set(model.joints)) == 17
    named = [KINECT25_JOINTS[joint] for joint in model.joints]
    assert named[0] == "SpineBase"
    assert named[1:4] == ["HipRight", "KneeRight", "AnkleRight"]
    assert named[7:11] == ["SpineMid", "SpineShoulder", "Neck", "Head"]
    assert named[14:] == ["ShoulderRight", "ElbowRight", "WristRight"]
    assert small(replace(SMALL, layout="kinect25")).joints == tuple(range(25))


def test_a_window_is_seen_as_in_an_image_in_a_square_twice_its_size() -> None:
    model, x_NMTVC = small(), windows()
    seen = model.see(x_NMTVC)
    assert seen.shape == (2, 1, 12, 17, 3)
    assert (seen[..., 2] == 1).all()
    # In "LUF" x grows to the sensor's left and y up; in an image to the right and down.
    left, right = x_NMTVC[0, 0, 0, 4, :2], x_NMTVC[0, 0, 0, 8, :2]  # the shoulders
    between = seen[0, 0, 0, 11, :2] - seen[0, 0, 0, 14, :2]
    torch.testing.assert_close(between / between.norm(), (right - left) / (right - left).norm())
    extent = (seen[..., :2].amax(dim=(1, 2, 3)) - seen[..., :2].amin(dim=(1, 2, 3))).amax(dim=1)
    torch.testing.assert_close(extent, torch.ones(2))
    torch.testing.assert_close(model.see(3 * x_NMTVC + 1), seen, atol=1e-5, rtol=1e-5)


def test_the_authors_windows_are_seen_from_the_front_as_the_devices_are() -> None:
    movement = fill_missing(perform("wave", seed=0))
    views = (
        (SMALL, window_from_movement(movement, 12)),
        (replace(SMALL, up="z"), authors_windows([(movement,)], 12, 1)[0, 0]),
    )
    for config, window_TVC in views:
        seen = small(config).see(torch.from_numpy(window_TVC)[None, None])[0, 0].mean(dim=0)
        # As in an image: the head (10) above the ankles (3, 6), the left shoulder (11) to the right of the right one.
        assert seen[10, 1] < seen[8, 1] < seen[0, 1] < seen[[3, 6], 1].min()
        assert seen[11, 0] - seen[14, 0] > 0.1
        assert seen[4, 0] > seen[1, 0]


def test_both_persons_are_seen_in_one_square_and_a_missing_one_is_all_zero() -> None:
    model, x_NMTVC = small(), windows(2, 2)
    x_NMTVC[1, 1] = 0
    seen = model.see(x_NMTVC)
    assert (seen[1, 1] == 0).all()
    torch.testing.assert_close(seen[1:, :1], model.see(x_NMTVC[1:, :1]))
    assert not torch.allclose(seen[:1, :1], model.see(x_NMTVC[:1, :1]), atol=1e-3)
    assert (model.see(torch.zeros(1, 2, 12, 25, 3)) == 0).all()


def test_windows_are_moved_and_scaled_at_random_in_training_alone() -> None:
    model, x_NMTVC = small(), windows()
    assert torch.equal(model.see(x_NMTVC), model.see(x_NMTVC))
    model.train()
    first, second = model.see(x_NMTVC), model.see(x_NMTVC)
    assert (first - second).abs().max() > 0.01
    assert (first[..., :2].abs() <= 1).all()
    still = small(replace(SMALL, random_move=False, scale_range=(2.0, 2.0)))
    torch.testing.assert_close(still.train().see(x_NMTVC), still.eval().see(x_NMTVC))


@pytest.mark.parametrize("num_frames", [4, 32, 100, 243])
def test_windows_of_any_length_are_encoded(num_frames: int) -> None:
    model = small()
    features_BCTV = model.features(windows(num_frames=num_frames))
    assert features_BCTV.shape == (2, 16, num_frames, 17)
    assert (features_BCTV.abs() <= 1).all()
    assert (model.num_blocks, model.num_features) == (2, 16)
    assert [model.channels_after(number) for number in (1, 2)] == [32, 16]


def test_a_window_longer_than_the_learned_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="windows have 244 frames: expected at most 243"):
        small().features(windows(num_frames=244))


def test_the_heads_give_an_embedding_of_length_1_or_logits() -> None:
    x_NMTVC = windows(3, 2)
    embedding_ND = small()(x_NMTVC)
    assert embedding_ND.shape == (3, 24)
    torch.testing.assert_close(embedding_ND.norm(dim=1), torch.ones(3))
    assert small(replace(SMALL, head="class"))(x_NMTVC).shape == (3, 3)


def test_attention_equals_the_plain_way_head_by_head() -> None:
    torch.manual_seed(0)
    layer, x = Attention(8, 2), torch.randn(2, 3, 5, 8)
    q, k, v = layer.qkv(x).chunk(3, dim=-1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        shares = (q[..., part] @ k[..., part].transpose(-1, -2) / 2).softmax(dim=-1)
        heads.append(shares @ v[..., part])
    torch.testing.assert_close(layer(x), layer.proj(torch.cat(heads, dim=-1)))
    attention = layer.attention(x)
    assert attention.shape == (2, 3, 2, 5, 5)
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(2, 3, 2, 5))


def test_joints_meet_in_one_half_of_a_block_and_frames_in_the_other() -> None:
    block = small().backbone.blocks_st[0]
    assert isinstance(block, DSTBlock)
    x = torch.randn(1, 6, 17, 32)
    changed = x.clone()
    changed[0, 2, 5] = torch.randn(32)
    over_joints = (block._over_joints(changed, None) - block._over_joints(x, None)).abs().amax(dim=(0, 3))
    assert (over_joints[2] > 1e-6).all()
    assert over_joints[[0, 1, 3, 4, 5]].max() == 0
    over_time = (block._over_time(changed) - block._over_time(x)).abs().amax(dim=(0, 3))
    assert (over_time[:, 5] > 1e-6).all()
    assert over_time[:, :5].max() == 0


def test_importance_is_not_undone_by_layer_normalization() -> None:
    model = small(replace(SMALL, relative_importance=False))
    x, even_BV = torch.randn(2, 32, 6, 17), torch.full((2, 17), 1 / 17)
    assert torch.equal(model.run_block(0, x, None), model.run_block(0, x, torch.ones(2, 17)))
    outs = [model.run_block(1, x, factor * even_BV) for factor in (1, 3)]
    assert (outs[0] - outs[1]).abs().max() > 0.01
    uneven_BV = even_BV.clone()
    uneven_BV[:, 6] = 0.9
    change_V = (model.run_block(0, x, uneven_BV) - model.run_block(0, x, even_BV)).abs().amax(dim=(0, 1, 2))
    assert change_V[6] == change_V.max()
    assert change_V[6] > 0.1


def test_relative_importance_leaves_what_even_weights_would_shrink() -> None:
    model, x = small(), torch.randn(2, 32, 6, 17)
    even_BV = torch.full((2, 17), 1 / 17)
    torch.testing.assert_close(model.run_block(0, x, even_BV), model.run_block(0, x, None))
    uneven_BV = even_BV.clone()
    uneven_BV[:, 6] = 0.9
    change_V = (model.run_block(0, x, uneven_BV) - model.run_block(0, x, None)).abs().amax(dim=(0, 1, 2))
    assert change_V.min() > 0.001
    assert change_V[6] == change_V.max()


def test_attention_is_what_joints_take_of_each_other() -> None:
    model = small()
    attention_BVV = model.attention(1, torch.randn(2, 32, 6, 17))
    assert attention_BVV.shape == (2, 17, 17)
    torch.testing.assert_close(attention_BVV.sum(dim=2), torch.ones(2, 17))


def test_the_gradient_of_the_loss_reaches_the_importance_and_every_weight_but_the_pose_heads() -> None:
    model = small().train()
    importance_BV = torch.full((2, 17), 1 / 17, requires_grad=True)
    x = model.run_block(0, model.embed_joints(windows()), None)
    joints_NJC = model.run_block(1, x, importance_BV).mean(dim=2).transpose(1, 2)
    model.classify(joints_NJC.flatten(1))[0][:, :5].sum().backward()
    assert importance_BV.grad is not None
    assert importance_BV.grad.abs().min() > 0
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {"backbone.head.weight", "backbone.head.bias"}


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"layout": "coco"}, "layout is 'coco': expected h36m or kinect25"),
        ({"head": "logits"}, "head is 'logits': expected embed or class"),
        ({"dim": 30, "num_heads": 4}, "dim 30 is not a multiple of num_heads 4"),
        ({"depth": 0}, "depth is 0: expected 1 or more"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"scale_range": (3.0, 1.0)}, "scale_range is"),
    ],
)
def test_a_choice_that_there_is_not_is_refused(wrong: dict[str, object], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        MotionBERTConfig(num_classes=3, **wrong)  # type: ignore[arg-type]


# The authors' weights


def as_published(model: MotionBERT) -> dict[str, Tensor]:
    return {f"module.{name}": weight for name, weight in model.backbone.state_dict().items()}


def test_the_names_of_weights_are_the_authors() -> None:
    names = set(MotionBERT(replace(SMALL, depth=1)).backbone.state_dict())
    block = [
        *(f"norm{number}_{over}" for number in (1, 2) for over in "st"),
        *(f"attn_{over}.{part}" for over in "st" for part in ("qkv", "proj")),
        *(f"mlp_{over}.{part}" for over in "st" for part in ("fc1", "fc2")),
    ]
    layers = ["joints_embed", "norm", "pre_logits.fc", "head", "ts_attn.0"]
    layers += [f"{stack}.0.{layer}" for stack in ("blocks_st", "blocks_ts") for layer in block]
    assert names == {"temp_embed", "pos_embed"} | {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


@pytest.mark.parametrize("kind", ["pretraining", "recognition", "weights alone"])
def test_published_weights_are_read(kind: str, tmp_path: Path) -> None:
    theirs, ours, file = small(), MotionBERT(SMALL), tmp_path / "best_epoch.bin"
    content: dict[str, object] = dict(as_published(theirs))
    if kind == "pretraining":
        numbers = {"epoch": 90, "lr": 5e-4, "min_loss": np.float64(38.2), "optimizer": {"state": {}}}
        content = {**numbers, "model_pos": content}
    elif kind == "recognition":
        content = {"epoch": 50, "model": {f"module.{name}": weight for name, weight in theirs.state_dict().items()}}
    torch.save(content, file)
    load_pretrained(ours.backbone, file)
    expected = theirs.backbone.state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in ours.backbone.state_dict().items())


def test_weights_that_do_not_fit_are_refused_by_name_and_none_is_taken(tmp_path: Path) -> None:
    ours, file = small(), tmp_path / "best_epoch.bin"
    before = {name: weight.clone() for name, weight in ours.backbone.state_dict().items()}
    other = as_published(MotionBERT(replace(SMALL, layout="kinect25")))
    other.pop("module.blocks_st.0.norm1_s.weight")
    torch.save({"model_pos": other}, file)
    with pytest.raises(ConfigError) as refused:
        load_pretrained(ours.backbone, file)
    message = refused.value.message
    assert "2 weights do not fit a DSTformer of 32 channels and 17 joints" in message
    assert "blocks_st.0.norm1_s.weight is missing" in message
    assert "pos_embed is [1, 25, 32], expected [1, 17, 32]" in message
    assert all(torch.equal(weight, before[name]) for name, weight in ours.backbone.state_dict().items())


def test_the_weights_of_lite_are_named_as_such(tmp_path: Path) -> None:
    lite = MotionBERT(replace(SMALL, dim=256))
    torch.save({"model_pos": as_published(lite)}, tmp_path / "lite.bin")
    with pytest.raises(ConfigError, match="do not fit") as refused:
        load_pretrained(small().backbone, tmp_path / "lite.bin")
    assert refused.value.hint is not None
    assert "256 channels and 17 joints: try `--encoder motionbert-lite`" in refused.value.hint


@pytest.mark.parametrize(
    "content",
    [b"", b"no weights", b"root:x:0:0:root:/root:/bin/bash\n", b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."],
)
def test_a_file_that_is_no_weights_is_refused_and_runs_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.bin cannot be read as weights"):
        load_pretrained(small().backbone, tmp_path / "a.bin")


def test_a_file_without_weights_or_none_at_all_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.bin")
    with pytest.raises(ConfigError, match=r"a\.bin holds no weights"):
        load_pretrained(small().backbone, tmp_path / "a.bin")
    with pytest.raises(ConfigError, match=r"b\.bin does not exist"):
        load_pretrained(small().backbone, tmp_path / "b.bin")
