"""Repetitions of an exercise counted live, held against the truth, beside a peak counter and the number of events.

A set is an action done several times in a row by one person: from its first repetition to its last.

Shapes: L frames, K = 75 coordinates; S sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.config import Config
from edge.live import Recognizer, Turn, turns_of
from edge.model import Encoder
from edge.motion import fill_missing
from streams.archive import read_archive
from streams.continuous import is_continuous, read_continuous
from streams.errors import ArchiveError
from streams.event import Event
from streams.movement import Movement
from training.evaluate.live.evaluate import Method, play
from training.evaluate.live.recordings import Enrollment, note_training, streams_with_own_examples
from training.evaluate.live.score import LATE_S
from training.evaluate.live.stream import Action, Stream
from training.evaluate.live.streams_of_clips import exercise_streams

Report = Callable[[str, int, int], None]

# Fewer in a row are no exercise; after a longer pause it is another set, as it is for the daemon.
MIN_REPETITIONS = 3
_PAUSE_S = 5.0
# The peak counter: what goes back by so much of the range has turned.
_PEAK_SHARE = 0.4
_RESAMPLES = 2000
METHODS = ("ours", "peaks", "events")


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedSet:
    """Hold one set: how often its action was done, and how often each method says so.

    `counts`: of "ours", what the daemon tells; "peaks", a peak counter that is told where the set begins and ends;
    "events", the onsets of its label. `is_recognized`: whether any event has its label. `progress_errors`: of each
    message within a repetition, how far its `progress` is from the share of the repetition's time.
    """

    group: str
    label: str
    num_done: int
    counts: dict[str, int]
    is_recognized: bool
    progress_errors: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountScore:
    """Hold how well sets were counted: the mean error of the count, and the share of sets within one of the truth.

    `ci95`: of `within_one`, by bootstrap over people.
    """

    mean_error: float
    bias: float
    within_one: float
    exact: float
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountReport:
    """Hold the scores of some sets by method: of all, and of those whose action was recognized at least once.

    `num_elsewhere`: repetitions told of an enrolled action while another, or none, was done, in `hours`.
    """

    num_sets: int
    num_people: int
    num_recognized: int
    all: dict[str, CountScore]
    recognized: dict[str, CountScore]
    progress_error: float
    num_elsewhere: int
    hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RepetitionsReport:
    """Hold the scores over all files, and of each."""

    total: CountReport
    archives: dict[str, CountReport]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    sets: tuple[CountedSet, ...]
    num_elsewhere: int
    hours: float


def evaluate_repetitions(
    paths: Sequence[Path],
    encoder: Encoder,
    config: Config,
    *,
    build: Enrollment = Enrollment(),
    report: Report = lambda what, done, total: None,
) -> RepetitionsReport:
    """Play recordings of repeated actions to the recognizer, and hold its counts against the truth.

    Continuous recordings with truth are taken as they are; of clips, sets are made. Enrolled are classes by other
    people, as `build` says. Raises ArchiveError.
    """
    streams_of = {path.stem: _streams(path, config, build) for path in paths}
    if len(streams_of) < len(paths):
        raise ArchiveError("two archives have one name", hint="Name each archive once.")
    counted: dict[str, list[_Counted]] = {}
    for name, streams in streams_of.items():
        counted[name] = []
        for done, stream in enumerate(streams):
            counted[name].append(count_stream(stream, Method(encoder=encoder, config=config)))
            report(name, done + 1, len(streams))
    return RepetitionsReport(
        total=_report([found for own in counted.values() for found in own]),
        archives={name: _report(own) for name, own in counted.items()},
        notes=tuple(f"{name}: {note}" for name in counted for note in note_training(encoder, name)),
    )


def _streams(path: Path, config: Config, build: Enrollment) -> list[Stream]:
    if is_continuous(path):
        streams = streams_with_own_examples(read_continuous(path), config, build)
    else:
        streams = exercise_streams(read_archive(path), seed=build.seed, num_labels=build.num_labels)
    with_sets = [stream for stream in streams if sets_of(stream)]
    if not with_sets:
        raise ArchiveError(
            f"{path}: nobody does an enrolled action {MIN_REPETITIONS} times in a row",
            hint="Expected continuous recordings with truth, or clips of people who each do an action several times.",
        )
    return with_sets


def sets_of(stream: Stream) -> list[list[Action]]:
    """Return the sets of a stream's enrolled actions, each its repetitions in the order of time."""
    sets: list[list[Action]] = []
    for action in sorted(stream.actions, key=lambda action: action.start_s):
        if sets and sets[-1][-1].label == action.label and action.start_s - sets[-1][-1].end_s <= _PAUSE_S:
            sets[-1].append(action)
        else:
            sets.append([action])
    truth = stream.truth
    return [own for own in sets if len(own) >= MIN_REPETITIONS and own[0] in truth]


