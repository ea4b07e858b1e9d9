"""One-shot recognition on archives: a draw enrolls one clip a class, the other clips are then named.

Shapes: N clips, P persons of a clip, W windows (one a person), L frames of one, D embedding size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edge.match import distances_between, fit, take_apart
from edge.model import BaseStatistics, BundleInfo, Encoder, embed_batches
from edge.motion import dtw_distances, window_from_movement
from edge.words import Words
from streams.archive import read_archive
from streams.arrays import Array, Indices
from streams.errors import ArchiveError
from streams.movement import Movement
from training.evaluate.draws import (
    Distances,
    Draw,
    Score,
    accuracies_of,
    clip_distances,
    leave_out_draws,
    name_queries,
    named_draw,
    plain_accuracy,
    protocol_draws,
    score,
)
from training.evaluate.words import word_accuracies

Report = Callable[[str, int, int], None]

DTW_FRAMES = 32


class By(StrEnum):
    """Name what clips are told apart by: an archive's classes, or the vocabulary over all archives."""

    CLASS = "class"
    ACTION = "action"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipSet:
    """Hold the clips that are told apart.

    `labels`: shape (N,), an index into `classes`. `subjects`: shape (N,), a number per archive and
    person, -1 unknown. `movements`: what each window is of. `persons`: shape (N, P), the numbers of a
    clip's movements; where fewer persons were seen, the last again.
    `sources`: the name of each clip.
    """

    name: str
    classes: tuple[str, ...]
    labels: Indices
    subjects: Indices
    movements: tuple[Movement, ...]
    persons: Indices
    sources: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Hold what one archive or protocol gave; `ways_used` is the mean number of classes enrolled in a draw.

    `scores`: "encoder" is the nearest exemplar by the device's distance, "cosine" by the learned part of it,
    "calibrated" by the distribution classifier (where it was asked for), "dtw" by DTW; balanced, so that each class
    counts the same. `plain`: those of all queries alike, as the paper has them. With words, "words" and what
    begins with it, and `gains`: how much better each is than "encoder", draw by draw.
    """

    name: str
    ways: int
    ways_used: float
    draws: int
    clips: int
    scores: dict[str, Score]
    plain: dict[str, Score]
    gains: dict[str, Score]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """Hold the draws that ask for something, how many there were, and what is to be said of them."""

    asked: list[Draw]
    num_draws: int
    notes: tuple[str, ...]


class Protocol(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what is used of a novel-action protocol's JSON file.

    `settings`: numbers of base actions, each the first so many of `base_order`. `exemplars`: a clip's
    `source` for each novel action; where there are none, they are drawn.
    """

    sets: tuple[str, ...]
    novel: tuple[str, ...]
    base_order: tuple[str, ...] = ()
    settings: tuple[int, ...] = ()
    exemplars: tuple[str, ...] = ()


def evaluate_archives(
    paths: Sequence[Path],
    encoder: Encoder,
    *,
    num_draws: int,
    by: By,
    report: Report,
    calibrated: bool = False,
    words: Words | None = None,
    shots: Sequence[int] = (1,),
) -> dict[int, list[Result]]:
    """Evaluate each archive alone, by each number of `shots`: one subject enrolls so many clips, the others' are named.

    All are read before the first is evaluated, so that a bad one is refused before the long work.
    `calibrated`: by the distribution classifier too, for an encoder with statistics. `words`: also with what the names
    say, see training.evaluate.words. Raises ArchiveError.
    """
    plans: dict[str, tuple[ClipSet, dict[int, _Plan]]] = {}
    for path in paths:
        name = path.name.removesuffix(".npz")
        if name in plans:
            raise ArchiveError(f"two archives are named {name!r}", hint="Name each archive once.")
        clips = read_clips([path], name=name, by=by)
        about = _archive_notes(encoder.info, name, path)
        by_shots = {}
        for number in shots:
            draws, notes = leave_out_draws(clips.labels, clips.subjects, num_draws, number)
            by_shots[number] = _plan(clips, draws, notes, about)
        plans[name] = clips, by_shots
    found = [_evaluate(clips, by_shots, encoder, report, calibrated, words) for clips, by_shots in plans.values()]
    return {number: [results[number] for results in found] for number in shots}


