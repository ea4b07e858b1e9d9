"""From frames to events: pure, with the time that passes told by the frames and an injected clock.

Shapes: W windows, P prototypes, K labels, E values of an embedding, F features, L frames, T frames of a window,
V = 25, C = 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge.config import Config
from edge.live.events import Active, BodyEvents, Match
from edge.live.intake import Intake
from edge.match import PrototypeIndex, score_from_distance
from edge.model import Encoder
from edge.motion import BodyTrack, travels_m, windows_from_joints
from streams.arrays import Array, Mask
from streams.errors import EngineError
from streams.event import Event, Latency, Quality, RunnerUp
from streams.frame import SkeletonFrame, seen_joints_m


@dataclass(slots=True)
class _Person:
    source: str
    body: int
    track: BodyTrack
    events: BodyEvents
    decided_s: float = -math.inf


_NO_LATENCY = Latency(sensor=0.0, queue=0.0, encode=0.0, match=0.0, total=0.0)


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
        self.num_still = 0
        self.num_hops_skipped = 0
        # What the hop really is, smoothed over ten decisions: it grows when the machine is too slow.
        self.hop_s = config.windows.hop_s
        self.num_encodes_failed = 0
        self.engine_error: EngineError | None = None
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
        """Drop all tracks: what was seen so far is not to be recognized any more. Return the ends of events."""
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
            if person.events.active is not None:
                frame = self._last_frames[person.source]
                events.append(self._event("end", person, person.events.active, frame, _NO_LATENCY))
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
                    BodyEvents(self.config.events.out_of),
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
                    self.hop_s += 0.1 * (since_s - self.hop_s)
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
        try:
            if windows and self.prototypes.classifier is not None:
                embeddings_WE, features_WF = self.encoder.encode_with_features(np.stack(windows))
            elif windows:
                embeddings_WE = self.encoder.encode(np.stack(windows))
            self.engine_error = None if windows else self.engine_error
        except EngineError as error:  # nothing was seen in this decision; the next one tries again
            self.num_encodes_failed += 1
            self.engine_error = error
            spans = []
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
            self._event(kind, person, active, frame, latency)
            for person, match in zip(due, matches, strict=True)
            for kind, active in person.events.follow(match, now_s, self.config.events)
        ]

    def _windows(self, person: _Person) -> list[tuple[Mask, Array, float, float]]:
        """Cut the windows of a body that prototypes ask for: (comparable (P,), window, start, joints seen)."""
        config = self.config.windows
        wanted = [(length_s, self.prototypes.wants(length_s, config.max_stretch)) for length_s in config.lengths_s]
        wanted = [(length_s, comparable_P) for length_s, comparable_P in wanted if comparable_P.any()]
        if not wanted:
            return []
        lengths_s = np.array([length_s for length_s, _ in wanted])
        timestamps_s, joints_LV3 = person.track.latest(float(lengths_s.max()))
        firsts_W = np.searchsorted(timestamps_s, timestamps_s[-1] - lengths_s - 1e-6)
        recent_s = timestamps_s[-1] - config.recent_s - 1e-6
        is_filled = timestamps_s[-1] - timestamps_s[firsts_W] >= config.min_filled * lengths_s
        is_filled &= len(timestamps_s) - firsts_W >= 4
        if not is_filled.any():
            return []
        traveled_m = travels_m(joints_LV3, np.append(firsts_W, np.searchsorted(timestamps_s, recent_s)))
        if traveled_m[-1] < config.min_recent_motion_m:
            self.num_still += 1
            return []
        chosen = np.flatnonzero(is_filled & (traveled_m[:-1] >= config.min_motion_m))
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
        spans: list[tuple[int, Mask, float, float]],
    ) -> Match | None:
        comparable_WP = np.array([span[1] for span in spans])
        distances, windows = self.prototypes.distances(embeddings_WE, comparable_WP)
        best, *others = self.prototypes.ranking(distances, windows, features_WF)

        def score(label: int) -> float:
            midpoint = float(self.prototypes.midpoints_K[label])
            return score_from_distance(float(distances[label]), self.encoder.info.calibration, midpoint)

        runner_up = None
        if others and np.isfinite(distances[others[0]]):
            runner_up = RunnerUp(label=self.prototypes.labels[others[0]], score=score(others[0]))
        return Match(
            label=self.prototypes.labels[best],
            distance=float(distances[best]),
            score=score(best),
            runner_up=runner_up,
            t_start_s=spans[int(windows[best])][2],
            joints=spans[int(windows[best])][3],
        )

    def _event(
        self,
        kind: Literal["onset", "update", "end"],
        person: _Person,
        active: Active,
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
