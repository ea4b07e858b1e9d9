"""From a camera's name to the camera."""

from __future__ import annotations

import time

from streams.cameras.camera import Camera
from streams.cameras.k4a import open_k4a
from streams.cameras.paced import DemoFrames, PacedCamera, ReplayFrames
from streams.cameras.webcam import open_video, open_webcam
from streams.cameras.zmq_camera import ZmqCamera
from streams.errors import CameraError
from streams.k4a_settings import K4aSettings
from streams.playback import repeat_frames
from streams.webcam_settings import WebcamSettings


def open_camera(
    name: str,
    *,
    frames_endpoint: str,
    loop: bool = True,
    k4a: K4aSettings = K4aSettings(),
    webcam: WebcamSettings = WebcamSettings(),
) -> Camera:
    """Open the camera that a user named. Raises CameraError that lists the names."""
    if name == "zmq":
        return ZmqCamera(frames_endpoint)
    if name == "demo":
        return PacedCamera(DemoFrames(int(time.time())))
    if name.startswith("demo:") and name.removeprefix("demo:").isdecimal():
        return PacedCamera(DemoFrames(int(name.removeprefix("demo:"))))
    if name.startswith("replay:"):
        frames = repeat_frames(name.removeprefix("replay:"), loop=loop)
        return PacedCamera(ReplayFrames(frames))
    if name == "k4a" or (name.startswith("k4a:") and name != "k4a:"):
        return open_k4a(k4a, file=name.removeprefix("k4a").removeprefix(":"), loop=loop)
    if name == "webcam" or name.startswith("webcam:"):
        return open_webcam(name.removeprefix("webcam").removeprefix(":"), webcam)
    if name.startswith("video:") and name != "video:":
        return open_video(name.removeprefix("video:"), webcam, loop=loop)
    raise CameraError(
        f"camera {name!r} is not known: expected demo, demo:SEED, zmq, replay:PATH, webcam[:N], video:FILE "
        "or k4a[:FILE.mkv]",
        hint="demo needs nothing; zmq takes frames that a program publishes.",
    )
