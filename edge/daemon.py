"""The daemon: one thread that reads frames, answers requests and publishes events; no queue in between."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import Counter, OrderedDict, deque
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zmq

from edge import control
from edge.config import Config, read_config
from edge.control import Args, Command, Library, NoArgs
from edge.enrollment import Enrollment, Mode
from edge.intake import Intake
from edge.recognizer import PrototypeIndex, Recognizer
from streams import wire
from streams.cameras import Camera, Refused, clock_name
from streams.errors import ConfigError, ControlError, CrossGLGError, EnrollError, RecordingError, WireError
from streams.event import Event
from streams.frame import SkeletonFrame
from streams.recording import RecordingWriter
from streams.sockets import ControlServer, EventPublisher

log = logging.getLogger("crossglg_edge")

# Frames taken in one turn of the loop: what piles up behind a slow decision is read before the next.
_READ_LIMIT = 512
_REMEMBERED_ANSWERS = 256
_LONGEST_WAIT_S = 0.2
_STATUS_EVERY_S = 1.0


class EnrollArgs(Args, frozen=True):
    label: str
    countdown_s: float | None = None
    mode: Mode = "new"
    source: str | None = None
    body: int | None = None


class RecordArgs(Args, frozen=True):
    path: str
    overwrite: bool = False


class TimeArgs(Args, frozen=True):
    t0: float


class Daemon:
    """Serve one camera. All state lives here; `run` returns after `stop` or a shutdown request."""

    def __init__(self, library: Library, camera: Camera, *, config_path: Path | None = None) -> None:
        config = library.config
        self.library = library
        self.camera = camera
        self.config_path = config_path
        self.enrollment: Enrollment | None = None
        self.enrolled: dict[str, Any] | None = None
        self.recorder: RecordingWriter | None = None
        self.num_events: Counter[str] = Counter()
        self._events = EventPublisher(config.sockets.events)
        try:
            self._control = ControlServer(config.sockets.control)
        except ControlError:
            self._events.close()
            raise
        self._poller = zmq.Poller()
        self._poller.register(self._control.socket, zmq.POLLIN)
        if camera.socket is not None:
            self._poller.register(camera.socket, zmq.POLLIN)
        self._start_s = time.monotonic()
        self._status_due_s = self._start_s
        self._is_stopping = False
        self._answers: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._warned: set[tuple[str | None, str]] = set()
        self._step_us: deque[float] = deque(maxlen=1000)
        self._use(config)

    def _use(self, config: Config) -> None:
        self.library = Library(config=config, encoder=self.library.encoder, gallery=self.library.gallery)
        self.intake = Intake(config.stream)
        self.recognizer = Recognizer(
            config, self.library.encoder, self.intake, clock=time.monotonic, clock_name=clock_name()
        )
        self._index_prototypes()

    def _index_prototypes(self) -> None:
        gallery = self.library.gallery
        self.recognizer.prototypes = PrototypeIndex(gallery.prototypes, gallery.revision)

    def stop(self) -> None:
        """Make `run` return at the end of its turn; safe in a signal handler."""
        self._is_stopping = True

    def run(self) -> None:
        """Serve until stopped, then close everything."""
        try:
            while not self._is_stopping:
                now_s = time.monotonic()
                wait_s = min(self.camera.wait_s(now_s), self._status_due_s - now_s, _LONGEST_WAIT_S)
                self._poller.poll(math.ceil(max(0.0, wait_s) * 1000))
                self._answer_requests()
                self._take_frames()
                self._tick(time.monotonic())
        finally:
            self._close()

    def _close(self) -> None:
        if self.recorder is not None:
            self.recorder.close()
        self.camera.close()
        self._control.close()
        self._events.close()
        self.library.gallery.close()

    # Frames in, events out.

    def _take_frames(self) -> None:
        now_s = time.monotonic()
        frames: list[SkeletonFrame] = []
        for message in self.camera.read(now_s, _READ_LIMIT):
            if isinstance(message, Refused):
                self.intake.drop(message.source, message.reason)
                self._warn_once(message.source, message.reason, message.message)
                continue
            if not self.intake.accept(message, now_s):
                continue
            if self.recorder is not None:
                self._record(message)
            frames.append(message.to_kinect25())
        if frames:
            read_s = time.monotonic()
            if self.enrollment is not None:
                self.enrollment.step(frames, now_s)
            for event in self.recognizer.step(frames, now_s):
                self._tell(event)
            self._step_us.append(1e6 * (time.monotonic() - read_s) / len(frames))

    def _tell(self, event: Event) -> None:
        self.num_events[event.type] += 1
        self._events.send(event)
        log.info("%s %s of body %d, score %.2f", event.type, event.label, event.body, event.score)

    def _record(self, frame: SkeletonFrame) -> None:
        assert self.recorder is not None
        try:
            self.recorder.write(frame, log_time_ns=time.time_ns())
        except RecordingError as error:
            self.recorder = None
            self._log("error", f"recording stopped: {error.message}")

    def _warn_once(self, source: str | None, reason: str, message: str) -> None:
        if (source, reason) not in self._warned and len(self._warned) < 1000:
            self._warned.add((source, reason))
            self._log("warning", f"dropped a frame of {source!r} ({reason}): {message}; more are only counted")

    def _log(self, level: str, message: str) -> None:
        log.log(logging.getLevelNamesMapping()[level.upper()], "%s", message)
        self._events.send_map(f"log.{level}", {"v": wire.WIRE_VERSION, "level": level, "message": message})

    def _tick(self, now_s: float) -> None:
        if self.enrollment is not None:
            self.enrollment.step((), now_s)
            if self.enrollment.is_over:
                self._end_enrollment(self.enrollment)
        if now_s >= self._status_due_s:
            for source in self.intake.silent(now_s):
                for event in self.recognizer.lose(source):
                    self._tell(event)
            self._status_due_s = now_s + _STATUS_EVERY_S
            if self.library.gallery.refresh():
                log.info("the gallery was changed by another program: revision %d", self.library.gallery.revision)
            self._events.send_map("status.daemon", {"v": wire.WIRE_VERSION, **self.status()})
        if self.library.gallery.revision != self.recognizer.prototypes.revision:
            self._index_prototypes()

    def _end_enrollment(self, enrollment: Enrollment) -> None:
        self.enrollment = None
        error = enrollment.error
        if error is None and enrollment.example is not None:
            try:
                result = control.commit_example(
                    self.library,
                    enrollment.label,
                    enrollment.example,
                    origin=f"live:{enrollment.seen_source}",
                    mode=enrollment.mode,
                )
                self.enrolled = {"state": "done", "label": enrollment.label, "result": result}
                # The example itself is still in the windows, and must not be recognised at once.
                self.recognizer.forget()
                self._log("info", f"enrolled {enrollment.label!r}")
                return
            except CrossGLGError as refused:
                error = refused
        assert error is not None
        failure = {"code": error.code, "message": error.message, "hint": error.hint}
        self.enrolled = {"state": "failed", "label": enrollment.label, "error": failure}
        self._log("warning", f"enrolment of {enrollment.label!r} failed ({error.code}): {error.message}")

    # Requests.

    def _answer_requests(self) -> None:
        while (received := self._control.receive()) is not None:
            address, payload = received
            self._control.send(address, self._answer(payload))

    def _answer(self, payload: bytes) -> dict[str, Any]:
        try:
            request = wire.decode_request(payload)
        except WireError as error:
            return _refusal("", error)
        if request.id in self._answers:
            return self._answers[request.id]
        answer: dict[str, Any]
        try:
            commands, context = (
                (control.LIBRARY_COMMANDS, self.library)
                if request.cmd in control.LIBRARY_COMMANDS
                else (_DAEMON_COMMANDS | control.LIBRARY_COMMANDS, self)
            )
            result = control.call(commands, context, request.cmd, request.args)
            answer = {"v": wire.WIRE_VERSION, "id": request.id, "ok": True, "result": result}
        except CrossGLGError as error:
            answer = _refusal(request.id, error)
        except Exception as error:  # a bug of ours must not take the camera's user down with it
            log.exception("request %s failed", request.cmd)
            answer = _refusal(request.id, ControlError(f"internal error: {error}", code="internal"))
        self._answers[request.id] = answer
        if len(self._answers) > _REMEMBERED_ANSWERS:
            self._answers.popitem(last=False)
        return answer

    def status(self) -> dict[str, Any]:
        """Return what a person or a program wants to know about the daemon's health."""
        now_s = time.monotonic()
        gallery, recorder, info = self.library.gallery, self.recorder, self.library.encoder.info
        step_us = np.percentile(self._step_us, (50, 99)).tolist() if self._step_us else [0.0, 0.0]
        return {
            "version": control.VERSION,
            "pid": os.getpid(),
            "uptime_s": round(now_s - self._start_s, 1),
            "camera": self.library.config.camera,
            **self.intake.status(now_s),
            "bodies": self.recognizer.num_bodies,
            "bodies_refused": self.recognizer.num_bodies_refused,
            "decisions": self.recognizer.num_decisions,
            "hops_skipped": self.recognizer.num_hops_skipped,
            "events": dict(self.num_events),
            "per_frame_us": {"p50": round(step_us[0], 1), "p99": round(step_us[1], 1)},
            "gallery": {
                "path": str(self.library.config.gallery.path),
                "revision": gallery.revision,
                "labels": list(gallery.labels()),
                "examples": len(gallery.prototypes),
            },
            "model": {"name": info.name, "sha256": info.onnx_sha256, "engine": "onnxruntime"},
            "recording": None if recorder is None else {"path": str(recorder.path), "frames": recorder.num_frames},
            "enrolling": None if self.enrollment is None else self.enrollment.label,
        }


