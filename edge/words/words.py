"""Label and description -> what the movement may look like, mixed into an example or in place of one.

Shapes: C features of a text, B base actions, D values of the learned part of an embedding, E of the whole.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from edge.config import WordsUse
from edge.model import BundleInfo, words_file
from edge.words.text_encoder import TextEncoder, open_text_encoder
from edge.words.word_map import WordMap, fit_predictor, read_word_map
from streams.arrays import Array
from streams.errors import TextToolError

# A prediction takes 2 ms and 13 kB.
_REMEMBERED = 1024
# A window's distance to what is known is the mean of those to so large a share of the known actions, the nearest.
_COHORT_SHARE = 0.4
# Below this cosine another encoder wrote the features: int8 and fp32 have 0.999.
_SAME_TEXT = 0.98


class Words:
    """Predict embeddings of a bundle's encoder from texts."""

    def __init__(self, info: BundleInfo, word_map: WordMap, encoder: TextEncoder) -> None:
        """Take a bundle, its word map and the text encoder that this was made with. Raises TextToolError."""
        header, about = word_map.header, encoder.about
        # What the bundle holds of its first action's name is held against what this encoder makes of it.
        cosine = float(encoder.encode([header.actions[0]])[0] @ word_map.texts_TC[0].astype(np.float32))
        if about.weights_sha256 != header.text_weights_sha256 or cosine < _SAME_TEXT:
            raise TextToolError(
                f"the bundle's words are of the text encoder {header.text_encoder} "
                f"({header.text_weights_sha256[:12]}...), this one is {about.name} ({about.weights_sha256[:12]}...), "
                f"and gives the text {header.actions[0]!r} a cosine of {cosine:.3f} to the bundle's",
                code="bad_text_encoder",
                hint="`crossglg-edge setup words` sets up the one that this version knows.",
            )
        self.header = header
        self._info = info
        self._encoder = encoder
        self._means_BD = word_map.means_BD.astype(np.float32)
        self._deviations_BD = self._means_BD - self._means_BD.mean(axis=0)
        self._log_durations_B = np.log(np.maximum(word_map.durations_B, 0.1))
        self._shares = fit_predictor(word_map.texts_TC, word_map.action_T, len(header.actions))
        self._deviation = lru_cache(_REMEMBERED)(self._deviation_of)

    def mix(self, label: str, description: str, embedding_E: Array) -> Array | None:
        """Return an example's embedding with what the words say mixed in; None where the two do not agree.

        It helps to choose between labels (edge.match.index).

        Alignment and cohort stay those of the example: its recomputed cohort told worse (81.9 for 82.1 %).
        """
        deviation_D, _ = self._deviation(label, description)
        length, num_learned = float(np.linalg.norm(deviation_D)), self._info.num_learned
        if float(embedding_E[:num_learned] @ deviation_D) <= self.header.agreement * length:
            return None
        mixed_E = embedding_E.copy()
        # The prediction counts as much as the regression dares to: what says little is short.
        mixed_E[:num_learned] = _unit(embedding_E[:num_learned] + deviation_D)
        mixed_E.setflags(write=False)
        return mixed_E

    def predict(self, label: str, description: str = "") -> tuple[Array, float]:
        """Return what words alone say of a movement: an embedding (E,), float32, and how many seconds it takes.

        The embedding's frames are NaN: words have no joints. What words say that say nothing is worth nothing.
        """
        deviation_D, duration_s = self._deviation(label, description)
        info = self._info
        learned_D = _unit(deviation_D)
        parts = [learned_D, np.full(info.aligned_frames * 75, np.nan, np.float32)]
        if info.cohort_weight:
            nearest = np.sort(self._means_BD @ learned_D)[-max(1, round(_COHORT_SHARE * len(self._means_BD))) :]
            # Without joints there is no cost of alignment; what takes its place hides in the cohort's part.
            cohort = 1 - float(nearest.mean()) - self.header.farther / info.cohort_weight
            parts.append(np.array([cohort], np.float32))
        embedding_E = np.concatenate(parts).astype(np.float32)
        embedding_E.setflags(write=False)
        return embedding_E, duration_s

    def says_something(self, label: str, description: str = "") -> bool:
        """Return whether the words tell one movement from others: of "gesture 3" the regression knows nothing."""
        return float(np.linalg.norm(self._deviation(label, description)[0])) >= self.header.least

    def _deviation_of(self, label: str, description: str) -> tuple[Array, float]:
        (text_C,) = self._encoder.encode([label])
        if description:
            (described_C,) = self._encoder.encode([description])
            # A label without meaning would only blur what the description says.
            says = np.linalg.norm(self._blend(text_C)[0]) >= self.header.least
            text_C = _unit(text_C + described_C) if says else described_C
        return self._blend(text_C)

    def _blend(self, text_C: Array) -> tuple[Array, float]:
        shares_B = self._shares(text_C)
        mean = float(self._log_durations_B.mean())
        duration_s = float(np.exp(mean + shares_B @ (self._log_durations_B - mean)))
        return np.asarray(shares_B.astype(np.float32) @ self._deviations_BD), duration_s


def open_words(use: WordsUse, info: BundleInfo, bundle: Path | None) -> Words:
    """Open the words of a bundle with the text encoder that the config names.

    Raises TextToolError: "words_off", "no_words" where the bundle has none, "no_text_encoder", "bad_text_encoder";
    BundleError for words that are altered or of another encoder.
    """
    if not use.enabled:
        raise TextToolError(
            "words are turned off in the configuration", code="words_off", hint="Set `enabled = true` under [words]."
        )
    path = words_file(info, bundle)
    if path is None:
        raise TextToolError(
            f"the model bundle {info.name!r} has no words",
            code="no_words",
            hint="`crossglg-edge export --to words` makes a bundle that has them.",
        )
    word_map = read_word_map(path, encoder_sha256=info.onnx_sha256, num_learned=info.num_learned)
    return Words(info, word_map, open_text_encoder(use.text_encoder))


def _unit(vector: Array) -> Array:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), np.float32)
