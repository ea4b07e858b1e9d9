"""HD-GCN as its authors describe it: a hierarchy of joints around a center of mass.

Source: Jho-Yonsei/HD-GCN; Lee et al., "Hierarchically Decomposed Graph Convolutional Networks for Skeleton-Based
Action Recognition", ICCV 2023. Same parameters to the digit, same initialization; what the authors compute layer by
layer of the hierarchy is computed for all layers at once.

Shapes: N windows, M persons, B = N * M, C channels, T frames, V = 25 joints; L = 6 layers of the hierarchy, S = 3
subsets of edges, G groups of channels, c channels of a group, K neighbors, A classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from streams.layouts import KINECT25_JOINTS, KINECT25_PARENTS

# Channels out of the ten blocks, as multiples of the width.
BLOCK_WIDTHS = (1, 1, 1, 1, 2, 2, 2, 4, 4, 4)
_NUM_JOINTS = len(KINECT25_JOINTS)
# Joints, counted from 1 as in NTU RGB+D, by their distance from the center of mass; each layer joins two neighbors.
_GROUPS = {
    1: ((1,), (2, 13, 17), (14, 18, 21), (3, 5, 9, 15, 19), (4, 6, 10, 16, 20), (7, 11), (8, 12, 22, 23, 24, 25)),
    2: ((2,), (1, 21), (13, 17, 3, 5, 9), (14, 18, 4, 6, 10), (15, 19, 7, 11), (16, 20, 8, 12), (22, 23, 24, 25)),
    21: ((21,), (2, 3, 5, 9), (4, 6, 10, 1), (7, 11, 13, 17), (8, 12, 14, 18), (22, 23, 24, 25, 15, 19), (16, 20)),
}
_NUM_LAYERS = 6
_NUM_SUBSETS = 3
# Nearest joints of a joint, and nearest layers of a layer, in feature space, itself among them.
_NEAREST_JOINTS, _NEAREST_LAYERS = 5, 3
_SPINE_BASE, _SPINE_MID, _SPINE_SHOULDER = (
    KINECT25_JOINTS.index(name) for name in ("SpineBase", "SpineMid", "SpineShoulder")
)
_HAND_CHAINS = (("HandTipLeft", "ThumbLeft"), ("HandTipRight", "ThumbRight"))

CenterOfMass = Literal[1, 2, 21]


@dataclass(frozen=True, slots=True, kw_only=True)
class HDGCNChoices:
    """Name each choice of HD-GCN; the defaults are the authors'.

    `center_of_mass`: the joint that the hierarchy begins at, counted from 1 as in NTU RGB+D: the base of the spine,
    its middle, or its top. `stream`: "joint" takes places, "bone" each joint seen from the next one towards the top of
    the spine; the authors train both with each center and add up six scores, one-shot recognition takes one.
    `width`: channels of the first four blocks. `strides`: each block's step in time.
    """

    center_of_mass: CenterOfMass = 21
    stream: Literal["joint", "bone"] = "joint"
    width: int = 64
    strides: tuple[int, ...] = (1, 1, 1, 1, 2, 1, 1, 2, 1, 1)

    def __post_init__(self) -> None:
        if self.center_of_mass not in _GROUPS:
            raise ValueError(f"center_of_mass is {self.center_of_mass}: expected one of 1, 2, 21")
        if self.stream not in ("joint", "bone"):
            raise ValueError(f"stream is {self.stream!r}: expected joint or bone")
        # Four parts of the channels, and a quarter of those in the attention over layers.
        if self.width < 16 or self.width % 16:
            raise ValueError(f"width is {self.width}: expected a multiple of 16")
        if len(self.strides) != len(BLOCK_WIDTHS) or not all(1 <= stride <= 2 for stride in self.strides):
            raise ValueError(f"strides are {self.strides}: expected 1 or 2 for each of {len(BLOCK_WIDTHS)} blocks")


@dataclass(frozen=True, slots=True, kw_only=True)
class HDGCNConfig(HDGCNChoices):
    """Say what an HDGCN is made by: an EncoderConfig."""

    num_classes: int
    num_persons: int = 1

    @property
    def num_features(self) -> int:
        """Channels of the last block."""
        return self.width * BLOCK_WIDTHS[-1]

    @property
    def num_blocks(self) -> int:
        """After how many blocks JID may come, at most."""
        return len(BLOCK_WIDTHS)

    @property
    def joints(self) -> tuple[int, ...]:
        """The kinect25 joints that the encoder sees: all."""
        return tuple(range(_NUM_JOINTS))

    def make(self) -> HDGCN:
        """Return the encoder with fresh weights."""
        return HDGCN(self)

    def frames_after(self, num_frames: int) -> int:
        """Return how many frames the last block leaves of so many."""
        for stride in self.strides:
            num_frames = math.ceil(num_frames / stride)
        return num_frames


class HDGCN(nn.Module):
    """Classify windows x_NMTVC, float32, shape (N, M, T, V, 3): a SkeletonEncoder."""

    num_blocks = len(BLOCK_WIDTHS)
    classifier_layers: tuple[str, ...] = ("fc",)
    averages_joints = True
    embedding_size = 0
    lowest_feature = 0.0
    chooses_neighbors = True
    z_prior: None = None
    stream_VV: Tensor

    def __init__(self, config: HDGCNConfig) -> None:
        super().__init__()
        self.config = config
        self.num_features, self.joints = config.num_features, config.joints
        stream_VV = torch.eye(_NUM_JOINTS) - (_towards_spine() if config.stream == "bone" else 0)
        self.register_buffer("stream_VV", stream_VV, persistent=False)
        self.data_bn = nn.BatchNorm1d(config.num_persons * _NUM_JOINTS * 3)
        blocks, channels = [], 3
        for number, (multiple, stride) in enumerate(zip(BLOCK_WIDTHS, config.strides, strict=True)):
            width = multiple * config.width
            blocks.append(HierarchyBlock(channels, width, stride, config.center_of_mass, is_first=number == 0))
            channels = width
        self.blocks = nn.ModuleList(blocks)
        self.fc = nn.Linear(channels, config.num_classes)
        nn.init.normal_(self.fc.weight, 0, (2.0 / config.num_classes) ** 0.5)

    def channels_after(self, num_blocks: int) -> int:
        return self.config.width * BLOCK_WIDTHS[num_blocks - 1]

    def embed_joints(self, x_NMTVC: Tensor) -> Tensor:
        """Return what the first block takes, shape (B, 3, T, V): places or bones, normalized."""
        n, m, t, v, c = x_NMTVC.shape
        # In bfloat16 meters would be rounded to 4 mm before neighbors are subtracted.
        with torch.autocast(x_NMTVC.device.type, enabled=False):
            x = (self.stream_VV @ x_NMTVC).permute(0, 1, 3, 4, 2).reshape(n, m * v * c, t)
            embedded: Tensor = self.data_bn(x).view(n * m, v, c, t).permute(0, 2, 3, 1)
        return embedded

    def run_block(self, number: int, x_BCTV: Tensor, importance_BV: Tensor | None = None) -> Tensor:
        out: Tensor = self.blocks[number](x_BCTV, importance_BV)
        return out

    def attention(self, number: int, x_BCTV: Tensor) -> Tensor:
        """Return what each joint takes of each: along learned edges and of those alike, by layers as they count."""
        return cast(HierarchyBlock, self.blocks[number]).spatial.looks_at(x_BCTV)

    def features(self, x_NMTVC: Tensor) -> Tensor:
        """Return the features of the last block, shape (B, C, T / 4, V)."""
        x = self.embed_joints(x_NMTVC)
        for number in range(self.num_blocks):
            x = self.run_block(number, x, None)
        return x

    def classify(self, pooled_NC: Tensor) -> tuple[Tensor, None]:
        """Return logits (N, A), from the features' mean over time, joints and persons; there is no latent."""
        return self.fc(pooled_NC), None

    def forward(self, x_NMTVC: Tensor) -> Tensor:
        """Return logits (N, A)."""
        pooled_BC = self.features(x_NMTVC).mean(dim=(2, 3))
        return self.classify(pooled_BC.view(*x_NMTVC.shape[:2], -1).mean(dim=1))[0]


