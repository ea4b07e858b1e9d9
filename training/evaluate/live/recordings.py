"""Real continuous recordings: one example a label, cut at the truth from another person's recording.

Shapes: A actions, K labels, P prototypes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.config import Config
from edge.enroll import example_from_capture
from edge.gallery import Example
from edge.match import PrototypeIndex
from edge.model import Encoder, embed_movements
from edge.thresholds import Decisions
from edge.words import Words
from streams.archive import Archive, read_archive
from streams.arrays import Array
from streams.continuous import ContinuousArchive, Recording, TrueAction, is_continuous, read_continuous
from streams.errors import ArchiveError, EnrollError
from streams.movement import Movement
from training.evaluate.live.evaluate import Method, Scores, dtw_method, outcome_of, play_and_keep
from training.evaluate.live.score import Outcome, score_streams
from training.evaluate.live.stream import Action, Person, Stream, prototypes_of
from training.evaluate.live.travel import Travel, travels

Report = Callable[[str, int, int], None]
Found = dict[str, list[Outcome]]

# So many examples of a label are drawn at most; the more are asked for, the more of the same draw are taken.
_MAX_EXAMPLES = 20
# The factors of the default threshold that the oracle's best F1 is sought among.
_FACTORS = np.linspace(0.5, 3.0, 51)


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """Hold what the distance gives where somebody else finds the windows: cut at the truth, one an action.

    `closed_set`: the share of actions whose nearest label is the right one. `f1`: with the default threshold;
    `best_f1`: with the best one, `best_factor` times the default.
    """

    closed_set: float
    f1: float
    best_f1: float
    best_factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrollment:
    """Say what is enrolled for a recording: `num_labels` classes by `num_examples` examples each, drawn by `seed`."""

    seed: int = 0
    num_labels: int = 5
    num_examples: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingReport:
    """Hold the scores of "ours" and "dtw", over all recordings and of each archive, and the oracles likewise.

    `travels`: of each archive; none where nothing is to be found.
    """

    total: Scores
    archives: dict[str, Scores]
    travels: dict[str, Travel]
    oracle: Oracle | None
    oracles: dict[str, Oracle]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Hit:
    """Hold one action cut at the truth: whether the nearest label is right, and how far away it is."""

    is_right: bool
    distance: float


def evaluate_recordings(
    paths: Sequence[Path],
    encoder: Encoder,
    config: Config,
    *,
    build: Enrollment = Enrollment(),
    gallery: Path | None = None,
    words: Words | None = None,
    report: Report = lambda what, done, total: None,
) -> RecordingReport:
    """Play recordings to the recognizer and to sliding DTW, each with its own labels enrolled, and score the events.

    Enrolled are the labels that a recording's truth names, then others, by performances of other people. Where there
    are fewer performances than `build` asks for, all are taken.
    With `gallery`, an archive of clips, its classes are enrolled instead, and nothing in the recordings is: all
    events are false alarms, and recordings of an enrolled action are left out; they may then be clips. DTW has the
    threshold that the bundle was given for it, and is left out where there is none. `words`: those of labels count
    beside the examples, not in DTW. Raises ArchiveError.
    """
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        raise ArchiveError(f"two archives have one name: {', '.join(sorted(names))}", hint="Name each archive once.")
    methods = {"ours": Method(encoder=encoder, config=config, words=words)}
    notes = []
    if encoder.info.dtw_midpoint is None:
        notes.append("the bundle has no threshold of DTW: it is left out")
    else:
        methods["dtw"] = dtw_method(encoder.info, config, encoder.info.dtw_midpoint)
    clips = read_archive(gallery) if gallery is not None else None
    streams_of: dict[str, list[Stream]] = {}
    # All are read before the first is played, so that a bad one is refused before the long work.
    for path in paths:
        streams_of[path.stem], said = _streams(path, clips, config, build)
        notes += [f"{path.stem}: {note}" for note in (*said, *note_training(encoder, path.stem))]
    by_archive: dict[str, Found] = {}
    hits: dict[str, list[_Hit]] = {}
    kept: dict[str, list[tuple[Stream, Decisions]]] = {}
    for archive, streams in streams_of.items():
        by_archive[archive], kept[archive] = {name: [] for name in methods}, []
        for done, stream in enumerate(streams):
            for name, method in methods.items():
                told, decisions = play_and_keep(stream, method)
                by_archive[archive][name].append(outcome_of(stream, told))
                if name == "ours" and gallery is None:
                    kept[archive].append((stream, decisions))
            report(archive, done + 1, len(streams))
        hits[archive] = [hit for stream in streams for hit in _hits(stream, encoder, words)]
    midpoint = encoder.info.score_curve.midpoint
    return RecordingReport(
        total=_scores(list(by_archive.values())),
        archives={name: _scores([found]) for name, found in by_archive.items()},
        travels=travels(kept, encoder.info.score_curve, config.events) if gallery is None else {},
        oracle=_oracle([hit for found in hits.values() for hit in found], midpoint),
        oracles={name: oracle for name, found in hits.items() if (oracle := _oracle(found, midpoint)) is not None},
        notes=tuple(notes),
    )


def _scores(parts: Sequence[Found]) -> Scores:
    return {name: score_streams([result for found in parts for result in found[name]]) for name in parts[0]}


def note_training(encoder: Encoder, archive: str) -> list[str]:
    """Say so where the encoder was trained on clips of the same name: they may be cut from these recordings."""
    trained = encoder.info.training.get("archives")
    if not isinstance(trained, dict) or archive not in trained:
        return []
    return ["the encoder was trained on an archive of this name: its number may say nothing about new recordings"]


def _streams(path: Path, clips: Archive | None, config: Config, build: Enrollment) -> tuple[list[Stream], list[str]]:
    """Return the recordings of a file as streams, each with its examples, and what was left out."""
    if clips is None:
        archive = read_continuous(path)
        streams = streams_with_own_examples(archive, config, build)
    else:
        archive = read_continuous(path) if is_continuous(path) else _from_clips(read_archive(path))
        streams = streams_with_gallery(archive, clips, config, build)
    if not streams:
        raise ArchiveError(
            f"{path}: no recording can be scored: expected two people who do a class each that another can enroll"
            if clips is None
            else f"{path}: every recording holds an action that is enrolled from {clips.name}",
        )
    num_left = len(archive.recordings) - len(streams)
    return streams, [f"{num_left} of {len(archive.recordings)} recordings are left out"] if num_left else []


def _from_clips(archive: Archive) -> ContinuousArchive:
    """Return an archive's clips as recordings, each of one action from its first frame to the last."""
    recordings = []
    for i in range(len(archive)):
        clip = archive[i]
        movement = clip.persons[0]
        whole = TrueAction(label=clip.label, start_s=0.0, end_s=movement.duration_s)
        recordings.append(
            Recording(source=clip.source, subject=clip.subject, movement=movement, actions=(whole,)),
        )
    return ContinuousArchive(
        name=archive.name,
        path=archive.path,
        fps=archive.fps,
        class_names=archive.class_names,
        action_of=dict(zip(archive.class_names, archive.actions, strict=True)),
        never_enrolled=frozenset(),
        recordings=tuple(recordings),
    )


