"""From frames to events: pure, with the time that passes told by the frames and an injected clock.

Shapes: W windows, P prototypes, K labels, E values of an embedding, F features, L frames, T frames of a window,
V = 25, C = 3.
"""

from __future__ import annotations

import math
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge.bundle import BundleInfo, Calibration
from edge.calibration import Classifier
from edge.config import Config
from edge.encoder import Encoder
from edge.gallery import Prototype
from edge.intake import Intake
from edge.matching import MAX_ALIGNED, compared, distances_between
from edge.normalize import windows_from_joints
from edge.window import BodyTrack, travels_m
from streams.event import Event, Latency, Quality, RunnerUp
from streams.frame import NO_CONFIDENCE, Body, SkeletonFrame

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Hold the best label of one decision, and where in the stream it was seen."""

    label: str
    distance: float
    score: float
    runner_up: RunnerUp | None
    t_start_s: float
    joints: float


@dataclass(slots=True)
class _Active:
    id: str
    match: Match
    t_start_s: float
    last_hit_s: float
    last_told_s: float


@dataclass(slots=True)
class _Person:
    source: str
    body: int
    track: BodyTrack
    recent: deque[str | None]
    decided_s: float = -math.inf
    active: _Active | None = None
    ended_s: dict[str, float] = field(default_factory=dict)


def score_from_distance(distance: float, calibration: Calibration) -> float:
    """Return the calibrated score, 0 to 1; 0.5 at the calibration's midpoint."""
    return 1.0 / (1.0 + math.exp(min(calibration.slope * (distance - calibration.midpoint), 700.0)))


def seen_joints_m(body: Body) -> Array:
    """Return a body's joints, shape (25, 3), NaN also where the sensor has no confidence in them."""
    if body.confidence.all():
        return body.joints_m
    return np.where((body.confidence == NO_CONFIDENCE)[:, None], np.float32(np.nan), body.joints_m)


_NO_LATENCY = Latency(sensor=0.0, queue=0.0, encode=0.0, match=0.0, total=0.0)


class PrototypeIndex:
    """Hold the prototypes ordered by label, ready for matching; `classifier`, where there is one, chooses the label."""

    def __init__(self, prototypes: Sequence[Prototype], info: BundleInfo, revision: int = 0) -> None:
        ordered = sorted(prototypes, key=lambda prototype: prototype.label)
        self.revision = revision
        self.durations_s = np.array([p.duration_s for p in ordered])
        self.labels = sorted({p.label for p in ordered})
        self.classifier: Classifier | None = None
        self._first = np.array([[p.label for p in ordered].index(label) for label in self.labels], np.intp)
        self._wants: dict[tuple[float, float], npt.NDArray[np.bool_]] = {}
        self._info = info
        self._prototypes = compared(
            np.array([p.embedding for p in ordered], np.float32).reshape(len(ordered), info.embedding_size),
            info.aligned_frames,
        )

    def __len__(self) -> int:
        return len(self.durations_s)

    def wants(self, length_s: float, max_stretch: float) -> npt.NDArray[np.bool_]:
        """Return which prototypes are compared with windows of a length, shape (P,)."""
        if (length_s, max_stretch) not in self._wants:
            ratio = length_s / np.maximum(self.durations_s, 1e-3)
            self._wants[length_s, max_stretch] = np.asarray((ratio <= max_stretch) & (ratio >= 1 / max_stretch))
        return self._wants[length_s, max_stretch]

    def distances(
        self, embeddings_WE: Array, comparable_WP: npt.NDArray[np.bool_]
    ) -> tuple[Array, npt.NDArray[np.intp]]:
        """Return for each label the smallest distance (edge.matching) and the window it was found in."""
        windows = compared(embeddings_WE, self._info.aligned_frames)
        distances_WP = distances_between(
            windows, self._prototypes, self._info.alignment_weight, max_aligned=MAX_ALIGNED
        )
        distances_WP = np.where(comparable_WP, distances_WP, np.float32(np.inf))
        by_label = np.minimum.reduceat(distances_WP, self._first, axis=1)
        window = by_label.argmin(axis=0)
        return by_label[window, np.arange(len(self.labels))], window

    def ranking(self, distances_K: Array, windows_K: npt.NDArray[np.intp], features_WF: Array) -> list[int]:
        """Return the numbers of the two best labels: the nearest, or, with a classifier, the most probable.

        A label's probability is that in the window that is nearest to it; 0 where none may be compared with it.
        """
        if self.classifier is None:
            return list(np.argsort(distances_K)[:2])
        assert list(self.classifier.labels) == self.labels
        p_K = self.classifier.probabilities(features_WF)[windows_K, np.arange(len(self.labels))]
        # Several labels may be certain, each in its own window: then the nearest.
        return list(np.lexsort((distances_K, -np.where(np.isfinite(distances_K), p_K, 0)))[:2])