def _refusal(request_id: str, error: CrossGLGError) -> dict[str, Any]:
    return {
        "v": wire.WIRE_VERSION,
        "id": request_id,
        "ok": False,
        "error": {"code": error.code, "message": error.message, "hint": error.hint},
    }


def _ping(daemon: Daemon, args: NoArgs) -> dict[str, Any]:
    return {"pid": os.getpid()}


def _version(daemon: Daemon, args: NoArgs) -> dict[str, Any]:
    return {"version": control.VERSION, "wire": wire.WIRE_VERSION}


def _status(daemon: Daemon, args: NoArgs) -> dict[str, Any]:
    return daemon.status()


def _time(daemon: Daemon, args: TimeArgs) -> dict[str, Any]:
    now_s = time.monotonic()
    return {"t0": args.t0, "t1": now_s, "t2": time.monotonic(), "clock": clock_name()}


def _enroll_start(daemon: Daemon, args: EnrollArgs) -> dict[str, Any]:
    if daemon.enrollment is not None:
        raise EnrollError(
            f"an enrolment of {daemon.enrollment.label!r} is under way",
            code="busy",
            hint="Wait for it, or send enroll.cancel.",
        )
    config = daemon.library.config
    countdown_s = config.enroll.countdown_s if args.countdown_s is None else args.countdown_s
    if not 0 <= countdown_s <= 60:
        raise EnrollError(f"countdown_s is {countdown_s}: expected 0 to 60", code="bad_args")
    # What the gallery would refuse at the end, it refuses before anybody has moved.
    label = daemon.library.gallery.check_label(args.label, mode=args.mode)
    daemon.enrollment = Enrollment(
        label,
        config,
        now_s=time.monotonic(),
        countdown_s=countdown_s,
        mode=args.mode,
        source=args.source,
        body=args.body,
    )
    daemon.enrolled = None
    return {"label": label, "countdown_s": countdown_s, "cued": daemon.camera.cue(label, countdown_s)}


