"""MotionBERT's DSTformer as its authors describe it, with its heads for one-shot and for plain recognition.

Source: Walter0807/MotionBERT; Zhu et al., "MotionBERT: A Unified Perspective on Learning Human Motion
Representations", ICCV 2023. Same parameters to the digit, same initialization, and the authors' names for weights, so
that theirs can be read.

Shapes: N windows, M persons, B = N * M, T frames, J joints of the encoder, C channels, H attention heads, D embedding,
A classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from streams.layouts import KINECT25_JOINTS

# Human3.6M's joints in the authors' order, and the kinect25 joint that stands for each. None is a mixture: the hips,
# knees, ankles, shoulders, elbows and wrists are the same, root, belly and neck are the base, middle and top of the
# spine. Kinect has no nose: its Neck, between the top of the spine and Head, takes the nose's place in the chain.
H36M_JOINTS = {
    "root": "SpineBase",
    "rhip": "HipRight", "rkne": "KneeRight", "rank": "AnkleRight",
    "lhip": "HipLeft", "lkne": "KneeLeft", "lank": "AnkleLeft",
    "belly": "SpineMid", "neck": "SpineShoulder", "nose": "Neck", "head": "Head",
    "lsho": "ShoulderLeft", "lelb": "ElbowLeft", "lwri": "WristLeft",
    "rsho": "ShoulderRight", "relb": "ElbowRight", "rwri": "WristRight",
}  # fmt: skip
# The most frames of a window: each has a learned position.
MAX_FRAMES = 243
_EPS = 1e-6
_STD = 0.02
# The largest change at each end of a window, which runs evenly from one to the other. The authors shift by a twentieth
# of an image, in which a person fills about a third: 0.4 of a window's units.
_TURN_RAD, _SCALE, _SHIFT = torch.pi / 18, 0.1, 0.4

SeenJoints = Literal["h36m", "kinect25"]
Head = Literal["embed", "class"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionBERTChoices:
    """Name each choice of MotionBERT; the defaults are the authors' for one-shot recognition.

    `dim`, `depth`, `num_heads`, `mlp_ratio`, `dim_features`: of the DSTformer, whose smaller one, Lite, has `dim` 256
    and `mlp_ratio` 4. `layout`: Human3.6M's 17 joints, or all 25. `hidden`: channels of the head, and of
    the embedding that it gives. `dropout`: of the representation, in training. `scale_range`: the side
    of the square that x and y are seen in, as a multiple of what the window's joints span; drawn from it in training,
    its middle otherwise. `random_move`: turn, scale and shift each window a little in training. `relative_importance`
    (ours): JID's weights act as multiples of their mean over the joints, so that even ones change nothing; False takes
    them as they are, which leaves a seventeenth of spatial attention at first.
    `up`: the axis of windows that is up: y as a device makes them and in images, with x to the body's right; z in those
    of InfoGCN's authors, with x to its left; None: as the run's windows have it.
    """

    dim: int = 512
    depth: int = 5
    num_heads: int = 8
    mlp_ratio: int = 2
    dim_features: int = 512
    layout: SeenJoints = "h36m"
    hidden: int = 2048
    dropout: float = 0.1
    scale_range: tuple[float, float] = (1.0, 3.0)
    random_move: bool = True
    relative_importance: bool = True
    up: Literal["y", "z"] | None = None

    def __post_init__(self) -> None:
        if self.layout not in ("h36m", "kinect25"):
            raise ValueError(f"layout is {self.layout!r}: expected h36m or kinect25")
        for name in ("dim", "depth", "num_heads", "mlp_ratio", "dim_features", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 1 or more")
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is not a multiple of num_heads {self.num_heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: expected 0 to less than 1")
        if not 1 <= self.scale_range[0] <= self.scale_range[1]:
            raise ValueError(f"scale_range is {self.scale_range}: expected two numbers from 1, the smaller one first")


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionBERTConfig(MotionBERTChoices):
    """Say what a MotionBERT is made by: an EncoderConfig.

    `head`: "embed" gives an embedding, for SupCon; "class" gives logits.
    """

    num_classes: int
    num_persons: int = 1
    head: Head = "embed"

    def __post_init__(self) -> None:
        MotionBERTChoices.__post_init__(self)
        if self.head not in ("embed", "class"):
            raise ValueError(f"head is {self.head!r}: expected embed or class")

    @property
    def num_blocks(self) -> int:
        """After how many blocks JID may come, at most."""
        return self.depth

    @property
    def joints(self) -> tuple[int, ...]:
        """The kinect25 joints that the encoder sees, in Human3.6M's order, or all."""
        names = H36M_JOINTS.values() if self.layout == "h36m" else KINECT25_JOINTS
        return tuple(KINECT25_JOINTS.index(name) for name in names)

    def make(self) -> MotionBERT:
        """Return the encoder with fresh weights."""
        return MotionBERT(self)

    def frames_after(self, num_frames: int) -> int:
        """Return how many frames the last block leaves of so many: all. Raises ValueError."""
        if num_frames > MAX_FRAMES:
            raise ValueError(f"windows have {num_frames} frames: expected at most {MAX_FRAMES}")
        return num_frames


