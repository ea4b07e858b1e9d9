"""InfoGCN laid out the plain way: the reference that speed is measured against.

The architecture of stnoah1/infogcn (Chi et al., CVPR 2022) as most skeleton networks are written:
tensors stay in N, C, T, V order in contiguous memory, attention is worked out frame by frame with
one product per head, every layer is its own convolution. No trick, no handicap: the same function
as training/model/infogcn.py, whose weights `plain_from` of training_speed.py takes over. edge/bench/plain_infogcn.py is
its twin as an ONNX graph, for devices without torch; this one also learns. A test holds the two equal.

Shapes: N windows, M persons, C channels, T frames, V joints, H attention heads, D head channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from streams.layouts import INFOGCN_PARENTS

_BLOCKS = ((64, 1), (64, 1), (64, 1), (128, 2), (128, 1), (128, 1), (256, 2), (256, 1), (256, 1))
_HEADS = 3
_JOINTS = 25


class PlainInfoGCN(nn.Module):
    """Classify windows x_NCTVM, float32, shape (N, 3, T, 25, M)."""

    bones_VV: Tensor

    def __init__(self, num_classes: int, num_persons: int = 1, noise_ratio: float = 0.1) -> None:
        super().__init__()
        self.noise_ratio = noise_ratio
        bones_VV = torch.eye(_JOINTS)
        for joint, parent in enumerate(INFOGCN_PARENTS):
            if joint != parent:
                bones_VV[joint, parent] = -1
        self.register_buffer("bones_VV", bones_VV, persistent=False)
        self.to_joint_embedding = nn.Linear(3, 64)
        self.pos_embedding = nn.Parameter(torch.randn(1, _JOINTS, 64))
        self.data_bn = nn.BatchNorm1d(num_persons * _JOINTS * 64)
        widths = [64, *(channels for channels, _ in _BLOCKS)]
        self.blocks = nn.ModuleList(
            PlainBlock(c_in, c_out, stride) for c_in, (c_out, stride) in zip(widths, _BLOCKS, strict=False)
        )
        self.fc = nn.Linear(256, 256)
        self.fc_mu = nn.Linear(256, 256)
        self.fc_logvar = nn.Linear(256, 256)
        self.decoder = nn.Linear(256, num_classes)

    def forward(self, x_NCTVM: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, num_classes) and the latent z (N, 256), sampled in training."""
        n, _, t, v, m = x_NCTVM.shape
        x = x_NCTVM.permute(0, 4, 2, 3, 1).reshape(n * m * t, v, 3)
        x = torch.einsum("vw,bwc->bvc", self.bones_VV, x)
        x = self.to_joint_embedding(x) + self.pos_embedding
        x = x.view(n, m, t, v, 64).permute(0, 1, 3, 4, 2).reshape(n, m * v * 64, t)
        x = self.data_bn(x).view(n, m, v, 64, t).permute(0, 1, 3, 4, 2).reshape(n * m, 64, t, v)
        for block in self.blocks:
            x = block(x)
        x = x.view(n, m, 256, -1).mean(dim=3).mean(dim=1)
        h = torch.relu(self.fc(x))
        z = self.fc_mu(h)
        if self.training:
            std = (self.noise_ratio * self.fc_logvar(h)).exp().clamp(max=100.0)
            z = z + torch.randn_like(std) * std
        return self.decoder(z), z


class PlainBlock(nn.Module):
    """relu(TCN(GCN(x)) + residual(x)), x of shape (N, C, T, V)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.agcn = PlainGCN(channels_in, channels_out)
        self.tcn = PlainTCN(channels_out, stride)
        self.residual = _shortcut(channels_in, channels_out, stride)

    def forward(self, x_NCTV: Tensor) -> Tensor:
        return torch.relu(self.tcn(self.agcn(x_NCTV)) + self.residual(x_NCTV))


class PlainGCN(nn.Module):
    """Attention over the joints of each frame times a shared topology, then a 1x1 convolution per head."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.head_channels = channels_in // 8
        self.norm = nn.LayerNorm(channels_in)
        self.to_qk = nn.Linear(channels_in, 2 * _HEADS * self.head_channels)
        self.shared_topology = nn.Parameter(torch.eye(_JOINTS).repeat(_HEADS, 1, 1))
        self.conv_d = nn.ModuleList(nn.Conv2d(channels_in, channels_out, 1) for _ in range(_HEADS))
        self.bn = nn.BatchNorm2d(channels_out)
        self.down = _shortcut(channels_in, channels_out, 1)

    def forward(self, x_NCTV: Tensor) -> Tensor:
        n, c, t, v = x_NCTV.shape
        frames_BVC = x_NCTV.permute(0, 2, 3, 1).reshape(n * t, v, c)
        q, k = self.to_qk(self.norm(frames_BVC)).chunk(2, dim=-1)
        q_BHVD, k_BHVD = (y.view(n * t, v, _HEADS, self.head_channels).transpose(1, 2) for y in (q, k))
        scores_BHVV = torch.einsum("bhvd,bhwd->bhvw", q_BHVD, k_BHVD) * self.head_channels**-0.5
        a_BHVV = scores_BHVV.softmax(dim=-1) * self.shared_topology
        out = torch.zeros(())
        for head, conv in enumerate(self.conv_d):
            mixed_BVC = torch.einsum("bvw,bwc->bvc", a_BHVV[:, head], frames_BVC)
            out = out + conv(mixed_BVC.view(n, t, v, c).permute(0, 3, 1, 2).contiguous())
        return torch.relu(self.bn(out) + self.down(x_NCTV))


class PlainTCN(nn.Module):
    """Four temporal branches of a quarter of the channels, one after the other."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        quarter = channels // 4
        self.branches = nn.ModuleList(
            (
                nn.Sequential(*_entry(channels, quarter), *_dilated(quarter, stride, 1)),
                nn.Sequential(*_entry(channels, quarter), *_dilated(quarter, stride, 2)),
                nn.Sequential(
                    *_entry(channels, quarter),
                    nn.MaxPool2d((3, 1), stride=(stride, 1), padding=(1, 0)),
                    nn.BatchNorm2d(quarter),
                ),
                nn.Sequential(nn.Conv2d(channels, quarter, 1, stride=(stride, 1)), nn.BatchNorm2d(quarter)),
            )
        )

    def forward(self, x_NCTV: Tensor) -> Tensor:
        return torch.relu(torch.cat([branch(x_NCTV) for branch in self.branches], dim=1))


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    if channels_in == channels_out and stride == 1:
        return nn.Identity()
    conv = nn.Conv2d(channels_in, channels_out, 1, stride=(stride, 1))
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))


def _entry(channels: int, quarter: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, quarter, 1), nn.BatchNorm2d(quarter), nn.ReLU()]


def _dilated(quarter: int, stride: int, dilation: int) -> list[nn.Module]:
    conv = nn.Conv2d(quarter, quarter, (5, 1), stride=(stride, 1), padding=(2 * dilation, 0), dilation=(dilation, 1))
    return [conv, nn.BatchNorm2d(quarter)]
