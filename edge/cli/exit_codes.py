"""What the exit code of every command says."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Name the exit codes beside 0, done.

    `BAD_NEWS`: done, but the answer is bad news. `REFUSED`: also a usage error. `UNREACHABLE`: no daemon
    answers. `BROKEN_OFF`: by Ctrl-C.
    """

    BAD_NEWS = 1
    REFUSED = 2
    UNREACHABLE = 3
    BROKEN_OFF = 130