class MotionBERT(nn.Module):
    """Embed or classify windows x_NMTVC, float32, shape (N, M, T, 25, 3): a SkeletonEncoder."""

    # The pose head is no part of recognition either.
    classifier_layers: tuple[str, ...] = ("head", "backbone.head")
    averages_joints = False
    lowest_feature = -1.0
    chooses_neighbors = False
    z_prior: None = None
    to_image_2: Tensor

    def __init__(self, config: MotionBERTConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("to_image_2", torch.tensor([1.0, -1.0]), persistent=False)
        self.num_blocks = config.depth
        self.num_features = config.dim_features
        self.embedding_size = config.hidden if config.head == "embed" else 0
        self.joints = config.joints
        self.backbone = DSTformer(config)
        self.dropout = nn.Dropout(config.dropout)
        self.head = ActionHead(config)

    def channels_after(self, num_blocks: int) -> int:
        return self.config.dim_features if num_blocks == self.num_blocks else self.config.dim

    def embed_joints(self, x_NMTVC: Tensor) -> Tensor:
        """Return what the first block takes, shape (B, C, T, J)."""
        n, m, t, *_ = x_NMTVC.shape
        self.config.frames_after(t)  # refuses what is too long
        # In bfloat16 meters would be rounded to 4 mm.
        with torch.autocast(x_NMTVC.device.type, enabled=False):
            seen_NMTJC = self.see(x_NMTVC)
        embedded_BTJC = self.backbone.embed(seen_NMTJC.view(n * m, t, len(self.joints), 3))
        return embedded_BTJC.permute(0, 3, 1, 2)

    def see(self, x_NMTVC: Tensor) -> Tensor:
        """Return what an upright camera in front of the body sees, shape (N, M, T, J, 3): x, y, and a confidence of 1.

        x grows to the right and y down, as in an image, in a square from -1 to 1 around all that the persons of a
        window do; see `scale_range`. A missing person is all zero.
        """
        present_NM = (x_NMTVC != 0).flatten(2).any(dim=2)[..., None, None, None]
        joints_NMTJC = x_NMTVC[..., list(self.joints), :]
        seen = -joints_NMTJC[..., :2] if self.config.up != "z" else joints_NMTJC[..., ::2] * self.to_image_2
        scale_N = torch.full_like(seen[:, 0, 0, 0, 0], sum(self.config.scale_range) / 2)
        if self.training:
            scale_N = scale_N.uniform_(*self.config.scale_range)
            if self.config.random_move:
                seen = move_randomly(seen)
        far = torch.finfo(seen.dtype).max
        lowest = seen.masked_fill(~present_NM, far).amin(dim=(1, 2, 3), keepdim=True)
        highest = seen.masked_fill(~present_NM, -far).amax(dim=(1, 2, 3), keepdim=True)
        side = (highest - lowest).amax(dim=-1, keepdim=True).clamp(min=1e-6) * scale_N.view(-1, 1, 1, 1, 1)
        seen = ((seen - (lowest / 2 + highest / 2)) * (2 / side)).clamp(-1, 1)
        return torch.cat((seen, torch.ones_like(seen[..., :1])), dim=-1) * present_NM

    def run_block(self, number: int, x_BCTV: Tensor, importance_BV: Tensor | None = None) -> Tensor:
        """Return the output of a level, counted from 0; the importance weighs what its joints take from each other.

        The last one's output is normalized, and goes through the layer that the authors call a representation.
        """
        if importance_BV is not None and self.config.relative_importance:
            importance_BV = importance_BV / importance_BV.mean(dim=1, keepdim=True)
        x_BTJC = self.backbone.run_level(number, x_BCTV.permute(0, 2, 3, 1), importance_BV)
        if number == self.num_blocks - 1:
            x_BTJC = self.dropout(self.backbone.represent(x_BTJC))
        return x_BTJC.permute(0, 3, 1, 2)

    def features(self, x_NMTVC: Tensor) -> Tensor:
        """Return the representation, shape (B, C, T, J), -1 to 1."""
        x = self.embed_joints(x_NMTVC)
        for number in range(self.num_blocks):
            x = self.run_block(number, x, None)
        return x

    def attention(self, number: int, x_BCTV: Tensor) -> Tensor:
        """Return how much each joint takes of each, (B, V, V), the mean over frames, heads and both stacks."""
        return self.backbone.looks_at(number, x_BCTV.permute(0, 2, 3, 1)).mean(dim=(1, 2))

    def classify(self, pooled_NC: Tensor) -> tuple[Tensor, None]:
        """Return logits (N, A), or the embedding (N, D) of length 1, of features averaged over time, then persons.

        `pooled_NC` has the channels of each joint side by side, shape (N, V * C). There is no latent.
        """
        return self.head(pooled_NC), None

    def forward(self, x_NMTVC: Tensor) -> Tensor:
        """Return the embedding (N, D) of length 1, or logits (N, A)."""
        joints_BJC = self.features(x_NMTVC).mean(dim=2).transpose(1, 2)
        return self.classify(joints_BJC.unflatten(0, x_NMTVC.shape[:2]).mean(dim=1).flatten(1))[0]


class DSTformer(nn.Module):
    """Two stacks of attention over joints and over time, mixed after each level; weights named as the authors' are."""

    def __init__(self, config: MotionBERTConfig) -> None:
        super().__init__()
        dim, num_joints = config.dim, len(config.joints)
        self.joints_embed = nn.Linear(3, dim)
        self.blocks_st = nn.ModuleList(DSTBlock(config, joints_first=True) for _ in range(config.depth))
        self.blocks_ts = nn.ModuleList(DSTBlock(config, joints_first=False) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim, eps=_EPS)
        self.pre_logits = nn.Sequential()
        self.pre_logits.add_module("fc", nn.Linear(dim, config.dim_features))
        self.pre_logits.add_module("act", nn.Tanh())
        # Gives joints in space, for which the authors train it first; no action needs it.
        self.head = nn.Linear(config.dim_features, 3).requires_grad_(False)
        self.temp_embed = nn.Parameter(torch.empty(1, MAX_FRAMES, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, num_joints, dim))
        self.ts_attn = nn.ModuleList(nn.Linear(2 * dim, 2) for _ in range(config.depth))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=_STD)
                nn.init.zeros_(layer.bias)
        for position in (self.temp_embed, self.pos_embed):
            nn.init.trunc_normal_(position, std=_STD)
        for share in self.ts_attn:
            # Both stacks count alike at first.
            nn.init.zeros_(cast(nn.Linear, share).weight)
            nn.init.constant_(cast(nn.Linear, share).bias, 0.5)

    def embed(self, x_BTJC: Tensor) -> Tensor:
        """Return each joint's embedding with its learned positions, shape (B, T, J, C), from x, y, confidence."""
        embedded: Tensor = self.joints_embed(x_BTJC) + self.pos_embed[:, None] + self.temp_embed[:, : x_BTJC.shape[1]]
        return embedded

    def run_level(self, number: int, x_BTJC: Tensor, importance_BJ: Tensor | None) -> Tensor:
        """Return the two stacks' outputs in the shares that the level gives them, shape (B, T, J, C)."""
        joints_first = self.blocks_st[number](x_BTJC, importance_BJ)
        time_first = self.blocks_ts[number](x_BTJC, importance_BJ)
        shares = self.ts_attn[number](torch.cat((joints_first, time_first), dim=-1)).softmax(dim=-1)
        mixed: Tensor = joints_first * shares[..., :1] + time_first * shares[..., 1:]
        return mixed

    def looks_at(self, number: int, x_BTJC: Tensor) -> Tensor:
        """Return the attention over joints in a level, the mean of both stacks, shape (B, T, H, J, J)."""
        stacks = [cast(DSTBlock, blocks[number]).looks_at(x_BTJC) for blocks in (self.blocks_st, self.blocks_ts)]
        return torch.stack(stacks).mean(dim=0)

    def represent(self, x_BTJC: Tensor) -> Tensor:
        """Return the representation, shape (B, T, J, C), -1 to 1."""
        represented: Tensor = self.pre_logits(self.norm(x_BTJC))
        return represented


