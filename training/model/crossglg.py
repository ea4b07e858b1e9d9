"""CrossGLG: a skeleton encoder guided by texts while it learns (Yan et al., ECCV 2024).

Global to local: `JointImportance` (JID) weighs the joints, led by those that the class's global text
names. Local to global: `CrossModalInteraction` (phi) mixes joint texts and joint features, and its
output goes through the skeleton branch's own classifier. Only `SkeletonBranch` is kept.

Shapes: N windows, M persons, B = N * M, T frames, V joints, C channels, P channels of the space that
texts and joints share, A classes, Q quarters of a window, E channels of a place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from streams.layouts import KINECT25_MIRROR, KINECT25_PARENTS
from training.model.encoder import EncoderConfig

NUM_QUARTERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidanceConfig:
    """Name each choice of CrossGLG; what the paper leaves open says so.

    `global_to_local`, `local_to_global`: the two ways of guidance (Table 4). `num_pre`: blocks before
    JID (Table 5). `text_self_attention`: Table 6. `alpha_calibrate`, `alpha_cross`: Eq. 8.
    Open in the paper: `key_joints` "share" aligns JID's softmax with K / sum(K), "binary" with K
    itself; "sigmoid" gives each joint its own sigmoid against K. `calibrate_sum`: Eq. 2 summed over
    joints instead of averaged. `jid_hidden`: JID's hidden channels. `project`: the C x C projection of
    the skeleton branch. `shared_channels`, `num_heads`, `residual`: phi's.
    Ours: `alpha_contrast` weighs `contrast_loss`, 0 leaves it out; `contrast_temperature` is its.
    """

    global_to_local: bool = True
    local_to_global: bool = True
    num_pre: int = 5
    text_self_attention: bool = True
    num_interactions: int = 3
    alpha_calibrate: float = 0.5
    alpha_cross: float = 0.2
    key_joints: Literal["share", "binary", "sigmoid"] = "binary"
    calibrate_sum: bool = False
    jid_hidden: int = 128
    project: bool = True
    shared_channels: int = 256
    num_heads: int = 8
    residual: bool = True
    alpha_contrast: float = 0.0
    contrast_temperature: float = 0.1

    def __post_init__(self) -> None:
        if self.num_pre < 1:
            raise ValueError(f"num_pre is {self.num_pre}: expected 1 to the number of the encoder's blocks")
        if self.shared_channels % self.num_heads:
            raise ValueError(f"shared_channels {self.shared_channels} is not a multiple of num_heads {self.num_heads}")
        if self.contrast_temperature <= 0 or self.alpha_contrast < 0:
            raise ValueError("expected a contrast_temperature above 0, and an alpha_contrast of 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guidance:
    """Hold what the texts say of each class.

    `key_joints_AV`: 0 or 1; `texts_AVC`: one embedding a joint; `global_AC`: of the global text.
    """

    key_joints_AV: Tensor
    texts_AVC: Tensor
    global_AC: Tensor

    def to(self, device: torch.device) -> Guidance:
        """Return it on a device."""
        return Guidance(
            key_joints_AV=self.key_joints_AV.to(device),
            texts_AVC=self.texts_AVC.to(device),
            global_AC=self.global_AC.to(device),
        )

    def permute(self, seed: int) -> Guidance:
        """Return it with the texts of another class for each class: what guides then, but by no meaning."""
        order = torch.randperm(len(self.key_joints_AV), generator=torch.Generator().manual_seed(seed))
        # One circle through all classes: none keeps its own.
        of_A = torch.empty_like(order)
        of_A[order] = order.roll(1)
        return Guidance(
            key_joints_AV=self.key_joints_AV[of_A], texts_AVC=self.texts_AVC[of_A], global_AC=self.global_AC[of_A]
        )


class SkeletonBranch(nn.Module):
    """The branch that is kept: encoder, JID, projection, and the head that gives the embedding."""

    def __init__(self, encoder: EncoderConfig, guidance: GuidanceConfig, *, place_channels: int = 32) -> None:
        super().__init__()
        self.guidance = guidance
        self.encoder = encoder.make()
        channels, num_blocks = self.encoder.num_features, self.encoder.num_blocks
        if guidance.num_pre > num_blocks:
            raise ValueError(f"num_pre is {guidance.num_pre}: expected 1 to {num_blocks}, the encoder's blocks")
        pre = self.encoder.channels_after(guidance.num_pre)
        self.jid = JointImportance(pre, guidance) if guidance.global_to_local else None
        self.project: nn.Module = nn.Linear(channels, channels) if guidance.project else nn.Identity()
        self.place = nn.Linear(channels, place_channels)

    def features(
        self, x_NMTVC: Tensor, watch: Callable[[int, Tensor], None] = lambda number, x_BCTV: None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the last block's features (B, C, T', V) and the joints' importance (B, V), if there is JID.

        `watch` gets each block's number and what it takes, (B, C, T, V).
        """
        x = self.encoder.embed_joints(x_NMTVC)
        importance_BV = None
        for number in range(self.encoder.num_blocks):
            if number == self.guidance.num_pre and self.jid is not None:
                importance_BV = self.jid(x)
            watch(number, x)
            x = self.encoder.run_block(number, x, importance_BV)
        if self.guidance.num_pre == self.encoder.num_blocks and self.jid is not None:
            # Nothing comes after the last block: the weights go on its output (Table 5, Npre = 9).
            importance_BV = self.jid(x)
            x = x * importance_BV[:, None, None, :].to(x.dtype)
        return x, importance_BV

    def pool(self, features_BCTV: Tensor) -> Tensor:
        """Return the paper's f_out of the skeleton branch, shape (B, C)."""
        pooled: Tensor = self.project(features_BCTV.mean(dim=(2, 3)))
        return pooled

    def to_classify(self, features_BCTV: Tensor) -> Tensor:
        """Return what the encoder's own classifier takes, before persons are averaged: (B, C), or (B, V * C)."""
        if self.encoder.averages_joints:
            return self.pool(features_BCTV)
        joints_BVC: Tensor = self.project(features_BCTV.mean(dim=2).transpose(1, 2))
        return joints_BVC.flatten(1)

    def places(self, features_BCTV: Tensor) -> Tensor:
        """Return each joint's features in each quarter of the window, shape (B, Q * V, E)."""
        places: Tensor = self.place(quarters(features_BCTV))
        return places


