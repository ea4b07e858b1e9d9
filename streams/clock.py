"""The name of this machine's monotonic clock, which frames carry."""

from __future__ import annotations

import functools
import socket
import uuid
from pathlib import Path


@functools.cache
def clock_name() -> str:
    """Name this machine's monotonic clock: host and boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}:{boot.read_text().strip() if boot.exists() else uuid.getnode()}"
