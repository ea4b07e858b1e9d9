"""Which moments are kept for review: pure decisions and events in, moments out.

Shapes: L frames, V = 25 kinect25 joints, K labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Config, Events, Review
from edge.gallery import Prototype
from edge.live import Decision, Match, Window
from edge.match import PrototypeIndex
from edge.model import BUNDLE_VERSION, BundleInfo, ScoreCurve
from edge.protocol import Why
from edge.review import Moment, MomentWatch
from streams.event import Event, Latency, Quality
from streams.frame import SkeletonFrame
from streams.movement import Movement

LABELS = ("bow", "wave")
THRESHOLD, LENGTH_S, HOP_S = 1.0, 2.0, 0.2
FAR = float("inf")
NO_LATENCY = Latency(sensor=0.0, queue=0.0, encode=0.0, match=0.0, total=0.0)


def make_index(labels: Iterable[str] = LABELS, midpoint: float = THRESHOLD) -> PrototypeIndex:
    info = BundleInfo(
        bundle_version=BUNDLE_VERSION, name="none", encoder="none", layout="kinect25", num_frames=8,
        preprocessing_version=1, embedding_size=3, embedding="none", onnx_sha256="0" * 64, statistics_sha256="",
        parameters=0, score_curve=ScoreCurve(midpoint=midpoint, slope=5.0, source="none"), training={}, licence="none",
    )  # fmt: skip
    movement = Movement(timestamps_s=np.arange(2.0), joints_m=np.zeros((2, 25, 3), np.float32))
    prototypes = [
        Prototype(
            id=label, label=label, movement=movement, embedding=np.array([1, 0, 0], np.float32), model_sha256="",
            origin="", created="",
        )
        for label in labels
    ]  # fmt: skip
    return PrototypeIndex(prototypes, info)


@dataclass
class Body:
    """Play one body's distances to bow and wave, a decision each, as the recognizer would."""

    config: Config = field(default_factory=Config)
    id: int = 0
    time_s: float = 100.0
    moments: list[Moment] = field(default_factory=list)
    length_s: float = LENGTH_S

    def __post_init__(self) -> None:
        self.index = make_index()
        self.watch = MomentWatch(self.config, ScoreCurve(midpoint=THRESHOLD, slope=5.0, source="none"))

    @property
    def bodies(self) -> list[tuple[str, int]]:
        return [("cam", self.id)]

    def movement(self, source: str, body: int, start_s: float) -> Movement:
        times_s = np.linspace(start_s, self.time_s, 21)
        return Movement(timestamps_s=times_s, joints_m=np.full((21, 25, 3), self.time_s, np.float32))

    def decide(self, bow: float, wave: float = FAR) -> None:
        self.time_s += HOP_S
        distances_K = np.array([bow, wave], np.float32)
        best = int(distances_K.argmin())
        match = Match(
            label=LABELS[best], distance=float(distances_K[best]), threshold_distance=THRESHOLD, score=0.5,
            runner_up=None, t_start_s=self.time_s - self.length_s, joints=1.0,
        )  # fmt: skip
        decision = Decision(
            frame=SkeletonFrame(
                source="cam", epoch="e", seq=0, timestamp_s=self.time_s, t_send_s=self.time_s, bodies=()
            ),
            body=self.id,
            windows=(Window(start_s=self.time_s - self.length_s, length_s=self.length_s, joints=1.0),),
            labels=LABELS,
            distances_K=distances_K,
            windows_K=np.zeros(2, np.intp),
            match=match if np.isfinite(distances_K[best]) else None,
            latency=NO_LATENCY,
        )
        self.moments += self.watch.look([decision], self.index, self)

    def tell(self, kind: str, label: str = "bow", id: str = "1") -> None:
        event = Event(
            id=id, type="onset", label=label, source="cam", body=self.id, score=0.5, distance=0.9, threshold=0.5,
            threshold_distance=THRESHOLD, margin=0.1, runner_up=None, t_start=self.time_s - self.length_s,
            t_end=self.time_s, t_emit=self.time_s, clock="", seq_last=0, gallery_revision=0, model_sha256="",
            latency_ms=NO_LATENCY, quality=Quality(joints=1.0, fps=30.0, dropped=0),
        )  # fmt: skip
        told = msgspec.convert(msgspec.to_builtins(event) | {"type": kind}, Event)
        self.watch.hear([told])

    def pass_by(self, bow: float = FAR, wave: float = FAR, seconds: float = 3.0) -> None:
        for _ in range(round(seconds / HOP_S)):
            self.decide(bow, wave)


