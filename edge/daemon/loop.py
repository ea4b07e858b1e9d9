"""The daemon: one thread that reads frames, answers requests and publishes events; no queue in between."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zmq

from edge.config import Config, read_config
from edge.daemon import commands as control
from edge.daemon.background import Calibrating, Fitting
from edge.enroll import Enrolling
from edge.library import Library
from edge.live import Recognizer
from edge.match import PrototypeIndex
from edge.protocol import (
    VERSION,
    ConfigGet,
    ConfigReload,
    EnrollCancel,
    EnrollCommit,
    EnrollStart,
    EnrollStatus,
    Ping,
    RecordStart,
    RecordStop,
    Shutdown,
    Status,
    ThresholdCalibrate,
    ThresholdGet,
    ThresholdReset,
    ThresholdSet,
    Time,
    Version,
)
from edge.thresholds import OTHER_MODEL, are_of_another_model, changed_at, midpoints_in_force, thresholds_path
from streams import wire
from streams.cameras import Camera, Refused, clock_name
from streams.errors import (
    ConfigError,
    ControlError,
    CrossGLGError,
    EngineError,
    GalleryError,
    RecordingError,
    WireError,
)
from streams.event import Event
from streams.frame import SkeletonFrame
from streams.recording import RecordingWriter
from streams.sockets import ControlServer, EventPublisher

log = logging.getLogger("crossglg_edge")

# Frames taken in one turn of the loop: what piles up behind a slow decision is read before the next.
_READ_LIMIT = 512
# Requests answered in one turn: a peer that asks without end must not keep the frames waiting.
_REQUEST_LIMIT = 64
# A peer that got no answer asks again within seconds; later the same bytes are a new wish.
_REMEMBERED_S = 60.0
_REMEMBERED_ANSWERS = 256
_LONGEST_WAIT_S = 0.2
_STATUS_EVERY_S = 1.0


class Daemon:
    """Serve one camera. All state lives here; `run` returns after `stop` or a shutdown request."""

    def __init__(self, library: Library, camera: Camera, *, config_path: Path | None = None) -> None:
        config = library.config
        self.library = library
        self.camera = camera
        self.config_path = config_path
        self.enrolling = Enrolling()
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
        self._answers: OrderedDict[bytes, tuple[float, dict[str, Any]]] = OrderedDict()
        self._engine_code = ""
        self._warned: set[tuple[str | None, str]] = set()
        self._step_us: deque[float] = deque(maxlen=1000)
        self._fitting = Fitting(library.encoder) if config.model.matching == "calibrated" else None
        self.calibrating = Calibrating()
        self._thresholds: dict[str, float] = {}
        self._thresholds_changed_at: tuple[int, int] | None = None
        self.recognizer = Recognizer(config, library.encoder, clock=time.monotonic, clock_name=clock_name())
        self._index_prototypes()
        if library.gallery.num_reembedded:
            log.info("%d examples were embedded again, by this model", library.gallery.num_reembedded)

    def reconfigure(self, config: Config) -> None:
        """Work with another configuration from now on; counters go on, tracks start anew."""
        self._tell(self.recognizer.reconfigure(config))
        self.library = Library(config=config, encoder=self.library.encoder, gallery=self.library.gallery)
        self._index_prototypes()

    def _index_prototypes(self) -> None:
        gallery, info = self.library.gallery, self.library.encoder.info
        self._thresholds_changed_at = changed_at(thresholds_path(gallery.path))
        try:
            self._thresholds = midpoints_in_force(gallery, info, self.library.config)
            if are_of_another_model(gallery, info):
                self._warn_once(None, "other_model", OTHER_MODEL)
        except GalleryError as error:  # those in memory still serve
            self._warn_once(None, error.code, error.message)
        self.recognizer.prototypes = PrototypeIndex(gallery.prototypes, info, gallery.revision, self._thresholds)
        if self._fitting is not None:
            self._fitting.begin(gallery.prototypes)

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
        """Serve until stopped, then end the events that go on and close everything."""
        try:
            while not self._is_stopping:
                now_s = time.monotonic()
                wait_s = min(self.camera.wait_s(now_s), self._status_due_s - now_s, _LONGEST_WAIT_S)
                self._poller.poll(math.ceil(max(0.0, wait_s) * 1000))
                self._answer_requests()
                self._take_frames()
                self._tick(time.monotonic())
            self._tell(self.recognizer.forget())
        finally:
            self._close()

    def _close(self) -> None:
        if self.recorder is not None:
            try:
                self.recorder.close()
            except RecordingError as error:
                log.error("%s", error.message)
        if self._fitting is not None:
            self._fitting.close()
        self.calibrating.close()
        self.camera.close()
        self._control.close()
        self._events.close()
        self.library.gallery.close()
        self.library.encoder.engine.close()

    # Frames in, events out.

    def _take_frames(self) -> None:
        now_s, log_time_ns = time.monotonic(), time.time_ns()
        messages = self.camera.read(now_s, _READ_LIMIT)
        read_s = time.monotonic()
        turn = self.recognizer.feed(self._readable(messages), now_s)
        if not turn.frames:
            return
        self._tell(turn.events)
        self._tell_engine()
        for frame in turn.native:
            self._record(frame, log_time_ns)
        self._go_on_enrolling(turn.frames, now_s)
        self._step_us.append(1e6 * (time.monotonic() - read_s) / len(turn.frames))

    def _readable(self, messages: Iterable[SkeletonFrame | Refused]) -> Iterator[SkeletonFrame]:
        """Yield the frames among messages; count and tell those that could not be read."""
        for message in messages:
            if isinstance(message, SkeletonFrame):
                yield message
                continue
            self.recognizer.intake.drop(message.source, message.reason)
            lost = f"dropped a frame of {message.source!r} ({message.reason}): {message.message}"
            self._warn_once(message.source, message.reason, f"{lost}; more are only counted")

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self.num_events[event.type] += 1
            self._events.send(event)
            log.info("%s %s of body %d, score %.2f", event.type, event.label, event.body, event.score)

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
        if self.recorder is None:
            return
        try:
            self.recorder.write(frame, log_time_ns=log_time_ns)
        except RecordingError as error:
            self.recorder = None
            self._log("error", f"recording stopped: {error.message}")

    def _warn_once(self, source: str | None, reason: str, message: str) -> None:
        if (source, reason) not in self._warned and len(self._warned) < 1000:
            self._warned.add((source, reason))
            self._log("warning", message)

    def _log(self, level: str, message: str) -> None:
        log.log(logging.getLevelNamesMapping()[level.upper()], "%s", message)
        self._events.send_map(f"log.{level}", {"v": wire.WIRE_VERSION, "level": level, "message": message})

    def _tick(self, now_s: float) -> None:
        self._go_on_enrolling((), now_s)
        self._tell(self.recognizer.lose_silent(now_s))
        if now_s >= self._status_due_s:
            self._status_due_s = now_s + _STATUS_EVERY_S
            self._refresh_gallery()
            self._events.send_map("status.daemon", {"v": wire.WIRE_VERSION, **self.status()})
            if changed_at(thresholds_path(self.library.gallery.path)) != self._thresholds_changed_at:
                log.info("the thresholds were changed")
                self._index_prototypes()
        if self.library.gallery.revision != self.recognizer.prototypes.revision:
            self._index_prototypes()
        self._take_classifier()

    def _refresh_gallery(self) -> None:
        try:
            if self.library.gallery.refresh():
                log.info("the gallery was changed by another program: revision %d", self.library.gallery.revision)
        except (EngineError, GalleryError) as error:  # what is in memory still serves
            self._warn_once(None, error.code, f"the gallery cannot be read again: {error.message}")

    def _go_on_enrolling(self, frames: Sequence[SkeletonFrame], now_s: float) -> None:
        if self.enrolling.step(frames, self.library, self.camera, now_s):
            self.tell_enrolled()

    def tell_enrolled(self) -> None:
        """Tell how an enrollment has ended."""
        outcome = self.enrolling.outcome
        if outcome["state"] == "done":
            # The example itself is still in the windows, and must not be recognized at once.
            self._tell(self.recognizer.forget())
            self._log("info", f"enrolled {outcome['label']!r}")
        else:
            error = outcome["error"]
            message = f"enrollment of {outcome['label']!r} failed ({error['code']}): {error['message']}"
            self._log("warning", message)

    # Requests.

    def _answer_requests(self) -> None:
        for _ in range(_REQUEST_LIMIT):
            received = self._control.receive()
            if received is None:
                return
            address, payload = received
            self._control.send(address, self._answer(payload, time.monotonic()))

    def _answer(self, payload: bytes, now_s: float) -> dict[str, Any]:
        """Carry a request out, or, where it is one that is sent again, give the first answer again."""
        try:
            request = wire.decode_request(payload)
        except WireError as error:
            return _refusal(_request_id(payload), error)
        if not request.id:
            return self._carry_out(request)
        # The whole request, not the id alone: a script that counts its requests from 1 starts again at 1.
        key = hashlib.sha256(payload).digest()
        told_s, answer = self._answers.pop(key, (-math.inf, {}))
        if now_s - told_s > _REMEMBERED_S:
            told_s, answer = now_s, self._carry_out(request)
        self._answers[key] = told_s, answer
        if len(self._answers) > _REMEMBERED_ANSWERS:
            self._answers.popitem(last=False)
        return answer

    def _carry_out(self, request: wire.Request) -> dict[str, Any]:
        try:
            result = control.call(_COMMANDS, self, request.cmd, request.args)
        except CrossGLGError as error:
            return _refusal(request.id, error)
        except Exception as error:  # a bug of ours must not take the camera's user down with it
            log.exception("request %s failed", request.cmd)
            return _refusal(request.id, ControlError(f"internal error: {error}", code="internal"))
        return {"v": wire.WIRE_VERSION, "id": request.id, "ok": True, "result": result}

    def status(self) -> dict[str, Any]:
        """Return what a person or a program wants to know about the daemon's health."""
        now_s = time.monotonic()
        gallery, recorder, info = self.library.gallery, self.recorder, self.library.encoder.info
        step_us = np.percentile(self._step_us, (50, 99)).tolist() if self._step_us else [0.0, 0.0]
        return {
            "version": VERSION,
            "pid": os.getpid(),
            "uptime_s": round(now_s - self._start_s, 1),
            "camera": self.library.config.camera,
            **self.recognizer.intake.status(now_s),
            "bodies": self.recognizer.num_bodies,
            "bodies_refused": self.recognizer.num_bodies_refused,
            "bodies_without_joints": self.recognizer.num_bodies_without_joints,
            "decisions": self.recognizer.num_decisions,
            "windows": self.recognizer.num_windows,
            "hop_s": round(self.recognizer.hop_s, 3),
            "hops_skipped": self.recognizer.num_hops_skipped,
            "encodes_failed": self.recognizer.num_encodes_failed,
            "events": dict(self.num_events),
            "per_frame_us": {"p50": round(step_us[0], 1), "p99": round(step_us[1], 1)},
            "gallery": {
                "path": str(self.library.config.gallery.path),
                "revision": gallery.revision,
                "labels": list(gallery.labels()),
                "examples": len(gallery.prototypes),
                "negatives": len(gallery.negatives),
                "reembedded": gallery.num_reembedded,
            },
            "model": {
                "name": info.name,
                "sha256": info.onnx_sha256,
                "engine": self.library.encoder.report(),
                "matching": "cosine" if self._fitting is None else self._fitting.state,
            },
            "recording": None if recorder is None else {"path": str(recorder.path), "frames": recorder.num_frames},
            "enrolling": self.enrolling.label,
        }


