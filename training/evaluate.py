"""One-shot recognition on archives: a draw enrols one clip a class, the other clips are then named.

Shapes: N clips, P persons of a clip, W windows (one a person), L frames of one, D embedding size.
"""

from __future__ import annotations

import hashlib
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
from training.draws import (
    Array,
    Distances,
    Draw,
    Indices,
    Score,
    accuracies,
    clip_distances,
    leave_out_draws,
    protocol_draws,
    score,
)
from training.dtw import dtw_distances

Track = tuple[npt.NDArray[np.float64], Array]
Report = Callable[[str, int, int], None]

DTW_FRAMES = 32
_BATCH = 32


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
    tracks: tuple[Track, ...]
    persons: Indices
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


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
    found: list[tuple[str, int, list[Track]]] = []
    declared: dict[str, None] = {}
    num_unseen = 0
    for number, path in enumerate(paths):
        archive = read_archive(path)
        declared |= dict.fromkeys(archive.actions if by is By.ACTION else archive.class_names)
        for clip in map(archive.__getitem__, range(len(archive))):
            kind = clip.action if by is By.ACTION else clip.label
            if classes is not None and kind not in classes:
                continue
            seen = [(clip.timestamps_s, joints.copy()) for joints in clip.persons if _is_seen(joints)]
            num_unseen += not seen
            if seen:
                found.append((kind, (number << 32) + clip.subject if clip.subject >= 0 else -1, seen))
    wanted = tuple(dict.fromkeys(declared if classes is None else classes))
    have_clips = {kind for kind, _, _ in found}
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


def _is_seen(joints_LV3: Array) -> bool:
    return bool(np.isfinite(joints_LV3).all(axis=-1).any())


def _clip_set(
    name: str, classes: tuple[str, ...], found: Sequence[tuple[str, int, list[Track]]], notes: Sequence[str]
) -> ClipSet:
    num_tracks = np.array([len(tracks) for _, _, tracks in found], np.int64)
    first = np.cumsum(num_tracks) - num_tracks
    person = np.minimum(np.arange(num_tracks.max(initial=1)), num_tracks[:, None] - 1)
    return ClipSet(
        name=name,
        classes=classes,
        labels=np.array([classes.index(kind) for kind, _, _ in found], np.int64),
        subjects=np.array([subject for _, subject, _ in found], np.int64),
        tracks=tuple(track for _, _, tracks in found for track in tracks),
        persons=first[:, None] + person,
        notes=tuple(notes),
    )


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
