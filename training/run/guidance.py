"""What an LLM's texts say of some classes, as tensors for training."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from training.model import Guidance
from training.texts import (
    ENCODER,
    PAPER_ENCODER,
    chosen_texts,
    has_text_features,
    read_key_joints,
    read_text_features,
)


def load_guidance(llm: str, classes: Sequence[str], encoder: str = ENCODER) -> Guidance:
    """Read the key joints and the joint texts' embeddings of these classes, in this order.

    `llm`: one whose texts are shipped, a folder, or ANY_SHIPPED; `encoder`: what embedded them. Raises
    DescriptionError, naming the classes without a text and the command that makes them.
    """
    llm = chosen_texts(llm, classes)
    features = read_text_features(llm, classes, encoder)
    return Guidance(
        key_joints_AV=torch.from_numpy(read_key_joints(llm, classes)),
        texts_AVC=torch.from_numpy(features.t_AVC),
        global_AC=torch.from_numpy(features.g_AC),
    )


def text_encoder_at_hand(llm: str, encoder: str) -> str:
    """Return what embedded an LLM's texts: `encoder`, or ENCODER where that is the paper's and nobody ran it."""
    return ENCODER if encoder == PAPER_ENCODER and not has_text_features(llm, encoder) else encoder