def evaluate_protocol(
    path: Path,
    encoder: Encoder,
    *,
    data: Path,
    num_draws: int,
    report: Report,
    calibrated: bool = False,
    words: Words | None = None,
    shots: Sequence[int] = (1,),
) -> dict[int, Result]:
    """Tell apart a protocol's novel actions over all its sets in the folder `data`, by each number of `shots`.

    `calibrated`: by the distribution classifier too, for an encoder with statistics. `words`: also with what the names
    say, see training.evaluate.words. Raises ArchiveError.
    """
    protocol = read_protocol(path)
    if protocol.exemplars and max(shots) > 1:
        raise ArchiveError(f"{path} names one exemplar of each action: expected one example, not {max(shots)}")
    clips = _novel_clips(path, protocol, data)
    notes = _action_notes(encoder.info, protocol.novel)
    by_shots = {number: _plan(clips, *_novel_draws(clips, protocol, num_draws, number), notes) for number in shots}
    return _evaluate(clips, by_shots, encoder, report, calibrated, words)


def open_protocol(
    path: Path, *, data: Path, num_draws: int, scores: bool = False
) -> tuple[ClipSet, list[Draw], tuple[str, ...]]:
    """Return the clips of a protocol's novel actions, its one-shot draws, and what is to be said of them.

    `data`: the folder of its archives. `scores`: see `read_archive`. Raises ArchiveError.
    """
    protocol = read_protocol(path)
    clips = _novel_clips(path, protocol, data, scores)
    plan = _plan(clips, *_novel_draws(clips, protocol, num_draws, 1))
    return clips, plan.asked, plan.notes


def _novel_clips(path: Path, protocol: Protocol, data: Path, scores: bool = False) -> ClipSet:
    # An exemplar is drawn by its number in the order of set name and clip.
    sets = [data / f"{name}.npz" for name in sorted(set(protocol.sets))]
    name = path.name.removesuffix(".json")
    return read_clips(sets, name=name, by=By.ACTION, classes=protocol.novel, scores=scores)


def _novel_draws(
    clips: ClipSet, protocol: Protocol, num_draws: int, num_exemplars: int
) -> tuple[list[Draw], list[str]]:
    if protocol.exemplars:
        said = "the exemplars are those that the protocol names: one draw, no interval"
        return [named_draw(clips.labels, clips.sources, protocol.exemplars)], [said]
    return protocol_draws(clips.labels, clips.subjects, num_draws, num_exemplars), []


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


def read_clips(
    paths: Sequence[Path],
    *,
    name: str,
    by: By = By.CLASS,
    classes: Sequence[str] | None = None,
    scores: bool = False,
) -> ClipSet:
    """Read archives as clips to tell apart; `classes`, where given, are the only ones kept, in that order.

    `scores`: see `read_archive`. A clip in which no joint was ever seen is left out, and noted. Raises ArchiveError.
    """
    found: list[tuple[str, int, str, list[Movement]]] = []
    declared: dict[str, None] = {}
    num_unseen = 0
    for number, path in enumerate(paths):
        archive = read_archive(path, scores=scores)
        declared |= dict.fromkeys(archive.actions if by is By.ACTION else archive.class_names)
        for clip in map(archive.__getitem__, range(len(archive))):
            kind = clip.action if by is By.ACTION else clip.label
            if classes is not None and kind not in classes:
                continue
            # Copies, so that the clips that are left out are not kept in memory.
            seen = [replace(m, joints_m=m.joints_m.copy()) for m in clip.persons if m.is_seen]
            num_unseen += not seen
            if seen:
                subject = (number << 32) + clip.subject if clip.subject >= 0 else -1
                found.append((kind, subject, clip.source, seen))
    wanted = tuple(dict.fromkeys(declared if classes is None else classes))
    have_clips = {kind for kind, *_ in found}
    present = tuple(kind for kind in wanted if kind in have_clips)
    if classes is not None and len(present) < len(wanted):
        absent = ", ".join(kind for kind in wanted if kind not in present)
        raise ArchiveError(f"{name}: no clip of {absent} in any of its {len(paths)} archives")
    notes = []
    if num_unseen:
        notes.append(f"left out: {num_unseen} clips in which no joint was ever seen")
    if len(present) < len(wanted):
        notes.append(f"left out: {len(wanted) - len(present)} of {len(wanted)} classes, which have no clip")
    return _clip_set(name, present, found, notes)


