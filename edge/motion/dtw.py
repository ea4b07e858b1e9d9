"""Dynamic time warping between many windows at once: the device's alignment, and the baseline of evaluations.

Shapes: N, K windows, T frames, D features of one frame.
"""

from __future__ import annotations

import numpy as np

from streams.arrays import Array


def dtw_distances(a_NTD: Array, b_KTD: Array, *, band: int = 6, max_pairs: int = 60_000) -> Array:
    """Return the DTW distance of every window in `a` to every window in `b`, shape (N, K), float32.

    The cost of two frames is their Euclidean distance; steps are (1,0), (0,1), (1,1); the path
    stays within `band` frames of the diagonal (Sakoe-Chiba). Work goes cell by cell over many
    pairs at once, `max_pairs` at a time to bound the memory.
    """
    num_a, num_b = len(a_NTD), len(b_KTD)
    # One product gives the squared distance: [-2a, |a|^2, 1] . [b, 1, |b|^2].
    a_sq, b_sq = (a_NTD**2).sum(-1, keepdims=True), (b_KTD**2).sum(-1, keepdims=True)
    left_NTD = np.concatenate([-2 * a_NTD, a_sq, np.ones_like(a_sq)], axis=-1)
    right_KTD = np.concatenate([b_KTD, np.ones_like(b_sq), b_sq], axis=-1)
    left_TDN = np.ascontiguousarray(left_NTD.transpose(1, 2, 0))
    right_TKD = np.ascontiguousarray(right_KTD.transpose(1, 0, 2))
    distances_NK = np.empty((num_a, num_b), np.float32)
    rows = max(1, max_pairs // max(1, num_b))
    for i in range(0, num_a, rows):
        distances_NK[i : i + rows] = _block(left_TDN[:, :, i : i + rows], right_TKD, band).T
    return distances_NK


def _block(left_TDN: Array, right_TKD: Array, band: int) -> Array:
    length, _, num_a = left_TDN.shape
    num_b, num_features = right_TKD.shape[1:]
    # reached[j + 1] is the cost of the best path to frame j of `b`; reached[0] is the start.
    reached = np.full((length + 1, num_b, num_a), np.inf, np.float32)
    reached[0] = 0
    for i in range(length):
        first, last = max(0, i - band), min(length, i + band + 1)
        # One product a frame, not one a cell: small ones wait for BLAS threads on a busy machine.
        cost = right_TKD[first:last].reshape((last - first) * num_b, num_features) @ left_TDN[i]
        cost = cost.reshape(last - first, num_b, num_a)
        np.sqrt(np.maximum(cost, 0, out=cost), out=cost)
        best = np.minimum(reached[first:last], reached[first + 1 : last + 1])
        reached[first] = np.inf
        for j in range(first, last):
            np.minimum(best[j - first], reached[j], out=best[j - first])
            np.add(best[j - first], cost[j - first], out=reached[j + 1])
    return reached[length]