def valley(body: Body, lowest: float, *, wave: float = FAR) -> None:
    for distance in (2.0, (2.0 + lowest) / 2, lowest + 0.1, lowest, lowest + 0.1, 2.0):
        body.decide(distance, wave)


def test_a_near_miss_is_the_lowest_place_with_its_window() -> None:
    body = Body()
    valley(body, 1.1)
    lowest_s = body.time_s - 2 * HOP_S
    assert not body.moments, "a lower one might come"
    body.pass_by()
    (moment,) = body.moments
    assert (moment.label, moment.source, moment.body, moment.why) == ("bow", "cam", 0, "threshold")
    assert moment.distance == pytest.approx(1.1)
    assert moment.threshold_distance == pytest.approx(THRESHOLD)
    assert 0 < moment.score < 0.5
    assert moment.time_s == pytest.approx(lowest_s)
    assert moment.start_s == pytest.approx(lowest_s - LENGTH_S)
    assert moment.movement.timestamps_s[0] == 0
    assert float(moment.movement.joints_m[0, 0, 0]) == pytest.approx(lowest_s)


@pytest.mark.parametrize(("lowest", "count"), [(1.3, 1), (1.36, 0), (FAR, 0)])
def test_what_is_farther_than_near_miss_allows_is_none(lowest: float, count: int) -> None:
    body = Body()
    valley(body, lowest)
    body.pass_by()
    assert len(body.moments) == count


def test_an_event_is_one_moment_and_no_near_miss() -> None:
    body = Body()
    body.pass_by(0.9, seconds=0.6)
    body.tell("onset")
    body.decide(0.7)
    body.pass_by(1.2, seconds=0.8)
    body.tell("end")
    body.pass_by()
    (moment,) = body.moments
    assert (moment.why, moment.is_told) == ("told", True)
    assert moment.distance == pytest.approx(0.7), "what came nearest in its movement"


def test_an_event_that_goes_on_for_long_is_one_moment() -> None:
    body = Body()
    body.pass_by(0.9, seconds=0.6)
    body.tell("onset")
    for _ in range(5):
        valley(body, 0.8)
        body.pass_by(0.9, seconds=1.0)
    body.tell("end")
    body.pass_by()
    assert [moment.why for moment in body.moments] == ["told"]


def test_repetitions_that_are_told_each_are_kept_each_though_one_ends_when_the_next_is_told() -> None:
    body = Body(length_s=1.0)
    for number in range(4):
        body.decide(1.2)
        body.decide(0.8 - 0.1 * number)
        body.decide(1.2)
        body.decide(1.4)
        if number:
            body.tell("end", id=str(number - 1))
        body.tell("onset", id=str(number))
        body.pass_by(1.4, seconds=0.6)
    body.tell("end", id="3")
    body.pass_by()
    assert [moment.why for moment in body.moments] == ["told"] * 4
    assert [round(moment.distance, 1) for moment in body.moments] == [0.8, 0.7, 0.6, 0.5]


def test_an_event_told_a_second_after_the_lowest_place_still_belongs_to_it() -> None:
    body = Body(Config(events=Events(settle_s=0.5)))
    body.decide(0.8)
    body.pass_by(2.0, seconds=1.0)
    body.tell("onset")
    body.pass_by(2.0, seconds=1.0)
    body.tell("end")
    assert [moment.why for moment in body.moments] == ["told"]


def test_where_events_are_told_later_the_moment_waits_for_them() -> None:
    body = Body(Config(events=Events(settle_s=5.0)))
    body.decide(0.8)
    body.pass_by(2.0, seconds=5.0)
    body.tell("onset")
    body.pass_by(2.0, seconds=1.0)
    assert [moment.why for moment in body.moments] == ["told"]


@pytest.mark.parametrize(
    ("bow", "wave", "num_decisions", "why", "nearer"),
    [
        (0.9, 0.8, 2, "nearer", "wave"),
        (0.9, FAR, 1, "few", ""),
        (0.9, FAR, 4, "rules", ""),
        (1.2, FAR, 4, "threshold", ""),
    ],
)
def test_why_it_was_not_told(bow: float, wave: float, num_decisions: int, why: Why, nearer: str) -> None:
    body = Body()
    body.pass_by(bow, wave, seconds=num_decisions * HOP_S)
    body.pass_by()
    (moment,) = (moment for moment in body.moments if moment.label == "bow")
    assert (moment.why, moment.nearer) == (why, nearer)