def quarters(features_BCTV: Tensor) -> Tensor:
    """Return the features averaged over each quarter of the time, shape (B, Q * V, C)."""
    b, c, t, v = features_BCTV.shape
    means = features_BCTV.reshape(b, c, NUM_QUARTERS, t // NUM_QUARTERS, v).mean(dim=3)
    return means.permute(0, 2, 3, 1).reshape(b, NUM_QUARTERS * v, c)


class JointImportance(nn.Module):
    """JID: two linear layers and a softmax over the joints, from features averaged over time (paper, 3.4)."""

    def __init__(self, channels: int, config: GuidanceConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, config.jid_hidden), nn.ReLU(), nn.Linear(config.jid_hidden, 1))
        self.sigmoid = config.key_joints == "sigmoid"

    def forward(self, x_BCTV: Tensor) -> Tensor:
        """Return k_out, shape (B, V), float32, 0 to 1."""
        scores_BV: Tensor = self.layers(x_BCTV.mean(dim=2).transpose(1, 2))[..., 0].float()
        return scores_BV.sigmoid() if self.sigmoid else scores_BV.softmax(dim=1)


def merge_key_joints(key_joints_N25: Tensor, joints: Sequence[int]) -> Tensor:
    """Return kinect25's key joints as an encoder's own, shape (N, V): hands that it does not see count as wrists.

    A joint that the encoder does not see goes to the nearest one towards the spine that it does.
    """
    own_25 = []
    for joint in range(len(KINECT25_PARENTS)):
        seen = joint
        while seen not in joints:
            seen = KINECT25_PARENTS[seen]
        own_25.append(list(joints).index(seen))
    merged_NV = key_joints_N25.new_zeros(len(key_joints_N25), len(joints))
    merged_NV.index_add_(1, torch.tensor(own_25, device=merged_NV.device), key_joints_N25)
    return merged_NV.clamp(max=1)