def _enroll_status(daemon: Daemon, args: NoArgs) -> dict[str, Any]:
    if daemon.enrollment is not None:
        left_s = round(daemon.enrollment.left_s(time.monotonic()), 2)
        return {"state": daemon.enrollment.state, "label": daemon.enrollment.label, "left_s": left_s}
    return daemon.enrolled or {"state": "none"}


def _enroll_cancel(daemon: Daemon, args: NoArgs) -> dict[str, Any]:
    was = daemon.enrollment
    daemon.enrollment = None
    if was is not None:
        error = {"code": "cancelled", "message": "the enrolment was cancelled", "hint": ""}
        daemon.enrolled = {"state": "failed", "label": was.label, "error": error}
    return {"cancelled": was.label if was is not None else None}


def _config_get(daemon: Daemon, args: NoArgs) -> dict[str, Any]:
    return dict(msgspec.to_builtins(daemon.library.config))


def _config_reload(daemon: Daemon, args: NoArgs) -> dict[str, Any]:
    """Read the config file again; what opened files or sockets keeps its value until a restart."""
    old, new = daemon.library.config, read_config(daemon.config_path)
    fixed = [key for key in ("sockets", "model", "gallery") if getattr(old, key) != getattr(new, key)]
    if fixed:
        raise ConfigError(
            f"[{'], ['.join(fixed)}] changed: they are read only at the start", hint="Restart the daemon."
        )
    daemon._use(msgspec.structs.replace(new, camera=old.camera))
    return _config_get(daemon, args)


def _record_start(daemon: Daemon, args: RecordArgs) -> dict[str, Any]:
    if daemon.recorder is not None:
        raise RecordingError(f"already recording to {daemon.recorder.path}", code="busy", hint="Stop it first.")
    daemon.recorder = RecordingWriter(Path(args.path), overwrite=args.overwrite)
    return {"path": args.path}


def _record_stop(daemon: Daemon, args: NoArgs) -> dict[str, Any]:
    recorder = daemon.recorder
    if recorder is None:
        raise RecordingError("nothing is being recorded", code="not_recording")
    daemon.recorder = None
    recorder.close()
    return {"path": str(recorder.path), "frames": recorder.num_frames}


def _shutdown(daemon: Daemon, args: NoArgs) -> dict[str, Any]:
    daemon.stop()
    return {"pid": os.getpid()}


_DAEMON_COMMANDS: dict[str, Command] = {
    "ping": (NoArgs, _ping),
    "version": (NoArgs, _version),
    "status": (NoArgs, _status),
    "time": (TimeArgs, _time),
    "enroll.start": (EnrollArgs, _enroll_start),
    "enroll.status": (NoArgs, _enroll_status),
    "enroll.cancel": (NoArgs, _enroll_cancel),
    "config.get": (NoArgs, _config_get),
    "config.reload": (NoArgs, _config_reload),
    "record.start": (RecordArgs, _record_start),
    "record.stop": (NoArgs, _record_stop),
    "shutdown": (NoArgs, _shutdown),
}