class DSTBlock(nn.Module):
    """Attention over joints and over time, each with an MLP after it, in one order or the other."""

    def __init__(self, config: MotionBERTConfig, *, joints_first: bool) -> None:
        super().__init__()
        self.joints_first = joints_first
        dim = config.dim
        self.norm1_s, self.norm1_t, self.norm2_s, self.norm2_t = (nn.LayerNorm(dim, eps=_EPS) for _ in range(4))
        self.attn_s, self.attn_t = (Attention(dim, config.num_heads) for _ in range(2))
        self.mlp_s, self.mlp_t = (MLP(dim, dim * config.mlp_ratio) for _ in range(2))

    def forward(self, x_BTJC: Tensor, importance_BJ: Tensor | None = None) -> Tensor:
        """Return the block's output; `importance_BJ` weighs the joints' attention (CrossGLG, Eq. 1).

        It acts before the sum: a factor on the sum itself would be undone by the next layer normalization.
        """
        if self.joints_first:
            return self._over_time(self._over_joints(x_BTJC, importance_BJ))
        return self._over_joints(self._over_time(x_BTJC), importance_BJ)

    def looks_at(self, x_BTJC: Tensor) -> Tensor:
        """Return the attention over joints, shape (B, T, H, J, J)."""
        return self.attn_s.attention(self.norm1_s(x_BTJC if self.joints_first else self._over_time(x_BTJC)))

    def _over_joints(self, x_BTJC: Tensor, importance_BJ: Tensor | None) -> Tensor:
        change = self.attn_s(self.norm1_s(x_BTJC))
        if importance_BJ is not None:
            change = change * importance_BJ[:, None, :, None].to(change.dtype)
        x_BTJC = x_BTJC + change
        changed: Tensor = x_BTJC + self.mlp_s(self.norm2_s(x_BTJC))
        return changed

    def _over_time(self, x_BTJC: Tensor) -> Tensor:
        x_BTJC = x_BTJC + self.attn_t(self.norm1_t(x_BTJC).transpose(1, 2)).transpose(1, 2)
        changed: Tensor = x_BTJC + self.mlp_t(self.norm2_t(x_BTJC))
        return changed


