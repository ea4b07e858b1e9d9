"""The distribution classifier, fitted to the examples of a gallery."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError

import numpy as np

from edge.gallery import LabeledExample
from edge.match.distribution import Classifier, fit
from edge.model import Encoder
from edge.motion import window_from_joints

# A decision waits for the encoder while a batch is in it, and a cancelled fit is noticed between two batches.
_BATCH = 4


def fit_gallery(
    examples: Sequence[LabeledExample], encoder: Encoder, is_cancelled: Callable[[], bool] = lambda: False
) -> Classifier:
    """Return the classifier of labeled examples; the same examples give the same one. Raises BundleError."""
    assert encoder.statistics is not None
    features = []
    for start in range(0, len(examples), _BATCH):
        if is_cancelled():
            raise CancelledError
        batch = examples[start : start + _BATCH]
        windows = [window_from_joints(e.timestamps_s, e.joints_m, encoder.info.num_frames) for e in batch]
        features.append(encoder.encode_with_features(np.stack(windows))[1])
    labels = [example.label for example in examples]
    rng = np.random.default_rng(0)
    return fit(np.concatenate(features), labels, encoder.statistics, rng, is_cancelled=is_cancelled)
