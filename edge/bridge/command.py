"""A program for each event, without a shell: one at a time for each label, ended when it takes too long."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from dataclasses import dataclass

from edge.bridge.bridge import Counts, Told
from edge.bridge.rate import RateLimit
from edge.config import CommandBridge as CommandConfig
from edge.protocol import StatusAnswer
from streams import BridgeError

log = logging.getLogger("crossglg_edge")

# Between the signal that a program can answer and the one that it can't.
_GRACE_S = 2.0
_POLL_S = 0.02


@dataclass(slots=True, kw_only=True)
class _Run:
    """Hold a program that runs: when its time is over, and whether it was told so."""

    process: subprocess.Popen[bytes]
    end_s: float
    is_late: bool = False


class Command:
    """Start a program with the event as JSON on its stdin, and with CROSSGLG_EVENT_... in its environment.

    While it runs, further events of its label are dropped as `busy`: whoever waves twice does not want the light
    switched a second time a minute later.
    """

    def __init__(self, config: CommandConfig) -> None:
        if not config.argv:
            raise BridgeError(
                "there is no program to start",
                code="no_target",
                hint="Name it: crossglg-edge bridge command -- logger wave, or argv in [bridge.command] of the config.",
            )
        self.counts = Counts()
        self.target = f"the program {config.argv[0]}"
        self.types = config.types
        self.labels = config.labels
        self._config = config
        self._rate = RateLimit(config.max_per_minute)
        self._running: dict[str, _Run] = {}
        self._said: set[str] = set()

    def take(self, told: Told) -> None:
        """Start the program, unless it runs for this label or there were too many."""
        label = told.event.label
        if label in self._running:
            self.counts.drop("busy")
        elif not self._rate.allows(told.received_s):
            self.counts.drop("rate")
        elif (process := self._start(told)) is None:
            self.counts.drop("not_started")
        else:
            self._running[label] = _Run(process=process, end_s=told.received_s + self._config.timeout_s)

    def _start(self, told: Told) -> subprocess.Popen[bytes] | None:
        event = told.event
        names = ("type", "label", "source", "body", "score", "count", "id")
        environment = {f"CROSSGLG_EVENT_{name.upper()}": str(getattr(event, name)) for name in names}
        try:
            # A session of its own is what can be ended as a whole. Our stdout is for our own counts.
            process = subprocess.Popen(
                self._config.argv, stdin=subprocess.PIPE, stdout=2, env={**os.environ, **environment},
                start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:  # ValueError: a zero byte in an argument
            self._say("not_started", f"{self.target} cannot be started: {error}")
            return None
        # An event is far smaller than a pipe holds: this never waits, and who does not read it need not.
        with contextlib.suppress(OSError):
            os.write(process.stdin.fileno(), told.json() + b"\n")  # type: ignore[union-attr]
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        return process

    def see(self, status: StatusAnswer | None) -> None:
        """Start nothing: only events start programs."""

    def step(self, now_s: float) -> None:
        """Look which programs have ended, and end those whose time is over."""
        for label, run in [*self._running.items()]:
            code = run.process.poll()
            if code is not None:
                del self._running[label]
                if run.is_late:
                    # What it started may have outlived the first signal.
                    _signal(run.process, signal.SIGKILL)
                self._count(label, code, is_late=run.is_late)
            elif now_s >= run.end_s:
                _signal(run.process, signal.SIGKILL if run.is_late else signal.SIGTERM)
                run.is_late, run.end_s = True, now_s + _GRACE_S

    def _count(self, label: str, code: int, *, is_late: bool) -> None:
        if is_late:
            self.counts.drop("timeout")
            self._say("timeout", f"{self.target} took longer than {self._config.timeout_s:g} s for {label!r}: ended")
        elif code:
            self.counts.drop("failed")
            self._say("failed", f"{self.target} failed with {code} for {label!r}")
        else:
            self.counts.send()

    def _say(self, reason: str, message: str) -> None:
        if reason not in self._said:
            self._said.add(reason)
            log.warning("%s; more are only counted", message)

    def close(self) -> None:
        """Wait for what runs, two seconds at most; end what does not end by itself."""
        end_s = time.monotonic() + _GRACE_S
        while self._running and time.monotonic() < end_s:
            self.step(time.monotonic())
            time.sleep(_POLL_S)
        for run in self._running.values():
            _signal(run.process, signal.SIGKILL)
            run.process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal a program and all that it has started and that did not leave its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
