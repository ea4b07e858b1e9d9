"""How far two windows are apart: by learned angle, by the best alignment of joints, and by how common each is.

Shapes: N, P embeddings, E values of one: first the learned part, of length 1, then F frames of 25 joints, then, with
a cohort, the distance to it; D values of the learned part, K directions in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edge.model import BundleInfo
from edge.motion import dtw_distances
from streams.arrays import Array, Mask

# A path of the alignment stays within a fifth of the frames of the diagonal.
_BAND_SHARE = 0.2
# How much where a joint moves, seen from where it is on average, counts beside where it is.
_DEVIATION_WEIGHT = 0.7
# Only so many of the nearest by the learned part are aligned: five windows with 10 take 0.3 ms, with 64 0.7 ms.
MAX_ALIGNED = 64
# Of more prototypes, the near ones are sought along a few directions first, in a tenth of the time and without a
# second copy of all. By the cosine there, not the product, for some clips lie mostly in other directions: among
# 60,000 blends of real clips these 512 then hold 99.6 % of the 64 nearest, and the nearest always.
_MAX_FEW = 1024
_NUM_NEAR = 512
_NUM_DIRECTIONS = 128
# So many prototypes tell the strongest directions of all.
_NUM_SAMPLED = 512
_BLOCK = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """Hold embeddings ready for comparison: `learned_ND`, `frames_NFK`, what alignment compares, and `cohort_N`.

    `has_frames_N`: not of what was made of words, whose frames are NaN in the embedding and zeros here.
    """

    learned_ND: Array
    frames_NFK: Array
    has_frames_N: Mask
    cohort_N: Array

    def __len__(self) -> int:
        return len(self.learned_ND)


def take_apart(embeddings_NE: Array, aligned_frames: int, *, has_cohort: bool = False) -> Parts:
    """Take embeddings (N, E), float32, apart; `aligned_frames` of 25 joints, x, y, z, come after the learned part."""
    embeddings_NE = np.asarray(embeddings_NE, np.float32)
    end = embeddings_NE.shape[1] - has_cohort
    learned, frames, cohort = np.split(embeddings_NE, [end - aligned_frames * 75, end], axis=1)
    has_frames_N: Mask = np.asarray(np.isfinite(frames[:, :1]).all(axis=1))
    if not has_frames_N.all():
        frames = np.where(has_frames_N[:, None], frames, np.float32(0))
    places = frames.reshape(len(frames), aligned_frames, 75)
    # A person's stance stays the same through all frames: what deviates from it says more.
    deviations = places - places.mean(axis=1, keepdims=True) if aligned_frames else places
    return Parts(
        learned_ND=np.ascontiguousarray(learned),
        frames_NFK=np.concatenate((places, _DEVIATION_WEIGHT * deviations), axis=2),
        has_frames_N=has_frames_N,
        cohort_N=cohort.sum(axis=1),
    )


def distances_between(
    a: Parts, b: Parts, alignment_weight: float, cohort_weight: float = 0.0, *, max_aligned: int | None = None
) -> Array:
    """Return how far each of `a` is from each of `b`, shape (N, P): 1 - cosine, and the weighted cost of alignment.

    With `cohort_weight`, more of it the nearer both lie to what many actions have in common: adaptive symmetric
    score normalization, as speaker verification has it (Matejka et al., Interspeech 2017), here by the distance to
    a cohort of known actions. With `max_aligned`, only so many of `b`, those nearest to any of `a` by the cosine, are
    aligned; the others are infinitely far. What has no frames is compared without alignment.
    """
    cosine_NP = np.asarray(1 - a.learned_ND @ b.learned_ND.T, np.float32)
    if cohort_weight:
        # 2 x the weight: what is as far from the cohort as anything can be loses nothing.
        cosine_NP += cohort_weight * (2 - a.cohort_N[:, None] - b.cohort_N[None])
    num_frames = a.frames_NFK.shape[1]
    if not num_frames or not alignment_weight or not cosine_NP.size:
        return cosine_NP
    chosen = np.arange(len(b))
    if max_aligned is not None and max_aligned < len(b):
        chosen = np.argpartition(cosine_NP.min(axis=0), max_aligned)[:max_aligned]
    band = max(1, round(_BAND_SHARE * num_frames))
    costs = dtw_distances(a.frames_NFK, b.frames_NFK[chosen], band=band)
    if not (a.has_frames_N.all() and b.has_frames_N[chosen].all()):
        costs = np.where(a.has_frames_N[:, None] & b.has_frames_N[chosen], costs, np.float32(0))
    result = np.full_like(cosine_NP, np.inf)
    result[:, chosen] = cosine_NP[:, chosen] + (alignment_weight / num_frames) * costs
    return result


class Comparison(Protocol):
    """Tell how far windows are from each of the prototypes, whose embeddings it was made of."""

    def distances(self, windows_NE: Array) -> Array:
        """Return how far each window is from each prototype, shape (N, P), float32."""


class Prototypes:
    """Hold the embeddings that windows are compared with, ready for it, however many they are."""

    def __init__(self, embeddings: Sequence[Array], info: BundleInfo) -> None:
        """Take embeddings of a bundle's encoder, each of shape (E,), float32; many are not copied."""
        self._embeddings = embeddings
        self._info = info
        self._num_learned = info.num_learned
        self._few = self._pick(range(len(embeddings))) if len(embeddings) <= _MAX_FEW else None
        if self._few is None:
            sampled = np.linspace(0, len(embeddings) - 1, _NUM_SAMPLED).astype(int)
            strongest = np.linalg.svd(self._learned(sampled), full_matrices=False)[2][:_NUM_DIRECTIONS]
            self._directions_DK = np.ascontiguousarray(strongest.T)
            starts = range(0, len(embeddings), _BLOCK)
            blocks = [range(start, min(start + _BLOCK, len(embeddings))) for start in starts]
            along_PK = np.concatenate([_unit(self._learned(block) @ self._directions_DK) for block in blocks])
            self._along_KP = np.ascontiguousarray(along_PK.T)
            self._cohort_P = np.array([e[-1] for e in embeddings], np.float32) if info.cohort_weight else np.float32(0)

    def __len__(self) -> int:
        return len(self._embeddings)

    def distances(self, windows_NE: Array) -> Array:
        """Return how far the embeddings of windows are from each prototype, shape (N, P); inf where it is not near."""
        windows = self._take_apart(windows_NE)
        if self._few is not None:
            return self._distances(windows, self._few)
        result = np.full((len(windows), len(self)), np.inf, np.float32)
        if len(windows):
            likeness_NP = _unit(windows.learned_ND @ self._directions_DK) @ self._along_KP
            likeness_NP += self._info.cohort_weight * (windows.cohort_N[:, None] + self._cohort_P)
            near = np.argpartition(likeness_NP.max(axis=0), -_NUM_NEAR)[-_NUM_NEAR:]
            result[:, near] = self._distances(windows, self._pick(near))
        return result

    def _distances(self, windows: Parts, prototypes: Parts) -> Array:
        info = self._info
        return distances_between(
            windows, prototypes, info.alignment_weight, info.cohort_weight, max_aligned=MAX_ALIGNED
        )

    def _take_apart(self, embeddings_NE: Array) -> Parts:
        return take_apart(embeddings_NE, self._info.aligned_frames, has_cohort=self._info.cohort_weight > 0)

    def _pick(self, chosen: Iterable[int]) -> Parts:
        embeddings = np.array([self._embeddings[i] for i in chosen], np.float32)
        return self._take_apart(embeddings.reshape(len(embeddings), self._info.embedding_size))

    def _learned(self, chosen: Iterable[int]) -> Array:
        return np.stack([self._embeddings[i][: self._num_learned] for i in chosen])


def _unit(vectors_NK: Array) -> Array:
    lengths_N1 = np.sqrt(np.einsum("nk,nk->n", vectors_NK, vectors_NK))[:, None]
    return np.asarray(vectors_NK / np.maximum(lengths_N1, np.finfo(np.float32).tiny), np.float32)
