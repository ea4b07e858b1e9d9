"""SL-DML (Memmesheimer et al., ICPR 2020) and Skeleton-DML (WACV 2022): a clip as an image, deep metric learning.

Both share one network and one loss, and differ in how joints become pixels. Source: the authors' repositories,
raphaelmemmesheimer/sl-dml and skeleton-dml. One person becomes one image; how the papers join two is not in their code.

Shapes: N images, L frames of a clip, V = 25 joints, E values of an embedding, A classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from streams.arrays import Array
from streams.errors import CrossGLGError
from training.baselines.resnet import NUM_FEATURES, ResNet18, load_imagenet

Representation = Literal["sl-dml", "skeleton-dml"]
IMAGE_SIZE = 256
_EMBEDDING, _METRIC_SHARE, _MARGIN, _EPSILON = 128, 0.5, 0.2, 0.1


def skeleton_image(joints_LVC: Array, representation: Representation, size: int = IMAGE_SIZE) -> Tensor:
    """Return a clip as an image, shape (3, size, size), 0 to 1: joints down, time across.

    "sl-dml": a pixel's colors are x, y, z. "skeleton-dml": the array (V, 3, L) is read as (V, L, 3) without
    exchanging its axes, so three values of one axis that follow each other become a pixel.
    """
    joints_VCL = torch.from_numpy(joints_LVC).permute(1, 2, 0).contiguous()
    v, c, num_frames = joints_VCL.shape
    pixels = joints_VCL.transpose(1, 2) if representation == "sl-dml" else joints_VCL.view(v, num_frames, c)
    pixels = pixels - pixels.min()
    pixels = pixels / pixels.max().clamp(min=1e-6)
    image_1CHW = pixels.permute(2, 0, 1)[None]
    resized: Tensor = nn.functional.interpolate(
        image_1CHW, (size, size), mode="bilinear", align_corners=False, antialias=True
    )
    return resized[0]


class DeepMetric(nn.Module):
    """Embed images by ResNet-18 and a linear layer; 11,242,176 parameters without the auxiliary classifier."""

    training_only: tuple[str, ...] = ("classifier",)

    def __init__(self, num_classes: int, imagenet: Path | None = None) -> None:
        super().__init__()
        try:
            from pytorch_metric_learning.losses import TripletMarginLoss
            from pytorch_metric_learning.miners import MultiSimilarityMiner
        except ImportError as missing:
            raise CrossGLGError(
                f"SL-DML and Skeleton-DML need a package that is not installed: {missing.name}",
                code="not_installed",
                hint="Install it: pip install 'crossglg-edge[baselines]'",
            ) from missing
        self.trunk = ResNet18()
        if imagenet is not None:
            load_imagenet(self.trunk, imagenet)
        self.embedder = nn.Linear(NUM_FEATURES, _EMBEDDING)
        self.classifier = nn.Linear(_EMBEDDING, num_classes)
        self.triplet = TripletMarginLoss(margin=_MARGIN)
        self.miner = MultiSimilarityMiner(epsilon=_EPSILON)

    def encode(self, x_NCHW: Tensor) -> Tensor:
        """Return the trunk's features, shape (N, 512)."""
        # In this order of memory it takes half the time on a CPU.
        features: Tensor = self.trunk(x_NCHW.contiguous(memory_format=torch.channels_last)).float()
        return features

    def loss(self, features_NC: Tensor, labels_N: Tensor) -> Tensor:
        """Return half the triplet loss of mined pairs and half the cross-entropy of the auxiliary classifier."""
        embedded_NE = self.embedder(features_NC)
        metric: Tensor = self.triplet(embedded_NE, labels_N, self.miner(embedded_NE, labels_N))
        entropy = nn.functional.cross_entropy(self.classifier(embedded_NE), labels_N)
        return _METRIC_SHARE * metric + (1 - _METRIC_SHARE) * entropy

    def embed(self, features_NC: Tensor) -> Tensor:
        """Return embeddings of length 1, shape (N, E)."""
        return nn.functional.normalize(self.embedder(features_NC), dim=1)

    def distances(self, a_AE: Tensor, b_BE: Tensor) -> Tensor:
        """Return Euclidean distances, shape (A, B)."""
        return torch.cdist(a_AE, b_BE)