def streams_with_own_examples(archive: ContinuousArchive, config: Config, build: Enrollment) -> list[Stream]:
    """Return the recordings with what other people of the same archive enroll: what is done first, then others."""
    streams = []
    for number, recording in enumerate(archive.recordings):
        rng = np.random.default_rng([build.seed, zlib.crc32(archive.name.encode()), number])
        done = sorted({action.label for action in recording.actions} - archive.never_enrolled)
        others = sorted({*archive.class_names} - {*done} - archive.never_enrolled)
        by_label: dict[str, list[Example]] = {}
        for label in [*rng.permutation(done).tolist(), *rng.permutation(others).tolist()]:
            found = draw_examples(archive, recording, label, config, rng)[: build.num_examples]
            if found and len(by_label) < build.num_labels:
                by_label[label] = found
        if by_label.keys() & {*done}:
            examples = [example for found in by_label.values() for example in found]
            streams.append(make_stream(archive, recording, examples, [archive.action_of[label] for label in by_label]))
    return streams


def draw_examples(
    archive: ContinuousArchive, recording: Recording, label: str, config: Config, rng: np.random.Generator
) -> list[Example]:
    """Draw other people's performances of a class that an enrollment would accept, one of each person first."""
    performances = [
        (other, action)
        for other in archive.recordings
        if other is not recording and (other.subject != recording.subject or other.subject < 0)
        for action in other.actions
        if action.label == label and action.is_scored and action.is_correct
    ]
    firsts: list[Example] = []
    repeats: list[Example] = []
    seen: set[int] = set()
    for i in rng.permutation(len(performances)):
        other, action = performances[i]
        if len(firsts) >= _MAX_EXAMPLES:
            break
        with suppress(EnrollError):
            movement = example_from_capture(_cut(other.movement, action), config, trim=False).movement
            example = Example(label=label, movement=movement.from_zero(), origin=f"file:{other.source}", created="")
            (repeats if other.subject in seen else firsts).append(example)
            seen |= {other.subject} - {-1}
    return [*firsts, *repeats][:_MAX_EXAMPLES]


