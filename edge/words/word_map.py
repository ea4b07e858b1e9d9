"""What a bundle knows of words: the texts of the actions that it was trained on, and their mean embeddings.

One .npz of plain arrays, words.npz. From a text's features a kernel ridge regression predicts how its embedding
deviates from the mean of all: a blend of the known actions' deviations, the smaller the less the text says.

Shapes: T texts, C features of one, B base actions, D values of the learned part of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from streams.arrays import Array, Indices
from streams.errors import BundleError

# Of 90 base actions, 20 held out nine times: 0.3, 1 and 3 gain 1.1, 1.0 and 0.8 points by the label beside one example.
RIDGE = 1.0
_COPY_AGAIN = "Copy the whole bundle again, or make its words anew: `crossglg-edge export --to words`."


class WordsHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what a word map belongs to, and the limits that were found on held-out base actions.

    `text_weights_sha256`: of the text encoder. `agreement`: the cosine of example and predicted deviation above
    which the two are mixed. `least`: a text whose predicted deviation is shorter says nothing. `farther`: what is
    added to the distance of a label that has words alone, so that a threshold means as many false matches.
    """

    words_version: Literal[1]
    encoder_sha256: str
    text_encoder: str
    text_weights_sha256: str
    actions: tuple[str, ...]
    agreement: float
    least: float
    farther: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WordMap:
    """Hold what words.npz has.

    `texts_TC`: float16; `action_T`: the number of the action that each is of. `means_BD`: float16, the actions' mean
    embeddings, of length 1. `durations_B`: the median length of an action's clips, seconds, float32.
    """

    header: WordsHeader
    texts_TC: Array
    action_T: Indices
    means_BD: Array
    durations_B: Array


def fit_predictor(
    texts_TC: Array, action_T: Indices, num_actions: int, ridge: float = RIDGE
) -> Callable[[Array], npt.NDArray[np.float64]]:
    """Return what tells from a text's features (C,) how much of each action's deviation it has, shape (B,).

    Kernel ridge regression with the cosine of centered features; an action's texts share its weight.
    """
    texts = texts_TC.astype(np.float64)
    mean_C = texts.mean(axis=0)
    centered_TC = _unit(texts - mean_C)
    shares_T = np.bincount(action_T, minlength=num_actions)[action_T]
    kernel_TT = centered_TC @ centered_TC.T + ridge * np.diag(shares_T)
    solution_TB = np.linalg.solve(kernel_TT, np.eye(num_actions)[action_T])

    def shares(text_C: Array) -> npt.NDArray[np.float64]:
        return np.asarray(_unit(text_C[None] - mean_C)[0] @ centered_TC.T @ solution_TB)

    return shares


def write_word_map(path: Path, words: WordMap) -> None:
    """Write a word map to an .npz file of plain arrays."""
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            header=np.frombuffer(msgspec.json.encode(words.header), np.uint8),
            texts=words.texts_TC,
            action=words.action_T.astype(np.int64),
            means=words.means_BD,
            durations=words.durations_B,
        )


def read_word_map(path: Path, *, encoder_sha256: str, num_learned: int) -> WordMap:
    """Read the word map that belongs to an encoder. Raises BundleError."""
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            header = msgspec.json.decode(file["header"].tobytes(), type=WordsHeader)
            words = WordMap(
                header=header,
                texts_TC=file["texts"],
                action_T=file["action"],
                means_BD=file["means"],
                durations_B=file["durations"],
            )
        num_actions, num_texts = len(header.actions), len(words.texts_TC)
        shapes = (words.texts_TC.ndim, words.action_T.shape, words.means_BD.shape, words.durations_B.shape)
        expected = (2, (num_texts,), (num_actions, num_learned), (num_actions,))
        if shapes != expected:
            raise ValueError(f"its arrays have dimensions and shapes {shapes}, expected {expected}")
        if not num_actions or sorted({*words.action_T.tolist()}) != [*range(num_actions)]:
            raise ValueError(f"its texts are not of {num_actions} actions, one or more each")
        if not all(np.isfinite(x).all() for x in (words.texts_TC, words.means_BD, words.durations_B)):
            raise ValueError("a value is not finite")
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}", hint=_COPY_AGAIN) from error
    # For a damaged file zipfile and numpy raise a dozen kinds, from zlib.error to a tokenizer's.
    except Exception as error:
        raise BundleError(f"{path} holds no words: {error}", hint=_COPY_AGAIN) from error
    if header.encoder_sha256 != encoder_sha256:
        raise BundleError(
            f"{path} belongs to the encoder {header.encoder_sha256[:12]}..., this one is {encoder_sha256[:12]}...",
            hint=_COPY_AGAIN,
        )
    return words


def _unit(rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12))
