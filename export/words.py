"""The words of a bundle: what a text says of an embedding, fitted to the actions that the encoder was trained on.

Shapes: N clips, E values of an embedding, D of its learned part, B base actions, T texts, C features of one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edge.match import distances_between, take_apart
from edge.model import BundleEncoder, BundleInfo, embed_movements, read_bundle
from edge.model.engines import OnnxRuntime
from edge.words import TextEncoder, WordMap, Words, WordsHeader, fit_predictor, open_text_encoder, write_word_map
from export import bundle
from export.fit import CLIPS_OF_A_CLASS, FALSE_MATCH_RATE, some_of_each
from streams.archive import read_archive
from streams.arrays import Array, Indices
from streams.errors import BundleError, DescriptionError
from streams.movement import Movement
from training.texts import ANY_SHIPPED, chosen_texts, read_descriptions

# With 20 base actions words alone fall from 43 to 22 % and cost beside an example; with 70 they gain a point.
MIN_ACTIONS = 40
# The cosine of example and predicted deviation above which they are mixed. Of 90 base actions, 20 held out nine times:
# at 0.05 the label gains 1.0 points, the name of another action costs 0.5 and one without meaning 0.05; mixed always,
# they give +1.0, -2.1 and -0.6; above 0.15, +0.5, -0.3 and -0.06.
_AGREEMENT = 0.05
# What a text must at least say: more than nine of ten of these.
_MEANINGLESS = (
    *(f"gesture {number}" for number in range(1, 11)),
    "7", "42", "???", "a", "test", "foo", "qwerty", "my gesture", "action 7", "xyz", "label", "untitled", "new", "tmp",
)  # fmt: skip
_MEANINGLESS_SHARE = 0.9
_NUM_FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """Hold what is known of base actions: their clips' embeddings (N, E), and each clip's action, person, length."""

    embeddings_NE: Array
    actions: Sequence[str]
    people: Sequence[tuple[str, int]]
    durations_s: Sequence[float]


def write_words(info: BundleInfo, shown: Shown, folder: Path, text_encoder: TextEncoder) -> BundleInfo:
    """Write words.npz into a bundle's folder and return the bundle's description with it. Raises BundleError."""
    classes = sorted(set(shown.actions))
    if len(classes) < MIN_ACTIONS:
        raise BundleError(
            f"{len(classes)} trained actions have clips: words need at least {MIN_ACTIONS}",
            hint="Give archives with more of the trained actions to --calibrate.",
        )
    texts_TC, action_T = _texts(classes, text_encoder)
    label_N = np.array([classes.index(action) for action in shown.actions], np.int64)
    learned_ND = shown.embeddings_NE[:, : info.num_learned]
    means_BD = np.array([_unit(learned_ND[label_N == b].mean(axis=0)) for b in range(len(classes))])
    durations_N = np.array(shown.durations_s)
    words = WordMap(
        header=WordsHeader(
            words_version=1,
            encoder_sha256=info.onnx_sha256,
            text_encoder=text_encoder.about.name,
            text_weights_sha256=text_encoder.about.weights_sha256,
            actions=tuple(classes),
            agreement=_AGREEMENT,
            least=_least(texts_TC, action_T, means_BD, text_encoder),
            farther=0.0,
        ),
        texts_TC=texts_TC.astype(np.float16),
        action_T=action_T,
        means_BD=means_BD.astype(np.float16),
        durations_B=np.array([np.median(durations_N[label_N == b]) for b in range(len(classes))], np.float32),
    )
    farther = _farther(info, shown, label_N, words, text_encoder)
    header = msgspec.structs.replace(words.header, farther=farther)
    file = folder / "words.npz"
    write_word_map(file, _with(words, header=header))
    return msgspec.structs.replace(info, words_sha256=hashlib.sha256(file.read_bytes()).hexdigest())


def add_words(source: Path | None, archives: Sequence[Path], out: Path) -> BundleInfo:
    """Put a bundle with words, anew where it has some, in place of OUT, and return its description.

    Raises ArchiveError, BundleError, TextToolError.
    """
    text_encoder = open_text_encoder()
    info, onnx = read_bundle(source)
    trained = info.training.get("actions")
    if not isinstance(trained, list):
        raise BundleError(f"bundle {info.name!r} does not say which actions it was trained on")
    shown = _shown(BundleEncoder(info, onnx.parent, OnnxRuntime(onnx)), archives, {*map(str, trained)})
    files = {name: (onnx.parent / name).read_bytes() for name in ("encoder.onnx", "statistics.npz")
             if name == "encoder.onnx" or info.statistics_sha256}  # fmt: skip
    with bundle.replacing(out) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        info = write_words(info, shown, folder, text_encoder)
        bundle.write_description(info, folder)
    return info


def _shown(encoder: BundleEncoder, archives: Sequence[Path], trained: set[str]) -> Shown:
    found: list[tuple[str, tuple[str, int], Movement]] = []
    for path in archives:
        archive = read_archive(path)
        clips = [clip for clip in map(archive.__getitem__, range(len(archive))) if clip.action in trained]
        found += [(clip.action, (clip.archive, clip.subject), clip.persons[0]) for clip in clips]
    if not found:
        raise BundleError(f"no clip of a trained action in {', '.join(map(str, archives))}")
    chosen = some_of_each([action for action, *_ in found], CLIPS_OF_A_CLASS, np.random.default_rng(0))
    actions, people, movements = zip(*(found[i] for i in chosen.tolist()), strict=True)
    return Shown(
        embeddings_NE=embed_movements(encoder, movements),
        actions=actions,
        people=people,
        durations_s=[movement.duration_s for movement in movements],
    )


def _texts(classes: Sequence[str], text_encoder: TextEncoder) -> tuple[Array, Indices]:
    """Return the features of each action's name, then of the descriptions that are shipped, and whose they are."""
    described: dict[int, str] = {}
    llm = chosen_texts(ANY_SHIPPED, classes)
    for number, action in enumerate(classes):
        try:
            described[number] = read_descriptions(llm, [action])[action].global_text
        except DescriptionError:
            continue
    texts = [*classes, *described.values()]
    return text_encoder.encode(texts), np.array([*range(len(classes)), *described], np.int64)


