"""One-shot recognition on archives: a draw enrols one clip a class, the other clips are then named.

Shapes: N clips, P persons of a clip, W windows (one a person), T frames, F features of one frame,
D embedding size, K exemplars of one draw, E exemplars of all draws, Q queries.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edge.bundle import BundleInfo
from edge.encoder import Encoder
from edge.normalize import window_from_joints
from streams.archive import read_archive
from streams.errors import ArchiveError
from training.dtw import dtw_distances

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Distances = Callable[[Array, Array], Array]
Report = Callable[[str, int, int], None]

DTW_FRAMES = 32
_BATCH = 32
_BLOCK_PAIRS = 250_000
_RESAMPLES = 2_000


class By(StrEnum):
    """Name what clips are told apart by: an archive's classes, or the vocabulary over all archives."""

    CLASS = "class"
    ACTION = "action"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipSet:
    """Hold the clips that are told apart.

    `labels`: shape (N,), an index into `classes`. `subjects`: shape (N,), a number per archive and
    person, -1 unknown. `tracks`: per window its timestamps (L,), seconds, and joints (L, 25, 3),
    metres. `persons`: shape (N, P), a clip's tracks; where fewer persons were seen, the last again.
    """

    name: str
    classes: tuple[str, ...]
    labels: Indices
    subjects: Indices
    tracks: tuple[tuple[npt.NDArray[np.float64], Array], ...]
    persons: Indices
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """Hold the clip numbers of one draw: `exemplars`, shape (K,), one a class; `queries`, shape (Q,)."""

    exemplars: Indices
    queries: Indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Hold a balanced accuracy, 0 to 1, and its 95 % interval by bootstrap over the draws."""

    accuracy: float
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Hold what one archive or protocol gave; `ways_used` is the mean number of exemplars of a draw."""

    name: str
    ways: int
    ways_used: float
    draws: int
    clips: int
    encoder: Score
    dtw: Score
    notes: tuple[str, ...]


