"""How far two windows are apart: the angle between what the encoder learned, and the best alignment of joints.

Shapes: N, P embeddings, E values of one: first the learned part, of length 1, then F frames of 25 joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.dtw import dtw_distances

Array = npt.NDArray[np.float32]

# A path of the alignment stays within a fifth of the frames of the diagonal.
_BAND_SHARE = 0.2
# How much where a joint moves, seen from where it is on average, counts beside where it is.
_DEVIATION_WEIGHT = 0.7
# Only so many of the nearest by the learned part are aligned: five windows with 10 take 0.3 ms, with 64 0.7 ms.
MAX_ALIGNED = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """Hold embeddings ready for comparison: `learned_ND`, and `frames_NFK`, what alignment compares."""

    learned_ND: Array
    frames_NFK: Array

    def __len__(self) -> int:
        return len(self.learned_ND)


def compared(embeddings_NE: Array, aligned_frames: int) -> Compared:
    """Take embeddings (N, E), float32, apart; `aligned_frames` of 25 joints, x, y, z, are at their end."""
    embeddings_NE = np.asarray(embeddings_NE, np.float32)
    learned, frames = np.split(embeddings_NE, [embeddings_NE.shape[1] - aligned_frames * 75], axis=1)
    places = frames.reshape(len(frames), aligned_frames, 75)
    # A person's stance stays the same through all frames: what deviates from it says more.
    deviations = places - places.mean(axis=1, keepdims=True) if aligned_frames else places
    return Compared(
        learned_ND=np.ascontiguousarray(learned),
        frames_NFK=np.concatenate((places, _DEVIATION_WEIGHT * deviations), axis=2),
    )


def distances_between(a: Compared, b: Compared, alignment_weight: float, *, max_aligned: int | None = None) -> Array:
    """Return how far each of `a` is from each of `b`, shape (N, P): 1 - cosine, and the weighted cost of alignment.

    With `max_aligned`, only so many of `b`, those nearest to any of `a` by the cosine, are aligned; the others
    are infinitely far.
    """
    cosine_NP = np.asarray(1 - a.learned_ND @ b.learned_ND.T, np.float32)
    num_frames = a.frames_NFK.shape[1]
    if not num_frames or not alignment_weight or not cosine_NP.size:
        return cosine_NP
    chosen = np.arange(len(b))
    if max_aligned is not None and max_aligned < len(b):
        chosen = np.argpartition(cosine_NP.min(axis=0), max_aligned)[:max_aligned]
    band = max(1, round(_BAND_SHARE * num_frames))
    costs = dtw_distances(a.frames_NFK, b.frames_NFK[chosen], band=band)
    result = np.full_like(cosine_NP, np.inf)
    result[:, chosen] = cosine_NP[:, chosen] + (alignment_weight / num_frames) * costs
    return result
