"""The camera `zmq`: frames that other programs publish."""

from __future__ import annotations

import zmq

from streams.cameras.camera import CameraState, Note, Refused, frame_from_parts
from streams.frame import SkeletonFrame
from streams.sockets import FrameSubscriber


class ZmqCamera:
    """Take frames from publishers over ZeroMQ."""

    def __init__(self, endpoint: str) -> None:
        self._subscriber = FrameSubscriber(endpoint)

    @property
    def socket(self) -> zmq.Socket[bytes] | None:
        return self._subscriber.socket

    def wait_s(self, now_s: float) -> float:
        return 3600.0

    def read(self, now_s: float, limit: int) -> list[SkeletonFrame | Refused]:
        return [frame_from_parts(parts) for parts in self._subscriber.receive(limit)]

    def cue(self, label: str, after_s: float) -> bool:
        return False

    def state(self, now_s: float) -> CameraState | None:
        return None

    def take_notes(self) -> list[Note]:
        return []

    def close(self) -> None:
        self._subscriber.close()
