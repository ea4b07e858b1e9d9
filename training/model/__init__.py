"""The network as the paper has it: an encoder, JID and the cross-modal branch."""

from training.model.crossglg import (
    NUM_QUARTERS,
    CrossModalInteraction,
    Guidance,
    GuidanceConfig,
    SkeletonBranch,
    calibration_loss,
    quarters,
)
from training.model.ctr_gcn import CTRGCN, CTRGCNConfig
from training.model.encoder import EncoderConfig, SkeletonEncoder
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

__all__ = [
    "CTRGCN",
    "NUM_HEADS",
    "NUM_QUARTERS",
    "BoneTree",
    "CTRGCNConfig",
    "CrossModalInteraction",
    "EncoderConfig",
    "EncodingBlock",
    "Guidance",
    "GuidanceConfig",
    "InfoGCN",
    "InfoGCNConfig",
    "InitialWeights",
    "Input",
    "MultiScaleTCN",
    "SkeletonBranch",
    "SkeletonEncoder",
    "SpatialAttentionGC",
    "calibration_loss",
    "joint_inputs",
    "quarters",
]
