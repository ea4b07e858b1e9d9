"""CTR-GCN, the backbone of GAP: a topology refined for each channel.

Source: Chen et al., "Channel-wise Topology Refinement Graph Convolution for Skeleton-Based Action Recognition", ICCV
2021, with the sizes and initial weights of GAP's copy (MartinXM/GAP). Parameters agree to the digit.

Shapes: N windows, M persons, B = N * M, C channels, T frames, V = 25 joints, S = 3 subsets of the graph, A classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

# Channels out of the ten blocks, and each one's step in time.
_WIDTHS = (64, 64, 64, 64, 128, 128, 128, 256, 256, 256)
_STRIDES = (1, 1, 1, 1, 2, 1, 1, 2, 1, 1)
_KERNEL, _DILATIONS = 5, (1, 2)
# Of the graph: the joint itself, inward, outward.
_SUBSETS = 3
# Each joint with its neighbor towards the body, 1-based as NTU counts: the tip of a hand hangs on its thumb.
_INWARD = (
    (1, 2), (2, 21), (3, 21), (4, 3), (5, 21), (6, 5), (7, 6), (8, 7), (9, 21), (10, 9), (11, 10), (12, 11), (13, 1),
    (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19), (22, 23), (23, 8), (24, 25), (25, 12),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CTRGCNConfig:
    """Name each choice; the others are the authors' alone."""

    num_classes: int
    num_persons: int = 1

    @property
    def num_blocks(self) -> int:
        """After how many blocks JID may come, at most."""
        return len(_WIDTHS)

    @property
    def joints(self) -> tuple[int, ...]:
        """The kinect25 joints that the encoder sees: all."""
        return tuple(range(25))

    def make(self) -> CTRGCN:
        """Return the encoder with fresh weights."""
        return CTRGCN(self)

    def frames_after(self, num_frames: int) -> int:
        """Return how many frames the last block leaves of so many."""
        for stride in _STRIDES:
            num_frames = -(-num_frames // stride)
        return num_frames


class CTRGCN(nn.Module):
    """Classify windows x_NMTVC, float32, shape (N, M, T, V, 3); a SkeletonEncoder."""

    num_blocks = len(_WIDTHS)
    num_features = _WIDTHS[-1]
    joints: tuple[int, ...] = tuple(range(25))
    z_prior: Tensor | None = None
    classifier_layers: tuple[str, ...] = ("fc",)
    averages_joints = True
    embedding_size = 0
    lowest_feature = 0.0
    chooses_neighbors = False

    def __init__(self, config: CTRGCNConfig) -> None:
        super().__init__()
        self.config = config
        self.data_bn = nn.BatchNorm1d(config.num_persons * 25 * 3)
        topology_SVV = _spatial_graph()
        channels = (3, *_WIDTHS)
        self.blocks = nn.ModuleList(
            Block(channels[i], channels[i + 1], _STRIDES[i], topology_SVV, has_residual=i > 0)
            for i in range(self.num_blocks)
        )
        self.fc = nn.Linear(self.num_features, config.num_classes)
        nn.init.normal_(self.fc.weight, 0, (2.0 / config.num_classes) ** 0.5)

    def channels_after(self, num_blocks: int) -> int:
        """Return how many channels come out of the first so many blocks."""
        return _WIDTHS[num_blocks - 1]

    def embed_joints(self, x_NMTVC: Tensor) -> Tensor:
        """Return the joints, normalized for each person, joint and axis, shape (B, 3, T, V)."""
        n, m, t, v, c = x_NMTVC.shape
        with torch.autocast(x_NMTVC.device.type, enabled=False):
            x = self.data_bn(x_NMTVC.permute(0, 1, 3, 4, 2).reshape(n, m * v * c, t))
        embedded: Tensor = x.view(n * m, v, c, t).permute(0, 2, 3, 1)
        return embedded

    def run_block(self, number: int, x_BCTV: Tensor, importance_BV: Tensor | None = None) -> Tensor:
        """Return a block's output; `importance_BV` weighs the spatially mixed features, before the TCN."""
        out: Tensor = self.blocks[number](x_BCTV, importance_BV)
        return out

    def attention(self, number: int, x_BCTV: Tensor) -> Tensor:
        """Return the size of the refined topology, its mean over subsets and channels, (B, V, V)."""
        layer = cast(Block, self.blocks[number]).gcn
        return layer.topology(x_BCTV).abs().mean(dim=(1, 2))

    def classify(self, pooled_NC: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return logits (N, A); there is no latent."""
        return self.fc(pooled_NC), None


class Block(nn.Module):
    """One block: relu(TCN(GCN(x)) + residual(x)), x of shape (B, C, T, V)."""

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, topology_SVV: Tensor, *, has_residual: bool
    ) -> None:
        super().__init__()
        self.gcn = RefinedGC(channels_in, channels_out, topology_SVV)
        self.tcn = MultiScaleTCN(channels_out, stride)
        self.residual: nn.Module | None = nn.Identity() if has_residual else None
        if has_residual and (channels_in != channels_out or stride != 1):
            conv = nn.Conv2d(channels_in, channels_out, 1, stride=(stride, 1))
            self.residual = nn.Sequential(conv, nn.BatchNorm2d(channels_out))
            _start_convolutions([conv])

    def forward(self, x_BCTV: Tensor, importance_BV: Tensor | None = None) -> Tensor:
        """Return the block's output."""
        mixed = self.gcn(x_BCTV)
        if importance_BV is not None:
            mixed = mixed * importance_BV[:, None, None, :].to(mixed.dtype)
        out: Tensor = self.tcn(mixed)
        return (out if self.residual is None else out + self.residual(x_BCTV)).relu()


class RefinedGC(nn.Module):
    """The channel-wise refined graph convolution over three subsets: the joint itself, inward, outward.

    Each convolution holds those of the three subsets, one after the other.
    """

    def __init__(self, channels_in: int, channels_out: int, topology_SVV: Tensor) -> None:
        super().__init__()
        related = 8 if channels_in == 3 else channels_in // 8
        self.query = nn.Conv2d(channels_in, _SUBSETS * related, 1)
        self.key = nn.Conv2d(channels_in, _SUBSETS * related, 1)
        self.value = nn.Conv2d(channels_in, _SUBSETS * channels_out, 1)
        self.spread = nn.Conv2d(_SUBSETS * related, _SUBSETS * channels_out, 1, groups=_SUBSETS)
        self.shared_topology = nn.Parameter(topology_SVV.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        self.bn = nn.BatchNorm2d(channels_out)
        nn.init.constant_(self.bn.weight, 1e-6)
        self.down: nn.Module = nn.Identity()
        if channels_in != channels_out:
            conv = nn.Conv2d(channels_in, channels_out, 1)
            self.down = nn.Sequential(conv, nn.BatchNorm2d(channels_out))
            _start_convolutions([conv])
        _start_convolutions([self.query, self.key, self.value, self.spread], num_parts=_SUBSETS)

    def topology(self, x_BCTV: Tensor) -> Tensor:
        """Return how much each joint (fourth axis) takes of each (last axis), for each subset and channel."""
        # The mean over time first: a 1x1 convolution of the mean is the mean of the convolution.
        mean_BC1V = x_BCTV.mean(dim=2, keepdim=True)
        query_BRV, key_BRV = self.query(mean_BC1V)[:, :, 0], self.key(mean_BC1V)[:, :, 0]
        refined = self.spread((query_BRV[..., None] - key_BRV[..., None, :]).tanh()).unflatten(1, (_SUBSETS, -1))
        topology: Tensor = refined * self.alpha + self.shared_topology[:, None]
        return topology

    def forward(self, x_BCTV: Tensor) -> Tensor:
        """Return the spatially mixed features, shape (B, C, T, V)."""
        value_BSCTV = self.value(x_BCTV).unflatten(1, (_SUBSETS, -1))
        topology_BSCVV = self.topology(x_BCTV).to(value_BSCTV.dtype)
        # Subsets beside each other: one product adds them up.
        value = value_BSCTV.permute(0, 2, 3, 1, 4).flatten(3)
        mixed = value @ topology_BSCVV.permute(0, 2, 1, 4, 3).flatten(2, 3)
        out: Tensor = self.bn(mixed) + self.down(x_BCTV)
        return out.relu()


class MultiScaleTCN(nn.Module):
    """Four temporal branches of a quarter of the channels: dilation 1, dilation 2, max-pool, 1x1. No ReLU follows."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        quarter = channels // 4

        def entry() -> list[nn.Module]:
            return [nn.Conv2d(channels, quarter, 1), nn.BatchNorm2d(quarter), nn.ReLU()]

        branches = []
        for dilation in _DILATIONS:
            conv = nn.Conv2d(
                quarter, quarter, (_KERNEL, 1), stride=(stride, 1),
                padding=(dilation * (_KERNEL - 1) // 2, 0), dilation=(dilation, 1),
            )  # fmt: skip
            branches.append(nn.Sequential(*entry(), conv, nn.BatchNorm2d(quarter)))
        pool = nn.MaxPool2d((3, 1), stride=(stride, 1), padding=(1, 0))
        branches.append(nn.Sequential(*entry(), pool, nn.BatchNorm2d(quarter)))
        point = nn.Conv2d(channels, quarter, 1, stride=(stride, 1))
        branches.append(nn.Sequential(point, nn.BatchNorm2d(quarter)))
        self.branches = nn.ModuleList(branches)
        _start_convolutions(self.modules())
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, x_BCTV: Tensor) -> Tensor:
        """Return the branches' outputs side by side."""
        return torch.cat([branch(x_BCTV) for branch in self.branches], dim=1)


def _start_convolutions(modules: Iterable[nn.Module], num_parts: int = 1) -> None:
    """Give convolutions the authors' initial weights: Kaiming, fan out of one of the parts, and no bias."""
    for module in modules:
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels // num_parts * module.kernel_size[0] * module.kernel_size[1]
            nn.init.normal_(module.weight, 0, (2.0 / fan_out) ** 0.5)
            nn.init.zeros_(cast(Tensor, module.bias))


def _spatial_graph() -> Tensor:
    """Return self-links, inward and outward edges, each column of sum 1, shape (3, 25, 25)."""
    inward = torch.zeros(25, 25)
    for joint, towards in _INWARD:
        inward[towards - 1, joint - 1] = 1
    outward = inward.T
    subsets = [torch.eye(25), *(edges / edges.sum(dim=0).clamp(min=1) for edges in (inward, outward))]
    return torch.stack(subsets)
