"""A camera whose sensor is watched by a process of its own: a driver that hangs or crashes never stops the daemon."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import zmq

import streams
from streams.cameras.camera import CameraState, Note, Refused, frame_from_parts
from streams.errors import CameraError
from streams.files import is_running
from streams.frame import SkeletonFrame
from streams.sensors import ALIVE_TOPIC, END_TOPIC, NOTE_TOPIC, Alive, ExitCode, SensorStart, Told, Trouble
from streams.sockets import FrameSubscriber

# The sensor's Python may be another one: of our packages it takes `streams` alone, and nothing beside it.
_BOOT = """
import importlib.util, runpy, sys
spec = importlib.util.spec_from_file_location(
    "streams", sys.argv[1] + "/__init__.py", submodule_search_locations=[sys.argv[1]])
sys.modules["streams"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
runpy.run_module(sys.argv[2], run_name="__main__")
"""
_LINES, _LINE_LENGTH = 20, 500
_READ_BYTES = 65536
_WATCH_EVERY_S = 0.2
# A rate is that of the frames of the last seconds.
_RATE_FRAMES, _RATE_S = 60, 2.0
_TERMINATE_S, _KILL_S = 2.0, 1.0
_FOLDER = "crossglg-edge-camera-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Say when a process counts as hung, and how it is started again. Seconds.

    `start_s`: until its first sign of life; `hang_s`: without one from then on; `backoff_s`: before it is started
    again, doubled each time up to `max_backoff_s`; `healthy_s`: a process that ran for so long starts that anew.
    """

    start_s: float = 60.0
    hang_s: float = 5.0
    backoff_s: float = 0.5
    max_backoff_s: float = 30.0
    healthy_s: float = 10.0


def sensor_command(python: str | Path, module: str) -> list[str]:
    """Return the command that runs a module of `streams.sensors` in this Python, isolated from the environment."""
    return [str(python), "-I", "-u", "-c", _BOOT, str(Path(streams.__file__).parent), module]


class CaptureCamera:
    """Take frames from a process that watches a sensor; start it again when it dies or hangs.

    `kind`: what `status` calls it; `command`: the process, which gets a SensorStart with `settings` as its last
    argument. Nothing here waits for the process, but `close`.
    """

    def __init__(
        self,
        kind: str,
        command: Sequence[str],
        *,
        source: str,
        settings: Mapping[str, Any],
        limits: Limits = Limits(),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._kind, self._command, self._limits = kind, [*command], limits
        self._environment = None if environment is None else {**os.environ, **environment}
        self._folder = _private_folder()
        endpoint = f"ipc://{self._folder / 'frames'}"
        start = SensorStart(endpoint=endpoint, parent=os.getpid(), source=source, settings=dict(settings))
        self._command.append(msgspec.json.encode(start).decode())
        self._subscriber = FrameSubscriber(endpoint)
        self._process: subprocess.Popen[bytes] | None = None
        self._state: Literal["starting", "runs", "waits", "stopping", "ended", "failed"] = "waits"
        self._start_at_s = self._alive_s = 0.0
        self._over_at_s = math.inf
        self._backoff_s = 0.0
        self._num_starts = self._num_frames = self._num_skipped = self._num_skipped_before = 0
        self._arrivals_s: deque[float] = deque(maxlen=_RATE_FRAMES)
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._half_line = b""
        self._trouble: Trouble | None = None
        self._why_killed = ""
        self._error: CameraError | None = None
        self._runs_since_s = math.inf
        self._told: Literal["nothing", "lost", "back"] = "nothing"
        self._notes: list[Note] = []

    @property
    def socket(self) -> zmq.Socket[bytes] | None:
        return self._subscriber.socket

    def wait_s(self, now_s: float) -> float:
        return math.inf if self._state == "ended" and now_s >= self._over_at_s else _WATCH_EVERY_S

    def read(self, now_s: float, limit: int) -> list[SkeletonFrame | Refused]:
        frames = [frame for parts in self._subscriber.receive(limit) if (frame := self._take(parts, now_s)) is not None]
        self._watch(now_s)
        if self._state == "failed" and self._error is not None and not frames:
            raise self._error
        return frames

    def cue(self, label: str, after_s: float) -> bool:
        return False

    def state(self, now_s: float) -> CameraState | None:
        arrivals_s = [arrival_s for arrival_s in self._arrivals_s if arrival_s > now_s - _RATE_S]
        spread_s = arrivals_s[-1] - arrivals_s[0] if len(arrivals_s) > 1 else 0.0
        return CameraState(
            kind=self._kind,
            state=self._state,
            pid=None if self._process is None else self._process.pid,
            fps=(len(arrivals_s) - 1) / spread_s if spread_s > 0 else 0.0,
            age_s=now_s - self._arrivals_s[-1] if self._arrivals_s else None,
            num_restarts=max(0, self._num_starts - 1),
            num_skipped=self._num_skipped_before + self._num_skipped,
            last_error="" if self._error is None else self._error.message,
            last_lines=tuple(self._lines),
        )

    def take_notes(self) -> list[Note]:
        notes, self._notes = self._notes, []
        return notes

    def close(self) -> None:
        """Let the process go, at worst kill it, and remove the private folder. Waits 3 s at most."""
        if self._process is not None:
            self._process.terminate()
            for wait_s in (_TERMINATE_S, _KILL_S):
                try:
                    self._process.wait(wait_s)
                    break
                except subprocess.TimeoutExpired:
                    self._process.kill()
            self._let_go()
        self._subscriber.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    # What it says.

    def _take(self, parts: list[bytes], now_s: float) -> SkeletonFrame | Refused | None:
        """Return the frame in a message, None where it is about the process itself."""
        self._alive_s = now_s
        if self._state == "starting":
            self._state, self._runs_since_s = "runs", now_s
        if parts[0] in (ALIVE_TOPIC, NOTE_TOPIC, END_TOPIC):
            return self._hear(parts, now_s)
        frame = frame_from_parts(parts)
        if isinstance(frame, SkeletonFrame):
            self._num_frames += 1
            self._arrivals_s.append(now_s)
            if self._told == "lost":
                self._told = "back"
                self._note("info", f"the camera {self._kind} gives frames again, after {self._num_starts - 1} restarts")
        return frame

    def _hear(self, parts: list[bytes], now_s: float) -> Refused | None:
        try:
            if parts[0] == END_TOPIC:
                self._over_at_s = now_s
            elif parts[0] == ALIVE_TOPIC:
                self._num_skipped = msgspec.msgpack.decode(parts[-1], type=Alive).skipped
            else:
                told = msgspec.msgpack.decode(parts[-1], type=Told)
                self._note(told.level, f"camera {self._kind}: {told.message}")
        except msgspec.DecodeError as error:
            return Refused(source=None, reason="bad_message", message=f"{parts[0].decode()}: {error}")
        return None

    def _listen(self) -> None:
        """Keep the last lines that the process printed; one of them may say why it ends."""
        if self._process is None or self._process.stdout is None:
            return
        try:
            printed = os.read(self._process.stdout.fileno(), _READ_BYTES)
        except BlockingIOError:
            return
        *lines, self._half_line = (self._half_line + printed).split(b"\n")
        self._half_line = self._half_line[-_READ_BYTES:]
        for line in lines:
            self._keep(line)

    def _keep(self, line: bytes) -> None:
        line = line.strip()
        try:
            self._trouble = msgspec.json.decode(line, type=Trouble)
        except msgspec.DecodeError:
            if line:
                self._lines.append(line[:_LINE_LENGTH].decode("utf-8", "replace"))

    def _note(self, level: Literal["info", "warning", "error"], message: str) -> None:
        self._notes.append(Note(level=level, message=message))

    # Its life.

    def _watch(self, now_s: float) -> None:
        """Start the process, kill it or take its end, as the time demands."""
        if self._process is None:
            if self._state == "waits" and now_s >= self._start_at_s:
                self._start(now_s)
            return
        self._listen()
        code = self._process.poll()
        if code is not None:
            self._listen()
            self._keep(self._half_line)
            self._let_go()
            self._take_end(code, now_s)
            return
        limits = self._limits
        since_s = now_s - self._alive_s
        if self._state == "starting" and since_s > limits.start_s:
            self._kill(self._process, f"the camera {self._kind} did not start within {limits.start_s:g} s")
        elif self._state == "runs" and since_s > limits.hang_s:
            self._kill(self._process, f"the camera {self._kind} hung: no sign of life for {limits.hang_s:g} s")

    def _start(self, now_s: float) -> None:
        self._num_starts += 1
        self._num_skipped_before += self._num_skipped
        self._num_skipped = 0
        self._trouble, self._why_killed, self._half_line = None, "", b""
        self._state, self._alive_s = "starting", now_s
        self._over_at_s = self._runs_since_s = math.inf
        try:
            # Its own session: Ctrl-C in the terminal is the daemon's to handle.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._environment,
            )
        except OSError as error:
            message = f"the camera {self._kind} cannot be started: {self._command[0]}: {error.strerror}"
            self._fail(CameraError(message, code="no_process"), now_s, is_final=True)
            return
        if self._process.stdout is not None:
            os.set_blocking(self._process.stdout.fileno(), False)

    def _kill(self, process: subprocess.Popen[bytes], why: str) -> None:
        """Kill the process; the kernel may need a while where a driver holds it, and nobody waits for that."""
        self._state, self._why_killed = "stopping", why
        process.kill()

    def _let_go(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def _take_end(self, code: int, now_s: float) -> None:
        if code == ExitCode.ENDED and not self._why_killed:
            self._state = "ended"
            # Its last frames may still be under way.
            self._over_at_s = min(self._over_at_s, now_s + 1.0)
            return
        self._fail(self._error_of(code), now_s, is_final=code == ExitCode.GIVE_UP)

    def _error_of(self, code: int) -> CameraError:
        if self._why_killed:
            return CameraError(self._why_killed, code="camera_hung")
        if self._trouble is not None:
            return CameraError(self._trouble.message, code=self._trouble.code, hint=self._trouble.hint)
        how = f"exit code {code}" if code >= 0 else f"signal {_signal_name(-code)}"
        last = f": {self._lines[-1]}" if self._lines else ""
        return CameraError(f"the process of the camera {self._kind} ended with {how}{last}", code="camera_died")

    def _fail(self, error: CameraError, now_s: float, *, is_final: bool) -> None:
        """Remember why it ended, and when it is to start again; what gave frames once may do so again."""
        self._error = error
        if is_final and not self._num_frames:
            self._state = "failed"
            return
        if now_s - self._runs_since_s >= self._limits.healthy_s:
            self._backoff_s, self._told = 0.0, "nothing"
        self._backoff_s = min(2 * self._backoff_s or self._limits.backoff_s, self._limits.max_backoff_s)
        self._state, self._start_at_s = "waits", now_s + self._backoff_s
        if self._told == "nothing":
            self._told = "lost"
            again = f"It is started again after {self._backoff_s:g} s, then at longer intervals; more are only counted"
            self._note("warning", " ".join(filter(None, (f"{error.message}.", error.hint, again))))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _private_folder() -> Path:
    """Make a folder that only this user may enter, and remove those that killed processes left behind."""
    for left in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        pid = left.name.removeprefix(_FOLDER).partition("-")[0]
        if pid.isdecimal() and not is_running(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-"))
