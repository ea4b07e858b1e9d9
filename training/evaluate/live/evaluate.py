"""Live recognition measured: the recognizer and sliding DTW over the same streams, windows and event rules."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from edge.config import Config
from edge.live import Recognizer, Turn
from edge.match import PrototypeIndex
from edge.model import BundleInfo, Encoder
from edge.thresholds import DecisionLog, Decisions
from edge.words import Words
from streams.archive import Archive
from streams.arrays import Array
from streams.errors import ArchiveError
from streams.event import Event
from training.evaluate.live.dtw import DTW_FACTORS, JointsEncoder, background_of, dtw_index
from training.evaluate.live.rates import MakeIndex
from training.evaluate.live.score import Emitted, Outcome, StreamScore, f1_of, outcome, score_streams
from training.evaluate.live.slices import SLICES, slice_stream
from training.evaluate.live.stream import Stream, prototypes_of
from training.evaluate.live.streams_of_clips import build_streams, recordings_as_stream

Report = Callable[[str, int, int], None]
Scores = dict[str, StreamScore]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Say which streams to make: of each archive `num_streams`, another person's each, with `num_labels` enrolled."""

    seed: int = 0
    num_labels: int = 5
    num_streams: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReport:
    """Hold the scores of "ours", "dtw" and "dtw_tuned": over all clean streams, of each archive, of each slice."""

    total: Scores
    archives: dict[str, Scores]
    slices: dict[str, Scores]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Hold a way to recognize: an encoder with its prototypes' index, and the configuration; `words` of labels."""

    encoder: Encoder
    config: Config
    make_index: MakeIndex = PrototypeIndex
    words: Words | None = None


def dtw_method(info: BundleInfo, config: Config, midpoint: float) -> Method:
    """Return sliding DTW with a threshold calibrated as the recognizer's is, in all else as the recognizer."""
    return Method(encoder=JointsEncoder(info, midpoint), config=config, make_index=dtw_index)


def tuned_dtw_method(
    info: BundleInfo,
    config: Config,
    factor: float,
    background_NTVC: Array,
    known: dict[bytes, Array] | None = None,
) -> Method:
    """Return sliding DTW by the tested set's own background; `known`: see DtwPrototypes, one a stream."""
    encoder = JointsEncoder(info, factor)
    make_index = partial(dtw_index, background_NE=encoder.encode(background_NTVC), known=known)
    return Method(encoder=encoder, config=config, make_index=make_index)


def play(
    stream: Stream,
    method: Method,
    *,
    index: PrototypeIndex | None = None,
    listen: Callable[[Turn, Recognizer], None] = lambda turn, recognizer: None,
) -> list[Emitted]:
    """Run the recognizer over a stream as fast as it goes; return its events, in the order of their onsets.

    Time is the stream's own; what each step really took is measured beside it. `index`: another than that of the
    stream's examples. `listen` is told each turn, and at last one of the ends alone.
    """
    if index is None:
        index = method.make_index(prototypes_of(stream, method.encoder, method.words), method.encoder.info)
    recognizer = Recognizer(method.config, method.encoder, index, clock=time.perf_counter)
    onsets: dict[str, tuple[float, float]] = {}
    last: dict[str, Event] = {}

    def take(turn: Turn, started_s: float) -> None:
        listen(turn, recognizer)
        for event in turn.events:
            if event.type == "onset":
                onsets[event.id] = (event.t_end, 1000 * (time.perf_counter() - started_s))
            last[event.id] = event

    for frame in stream.frames():
        started_s = time.perf_counter()
        take(recognizer.feed([frame], started_s), started_s)
    started_s = time.perf_counter()
    take(Turn(native=(), frames=(), decisions=(), events=recognizer.lose_silent(math.inf)), started_s)
    return [
        Emitted(
            label=last[id].label,
            body=last[id].body,
            start_s=last[id].t_start,
            end_s=last[id].t_end,
            onset_s=onset_s,
            wall_ms=wall_ms,
        )
        for id, (onset_s, wall_ms) in onsets.items()
    ]


def play_and_keep(stream: Stream, method: Method) -> tuple[list[Emitted], Decisions]:
    """Do the same with a stream of one person, and return what all decisions found beside it."""
    index = method.make_index(prototypes_of(stream, method.encoder, method.words), method.encoder.info)
    log = DecisionLog(index.labels)

    def keep(turn: Turn, _: Recognizer) -> None:
        for decision in turn.decisions:
            log.add(decision)

    return play(stream, method, index=index, listen=keep), log.decisions()


def outcome_of(stream: Stream, events: Sequence[Emitted]) -> Outcome:
    """Hold a stream's events against its truth."""
    return outcome(stream.group, stream.truth, stream.others, events, stream.seen_s)


