"""InfoGCN as its authors describe it, laid out for the hardware.

Source: stnoah1/infogcn; Chi et al., "InfoGCN: Representation Learning for Human Skeleton-Based
Action Recognition", CVPR 2022. Same parameters to the digit, same function; activations stay in
channels-last memory, so that a 1x1 convolution and a head's projection are one matrix product.

Shapes: N windows, C channels, T frames, V joints, M persons, H attention heads, D embedding; B = N * M.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from streams.layouts import INFOGCN_PARENTS, KINECT25_JOINTS, KINECT25_PARENTS

# Channels out of the nine blocks, as multiples of the width.
BLOCK_WIDTHS = (1, 1, 1, 2, 2, 2, 4, 4, 4)
NUM_HEADS = 3
# What each joint brings: its bone (I - A^k) x, its place seen from the mid spine, how far it is from where it
# is on average, seen from the hips, and its step from frame to frame.
Input = Literal["bones", "places", "deviations", "steps"]
# Fresh weights as the authors draw them, or torch's defaults, which leave attention even over the joints at first.
InitialWeights = Literal["authors", "torch"]
# Which tree bones follow: the authors', or kinect25's own, where the tip of a hand hangs on the hand.
BoneTree = Literal["authors", "kinect25"]
_SPINE_BASE, _SPINE_MID = KINECT25_JOINTS.index("SpineBase"), KINECT25_JOINTS.index("SpineMid")
# Deviations and steps are smaller than places; so scaled they come near to them.
_DEVIATION_SCALE, _STEP_SCALE = 2.0, 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoGCNConfig:
    """Name each choice; the defaults are the authors'.

    `k`: the input becomes (I - A_out^k) x, with A_out each joint's parent: 1 gives bone vectors,
    8 plain joints, 0 would be all zero and is refused. `noise_ratio` scales the exponent of the
    sampling noise in training. `width`: channels of the first three blocks. `strides`: each block's
    step in time. `inputs`: what each joint brings, concatenated.
    `initial_weights`, `bone_tree`: see InitialWeights, BoneTree.
    """

    num_classes: int
    num_persons: int = 1
    num_joints: int = 25
    k: int = 1
    noise_ratio: float = 0.5
    z_prior_gain: float = 3.0
    width: int = 64
    strides: tuple[int, ...] = (1, 1, 1, 2, 1, 1, 2, 1, 1)
    inputs: tuple[Input, ...] = ("bones",)
    initial_weights: InitialWeights = "authors"
    bone_tree: BoneTree = "authors"

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
        return tuple(range(self.num_joints))

    def make(self) -> InfoGCN:
        """Return the encoder with fresh weights."""
        return InfoGCN(self)

    def frames_after(self, num_frames: int) -> int:
        """Return how many frames the last block leaves of so many."""
        for stride in self.strides:
            num_frames = math.ceil(num_frames / stride)
        return num_frames

    def __post_init__(self) -> None:
        if len(self.strides) != len(BLOCK_WIDTHS):
            raise ValueError(f"strides are {self.strides}: expected one for each of {len(BLOCK_WIDTHS)} blocks")
        if not self.inputs:
            raise ValueError("inputs are empty: expected some of bones, places, deviations, steps")
        # With 8, branches of two channels: torch 2.13's CPU kernels then write past their memory, with two threads.
        if self.width < 16 or self.width % 8:
            raise ValueError(f"width is {self.width}: expected a multiple of 8 from 16")
        if self.k < 1:
            raise ValueError(f"k is {self.k}: expected 1 (bones) to 8 (joints); k = 0 makes the input all zero")


class InfoGCN(nn.Module):
    """Classify windows x_NMTVC, float32, shape (N, M, T, V, 3); a SkeletonEncoder."""

    input_map_VV: Tensor
    z_prior: Tensor
    num_blocks = len(BLOCK_WIDTHS)
    classifier_layers: tuple[str, ...] = ("fc", "fc_mu", "fc_logvar", "decoder", "z_prior")
    averages_joints = True
    embedding_size = 0
    lowest_feature = 0.0
    chooses_neighbors = False

    def __init__(self, config: InfoGCNConfig) -> None:
        super().__init__()
        self.config = config
        self.num_features = config.num_features
        self.joints = config.joints
        channels, joints, width = config.width, config.num_joints, config.num_features
        self.register_buffer("input_map_VV", _input_map(config.k, config.bone_tree), persistent=False)
        self.to_joint_embedding = nn.Linear(3 * len(config.inputs), channels)
        self.pos_embedding = nn.Parameter(torch.randn(1, joints, channels))
        self.data_bn = nn.BatchNorm1d(config.num_persons * joints * channels)
        blocks = []
        for multiple, stride in zip(BLOCK_WIDTHS, config.strides, strict=True):
            blocks.append(EncodingBlock(channels, multiple * config.width, stride, joints, config.initial_weights))
            channels = multiple * config.width
        self.blocks = nn.ModuleList(blocks)
        self.fc = nn.Linear(width, width)
        self.fc_mu = nn.Linear(width, width)
        self.fc_logvar = nn.Linear(width, width)
        self.decoder = nn.Linear(width, config.num_classes)
        # Fixed targets of the class means of z (the authors' marginal MMD loss); no parameter.
        z_prior = torch.empty(config.num_classes, width)
        self.register_buffer("z_prior", nn.init.orthogonal_(z_prior, gain=config.z_prior_gain))
        for layer in (self.fc, self.fc_mu, self.fc_logvar):
            nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain("relu"))
        nn.init.normal_(self.decoder.weight, 0, (2.0 / config.num_classes) ** 0.5)
        nn.init.constant_(self.data_bn.weight, 1)

    def embed_joints(self, x_NMTVC: Tensor) -> Tensor:
        """Return what the first block takes, shape (B, C, T, V)."""
        n, m, t, v, _ = x_NMTVC.shape
        # In bfloat16 meters would be rounded to 4 mm before neighbors are subtracted.
        with torch.autocast(x_NMTVC.device.type, enabled=False):
            x = self.to_joint_embedding(self.inputs(x_NMTVC)) + self.pos_embedding
            # One statistic for each person, joint and channel.
            x = self.data_bn(x.transpose(1, 2).reshape(n * t, -1)).view(n, t, m, v, -1).transpose(1, 2)
        if torch.is_autocast_enabled(x.device.type):
            # Else all that is added to it would be float32 as well, up to the first stride.
            x = x.to(torch.get_autocast_dtype(x.device.type))
        embedded: Tensor = x.reshape(n * m, t, v, -1).permute(0, 3, 1, 2)
        return embedded

    def channels_after(self, num_blocks: int) -> int:
        return self.config.width * BLOCK_WIDTHS[num_blocks - 1]

    def run_block(self, number: int, x_BCTV: Tensor, importance_BV: Tensor | None = None) -> Tensor:
        out: Tensor = self.blocks[number](x_BCTV, importance_BV)
        return out

    def attention(self, number: int, x_BCTV: Tensor) -> Tensor:
        """Return the size of softmax times topology, its mean over frames and heads, (B, V, V)."""
        layer = cast(EncodingBlock, self.blocks[number]).agcn
        return layer.attention(x_BCTV).abs().mean(dim=(1, 2))

    def inputs(self, x_NMTVC: Tensor) -> Tensor:
        """Return what each joint brings; see `joint_inputs`."""
        return joint_inputs(x_NMTVC, self.config.inputs, self.input_map_VV)

    def features(self, x_NMTVC: Tensor) -> Tensor:
        """Return the features of the last block, shape (B, C, T', V)."""
        x = self.embed_joints(x_NMTVC)
        for block in self.blocks:
            x = block(x)
        return x

    def classify(self, pooled_NC: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, num_classes) and the latent z (N, C), sampled in training."""
        h = torch.relu(self.fc(pooled_NC))
        z = self.fc_mu(h)
        if self.training:
            # At most 100, by the exponent: an infinite one would have no gradient.
            std = (self.config.noise_ratio * self.fc_logvar(h)).clamp(max=math.log(100.0)).exp()
            z = z + torch.randn_like(std) * std
        return self.decoder(z), z

    def forward(self, x_NMTVC: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and latent z of the features' mean over time, joints, then persons."""
        pooled_BC = self.features(x_NMTVC).mean(dim=(2, 3))
        return self.classify(pooled_BC.view(*x_NMTVC.shape[:2], -1).mean(dim=1))


def joint_inputs(x_NMTVC: Tensor, names: Sequence[Input], input_map_VV: Tensor) -> Tensor:
    """Return what each joint brings, shape (N, M, T, V, 3 * number of names); `input_map_VV` gives the bones."""

    def brought(name: Input) -> Tensor:
        if name == "bones":
            bones: Tensor = input_map_VV @ x_NMTVC
            return bones
        if name == "places":
            return x_NMTVC - x_NMTVC[..., _SPINE_MID : _SPINE_MID + 1, :]
        if name == "deviations":
            x = x_NMTVC - x_NMTVC[..., _SPINE_BASE : _SPINE_BASE + 1, :]
            return _DEVIATION_SCALE * (x - x.mean(dim=2, keepdim=True))
        steps = x_NMTVC[:, :, 1:] - x_NMTVC[:, :, :-1]
        return _STEP_SCALE * torch.cat((steps, steps[:, :, -1:]), dim=2)

    return torch.cat([brought(name) for name in names], dim=-1)


class EncodingBlock(nn.Module):
    """One block: relu(MS_TCN(SA_GC(x)) + residual(x)), x of shape (B, C, T, V)."""

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, num_joints: int, initial: InitialWeights = "authors"
    ) -> None:
        super().__init__()
        self.agcn = SpatialAttentionGC(channels_in, channels_out, num_joints, initial)
        self.tcn = MultiScaleTCN(channels_out, stride)
        self.residual: nn.Module = nn.Identity()
        if channels_in != channels_out or stride != 1:
            self.residual = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride=(stride, 1)), nn.BatchNorm2d(channels_out)
            )
            if initial == "authors":
                _kaiming_fan_out(self.residual[0])

    def forward(self, x_NCTV: Tensor, importance_NV: Tensor | None = None) -> Tensor:
        """Return the block's output; `importance_NV` weighs the spatially mixed features (CrossGLG, Eq. 1).

        It has to come before the TCN: after the block's last normalization it would be inert, and on
        the block's output it would make the features collapse.
        """
        mixed = self.agcn(x_NCTV)
        if importance_NV is not None:
            mixed = mixed * importance_NV[:, None, None, :].to(mixed.dtype)
        return torch.relu(self.tcn(mixed) + _shortcut(self.residual, x_NCTV))


