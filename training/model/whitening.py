"""The strongest directions of features, at like variance: what the device's cosine compares."""

from __future__ import annotations

import torch
from torch import Tensor

# The device compares each joint in each quarter of the window, in its 32 strongest channels.
NUM_CHANNELS = 32
# Channels weaker than this share of the strongest one's variance are not raised to equal weight.
_WHITENING_FLOOR = 0.05


def whitening(covariance_CC: Tensor) -> Tensor:
    """Return the NUM_CHANNELS strongest directions of a covariance, scaled to like variance, shape (C, channels).

    An eigenvector's sign is LAPACK's choice, which differs between machines: here its largest component is positive.
    """
    variances, directions = torch.linalg.eigh(covariance_CC)
    strongest = variances.argsort(descending=True)[:NUM_CHANNELS]
    directions, variances = directions[:, strongest], variances[strongest]
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    scale = largest.sign() / (variances + _WHITENING_FLOOR * variances.max()).sqrt()
    return torch.mul(directions, scale)
