"""Logistic regression in NumPy: scikit-learn's loss, found in fewer and cheaper steps.

Shapes: N clips, F features, K labels, P = F + 1 parameters of a label, the last its bias.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from streams.arrays import Array

Doubles = npt.NDArray[np.float64]

# In whitened features. For 20 labels on real clips' statistics the loss is then within 0.0002 of the lowest;
# where scikit-learn's defaults stop, it is 0.0007 above.
_GRADIENT_TOLERANCE = 2e-4
_MAX_ITERATIONS = 1000
_HISTORY = 10


def logistic_regression(
    x_NF: Array,
    labels_N: npt.NDArray[np.int64],
    num_labels: int,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> tuple[Array, Array]:
    """Return weights (F, K) and bias (K,) of scikit-learn's LogisticRegression with its defaults.

    The loss is the same, the mean cross-entropy + |weights|^2 / 2N. The search runs in whitened features,
    where it takes fewer steps, and each step is float32: a third of scikit-learn's time at 20 labels. Once
    `is_cancelled` says so, it returns what it has.
    """
    num_clips, num_features = x_NF.shape
    # Two labels share one weight vector there, twice as long as each of the two here.
    penalty = (2 if num_labels == 2 else 1) / num_clips
    mean_F = x_NF.mean(axis=0)
    z_NF = x_NF - mean_F
    curvature_FF = (z_NF.T @ z_NF).astype(np.float64) / (num_clips * num_labels) + penalty * np.eye(num_features)
    curvatures_F, directions_FF = np.linalg.eigh(curvature_FF)
    white_FF = (directions_FF / np.sqrt(curvatures_F)).astype(np.float32)
    z_FN = np.ascontiguousarray((z_NF @ white_FF).T)
    penalties_F = penalty / curvatures_F
    clips_N = np.arange(num_clips)

    def loss_and_gradient(point_KP: Doubles) -> tuple[float, Doubles]:
        weights_KF, bias_K1 = point_KP[:, :-1], point_KP[:, -1:]
        p_KN = weights_KF.astype(np.float32) @ z_FN + bias_K1.astype(np.float32)
        p_KN -= p_KN.max(axis=0)
        loss = -float(p_KN[labels_N, clips_N].sum(dtype=np.float64))
        np.exp(p_KN, out=p_KN)
        sums_N = p_KN.sum(axis=0)
        loss += float(np.log(sums_N).sum(dtype=np.float64))
        p_KN /= sums_N
        p_KN[labels_N, clips_N] -= 1
        penalised_KF = weights_KF * penalties_F
        gradient_KP = np.empty_like(point_KP)
        gradient_KP[:, :-1] = p_KN @ z_FN.T / num_clips + penalised_KF
        gradient_KP[:, -1] = p_KN.sum(axis=1) / num_clips
        return loss / num_clips + 0.5 * float((weights_KF * penalised_KF).sum()), gradient_KP

    point_KP = _minimum(loss_and_gradient, np.zeros((num_labels, num_features + 1)), is_cancelled)
    weights_FK = white_FF @ point_KP[:, :-1].T.astype(np.float32)
    return weights_FK, np.asarray(point_KP[:, -1] - mean_F @ weights_FK, np.float32)


def _minimum(
    loss_and_gradient: Callable[[Doubles], tuple[float, Doubles]], point: Doubles, is_cancelled: Callable[[], bool]
) -> Doubles:
    """Return the minimum of a smooth convex function by L-BFGS (Nocedal and Wright, algorithm 7.4)."""
    history: list[tuple[Doubles, Doubles, float]] = []
    loss, gradient = loss_and_gradient(point)
    for _ in range(_MAX_ITERATIONS):
        if is_cancelled() or np.abs(gradient).max() <= _GRADIENT_TOLERANCE:
            break
        direction, shares = gradient.copy(), []
        for step, change, product in reversed(history):
            shares.append(float((step * direction).sum()) / product)
            direction -= shares[-1] * change
        if history:
            _, change, product = history[-1]
            direction *= product / float((change**2).sum())
        for (step, change, product), share in zip(history, reversed(shares), strict=True):
            direction += step * (share - float((change * direction).sum()) / product)
        slope, length = float((gradient * direction).sum()), 1.0
        while True:
            step = -length * direction
            new_loss, new_gradient = loss_and_gradient(point + step)
            if new_loss <= loss - 1e-4 * length * slope:
                break
            length /= 2
            if length < 1e-6:  # no step lowers it: float32 is at its end
                return point
        change = new_gradient - gradient
        product = float((step * change).sum())
        if product > 0:
            history = [*history, (step, change, product)][-_HISTORY:]
        point, loss, gradient = point + step, new_loss, new_gradient
    return point
