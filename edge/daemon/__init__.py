"""One thread reads frames, answers requests and publishes events; no queue, and no mathematics here."""

from edge.daemon.commands import LIBRARY_COMMANDS, call, carry_out
from edge.daemon.loop import Daemon

__all__ = ["LIBRARY_COMMANDS", "Daemon", "call", "carry_out"]