def evaluate_streams(
    archives: Sequence[Archive],
    encoder: Encoder,
    config: Config,
    *,
    build: Build,
    slices: Sequence[str] = (),
    negatives: Sequence[Archive] = (),
    words: Words | None = None,
    report: Report = lambda what, done, total: None,
) -> StreamReport:
    """Make streams of each archive and run the recognizer and sliding DTW over them.

    `negatives`: archives in which nothing enrolled is done, played to the gallery of each stream. "dtw" has the
    threshold that the bundle was given for it; "dtw_tuned" for each stream the factor of the best F1 over the other
    streams. `words`: the labels' words count beside the examples, not in DTW. Raises ArchiveError.
    """
    names = [archive.name for archive in archives]
    if len(set(names)) < len(names):
        raise ArchiveError(f"two archives have one name: {', '.join(sorted(names))}", hint="Name each archive once.")
    clean, notes = _streams(archives, "clean", build)
    info = encoder.info
    by_name = {archive.name: archive for archive in archives}
    backgrounds = {s.group: background_of(by_name[s.archive], s, config, info.num_frames) for s in clean}
    factors = best_factors(_by_factor(clean, backgrounds, info, config, report))
    ours = Method(encoder=encoder, config=config, words=words)

    if info.dtw_midpoint is None:
        notes.append("the bundle has no threshold of DTW: it is tuned on these archives")

    def methods_of(stream: Stream) -> dict[str, Method]:
        tuned = tuned_dtw_method(info, config, factors[stream.group], backgrounds[stream.group])
        if info.dtw_midpoint is None:
            return {"ours": ours, "dtw_tuned": tuned}
        return {"ours": ours, "dtw": dtw_method(info, config, info.dtw_midpoint), "dtw_tuned": tuned}

    def run(name: str, streams: Sequence[Stream]) -> dict[str, list[Outcome]]:
        found: dict[str, list[Outcome]] = {"ours": [], "dtw": [], "dtw_tuned": []}
        for done, stream in enumerate(streams):
            for method_name, method in methods_of(stream).items():
                found[method_name].append(outcome_of(stream, play(stream, method)))
            report(name, done + 1, len(streams))
        if info.dtw_midpoint is None:
            found["dtw"] = found["dtw_tuned"]
        return found

    by_archive = {}
    for name in names:
        own = [stream for stream in clean if stream.archive == name]
        by_archive[name] = run(name, [*own, *(recordings_as_stream(other, s) for s in own for other in negatives)])
    by_slice = {name: run(name, _streams(archives, name, build)[0]) for name in slices}
    return StreamReport(
        total=_scores(*by_archive.values()),
        archives={name: _scores(found) for name, found in by_archive.items()},
        slices={name: _scores(found) for name, found in by_slice.items()},
        notes=tuple(notes),
    )


def _scores(*parts: dict[str, list[Outcome]]) -> Scores:
    return {method: score_streams([result for found in parts for result in found[method]]) for method in parts[0]}


def _streams(archives: Sequence[Archive], name: str, build: Build) -> tuple[list[Stream], list[str]]:
    """Return the streams of a slice, and what was left out."""
    streams: list[Stream] = []
    notes: list[str] = []
    how = SLICES[name]
    for archive in archives:
        own, said = build_streams(
            archive, seed=build.seed, num_labels=build.num_labels, num_people=how.num_people, speed=how.speed
        )
        streams += [slice_stream(stream, name, build.seed) for stream in own[: build.num_streams]]
        notes += [f"{archive.name}: {note}" for note in said]
    return streams, notes


def _by_factor(
    streams: Sequence[Stream], backgrounds: Mapping[str, Array], info: BundleInfo, config: Config, report: Report
) -> dict[str, dict[float, Outcome]]:
    """Run tuned DTW over each stream with each factor."""
    found: dict[str, dict[float, Outcome]] = {}
    for done, stream in enumerate(streams):
        known: dict[bytes, Array] = {}
        methods = {f: tuned_dtw_method(info, config, f, backgrounds[stream.group], known) for f in DTW_FACTORS}
        found[stream.group] = {f: outcome_of(stream, play(stream, method)) for f, method in methods.items()}
        report("thresholds of DTW", done + 1, len(streams))
    return found


def best_factors(by_factor: Mapping[str, Mapping[float, Outcome]]) -> dict[str, float]:
    """Return for each group the factor of the best F1 over all other groups; over its own where it is alone."""
    best = {}
    for group in by_factor:
        others = [by for other, by in by_factor.items() if other != group or len(by_factor) == 1]
        f1 = {factor: f1_of([by[factor] for by in others]) for factor in DTW_FACTORS}
        best[group] = max(f1, key=lambda factor: f1[factor])
    return best