def count_stream(stream: Stream, method: Method) -> _Counted:
    """Play a stream of one person, and count."""
    events: list[Event] = []

    def listen(turn: Turn, _: Recognizer) -> None:
        events.extend(turn.events)

    play(stream, method, listen=listen)
    movement = Movement(timestamps_s=stream.timestamps_s, joints_m=stream.people[0].joints_m)
    bouts = bouts_of(events)
    sets = []
    for actions in sets_of(stream):
        label, start_s, end_s = actions[0].label, actions[0].start_s, actions[-1].end_s
        own = [bout for bout in bouts if bout.label == label and bout.start_s < end_s and bout.end_s > start_s]
        onsets = [e for e in events if e.type == "onset" and e.label == label and start_s <= e.t_end <= end_s + LATE_S]
        first, end = np.searchsorted(movement.timestamps_s, [start_s - 1e-6, end_s + 1e-6])
        sets.append(
            CountedSet(
                group=stream.group,
                label=label,
                num_done=len(actions),
                counts={
                    "ours": sum(bout.count for bout in own),
                    "peaks": count_peaks(movement.part(slice(int(first), int(end)))),
                    "events": len(onsets),
                },
                is_recognized=bool(own),
                progress_errors=tuple(_progress_errors(actions, events)),
            )
        )
    labels = {example.label for example in stream.examples}
    elsewhere = [bout for bout in bouts if bout.label in labels and not _is_done(bout, stream.actions)]
    return _Counted(
        sets=tuple(sets),
        num_elsewhere=sum(bout.count for bout in elsewhere),
        hours=float(movement.duration_s / 3600),
    )


@dataclass(slots=True, kw_only=True)
class Bout:
    """Hold a count that went on over events of a label: its span, and how far it came."""

    label: str
    start_s: float
    end_s: float
    count: int


def bouts_of(events: Sequence[Event]) -> list[Bout]:
    """Return the counts that events tell, as whoever listens would add them up: one that falls began anew."""
    newest: dict[str, Bout] = {}
    bouts: list[Bout] = []
    for event in events:
        bout = newest.get(event.label)
        goes_on = bout is not None and event.count >= bout.count and event.t_start - bout.end_s <= 2 * _PAUSE_S
        if bout is None or not goes_on:
            bout = newest[event.label] = Bout(
                label=event.label, start_s=event.t_start, end_s=event.t_end, count=event.count
            )
            bouts.append(bout)
        bout.end_s, bout.count = max(bout.end_s, event.t_end), event.count
    return bouts


def count_peaks(movement: Movement) -> int:
    """Count what goes out and back along the axis that a movement, known from begin to end, goes most."""
    joints_m = fill_missing(movement).joints_m
    places_LK = (joints_m - joints_m[:, :1]).reshape(len(joints_m), -1)
    moved_LK = places_LK - places_LK.mean(axis=0)
    axis_K = np.linalg.svd(moved_LK, full_matrices=False)[2][0]
    mean_of = max(1, round(0.2 * movement.fps))
    heights_L = np.convolve(moved_LK @ axis_K, np.full(mean_of, 1 / mean_of), mode="same")
    low, high = np.percentile(heights_L, (5, 95))
    least = _PEAK_SHARE * float(high - low)
    # Which way is out is not known. It begins and ends at rest, so of the turns the other way there is one less.
    return max(len(turns_of(heights.tolist(), least).peaks) for heights in (heights_L, -heights_L))


def _is_done(bout: Bout, actions: Sequence[Action]) -> bool:
    return any(a.label == bout.label and bout.start_s < a.end_s + LATE_S and bout.end_s > a.start_s for a in actions)


def _progress_errors(actions: Sequence[Action], events: Sequence[Event]) -> list[float]:
    told = [
        (event.t_emit - event.latency_ms.total / 1000, event.progress)
        for event in events
        if event.label == actions[0].label and event.progress is not None
    ]
    return [
        abs(progress - (now_s - action.start_s) / (action.end_s - action.start_s))
        for now_s, progress in told
        for action in actions
        if action.start_s < now_s < action.end_s
    ]


def _report(counted: Sequence[_Counted]) -> CountReport:
    sets = [one for found in counted for one in found.sets]
    recognized = [one for one in sets if one.is_recognized]
    errors = [error for one in sets for error in one.progress_errors]
    return CountReport(
        num_sets=len(sets),
        num_people=len({one.group for one in sets}),
        num_recognized=len(recognized),
        all={method: score_counts(sets, method) for method in METHODS},
        recognized={method: score_counts(recognized, method) for method in METHODS},
        progress_error=float(np.mean(errors)) if errors else math.nan,
        num_elsewhere=sum(found.num_elsewhere for found in counted),
        hours=sum(found.hours for found in counted),
    )


def score_counts(sets: Sequence[CountedSet], method: str) -> CountScore:
    """Return how well a method counted sets; NaN where there are none."""
    errors_S = np.array([one.counts[method] - one.num_done for one in sets], float)
    if not len(errors_S):
        return CountScore(mean_error=math.nan, bias=math.nan, within_one=math.nan, exact=math.nan, ci95=(math.nan,) * 2)
    is_within_S = np.abs(errors_S) <= 1
    people = sorted({one.group for one in sets})
    of_person = [np.flatnonzero([one.group == person for one in sets]) for person in people]
    rng = np.random.default_rng(0)
    drawn = [rng.integers(len(people), size=len(people)) for _ in range(_RESAMPLES)]
    shares = [is_within_S[np.concatenate([of_person[i] for i in draw])].mean() for draw in drawn]
    low, high = np.percentile(shares, [2.5, 97.5])
    return CountScore(
        mean_error=float(np.abs(errors_S).mean()),
        bias=float(errors_S.mean()),
        within_one=float(is_within_S.mean()),
        exact=float((errors_S == 0).mean()),
        ci95=(float(low), float(high)),
    )
