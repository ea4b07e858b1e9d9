"""Learning from use: what answers to the clips of one half of a person's recordings bring in the other half.

The clips are kept, chosen and answered by the device's own code (edge.review), in a gallery on disk; only who answers
is another: the truth.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edge.config import Config
from edge.gallery import Example, Gallery
from edge.live import Recognizer, Turn
from edge.match import PrototypeIndex
from edge.model import Encoder, embed_movements
from edge.protocol import ReviewClip, Verdict
from edge.review import MomentWatch, answer_clip, keep_moment, most_useful, read_clip, read_clips
from streams.continuous import ContinuousArchive, Recording, read_continuous
from streams.errors import ArchiveError, EnrollError
from training.evaluate.live.evaluate import Method, outcome_of, play
from training.evaluate.live.recordings import Enrollment, Report, draw_examples, make_stream, note_training
from training.evaluate.live.remembering import RememberingEncoder
from training.evaluate.live.score import Outcome, StreamScore, f1_of, point_is_within, score_streams
from training.evaluate.live.stream import Action, Stream

# A clip that overlaps an action so much shows it; one that overlaps none by more than the other shows none; of what
# lies between, nobody can say what it is, and it is not answered.
_SHOWS, _SHOWS_NONE = 0.5, 0.2
_RESAMPLES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Hold how much the F1 of the second halves rose above that without answers, and its 95 % interval over people."""

    f1: float
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersReport:
    """Hold the scores of second halves by the number of answers to the first, over all and of each archive.

    `gains`: likewise, over the first number; `said`: answers that were given at the largest number, by kind.
    """

    total: dict[int, StreamScore]
    gains: dict[int, Gain]
    archives: dict[str, dict[int, StreamScore]]
    archive_gains: dict[str, dict[int, Gain]]
    said: dict[str, int]
    num_people: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Lesson:
    """Hold one person's recordings: those that are answered about, those that are scored, and what is enrolled."""

    first: tuple[Stream, ...]
    second: tuple[Stream, ...]
    examples: tuple[Example, ...]


def evaluate_answers(
    paths: Sequence[Path],
    encoder: Encoder,
    config: Config,
    numbers: Sequence[int],
    *,
    build: Enrollment = Enrollment(),
    report: Report = lambda what, done, total: None,
) -> AnswersReport:
    """Play half of each person's recordings, answer so many of the clips that were kept, and score the other half.

    Of an action's recordings the earlier half is played first; where no action is in two recordings, of each recording
    the first half. Enrolled are labels that both halves name, then others, by performances of other people. Raises
    ArchiveError.
    """
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        raise ArchiveError(f"two archives have one name: {', '.join(sorted(names))}", hint="Name each archive once.")
    lessons, notes = {}, []
    for path in paths:
        lessons[path.stem], left_out = _lessons(read_continuous(path), config, build)
        notes += [f"{path.stem}: {left_out} people are left out"] if left_out else []
        notes += [f"{path.stem}: {note}" for note in note_training(encoder, path.stem)]
        if not lessons[path.stem]:
            raise ArchiveError(f"{path}: expected a person who does an action twice that another enrolls")
    found: dict[str, dict[int, list[Outcome]]] = {}
    said: Counter[str] = Counter()
    for name, own in lessons.items():
        found[name] = {number: [] for number in numbers}
        for done, lesson in enumerate(own):
            for number, outcomes in _learn(lesson, encoder, config, numbers, said).items():
                found[name][number] += outcomes
            report(f"{name}, answered", done + 1, len(own))
    together = {number: [o for outcomes in found.values() for o in outcomes[number]] for number in numbers}
    return AnswersReport(
        total={number: score_streams(outcomes) for number, outcomes in together.items()},
        gains=_gains(together),
        archives={name: {n: score_streams(o) for n, o in outcomes.items()} for name, outcomes in found.items()},
        archive_gains={name: _gains(outcomes) for name, outcomes in found.items()},
        said=dict(said),
        num_people=sum(map(len, lessons.values())),
        notes=tuple(notes),
    )


