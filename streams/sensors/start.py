"""What a camera and the process that watches its sensor say to each other, beside frames."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Literal

import msgspec

from streams.errors import CameraError

ALIVE_TOPIC, NOTE_TOPIC, END_TOPIC = b"alive", b"note", b"end"


class ExitCode(IntEnum):
    """Name the exit codes that a camera understands; any other one is a crash."""

    ENDED = 0
    TRY_AGAIN = 3
    GIVE_UP = 4


class SensorStart(msgspec.Struct, frozen=True, kw_only=True):
    """Tell the process what to do; it is the process's last argument, as JSON."""

    endpoint: str
    parent: int
    source: str
    settings: dict[str, Any] = {}


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """Say that the process is well though it may have no frame to send; `skipped`: pictures it did not look at."""

    skipped: int = 0


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Say something for the daemon's log."""

    level: Literal["info", "warning", "error"]
    message: str


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Say why the process ends; it stands alone in a line of its output, as JSON."""

    code: str
    message: str
    hint: str = ""


class SensorError(CameraError):
    """End the process. `is_final`: no restart mends it."""

    def __init__(self, message: str, *, code: str, hint: str = "", is_final: bool = False) -> None:
        super().__init__(message, code=code, hint=hint)
        self.is_final = is_final