def _refusal(request_id: str, error: CrossGLGError) -> dict[str, Any]:
    return {
        "v": wire.WIRE_VERSION,
        "id": request_id,
        "ok": False,
        "error": {"code": error.code, "message": error.message, "hint": error.hint},
    }


def _request_id(payload: bytes) -> str:
    """Return the id of a request that is refused as a whole, "" where it has none."""
    try:
        request_id = wire.decode_map(payload).get("id")
    except WireError:
        return ""
    return request_id if isinstance(request_id, str) else ""


def _ping(daemon: Daemon, args: Ping) -> dict[str, Any]:
    return {"pid": os.getpid()}


def _version(daemon: Daemon, args: Version) -> dict[str, Any]:
    return {"version": VERSION, "wire": wire.WIRE_VERSION}


def _status(daemon: Daemon, args: Status) -> dict[str, Any]:
    return daemon.status()


def _time(daemon: Daemon, args: Time) -> dict[str, Any]:
    now_s = time.monotonic()
    return {"t0": args.t0, "t1": now_s, "t2": time.monotonic(), "clock": clock_name()}


def _enroll_start(daemon: Daemon, args: EnrollStart) -> dict[str, Any]:
    return daemon.enrolling.start(args, daemon.library, daemon.camera, time.monotonic())


