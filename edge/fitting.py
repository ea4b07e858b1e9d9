"""The classifier of distribution calibration, fitted to the gallery's examples while the daemon goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Event

import numpy as np

from edge.calibration import Classifier, fit
from edge.encoder import Encoder
from edge.gallery_export import LabelledExample
from edge.normalize import window_from_joints

# A decision waits for the encoder while a batch is in it, and a cancelled fit is noticed between two batches.
_BATCH = 4
# 100 labels take 320 MB while they are fitted, and the memory grows with their number.
MAX_LABELS = 100


class Fitting:
    """Fit a classifier in one background thread: 20 labels take a second, 100 half a minute.

    `state` says by what labels are chosen at present, for people.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.state = ""
        self._encoder = encoder
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._fit: Future[Classifier] | None = None
        self._is_outdated = Event()

    def begin(self, examples: Sequence[LabelledExample]) -> None:
        """Fit to these examples and give up what is being fitted."""
        self._give_up()
        num_labels = len({example.label for example in examples})
        if not 2 <= num_labels <= MAX_LABELS:
            self.state = f"calibrated: cosine, as 2 to {MAX_LABELS} labels can be fitted, not {num_labels}"
            return
        self.state = "calibrated: being fitted, cosine until then"
        self._is_outdated = Event()
        self._fit = self._executor.submit(fitted, tuple(examples), self._encoder, self._is_outdated.is_set)

    def take(self) -> Classifier | None:
        """Return the classifier of the newest examples, once, as soon as it is there. Raises what the fit raised."""
        if self._fit is None or not self._fit.done():
            return None
        done, self._fit = self._fit, None
        self.state = "calibrated: it could not be fitted, cosine instead"
        classifier = done.result()
        self.state = "calibrated"
        return classifier

    def close(self) -> None:
        """Give up what is being fitted; wait for it, which takes a fraction of a second."""
        self._give_up()
        self._executor.shutdown()

    def _give_up(self) -> None:
        self._is_outdated.set()
        if self._fit is not None:
            self._fit.cancel()
            self._fit = None


def fitted(
    examples: Sequence[LabelledExample], encoder: Encoder, is_cancelled: Callable[[], bool] = lambda: False
) -> Classifier:
    """Return the classifier of labelled examples; the same examples give the same one. Raises BundleError."""
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