class HierarchyBlock(nn.Module):
    """One block: relu(temporal(spatial(x)) + residual(x)), x of shape (B, C, T, V); the first has no residual."""

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, center_of_mass: CenterOfMass, *, is_first: bool
    ) -> None:
        super().__init__()
        self.spatial = HierarchyConv(channels_in, channels_out, center_of_mass, attends=not is_first)
        self.temporal = TemporalBranches(channels_out, stride)
        self.residual: nn.Module | None = None if is_first else nn.Identity()
        if not is_first and (channels_in != channels_out or stride != 1):
            self.residual = nn.Sequential(_conv(channels_in, channels_out, stride), nn.BatchNorm2d(channels_out))

    def forward(self, x_BCTV: Tensor, importance_BV: Tensor | None = None) -> Tensor:
        """Return the block's output; `importance_BV` weighs the spatially mixed features (CrossGLG, Eq. 1).

        It comes before the temporal convolutions: those mix channels before they normalize, so it is not undone.
        """
        mixed = self.spatial(x_BCTV)
        if importance_BV is not None:
            mixed = mixed * importance_BV[:, None, None, :].to(mixed.dtype)
        out = self.temporal(mixed)
        return torch.relu(out if self.residual is None else out + self.residual(x_BCTV))


class HierarchyConv(nn.Module):
    """The authors' HD_Gconv: each layer of the hierarchy mixes joints by itself, then the layers are added up.

    In each layer a quarter of the channels goes along the edges of each subset, and one between joints that are alike.
    """

    def __init__(self, channels_in: int, channels_out: int, center_of_mass: CenterOfMass, *, attends: bool) -> None:
        super().__init__()
        quarter = channels_out // (_NUM_SUBSETS + 1)
        self.topology_LSVV = nn.Parameter(hierarchy(center_of_mass))
        self.enter = nn.Conv2d(channels_in, _NUM_LAYERS * quarter, 1)
        self.enter_bn = nn.BatchNorm2d(_NUM_LAYERS * quarter)
        num_convs = _NUM_LAYERS * _NUM_SUBSETS
        self.mix = nn.Conv2d(num_convs * quarter, num_convs * quarter, 1, groups=num_convs)
        self.mix_bn = nn.BatchNorm2d(num_convs * quarter)
        self.alike = EdgeConv(quarter, _NUM_LAYERS, _NEAREST_JOINTS)
        self.attention = LayerAttention(channels_out, center_of_mass) if attends else None
        self.bn = nn.BatchNorm2d(channels_out)
        self.down: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.down = nn.Sequential(_conv(channels_in, channels_out), nn.BatchNorm2d(channels_out))
        for conv in (self.enter, self.mix):
            # Kaiming's fan out of each of the authors' convolutions, which are side by side here.
            _draw(conv, quarter)
        nn.init.constant_(self.bn.weight, 1e-6)

    def forward(self, x_BCTV: Tensor) -> Tensor:
        """Return the mixed features, shape (B, C', T, V)."""
        mixed_BLCTV = self.mix_layers(self.enter_layers(x_BCTV))
        if self.attention is not None:
            mixed_BLCTV = mixed_BLCTV * self.attention(mixed_BLCTV)[..., None, None]
        return torch.relu(self.bn(mixed_BLCTV.sum(dim=1)) + self.down(x_BCTV))

    def enter_layers(self, x_BCTV: Tensor) -> Tensor:
        """Return a quarter of the channels for each layer, shape (B, L, c, T, V)."""
        b, _, t, v = x_BCTV.shape
        return torch.relu(self.enter_bn(self.enter(x_BCTV))).view(b, _NUM_LAYERS, -1, t, v)

    def mix_layers(self, entered_BLcTV: Tensor) -> Tensor:
        """Return each layer's mixed features, shape (B, L, C', T, V)."""
        b, _, _, t, v = entered_BLcTV.shape
        along_BLSctV = torch.einsum("blctu,lsvu->blsctv", entered_BLcTV, self.topology_LSVV.to(entered_BLcTV.dtype))
        along = self.mix_bn(self.mix(along_BLSctV.flatten(1, 3))).view(b, _NUM_LAYERS, -1, t, v)
        alike = self.alike(entered_BLcTV.mean(dim=3))[:, :, :, None].expand(-1, -1, -1, t, -1)
        return torch.cat((along, alike.to(along.dtype)), dim=2)

    def looks_at(self, x_BCTV: Tensor) -> Tensor:
        """Return how much each joint takes of each, shape (B, V, V), the mean over a layer's four parts and layers.

        Along edges it is the size of the topology, among joints that are alike an even share; layers count as the
        attention over them has it, averaged over channels.
        """
        entered_BLcTV = self.enter_layers(x_BCTV)
        near_BLVK = self.alike.neighbors(entered_BLcTV.mean(dim=3))
        near_BLVV = nn.functional.one_hot(near_BLVK, x_BCTV.shape[3]).sum(dim=3) / self.alike.num_neighbors
        parts_BLVV = (self.topology_LSVV.abs().sum(dim=1) + near_BLVV) / (_NUM_SUBSETS + 1)
        if self.attention is not None:
            parts_BLVV = parts_BLVV * self.attention(self.mix_layers(entered_BLcTV)).mean(dim=2)[..., None, None]
        return parts_BLVV.mean(dim=1)