def _enroll_status(daemon: Daemon, args: EnrollStatus) -> dict[str, Any]:
    return daemon.enrolling.status(time.monotonic())


def _enroll_commit(daemon: Daemon, args: EnrollCommit) -> dict[str, Any]:
    result = daemon.enrolling.commit(daemon.library, force=args.force)
    daemon.tell_enrolled()
    return result


def _enroll_cancel(daemon: Daemon, args: EnrollCancel) -> dict[str, Any]:
    return daemon.enrolling.cancel()


def _threshold_get(daemon: Daemon, args: ThresholdGet) -> dict[str, Any]:
    return {**control.threshold_get(daemon.library, args), "state": daemon.calibrating.state}


def _threshold_set(daemon: Daemon, args: ThresholdSet) -> dict[str, Any]:
    daemon.calibrating.check_idle()
    return control.threshold_set(daemon.library, args)


def _threshold_reset(daemon: Daemon, args: ThresholdReset) -> dict[str, Any]:
    daemon.calibrating.check_idle()
    return control.threshold_reset(daemon.library, args)


def _threshold_calibrate(daemon: Daemon, args: ThresholdCalibrate) -> dict[str, Any]:
    daemon.calibrating.begin(control.calibration(daemon.library, args))
    return _threshold_get(daemon, ThresholdGet())