def test_what_lies_within_an_earlier_event_was_told_before() -> None:
    body = Body()
    body.pass_by(FAR, 0.8, seconds=0.6)
    body.tell("onset", "wave")
    body.tell("end", "wave")
    body.decide(0.7, 0.9)
    body.decide(0.7, 0.9)
    body.pass_by()
    assert [(moment.label, moment.why) for moment in body.moments] == [("wave", "told"), ("bow", "overlap")]


def test_of_labels_that_are_all_too_far_a_movement_is_kept_once_as_the_nearest() -> None:
    body = Body()
    body.decide(1.3, 1.2)
    body.decide(1.25, 1.1)
    body.pass_by()
    assert [(moment.label, moment.why) for moment in body.moments] == [("wave", "threshold")]


def test_beside_an_event_what_was_too_far_is_not_kept() -> None:
    body = Body()
    body.pass_by(0.9, 1.2, seconds=0.6)
    body.tell("onset")
    body.tell("end")
    body.pass_by()
    assert [moment.label for moment in body.moments] == ["bow"]


def test_repetitions_are_kept_each_and_one_long_movement_once() -> None:
    body = Body()
    for _ in range(3):
        valley(body, 1.1)
        body.pass_by(seconds=2.0)
    assert len(body.moments) == 3
    long = Body(length_s=6.0)
    for _ in range(3):
        valley(long, 1.1)
    long.pass_by()
    assert len(long.moments) == 1


def test_near_misses_are_limited_by_the_minute_and_the_rest_is_counted() -> None:
    body = Body(Config(review=Review(max_per_minute=3)), length_s=0.6)
    for _ in range(5):
        valley(body, 1.1)
        body.pass_by(seconds=2.0)
    assert (len(body.moments), body.watch.num_skipped) == (3, 2)
    body.time_s += 60
    valley(body, 1.1)
    body.pass_by()
    assert (len(body.moments), body.watch.num_skipped) == (4, 2)


def test_events_are_never_limited() -> None:
    body = Body(Config(review=Review(max_per_minute=1)), length_s=0.6)
    for number in range(4):
        body.pass_by(0.9, seconds=0.4)
        body.tell("onset", id=str(number))
        body.tell("end", id=str(number))
        body.pass_by(seconds=2.0)
    assert [moment.why for moment in body.moments] == ["told"] * 4


def test_a_body_that_is_lost_leaves_what_it_nearly_did() -> None:
    body = Body()
    body.decide(1.1)
    assert not body.watch.leave(body.bodies)
    (moment,) = body.watch.leave([("cam", 7)])
    assert moment.label == "bow"
    assert not body.watch.leave([])


def test_a_time_that_runs_backwards_ends_what_was_seen_before() -> None:
    body = Body()
    body.decide(1.1)
    body.time_s = 5.0
    body.decide(1.2)
    body.pass_by()
    assert [round(moment.time_s, 1) for moment in body.moments] == [100.2, 5.2]


def test_another_gallery_has_other_thresholds() -> None:
    body = Body()
    body.decide(1.1)
    body.pass_by()
    body.index = make_index(midpoint=0.5)
    body.decide(1.1)
    body.pass_by()
    assert len(body.moments) == 1


STEPS = st.tuples(
    st.sampled_from(["decide", "decide", "decide", "onset", "end"]),
    st.sampled_from([0.3, 0.9, 1.1, 1.3, 1.6, FAR]),
    st.sampled_from([0.5, 0.95, 1.2, FAR]),
    st.sampled_from(LABELS),
)


@given(st.lists(STEPS, max_size=80), st.sampled_from([0.6, 2.0, 6.0]))
def test_whatever_is_seen_a_movement_is_kept_once_a_label_and_each_event_at_most_once(
    steps: list[tuple[str, float, float, str]], length_s: float
) -> None:
    body = Body(Config(review=Review(max_per_minute=600)), length_s=length_s)
    active, num_onsets = "", 0
    for what, bow, wave, label in steps:
        body.decide(bow, wave)
        if active and what != "decide":
            body.tell("end", active, str(num_onsets))
            active = ""
        if what == "onset":
            active, num_onsets = label, num_onsets + 1
            body.tell("onset", active, str(num_onsets))
    body.moments += body.watch.leave([])
    assert sum(moment.is_told for moment in body.moments) <= num_onsets
    for label in LABELS:
        own = sorted((moment for moment in body.moments if moment.label == label), key=lambda moment: moment.time_s)
        assert all(moment.distance <= 1.35 * THRESHOLD for moment in own)
        assert all(later.time_s - earlier.time_s >= length_s / 2 - 1e-6 for earlier, later in pairwise(own))
    assert not body.watch.leave([])
