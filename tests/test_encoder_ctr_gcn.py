"""CTR-GCN: its authors' parameters and topology, and what CrossGLG asks of an encoder.

Shapes: B windows, C channels, T frames, V = 25 joints.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="encoders need the extra `train`")
from torch import Tensor, nn

from training.model import CTRGCNConfig
from training.model.ctr_gcn import Block


@pytest.mark.parametrize(("num_classes", "expected"), [(60, 1_446_672), (100, 1_456_952), (120, 1_462_092)])
def test_ctr_gcn_has_the_parameters_of_its_authors(num_classes: int, expected: int) -> None:
    encoder = CTRGCNConfig(num_classes=num_classes, num_persons=2).make()
    assert sum(parameter.numel() for parameter in encoder.parameters()) == expected


def test_the_topology_of_ctr_gcn_is_the_skeleton() -> None:
    encoder = CTRGCNConfig(num_classes=4).make().eval()
    block = encoder.blocks[0]
    assert isinstance(block, Block)
    own, inward, outward = block.gcn.shared_topology.detach()
    assert torch.equal(own, torch.eye(25))
    for edges in (inward, outward):
        sums = edges.sum(dim=0)
        assert set(sums.round(decimals=5).tolist()) <= {0.0, 1.0}
    # 24 bones, each once in each direction; the tip of the left hand hangs on its thumb.
    assert ((inward > 0).sum(), (outward > 0).sum()) == (24, 24)
    assert torch.equal((inward > 0), (outward > 0).T)
    assert inward[22, 21] > 0


def test_joined_convolutions_give_what_three_subsets_give() -> None:
    torch.manual_seed(0)
    block = CTRGCNConfig(num_classes=4).make().blocks[4]
    assert isinstance(block, Block)
    layer = block.gcn.eval()
    nn.init.ones_(layer.alpha)
    x_BCTV = torch.randn(2, 64, 6, 25)

    def part(conv: nn.Conv2d, subset: int, x: Tensor) -> Tensor:
        size = conv.out_channels // 3
        rows = slice(subset * size, (subset + 1) * size)
        assert conv.bias is not None
        return nn.functional.conv2d(x, conv.weight[rows], conv.bias[rows])

    mixed = torch.zeros(2, 128, 6, 25)
    for subset in range(3):
        query, key = (part(conv, subset, x_BCTV).mean(dim=2) for conv in (layer.query, layer.key))
        related = (query[..., None] - key[:, :, None]).tanh()
        topology = part(layer.spread, subset, related) + layer.shared_topology[subset]
        mixed += torch.einsum("ncuv,nctv->nctu", topology, part(layer.value, subset, x_BCTV))
    expected = (layer.bn(mixed) + layer.down(x_BCTV)).relu()
    torch.testing.assert_close(layer(x_BCTV), expected, atol=1e-5, rtol=1e-4)


def test_ctr_gcn_is_an_encoder() -> None:
    torch.manual_seed(0)
    config = CTRGCNConfig(num_classes=4, num_persons=2)
    encoder = config.make().eval()
    x = encoder.embed_joints(torch.randn(3, 2, 16, 25, 3))
    assert x.shape == (6, 3, 16, 25)
    for number in range(encoder.num_blocks):
        assert encoder.attention(number, x).shape == (6, 25, 25)
        x = encoder.run_block(number, x, torch.full((6, 25), 0.5))
        assert x.shape[1] == encoder.channels_after(number + 1)
    assert x.shape == (6, encoder.num_features, config.frames_after(16), 25)
    assert encoder.classify(x.mean(dim=(2, 3)))[0].shape == (6, 4)
