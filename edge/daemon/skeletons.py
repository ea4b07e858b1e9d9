"""What was seen, for whoever asks for it by name, no faster than a picture needs it."""

from __future__ import annotations

from collections.abc import Sequence

from streams.frame import SkeletonFrame
from streams.skeleton import skeleton_of
from streams.sockets import EventPublisher

_PERIOD_S = 1 / 15
# Frames of 30 fps do not come to the millisecond: every second one is to be sent, though a little early.
_EARLY_S = 0.2 * _PERIOD_S
# As many sources as the intake follows; one that is forgotten here may send one picture early.
_MAX_SOURCES = 64


class Skeletons:
    """Send the newest frame of each source that somebody asked for, at most 15 a second; make no others.

    `num_sent`: how many were made and sent.
    """

    def __init__(self, publisher: EventPublisher) -> None:
        self.num_sent = 0
        self._publisher = publisher
        self._due_s: dict[str, float] = {}

    def tell(self, frames: Sequence[SkeletonFrame], now_s: float) -> None:
        """Send what of these frames, in kinect25, oldest first, is wanted and due; `now_s`: a monotonic clock."""
        for frame in reversed(frames):
            if self._publisher.is_wanted(f"skeleton.{frame.source}") and self._is_due(frame.source, now_s):
                self._publisher.send_skeleton(skeleton_of(frame))
                self.num_sent += 1

    def _is_due(self, source: str, now_s: float) -> bool:
        due_s = self._due_s.get(source, now_s)
        if now_s < due_s - _EARLY_S:
            return False
        if len(self._due_s) >= _MAX_SOURCES:
            self._due_s.clear()
        # From when it was due, so that what comes early is made up for; after a pause, from now.
        self._due_s[source] = (due_s if now_s < due_s + _PERIOD_S else now_s) + _PERIOD_S
        return True
