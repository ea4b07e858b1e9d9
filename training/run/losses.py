"""What training minimizes: Eq. 8 of CrossGLG over the loss of InfoGCN's authors.

Shapes: N windows, B = N * persons, V joints, A classes, D the latent's channels, K classes of a batch, E values of an
embedding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor, nn

from training.model import calibration_loss
from training.run import LOSSES, TrainConfig


class Outputs(NamedTuple):
    """Hold what the losses compare; None for a part that is off. With SupCon embeddings (N, E) stand for logits."""

    logits_NA: Tensor
    z_ND: Tensor | None
    importance_BV: Tensor | None
    cross_logits_NA: Tensor | None
    imitated_NE: Tensor | None = None
    spoken_NSP: Tensor | None = None


def smoothed_cross_entropy(logits_NA: Tensor, labels_N: Tensor, smoothing: float, among_NA: Tensor | None) -> Tensor:
    """Return the mean cross-entropy, among the classes `among_NA` (bool) alone where given."""
    if among_NA is None:
        return nn.functional.cross_entropy(logits_NA, labels_N, label_smoothing=smoothing)
    log_share_NA = logits_NA.masked_fill(~among_NA, -torch.inf).log_softmax(dim=1).masked_fill(~among_NA, 0.0)
    right_N = log_share_NA.gather(1, labels_N[:, None])[:, 0]
    mean_N = log_share_NA.sum(dim=1) / among_NA.sum(dim=1)
    return -((1 - smoothing) * right_N + smoothing * mean_N).mean()


def supcon_loss(embeddings_NE: Tensor, labels_N: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss (Khosla et al., NeurIPS 2020, L_out): each window against all others.

    MotionBERT's authors have it times temperature / 0.07, which AdamW undoes.
    """
    loss: Tensor = SupConLoss(temperature=temperature)(embeddings_NE, labels_N)
    return loss


def infogcn_loss(
    logits_NA: Tensor,
    z_ND: Tensor,
    labels_N: Tensor,
    z_prior_AD: Tensor,
    config: TrainConfig,
    among_NA: Tensor | None = None,
) -> Tensor:
    """Return the loss of InfoGCN's authors: smoothed cross-entropy + 0.1 * class-mean MSE + 1e-4 * mean norm."""
    loss = smoothed_cross_entropy(logits_NA, labels_N, config.label_smoothing, among_NA)
    present, inverse = torch.unique(labels_N, return_inverse=True)
    sums = z_ND.new_zeros(len(present), z_ND.shape[1]).index_add_(0, inverse, z_ND)
    means_KD = sums / torch.bincount(inverse)[:, None]
    class_mean = nn.functional.mse_loss(means_KD, z_prior_AD[present])
    mean_norm: Tensor = z_ND.mean(dim=0).norm()
    return loss + config.lambda_class_mean * class_mean + config.lambda_mean_norm * mean_norm


def compute_losses(
    outputs: Outputs,
    labels_N: Tensor,
    z_prior_AD: Tensor | None,
    config: TrainConfig,
    *,
    key_joints_NV: Tensor | None = None,
    among_NA: Tensor | None = None,
    teacher_NE: Tensor | None = None,
    contrast: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return LOSSES: the overall loss (Eq. 8), and its parts before they are weighed; what is off is 0.

    `teacher_NE`: what a teacher makes of the windows, to be imitated: 1 - cosine. `contrast`: the contrast with texts.
    """
    if config.classifier == "supcon":
        skeleton = supcon_loss(outputs.logits_NA, labels_N, config.temperature)
    elif outputs.z_ND is None or z_prior_AD is None:
        skeleton = smoothed_cross_entropy(outputs.logits_NA, labels_N, config.label_smoothing, among_NA)
    else:
        skeleton = infogcn_loss(outputs.logits_NA, outputs.z_ND, labels_N, z_prior_AD, config, among_NA)
    calibrate = cross = imitation = skeleton.new_zeros(())
    if outputs.importance_BV is not None and key_joints_NV is not None:
        num_persons = len(outputs.importance_BV) // len(labels_N)
        key_joints_BV = key_joints_NV.repeat_interleave(num_persons, dim=0)
        calibrate = calibration_loss(outputs.importance_BV, key_joints_BV, config.guidance)
    if outputs.cross_logits_NA is not None and config.classifier == "supcon":
        cross = supcon_loss(outputs.cross_logits_NA, labels_N, config.temperature)
    elif outputs.cross_logits_NA is not None:
        cross = smoothed_cross_entropy(outputs.cross_logits_NA, labels_N, config.cross_smoothing, among_NA)
    if outputs.imitated_NE is not None and teacher_NE is not None:
        imitation = 1 - nn.functional.cosine_similarity(outputs.imitated_NE, teacher_NE).mean()
    if contrast is None:
        contrast = skeleton.new_zeros(())
    guidance = config.guidance
    guided = guidance.alpha_calibrate * calibrate + guidance.alpha_cross * cross + guidance.alpha_contrast * contrast
    overall = skeleton + guided + config.lambda_teacher * imitation
    return dict(zip(LOSSES, (overall, skeleton, calibrate, cross, contrast, imitation), strict=True))