class LayerAttention(nn.Module):
    """The authors' AHA: weigh the layers of the hierarchy, channel by channel, by what their joints do most."""

    mean_LV: Tensor

    def __init__(self, channels: int, center_of_mass: CenterOfMass) -> None:
        super().__init__()
        quarter = channels // 4
        self.register_buffer("mean_LV", _layer_means(center_of_mass), persistent=False)
        self.enter = nn.Sequential(_conv(channels, quarter), nn.BatchNorm2d(quarter), nn.ReLU())
        self.alike = EdgeConv(quarter, 1, _NEAREST_LAYERS)
        self.back = nn.Conv1d(quarter, channels, 1)

    def forward(self, mixed_BLCTV: Tensor) -> Tensor:
        """Return each layer's weights, shape (B, L, C), 0 to 1."""
        entered_BcLV = self.enter(mixed_BLCTV.amax(dim=3).transpose(1, 2))
        layers_BcL = torch.einsum("bclv,lv->bcl", entered_BcLV, self.mean_LV.to(entered_BcLV.dtype))
        weights_BCL: Tensor = self.back(self.alike(layers_BcL[:, None])[:, 0]).sigmoid()
        return weights_BCL.transpose(1, 2)


class EdgeConv(nn.Module):
    """Compare each node with those nearest to it in feature space, and keep the strongest answer of each channel.

    The nodes of G groups, of c channels each, have nothing to do with each other. Source: Wang et al., "Dynamic
    Graph CNN for Learning on Point Clouds", 2019.
    """

    def __init__(self, channels: int, groups: int, num_neighbors: int) -> None:
        super().__init__()
        self.num_neighbors = num_neighbors
        # What a node is apart from its neighbor, and what it is itself.
        self.weight_Gcd = nn.Parameter(torch.empty(groups, channels, 2 * channels))
        nn.init.normal_(self.weight_Gcd, 0, (2.0 / channels) ** 0.5)
        self.bn = nn.BatchNorm2d(groups * channels)

    def forward(self, x_BGcV: Tensor) -> Tensor:
        """Return what the nodes see in their neighbors, shape (B, G, c, V)."""
        b, g, c, v = x_BGcV.shape
        apart_Gcc, own_Gcc = (part.to(x_BGcV.dtype) for part in (self.weight_Gcd[..., :c], self.weight_Gcd[..., c:]))
        # apart (neighbor - self) + own self, with each product before the neighbors are gathered: K times fewer.
        neighbor_BGcV, self_BGcV = apart_Gcc @ x_BGcV, (own_Gcc - apart_Gcc) @ x_BGcV
        index_BGV_K = self.neighbors(x_BGcV).view(b, g, 1, v * self.num_neighbors).expand(-1, -1, c, -1)
        seen_BGcVK = neighbor_BGcV.gather(3, index_BGV_K).view(b, g, c, v, -1) + self_BGcV[..., None]
        answers = nn.functional.leaky_relu(self.bn(seen_BGcVK.flatten(1, 2)), 0.2)
        return answers.amax(dim=-1).view(b, g, c, v)

    def neighbors(self, x_BGcV: Tensor) -> Tensor:
        """Return the numbers of the nearest nodes of each, itself among them, shape (B, G, V, K)."""
        with torch.no_grad(), torch.autocast(x_BGcV.device.type, enabled=False):
            x = x_BGcV.float()
            squares_BGV = x.square().sum(dim=2)
            nearness = 2 * x.transpose(2, 3) @ x - squares_BGV[..., None, :] - squares_BGV[..., None]
            return nearness.topk(self.num_neighbors, dim=-1).indices