class SpatialAttentionGC(nn.Module):
    """Self-attention over the joints of each frame, times a learned topology shared by all frames."""

    def __init__(
        self, channels_in: int, channels_out: int, num_joints: int, initial: InitialWeights = "authors"
    ) -> None:
        super().__init__()
        self.head_channels = channels_in // 8
        self.norm = nn.LayerNorm(channels_in)
        self.to_qk = nn.Linear(channels_in, 2 * NUM_HEADS * self.head_channels)
        self.shared_topology = nn.Parameter(torch.eye(num_joints).repeat(NUM_HEADS, 1, 1))
        heads = [nn.Conv2d(channels_in, channels_out, 1) for _ in range(NUM_HEADS)]
        fan_in = channels_in if initial == "authors" else 1
        for head in heads:
            nn.init.normal_(head.weight, 0, (2.0 / (channels_out * fan_in * NUM_HEADS)) ** 0.5)
            nn.init.zeros_(cast(Tensor, head.bias))
        self.conv_d = nn.ModuleList(heads)
        self.bn = nn.BatchNorm2d(channels_out)
        nn.init.constant_(self.bn.weight, 1e-6)
        self.down: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.down = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1), nn.BatchNorm2d(channels_out))
        if initial == "authors":
            nn.init.normal_(self.to_qk.weight)
            if isinstance(self.down, nn.Sequential):
                _kaiming_fan_out(self.down[0])

    def attention(self, x_NCTV: Tensor) -> Tensor:
        """Return how much each joint (fourth axis) takes of each (last axis), topology and all: (N, T, H, V, V)."""
        n, _, t, v = x_NCTV.shape
        qk = self.to_qk(self.norm(x_NCTV.permute(0, 2, 3, 1))).view(n * t, v, 2, NUM_HEADS, self.head_channels)
        q, k = qk.permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * self.head_channels**-0.5) @ k.transpose(-1, -2)
        # In memory joint before head: the mixed joints of all heads then lie side by side. In bfloat16 softmax has
        # no fast kernel on a CPU: a tenth of a training step.
        scores = scores.transpose(1, 2).to(torch.promote_types(scores.dtype, torch.float32)).contiguous()
        shares = scores.softmax(dim=-1) * self.shared_topology.transpose(0, 1)
        by_head: Tensor = shares.view(n, t, v, NUM_HEADS, v).transpose(2, 3)
        return by_head

    def forward(self, x_NCTV: Tensor) -> Tensor:
        n, c, t, v = x_NCTV.shape
        x = x_NCTV.permute(0, 2, 3, 1)
        a_BRV = self.attention(x_NCTV).transpose(2, 3).reshape(n * t, v * NUM_HEADS, v)
        # (NT, VH, V) @ (NT, V, C): all heads in one batched product, and no copy before their projection.
        mixed = (a_BRV.to(x.dtype) @ x.reshape(n * t, v, c)).view(n, t, v, NUM_HEADS * c)
        heads = [cast(nn.Conv2d, head) for head in self.conv_d]
        weight = torch.cat([head.weight.flatten(1) for head in heads], dim=1)
        bias = torch.stack([cast(Tensor, head.bias) for head in heads]).sum(dim=0)
        out = _normalize([self.bn], nn.functional.linear(mixed, weight, bias.detach()).permute(0, 3, 1, 2))
        return torch.relu(out + _shortcut(self.down, x_NCTV))