def streams_with_gallery(archive: ContinuousArchive, clips: Archive, config: Config, build: Enrollment) -> list[Stream]:
    """Return the recordings in which nothing is done that `clips` enroll, each with a draw of them."""
    streams = []
    for number, recording in enumerate(archive.recordings):
        rng = np.random.default_rng([build.seed, zlib.crc32(archive.name.encode()), number])
        by_label: dict[str, list[Example]] = {}
        actions: list[str] = []
        for i in rng.permutation(len(clips)).tolist():
            clip = clips[i]
            is_wanted = clip.label in by_label or len(by_label) < build.num_labels
            if not is_wanted or len(by_label.get(clip.label, ())) == build.num_examples:
                continue
            with suppress(EnrollError):
                movement = example_from_capture(clip.persons[0], config).movement.from_zero()
                example = Example(label=clip.label, movement=movement, origin=f"file:{clip.source}", created="")
                by_label.setdefault(clip.label, []).append(example)
                actions.append(clip.action)
        done = {name for a in recording.actions for name in (a.label, archive.action_of[a.label])}
        if not done & {*by_label, *actions}:
            examples = [example for found in by_label.values() for example in found]
            streams.append(make_stream(archive, recording, examples, actions))
    return streams


def make_stream(
    archive: ContinuousArchive, recording: Recording, examples: Sequence[Example], enrolled_actions: Sequence[str]
) -> Stream:
    """Return a recording of an archive as a stream with these examples; `enrolled_actions`: theirs over all sets."""
    return Stream(
        name=f"{archive.name}/{recording.source}",
        archive=archive.name,
        group=f"{archive.name}/{recording.subject if recording.subject >= 0 else recording.source}",
        fps=archive.fps,
        examples=tuple(examples),
        enrolled=frozenset([*(example.label for example in examples), *enrolled_actions]),
        timestamps_s=recording.movement.timestamps_s,
        people=(Person(joints_m=recording.movement.joints_m, ids=np.zeros(len(recording.movement), np.int64)),),
        actions=tuple(
            Action(
                label=action.label,
                start_s=action.start_s,
                end_s=action.end_s,
                point_s=action.point_s,
                is_scored=action.is_scored,
            )
            for action in recording.actions
        ),
    )


def _cut(movement: Movement, action: Action | TrueAction) -> Movement:
    first, end = np.searchsorted(movement.timestamps_s, [action.start_s - 1e-6, action.end_s + 1e-6])
    return movement.part(slice(int(first), int(end)))


def _hits(stream: Stream, encoder: Encoder, words: Words | None) -> list[_Hit]:
    """Hold each action of a stream, cut at the truth, against its examples."""
    movement = Movement(timestamps_s=stream.timestamps_s, joints_m=stream.people[0].joints_m)
    cut = [(action, _cut(movement, action)) for action in stream.truth]
    # Of what is shorter than the recognizer's shortest window no window is cut.
    cut = [(action, part) for action, part in cut if len(part) >= 4 and part.is_seen]
    if not cut:
        return []
    index = PrototypeIndex(prototypes_of(stream, encoder, words), encoder.info)
    embeddings_AE: Array = embed_movements(encoder, [part for _, part in cut])
    hits = []
    for (action, _), embedding_E in zip(cut, embeddings_AE, strict=True):
        distances_K, windows_K = index.distances(embedding_E[None], np.ones((1, len(index)), np.bool_))
        best = int((distances_K - index.said(embedding_E[None], windows_K)).argmin())
        hits.append(_Hit(is_right=index.labels[best] == action.label, distance=float(distances_K[best])))
    return hits


def _oracle(hits: Sequence[_Hit], midpoint: float) -> Oracle | None:
    if not hits:
        return None
    right_A = np.array([hit.is_right for hit in hits])
    distances_A = np.array([hit.distance for hit in hits])

    def f1(factor: float) -> float:
        told_A = distances_A <= factor * midpoint
        return float(2 * (right_A & told_A).sum() / (told_A.sum() + len(hits)))

    best = max(_FACTORS.tolist(), key=f1)
    return Oracle(closed_set=float(right_A.mean()), f1=f1(1.0), best_f1=f1(best), best_factor=best)