class Attention(nn.Module):
    """Multi-head self-attention over the third axis of (B, X, Y, C)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BXYC: Tensor) -> Tensor:
        """Return the same shape."""
        # The exporter knows it with four axes alone.
        q, k, v = (part.flatten(0, 1) for part in self._heads(x_BXYC))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).unflatten(0, x_BXYC.shape[:2])
        projected: Tensor = self.proj(mixed.transpose(2, 3).flatten(3))
        return projected

    def attention(self, x_BXYC: Tensor) -> Tensor:
        """Return how much each of Y (fourth axis) takes of each (last axis), shape (B, X, H, Y, Y)."""
        q, k, _ = self._heads(x_BXYC)
        attention: Tensor = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)
        return attention

    def _heads(self, x_BXYC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x_BXYC).unflatten(-1, (3, self.num_heads, -1)).permute(3, 0, 1, 4, 2, 5).unbind(0)
        return q, k, v


class MLP(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape."""
        changed: Tensor = self.fc2(nn.functional.gelu(self.fc1(x)))
        return changed


class ActionHead(nn.Module):
    """What the authors put on the representation: an embedding of length 1, or logits through a hidden layer."""

    def __init__(self, config: MotionBERTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(len(config.joints) * config.dim_features, config.hidden)
        self.bn = nn.BatchNorm1d(config.hidden) if config.head == "class" else None
        self.fc2 = nn.Linear(config.hidden, config.num_classes) if config.head == "class" else None

    def forward(self, joints_NC: Tensor) -> Tensor:
        """Return the embedding (N, D), or logits (N, A), from the representation of all joints."""
        hidden = self.fc1(joints_NC)
        if self.bn is None or self.fc2 is None:
            return nn.functional.normalize(hidden, dim=1)
        logits: Tensor = self.fc2(torch.relu(self.bn(hidden)))
        return logits


def move_randomly(seen_NMTJC: Tensor) -> Tensor:
    """Turn, scale and shift x and y of each window by what runs evenly from one random change to another."""
    n, _, t, *_ = seen_NMTJC.shape
    ends_N42 = torch.empty(n, 4, 2, device=seen_NMTJC.device).uniform_(-1, 1)
    way_T = torch.linspace(0, 1, t, device=seen_NMTJC.device)
    angle, scale, right, down = (ends_N42[..., :1] * (1 - way_T) + ends_N42[..., 1:] * way_T).unbind(1)
    cos, sin = (1 + _SCALE * scale) * (_TURN_RAD * angle).cos(), (1 + _SCALE * scale) * (_TURN_RAD * angle).sin()
    turn_NT22 = torch.stack((torch.stack((cos, sin), dim=-1), torch.stack((-sin, cos), dim=-1)), dim=-2)
    shift_NT2 = _SHIFT * torch.stack((right, down), dim=-1)
    return seen_NMTJC @ turn_NT22[:, None] + shift_NT2[:, None, :, None]
