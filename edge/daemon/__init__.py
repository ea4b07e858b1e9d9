"""One thread reads frames, answers requests and publishes events; no queue, and no mathematics here."""

from edge.daemon.commands import HANDLERS, carry_out
from edge.daemon.log import PatientHandler
from edge.daemon.loop import Daemon

__all__ = ["HANDLERS", "Daemon", "PatientHandler", "carry_out"]
