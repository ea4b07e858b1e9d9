"""Browsers as cameras: what a page sees through its device's camera becomes a source of frames like any other.

A page opens a WebSocket to /camera/frames?name=NAME and sends JSON: when it sends, by its own clock, and the frame it
has, if any. What it is told each second is how many arrived and why others did not.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections import Counter
from typing import Annotated

import msgspec
import numpy as np
from aiohttp import WSCloseCode, WSMsgType, web
from msgspec import Meta

from edge.web.browser_clock import BrowserClock
from streams.clock import clock_name
from streams.frame import SkeletonFrame
from streams.layouts import LAYOUTS
from streams.sensors.webcam import People, Pose
from streams.sockets import FramePublisher
from streams.wire import MAX_NAME

log = logging.getLogger("crossglg_edge")

MAX_CAMERAS = 8
SOURCE_PREFIX = "browser-"
_LAYOUT = LAYOUTS["mediapipe33"]
# Four people are 16 kB.
_MAX_MESSAGE_BYTES = 64 * 1024
_HEARTBEAT_S = 10.0
_TELL_EVERY_S = 1.0
_FAREWELL_S = 1.0
# Close codes of our own, which camera.js knows.
_NAME_TAKEN, _TOO_MANY, _BAD_NAME = 4001, 4002, 4003


_Meters = Annotated[float, Meta(ge=-10, le=10)]
# Shares of the picture; a joint may lie beyond its edges.
_Place = Annotated[float, Meta(ge=-10, le=10)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Milliseconds = Annotated[float, Meta(ge=0, le=1e13)]
_Pixels = Annotated[int, Meta(ge=1, le=100_000)]
_ALL = Meta(min_length=33, max_length=33)


class _Pose(msgspec.Struct, forbid_unknown_fields=True):
    """Carry a person as MediaPipe finds them; see streams.sensors.webcam.Pose."""

    picture: Annotated[list[tuple[_Place, _Place]], _ALL]
    joints: Annotated[list[tuple[_Meters, _Meters, _Meters]], _ALL]
    visibility: Annotated[list[_Share], _ALL]


class _Frame(msgspec.Struct, forbid_unknown_fields=True):
    """Carry what one picture shows. `seq` counts frames that were to be sent; `taken_ms`: when it was taken."""

    seq: Annotated[int, Meta(ge=0, le=2**53)]
    taken_ms: _Milliseconds
    width: _Pixels
    height: _Pixels
    poses: Annotated[list[_Pose], Meta(max_length=16)]


class _Said(msgspec.Struct, forbid_unknown_fields=True):
    """Carry a message of a page. `sent_ms`: performance.now() when it was sent."""

    sent_ms: _Milliseconds
    frame: _Frame | None = None


class _Camera:
    def __init__(self, source: str, response: web.WebSocketResponse) -> None:
        self.source = source
        self.response = response
        self.epoch = uuid.uuid4().hex
        self.clock = BrowserClock()
        self.people = People()
        self.last_s = -math.inf
        self.num_frames = 0
        self.refused: Counter[str] = Counter()


class BrowserCameras:
    """Publish what browsers see to the daemon, one source each."""

    def __init__(self, frames_endpoint: str) -> None:
        self._publisher = FramePublisher(frames_endpoint)
        self._cameras: dict[str, _Camera] = {}
        self._closing: set[asyncio.Task[bool]] = set()

    async def welcome(self, request: web.Request) -> web.StreamResponse:
        """Serve one camera's WebSocket until it is closed."""
        response = web.WebSocketResponse(heartbeat=_HEARTBEAT_S, max_msg_size=_MAX_MESSAGE_BYTES, compress=False)
        await response.prepare(request)
        name = request.query.get("name", "").strip()
        if not name or not name.isprintable() or len(name) > MAX_NAME - len(SOURCE_PREFIX):
            await response.close(code=_BAD_NAME, message=b"expected a name of printable characters")
            return response
        camera = _Camera(SOURCE_PREFIX + name, response)
        if not self._takes_the_place(camera):
            await response.close(code=_TOO_MANY, message=f"{MAX_CAMERAS} browsers are cameras already".encode())
            return response
        log.info("a browser is the camera %s", camera.source)
        telling = asyncio.create_task(self._tell(camera))
        try:
            async for received in response:
                if received.type is WSMsgType.TEXT:
                    self._hear(camera, received.data, time.monotonic())
        finally:
            telling.cancel()
            if self._cameras.get(camera.source) is camera:
                del self._cameras[camera.source]
            log.info("the camera %s has gone after %d frames", camera.source, camera.num_frames)
        return response

    def _takes_the_place(self, camera: _Camera) -> bool:
        """Let a newer page of the same name go first: the older one is mostly a connection that broke."""
        former = self._cameras.get(camera.source)
        if former is None and len(self._cameras) >= MAX_CAMERAS:
            return False
        self._cameras[camera.source] = camera
        if former is not None:
            # Not waited for: a connection that broke answers nothing.
            closing = asyncio.create_task(
                former.response.close(code=_NAME_TAKEN, message=b"another page is this camera now", drain=False)
            )
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        return True

    def _hear(self, camera: _Camera, text: str, now_s: float) -> None:
        try:
            said = msgspec.json.decode(text, type=_Said)
        except msgspec.DecodeError as error:
            self._refuse(camera, "bad_message", str(error))
            return
        camera.clock.hear(said.sent_ms / 1000, now_s)
        if said.frame is not None:
            self._publish(camera, said.frame, now_s)

    def _publish(self, camera: _Camera, frame: _Frame, now_s: float) -> None:
        timestamp_s = min(camera.clock.here_s(frame.taken_ms / 1000), now_s)
        if timestamp_s <= camera.last_s:
            self._refuse(camera, "time_backwards", "it is not later than the one before")
            return
        camera.last_s = timestamp_s
        poses = [
            Pose(
                picture_J2=np.array(pose.picture, np.float32),
                joints_m=np.array(pose.joints, np.float32),
                visibility_J=np.array(pose.visibility, np.float32),
            )
            for pose in frame.poses
        ]
        sent = SkeletonFrame(
            source=camera.source,
            epoch=camera.epoch,
            seq=frame.seq,
            timestamp_s=timestamp_s,
            t_send_s=now_s,
            clock=clock_name(),
            layout=_LAYOUT.name,
            axes=_LAYOUT.axes,
            bodies=tuple(camera.people.bodies(poses, timestamp_s, frame.width, frame.height)),
        )
        self._publisher.send(sent)
        camera.num_frames += 1

    def _refuse(self, camera: _Camera, reason: str, message: str) -> None:
        if not camera.refused[reason]:
            log.warning("a frame of %s is dropped: %s", camera.source, message)
        camera.refused[reason] += 1

    async def _tell(self, camera: _Camera) -> None:
        """Tell the page, for ever, what became of its frames."""
        while True:
            told = {"source": camera.source, "frames": camera.num_frames, "refused": dict(camera.refused)}
            await camera.response.send_str(msgspec.json.encode(told).decode())
            await asyncio.sleep(_TELL_EVERY_S)

    async def dismiss(self) -> None:
        """Close every camera's WebSocket; a browser that does not answer is not waited for."""
        closing = [
            asyncio.create_task(
                camera.response.close(code=WSCloseCode.GOING_AWAY, message=b"the page's server stops", drain=False)
            )
            for camera in self._cameras.values()
        ]
        if closing:
            await asyncio.wait(closing, timeout=_FAREWELL_S)

    def close(self) -> None:
        """Close the socket to the daemon."""
        self._publisher.close()