def _clip_set(
    name: str, classes: tuple[str, ...], found: Sequence[tuple[str, int, str, list[Movement]]], notes: Sequence[str]
) -> ClipSet:
    num_persons = np.array([len(seen) for *_, seen in found], np.int64)
    first = np.cumsum(num_persons) - num_persons
    person = np.minimum(np.arange(num_persons.max(initial=1)), num_persons[:, None] - 1)
    return ClipSet(
        name=name,
        classes=classes,
        labels=np.array([classes.index(kind) for kind, *_ in found], np.int64),
        subjects=np.array([subject for _, subject, *_ in found], np.int64),
        movements=tuple(movement for *_, seen in found for movement in seen),
        persons=first[:, None] + person,
        sources=tuple(source for _, _, source, _ in found),
        notes=tuple(notes),
    )


def embed_clips(clips: ClipSet, encoder: Encoder, report: Report, *, with_features: bool) -> tuple[Array, Array]:
    """Return the embedding and, where wanted, the features of every window, shapes (W, D), (W, F), float32."""
    batches, done = [], 0
    for batch in embed_batches(encoder, clips.movements, with_features=with_features):
        batches.append(batch)
        done += len(batch[0])
        report(f"{clips.name}: encoder", done, len(clips.movements))
    embeddings, features = zip(*batches, strict=True)
    return np.concatenate(embeddings), np.concatenate(features)


def dtw_features(clips: ClipSet) -> Array:
    """Return what DTW compares of every window, shape (W, 32, 75), float32: joints as SpineBase sees them.

    Frames follow each other in even time: to find the pace is what DTW is for.
    """
    features = np.empty((len(clips.movements), DTW_FRAMES, 75), np.float32)
    for row, movement in zip(features, clips.movements, strict=True):
        window = window_from_movement(movement, DTW_FRAMES, motion_share=0.0)
        row[:] = (window - window[:, :1]).reshape(DTW_FRAMES, 75)
    return features


def encoder_distances(info: BundleInfo, *, cosine_only: bool = False) -> Distances:
    """Return the distance that the device decides by (edge.match.distances), or only the cosine's part of it."""
    weights = (0.0, 0.0) if cosine_only else (info.alignment_weight, info.cohort_weight)
    has_cohort = info.cohort_weight > 0

    def between(a_NE: Array, b_KE: Array) -> Array:
        a, b = (take_apart(x_NE, info.aligned_frames, has_cohort=has_cohort) for x_NE in (a_NE, b_KE))
        return distances_between(a, b, *weights)

    return between


