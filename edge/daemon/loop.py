"""The daemon: one thread that reads frames, answers requests and publishes events; no queue in between."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import zmq

from edge.config import Config
from edge.daemon.background import BackingUp, Calibrating, Fitting, Keeping
from edge.daemon.commands import answer_request, describe_recorder
from edge.daemon.recorder import Recorder
from edge.daemon.skeletons import Skeletons
from edge.daemon.systemd import Systemd
from edge.enroll import Enrolling
from edge.gallery import Described, Prototype
from edge.library import Library, created_now
from edge.live import Decision, Recognizer, scores_of
from edge.match import PrototypeIndex
from edge.protocol import (
    VERSION,
    CameraProcess,
    EnrollDone,
    EnrollFailed,
    GalleryStatus,
    ModelStatus,
    StatusAnswer,
    StepTimes,
    is_question,
)
from edge.review import Moment, MomentWatch, ring_path
from edge.thresholds import OTHER_MODEL, are_of_another_model, changed_at, midpoints_in_force, thresholds_path
from streams.cameras import Camera, Refused, clock_name
from streams.errors import (
    CameraError,
    ControlError,
    CrossGLGError,
    EngineError,
    GalleryError,
    WireError,
)
from streams.event import Event
from streams.frame import SkeletonFrame
from streams.messages import WIRE_VERSION, Answer, Failure, Refusal, Request, decode_map, decode_request
from streams.sockets import ControlServer, EventPublisher

log = logging.getLogger("crossglg_edge")

# Frames taken in one turn of the loop: what piles up behind a slow decision is read before the next.
_READ_LIMIT = 512
# Requests answered in one turn: a peer that asks without end must not keep the frames waiting.
_REQUEST_LIMIT = 64
# A peer that got no answer asks again within seconds; later the same bytes are a new wish.
_REMEMBERED_S = 60.0
_REMEMBERED_ANSWERS = 256
# A UUID has 36 characters.
_UNIQUE_ID = 16
_LONGEST_WAIT_S = 0.2
# How long a stopping daemon waits for the disk to take what was recorded.
_FINISH_S = 10.0
# So many warnings in so many seconds; what is said once is said again after that time.
_WARNINGS, _WARN_AGAIN_S = 1000, 600.0
# Why words do not count where nobody asked for them; anything else is told.
_NO_WORDS = ("words_off", "no_words", "no_text_encoder")
_STATUS_EVERY_S = 1.0


class Daemon:
    """Serve one camera. All state lives here; `run` returns after `stop` or a shutdown request.

    With `ends_with_camera` it also returns once the camera has no frame left and the last event is told.
    """

    def __init__(
        self, library: Library, camera: Camera, *, config_path: Path | None = None, ends_with_camera: bool = False
    ) -> None:
        config = library.config
        self.library = library
        self.camera = camera
        self.config_path = config_path
        self.enrolling = Enrolling()
        self.recorder: Recorder | None = None
        self.num_events: Counter[str] = Counter()
        self.num_onsets: Counter[str] = Counter()
        self._events = EventPublisher(config.sockets.events)
        self._skeletons = Skeletons(self._events)
        try:
            self._control = ControlServer(config.sockets.control)
        except ControlError:
            self._events.close()
            raise
        self._poller = zmq.Poller()
        self._poller.register(self._control.socket, zmq.POLLIN)
        self._poller.register(self._events.socket, zmq.POLLIN)
        if camera.socket is not None:
            self._poller.register(camera.socket, zmq.POLLIN)
        self._start_s = time.monotonic()
        self._status_due_s = self._start_s
        self._systemd = Systemd()
        self._cpu: float | None = None
        self._cpu_at = time.process_time(), self._start_s
        self._is_stopping = False
        self._camera_error: CameraError | None = None
        self._ends_with_camera = ends_with_camera
        self._answers: OrderedDict[bytes, tuple[float, Answer | Refusal]] = OrderedDict()
        self._engine_code = ""
        self._warned: OrderedDict[tuple[str | None, str], float] = OrderedDict()
        self._warnings_left, self._num_unsaid = float(_WARNINGS), 0
        self._warnings_filled_s = time.monotonic()
        self._step_us: deque[float] = deque(maxlen=1000)
        self._fitting = Fitting(library.encoder) if config.model.matching == "calibrated" else None
        self.calibrating = Calibrating()
        self._moments = MomentWatch(config, library.encoder.info.score_curve)
        self._keeping = Keeping(ring_path(library.gallery.path))
        self._backing_up = BackingUp(library.gallery.path, config.gallery.backups, self._start_s)
        self._gallery_code, self._num_replaced, self._num_damaged = "", 0, 0
        self._active: dict[tuple[str, int], Event] = {}
        self._thresholds: dict[str, float] = {}
        self._thresholds_changed_at: tuple[int, int] | None = None
        self.recognizer = Recognizer(config, library.encoder, clock=time.monotonic, clock_name=clock_name())
        self._index_prototypes()
        if library.words_error is not None and library.words_error.code not in _NO_WORDS:
            self._log("warning", f"the words of labels do not count: {library.words_error.message}")
        if library.gallery.num_reembedded:
            log.info("%d examples were embedded again, by this model", library.gallery.num_reembedded)

    def reconfigure(self, config: Config) -> None:
        """Work with another configuration from now on; counters go on, tracks start anew."""
        self._tell(self.recognizer.reconfigure(config))
        self.library = replace(self.library, config=config)
        self._moments.config = config
        self._backing_up.keep = config.gallery.backups
        self._index_prototypes()

    def _index_prototypes(self) -> None:
        gallery, info = self.library.gallery, self.library.encoder.info
        self._thresholds_changed_at = changed_at(thresholds_path(gallery.path))
        try:
            self._thresholds = midpoints_in_force(gallery, info, self.library.config)
            if are_of_another_model(gallery, info):
                self._warn(None, "other_model", OTHER_MODEL)
        except GalleryError as error:  # those in memory still serve
            self._warn(None, error.code, error.message)
        self.recognizer.prototypes = PrototypeIndex(
            self._enrolled(), info, gallery.revision, self._thresholds, counters=gallery.counters
        )
        if self._fitting is not None:
            self._fitting.begin(gallery.prototypes)

    def _enrolled(self) -> list[Prototype | Described]:
        """Return what windows are compared with; words alone only where their embedding is known, and alone counts."""
        gallery = self.library.gallery
        in_use = [words for words in gallery.described if len(words.embedding) and self._fitting is None]
        if unused := [words.label for words in gallery.described if words not in in_use]:
            error = self.library.words_error
            reason = error.message if error is not None else 'matching = "calibrated" chooses among examples'
            lost = f"not recognized, as they have words alone: {', '.join(unused)}; {reason}"
            self._warn(None, "words", lost)
        return [*gallery.prototypes, *in_use]

    def _take_classifier(self) -> None:
        if self._fitting is None:
            return
        try:
            classifier = self._fitting.take()
        except Exception as error:  # the distance alone still recognizes
            self._log("error", f"the distribution classifier cannot be fitted, labels are chosen by cosine: {error}")
            return
        if classifier is not None:
            self.recognizer.prototypes.classifier = classifier

    def stop(self) -> None:
        """Make `run` return at the end of its turn; safe in a signal handler."""
        self._is_stopping = True

    def run(self) -> None:
        """Serve until stopped, then end the events that go on and close everything.

        Raises CameraError where the camera never gave a frame, and never will.
        """
        try:
            self._systemd.ready()
            while not (self._is_stopping or self._is_over()):
                now_s = time.monotonic()
                wait_s = min(self.camera.wait_s(now_s), self._status_due_s - now_s, _LONGEST_WAIT_S)
                ready = dict(self._poller.poll(math.ceil(max(0.0, wait_s) * 1000)))
                if self._events.socket in ready:
                    self._events.take_subscriptions()
                self._answer_requests()
                self._take_frames()
                self._tick(time.monotonic())
            self._systemd.stopping()
            self._tell(self.recognizer.forget())
            self._keep(self._moments.leave(()))
        finally:
            self._close()
        if self._camera_error is not None:
            raise self._camera_error

    def _is_over(self) -> bool:
        """Whether no frame will come any more; bodies are lost, and their last events told, a second after the last."""
        no_more = self._ends_with_camera and self.camera.wait_s(time.monotonic()) == math.inf
        return no_more and not self.recognizer.num_bodies

    def _close(self) -> None:
        if self.recorder is not None:
            if not self.recorder.stop(_FINISH_S):
                log.error("%s is not finished: the disk took nothing for %g s", self.recorder.path, _FINISH_S)
            if (error := self.recorder.take_error()) is not None:
                log.error("%s", error.message)
        if self._fitting is not None:
            self._fitting.close()
        self.calibrating.close()
        self._keeping.close()
        self._backing_up.close()
        self.camera.close()
        self._control.close()
        self._events.close()
        self.library.gallery.close()
        self.library.encoder.engine.close()
        self._systemd.close()

    # Frames in, events out.

    def _take_frames(self) -> None:
        now_s, log_time_ns = time.monotonic(), time.time_ns()
        messages = self._read_camera(now_s)
        read_s = time.monotonic()
        turn = self.recognizer.feed(self._readable(messages), now_s)
        for refused in self.recognizer.intake.take_refusals():
            self._tell_dropped(refused.source, refused.reason, refused.message)
        if not turn.frames:
            return
        if turn.decisions and self.library.config.review.enabled:
            self._keep(self._moments.look(turn.decisions, self.recognizer.prototypes, self.recognizer))
        self._tell(turn.events)
        self._tell_scores(turn.decisions)
        self._skeletons.tell(turn.frames, now_s)
        self._tell_engine()
        for frame in turn.native:
            self._record(frame, log_time_ns)
        self._go_on_enrolling(turn.frames, now_s)
        self._step_us.append(1e6 * (time.monotonic() - read_s) / len(turn.frames))

    def _read_camera(self, now_s: float) -> list[SkeletonFrame | Refused]:
        try:
            return self.camera.read(now_s, _READ_LIMIT)
        except CameraError as error:
            self._camera_error = error
            self.stop()
            return []
        finally:
            for note in self.camera.take_notes():
                self._log(note.level, note.message)

    def _readable(self, messages: Iterable[SkeletonFrame | Refused]) -> Iterator[SkeletonFrame]:
        """Yield the frames among messages; count and tell those that could not be read."""
        for message in messages:
            if isinstance(message, SkeletonFrame):
                yield message
                continue
            self.recognizer.intake.drop(message.source, message.reason, time.monotonic())
            self._tell_dropped(message.source, message.reason, message.message)

    def _tell_dropped(self, source: str | None, reason: str, message: str) -> None:
        """Tell the first frame of a source that was dropped for a reason."""
        self._warn(source, reason, f"dropped a frame of {source!r} ({reason}): {message}; more are only counted")

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self.num_events[event.type] += 1
            self.num_onsets[event.label] += event.type == "onset"
            self._events.send(event)
            # An event that lasts is told when it begins and when it ends.
            level = logging.DEBUG if event.type == "update" else logging.INFO
            log.log(level, "%s %s of body %d, score %.2f", event.type, event.label, event.body, event.score)
            if event.type == "end":
                self._active.pop((event.source, event.body), None)
            else:
                self._active[event.source, event.body] = event
            self._moments.hear([event])

    def _tell_scores(self, decisions: Sequence[Decision]) -> None:
        """Send what decisions found to whoever asked for it; where nobody did, make nothing."""
        for decision in decisions:
            if self._events.is_wanted(f"scores.{decision.source}.{decision.body}"):
                active = self._active.get((decision.source, decision.body))
                curve, min_score = self.library.encoder.info.score_curve, self.library.config.events.min_score
                index = self.recognizer.prototypes
                self._events.send_scores(scores_of(decision, index, curve, min_score, active.label if active else None))

    def _keep(self, moments: Iterable[Moment]) -> None:
        """Keep moments for review, in the background."""
        for moment in moments:
            self._keeping.keep(moment, self.library.config.review, created_now())

    def _tell_engine(self) -> None:
        """Say once that the engine fails, of which kind, and once that it runs again."""
        error = self.recognizer.engine_error
        code = "" if error is None else error.code
        if code != self._engine_code:
            self._engine_code = code
            if error is None:
                self._log("info", "the engine runs again")
            else:
                self._log("error", f"no decision, the engine failed ({code}): {error.message}. More are only counted")

    def _record(self, frame: SkeletonFrame, log_time_ns: int) -> None:
        if self.recorder is not None and not self.recorder.is_ending:
            self.recorder.write(frame, log_time_ns=log_time_ns)

    def _watch_recorder(self) -> None:
        """Let go of a recording that is over, and say why where nobody stopped it."""
        recorder = self.recorder
        if recorder is None:
            return
        if recorder.num_dropped:
            slow = f"the disk is too slow for the recording {recorder.path}: frames are lost, more are only counted"
            self._warn(None, f"recording {recorder.path}", slow)
        if recorder.is_over:
            self.recorder = None
            if (error := recorder.take_error()) is not None:
                self._log("error", f"recording stopped: {error.message}")

    def _warn(self, source: str | None, reason: str, message: str) -> None:
        """Warn of something; of the same again after a while, and of not too much at a time."""
        now_s = time.monotonic()
        if now_s - self._warned.get((source, reason), -math.inf) < _WARN_AGAIN_S:
            return
        refill = (now_s - self._warnings_filled_s) * _WARNINGS / _WARN_AGAIN_S
        self._warnings_left, self._warnings_filled_s = min(_WARNINGS, self._warnings_left + refill), now_s
        if self._warnings_left < 1:
            self._num_unsaid += 1
            return
        self._warnings_left -= 1
        self._warned[source, reason] = now_s
        self._warned.move_to_end((source, reason))
        if len(self._warned) > _WARNINGS:
            self._warned.popitem(last=False)
        if self._num_unsaid:
            message = f"{message} ({self._num_unsaid} other warnings were left out)"
            self._num_unsaid = 0
        self._log("warning", message)

    def _log(self, level: str, message: str) -> None:
        log.log(logging.getLevelNamesMapping()[level.upper()], "%s", message)
        self._events.send_map(f"log.{level}", {"v": WIRE_VERSION, "level": level, "message": message})

    def _tick(self, now_s: float) -> None:
        self._systemd.alive(now_s)
        self._go_on_enrolling((), now_s)
        self._watch_recorder()
        self._tell(self.recognizer.lose_silent(now_s))
        self._keep(self._moments.leave(self.recognizer.bodies))
        if (error := self._keeping.take_error()) is not None:
            self._warn(None, error.code, f"{error.message}. More are only counted")
        if now_s >= self._status_due_s:
            self._status_due_s = now_s + _STATUS_EVERY_S
            self._measure_cpu(now_s)
            self._refresh_gallery()
            if (failure := self._backing_up.step(now_s)) is not None:
                self._log("warning", f"{failure.message}. {failure.hint}")
            status = self.status()
            self._events.send_map("status.daemon", {"v": WIRE_VERSION, **msgspec.structs.asdict(status)})
            self._systemd.status(
                f"camera {status.camera}: {len(status.sources)} sources, {status.bodies} bodies, "
                f"{status.events.get('onset', 0)} events of {len(status.gallery.labels)} enrolled actions"
            )
            if changed_at(thresholds_path(self.library.gallery.path)) != self._thresholds_changed_at:
                log.info("the thresholds were changed")
                self._index_prototypes()
        if self.library.gallery.revision != self.recognizer.prototypes.revision:
            self._index_prototypes()
        self._take_classifier()

    def _measure_cpu(self, now_s: float) -> None:
        used_s, (before_used_s, before_s) = time.process_time(), self._cpu_at
        if now_s > before_s:
            self._cpu, self._cpu_at = round((used_s - before_used_s) / (now_s - before_s), 3), (used_s, now_s)

    def _refresh_gallery(self) -> None:
        """Take over what others did to the gallery's file; say what is wrong with it, and when it is well again."""
        gallery, code = self.library.gallery, ""
        try:
            if gallery.refresh():
                log.info("the gallery was changed by another program: revision %d", gallery.revision)
        except (EngineError, GalleryError) as error:  # what is in memory still serves
            code = error.code
            if code != self._gallery_code:
                self._log("error", f"{error.message}; what was enrolled before still serves. {error.hint}")
        if self._gallery_code and not code:
            self._log("info", f"the gallery can be read again: revision {gallery.revision}")
        self._gallery_code = code
        if gallery.num_replaced > self._num_replaced:
            self._num_replaced = gallery.num_replaced
            enrolled = ", ".join(gallery.labels()) or "nothing"
            found = f"now revision {gallery.revision}, enrolled: {enrolled}"
            self._log("warning", f"{gallery.path} was replaced by another file while it was in use: {found}")
        if len(gallery.damaged) > self._num_damaged:
            names = ", ".join(f"{damaged.id[:8]} of {damaged.label!r}" for damaged in gallery.damaged[:5])
            names += ", ..." * (len(gallery.damaged) > 5)
            remedy = "`gallery restore` or `gallery repair` mends it"
            self._log("error", f"{len(gallery.damaged)} examples are damaged and set aside ({names}): {remedy}")
        self._num_damaged = len(gallery.damaged)

    def _go_on_enrolling(self, frames: Sequence[SkeletonFrame], now_s: float) -> None:
        if self.enrolling.step(frames, self.library, self.camera, now_s):
            self.tell_enrolled()

    def tell_enrolled(self) -> None:
        """Tell how an enrollment has ended."""
        outcome = self.enrolling.outcome
        if isinstance(outcome, EnrollDone):
            # The example itself is still in the windows, and must not be recognized at once.
            self._tell(self.recognizer.forget())
            self._log("info", f"enrolled {outcome.label!r}")
        elif isinstance(outcome, EnrollFailed):
            error = outcome.error
            self._log("warning", f"enrollment of {outcome.label!r} failed ({error.code}): {error.message}")

    # Requests.

    def _answer_requests(self) -> None:
        for _ in range(_REQUEST_LIMIT):
            received = self._control.receive()
            if received is None:
                return
            address, payload = received
            self._control.send(address, self._answer(payload, address, time.monotonic()))

    def _answer(self, payload: bytes, address: Sequence[bytes], now_s: float) -> Answer | Refusal:
        """Carry a request out, or, where it is a change that is sent again, give the first answer again."""
        try:
            request = decode_request(payload)
        except WireError as error:
            return _refusal(_request_id(payload), error)
        if not request.id or is_question(request.cmd):
            return self._carry_out(request)
        # The whole request, not the id alone: a script that counts its requests from 1 starts again at 1. And two such
        # scripts mean two changes: only an id that nobody else has is known again from another connection.
        peer = b"" if len(request.id) >= _UNIQUE_ID else b"".join(address)
        key = hashlib.sha256(peer + payload).digest()
        told = self._answers.pop(key, None)
        if told is None or now_s - told[0] > _REMEMBERED_S:
            told = now_s, self._carry_out(request)
        self._answers[key] = told
        if len(self._answers) > _REMEMBERED_ANSWERS:
            self._answers.popitem(last=False)
        return told[1]

    def _carry_out(self, request: Request) -> Answer | Refusal:
        try:
            return Answer(id=request.id, result=answer_request(self, request.cmd, request.args))
        except CrossGLGError as error:
            return _refusal(request.id, error)
        except Exception as error:  # a bug of ours must not take the camera's user down with it
            log.exception("request %s failed", request.cmd)
            return _refusal(request.id, ControlError(f"internal error: {error}", code="internal"))

    def status(self) -> StatusAnswer:
        """Return what a person or a program wants to know about the daemon's health."""
        now_s = time.monotonic()
        recorder, recognizer = self.recorder, self.recognizer
        step_us = np.percentile(self._step_us, (50, 99)).tolist() if self._step_us else [0.0, 0.0]
        arrivals = recognizer.intake.status(now_s)
        return StatusAnswer(
            version=VERSION,
            pid=os.getpid(),
            uptime_s=round(now_s - self._start_s, 1),
            camera=self.library.config.camera,
            sources=arrivals.sources,
            dropped=arrivals.dropped,
            bodies=recognizer.num_bodies,
            bodies_refused=recognizer.num_bodies_refused,
            bodies_without_joints=recognizer.num_bodies_without_joints,
            decisions=recognizer.num_decisions,
            windows=recognizer.num_windows,
            encode_s=round(recognizer.encode_s, 3),
            hop_s=round(recognizer.hop_s, 3),
            hops_skipped=recognizer.num_hops_skipped,
            encodes_failed=recognizer.num_encodes_failed,
            events=dict(self.num_events),
            per_frame_us=StepTimes(p50=round(step_us[0], 1), p99=round(step_us[1], 1)),
            gallery=self._gallery_status(),
            model=self._model_status(),
            cpu=self._cpu,
            recording=None if recorder is None else describe_recorder(recorder),
            enrolling=self.enrolling.label,
            review=self._keeping.status(self.library.config.review, self._moments.num_skipped),
            camera_process=self._camera_process(now_s),
        )

    def _camera_process(self, now_s: float) -> CameraProcess | None:
        state = self.camera.state(now_s)
        if state is None:
            return None
        return CameraProcess(
            kind=state.kind,
            state=state.state,
            pid=state.pid,
            fps=round(state.fps, 1),
            age_s=None if state.age_s is None else round(state.age_s, 3),
            restarts=state.num_restarts,
            skipped=state.num_skipped,
            last_error=state.last_error,
            last_lines=state.last_lines,
        )

    def _gallery_status(self) -> GalleryStatus:
        gallery = self.library.gallery
        return GalleryStatus(
            path=str(self.library.config.gallery.path),
            revision=gallery.revision,
            labels=gallery.labels(),
            examples=len(gallery.prototypes),
            negatives=len(gallery.negatives),
            counters=len(gallery.counters),
            damaged=len(gallery.damaged),
            replaced=gallery.num_replaced,
            backup=self._backing_up.state,
            reembedded=gallery.num_reembedded,
        )

    def _model_status(self) -> ModelStatus:
        encoder = self.library.encoder
        return ModelStatus(
            name=encoder.info.name,
            sha256=encoder.info.onnx_sha256,
            engine=encoder.report(),
            matching="cosine" if self._fitting is None else self._fitting.state,
            words="in use" if self.library.words_error is None else self.library.words_error.message,
        )


def _refusal(request_id: str, error: CrossGLGError) -> Refusal:
    return Refusal(id=request_id, error=Failure(code=error.code, message=error.message, hint=error.hint))


def _request_id(payload: bytes) -> str:
    """Return the id of a request that is refused as a whole, "" where it has none."""
    try:
        request_id = decode_map(payload).get("id")
    except WireError:
        return ""
    return request_id if isinstance(request_id, str) else ""