class Recognizer:
    """Turn frames into events: a track per body, windows at each hop, match, confirm, begin, end."""

    def __init__(
        self,
        config: Config,
        encoder: Encoder,
        intake: Intake,
        *,
        clock: Callable[[], float],
        clock_name: str = "",
    ) -> None:
        self.config = config
        self.encoder = encoder
        self.intake = intake
        self.prototypes = PrototypeIndex((), encoder.info)
        self.num_decisions = 0
        self.num_windows = 0
        self.num_hops_skipped = 0
        self.num_bodies_refused = 0
        self.num_bodies_without_joints = 0
        self._clock = clock
        self._clock_name = clock_name
        self._people: dict[tuple[str, int], _Person] = {}
        self._last_frames: dict[str, SkeletonFrame] = {}
        self._received_s: dict[str, float] = {}

    @property
    def num_bodies(self) -> int:
        return len(self._people)

    def step(self, frames: Sequence[SkeletonFrame], received_s: float) -> list[Event]:
        """Take in frames (kinect25, accepted by the intake), return the events they cause.

        All frames are taken in before anything is decided: when the machine is slow, decisions are
        skipped and counted, and the one that is made is about the newest moment. `received_s`: the
        injected clock when the frames were read.
        """
        events: list[Event] = []
        newest: dict[str, SkeletonFrame] = {}
        for frame in frames:
            self._take(frame, events)
            newest[frame.source] = frame
            self._received_s[frame.source] = received_s
        for frame in newest.values():
            events += self._decide(frame, received_s)
        return events

    def forget(self) -> list[Event]:
        """Drop all tracks: what was seen so far is not to be recognised any more. Return the ends of events."""
        return self._drop(list(self._people.values()))

    def lose_silent(self, now_s: float) -> list[Event]:
        """Drop the tracks of sources that gave no frame for `takeover_s`; return the ends of their events.

        `now_s`: the injected clock. Frames that the intake refuses, as those of a time that stands
        still, are none.
        """
        late_s = now_s - self.config.stream.takeover_s
        silent = [source for source, received_s in self._received_s.items() if received_s < late_s]
        events = self._drop([person for person in self._people.values() if person.source in silent])
        for source in silent:
            del self._received_s[source], self._last_frames[source]
        return events

    def _drop(self, people: list[_Person]) -> list[Event]:
        events = []
        for person in people:
            del self._people[person.source, person.body]
            if person.active is not None:
                frame = self._last_frames[person.source]
                events.append(self._event("end", person, person.active, frame, _NO_LATENCY))
        return events

    def _take(self, frame: SkeletonFrame, events: list[Event]) -> None:
        now_s = frame.timestamp_s
        # A time that runs backwards (another epoch) ends the old tracks as a gap does.
        events += self._drop(
            [
                person
                for person in self._people.values()
                if person.source == frame.source
                and not 0 <= now_s - person.track.newest_s <= self.config.stream.max_gap_s
            ]
        )
        self._last_frames[frame.source] = frame
        for body in frame.bodies:
            key = (frame.source, body.id)
            joints_m = seen_joints_m(body)
            if not np.isfinite(joints_m).all(axis=1).any():
                self.num_bodies_without_joints += 1
                continue
            known = self._people.get(key)
            if known is None:
                if len(self._people) >= self.config.stream.max_bodies:
                    self.num_bodies_refused += 1
                    continue
                known = self._people[key] = _Person(
                    frame.source,
                    body.id,
                    BodyTrack(max(self.config.windows.lengths_s) + 0.1, self.config.stream.max_rate_fps),
                    deque(maxlen=self.config.events.out_of),
                )
            known.track.push(now_s, joints_m)

    def _decide(self, frame: SkeletonFrame, received_s: float) -> list[Event]:
        now_s, hop_s = frame.timestamp_s, self.config.windows.hop_s
        due = []
        for person in self._people.values():
            if person.source != frame.source or person.track.newest_s != now_s:
                continue
            since_s = now_s - person.decided_s
            if since_s >= hop_s - 1e-6:
                if math.isfinite(since_s):
                    self.num_hops_skipped += max(0, int((since_s + 1e-6) / hop_s) - 1)
                person.decided_s = now_s
                due.append(person)
        if not due:
            return []
        self.num_decisions += len(due)
        started_s = self._clock()
        windows, spans = [], []
        if len(self.prototypes):
            for i, person in enumerate(due):
                for comparable_P, window, t_start_s, joints in self._windows(person):
                    windows.append(window)
                    spans.append((i, comparable_P, t_start_s, joints))
        self.num_windows += len(windows)
        cut_s = self._clock()
        embeddings_WE = features_WF = np.zeros((len(windows), 0), np.float32)
        if windows and self.prototypes.classifier is not None:
            embeddings_WE, features_WF = self.encoder.encode_with_features(np.stack(windows))
        elif windows:
            embeddings_WE = self.encoder.encode(np.stack(windows))
        encoded_s = self._clock()
        matches: list[Match | None] = []
        for i in range(len(due)):
            rows = [row for row, span in enumerate(spans) if span[0] == i]
            own_spans = [spans[row] for row in rows]
            matches.append(self._match(embeddings_WE[rows], features_WF[rows], own_spans) if rows else None)
        matched_s = self._clock()
        sensor_s = max(0.0, frame.t_send_s - now_s)
        arrived_s = frame.t_send_s if frame.clock and frame.clock == self._clock_name else received_s
        latency = Latency(
            sensor=1000 * sensor_s,
            queue=1000 * max(0.0, started_s - arrived_s),
            encode=1000 * (encoded_s - cut_s),
            match=1000 * (cut_s - started_s + matched_s - encoded_s),
            total=1000 * (sensor_s + max(0.0, matched_s - arrived_s)),
        )
        return [
            event
            for person, match in zip(due, matches, strict=True)
            for event in self._follow(person, match, frame, latency)
        ]

    def _windows(self, person: _Person) -> list[tuple[npt.NDArray[np.bool_], Array, float, float]]:
        """Cut the windows of a body that prototypes ask for: (comparable (P,), window, start, joints seen)."""
        config = self.config.windows
        wanted = [(length_s, self.prototypes.wants(length_s, config.max_stretch)) for length_s in config.lengths_s]
        wanted = [(length_s, comparable_P) for length_s, comparable_P in wanted if comparable_P.any()]
        if not wanted:
            return []
        lengths_s = np.array([length_s for length_s, _ in wanted])
        timestamps_s, joints_LV3 = person.track.latest(float(lengths_s.max()))
        firsts_W = np.searchsorted(timestamps_s, timestamps_s[-1] - lengths_s - 1e-6)
        is_filled = timestamps_s[-1] - timestamps_s[firsts_W] >= config.min_filled * lengths_s
        is_filled &= len(timestamps_s) - firsts_W >= 4
        if not is_filled.any():
            return []
        chosen = np.flatnonzero(is_filled & (travels_m(joints_LV3, firsts_W) >= config.min_motion_m))
        if not len(chosen):
            return []
        windows = windows_from_joints(timestamps_s, joints_LV3, firsts_W[chosen], self.encoder.info.num_frames)
        is_seen = np.isfinite(joints_LV3[:, :, 0])
        return [
            (wanted[i][1], window, float(timestamps_s[firsts_W[i]]), float(is_seen[firsts_W[i] :].mean()))
            for i, window in zip(chosen, windows, strict=True)
        ]

    def _match(
        self,
        embeddings_WE: Array,
        features_WF: Array,
        spans: list[tuple[int, npt.NDArray[np.bool_], float, float]],
    ) -> Match | None:
        comparable_WP = np.array([span[1] for span in spans])
        distances, windows = self.prototypes.distances(embeddings_WE, comparable_WP)
        best, *others = self.prototypes.ranking(distances, windows, features_WF)
        calibration = self.encoder.info.calibration
        runner_up = None
        if others and np.isfinite(distances[others[0]]):
            second = others[0]
            runner_up = RunnerUp(
                label=self.prototypes.labels[second],
                score=score_from_distance(float(distances[second]), calibration),
            )
        return Match(
            label=self.prototypes.labels[best],
            distance=float(distances[best]),
            score=score_from_distance(float(distances[best]), calibration),
            runner_up=runner_up,
            t_start_s=spans[int(windows[best])][2],
            joints=spans[int(windows[best])][3],
        )

    def _follow(self, person: _Person, match: Match | None, frame: SkeletonFrame, latency: Latency) -> list[Event]:
        config, now_s = self.config.events, frame.timestamp_s
        is_hit = match is not None and match.score >= config.min_score
        person.recent.append(match.label if match is not None and is_hit else None)
        active, events = person.active, []
        if match is not None and is_hit and active is not None and match.label == active.match.label:
            active.last_hit_s = now_s
            if match.score > active.match.score:
                active.match = match
            if now_s - active.last_told_s >= config.update_s:
                active.last_told_s = now_s
                events.append(self._event("update", person, active, frame, latency))
            return events
        begins = (
            match is not None
            and person.recent.count(match.label) >= config.hits
            and is_hit
            and now_s - person.ended_s.get(match.label, -math.inf) > config.refractory_s
        )
        if active is not None and (begins or now_s - active.last_hit_s > config.release_s):
            events.append(self._event("end", person, active, frame, latency))
            person.ended_s[active.match.label] = now_s
            person.active = None
        if begins and match is not None:
            person.active = _Active(str(uuid.uuid4()), match, match.t_start_s, now_s, now_s)
            events.append(self._event("onset", person, person.active, frame, latency))
        return events

    def _event(
        self,
        kind: Literal["onset", "update", "end"],
        person: _Person,
        active: _Active,
        frame: SkeletonFrame,
        latency: Latency,
    ) -> Event:
        match = active.match
        t_end_s = active.last_hit_s if kind == "end" else frame.timestamp_s
        return Event(
            id=active.id,
            type=kind,
            label=match.label,
            source=person.source,
            body=person.body,
            score=match.score,
            distance=match.distance,
            threshold=self.config.events.min_score,
            margin=match.score - (match.runner_up.score if match.runner_up else 0.0),
            runner_up=match.runner_up,
            t_start=active.t_start_s,
            t_end=t_end_s,
            t_emit=frame.timestamp_s + latency.total / 1000,
            clock=frame.clock,
            seq_last=frame.seq,
            gallery_revision=self.prototypes.revision,
            model_sha256=self.encoder.info.onnx_sha256,
            latency_ms=latency,
            quality=Quality(
                joints=match.joints,
                fps=self.intake.rate_fps(person.source),
                dropped=self.intake.num_dropped(person.source),
            ),
        )
