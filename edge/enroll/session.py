"""The one enrollment that a daemon has under way: started, captured, perhaps previewed, stored or given up."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge.enroll.capture import Enrollment, TrimmedExample, example_from_capture
from edge.enroll.draft import Draft, commit_draft, draft_example
from edge.enroll.files import movement_to_bytes
from edge.enroll.negatives import NegativeCapture, store_negatives
from edge.library import Library, created_now
from edge.protocol import (
    CancelAnswer,
    EnrollCaptured,
    EnrollDone,
    EnrollFailed,
    EnrollIdle,
    EnrollOutcome,
    EnrollStart,
    EnrollStartAnswer,
    EnrollState,
    EnrollTrim,
    EnrollUnderWay,
    PlayedMovement,
    Preview,
    StoredExample,
)
from streams.cameras import Camera
from streams.errors import CrossGLGError, EnrollError
from streams.frame import SkeletonFrame
from streams.messages import Failure
from streams.movement import Movement

# Whoever asked for a preview may have gone away.
_CONFIRM_S = 60.0
# A part is chosen by times that went through text and back.
_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Waiting:
    """Hold an example that waits to be stored, and what was captured: another part of it may be taken instead."""

    capture: Enrollment
    movement: Movement
    example: TrimmedExample
    draft: Draft
    until_s: float

    @property
    def start_s(self) -> float:
        return float(self.example.movement.timestamps_s[0])

    @property
    def end_s(self) -> float:
        return float(self.example.movement.timestamps_s[-1])


class Enrolling:
    """Lead one enrollment at a time through its states; `outcome` tells how the last one ended."""

    def __init__(self) -> None:
        self.outcome: EnrollOutcome = EnrollIdle()
        self._args = EnrollStart()
        self._capture: Enrollment | NegativeCapture | None = None
        self._waiting: _Waiting | None = None
        self._id = ""

    @property
    def label(self) -> str | None:
        """Name what is being enrolled; None where nothing is."""
        if self._waiting is not None:
            return self._waiting.draft.preview.label
        return None if self._capture is None else self._capture.label

    def start(self, args: EnrollStart, library: Library, camera: Camera, now_s: float) -> EnrollStartAnswer:
        """Begin. Raises EnrollError: "busy", "bad_args"; GalleryError; CameraError."""
        if self.label is not None:
            raise EnrollError(
                f"an enrollment of {self.label!r} is under way", code="busy", hint="Wait for it, or send enroll.cancel."
            )
        if (args.label is None) == (args.negative_s is None):
            raise EnrollError("expected either a label or negative_s", code="bad_args")
        config = library.config
        countdown_s = config.enroll.countdown_s if args.countdown_s is None else args.countdown_s
        is_cued = False
        if args.label is None:
            self._capture = NegativeCapture(
                config,
                now_s=now_s,
                countdown_s=countdown_s,
                seconds=args.negative_s or 0.0,
                source=args.source,
                body=args.body,
            )
        else:
            # What the gallery would refuse at the end, it refuses before anybody has moved.
            label = library.gallery.check_label(args.label, mode=args.mode)
            capture = Enrollment(
                label, config, now_s=now_s, countdown_s=countdown_s, source=args.source, body=args.body
            )
            # A performer stands still from now on; when to act is told once the countdown has begun.
            is_cued = camera.cue(label, capture.left_s(now_s) + (countdown_s if capture.state == "stillness" else 0.0))
            self._capture = capture
        self._args, self.outcome, self._id = args, EnrollIdle(), uuid.uuid4().hex[:8]
        return EnrollStartAnswer(label=self._capture.label, countdown_s=countdown_s, cued=is_cued, id=self._id)

    def step(self, frames: Sequence[SkeletonFrame], library: Library, camera: Camera, now_s: float) -> bool:
        """Go on with frames (kinect25); return whether the enrollment has just ended, as `outcome` says."""
        if self._waiting is not None and now_s > self._waiting.until_s:
            message = f"it was not confirmed within {_CONFIRM_S:g} s"
            return self._fail(EnrollError(message, code="cancelled", hint="Show it again."))
        capture = self._capture
        if capture is None:
            return False
        state = capture.state
        capture.step(frames, now_s)
        if state == "stillness" and capture.state == "countdown":
            camera.cue(capture.label, capture.left_s(now_s))
        if not capture.is_over:
            return False
        try:
            if capture.error is not None:
                raise capture.error
            return self._take(capture, library, now_s)
        except CrossGLGError as error:
            return self._fail(error)

    def _take(self, capture: Enrollment | NegativeCapture, library: Library, now_s: float) -> bool:
        if isinstance(capture, NegativeCapture):
            origin = f"live:{capture.seen_source}"
            stored = store_negatives(library.gallery, capture.pieces, origin=origin, created=created_now())
            return self._end(EnrollDone(label=capture.label, result=stored, id=self._id))
        assert capture.movement is not None
        assert capture.example is not None
        self._wait_with(capture, capture.movement, capture.example, library, now_s)
        self._capture = None
        if self._args.commit:
            self.commit(library, force=self._args.force)
        return self._waiting is None

    def _wait_with(
        self, capture: Enrollment, movement: Movement, example: TrimmedExample, library: Library, now_s: float
    ) -> None:
        draft = draft_example(
            library.gallery,
            library.encoder.info,
            capture.label,
            replace(example, notes=tuple(capture.notes)),
            origin=f"live:{capture.seen_source}",
            created=created_now(),
            mode=self._args.mode,
            side=self._args.side,
            words=self._args.description if self._args.words else None,
        )
        self._waiting = _Waiting(
            capture=capture, movement=movement, example=example, draft=draft, until_s=now_s + _CONFIRM_S
        )

    def _waits(self, id: str | None) -> _Waiting:
        self._check_same(id)
        if self._waiting is None:
            raise EnrollError("no example waits to be stored", code="nothing_to_commit", hint="See enroll.status.")
        return self._waiting

    def _check_same(self, id: str | None) -> None:
        """Refuse what was meant for an enrollment that has ended: somebody else's may be under way."""
        if id is not None and id != self._id:
            raise EnrollError(f"the enrollment {id!r} is over", code="other_enrollment", hint="See enroll.status.")

    def movement(self, id: str | None) -> PlayedMovement:
        """Return what was captured, and which part of it waits. Raises EnrollError."""
        waiting = self._waits(id)
        return movement_to_bytes(waiting.movement, waiting.start_s, waiting.end_s)

    def trim(self, request: EnrollTrim, library: Library, now_s: float) -> Preview:
        """Take another part of what was captured as the example that waits.

        Raises EnrollError where that makes no example; then what waited waits on.
        """
        waiting = self._waits(request.id)
        times_s = waiting.movement.timestamps_s
        first, end = np.searchsorted(times_s, (request.start_s, request.end_s + _ROUNDING_S)).tolist()
        chosen = example_from_capture(waiting.movement.part(slice(first, end)), library.config, trim=False)
        trimmed_s = float(times_s[first] - times_s[0]), float(times_s[-1] - times_s[end - 1])
        self._wait_with(waiting.capture, waiting.movement, replace(chosen, trimmed_s=trimmed_s), library, now_s)
        return self._waits(request.id).draft.preview

    def commit(self, library: Library, *, force: bool, id: str | None = None) -> StoredExample:
        """Store the example that waits. Raises EnrollError: "too_similar" (it waits on); GalleryError."""
        draft, info = self._waits(id).draft, library.encoder.info
        stored = commit_draft(library.gallery, info, draft, created=created_now(), force=force or self._args.force)
        self._end(EnrollDone(label=draft.preview.label, result=stored, id=self._id))
        return stored

    def cancel(self, id: str | None = None) -> CancelAnswer:
        """Give up what is under way; return what that was. Raises EnrollError."""
        self._check_same(id)
        label = self.label
        if label is not None:
            self._fail(EnrollError("the enrollment was cancelled", code="cancelled"))
        return CancelAnswer(cancelled=label)

    def status(self, now_s: float) -> EnrollState:
        """Return the state, and what belongs to it: time left, preview, result or error."""
        if self._waiting is not None:
            preview, left_s = self._waiting.draft.preview, round(max(0.0, self._waiting.until_s - now_s), 2)
            return EnrollCaptured(label=preview.label, left_s=left_s, preview=preview, id=self._id)
        capture = self._capture
        if capture is None:
            return self.outcome
        # A capture that is over is taken in the same step, and never seen here.
        assert capture.state != "captured"
        assert capture.state != "failed"
        return EnrollUnderWay(
            state=capture.state,
            label=capture.label,
            left_s=round(capture.left_s(now_s), 2),
            message=capture.message,
            id=self._id,
        )

    def _fail(self, error: CrossGLGError) -> bool:
        failure = Failure(code=error.code, message=error.message, hint=error.hint)
        return self._end(EnrollFailed(label=self.label or "", error=failure, id=self._id))

    def _end(self, outcome: EnrollOutcome) -> bool:
        self.outcome, self._capture, self._waiting = outcome, None, None
        return True