class TemporalBranches(nn.Module):
    """Four branches of a quarter of the channels: dilation 1, dilation 2, max-pool, 1x1; joined as they are."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        quarter = channels // 4

        def entry() -> list[nn.Module]:
            return [_conv(channels, quarter), nn.BatchNorm2d(quarter), nn.ReLU()]

        def dilated(dilation: int) -> nn.Sequential:
            conv = nn.Conv2d(
                quarter, quarter, (5, 1), stride=(stride, 1), padding=(2 * dilation, 0), dilation=(dilation, 1)
            )
            _draw(conv, quarter * 5)
            return nn.Sequential(*entry(), conv, nn.BatchNorm2d(quarter))

        pool = nn.MaxPool2d((3, 1), stride=(stride, 1), padding=(1, 0))
        self.branches = nn.ModuleList(
            (
                dilated(1),
                dilated(2),
                nn.Sequential(*entry(), pool, nn.BatchNorm2d(quarter)),
                nn.Sequential(_conv(channels, quarter, stride), nn.BatchNorm2d(quarter)),
            )
        )
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1.0, 0.02)

    def forward(self, x_BCTV: Tensor) -> Tensor:
        """Return shape (B, C, T / stride, V)."""
        return torch.cat([branch(x_BCTV) for branch in self.branches], dim=1)


def hierarchy(center_of_mass: CenterOfMass) -> Tensor:
    """Return each layer's edges, shape (L, S, V, V): each joint's own, all outwards, all inwards.

    Row: the joint that takes, column: the one that gives; the columns of edges in or out add up to 1.
    """
    topology_LSVV = torch.zeros(_NUM_LAYERS, _NUM_SUBSETS, _NUM_JOINTS, _NUM_JOINTS)
    groups = [[joint - 1 for joint in group] for group in _GROUPS[center_of_mass]]
    for subsets_SVV, inner, outer in zip(topology_LSVV, groups[:-1], groups[1:], strict=True):
        for joint in inner + outer:
            subsets_SVV[0, joint, joint] = 1
        for near in inner:
            for far in outer:
                subsets_SVV[1, far, near] = 1 / len(outer)
                subsets_SVV[2, near, far] = 1 / len(inner)
    return topology_LSVV


def _layer_means(center_of_mass: CenterOfMass) -> Tensor:
    """Return what takes the mean over each layer's joints, shape (L, V)."""
    own_LV = hierarchy(center_of_mass)[:, 0].diagonal(dim1=1, dim2=2)
    return own_LV / own_LV.sum(dim=1, keepdim=True)


def _towards_spine() -> Tensor:
    """Return (25, 25): row v takes the joint that v's bone begins at, seen from the top of the spine."""
    parents = list(KINECT25_PARENTS)
    parents[_SPINE_BASE], parents[_SPINE_MID], parents[_SPINE_SHOULDER] = _SPINE_MID, _SPINE_SHOULDER, _SPINE_SHOULDER
    for tip, thumb in _HAND_CHAINS:
        parents[KINECT25_JOINTS.index(tip)] = KINECT25_JOINTS.index(thumb)
    return torch.eye(_NUM_JOINTS)[parents]


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(channels_in, channels_out, 1, stride=(stride, 1))
    _draw(conv, channels_out)
    return conv


def _draw(conv: nn.Conv2d, fan_out: int) -> None:
    nn.init.normal_(conv.weight, 0, (2.0 / fan_out) ** 0.5)
    nn.init.zeros_(cast(Tensor, conv.bias))