def _least(texts_TC: Array, action_T: Indices, means_BD: Array, text_encoder: TextEncoder) -> float:
    shares = fit_predictor(texts_TC, action_T, len(means_BD))
    deviations_BD = means_BD - means_BD.mean(axis=0)
    lengths = [np.linalg.norm(shares(text_C) @ deviations_BD) for text_C in text_encoder.encode(_MEANINGLESS)]
    return round(float(np.quantile(lengths, _MEANINGLESS_SHARE)), 4)


def _farther(
    info: BundleInfo, shown: Shown, label_N: npt.NDArray[np.int64], words: WordMap, text_encoder: TextEncoder
) -> float:
    """Return how much nearer than examples words alone are at the same rate of false matches, over held-out actions."""
    by_example, by_words = [], []
    fold_B = np.random.default_rng(0).permutation(len(words.header.actions)) % _NUM_FOLDS
    action = np.array(shown.actions)
    archive, subject = np.array([person[0] for person in shown.people]), np.array([p[1] for p in shown.people])
    for fold in range(_NUM_FOLDS):
        held_N = fold_B[label_N] == fold
        known = Words(info, _without(words, fold_B == fold), text_encoder)
        held = sorted({*action[held_N].tolist()})
        own_N, archive_N, subject_N = action[held_N], archive[held_N], subject[held_N]
        predicted = np.array([known.predict(name)[0] for name in held])
        clips, texts = (
            take_apart(x, info.aligned_frames, has_cohort=info.cohort_weight > 0)
            for x in (shown.embeddings_NE[held_N], predicted)
        )
        weights = info.alignment_weight, info.cohort_weight
        others = (archive_N[:, None] == archive_N) & (subject_N[:, None] != subject_N) & (own_N[:, None] != own_N)
        by_example.append(distances_between(clips, clips, *weights)[others])
        by_words.append(distances_between(clips, texts, *weights)[own_N[:, None] != np.array(held)])
    example, text = (np.quantile(np.concatenate(found), FALSE_MATCH_RATE) for found in (by_example, by_words))
    return round(float(example - text), 4)


def _without(words: WordMap, left_out_B: npt.NDArray[np.bool_]) -> WordMap:
    kept = np.flatnonzero(~left_out_B)
    of_kept_T = np.isin(words.action_T, kept)
    header = msgspec.structs.replace(words.header, actions=tuple(words.header.actions[b] for b in kept.tolist()))
    return WordMap(
        header=header,
        texts_TC=words.texts_TC[of_kept_T],
        action_T=np.searchsorted(kept, words.action_T[of_kept_T]),
        means_BD=words.means_BD[kept],
        durations_B=words.durations_B[kept],
    )


def _with(words: WordMap, *, header: WordsHeader) -> WordMap:
    return WordMap(
        header=header,
        texts_TC=words.texts_TC,
        action_T=words.action_T,
        means_BD=words.means_BD,
        durations_B=words.durations_B,
    )


def _unit(vector_D: Array) -> Array:
    return np.asarray(vector_D / max(float(np.linalg.norm(vector_D)), 1e-9))
