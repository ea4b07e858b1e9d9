"""A frozen branch for inference: the same outputs by fewer and larger operations.

Batch normalizations go into the layer before them, the affine part of layer norms into the layer after. Attention
has rows of channels, so that it is matrix products with nothing turned between them. All else in a block is
convolutions in a row, which keep the layout that an engine likes best.

Shapes: N windows, T frames, V joints, C channels, F = N * T, R = N * T * V rows, H heads, I channels of q, J = V * H
or H * V, P places, E values of an embedding, K known actions, B quarters of windows.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from export.frozen import FrozenBranch
from training.model import (
    NUM_HEADS,
    NUM_QUARTERS,
    EncodingBlock,
    InfoGCN,
    MultiScaleTCN,
    SpatialAttentionGC,
    joint_inputs,
)


def folded(branch: FrozenBranch) -> nn.Module:
    """Return what computes the same as a branch by fewer operations; the branch itself where its encoder has no such.

    Of InfoGCN a FoldedBranch.
    """
    return FoldedBranch(branch) if isinstance(branch.branch.encoder, InfoGCN) else branch


class FoldedBranch(nn.Module):
    """Compute what a FrozenBranch of InfoGCN computes.

    Windows (N, T, V, 3) -> embeddings (N, E) and features (N, D), float32. `body` is the type of weights, products and
    what passes between them. What each joint brings, layer norms, softmax, means and the length of an embedding are
    worked out in float32 whatever it is.
    """

    input_map_VV: Tensor
    scale_VC: Tensor
    offset_VC: Tensor

    @torch.no_grad()
    def __init__(self, branch: FrozenBranch, body: torch.dtype = torch.float32) -> None:
        super().__init__()
        skeleton = branch.branch
        encoder = cast(InfoGCN, skeleton.encoder)
        self.body = body
        self.pooled = branch.embedding == "pooled"
        self.num_pre = skeleton.guidance.num_pre
        self.inputs = encoder.config.inputs
        self.register_buffer("input_map_VV", encoder.input_map_VV, persistent=False)
        self.aligned_joints, self.cohort_distance = branch.aligned_joints, branch.cohort_distance
        embed = encoder.to_joint_embedding
        self.embed = _linear(embed.weight, torch.zeros(len(embed.bias)))
        scale_VC, shift_VC = (each.view(encoder.config.num_joints, -1) for each in _affine(encoder.data_bn))
        self.register_buffer("scale_VC", scale_VC)
        self.register_buffer("offset_VC", (encoder.pos_embedding[0] + embed.bias) * scale_VC + shift_VC)
        self.blocks = nn.ModuleList(_Block(cast(EncodingBlock, block)) for block in encoder.blocks)
        weight, bias = branch.projection.T, -branch.projection.T @ branch.mean_C
        if self.pooled and isinstance(skeleton.project, nn.Linear):
            weight, bias = weight @ skeleton.project.weight, bias + weight @ skeleton.project.bias
        self.project = _linear(weight, bias)
        cohort_KE = branch.cohort_KE
        self.cohort = _linear(cohort_KE, torch.zeros(len(cohort_KE))) if len(cohort_KE) else None
        self.jid = copy.deepcopy(skeleton.jid)
        for child in self.children():
            child.to(body)
        self.eval()

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        n, t, v, _ = windows.shape
        inputs_NMTVC = joint_inputs(windows[:, None], self.inputs, self.input_map_VV)
        joints_RC = self.embed(inputs_NMTVC.flatten(0, 3).to(self.body)).float()
        x_RC = (joints_RC.view(n * t, v, -1) * self.scale_VC + self.offset_VC).flatten(0, 1).to(self.body)
        importance_NV = None
        for number, block in enumerate(self.blocks):
            if number == self.num_pre and self.jid is not None:
                importance_NV = self.jid(x_RC.view(n, t, v, -1).permute(0, 3, 1, 2))
            x_RC, t = block(x_RC, t, v, importance_NV)
        x_NTVC = x_RC.view(n, t, v, -1)
        if self.num_pre == len(self.blocks) and self.jid is not None:
            x_NTVC = x_NTVC * self.jid(x_NTVC.permute(0, 3, 1, 2))[:, None, :, None]
        # One axis for joints and channels: the mean over a middle axis of three is fast.
        x_BTC = x_NTVC.float().reshape(n * NUM_QUARTERS, t // NUM_QUARTERS, -1)
        means_NPC = x_BTC.mean(dim=1).view(n, NUM_QUARTERS * v, -1)
        features_NC = means_NPC.mean(dim=1)
        places = features_NC if self.pooled else means_NPC.flatten(0, 1)
        learned_NE = self.project(places.to(self.body)).float().view(n, -1)
        learned_NE = learned_NE / learned_NE.norm(dim=1, keepdim=True).clamp(min=1e-12)
        parts = [learned_NE, self.aligned_joints(windows)]
        if self.cohort is not None:
            parts.append(self.cohort_distance(self.cohort(learned_NE.to(self.body)).float()))
        return torch.cat(parts, dim=1), features_NC


class _Block(nn.Module):
    """An EncodingBlock: rows of t frames of v joints -> rows of fewer frames, and their number."""

    def __init__(self, block: EncodingBlock) -> None:
        super().__init__()
        self.attention = _Attention(block.agcn)
        self.temporal = _Temporal(block.tcn)
        residual = block.residual
        self.shortcut = None if isinstance(residual, nn.Identity) else _convolution(*cast(nn.Sequential, residual))

    def forward(self, x_RC: Tensor, t: int, v: int, importance_NV: Tensor | None) -> tuple[Tensor, int]:
        mixed_NTVC = self.attention(x_RC, v).view(-1, t, v, self.temporal.channels)
        if importance_NV is not None:
            mixed_NTVC = mixed_NTVC * importance_NV[:, None, :, None].to(x_RC.dtype)
        out_NCTV = self.temporal(mixed_NTVC.permute(0, 3, 1, 2))
        # ONNX Runtime convolves in a layout of its own: what is not a convolution comes after the way back.
        if self.shortcut is None:
            return torch.relu(_rows(out_NCTV) + x_RC), t
        out_NCTV = torch.relu(out_NCTV + self.shortcut(x_RC.view(-1, t, v, x_RC.shape[1]).permute(0, 3, 1, 2)))
        return _rows(out_NCTV), out_NCTV.shape[2]


class _Attention(nn.Module):
    """A SpatialAttentionGC."""

    own_HVI: Tensor
    topology_JV: Tensor

    def __init__(self, layer: SpatialAttentionGC) -> None:
        super().__init__()
        to_q, to_k = layer.to_qk.weight.chunk(2)
        scale = layer.head_channels**-0.5
        bias = layer.to_qk.bias.chunk(2)[0] + to_q @ layer.norm.bias
        self.to_q = _linear(to_q * layer.norm.weight * scale, bias * scale)
        # A bias of k would add the same to all scores of a joint: softmax takes it away.
        self.to_k = _linear(to_k * layer.norm.weight, torch.zeros(len(to_k)))
        self.channels = len(to_k)
        # With the other heads' channels of k at zero, one product of all channels gives the scores of every head, joint
        # before head: the mixed joints of all heads then lie side by side, and nothing is turned.
        own_HI = torch.eye(NUM_HEADS).repeat_interleave(layer.head_channels, dim=1)
        topology_HVV = layer.shared_topology
        self.register_buffer("own_HVI", own_HI.repeat(1, topology_HVV.shape[1]))
        self.register_buffer("topology_JV", topology_HVV.transpose(0, 1).flatten(0, 1))
        heads = [cast(nn.Conv2d, head) for head in layer.conv_d]
        weight = torch.cat([head.weight.flatten(1) for head in heads], dim=1)
        bias = torch.stack([cast(Tensor, head.bias) for head in heads]).sum(dim=0)
        self.heads = _linear(*_normalized(weight, bias, layer.bn))
        down = layer.down
        self.shortcut = down if isinstance(down, nn.Identity) else _linear(*_folded(*cast(nn.Sequential, down)))

    def forward(self, x_RC: Tensor, v: int) -> Tensor:
        c = x_RC.shape[1]
        normed = nn.functional.layer_norm(x_RC.float(), (c,)).to(x_RC.dtype)
        q_FVI = self.to_q(normed).view(-1, v, self.channels)
        k_FJI = (self.to_k(normed).view(-1, 1, v * self.channels) * self.own_HVI).view(-1, NUM_HEADS * v, self.channels)
        scores_FJV = (q_FVI @ k_FJI.transpose(1, 2)).view(-1, v * NUM_HEADS, v)
        shares_FJV = scores_FJV.float().softmax(dim=-1).to(x_RC.dtype) * self.topology_JV
        mixed = shares_FJV @ x_RC.view(-1, v, c)
        return torch.relu(self.heads(mixed.view(-1, NUM_HEADS * c)) + self.shortcut(x_RC))


class _Temporal(nn.Module):
    """A MultiScaleTCN: (N, C, T, V) -> (N, C, T', V)."""

    def __init__(self, layer: MultiScaleTCN) -> None:
        super().__init__()
        branches = [cast(nn.Sequential, branch) for branch in layer.branches]
        dilated_1, dilated_2, pooled, _ = branches
        self.entries = nn.ModuleList(_convolution(branch[0], branch[1]) for branch in branches)
        self.dilated = nn.ModuleList(_convolution(branch[3], branch[4]) for branch in (dilated_1, dilated_2))
        self.pool = pooled[3]
        scale, shift = _affine(pooled[4])
        self.scale = nn.Conv2d(len(scale), len(scale), 1, groups=len(scale))
        self.scale.weight, self.scale.bias = nn.Parameter(scale.view(-1, 1, 1, 1)), nn.Parameter(shift)
        self.channels = 4 * len(scale)

    def forward(self, x_NCTV: Tensor) -> Tensor:
        first, second, third, fourth = (torch.relu(entry(x_NCTV)) for entry in self.entries)
        outs = [conv(x) for conv, x in zip(self.dilated, (first, second), strict=True)]
        outs.append(self.scale(self.pool(third)))
        return torch.cat((*[torch.relu(out) for out in outs], fourth), dim=1)


def _rows(x_NCTV: Tensor) -> Tensor:
    return x_NCTV.permute(0, 2, 3, 1).flatten(0, 2)


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the factor and the summand (C,) that a batch normalization is in evaluation."""
    norm = cast(nn.BatchNorm1d, norm)
    scale = norm.weight / (cast(Tensor, norm.running_var) + norm.eps).sqrt()
    return scale, norm.bias - cast(Tensor, norm.running_mean) * scale


def _normalized(weight: Tensor, bias: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weight (C, ...) and bias (C,) of a layer with the batch normalization that follows it."""
    scale, shift = _affine(norm)
    return weight * scale.view(-1, *[1] * (weight.ndim - 1)), bias * scale + shift


def _folded(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return a 1x1 convolution and its batch normalization as weight (C', C) and bias (C',) of a product."""
    return _normalized(conv.weight.flatten(1), cast(Tensor, conv.bias), norm)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight, linear.bias = nn.Parameter(weight.clone()), nn.Parameter(bias)
    return linear


def _convolution(conv: nn.Module, norm: nn.Module) -> nn.Conv2d:
    conv = cast(nn.Conv2d, conv)
    weight, bias = _normalized(conv.weight, cast(Tensor, conv.bias), norm)
    folded = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        cast(tuple[int, int], conv.kernel_size),
        stride=cast(tuple[int, int], conv.stride),
        padding=cast(tuple[int, int], conv.padding),
        dilation=cast(tuple[int, int], conv.dilation),
    )
    folded.weight, folded.bias = nn.Parameter(weight), nn.Parameter(bias)
    return folded
