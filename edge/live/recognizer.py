"""From frames to events: pure, with the time that passes told by the frames and an injected clock.

Shapes: W windows, K labels, E values of an embedding, F features, T frames of a window, V = 25, C = 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, KeysView, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from edge.config import Config
from edge.live.decision import Decision, Turn
from edge.live.events import Active, BodyEvents
from edge.live.intake import Intake
from edge.live.matching import Found, find_match
from edge.live.repetitions import Course, Repetitions, course_of
from edge.live.windows import NOTHING, Cut, cut_windows
from edge.match import PrototypeIndex
from edge.model import Encoder
from edge.motion import BodyTrack
from streams.arrays import Array
from streams.errors import EngineError
from streams.event import Event, Latency, Quality
from streams.frame import SkeletonFrame
from streams.movement import Movement


@dataclass(slots=True)
class _Person:
    source: str
    body: int
    track: BodyTrack
    events: BodyEvents
    # By label, of the actions that were told lately.
    repetitions: dict[str, Repetitions] = field(default_factory=dict)
    decided_s: float = -math.inf


_NO_LATENCY = Latency(sensor=0.0, queue=0.0, encode=0.0, match=0.0, total=0.0)


class Recognizer:
    """Turn frames into events: accept, convert, a track per body, windows at each hop, match, begin, end."""

    def __init__(
        self,
        config: Config,
        encoder: Encoder,
        prototypes: PrototypeIndex | None = None,
        *,
        clock: Callable[[], float],
        clock_name: str = "",
    ) -> None:
        self.config = config
        self.encoder = encoder
        self.intake = Intake(config.stream, clock_name=clock_name)
        self.prototypes = PrototypeIndex((), encoder.info) if prototypes is None else prototypes
        self.num_decisions = 0
        self.num_windows = 0
        self.encode_s = 0.0
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
        # What bodies that were lost for a moment repeated.
        self._left: dict[tuple[str, int], dict[str, Repetitions]] = {}

    @property
    def num_bodies(self) -> int:
        """The number of bodies that are followed now."""
        return len(self._people)

    @property
    def bodies(self) -> KeysView[tuple[str, int]]:
        """The source and id of each body that is followed now."""
        return self._people.keys()

    def movement(self, source: str, body: int, start_s: float) -> Movement:
        """Return a copy of what a followed body did from `start_s` on, as far back as its windows go."""
        track = self._people[source, body].track
        timestamps_s, joints_LV3 = track.latest(track.newest_s - start_s)
        return Movement(timestamps_s=timestamps_s.copy(), joints_m=joints_LV3.copy())

    def feed(self, frames: Iterable[SkeletonFrame], received_s: float) -> Turn:
        """Take in frames as they come, in any layout; return those that were accepted, and what follows from them.

        All frames are taken in before anything is decided: when the machine is slow, decisions are
        skipped and counted, and the one that is made is about the newest moment. `received_s`: the
        injected clock when the frames were read.
        """
        native: list[SkeletonFrame] = []
        converted: list[SkeletonFrame] = []
        decisions: list[Decision] = []
        events: list[Event] = []
        newest: dict[str, SkeletonFrame] = {}
        # One after another: who yields the frames may count in between what it refuses.
        for frame in frames:
            if not self.intake.accept(frame, received_s):
                continue
            native.append(frame)
            taken = frame.to_kinect25()
            converted.append(taken)
            events += self._take(taken)
            newest[frame.source] = taken
            self._received_s[frame.source] = received_s
        for frame in newest.values():
            decisions += self.decide(frame, received_s)
        for decision in decisions:
            events += self.follow(decision)
        return Turn(native=native, frames=converted, decisions=decisions, events=events)

    def decide(self, frame: SkeletonFrame, received_s: float) -> list[Decision]:
        """Decide about each body of a source whose hop is over; `frame`: the newest one, which was taken in."""
        due = self._due(frame)
        if not due:
            return []
        started_s = self._clock()
        cuts = self._cut(due)
        cut_s = self._clock()
        cuts, embeddings_WE, features_WF = self._encode(cuts)
        encoded_s = self._clock()
        self.encode_s += encoded_s - cut_s
        found = self._find(cuts, embeddings_WE, features_WF)
        matched_s = self._clock()
        sensor_s = max(0.0, frame.t_send_s - frame.timestamp_s)
        arrived_s = frame.t_send_s if frame.clock and frame.clock == self._clock_name else received_s
        latency = Latency(
            sensor=1000 * sensor_s,
            queue=1000 * max(0.0, started_s - arrived_s),
            encode=1000 * (encoded_s - cut_s),
            match=1000 * (cut_s - started_s + matched_s - encoded_s),
            total=1000 * (sensor_s + max(0.0, matched_s - arrived_s)),
        )
        return [
            Decision(
                frame=frame,
                body=person.body,
                windows=cut.windows,
                labels=self.prototypes.labels,
                distances_K=own.distances_K,
                windows_K=own.windows_K,
                match=own.match,
                latency=latency,
            )
            for person, cut, own in zip(due, cuts, found, strict=True)
        ]

    def follow(self, decision: Decision) -> list[Event]:
        """Return the events that a decision causes: the body's begins, goes on or ends."""
        person = self._people[decision.source, decision.body]
        repeats = False
        if (active := person.events.active) is not None:
            repetitions = person.repetitions[active.match.label]
            repetitions.follow(person.track)
            active.count, active.progress = repetitions.count, repetitions.progress
            repeats = repetitions.repeats(decision.time_s)
        told = person.events.follow(decision.match, decision.time_s, self.config.events, repeats=repeats)
        for kind, active in told:
            if kind == "onset":
                self._count(person, active)
        return [self._event(kind, person, active, decision.frame, decision.latency) for kind, active in told]

    def _count(self, person: _Person, active: Active) -> None:
        """Count the repetitions of an event that begins, on from those of the same label right before it."""
        label, begun_s = active.match.label, active.t_start_s
        lately = {name: own for name, own in person.repetitions.items() if own.may_go_on(begun_s)}
        if label in lately:
            lately[label].follow(person.track)
        else:
            since_s = max((own.last_s for own in lately.values()), default=-math.inf)
            course = self._course(label, person, begun_s)
            lately[label] = Repetitions(course, person.track, begun_s=begun_s, since_s=since_s)
        person.repetitions = lately
        active.count = active.told_count = lately[label].count
        active.progress = lately[label].progress

    def _course(self, label: str, person: _Person, begun_s: float) -> Course:
        """Return the course of a label's example; where words alone stand for it, that of what was just done."""
        example = self.prototypes.example(label)
        if example is not None:
            return course_of(example)
        return replace(course_of(self.movement(person.source, person.body, begun_s)), turns=())

    def reconfigure(self, config: Config) -> list[Event]:
        """Work with another configuration from now on; counters go on, tracks start anew. Return as `forget`."""
        ends = self.forget()
        self.config, self.intake.config = config, config.stream
        return ends

    def forget(self) -> list[Event]:
        """Drop all tracks: what was seen so far is not to be recognized any more. Return the ends of events."""
        self._left.clear()
        return self._drop(list(self._people.values()), is_lost=False)

    def lose_silent(self, now_s: float) -> list[Event]:
        """Drop the tracks of sources that gave no frame for `takeover_s`; return the last of their events.

        `now_s`: the injected clock. Frames that the intake refuses, as those of a time that stands
        still, are none.
        """
        late_s = now_s - self.config.stream.takeover_s
        silent = [source for source, received_s in self._received_s.items() if received_s < late_s]
        events = self._drop([person for person in self._people.values() if person.source in silent])
        for source in silent:
            del self._received_s[source], self._last_frames[source]
        return events

    def _drop(self, people: list[_Person], *, is_lost: bool = True) -> list[Event]:
        """Follow these bodies no more; where one is lost, what came nearest until then is told."""
        events = []
        for person in people:
            del self._people[person.source, person.body]
            if is_lost:
                self._leave(person)
            told = person.events.finish(person.decided_s, self.config.events, begins=is_lost)
            if told:
                frame = self._last_frames[person.source]
                events += [self._event(kind, person, active, frame, _NO_LATENCY) for kind, active in told]
        return events

    def _leave(self, person: _Person) -> None:
        """Keep what a lost body repeated: it may come back in the midst of it."""
        if person.repetitions:
            if len(self._left) >= self.config.stream.max_bodies:
                self._left.clear()
            self._left[person.source, person.body] = person.repetitions

    def _take(self, frame: SkeletonFrame) -> list[Event]:
        """Add a frame to the tracks of its bodies; return the last events of those that were lost before it."""
        now_s = frame.timestamp_s
        # A time that runs backwards (another epoch) ends the old tracks as a gap does.
        ends = self._drop(
            [
                person
                for person in self._people.values()
                if person.source == frame.source
                and not 0 <= now_s - person.track.newest_s <= self.config.stream.max_gap_s
            ]
        )
        self._last_frames[frame.source] = frame
        for body in frame.bodies:
            if not np.isfinite(body.joints_m).all(axis=1).any():
                self.num_bodies_without_joints += 1
                continue
            person = self._people.get((frame.source, body.id)) or self._new_person(frame.source, body.id)
            if person is None:
                self.num_bodies_refused += 1
                continue
            person.track.push(now_s, body.joints_m)
        return ends

    def _new_person(self, source: str, body: int) -> _Person | None:
        """Follow one more body; None where there are as many as allowed."""
        if len(self._people) >= self.config.stream.max_bodies:
            return None
        track = BodyTrack(max(self.config.windows.lengths_s) + 0.1, self.config.stream.max_rate_fps)
        person = _Person(source, body, track, BodyEvents(), self._left.pop((source, body), {}))
        self._people[source, body] = person
        return person

    def _due(self, frame: SkeletonFrame) -> list[_Person]:
        """Return the bodies in a frame whose hop is over; count the hops that were skipped."""
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
        return due

    def _cut(self, due: Sequence[_Person]) -> list[Cut]:
        settings, num_frames = self.config.windows, self.encoder.info.num_frames
        cuts = [cut_windows(person.track, self.prototypes, settings, num_frames) for person in due]
        self.num_decisions += len(due)
        self.num_windows += sum(len(cut.windows) for cut in cuts)
        return cuts

    def _encode(self, cuts: list[Cut]) -> tuple[list[Cut], Array, Array]:
        """Return the windows, their embeddings (W, E), and features (W, F) where a classifier needs them.

        Where the engine fails, nothing was seen: there are no windows, and the next decision tries again.
        """
        embeddings_WE = features_WF = np.zeros((0, 0), np.float32)
        blocks = [cut.windows_WTVC for cut in cuts if cut.windows]
        if not blocks:
            return cuts, embeddings_WE, features_WF
        windows_WTVC = np.concatenate(blocks)
        try:
            if self.prototypes.classifier is not None:
                embeddings_WE, features_WF = self.encoder.encode_with_features(windows_WTVC)
            else:
                embeddings_WE = self.encoder.encode(windows_WTVC)
        except EngineError as error:
            self.num_encodes_failed += 1
            self.engine_error = error
            return [NOTHING] * len(cuts), embeddings_WE, features_WF
        self.engine_error = None
        return cuts, embeddings_WE, features_WF

    def _find(self, cuts: Sequence[Cut], embeddings_WE: Array, features_WF: Array) -> list[Found]:
        curve, min_score = self.encoder.info.score_curve, self.config.events.min_score
        found, end = [], 0
        for cut in cuts:
            first, end = end, end + len(cut.windows)
            own_WE, own_WF = embeddings_WE[first:end], features_WF[first:end]
            found.append(find_match(self.prototypes, cut, own_WE, own_WF, curve, min_score))
        return found

    def _event(
        self,
        kind: Literal["onset", "update", "end"],
        person: _Person,
        active: Active,
        frame: SkeletonFrame,
        latency: Latency,
    ) -> Event:
        match = active.match
        t_end_s = active.last_hit_s if kind == "end" or active.is_kept else frame.timestamp_s
        return Event(
            id=active.id,
            type=kind,
            label=match.label,
            source=person.source,
            body=person.body,
            score=match.score,
            distance=match.distance,
            threshold=self.config.events.min_score,
            threshold_distance=match.threshold_distance,
            count=active.count,
            progress=active.progress,
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
