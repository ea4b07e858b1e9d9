"""One enrollment at a time, led through its states; the time that passes is told, not waited for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import zmq

from edge.config import Config, GalleryFile, Model
from edge.enroll.session import Enrolling
from edge.library import Library, open_library
from edge.protocol import (
    EnrollCaptured,
    EnrollDone,
    EnrollFailed,
    EnrollStart,
    EnrollStartAnswer,
    EnrollTrim,
    PlayedMovement,
    Preview,
    StoredExample,
    StoredNegatives,
)
from streams.arrays import Times
from streams.cameras import Note, Refused
from streams.errors import CameraError, CrossGLGError, EnrollError, GalleryError
from streams.frame import HIGH, Body, SkeletonFrame
from streams.messages import Failure
from streams.performer import ACTIONS, Performer, perform


@dataclass
class Stage:
    """A camera whose performer is told what to do and when, in seconds from the start."""

    performer: Performer = field(default_factory=lambda: Performer(seed=4))
    cues: list[tuple[str, float]] = field(default_factory=list)
    socket: zmq.Socket[bytes] | None = None

    def wait_s(self, now_s: float) -> float:
        return 0.0

    def read(self, now_s: float, limit: int) -> list[SkeletonFrame | Refused]:
        return [self.performer.frame()]

    def cue(self, label: str, after_s: float) -> bool:
        self.cues.append((label, after_s))
        if not self.performer.cue(label, after_s):
            raise CameraError("unknown", code="unknown_action")
        return True

    def state(self, now_s: float) -> None:
        return None

    def take_notes(self) -> list[Note]:
        return []

    def close(self) -> None:
        return


@pytest.fixture
def library(tiny_bundle: Path) -> Iterator[Library]:
    library = open_library(Config(model=Model(bundle=str(tiny_bundle)), gallery=GalleryFile(path=":memory:")))
    with library.gallery:
        yield library


def play(enrolling: Enrolling, library: Library, stage: Stage, *, until: str, limit_s: float = 30.0) -> float:
    """Let the camera give its frames until a state is reached; return the time."""
    while True:
        (frame,) = stage.read(0.0, 1)
        assert isinstance(frame, SkeletonFrame)
        enrolling.step([frame], library, stage, frame.timestamp_s)
        if enrolling.status(frame.timestamp_s).state == until:
            return frame.timestamp_s
        assert frame.timestamp_s < limit_s, enrolling.status(frame.timestamp_s)


def code_of(enrolling: Enrolling) -> str:
    return failure_of(enrolling).code


def failure_of(enrolling: Enrolling) -> Failure:
    assert isinstance(enrolling.outcome, EnrollFailed)
    return enrolling.outcome.error


def example_of(enrolling: Enrolling) -> StoredExample:
    assert isinstance(enrolling.outcome, EnrollDone)
    assert isinstance(enrolling.outcome.result, StoredExample)
    return enrolling.outcome.result


def preview_of(enrolling: Enrolling, now_s: float) -> Preview:
    status = enrolling.status(now_s)
    assert isinstance(status, EnrollCaptured)
    return status.preview


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("action", ["wave", "kick", "jumping_jack"])
def test_the_performer_stands_still_and_acts_when_the_countdown_is_over(
    library: Library, action: str, seed: int
) -> None:
    stage, enrolling = Stage(Performer(seed=seed)), Enrolling()
    now_s = 0.0
    for _ in range(40 * (seed + 1)):
        (frame,) = stage.read(0.0, 1)
        assert isinstance(frame, SkeletonFrame)
        now_s = frame.timestamp_s
    told = enrolling.start(EnrollStart(label=action), library, stage, now_s)
    assert told == EnrollStartAnswer(label=action, countdown_s=3.0, cued=True, id=told.id)
    play(enrolling, library, stage, until="done", limit_s=now_s + 20)
    result = example_of(enrolling)
    assert result.label == action
    assert result.notes == (), "it stood still in time"
    (_, first_s), (_, second_s) = stage.cues
    assert first_s == pytest.approx(7.0), "not before the latest end of the countdown"
    assert second_s == pytest.approx(3.0)


def test_what_cannot_be_is_refused_and_nothing_is_under_way(library: Library) -> None:
    for args, code in (
        (EnrollStart(), "bad_args"),
        (EnrollStart(label="wave", negative_s=10.0), "bad_args"),
        (EnrollStart(label="a\nb"), "bad_label"),
        (EnrollStart(label="fly"), "unknown_action"),
    ):
        enrolling = Enrolling()
        with pytest.raises(CrossGLGError) as refused:
            enrolling.start(args, library, Stage(), 0.0)
        assert refused.value.code == code
        assert enrolling.label is None
        assert enrolling.cancel().cancelled is None
    with pytest.raises(EnrollError) as nothing:
        enrolling.commit(library, force=False)
    assert nothing.value.code == "nothing_to_commit"


def test_a_preview_waits_for_the_answer_and_is_stored_by_it(library: Library) -> None:
    stage, enrolling = Stage(), Enrolling()
    enrolling.start(EnrollStart(label="wave", commit=False, side="either"), library, stage, 0.0)
    now_s = play(enrolling, library, stage, until="captured")
    status = enrolling.status(now_s)
    assert isinstance(status, EnrollCaptured)
    assert status.left_s == 60
    preview = status.preview
    assert (preview.label, preview.similar) == ("wave", None)
    assert preview.moved[0].joint == "HandRight"
    assert preview.notes == ("stored twice: as shown, and mirrored",)
    assert library.gallery.prototypes == ()
    with pytest.raises(EnrollError) as busy:
        enrolling.start(EnrollStart(label="bow"), library, stage, now_s)
    assert busy.value.code == "busy"
    result = enrolling.commit(library, force=False)
    assert (result.stored, result.gallery_revision) == (2, 1)
    assert enrolling.status(now_s) == EnrollDone(label="wave", result=result, id=status.id)
    assert enrolling.label is None


def times_of(movement: PlayedMovement) -> Times:
    return np.frombuffer(movement.timestamps_s, "<f8")


def test_what_was_captured_is_shown_and_another_part_of_it_is_stored(library: Library) -> None:
    stage, enrolling = Stage(), Enrolling()
    enrolling.start(EnrollStart(label="wave", commit=False), library, stage, 0.0)
    now_s = play(enrolling, library, stage, until="captured")
    before = preview_of(enrolling, now_s)
    whole = enrolling.movement(None)
    times_s = times_of(whole)
    assert len(whole.joints_m) == len(times_s) * 25 * 3 * 4
    assert times_s[0] == 0
    assert (whole.start_s, times_s[-1] - whole.end_s) == pytest.approx(before.trimmed_s, abs=1e-3)
    middle_s = (whole.start_s + whole.end_s) / 2
    preview = enrolling.trim(EnrollTrim(start_s=middle_s, end_s=float(times_s[-1])), library, now_s + 50)
    assert preview.duration_s == pytest.approx(times_s[-1] - middle_s, abs=0.04)
    assert preview.trimmed_s == pytest.approx((middle_s, 0.0), abs=0.04)
    assert preview == preview_of(enrolling, now_s + 50)
    assert enrolling.movement(None).joints_m == whole.joints_m, "what was cut off can be taken back"
    assert not enrolling.step((), library, stage, now_s + 100), "whoever trims has a minute more"
    result = enrolling.commit(library, force=False)
    (stored,) = library.gallery.prototypes
    assert stored.movement.duration_s == pytest.approx(result.duration_s, abs=1e-3)
    assert result.duration_s == preview.duration_s


@pytest.mark.parametrize(("start_s", "end_s"), [(0.0, 0.1), (3.0, 1.0), (90.0, 91.0), (0.0, 0.01)])
def test_a_part_that_makes_no_example_is_refused_and_what_waited_waits_on(
    library: Library, start_s: float, end_s: float
) -> None:
    stage, enrolling = Stage(), Enrolling()
    enrolling.start(EnrollStart(label="wave", commit=False), library, stage, 0.0)
    now_s = play(enrolling, library, stage, until="captured")
    before = preview_of(enrolling, now_s)
    with pytest.raises(EnrollError) as refused:
        enrolling.trim(EnrollTrim(start_s=start_s, end_s=end_s), library, now_s)
    assert refused.value.code in ("too_short", "low_quality")
    assert preview_of(enrolling, now_s) == before
    assert enrolling.commit(library, force=False).duration_s == before.duration_s


def test_what_was_meant_for_an_enrollment_before_is_refused(library: Library) -> None:
    stage, enrolling = Stage(), Enrolling()
    first = enrolling.start(EnrollStart(label="wave", commit=False), library, stage, 0.0)
    now_s = play(enrolling, library, stage, until="captured")
    enrolling.step((), library, stage, now_s + 61)
    assert enrolling.status(now_s).id == first.id  # type: ignore[union-attr]
    second = enrolling.start(EnrollStart(label="bow", commit=False), library, stage, now_s + 62)
    assert second.id != first.id
    with pytest.raises(EnrollError) as refused:
        enrolling.cancel(first.id)
    assert refused.value.code == "other_enrollment"
    play(enrolling, library, stage, until="captured", limit_s=now_s + 60)
    for late in (
        lambda: enrolling.movement(first.id),
        lambda: enrolling.trim(EnrollTrim(start_s=0.0, end_s=1.0, id=first.id), library, now_s),
        lambda: enrolling.commit(library, force=False, id=first.id),
    ):
        with pytest.raises(EnrollError) as refused:
            late()
        assert refused.value.code == "other_enrollment"
    assert enrolling.commit(library, force=False, id=second.id).label == "bow"


def test_a_preview_that_nobody_answers_is_given_up_after_a_minute(library: Library) -> None:
    stage, enrolling = Stage(), Enrolling()
    enrolling.start(EnrollStart(label="wave", commit=False), library, stage, 0.0)
    now_s = play(enrolling, library, stage, until="captured")
    assert not enrolling.step((), library, stage, now_s + 59)
    assert enrolling.label == "wave"
    assert enrolling.step((), library, stage, now_s + 61)
    assert code_of(enrolling) == "cancelled"
    assert "60 s" in failure_of(enrolling).message
    assert library.gallery.prototypes == ()


def test_what_is_too_similar_waits_on_for_a_yes_where_there_is_a_preview_and_fails_where_there_is_none(
    library: Library,
) -> None:
    library.gallery.add("hello", perform("wave", seed=0), origin="test", created="now")
    stage, enrolling = Stage(), Enrolling()
    enrolling.start(EnrollStart(label="wave", countdown_s=1.0), library, stage, 0.0)
    now_s = play(enrolling, library, stage, until="failed")
    assert code_of(enrolling) == "too_similar"
    assert "'hello'" in failure_of(enrolling).message

    enrolling.start(EnrollStart(label="wave", countdown_s=1.0, commit=False), library, stage, now_s)
    now_s = play(enrolling, library, stage, until="captured", limit_s=60)
    similar = preview_of(enrolling, now_s).similar
    assert similar is not None
    assert similar.label == "hello"
    with pytest.raises(EnrollError) as refused:
        enrolling.commit(library, force=False)
    assert refused.value.code == "too_similar"
    assert enrolling.status(now_s).state == "captured"
    assert enrolling.commit(library, force=True).similar == similar

    enrolling.start(EnrollStart(label="again", negative_s=None, countdown_s=0.0, force=True), library, Quiet(), now_s)
    confidence = np.full(25, HIGH, np.uint8)
    frames = [
        SkeletonFrame(
            source="cam", epoch="e", seq=i, timestamp_s=now_s + i / 30, t_send_s=0.0,
            bodies=(Body(id=1, joints_m=joints, confidence=confidence),),
        )
        for i, joints in enumerate(perform("wave", seed=2).joints_m)
    ]  # fmt: skip
    for frame in frames:
        enrolling.step([frame], library, Quiet(), frame.timestamp_s)
    assert enrolling.step((), library, Quiet(), now_s + 10)
    assert example_of(enrolling).label == "again"


class Quiet(Stage):
    """A camera of real people, who cannot be told."""

    def cue(self, label: str, after_s: float) -> bool:
        return False


def test_an_enrollment_can_be_cancelled_in_every_state(library: Library) -> None:
    for state, args in (
        ("stillness", EnrollStart(label="wave")),
        ("countdown", EnrollStart(label="wave")),
        ("capture", EnrollStart(label="wave")),
        ("captured", EnrollStart(label="wave", commit=False)),
        ("capture", EnrollStart(negative_s=30.0)),
    ):
        stage, enrolling = Stage(), Enrolling()
        enrolling.start(args, library, stage, 0.0)
        now_s = play(enrolling, library, stage, until=state)
        assert enrolling.cancel().cancelled == ("wave" if args.label else "ordinary movement")
        assert code_of(enrolling) == "cancelled"
        assert not enrolling.step((), library, stage, now_s + 100)
    assert (library.gallery.prototypes, library.gallery.negatives) == ((), ())


def test_ordinary_movement_of_the_performer_is_stored_as_negatives(library: Library) -> None:
    stage, enrolling = Stage(), Enrolling()
    told = enrolling.start(EnrollStart(negative_s=20.0), library, stage, 0.0)
    assert told == EnrollStartAnswer(label="ordinary movement", countdown_s=3.0, cued=False, id=told.id)
    assert stage.cues == []
    play(enrolling, library, stage, until="done")
    assert isinstance(enrolling.outcome, EnrollDone)
    result = enrolling.outcome.result
    assert isinstance(result, StoredNegatives)
    assert result.ids == tuple(negative.id for negative in library.gallery.negatives)
    assert result.duration_s > 15
    assert {negative.origin for negative in library.gallery.negatives} == {"live:demo"}
    assert library.gallery.revision == 1
    assert library.gallery.prototypes == ()


def test_a_gallery_that_refuses_at_the_end_fails_the_enrollment(library: Library) -> None:
    stage, enrolling = Stage(), Enrolling()
    enrolling.start(EnrollStart(label="wave", commit=False), library, stage, 0.0)
    play(enrolling, library, stage, until="captured")
    library.gallery.add("WAVE", perform("bow", seed=0), origin="another program", created="now")
    with pytest.raises(GalleryError) as refused:
        enrolling.commit(library, force=False)
    assert refused.value.code == "label_exists"
    assert enrolling.label == "wave", "it can still be cancelled"
    assert enrolling.cancel().cancelled == "wave"


def test_every_action_of_the_performer_can_be_enrolled_with_the_shipped_model_and_defaults() -> None:
    library = open_library(Config(gallery=GalleryFile(path=":memory:")))
    with library.gallery:
        for action in ACTIONS:
            stage, enrolling = Stage(), Enrolling()
            enrolling.start(EnrollStart(label=action, force=True), library, stage, 0.0)
            play(enrolling, library, stage, until="done")
        assert library.gallery.labels() == ACTIONS