def _lessons(archive: ContinuousArchive, config: Config, build: Enrollment) -> tuple[list[_Lesson], int]:
    """Return what each person may teach, and how many people are left out."""
    by_person: dict[str, list[int]] = {}
    for number, recording in enumerate(archive.recordings):
        person = f"{recording.subject}" if recording.subject >= 0 else recording.source
        by_person.setdefault(person, []).append(number)
    lessons = [_lesson(archive, numbers, config, build) for numbers in by_person.values()]
    kept = [lesson for lesson in lessons if lesson is not None]
    return kept, len(lessons) - len(kept)


def _lesson(archive: ContinuousArchive, numbers: Sequence[int], config: Config, build: Enrollment) -> _Lesson | None:
    recordings = [archive.recordings[number] for number in numbers]
    shown, first, second = recordings[0], *halves(recordings)
    done = _labels(first), _labels(second)
    if not done[0] & done[1]:
        cut = [in_two(recording) for recording in recordings]
        first, second = [before for before, _ in cut], [after for _, after in cut]
        done = _labels(first), _labels(second)
    both, either = done[0] & done[1], done[0] | done[1]
    rng = np.random.default_rng([build.seed, zlib.crc32(archive.name.encode()), numbers[0]])
    by_label: dict[str, list[Example]] = {}
    for group in (both, either - both, {*archive.class_names} - either):
        for label in rng.permutation(sorted(group - archive.never_enrolled)).tolist():
            found = draw_examples(archive, shown, label, config, rng)[: build.num_examples]
            if found and len(by_label) < build.num_labels:
                by_label[label] = found
    if not by_label.keys() & both:
        return None
    examples = tuple(example for found in by_label.values() for example in found)
    actions = [archive.action_of[label] for label in by_label]
    return _Lesson(
        first=tuple(make_stream(archive, recording, examples, actions) for recording in first),
        second=tuple(make_stream(archive, recording, examples, actions) for recording in second),
        examples=examples,
    )


def _labels(recordings: Sequence[Recording]) -> set[str]:
    return {action.label for recording in recordings for action in recording.actions if action.is_scored}


def halves(recordings: Sequence[Recording]) -> tuple[list[Recording], list[Recording]]:
    """Return the recordings in two halves: in the first, of each action's recordings, the earlier ones.

    By their place in the file alone, all recordings of an action would often be in one half.
    """
    labels = [{action.label for action in recording.actions} for recording in recordings]
    total = Counter(label for own in labels for label in own)
    seen: Counter[str] = Counter()
    found: tuple[list[Recording], list[Recording]] = [], []
    for number, (recording, own) in enumerate(zip(recordings, labels, strict=True)):
        places = [seen[label] / total[label] for label in own] or [number / len(recordings)]
        found[sum(places) / len(places) >= 0.5].append(recording)
        seen.update(own)
    return found


def in_two(recording: Recording) -> tuple[Recording, Recording]:
    """Cut a recording in two between two actions, with as many before as after."""
    times_s, actions = recording.movement.timestamps_s, recording.actions
    middle = len(actions) // 2
    cut_s = float(times_s[0] + times_s[-1]) / 2 if len(times_s) else 0.0
    if middle:
        cut_s = (max(action.end_s for action in actions[:middle]) + actions[middle].start_s) / 2
    place = int(np.searchsorted(times_s, cut_s))
    parts = [
        replace(
            recording,
            source=f"{recording.source}, {name}",
            movement=recording.movement.part(slice(*span)),
            actions=own,
        )
        for name, span, own in (
            ("first half", (0, place), actions[:middle]),
            ("second half", (place, None), actions[middle:]),
        )
    ]
    return parts[0], parts[1]


def _learn(
    lesson: _Lesson, encoder: Encoder, config: Config, numbers: Sequence[int], said: Counter[str]
) -> dict[int, list[Outcome]]:
    """Return the outcomes of the second half by the number of answers; count those of the largest number in `said`."""
    method = Method(encoder=RememberingEncoder(encoder), config=config)
    found = {}
    with TemporaryDirectory() as folder:
        ring = Path(folder) / "review.db"
        with _gallery(lesson, method, Path(folder) / "gallery.db") as gallery:
            _keep_clips(lesson, method, gallery, ring)
        for number in numbers:
            with _gallery(lesson, method, Path(folder) / f"{number}.db") as gallery:
                given = _answer(lesson, method, gallery, ring, number)
                index = _index(gallery, method)
            found[number] = [outcome_of(stream, play(stream, method, index=index)) for stream in lesson.second]
            if number == max(numbers):
                said.update(given)
    return found