def _config_get(daemon: Daemon, args: ConfigGet) -> dict[str, Any]:
    return dict(msgspec.to_builtins(daemon.library.config))


def _config_reload(daemon: Daemon, args: ConfigReload) -> dict[str, Any]:
    """Read the config file again; what opened files or sockets keeps its value until a restart."""
    old, new = daemon.library.config, read_config(daemon.config_path)
    fixed = [key for key in ("sockets", "model", "gallery") if getattr(old, key) != getattr(new, key)]
    if fixed:
        raise ConfigError(
            f"[{'], ['.join(fixed)}] changed: they are read only at the start", hint="Restart the daemon."
        )
    daemon.reconfigure(msgspec.structs.replace(new, camera=old.camera))
    return _config_get(daemon, ConfigGet())


def _record_start(daemon: Daemon, args: RecordStart) -> dict[str, Any]:
    if daemon.recorder is not None:
        raise RecordingError(f"already recording to {daemon.recorder.path}", code="busy", hint="Stop it first.")
    daemon.recorder = RecordingWriter(Path(args.path), overwrite=args.overwrite)
    return {"path": args.path}


def _record_stop(daemon: Daemon, args: RecordStop) -> dict[str, Any]:
    recorder = daemon.recorder
    if recorder is None:
        raise RecordingError("nothing is being recorded", code="not_recording")
    daemon.recorder = None
    recorder.close()
    return {"path": str(recorder.path), "frames": recorder.num_frames}


def _shutdown(daemon: Daemon, args: Shutdown) -> dict[str, Any]:
    daemon.stop()
    return {"pid": os.getpid()}


def _on_library(function: Callable[[Any, Any], dict[str, Any]]) -> Callable[[Any, Any], dict[str, Any]]:
    return lambda daemon, args: function(daemon.library, args)


_COMMANDS: control.Handlers = {
    **{name: _on_library(function) for name, function in control.LIBRARY_COMMANDS.items()},
    "ping": _ping,
    "version": _version,
    "status": _status,
    "time": _time,
    "enroll.start": _enroll_start,
    "enroll.status": _enroll_status,
    "enroll.commit": _enroll_commit,
    "enroll.cancel": _enroll_cancel,
    "threshold.get": _threshold_get,
    "threshold.set": _threshold_set,
    "threshold.reset": _threshold_reset,
    "threshold.calibrate": _threshold_calibrate,
    "config.get": _config_get,
    "config.reload": _config_reload,
    "record.start": _record_start,
    "record.stop": _record_stop,
    "shutdown": _shutdown,
}
