"""Live recognition measured: the recogniser and sliding DTW over the same streams, windows and event rules.

Shapes: W windows, P prototypes, K labels, E values of an embedding, T frames, V = 25, C = 3.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np
import numpy.typing as npt

from edge.bundle import BundleInfo, Calibration
from edge.calibration import BaseStatistics
from edge.config import Config
from edge.dtw import dtw_distances
from edge.encoder import Encoder
from edge.gallery import Prototype
from edge.intake import Intake
from edge.matching import Prototypes
from edge.normalize import window_from_joints
from edge.recognizer import PrototypeIndex, Recognizer
from streams.archive import Archive
from streams.errors import ArchiveError
from streams.event import Event
from training.stream import Stream, prototypes_of
from training.stream_score import Emitted, Outcome, StreamScore, f1_of, outcome, score_streams
from training.stream_slices import SLICES, sliced
from training.streams_of_clips import build_streams, recordings_as_stream

Array = npt.NDArray[np.float32]
MakeIndex = Callable[[Sequence[Prototype], BundleInfo], PrototypeIndex]
Report = Callable[[str, int, int], None]
Scores = dict[str, StreamScore]

# DTW's threshold for a prototype: so many times the distance that one in a hundred windows of background stays below.
# Of one threshold for all, the best is .7 on one archive and 1.1 on another; of these multiples the same one.
DTW_FACTORS = (0.7, 0.8, 0.9, 1.0)
_BACKGROUND_SHARE = 0.01
_NUM_BACKGROUND = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Say which streams to make: of each archive `num_streams`, another person's each, with `num_labels` enrolled."""

    seed: int = 0
    num_labels: int = 5
    num_streams: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReport:
    """Hold the scores of "ours" and "dtw": over all clean streams, of each archive's, and of each further slice."""

    total: Scores
    archives: dict[str, Scores]
    slices: dict[str, Scores]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Hold a way to recognise: an encoder with its prototypes' index, and the configuration."""

    encoder: Encoder
    config: Config
    make_index: MakeIndex = PrototypeIndex


class JointsEncoder:
    """Stand in for the encoder where DTW compares: an embedding is a window's joints as SpineBase sees them."""

    def __init__(self, info: BundleInfo, factor: float) -> None:
        self.info = msgspec.structs.replace(
            info,
            embedding_size=75 * info.num_frames,
            aligned_frames=0,
            calibration=Calibration(midpoint=factor, slope=5.0, source="streams of others"),
        )
        self.statistics: BaseStatistics | None = None

    def encode(self, windows_NTVC: Array) -> Array:
        return (windows_NTVC - windows_NTVC[:, :, :1]).reshape(len(windows_NTVC), self.info.embedding_size)

    def encode_with_features(self, windows_NTVC: Array) -> tuple[Array, Array]:
        return self.encode(windows_NTVC), np.zeros((len(windows_NTVC), 0), np.float32)


class DtwPrototypes(Prototypes):
    """Compare windows with prototypes by DTW of their joints, in units of each prototype's distance to background.

    `background_NE`: embeddings of windows in which nothing enrolled is done. `known`: distances (P,) by a window's
    digest, kept from one factor to the next.
    """

    def __init__(
        self, embeddings: Sequence[Array], info: BundleInfo, background_NE: Array, known: dict[bytes, Array]
    ) -> None:
        super().__init__(embeddings, info)
        self._frames_PTD = np.reshape(embeddings, (len(embeddings), info.num_frames, 75))
        self._known = known
        self._units_P = np.quantile(self._dtw(background_NE), _BACKGROUND_SHARE, axis=0).astype(np.float32)

    def distances(self, windows_NE: Array) -> Array:
        """Return how far windows are from each prototype, shape (N, P)."""
        digests = [hashlib.blake2b(window.tobytes(), digest_size=16).digest() for window in windows_NE]
        new = [i for i, digest in enumerate(digests) if digest not in self._known]
        if new:
            found_NP = self._dtw(windows_NE[new]) / self._units_P
            self._known.update(zip((digests[i] for i in new), found_NP, strict=True))
        return np.stack([self._known[digest] for digest in digests])

    def _dtw(self, windows_NE: Array) -> Array:
        return dtw_distances(windows_NE.reshape(len(windows_NE), *self._frames_PTD.shape[1:]), self._frames_PTD)


class DtwIndex(PrototypeIndex):
    """Compare by DTW, and leave all the rest as it is."""

    def __init__(
        self, prototypes: Sequence[Prototype], info: BundleInfo, background_NE: Array, known: dict[bytes, Array]
    ) -> None:
        super().__init__(prototypes, info)
        ordered = sorted(prototypes, key=lambda prototype: prototype.label)
        self._prototypes = DtwPrototypes([p.embedding for p in ordered], info, background_NE, known)