def _gallery(lesson: _Lesson, method: Method, path: Path) -> Gallery:
    embed = partial(embed_movements, method.encoder)
    gallery = Gallery(path, embed=embed, model_sha256=method.encoder.info.onnx_sha256)
    gallery.add_all(gallery.embed(lesson.examples), created="")
    return gallery


def _index(gallery: Gallery, method: Method) -> PrototypeIndex:
    return PrototypeIndex(gallery.prototypes, method.encoder.info, gallery.revision, counters=gallery.counters)


def _keep_clips(lesson: _Lesson, method: Method, gallery: Gallery, ring: Path) -> None:
    """Play the first half, and keep what a daemon would keep."""
    index, config = _index(gallery, method), method.config
    for stream in lesson.first:
        watch = MomentWatch(config, method.encoder.info.score_curve)

        def listen(turn: Turn, recognizer: Recognizer, watch: MomentWatch = watch) -> None:
            moments = watch.look(turn.decisions, index, recognizer)
            watch.hear(turn.events)
            for moment in (*moments, *watch.leave(recognizer.bodies)):
                keep_moment(ring, moment, config.review, "")

        play(stream, method, index=index, listen=listen)


def _answer(lesson: _Lesson, method: Method, gallery: Gallery, ring: Path, number: int) -> Counter[str]:
    """Answer so many clips by the truth, the most useful first; return how many of each kind."""
    truth = {stream.name: stream for stream in lesson.first}
    said: Counter[str] = Counter()
    for clip in most_useful(read_clips(ring)):
        if said.total() == number:
            break
        verdict, label = true_answer(clip, truth[clip.source].actions, {example.label for example in lesson.examples})
        if verdict is None:
            continue
        _, movement = read_clip(ring, clip.id)
        try:
            answer_clip(gallery, method.encoder.info, method.config, clip, movement, verdict, created="", label=label)
        except EnrollError:  # it makes no example, as a person would be told
            continue
        said[verdict] += 1
    return said


def true_answer(clip: ReviewClip, actions: Iterable[Action], enrolled: set[str]) -> tuple[Verdict | None, str | None]:
    """Return what a person who knows what they did says of a clip, and the label with "is"; None: they cannot say."""
    start_s, end_s = clip.time_s - clip.duration_s, clip.time_s
    overlaps = [(_overlap(action, start_s, end_s), number, action) for number, action in enumerate(actions)]
    share, _, action = max(overlaps, default=(0.0, 0, None))
    if action is None or share < _SHOWS_NONE:
        return "wrong", None
    if share < _SHOWS or not action.is_scored:
        return None, None
    if action.label == clip.label:
        return "right", None
    return ("is", action.label) if action.label in enrolled else ("wrong", None)


def _overlap(action: Action, start_s: float, end_s: float) -> float:
    """Return the intersection over union; of an action with a point at least a half where the clip spans it."""
    common_s = min(end_s, action.end_s) - max(start_s, action.start_s)
    share = max(0.0, common_s) / (max(end_s, action.end_s) - min(start_s, action.start_s))
    return (1 + share) / 2 if point_is_within(action, start_s, end_s) else share


def _gains(outcomes: Mapping[int, Sequence[Outcome]]) -> dict[int, Gain]:
    """Return how much F1 rose over the first number, with an interval over people, resampled in pairs."""
    base, *others = outcomes
    people = sorted({outcome.group for outcome in outcomes[base]})
    of_person = {
        number: {person: [o for o in found if o.group == person] for person in people}
        for number, found in outcomes.items()
    }
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(people), size=len(people)) for _ in range(_RESAMPLES)] if len(people) > 1 else []

    def f1(number: int, drawn: Iterable[str]) -> float:
        return f1_of([outcome for person in drawn for outcome in of_person[number][person]])

    gains = {}
    for number in others:
        drawn = [[people[i] for i in draw] for draw in draws]
        resampled = [f1(number, chosen) - f1(base, chosen) for chosen in drawn] or [float("nan")]
        low, high = np.percentile(resampled, [2.5, 97.5]).tolist()
        gains[number] = Gain(f1=f1(number, people) - f1(base, people), ci95=(low, high))
    return gains
