"""HD-GCN is what its authors describe; needs the extra `train`.

Shapes: B windows, C channels, T frames, V = 25 joints; L layers of the hierarchy, S subsets, K neighbors.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from torch import Tensor, nn

from training.model.hd_gcn import HDGCN, CenterOfMass, EdgeConv, HDGCNConfig, HierarchyBlock, hierarchy

CENTERS: tuple[CenterOfMass, ...] = (1, 2, 21)
# Entries of each layer that are not zero: the joints' own, outwards, inwards.
ENTRIES = {
    1: [[4, 3, 3], [6, 9, 9], [8, 15, 15], [10, 25, 25], [7, 10, 10], [8, 12, 12]],
    2: [[3, 2, 2], [7, 10, 10], [10, 25, 25], [9, 20, 20], [8, 16, 16], [8, 16, 16]],
    21: [[5, 4, 4], [8, 16, 16], [8, 16, 16], [8, 16, 16], [10, 24, 24], [8, 12, 12]],
}
SMALL = HDGCNConfig(num_classes=3, width=16)


def settled(config: HDGCNConfig = SMALL) -> HDGCN:
    """Return an encoder in which every layer does something: fresh ones begin as good as switched off."""
    torch.manual_seed(0)
    model = HDGCN(config)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.2)
            layer.momentum = 1.0  # its statistics are those of the one batch that it sees
    model.train()
    with torch.no_grad():
        model(torch.randn(16, config.num_persons, 16, 25, 3))
    return model.eval()


def block_of(model: HDGCN, number: int) -> HierarchyBlock:
    block = model.blocks[number]
    assert isinstance(block, HierarchyBlock)
    return block


@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize(
    ("num_classes", "parameters"),
    [(20, 1_649_700), (40, 1_654_840), (60, 1_659_980), (80, 1_665_120), (100, 1_670_260), (120, 1_675_400)],
)
def test_hd_gcn_has_the_authors_parameters_to_the_digit(
    num_classes: int, parameters: int, center: CenterOfMass
) -> None:
    model = HDGCN(HDGCNConfig(num_classes=num_classes, num_persons=2, center_of_mass=center))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_each_layer_has_the_authors_parameters() -> None:
    model = HDGCN(HDGCNConfig(num_classes=120, num_persons=2))
    by_block = [sum(parameter.numel() for parameter in block.parameters()) for block in model.blocks]
    assert by_block == [28_050, *[36_226] * 3, 112_146, *[107_282] * 2, 405_554, *[387_634] * 2]
    assert sum(parameter.numel() for parameter in model.data_bn.parameters()) == 300
    assert sum(parameter.numel() for parameter in model.fc.parameters()) == 30_840


@pytest.mark.parametrize("center", CENTERS)
def test_the_subsets_of_each_layer_have_the_authors_entries(center: CenterOfMass) -> None:
    topology_LSVV = hierarchy(center)
    assert (topology_LSVV != 0).sum(dim=(2, 3)).tolist() == ENTRIES[center]
    sums_LSV = topology_LSVV.sum(dim=2)
    assert torch.equal(sums_LSV, (topology_LSVV != 0).any(dim=2).float())  # each column adds up to 1, or is empty


def test_a_layer_goes_from_the_inner_group_to_the_outer_one_and_back() -> None:
    (_, outwards, inwards), *_ = hierarchy(21)
    # The first layer joins the top of the spine (21) with its middle (2), the neck (3) and both shoulders (5, 9).
    assert sorted(outwards[:, 20].nonzero().flatten().tolist()) == [1, 2, 4, 8]
    assert outwards[1, 20] == 0.25
    assert inwards[20].nonzero().flatten().tolist() == [1, 2, 4, 8]
    assert inwards[20, 1] == 1


def test_fresh_weights_are_spread_as_the_authors_draw_them() -> None:
    torch.manual_seed(0)
    model = HDGCN(HDGCNConfig(num_classes=120))
    spatial, temporal = block_of(model, 9).spatial, block_of(model, 9).temporal
    assert spatial.enter.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.03)
    assert spatial.mix.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.03)
    assert spatial.alike.weight_Gcd.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.03)
    assert temporal.get_parameter("branches.0.3.weight").std().item() == pytest.approx((2 / 320) ** 0.5, rel=0.03)
    assert model.fc.weight.std().item() == pytest.approx((2 / 120) ** 0.5, rel=0.03)
    assert torch.equal(spatial.bn.weight, torch.full((256,), 1e-6))
    norms = torch.cat([block_of(model, n).temporal.get_parameter("branches.0.1.weight") for n in range(10)])
    assert norms.mean().item() == pytest.approx(1, abs=0.01)
    assert norms.std().item() == pytest.approx(0.02, rel=0.15)
    assert torch.equal(spatial.topology_LSVV, hierarchy(21))


def test_all_layers_at_once_equal_the_plain_way_layer_by_layer() -> None:
    conv = block_of(settled(), 4).spatial
    x_BCTV = torch.randn(2, 16, 5, 25)
    attention, mix_bias = conv.attention, conv.mix.bias
    assert attention is not None
    assert mix_bias is not None
    entered = torch.relu(conv.enter_bn(conv.enter(x_BCTV)))
    layers = []
    for layer in range(6):
        own = entered[:, 8 * layer : 8 * layer + 8]
        parts = []
        for subset in range(3):
            number = 3 * layer + subset
            rows = slice(8 * number, 8 * number + 8)
            mixed = own @ conv.topology_LSVV[layer, subset].T
            mixed = nn.functional.conv2d(mixed, conv.mix.weight[rows], mix_bias[rows])
            parts.append(normalized(mixed, conv.mix_bn, rows))
        parts.append(alike(own.mean(dim=2), conv.alike, layer)[:, :, None].expand_as(own))
        layers.append(torch.cat(parts, dim=1))
    most = torch.stack([each.amax(dim=2) for each in layers], dim=2)
    down = attention.enter(most)
    joints = [(hierarchy(21)[layer, 0].diagonal() > 0).nonzero().flatten() for layer in range(6)]
    means_BcL = torch.stack([down[:, :, layer, joints[layer]].mean(dim=2) for layer in range(6)], dim=2)
    shares = attention.back(alike(means_BcL, attention.alike, 0)).sigmoid()
    total = sum(each * shares[:, :, layer, None, None] for layer, each in enumerate(layers))
    expected = torch.relu(conv.bn(total) + conv.down(x_BCTV))
    torch.testing.assert_close(conv(x_BCTV), expected, atol=1e-4, rtol=1e-4)


def normalized(x: Tensor, norm: nn.BatchNorm2d, rows: slice) -> Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return nn.functional.batch_norm(
        x, norm.running_mean[rows], norm.running_var[rows], norm.weight[rows], norm.bias[rows], eps=norm.eps
    )


def alike(x_BcV: Tensor, conv: EdgeConv, group: int) -> Tensor:
    b, c, v = x_BcV.shape
    out: Tensor = torch.zeros(b, c, v)
    rows = slice(c * group, c * group + c)
    for window in range(b):
        for node in range(v):
            own = x_BcV[window, :, node]
            nearest = (x_BcV[window] - own[:, None]).square().sum(dim=0).argsort()[: conv.num_neighbors]
            answers = [conv.weight_Gcd[group] @ torch.cat((x_BcV[window, :, n] - own, own)) for n in nearest]
            stacked = normalized(torch.stack(answers, dim=1)[None, :, None], conv.bn, rows)[0, :, 0]
            out[window, :, node] = nn.functional.leaky_relu(stacked, 0.2).amax(dim=1)
    return out


@pytest.mark.parametrize("num_frames", [16, 32, 64, 20])
def test_windows_of_any_length_are_encoded(num_frames: int) -> None:
    model = settled()
    features_BCTV = model.features(torch.randn(2, 1, num_frames, 25, 3))
    assert features_BCTV.shape == (2, 64, num_frames // 4, 25)
    assert (features_BCTV >= 0).all()
    assert model.config.frames_after(num_frames) == num_frames // 4
    assert [model.channels_after(n) for n in (1, 4, 5, 8, 10)] == [16, 16, 32, 64, 64]


def test_two_persons_are_one_sample() -> None:
    config = HDGCNConfig(num_classes=3, width=16, num_persons=2)
    x_NMTVC = torch.randn(2, 2, 16, 25, 3)
    model = settled(config)
    assert model.features(x_NMTVC).shape == (4, 64, 4, 25)
    assert model(x_NMTVC).shape == (2, 3)
    logits, latent = model.classify(torch.randn(2, 64))
    assert logits.shape == (2, 3)
    assert latent is None


def test_a_bone_is_a_joint_seen_from_the_next_one_towards_the_top_of_the_spine() -> None:
    model = HDGCN(HDGCNConfig(num_classes=3, width=16, stream="bone")).eval()
    x_VC = torch.randn(25, 3)
    bones = model.stream_VV @ x_VC
    torch.testing.assert_close(bones[0], x_VC[0] - x_VC[1])
    torch.testing.assert_close(bones[1], x_VC[1] - x_VC[20])
    torch.testing.assert_close(bones[20], torch.zeros(3))
    torch.testing.assert_close(bones[21], x_VC[21] - x_VC[22])  # a hand's tip is seen from its thumb, as in the source
    torch.testing.assert_close(bones[22], x_VC[22] - x_VC[7])
    torch.testing.assert_close(bones[5], x_VC[5] - x_VC[4])


def test_importance_weighs_the_mixed_features_of_a_block() -> None:
    model = settled()
    x_BCTV, even_BV = torch.randn(2, 16, 8, 25).relu(), torch.full((2, 25), 0.04)
    uneven_BV = even_BV.clone()
    uneven_BV[:, 7] = 0.5
    plain, ones = model.run_block(1, x_BCTV, None), model.run_block(1, x_BCTV, torch.ones(2, 25))
    assert torch.equal(plain, ones)
    change = (model.run_block(1, x_BCTV, uneven_BV) - model.run_block(1, x_BCTV, even_BV)).abs().amax(dim=(0, 1, 2))
    assert change[7] > 0.01
    assert change[:7].max() < 1e-5  # after a block's mixing, the temporal layers leave joints apart


def test_attention_is_what_a_block_takes_of_each_joint() -> None:
    model = settled()
    x_BCTV = model.run_block(0, model.embed_joints(torch.randn(2, 1, 16, 25, 3)))
    attention_BVV = model.attention(1, x_BCTV)
    assert attention_BVV.shape == (2, 25, 25)
    assert attention_BVV.min() >= 0
    # In the first block all layers count alike: three subsets and a fifth for each of five joints, a quarter each.
    total = (hierarchy(21).sum(dim=(1, 3)) + 1).mean(dim=0) / 4
    torch.testing.assert_close(model.attention(0, torch.randn(2, 3, 8, 25)).sum(dim=2), total.expand(2, 25))


def test_the_gradient_of_the_loss_reaches_the_importance_and_every_weight() -> None:
    model = settled().train()
    importance_BV = torch.full((4, 25), 0.04, requires_grad=True)
    x = model.embed_joints(torch.randn(4, 1, 16, 25, 3))
    for number in range(10):
        x = model.run_block(number, x, importance_BV if number >= 5 else None)
    model.classify(x.mean(dim=(2, 3)))[0].square().sum().backward()
    assert importance_BV.grad is not None
    assert importance_BV.grad.abs().min() > 0
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"center_of_mass": 3}, "center_of_mass is 3: expected one of 1, 2, 21"),
        ({"stream": "bones"}, "stream is 'bones'"),
        ({"width": 24}, "width is 24: expected a multiple of 16"),
        ({"strides": (1, 2)}, "strides are"),
    ],
)
def test_a_choice_that_there_is_not_is_refused(wrong: dict[str, object], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        HDGCNConfig(num_classes=3, **wrong)  # type: ignore[arg-type]
