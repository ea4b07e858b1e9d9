"""The one enrollment that a daemon has under way: started, captured, perhaps previewed, stored or given up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from edge.enroll.capture import Enrollment
from edge.enroll.draft import Draft, commit_draft, draft_example
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
    EnrollUnderWay,
    StoredExample,
)
from streams.cameras import Camera
from streams.errors import CrossGLGError, EnrollError
from streams.frame import SkeletonFrame
from streams.messages import Failure

# Whoever asked for a preview may have gone away.
_CONFIRM_S = 60.0


class Enrolling:
    """Lead one enrollment at a time through its states; `outcome` tells how the last one ended."""

    def __init__(self) -> None:
        self.outcome: EnrollOutcome = EnrollIdle()
        self._args = EnrollStart()
        self._capture: Enrollment | NegativeCapture | None = None
        self._draft: Draft | None = None
        self._draft_until_s = math.inf

    @property
    def label(self) -> str | None:
        """Name what is being enrolled; None where nothing is."""
        if self._draft is not None:
            return self._draft.preview.label
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
        self._args, self.outcome = args, EnrollIdle()
        return EnrollStartAnswer(label=self._capture.label, countdown_s=countdown_s, cued=is_cued)

    def step(self, frames: Sequence[SkeletonFrame], library: Library, camera: Camera, now_s: float) -> bool:
        """Go on with frames (kinect25); return whether the enrollment has just ended, as `outcome` says."""
        if self._draft is not None and now_s > self._draft_until_s:
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
            return self._captured(capture, library, now_s)
        except CrossGLGError as error:
            return self._fail(error)

    def _captured(self, capture: Enrollment | NegativeCapture, library: Library, now_s: float) -> bool:
        origin, created = f"live:{capture.seen_source}", created_now()
        if isinstance(capture, NegativeCapture):
            stored = store_negatives(library.gallery, capture.pieces, origin=origin, created=created)
            return self._end(EnrollDone(label=capture.label, result=stored))
        assert capture.example is not None
        draft = draft_example(
            library.gallery,
            library.encoder.info,
            capture.label,
            replace(capture.example, notes=tuple(capture.notes)),
            origin=origin,
            created=created,
            mode=self._args.mode,
            side=self._args.side,
            words=self._args.description if self._args.words else None,
        )
        self._capture, self._draft, self._draft_until_s = None, draft, now_s + _CONFIRM_S
        if self._args.commit:
            self.commit(library, force=self._args.force)
        return self._draft is None

    def commit(self, library: Library, *, force: bool) -> StoredExample:
        """Store the example that waits. Raises EnrollError: "too_similar" (it waits on); GalleryError."""
        if self._draft is None:
            raise EnrollError("no example waits to be stored", code="nothing_to_commit", hint="See enroll.status.")
        draft, info = self._draft, library.encoder.info
        stored = commit_draft(library.gallery, info, draft, created=created_now(), force=force or self._args.force)
        self._end(EnrollDone(label=draft.preview.label, result=stored))
        return stored

    def cancel(self) -> CancelAnswer:
        """Give up what is under way; return what that was."""
        label = self.label
        if label is not None:
            self._fail(EnrollError("the enrollment was cancelled", code="cancelled"))
        return CancelAnswer(cancelled=label)

    def status(self, now_s: float) -> EnrollState:
        """Return the state, and what belongs to it: time left, preview, result or error."""
        if self._draft is not None:
            left_s = round(max(0.0, self._draft_until_s - now_s), 2)
            return EnrollCaptured(label=self._draft.preview.label, left_s=left_s, preview=self._draft.preview)
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
        )

    def _fail(self, error: CrossGLGError) -> bool:
        failure = Failure(code=error.code, message=error.message, hint=error.hint)
        return self._end(EnrollFailed(label=self.label or "", error=failure))

    def _end(self, outcome: EnrollOutcome) -> bool:
        self.outcome, self._capture, self._draft = outcome, None, None
        return True
