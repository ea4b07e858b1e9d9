"""Events as a marker stream of Lab Streaming Layer: beside EEG and motion capture, on one clock."""

from __future__ import annotations

import time

from edge.bridge.bridge import Counts, Told, library
from edge.config import LslBridge as LslConfig
from edge.protocol import VERSION, StatusAnswer
from streams import Event
from streams.clock import clock_name

_CLOCK_PAIRS = 16


class Lsl:
    """Push a marker for each event, stamped with when it happened, not with when it was told.

    An onset is stamped with the movement's beginning, `t_start`, an update and an end with `t_end`.
    """

    def __init__(self, config: LslConfig) -> None:
        self.counts = Counts()
        self.target = f"the LSL stream {config.name!r}"
        self.types = config.types
        self.labels = config.labels
        self._config = config
        self._clock_name = clock_name()
        self._lsl = library("pylsl", "pylsl with liblsl")
        info = self._lsl.StreamInfo(
            config.name, "Markers", 1, self._lsl.IRREGULAR_RATE, "string", f"{config.name}:{self._clock_name}"
        )
        about = info.desc()
        about.append_child_value("manufacturer", "crossglg-edge")
        about.append_child_value("version", VERSION)
        self._outlet = self._lsl.StreamOutlet(info)

    def take(self, told: Told) -> None:
        """Push a marker; LSL keeps it for recorders that come within some minutes."""
        event = told.event
        marker = told.json().decode() if self._config.markers == "json" else f"{event.type}/{event.label}"
        happened_s = event.t_start if event.type == "onset" else event.t_end
        self._outlet.push_sample([marker], self._lsl_from_publisher(event, happened_s))
        self.counts.send()

    def _lsl_from_publisher(self, event: Event, moment_s: float) -> float:
        """Return a moment of the publisher's clock on LSL's.

        This machine's own clock is compared with LSL's directly. Of another one it is only known what it
        showed when the event left, which was now, but for the way from the daemon to here.
        """
        if event.clock == self._clock_name:
            return moment_s + self._offset_s()
        return float(self._lsl.local_clock()) - (event.t_emit - moment_s)

    def _offset_s(self) -> float:
        """Return LSL's clock less this machine's monotonic one: of several readings, the one taken quickest."""
        readings = []
        for _ in range(_CLOCK_PAIRS):
            before_s = time.monotonic()
            lsl_s = float(self._lsl.local_clock())
            after_s = time.monotonic()
            readings.append((after_s - before_s, lsl_s - (before_s + after_s) / 2))
        return min(readings)[1]

    def see(self, status: StatusAnswer | None) -> None:
        """Push nothing: recorders see by the stream itself whether it is there."""

    def step(self, now_s: float) -> None:
        """Do nothing: liblsl sends in threads of its own."""

    def close(self) -> None:
        """Take the stream off the network."""
        del self._outlet
