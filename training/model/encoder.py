"""What CrossGLG needs of an encoder: "plug and play" (the paper's Fig. 1b).

Shapes: N windows, M persons, B = N * M, C channels, T frames, V the encoder's own joints, A classes.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class SkeletonEncoder(Protocol):
    """Name what JID, phi, training, export and explain use of an encoder, which is an nn.Module.

    `num_blocks`: JID may come after 1 to so many. `num_features`: channels of the last block. `joints`: the kinect25
    joint that each of its own V joints stands for. `classifier_layers`: names of the layers and buffers that
    only `classify` uses; a device has none of them. `averages_joints`: `classify` takes the joints' mean, or else the
    channels of each joint side by side. `embedding_size`: of what `classify` gives in place of logits, for SupCon; 0
    where it gives logits. `lowest_feature`: nothing in the last block's features is below. `chooses_neighbors`: what is
    nearest is looked up, so that rounding may rarely choose another.
    """

    num_blocks: int
    num_features: int
    joints: tuple[int, ...]
    classifier_layers: tuple[str, ...]
    averages_joints: bool
    embedding_size: int
    lowest_feature: float
    chooses_neighbors: bool

    @property
    def config(self) -> EncoderConfig:
        """Return the choices that it was made by."""
        ...

    @property
    def z_prior(self) -> Tensor | None:
        """Return fixed targets (A, C) of the class means of the latent z; None where `classify` returns no z."""
        ...

    def channels_after(self, num_blocks: int) -> int:
        """Return how many channels come out of the first so many blocks."""
        ...

    def embed_joints(self, x_NMTVC: Tensor) -> Tensor:
        """Return what the first block takes, shape (B, C, T, V), of windows (N, M, T, 25, 3)."""
        ...

    def run_block(self, number: int, x_BCTV: Tensor, importance_BV: Tensor | None = None) -> Tensor:
        """Return a block's output; `importance_BV` weighs the features where joints are mixed (CrossGLG, Eq. 1)."""
        ...

    def attention(self, number: int, x_BCTV: Tensor) -> Tensor:
        """Return how much, on average over frames and heads, each joint takes of each in a block, (B, V, V)."""
        ...

    def classify(self, pooled_NC: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return logits (N, A), or an embedding, of features averaged over time and persons, and z, if there is one.

        `pooled_NC`: see `averages_joints`.
        """
        ...


class EncoderConfig(Protocol):
    """Name what training asks of an encoder's choices before there is one."""

    @property
    def num_persons(self) -> int:
        """How many persons a window holds, M."""
        ...

    @property
    def num_blocks(self) -> int:
        """After how many blocks JID may come, at most."""
        ...

    @property
    def joints(self) -> tuple[int, ...]:
        """The kinect25 joints that the encoder sees, in its own order."""
        ...

    def make(self) -> SkeletonEncoder:
        """Return the encoder with fresh weights."""
        ...

    def frames_after(self, num_frames: int) -> int:
        """Return how many frames the last block leaves of so many."""
        ...
