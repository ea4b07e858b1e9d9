"""Guide a person through an enrollment at the terminal: what to do when, beeps, the preview, the question."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import typer

from edge.cli.ask import daemon
from edge.cli.exit_codes import ExitCode
from edge.cli.terminal import err, escape, note, print_line
from edge.config import Config
from edge.protocol import (
    EnrollCancel,
    EnrollCaptured,
    EnrollCommit,
    EnrollDone,
    EnrollFailed,
    EnrollIdle,
    EnrollStart,
    EnrollState,
    EnrollStatus,
    EnrollUnderWay,
    Preview,
    StoredExample,
    StoredNegatives,
    ask,
)
from streams.clients import ControlClient
from streams.errors import ControlError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_WORDS = {"stillness": "stand still", "countdown": "get ready", "capture": "[bold]do it now[/], then rest"}
_WORDS_NEGATIVE = {**_WORDS, "capture": "[bold]move as on any day[/]"}
_POLL_S = 0.1


def lead(config: Config, start: EnrollStart, *, num_stored: int = 0, quiet: bool) -> StoredExample | StoredNegatives:
    """Lead a person through an enrollment by the daemon; return what was stored.

    `num_stored`: how many were stored before it by the same command. Raises typer.Exit where nothing is stored
    because the person does not want it.
    """
    with daemon(config) as client:
        try:
            status = guide(client, err(), start, quiet=quiet)
            if isinstance(status, EnrollDone):
                return status.result
            if confirmed(err(), status.preview):
                # Whoever has seen what it is similar to, and still wants it, is not asked again.
                return ask(client, EnrollCommit(force=True))
            ask(client, EnrollCancel())
            note("not stored")
            raise typer.Exit(ExitCode.BAD_NEWS)
        except (KeyboardInterrupt, EOFError):
            ask(client, EnrollCancel())
            is_stored = isinstance(ask(client, EnrollStatus()), EnrollDone)
            before = f"the {num_stored} before it stored" if num_stored else "nothing was stored"
            note("it was stored already: see `gallery undo`" if is_stored else f"cancelled, {before}")
            raise typer.Exit(ExitCode.BROKEN_OFF) from None


def guide(
    client: ControlClient, console: Console, start: EnrollStart, *, quiet: bool
) -> EnrollDone[StoredExample] | EnrollDone[StoredNegatives] | EnrollCaptured:
    """Ask a daemon for an enrollment, lead the person through it, and return how it stands.

    Without `quiet` the terminal beeps at each second of the countdown, twice when it is time, and once at the
    end. Raises ControlError with the code of what failed.
    """
    started = ask(client, start)
    if started.cued and not quiet:
        print_line(console, f"[dim]the synthetic performer will do {escape(started.label)} for you[/]")
    words = _WORDS if start.negative_s is None else _WORDS_NEGATIVE
    beeper = _Beeper(console, quiet=quiet)
    with _progress(console, quiet=quiet) as progress:
        task = progress.add_task("")
        while True:
            status = ask(client, EnrollStatus())
            beeper.hear(status)
            if not isinstance(status, EnrollUnderWay):
                break
            message = f" ({escape(status.message)})" if status.message else ""
            progress.update(task, description=f"{words[status.state]}  {status.left_s:.1f} s{message}")
            time.sleep(_POLL_S)
    if isinstance(status, EnrollFailed):
        raise ControlError(status.error.message, code=status.error.code, hint=status.error.hint)
    if isinstance(status, EnrollIdle):
        raise ControlError("the daemon forgot the enrollment", code="enroll_failed", hint="Start it again.")
    return status


def _progress(console: Console, *, quiet: bool) -> Progress:
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = SpinnerColumn(), TextColumn("{task.description}")
    return Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)


class _Beeper:
    """Beep at each second of a countdown, twice at its end, once when the capture is over."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._second = 0
        self._state = ""
        self._due = 0

    def hear(self, status: EnrollState) -> None:
        state = status.state
        if isinstance(status, EnrollUnderWay) and state == "countdown":
            second = math.ceil(status.left_s)
            self._due += 0 < second != self._second
            self._second = second
        elif state != self._state and self._state:
            self._due += 2 if state == "capture" else 1
        self._state = state
        # One at a time: two without a pause sound like one.
        if self._due and not self._quiet:
            self._console.bell()
            self._due -= 1


def confirmed(console: Console, preview: Preview) -> bool:
    """Show what was captured and ask whether to store it; yes is the default, unless it is like another action.

    Raises EOFError where nobody can answer.
    """
    from rich.prompt import Confirm

    print_line(console, f"captured {summary(preview)}")
    return Confirm.ask("Store it?", console=console, default=preview.similar is None)


def summary(result: Preview | StoredExample) -> str:
    """Return what was captured, with rich markup: one line, and one for each thing to know about it."""
    moved = ", ".join(f"{joint.joint} {joint.path_m:.1f} m" for joint in result.moved)
    lines = [
        f"[bold]{escape(result.label)}[/]: {result.duration_s:.2f} s, "
        f"{result.frames} frames at {result.fps:g} fps, {100 * result.joints:.0f} % of the joints, "
        f"moved {result.motion_m:.2f} m: {moved}; "
        f"cut off {result.trimmed_s[0]:.2f} s before and {result.trimmed_s[1]:.2f} s after"
    ]
    if result.words == "mixed":
        lines[0] += "; the label's words count too"
    elif result.words == "unlike":
        lines[0] += "; the label's words do not: they do not agree with the movement"
    lines += [f"[yellow]{escape(note)}[/]" for note in result.notes]
    if similar := result.similar:
        lines.append(
            f"[yellow]It is much like [bold]{escape(similar.label)}[/] (distance {similar.distance:.2f}, score "
            f"{similar.score:.2f}): the two may be confused[/]"
        )
    return "\n".join(lines)
