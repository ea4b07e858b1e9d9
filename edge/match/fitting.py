"""The distribution classifier, fitted to the examples of a gallery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError

import numpy as np

from edge.gallery import Example, Prototype
from edge.match.distribution import Classifier, fit
from edge.model import Encoder, embed_batches

# A decision waits for the encoder while a batch is in it, and a cancelled fit is noticed between two batches.
_BATCH = 4


def fit_gallery(
    examples: Sequence[Example | Prototype], encoder: Encoder, is_cancelled: Callable[[], bool] = lambda: False
) -> Classifier:
    """Return the classifier of labeled examples; the same examples give the same one. Raises BundleError."""
    assert encoder.statistics is not None
    features = []
    movements = [example.movement for example in examples]
    for _, features_NF in embed_batches(encoder, movements, size=_BATCH, with_features=True):
        if is_cancelled():
            raise CancelledError
        features.append(features_NF)
    labels = [example.label for example in examples]
    rng = np.random.default_rng(0)
    return fit(np.concatenate(features), labels, encoder.statistics, rng, is_cancelled=is_cancelled)
