"""What a language model says of actions and joints, and what the encoder is guided by: embeddings and key joints."""

from training.texts.describe import ANY_SHIPPED, Description, available_llms, chosen_texts, read_descriptions, slug
from training.texts.features import (
    ENCODER,
    PAPER_ENCODER,
    embed_sentences,
    has_text_features,
    read_text_features,
    write_text_features,
)
from training.texts.key_joints import read_key_joints, write_key_joints
from training.texts.llm import Chat, describe_actions

__all__ = [
    "ANY_SHIPPED",
    "ENCODER",
    "PAPER_ENCODER",
    "Chat",
    "Description",
    "available_llms",
    "chosen_texts",
    "describe_actions",
    "embed_sentences",
    "has_text_features",
    "read_descriptions",
    "read_key_joints",
    "read_text_features",
    "slug",
    "write_key_joints",
    "write_text_features",
]
