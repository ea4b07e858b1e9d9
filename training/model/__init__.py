"""The network as the paper has it: an encoder, JID and the cross-modal branch."""

from training.model.contrast import Speaker, contrast_loss, sentences
from training.model.crossglg import (
    NUM_QUARTERS,
    CrossModalInteraction,
    Guidance,
    GuidanceConfig,
    SkeletonBranch,
    calibration_loss,
    fixed_calibration_loss,
    merge_key_joints,
    quarters,
)
from training.model.ctr_gcn import CTRGCN, CTRGCNConfig
from training.model.encoder import EncoderConfig, SkeletonEncoder
from training.model.hd_gcn import HDGCN, HDGCNChoices, HDGCNConfig
from training.model.infogcn import (
    NUM_HEADS,
    BoneTree,
    EncodingBlock,
    InfoGCN,
    InfoGCNConfig,
    InitialWeights,
    Input,
    MultiScaleTCN,
    SpatialAttentionGC,
    joint_inputs,
)
from training.model.motionbert import MotionBERT, MotionBERTChoices, MotionBERTConfig
from training.model.pretrained import load_pretrained
from training.model.whitening import whitening

__all__ = [
    "CTRGCN",
    "HDGCN",
    "NUM_HEADS",
    "NUM_QUARTERS",
    "BoneTree",
    "CTRGCNConfig",
    "CrossModalInteraction",
    "EncoderConfig",
    "EncodingBlock",
    "Guidance",
    "GuidanceConfig",
    "HDGCNChoices",
    "HDGCNConfig",
    "InfoGCN",
    "InfoGCNConfig",
    "InitialWeights",
    "Input",
    "MotionBERT",
    "MotionBERTChoices",
    "MotionBERTConfig",
    "MultiScaleTCN",
    "SkeletonBranch",
    "SkeletonEncoder",
    "SpatialAttentionGC",
    "Speaker",
    "calibration_loss",
    "contrast_loss",
    "fixed_calibration_loss",
    "joint_inputs",
    "load_pretrained",
    "merge_key_joints",
    "quarters",
    "sentences",
    "whitening",
]