def dtw_method(
    info: BundleInfo,
    config: Config,
    factor: float,
    background_NTVC: Array,
    known: dict[bytes, Array] | None = None,
) -> Method:
    """Return sliding DTW, in all else as the recogniser; `known`: see DtwPrototypes, one a stream."""
    encoder = JointsEncoder(info, factor)
    make_index = partial(DtwIndex, background_NE=encoder.encode(background_NTVC), known={} if known is None else known)
    return Method(encoder=encoder, config=config, make_index=make_index)


def background_of(archive: Archive, stream: Stream, config: Config, num_frames: int) -> Array:
    """Cut windows at random from an archive's clips that are not enrolled, those of other people than the performer.

    Shape (N, T, 25, 3). It is the sensor's own background: better than a device has.
    """
    rng = np.random.default_rng(0)
    clips = [clip for clip in map(archive.__getitem__, range(len(archive))) if clip.label not in stream.enrolled]
    clips = [clip for clip in clips if f"{clip.archive}/{clip.subject}" != stream.group] or clips
    windows = []
    for i in rng.integers(len(clips), size=_NUM_BACKGROUND):
        joints_LV3, times_s = clips[i].persons[0], clips[i].timestamps_s
        length = min(len(times_s), round(rng.choice(config.windows.lengths_s) * clips[i].fps))
        first = rng.integers(len(times_s) - length + 1)
        part = slice(first, first + length)
        if np.isfinite(joints_LV3[part]).all(axis=2).any():
            windows.append(window_from_joints(times_s[part], joints_LV3[part], num_frames))
    return np.stack(windows)


def play(stream: Stream, method: Method) -> list[Emitted]:
    """Run the recogniser over a stream as fast as it goes; return its events, in the order of their onsets.

    Time is the stream's own; what each step really took is measured beside it.
    """
    recognizer = Recognizer(
        method.config, method.encoder, intake := Intake(method.config.stream), clock=time.perf_counter
    )
    recognizer.prototypes = method.make_index(prototypes_of(stream, method.encoder), method.encoder.info)
    onsets: dict[str, tuple[float, float]] = {}
    last: dict[str, Event] = {}
    for frame in stream.frames():
        if not intake.accept(frame, frame.timestamp_s):
            continue
        started_s = time.perf_counter()
        events = recognizer.step([frame], started_s)
        for event in events:
            if event.type == "onset":
                onsets[event.id] = (frame.timestamp_s, 1000 * (time.perf_counter() - started_s))
            last[event.id] = event
    for event in recognizer.forget():
        last[event.id] = event
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
    report: Report = lambda what, done, total: None,
) -> StreamReport:
    """Make streams of each archive and run the recogniser and sliding DTW over them.

    `negatives`: archives in which nothing enrolled is done, played to the gallery of each stream. DTW's
    factor for a stream is that of the best F1 over the other streams. Raises ArchiveError.
    """
    names = [archive.name for archive in archives]
    if len(set(names)) < len(names):
        raise ArchiveError(f"two archives have one name: {', '.join(sorted(names))}", hint="Name each archive once.")
    clean, notes = _streams(archives, "clean", build)
    info = encoder.info
    by_name = {archive.name: archive for archive in archives}
    backgrounds = {s.group: background_of(by_name[s.archive], s, config, info.num_frames) for s in clean}
    factors = best_factors(_by_factor(clean, backgrounds, info, config, report))
    ours = Method(encoder=encoder, config=config)

    def run(name: str, streams: Sequence[Stream]) -> dict[str, list[Outcome]]:
        found: dict[str, list[Outcome]] = {"ours": [], "dtw": []}
        for done, stream in enumerate(streams):
            dtw = dtw_method(info, config, factors[stream.group], backgrounds[stream.group])
            for results, method in zip(found.values(), (ours, dtw), strict=True):
                results.append(outcome_of(stream, play(stream, method)))
            report(name, done + 1, len(streams))
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
        streams += [sliced(stream, name, build.seed) for stream in own[: build.num_streams]]
        notes += [f"{archive.name}: {note}" for note in said]
    return streams, notes


def _by_factor(
    streams: Sequence[Stream], backgrounds: Mapping[str, Array], info: BundleInfo, config: Config, report: Report
) -> dict[str, dict[float, Outcome]]:
    """Run DTW over each stream with each factor."""
    found: dict[str, dict[float, Outcome]] = {}
    for done, stream in enumerate(streams):
        known: dict[bytes, Array] = {}
        methods = {f: dtw_method(info, config, f, backgrounds[stream.group], known) for f in DTW_FACTORS}
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