class Protocol(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what is used of a novel-action protocol's JSON file."""

    sets: tuple[str, ...]
    novel: tuple[str, ...]
    base_order: tuple[str, ...] = ()


def evaluate_archives(
    paths: Sequence[Path], encoder: Encoder, *, num_draws: int, by: By, report: Report
) -> list[Result]:
    """Evaluate each archive alone: one subject enrols, the others' clips are named.

    All are read before the first is evaluated, so that a bad one is refused before the long work.
    Raises ArchiveError.
    """
    plans: dict[str, tuple[ClipSet, list[Draw], list[str]]] = {}
    for path in paths:
        name = path.name.removesuffix(".npz")
        if name in plans:
            raise ArchiveError(f"two archives are named {name!r}", hint="Name each archive once.")
        clips = read_clips([path], name=name, by=by)
        draws, notes = leave_out_draws(clips.labels, clips.subjects, num_draws)
        plans[name] = clips, draws, [*notes, *_archive_notes(encoder.info, name, path)]
        _check(clips, draws)
    return [_evaluate(clips, draws, notes, encoder, report) for clips, draws, notes in plans.values()]


def evaluate_protocol(path: Path, encoder: Encoder, *, data: Path, num_draws: int, report: Report) -> Result:
    """Tell apart a protocol's novel actions, over all its sets in the folder `data`.

    Raises ArchiveError.
    """
    protocol = read_protocol(path)
    # An exemplar is drawn by its number in the order of set name and clip.
    sets = [data / f"{name}.npz" for name in sorted(set(protocol.sets))]
    clips = read_clips(sets, name=path.name.removesuffix(".json"), by=By.ACTION, classes=protocol.novel)
    draws = protocol_draws(clips.labels, clips.subjects, num_draws)
    _check(clips, draws)
    return _evaluate(clips, draws, _action_notes(encoder.info, protocol.novel), encoder, report)


def read_protocol(path: Path) -> Protocol:
    """Read the JSON file of a novel-action protocol. Raises ArchiveError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Protocol)
    except OSError as error:
        raise ArchiveError(
            f"{path} cannot be read: {error.strerror}",
            code="not_found",
            hint="Name the protocol.json that lies beside the archives.",
        ) from error
    except msgspec.DecodeError as error:
        raise ArchiveError(
            f"{path} is not a protocol: {error}", hint="Expected `sets` and `novel`, two lists of names."
        ) from error


def read_clips(paths: Sequence[Path], *, name: str, by: By = By.CLASS, classes: Sequence[str] | None = None) -> ClipSet:
    """Read archives as clips to tell apart; `classes`, where given, are the only ones kept, in that order.

    A clip in which no joint was ever seen is left out, and noted. Raises ArchiveError.
    """
    tracks: list[tuple[npt.NDArray[np.float64], Array]] = []
    persons: list[list[int]] = []
    kinds: list[str] = []
    subjects: list[int] = []
    declared: dict[str, None] = {}
    num_unseen = 0
    for number, path in enumerate(paths):
        archive = read_archive(path)
        declared |= dict.fromkeys(archive.actions if by is By.ACTION else archive.class_names)
        for clip in map(archive.__getitem__, range(len(archive))):
            kind = clip.action if by is By.ACTION else clip.label
            if classes is not None and kind not in classes:
                continue
            seen = [joints for joints in clip.persons if np.isfinite(joints).all(axis=-1).any()]
            if not seen:
                num_unseen += 1
                continue
            persons.append([len(tracks) + p for p in range(len(seen))])
            tracks += [(clip.timestamps_s, joints.copy()) for joints in seen]
            kinds.append(kind)
            subjects.append((number << 32) + clip.subject if clip.subject >= 0 else -1)
    wanted = tuple(dict.fromkeys(declared if classes is None else classes))
    have_clips = set(kinds)
    present = tuple(kind for kind in wanted if kind in have_clips)
    absent = [kind for kind in wanted if kind not in have_clips]
    if absent and classes is not None:
        raise ArchiveError(f"{name}: no clip of {', '.join(absent)} in any of its {len(paths)} archives")
    num_persons = max((len(clip) for clip in persons), default=1)
    notes = []
    if num_unseen:
        notes.append(f"left out: {num_unseen} clips in which no joint was ever seen")
    if absent:
        notes.append(f"left out: {len(absent)} of {len(wanted)} classes, which have no clip")
    return ClipSet(
        name=name,
        classes=present,
        labels=np.array([present.index(kind) for kind in kinds], np.int64),
        subjects=np.array(subjects, np.int64),
        tracks=tuple(tracks),
        persons=np.array([clip + clip[-1:] * (num_persons - len(clip)) for clip in persons], np.int64),
        notes=tuple(notes),
    )


def leave_out_draws(labels: Indices, subjects: Indices, num_draws: int) -> tuple[list[Draw], list[str]]:
    """Draw one subject's exemplars and the clips of the others, and say where that was not possible.

    The subject is drawn among those that have at least 70 % of the classes; classes it lacks are
    left out of that draw. With fewer than two known subjects, the exemplars are drawn among all
    clips, and every other clip is a query.
    """
    known = np.unique(subjects[subjects >= 0])
    classes = np.unique(labels)
    notes = []
    if len(known) < 2:
        notes.append("fewer than two known subjects: exemplars and queries may be of the same person")
        return [_draw_of_all(labels, classes, d) for d in range(num_draws)], notes
    num_classes = np.array([len(np.unique(labels[subjects == subject])) for subject in known])
    enrolling = known[10 * num_classes >= 7 * len(classes)]
    if not len(enrolling):
        enrolling = known[num_classes == num_classes.max()]
        notes.append(
            f"no subject has 70 % of the {len(classes)} classes: exemplars are of the "
            f"{len(enrolling)} with most of them, {num_classes.max()}"
        )
    if (subjects < 0).any():
        notes.append(f"left out: {(subjects < 0).sum()} clips whose subject is not known")
    return [_draw_of_one_subject(labels, subjects, classes, enrolling, d) for d in range(num_draws)], notes


def protocol_draws(labels: Indices, subjects: Indices, num_draws: int) -> list[Draw]:
    """Draw one exemplar a class among all clips; queries are the clips of other people than its class's.

    Where an exemplar's subject is not known, every other clip of its class is a query.
    """
    draws = []
    for d in range(num_draws):
        rng = np.random.default_rng(d)
        exemplars = _one_each(labels, np.unique(labels), rng)
        own = exemplars[np.searchsorted(labels[exemplars], labels)]
        same = np.where(subjects[own] >= 0, subjects == subjects[own], np.arange(len(labels)) == own)
        draws.append(Draw(exemplars=exemplars, queries=np.flatnonzero(~same)))
    return draws


def _draw_of_all(labels: Indices, classes: Indices, d: int) -> Draw:
    exemplars = _one_each(labels, classes, np.random.default_rng(d))
    return Draw(exemplars=exemplars, queries=np.setdiff1d(np.arange(len(labels)), exemplars))


def _draw_of_one_subject(labels: Indices, subjects: Indices, classes: Indices, enrolling: Indices, d: int) -> Draw:
    rng = np.random.default_rng(d)
    subject = rng.choice(enrolling)
    exemplars = _one_each(np.where(subjects == subject, labels, -1), classes, rng)
    others = (subjects >= 0) & (subjects != subject) & np.isin(labels, labels[exemplars])
    return Draw(exemplars=exemplars, queries=np.flatnonzero(others))


def _one_each(labels: Indices, classes: Indices, rng: np.random.Generator) -> Indices:
    own = [np.flatnonzero(labels == label) for label in classes]
    return np.array([clips[rng.integers(len(clips))] for clips in own if len(clips)], np.int64)


def embeddings(clips: ClipSet, encoder: Encoder, report: Report) -> Array:
    """Return the embedding of every window, shape (W, D), float32."""
    batches = []
    for start in range(0, len(clips.tracks), _BATCH):
        batch = clips.tracks[start : start + _BATCH]
        windows = [window_from_joints(*track, encoder.info.num_frames) for track in batch]
        batches.append(encoder.encode(np.stack(windows)))
        report(f"{clips.name}: encoder", start + len(batch), len(clips.tracks))
    return np.concatenate(batches)


def dtw_features(clips: ClipSet) -> Array:
    """Return what DTW compares of every window, shape (W, 32, 75), float32: joints as SpineBase sees them."""
    features = np.empty((len(clips.tracks), DTW_FRAMES, 75), np.float32)
    for row, track in zip(features, clips.tracks, strict=True):
        window = window_from_joints(*track, DTW_FRAMES)
        row[:] = (window - window[:, :1]).reshape(DTW_FRAMES, 75)
    return features


def cosine_distances(a_ND: Array, b_KD: Array) -> Array:
    """Return 1 - cosine for embeddings of length 1, shape (N, K), float32."""
    return np.asarray(1 - a_ND @ b_KD.T, np.float32)


def clip_distances(features: Array, persons_EP: Indices, persons_QP: Indices, compare: Distances) -> Array:
    """Return the distances between clips, shape (E, Q): the sum over persons, paired the better way.

    `features`: shape (W, ...), one row a window; `persons`: the windows of each clip.
    """
    num_persons = persons_EP.shape[1]
    rows, row_of = np.unique(persons_EP, return_inverse=True)
    columns, column_of = np.unique(persons_QP, return_inverse=True)
    row_of, column_of = row_of.reshape(persons_EP.shape), column_of.reshape(persons_QP.shape)
    windows = compare(features[rows], features[columns])
    pairings = [
        np.sum([windows[np.ix_(row_of[:, a], column_of[:, b])] for a, b in enumerate(order)], axis=0)
        for order in itertools.permutations(range(num_persons))
    ]
    return np.asarray(np.min(pairings, axis=0), np.float32)


def accuracies(
    labels: Indices,
    draws: Sequence[Draw],
    distances: Callable[[Indices, Indices], Array],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> npt.NDArray[np.float64]:
    """Name each draw's queries by the nearest exemplar; return each draw's balanced accuracy, 0 to 1.

    `distances` gives those of exemplars to queries, (E,) and (Q,) clip numbers to shape (E, Q); it is
    asked once for each pair that any draw needs, a block of queries at a time to bound the memory.
    """
    exemplars = np.unique(np.concatenate([draw.exemplars for draw in draws]))
    queries = np.unique(np.concatenate([draw.queries for draw in draws]))
    rows = [np.searchsorted(exemplars, draw.exemplars) for draw in draws]
    named = np.full((len(draws), len(labels)), -1, np.int32)
    size = max(1, _BLOCK_PAIRS // len(exemplars))
    for start in range(0, len(queries), size):
        block = queries[start : start + size]
        distances_EQ = distances(exemplars, block)
        for d, draw in enumerate(draws):
            named[d, block] = labels[draw.exemplars[distances_EQ[rows[d]].argmin(axis=0)]]
        report(start + len(block), len(queries))
    return np.array([balanced_accuracy(labels[draw.queries], named[d, draw.queries]) for d, draw in enumerate(draws)])


def balanced_accuracy(labels: Indices, named: npt.NDArray[np.integer]) -> float:
    """Return the mean over the classes in `labels` of the share that was named right, 0 to 1."""
    num_asked = np.bincount(labels)
    num_right = np.bincount(labels[labels == named], minlength=len(num_asked))
    return float((num_right[num_asked > 0] / num_asked[num_asked > 0]).mean())


def score(accuracies: npt.NDArray[np.float64]) -> Score:
    """Return the mean over draws with its 95 % interval: percentiles of 2,000 resampled means, seed 0."""
    rng = np.random.default_rng(0)
    num_draws = len(accuracies)
    means = [accuracies[rng.integers(num_draws, size=num_draws)].mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Score(accuracy=float(accuracies.mean()), ci95=(float(low), float(high)))


def _check(clips: ClipSet, draws: Sequence[Draw]) -> None:
    if len(clips.classes) < 2:
        raise ArchiveError(
            f"{clips.name}: expected clips of at least two classes to tell apart, got {len(clips.classes)}",
            hint="; ".join(clips.notes),
        )
    if not any(len(draw.queries) for draw in draws):
        raise ArchiveError(
            f"{clips.name}: nothing to recognise: {len(clips)} clips of {len(clips.classes)} classes "
            "leave no clip of an enrolled class beside the exemplars",
            hint="At least one class needs a second clip, of another subject where subjects are known.",
        )


def _evaluate(clips: ClipSet, draws: Sequence[Draw], notes: Sequence[str], encoder: Encoder, report: Report) -> Result:
    asked = [draw for draw in draws if len(draw.queries)]
    notes = [*clips.notes, *notes]
    if len(asked) < len(draws):
        notes.append(f"left out: {len(draws) - len(asked)} draws whose classes no other subject has")
    num_asked = len(np.unique(np.concatenate([clips.labels[draw.queries] for draw in asked])))
    if num_asked < len(clips.classes):
        notes.append(f"not counted: {len(clips.classes) - num_asked} classes with no clip beside the exemplars")

    def between(features: Array, compare: Distances) -> Callable[[Indices, Indices], Array]:
        return lambda exemplars, queries: clip_distances(
            features, clips.persons[exemplars], clips.persons[queries], compare
        )

    by_encoder = between(embeddings(clips, encoder, report), cosine_distances)
    by_dtw = between(dtw_features(clips), dtw_distances)
    return Result(
        name=clips.name,
        ways=len(clips.classes),
        ways_used=float(np.mean([len(draw.exemplars) for draw in asked])),
        draws=len(draws),
        clips=len(clips),
        encoder=score(accuracies(clips.labels, asked, by_encoder)),
        dtw=score(accuracies(clips.labels, asked, by_dtw, partial(report, f"{clips.name}: DTW"))),
        notes=tuple(notes),
    )


def _archive_notes(info: BundleInfo, name: str, path: Path) -> list[str]:
    trained = info.training.get("archives")
    if not isinstance(trained, dict):
        return [f"bundle {info.name!r} does not say which archives it was trained on"]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest in trained.values():
        return ["the encoder was trained on this archive: its number says nothing about new recordings"]
    if name in trained:
        return [f"the encoder was trained on another archive named {name!r}: look whether they share clips"]
    return []


def _action_notes(info: BundleInfo, novel: Sequence[str]) -> list[str]:
    trained = info.training.get("actions")
    if not isinstance(trained, list):
        return [f"bundle {info.name!r} does not say which actions it was trained on"]
    seen = [action for action in novel if action in trained]
    if seen:
        return [
            f"the encoder was trained on {len(seen)} of the {len(novel)} novel actions ({', '.join(seen)}): "
            "its number says nothing about new actions"
        ]
    return []
