"""What words add to one example, or say alone: by the labels, the labels permuted, and labels without meaning.

Shapes: N clips, P persons of a clip, W windows (one a person), K classes, E values of an embedding, M exemplars.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge.words import Words
from streams.arrays import Array, Indices
from training.evaluate.draws import Distances, Draw, accuracies, clip_distances

# Names are permuted so often, and a draw has the mean accuracy: that of one permutation hangs on which names meet.
_NUM_PERMUTATIONS = 5


def word_accuracies(
    labels: Indices,
    classes: Sequence[str],
    persons_NP: Indices,
    draws: Sequence[Draw],
    embeddings_WE: Array,
    *,
    compare: Distances,
    words: Words,
) -> dict[str, npt.NDArray[np.float64]]:
    """Return each draw's balanced accuracy, 0 to 1, of "words", "words permuted", "words meaningless", "words alone".

    Of the first three the embeddings of exemplars are mixed with what the words say, as the gallery does; of "alone"
    words stand in the exemplars' place. `labels` (N,): the number in `classes` of each clip; `persons_NP`: its windows.
    """
    label_W = np.empty(len(embeddings_WE), np.int64)
    label_W[persons_NP] = labels[:, None]
    exemplars = np.unique(np.concatenate([draw.exemplars for draw in draws]))
    enrolled = np.unique(persons_NP[exemplars])

    def named(names: Sequence[str]) -> npt.NDArray[np.float64]:
        mixed_WE = embeddings_WE.copy()
        for w in enrolled.tolist():
            mixed = words.mix(names[label_W[w]], "", embeddings_WE[w])
            if mixed is not None:
                mixed_WE[w] = mixed
        return _accuracies(mixed_WE, persons_NP)

    def _accuracies(exemplars_ME: Array, persons_of_exemplars: Indices) -> npt.NDArray[np.float64]:
        features = np.concatenate([embeddings_WE, exemplars_ME])
        rows = persons_of_exemplars + len(embeddings_WE)
        return accuracies(labels, draws, lambda e, q: clip_distances(features, rows[e], persons_NP[q], compare))

    predicted_KE = np.array([words.predict(name)[0] for name in classes])
    of_class_NP = np.repeat(labels[:, None], persons_NP.shape[1], axis=1)
    return {
        "words": named(classes),
        "words permuted": np.mean([named(names) for names in _permutations(classes)], axis=0),
        "words meaningless": named([f"gesture {number + 1}" for number in range(len(classes))]),
        "words alone": _accuracies(predicted_KE, of_class_NP),
    }


def _permutations(classes: Sequence[str]) -> list[list[str]]:
    """Return the classes' names in other orders, in which none is its own."""
    found = []
    for seed in range(_NUM_PERMUTATIONS):
        order = np.random.default_rng(seed).permutation(len(classes))
        # Each takes the name of the next in a random circle.
        names = [""] * len(classes)
        for own, other in zip(order.tolist(), np.roll(order, 1).tolist(), strict=True):
            names[own] = classes[other]
        found.append(names)
    return found
