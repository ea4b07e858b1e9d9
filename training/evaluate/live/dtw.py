"""Sliding DTW, the baseline beside the recognizer: the same windows, motion gate and event rules, another distance.

Its threshold is set in two ways. Calibrated, as the recognizer's is: by its false alarms an hour on streams of the sets
that the bundle was calibrated on. Tuned: on the very sets that it is tested on, which is better than a user has.

Shapes: N windows, P prototypes, T frames, D = 75 coordinates of one, V = 25, C = 3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

import msgspec
import numpy as np

from edge.config import Config
from edge.gallery import Prototype
from edge.match import PrototypeIndex
from edge.model import BaseStatistics, BundleInfo, ScoreCurve
from edge.motion import dtw_distances, window_from_movement
from streams.archive import Archive
from streams.arrays import Array
from training.evaluate.live.stream import Stream

# DTW's tuned threshold for a prototype: so many times the distance that one in a hundred windows of background stays
# below. Of one threshold for all, the best is .7 on one archive and 1.1 on another; of these multiples the same one.
DTW_FACTORS = (0.7, 0.8, 0.9, 1.0)
_BACKGROUND_SHARE = 0.01
_NUM_BACKGROUND = 500


class JointsEncoder:
    """Stand in for the encoder where DTW compares: an embedding is a window's joints as SpineBase sees them."""

    def __init__(self, info: BundleInfo, midpoint: float) -> None:
        self.info = msgspec.structs.replace(
            info,
            embedding_size=75 * info.num_frames,
            aligned_frames=0,
            cohort_weight=0.0,
            score_curve=ScoreCurve(midpoint=midpoint, slope=5.0, source="sliding DTW"),
        )
        self.statistics: BaseStatistics | None = None

    def encode(self, windows_NTVC: Array) -> Array:
        return (windows_NTVC - windows_NTVC[:, :, :1]).reshape(len(windows_NTVC), self.info.embedding_size)

    def encode_with_features(self, windows_NTVC: Array) -> tuple[Array, Array]:
        return self.encode(windows_NTVC), np.zeros((len(windows_NTVC), 0), np.float32)


class DtwPrototypes:
    """Compare windows with prototypes by DTW, in a unit of each prototype's own.

    Without a background: how far joints are from where they are on average, by how far the prototype's own go: of
    the forms tried (places, both; no unit, the motion's power 0.5 to 1.25, what 1 to 20 % of the windows of other sets
    stay below) none gave a better F1 on streams of the training sets, but for those that need recordings, which are
    as good. With `background_NE`, embeddings of windows in which nothing enrolled is done, of the tested set itself:
    places, by the distance that one in a hundred of those stays below. `known`: distances (P,) by a window's digest,
    kept from one factor to the next.
    """

    def __init__(
        self,
        embeddings: Sequence[Array],
        info: BundleInfo,
        background_NE: Array | None = None,
        known: dict[bytes, Array] | None = None,
    ) -> None:
        self._num_frames = info.num_frames
        self._is_about_mean = background_NE is None
        self._known = {} if known is None else known
        self._frames_PTD = self._frames(np.reshape(embeddings, (len(embeddings), 75 * info.num_frames)))
        units_P = np.linalg.norm(self._frames_PTD, axis=2).sum(axis=1)
        if background_NE is not None:
            units_P = np.quantile(self._dtw(background_NE), _BACKGROUND_SHARE, axis=0)
        self._units_P = np.maximum(units_P, 1e-6).astype(np.float32)

    def distances(self, windows_NE: Array) -> Array:
        """Return how far windows are from each prototype, shape (N, P)."""
        digests = [hashlib.blake2b(window.tobytes(), digest_size=16).digest() for window in windows_NE]
        new = [i for i, digest in enumerate(digests) if digest not in self._known]
        if new:
            found_NP = self._dtw(windows_NE[new]) / self._units_P
            self._known.update(zip((digests[i] for i in new), found_NP, strict=True))
        return np.stack([self._known[digest] for digest in digests])

    def _frames(self, embeddings_NE: Array) -> Array:
        frames_NTD = embeddings_NE.reshape(len(embeddings_NE), self._num_frames, 75)
        return frames_NTD - frames_NTD.mean(axis=1, keepdims=True) if self._is_about_mean else frames_NTD

    def _dtw(self, windows_NE: Array) -> Array:
        return dtw_distances(self._frames(windows_NE), self._frames_PTD)


def dtw_index(
    prototypes: Sequence[Prototype],
    info: BundleInfo,
    background_NE: Array | None = None,
    known: dict[bytes, Array] | None = None,
) -> PrototypeIndex:
    """Return an index that compares by DTW (see DtwPrototypes), and does all the rest as ever."""
    compare = partial(DtwPrototypes, background_NE=background_NE, known=known)
    return PrototypeIndex(prototypes, info, compare=compare)


def background_of(archive: Archive, stream: Stream, config: Config, num_frames: int) -> Array:
    """Cut windows at random from an archive's clips that are not enrolled, those of other people than the performer.

    Shape (N, T, 25, 3). It is the sensor's own background: better than a device has.
    """
    rng = np.random.default_rng(0)
    clips = [clip for clip in map(archive.__getitem__, range(len(archive))) if clip.label not in stream.enrolled]
    clips = [clip for clip in clips if f"{clip.archive}/{clip.subject}" != stream.group] or clips
    windows = []
    for i in rng.integers(len(clips), size=_NUM_BACKGROUND):
        movement = clips[i].persons[0]
        length = min(len(movement), round(rng.choice(config.windows.lengths_s) * clips[i].fps))
        first = rng.integers(len(movement) - length + 1)
        part = movement.part(slice(first, first + length))
        if part.is_seen:
            windows.append(window_from_movement(part, num_frames))
    return np.stack(windows)