def name_by_distribution(
    clips: ClipSet,
    draws: Sequence[Draw],
    features_WF: Array,
    statistics: BaseStatistics,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> npt.NDArray[np.int32]:
    """Return the label that the distribution classifier gives each draw's queries, shape (D, N), -1 for other clips.

    `features_WF`: the encoder's features of every window, not negative; a clip's are the mean over its
    persons, as InfoGCN has it. The samples of draw d have seed d. Raises BundleError.
    """
    features_NF = features_WF[clips.persons].mean(axis=1)
    named_DN = np.full((len(draws), len(clips)), -1, np.int32)
    for d, draw in enumerate(draws):
        names = [clips.classes[label] for label in clips.labels[draw.exemplars]]
        classifier = fit(features_NF[draw.exemplars], names, statistics, np.random.default_rng(d))
        best = classifier.probabilities(features_NF[draw.queries]).argmax(axis=1)
        named_DN[d, draw.queries] = np.array([clips.classes.index(name) for name in classifier.labels])[best]
        report(d + 1, len(draws))
    return named_DN


def _check(clips: ClipSet, draws: Sequence[Draw]) -> None:
    if len(clips.classes) < 2:
        raise ArchiveError(
            f"{clips.name}: expected clips of at least two classes to tell apart, got {len(clips.classes)}",
            hint="; ".join(clips.notes),
        )
    if not any(len(draw.queries) for draw in draws):
        raise ArchiveError(
            f"{clips.name}: nothing to recognize: {len(clips)} clips of {len(clips.classes)} classes "
            "leave no clip of an enrolled class beside the exemplars",
            hint="At least one class needs a second clip, of another subject where subjects are known.",
        )


def _plan(clips: ClipSet, draws: Sequence[Draw], said: Sequence[str], about: Sequence[str] = ()) -> _Plan:
    """Keep the draws that ask for something, and say what they leave out. Raises ArchiveError."""
    _check(clips, draws)
    asked = [draw for draw in draws if len(draw.queries)]
    notes = [*clips.notes, *said, *about]
    if len(asked) < len(draws):
        notes.append(f"left out: {len(draws) - len(asked)} draws whose classes no other subject has")
    num_asked = len(np.unique(np.concatenate([clips.labels[draw.queries] for draw in asked])))
    if num_asked < len(clips.classes):
        notes.append(f"not counted: {len(clips.classes) - num_asked} classes with no clip beside the exemplars")
    return _Plan(asked=asked, num_draws=len(draws), notes=tuple(notes))


def _evaluate(
    clips: ClipSet,
    plans: Mapping[int, _Plan],
    encoder: Encoder,
    report: Report,
    calibrated: bool,
    words: Words | None,
) -> dict[int, Result]:
    """Name the queries of all plans in one go: clips are embedded, and two of them compared, once."""

    def between(features: Array, compare: Distances) -> Callable[[Indices, Indices], Array]:
        return lambda exemplars, queries: clip_distances(
            features, clips.persons[exemplars], clips.persons[queries], compare
        )

    embeddings, features = embed_clips(clips, encoder, report, with_features=calibrated)
    by_encoder = between(embeddings, encoder_distances(encoder.info))
    by_cosine = between(embeddings, encoder_distances(encoder.info, cosine_only=True))
    by_dtw = between(dtw_features(clips), dtw_distances)
    asked = [draw for plan in plans.values() for draw in plan.asked]
    named = {
        "encoder": name_queries(clips.labels, asked, by_encoder),
        "cosine": name_queries(clips.labels, asked, by_cosine),
    }
    if calibrated:
        assert encoder.statistics is not None
        told = partial(report, f"{clips.name}: calibrated")
        # Each plan from its first draw on, whose seed is 0.
        parts = [name_by_distribution(clips, p.asked, features, encoder.statistics, told) for p in plans.values()]
        named["calibrated"] = np.concatenate(parts)
    named["dtw"] = name_queries(clips.labels, asked, by_dtw, partial(report, f"{clips.name}: DTW"))
    found = {method: accuracies_of(named_DN, clips.labels, asked) for method, named_DN in named.items()}
    plain = {method: accuracies_of(named_DN, clips.labels, asked, plain_accuracy) for method, named_DN in named.items()}
    if words is not None:
        compare = encoder_distances(encoder.info)
        found |= word_accuracies(
            clips.labels, clips.classes, clips.persons, asked, embeddings, compare=compare, words=words
        )
    ends = np.cumsum([len(plan.asked) for plan in plans.values()])
    return {
        number: Result(
            name=clips.name,
            ways=len(clips.classes),
            ways_used=float(np.mean([len(np.unique(clips.labels[draw.exemplars])) for draw in plan.asked])),
            draws=plan.num_draws,
            clips=len(clips),
            scores={method: score(values[end - len(plan.asked) : end]) for method, values in found.items()},
            plain={method: score(values[end - len(plan.asked) : end]) for method, values in plain.items()},
            gains={
                method: score((values - found["encoder"])[end - len(plan.asked) : end])
                for method, values in found.items()
                if method.startswith("words")
            },
            notes=plan.notes,
        )
        for (number, plan), end in zip(plans.items(), ends.tolist(), strict=True)
    }


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