def calibration_loss(importance_BV: Tensor, key_joints_BV: Tensor, config: GuidanceConfig) -> Tensor:
    """Return L_calibrate (Eq. 2), the mean over windows.

    A class whose text names no joint, or every one, says nothing about where to look: it counts zero.
    """
    num_keys_B1 = key_joints_BV.sum(dim=1, keepdim=True)
    guided_B1 = (num_keys_B1 > 0) & (num_keys_B1 < key_joints_BV.shape[1])
    target = key_joints_BV / num_keys_B1.clamp(min=1) if config.key_joints == "share" else key_joints_BV
    error = (importance_BV - target).square() * guided_B1
    return error.sum() / len(error) if config.calibrate_sum else error.mean()


def fixed_calibration_loss(key_joints_AV: Tensor, config: GuidanceConfig) -> float:
    """Return the least L_calibrate of weights that are the same for all classes: JID that ends above it learned none.

    Mirrored windows count half, and each class alike.
    """
    both_BV = torch.cat([key_joints_AV, key_joints_AV[:, KINECT25_MIRROR.tolist()]])
    target_BV = both_BV / both_BV.sum(dim=1, keepdim=True).clamp(min=1) if config.key_joints == "share" else both_BV
    best_V = target_BV.mean(dim=0)
    if config.key_joints == "binary":
        best_V = _nearest_shares(best_V)
    return float(calibration_loss(best_V.expand_as(both_BV), both_BV, config))


def _nearest_shares(wanted_V: Tensor) -> Tensor:
    """Return the nearest point, shape (V,), that a softmax can reach: not negative, and 1 in sum."""
    falling_V = wanted_V.sort(descending=True).values
    over_V = (falling_V.cumsum(dim=0) - 1) / torch.arange(1, len(wanted_V) + 1)
    return (wanted_V - over_V[int((falling_V > over_V).sum()) - 1]).clamp(min=0)


class CrossModalInteraction(nn.Module):
    """phi: joint texts ask, joint features answer (Eq. 3 to 5); used in training only."""

    def __init__(self, text_channels: int, channels_in: int, channels_out: int, config: GuidanceConfig) -> None:
        super().__init__()
        shared = config.shared_channels
        self.from_text = _mlp(text_channels, shared)
        self.from_joints = _mlp(channels_in, shared)
        self.interactions = nn.ModuleList(Interaction(config) for _ in range(config.num_interactions))
        self.back = nn.Linear(shared, channels_out)

    def forward(self, joints_NVC: Tensor, texts_NVC: Tensor) -> Tensor:
        """Return each joint's mixed features in the skeleton branch's space, (N, V, C), from means over time."""
        text, mixed = self.from_text(texts_NVC), self.from_joints(joints_NVC)
        for interaction in self.interactions:
            text, mixed = interaction(text, mixed)
        back: Tensor = self.back(mixed)
        return back


class Interaction(nn.Module):
    """One block of phi: text self-attention, text-to-skeleton attention, MLP of their sum."""

    def __init__(self, config: GuidanceConfig) -> None:
        super().__init__()
        shared, heads = config.shared_channels, config.num_heads
        self.within = nn.MultiheadAttention(shared, heads, batch_first=True) if config.text_self_attention else None
        self.across = nn.MultiheadAttention(shared, heads, batch_first=True)
        self.mlp = _mlp(shared, shared)
        self.norms = nn.ModuleList(nn.LayerNorm(shared) for _ in range(3)) if config.residual else None

    def forward(self, text_NVP: Tensor, mixed_NVP: Tensor) -> tuple[Tensor, Tensor]:
        """Return the text and the mixed features of the next block, both (N, V, P)."""
        text = text_NVP
        if self.within is not None:
            text = self._add(0, text, self.within(text, text, text, need_weights=False)[0])
        mixed = self._add(1, mixed_NVP, self.across(text, mixed_NVP, mixed_NVP, need_weights=False)[0])
        total = text + mixed
        return text, self._add(2, total, self.mlp(total))

    def _add(self, number: int, before: Tensor, change: Tensor) -> Tensor:
        if self.norms is None:
            return change
        normed: Tensor = self.norms[number](before + change)
        return normed


def _mlp(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels_in, channels_out), nn.ReLU(), nn.Linear(channels_out, channels_out))
