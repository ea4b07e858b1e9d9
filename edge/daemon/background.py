"""The workers behind the loop: they fit, calibrate, keep clips and back up, each in a thread of its own."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

from edge.config import Review
from edge.gallery import Example, Prototype, back_up_now, backups_of, is_backup_due
from edge.match import Classifier, fit_gallery
from edge.model import Encoder
from edge.protocol import ReviewClip, ReviewStatus
from edge.review import Moment, keep_moment
from edge.thresholds import Job
from streams.errors import ControlError, CrossGLGError, GalleryError, ReviewError

# 100 labels take 320 MB while they are fitted, and the memory grows with their number.
MAX_LABELS = 100
# Some seconds of the fastest movement; a disk that is slower than that loses clips, not frames.
_MAX_WAITING = 32
# A backup is a day's; whether it is due is looked at more often, for who is switched on for hours only.
_BACKUP_AFTER_S, _BACKUP_EVERY_S = 120.0, 600.0


class Fitting:
    """Fit a classifier in one background thread: 20 labels take a second, 100 half a minute.

    `state` says by what labels are chosen at present, for people.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.state = ""
        self._encoder = encoder
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._fit: Future[Classifier] | None = None
        self._is_outdated = Event()

    def begin(self, examples: Sequence[Example | Prototype]) -> None:
        """Fit to these examples and give up what is being fitted."""
        self._give_up()
        num_labels = len({example.label for example in examples})
        if not 2 <= num_labels <= MAX_LABELS:
            self.state = f"calibrated: cosine, as 2 to {MAX_LABELS} labels can be fitted, not {num_labels}"
            return
        self.state = "calibrated: being fitted, cosine until then"
        self._is_outdated = Event()
        self._fit = self._executor.submit(fit_gallery, tuple(examples), self._encoder, self._is_outdated.is_set)

    def take(self) -> Classifier | None:
        """Return the classifier of the newest examples, once, as soon as it is there. Raises what the fit raised."""
        if self._fit is None or not self._fit.done():
            return None
        done, self._fit = self._fit, None
        self.state = "calibrated: it could not be fitted, cosine instead"
        classifier = done.result()
        self.state = "calibrated"
        return classifier

    def close(self) -> None:
        """Give up what is being fitted; wait for it, which takes a fraction of a second."""
        self._give_up()
        self._executor.shutdown()

    def _give_up(self) -> None:
        self._is_outdated.set()
        if self._fit is not None:
            self._fit.cancel()
            self._fit = None


class Calibrating:
    """Calibrate in one background thread, or at once: a minute of ordinary movement takes some seconds."""

    def __init__(self, *, at_once: bool = False) -> None:
        self._is_at_once = at_once
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._work: Future[None] | None = None
        self._is_closing = Event()

    @property
    def state(self) -> str:
        """The state: "calibrating", "" once it is done or was never asked for, or why it failed."""
        if self._work is None:
            return ""
        if not self._work.done():
            return "calibrating"
        error = self._work.exception()
        if error is None:
            return ""
        return f"failed: {error.message if isinstance(error, CrossGLGError) else error}"

    def check_idle(self) -> None:
        """Raise ControlError("busy") while one goes on."""
        if self.state == "calibrating":
            raise ControlError("thresholds are being calibrated", code="busy", hint="Ask again in a few seconds.")

    def begin(self, work: Job) -> None:
        """Start a calibration, or do it at once, which raises what `work` raises. Raises ControlError("busy")."""
        self.check_idle()
        if self._is_at_once:
            work(lambda: False)
            return
        self._work = self._executor.submit(work, self._is_closing.is_set)

    def close(self) -> None:
        """Give up what goes on; wait for it, which takes a fraction of a second."""
        self._is_closing.set()
        self._executor.shutdown(cancel_futures=True)


class BackingUp:
    """Back the gallery up once a day, in a background thread; `state`: the last backup's file, or why it failed."""

    def __init__(self, path: Path, keep: int, now_s: float) -> None:
        """Begin a while after the start, `now_s`, time.monotonic(): who starts it for a minute wants no copies."""
        self.state = next((str(last) for last in backups_of(path)[-1:]), "")
        self._path, self.keep = path, keep
        self._due_s = now_s + _BACKUP_AFTER_S
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._work: Future[Path | None] | None = None

    def step(self, now_s: float) -> CrossGLGError | None:
        """Begin a backup where one is due; return why the last one failed, once."""
        if self._work is not None and self._work.done():
            done, self._work = self._work, None
            try:
                made = done.result()
            except Exception as error:  # whatever it is, the recognizer goes on without backups
                failure = error if isinstance(error, CrossGLGError) else GalleryError(f"no backup is made: {error!r}")
                self.state = f"failed: {failure.message}"
                return failure
            self.state = self.state if made is None else str(made)
        if self.keep and self._work is None and now_s >= self._due_s:
            self._due_s = now_s + _BACKUP_EVERY_S
            self._work = self._executor.submit(self._back_up)
        return None

    def _back_up(self) -> Path | None:
        return back_up_now(self._path, self.keep) if is_backup_due(self._path, time.time()) else None

    def close(self) -> None:
        """Finish what goes on."""
        self._executor.shutdown(cancel_futures=True)


class Keeping:
    """Put moments into the ring in one background thread; what finds the queue full is counted and not kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._executor = ThreadPoolExecutor(max_workers=1)
        self._waiting: deque[Future[ReviewClip]] = deque()
        self._num_kept = 0
        self._not_kept: Counter[str] = Counter()
        self._error: CrossGLGError | None = None

    def keep(self, moment: Moment, settings: Review, created: str) -> None:
        """Have a moment written, soon; never waits for the disk."""
        if len(self._waiting) >= _MAX_WAITING:
            self._not_kept["queue_full"] += 1
            return
        self._waiting.append(self._executor.submit(keep_moment, self._path, moment, settings, created))

    def take_error(self) -> CrossGLGError | None:
        """Look at what was written; return why the last clip was not, None where it was."""
        while self._waiting and self._waiting[0].done():
            done = self._waiting.popleft()
            try:
                done.result()
                self._num_kept, self._error = self._num_kept + 1, None
            except Exception as error:  # whatever it is, the recognizer goes on without clips
                self._not_kept["failed"] += 1
                self._error = error if isinstance(error, CrossGLGError) else ReviewError(f"no clip is kept: {error!r}")
        return self._error

    def status(self, settings: Review, num_skipped: int) -> ReviewStatus:
        """Return what was kept, and what was not; `num_skipped`: near misses beyond the rate."""
        error = self.take_error()
        not_kept = {**self._not_kept, **({"rate": num_skipped} if num_skipped else {})}
        state = "off" if not settings.enabled else "" if error is None else error.message
        return ReviewStatus(path=str(self._path), kept=self._num_kept, not_kept=not_kept, state=state)

    def close(self) -> None:
        """Write what waits."""
        self._executor.shutdown()