class MultiScaleTCN(nn.Module):
    """Four temporal branches of a quarter of the channels: dilation 1, dilation 2, max-pool, 1x1."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        quarter = channels // 4

        def entry() -> list[nn.Module]:
            return [nn.Conv2d(channels, quarter, 1), nn.BatchNorm2d(quarter), nn.ReLU()]

        def dilated(dilation: int) -> nn.Sequential:
            conv = nn.Conv2d(
                quarter,
                quarter,
                (5, 1),
                stride=(stride, 1),
                padding=(2 * dilation, 0),
                dilation=(dilation, 1),
            )
            return nn.Sequential(*entry(), conv, nn.BatchNorm2d(quarter))

        self.branches = nn.ModuleList(
            (
                dilated(1),
                dilated(2),
                nn.Sequential(
                    *entry(),
                    nn.MaxPool2d((3, 1), stride=(stride, 1), padding=(1, 0)),
                    nn.BatchNorm2d(quarter),
                ),
                nn.Sequential(nn.Conv2d(channels, quarter, 1, stride=(stride, 1)), nn.BatchNorm2d(quarter)),
            )
        )

    def forward(self, x_NCTV: Tensor) -> Tensor:
        # Layer by layer across the branches: one product and one normalization where there were three or four.
        dilated_1, dilated_2, pooled, point = (cast(nn.Sequential, branch) for branch in self.branches)
        entries = (dilated_1, dilated_2, pooled)
        entered = _project([branch[0] for branch in entries], x_NCTV)
        x = torch.relu(_normalize([branch[1] for branch in entries], entered))
        first, second, third = x.chunk(3, dim=1)
        outs = (_convolve(dilated_1[3], first), _convolve(dilated_2[3], second), pooled[3](third))
        joined = torch.cat((*outs, _project([point[0]], x_NCTV)), dim=1)
        return torch.relu(_normalize([dilated_1[4], dilated_2[4], pooled[4], point[1]], joined))


def _project(layers: Sequence[nn.Module], x_NCTV: Tensor) -> Tensor:
    """Run 1x1 convolutions of the same input, all of one stride, as one product; see `_convolve` for the bias."""
    convs = [cast(nn.Conv2d, layer) for layer in layers]
    weight = torch.cat([conv.weight.flatten(1) for conv in convs])
    bias = torch.cat([cast(Tensor, conv.bias) for conv in convs]).detach()
    # Turned before it is cut: the gradient of a cut is laid out as its input.
    x = x_NCTV.permute(0, 2, 3, 1)[:, :: convs[0].stride[0]]
    return nn.functional.linear(x, weight, bias).permute(0, 3, 1, 2)


def _convolve(layer: nn.Module, x_NCTV: Tensor) -> Tensor:
    """Convolve without a gradient for the bias: a normalization follows, so it is zero, but costs a pass."""
    conv = cast(nn.Conv2d, layer)
    bias = cast(Tensor, conv.bias).detach()
    return nn.functional.conv2d(x_NCTV, conv.weight, bias, conv.stride, conv.padding, conv.dilation)


def _normalize(layers: Sequence[nn.Module], x_NCTV: Tensor) -> Tensor:
    """Run batch normalizations of neighboring channels as one."""
    norms = [cast(nn.BatchNorm2d, layer) for layer in layers]
    weight, bias, mean, var = (
        torch.cat([getattr(norm, name) for norm in norms]) for name in ("weight", "bias", "running_mean", "running_var")
    )
    n, c, t, v = x_NCTV.shape
    rows = x_NCTV.permute(0, 2, 3, 1).reshape(-1, c)
    training = norms[0].training
    out = nn.functional.batch_norm(rows, mean, var, weight, bias, training, norms[0].momentum or 0.1, norms[0].eps)
    if training:
        sizes = [norm.num_features for norm in norms]
        for norm, new_mean, new_var in zip(norms, mean.split(sizes), var.split(sizes), strict=True):
            cast(Tensor, norm.running_mean).copy_(new_mean)
            cast(Tensor, norm.running_var).copy_(new_var)
    return out.view(n, t, v, c).permute(0, 3, 1, 2)


def _shortcut(layer: nn.Module, x_NCTV: Tensor) -> Tensor:
    if isinstance(layer, nn.Identity):
        return x_NCTV
    conv, norm = cast(nn.Sequential, layer)
    return _normalize([norm], _project([conv], x_NCTV))


def _input_map(k: int, tree: BoneTree) -> Tensor:
    """Return I - A^k, shape (25, 25): row v takes joint v minus its k-th ancestor; past the root, 0."""
    parent = torch.zeros(25, 25)
    for joint, above in enumerate(INFOGCN_PARENTS if tree == "authors" else KINECT25_PARENTS):
        if joint != above:
            parent[joint, above] = 1
    ancestor: Tensor = torch.linalg.matrix_power(parent, k)
    return torch.eye(25) - ancestor


def _kaiming_fan_out(layer: nn.Module) -> None:
    conv = cast(nn.Conv2d, layer)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    nn.init.zeros_(cast(Tensor, conv.bias))
