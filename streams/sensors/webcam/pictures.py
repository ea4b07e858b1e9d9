"""Pictures of a webcam, the newest first, and of a file, at its own pace; what comes too fast is counted."""

from __future__ import annotations

import errno
import fcntl
import itertools
import math
import os
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.sensors.start import SensorError

# At least so often a source yields, a picture or None: whoever waits says that it lives.
_TURN_S = 0.4
# A webcam that gives no picture for so long is opened anew, by another process. Its first one may take longer.
_SILENT_S, _FIRST_S = 3.0, 10.0
# A file that cannot be followed goes on from now, and one picture in so many seconds is looked at in any case.
_MAX_LAG_S, _LOOK_EVERY_S = 1.0, 0.25
# Between two rounds of a file.
_PAUSE_S = 1.0
# What says more is a file's clock, or nothing.
_MAX_FPS = 240.0
_WIDTH, _HEIGHT = 640, 480
# Video4Linux: VIDIOC_QUERYCAP with its struct of 104 bytes, and what a device can do.
_QUERYCAP, _CAPABILITY, _CAPTURE = 0x80685600, struct.Struct("84xII12x"), 0x1
_V4L_MANUAL, _V4L_AUTOMATIC = 1, 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """Hold a picture, shape (H, W, 3), uint8, BGR, and its time by time.monotonic()."""

    pixels: Any
    timestamp_s: float


class Newest:
    """Read a camera on a thread of its own, so that nothing waits in it, and give the newest picture.

    `camera`: as cv2.VideoCapture; `stamp`: its property that tells a picture's time in milliseconds.
    """

    def __init__(self, camera: Any, stamp: int) -> None:
        self.num_skipped = 0
        self._camera, self._stamp = camera, stamp
        self._changed = threading.Condition()
        self._picture: Picture | None = None
        self._is_over = False
        threading.Thread(target=self._read, daemon=True).start()

    def take(self, timeout_s: float) -> Picture | None:
        """Return the newest picture that was not taken yet, None where none comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._picture is not None or self._is_over, timeout_s)
            picture, self._picture = self._picture, None
        return picture

    @property
    def is_over(self) -> bool:
        """Whether the camera refused to give another picture."""
        return self._is_over

    def _read(self) -> None:
        while self._camera.grab():
            now_s = time.monotonic()
            # Video4Linux stamps a picture as the sensor gave it, on this same clock; a few drivers on another.
            stamp_s = self._camera.get(self._stamp) / 1000
            is_ok, pixels = self._camera.retrieve()
            if not is_ok:
                continue
            picture = Picture(pixels=pixels, timestamp_s=stamp_s if now_s - 1.0 < stamp_s <= now_s else now_s)
            with self._changed:
                self.num_skipped += self._picture is not None
                self._picture = picture
                self._changed.notify()
        with self._changed:
            self._is_over = True
            self._changed.notify()


class Webcam:
    """Give a webcam's newest pictures. Raises SensorError."""

    def __init__(self, device: str, *, fps: float, exposure_ms: float) -> None:
        import cv2

        self.path = Path(f"/dev/video{device}" if device.isdecimal() else device)
        _validate_camera(self.path)
        camera = cv2.VideoCapture(str(self.path), cv2.CAP_V4L2)
        if not camera.isOpened():
            raise _busy(self.path)
        for key, value in (
            # Without MJPG many webcams give 10 pictures a second.
            (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),
            (cv2.CAP_PROP_FRAME_WIDTH, _WIDTH),
            (cv2.CAP_PROP_FRAME_HEIGHT, _HEIGHT),
            (cv2.CAP_PROP_FPS, fps),
            (cv2.CAP_PROP_AUTO_EXPOSURE, _V4L_MANUAL if exposure_ms else _V4L_AUTOMATIC),
        ):
            camera.set(key, value)
        if exposure_ms:
            camera.set(cv2.CAP_PROP_EXPOSURE, 10 * exposure_ms)  # it counts in 0.1 ms
        self.fps = float(camera.get(cv2.CAP_PROP_FPS)) or fps
        self._newest = Newest(camera, cv2.CAP_PROP_POS_MSEC)

    @property
    def num_skipped(self) -> int:
        """Pictures that came while another one was looked at, and were not the newest afterwards."""
        return self._newest.num_skipped

    def pictures(self) -> Iterator[Picture | None]:
        """Yield the newest picture as it comes, None where none came for a while."""
        seen_s, patience_s = time.monotonic(), _FIRST_S
        while True:
            picture = self._newest.take(_TURN_S)
            if picture is not None:
                seen_s, patience_s = time.monotonic(), _SILENT_S
            elif self._newest.is_over or time.monotonic() - seen_s > patience_s:
                if not self.path.exists():
                    raise SensorError(f"the webcam {self.path} was unplugged", code="unplugged", hint="Plug it in.")
                raise _busy(self.path)
            yield picture


def _validate_camera(path: Path) -> None:
    """Raise SensorError where a path is no camera, or none that this user may open."""
    try:
        device = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise _cannot_open(path, error) from error
    try:
        answer = bytearray(_CAPABILITY.size)
        fcntl.ioctl(device, _QUERYCAP, answer)
    except OSError as error:
        raise SensorError(f"{path} is no camera", code="no_camera", hint=_which(), is_final=True) from error
    finally:
        os.close(device)
    of_all, of_this = _CAPABILITY.unpack(answer)
    if not (of_this or of_all) & _CAPTURE:
        raise SensorError(f"{path} gives no pictures", code="no_camera", hint=_which(), is_final=True)


def _cannot_open(path: Path, error: OSError) -> SensorError:
    if error.errno == errno.EBUSY:
        return _busy(path)
    if isinstance(error, PermissionError):
        hint = "Let the daemon's user into the group `video`: sudo usermod -aG video USER, then log in anew."
        return SensorError(f"{path}: you may not open this camera", code="no_permission", hint=hint, is_final=True)
    message = f"there is no camera {path}: {error.strerror}"
    return SensorError(message, code="no_camera", hint=_which(), is_final=True)


def _which() -> str:
    """Say which cameras this machine has."""
    others = sorted(str(path) for path in Path("/dev").glob("video*"))
    if not others:
        return "This machine has no camera: plug one in. `--camera demo` runs without one."
    return f"This machine has {', '.join(others)}: --camera webcam:N takes /dev/videoN."


def _busy(path: Path) -> SensorError:
    hint = f"Does another program use it? `fuser {path}` names it."
    return SensorError(f"the webcam {path} gives no picture", code="busy", hint=hint)


class VideoFile:
    """Play a file as if it were a camera: each picture at its own time. Raises SensorError."""

    def __init__(self, path: Path, *, loop: bool) -> None:
        import cv2

        self.num_skipped = 0
        self._cv2, self._path, self._loop = cv2, path, loop
        _validate_file(path)
        self._video = self._open()
        fps = float(self._video.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 1 <= fps <= _MAX_FPS else 30.0

    def pictures(self, warn: Callable[[str], None]) -> Iterator[Picture | None]:
        """Yield pictures when their time comes, None while it has not; once, or for ever with `loop`.

        `warn` is told of a file that ends before its time.
        """
        for number in itertools.count():
            num_read = yield from self._round()
            if not num_read:
                raise _bad_video(self._path, "it has no picture that can be decoded")
            num_promised = int(self._video.get(self._cv2.CAP_PROP_FRAME_COUNT))
            if not number and num_read < 0.98 * num_promised - 2:
                warn(f"{self._path} broke off after {num_read} of {num_promised} pictures: it is damaged")
            if not self._loop:
                return
            yield from _wait(time.monotonic() + _PAUSE_S)
            self._video = self._open()

    def _round(self) -> Generator[Picture | None, None, int]:
        """Yield the file's pictures; return how many there were."""
        start_s, looked_s, last_s, num_read = time.monotonic(), 0.0, -math.inf, 0
        while self._video.grab():
            num_read += 1
            stamp_s = self._video.get(self._cv2.CAP_PROP_POS_MSEC) / 1000
            if num_read == 1:
                start_s -= stamp_s  # a piece of a longer film begins later than at 0
            # Some files have no times.
            last_s = stamp_s if stamp_s > last_s else last_s + 1 / self.fps
            late_s = time.monotonic() - (start_s + last_s)
            if late_s > 1 / self.fps and time.monotonic() - looked_s < _LOOK_EVERY_S:
                self.num_skipped += 1
                continue
            if late_s > _MAX_LAG_S:
                start_s += late_s
            yield from _wait(start_s + last_s)
            is_ok, pixels = self._video.retrieve()
            if is_ok:
                looked_s = time.monotonic()
                yield Picture(pixels=pixels, timestamp_s=start_s + last_s)
        return num_read

    def _open(self) -> Any:
        video = self._cv2.VideoCapture(str(self._path), self._cv2.CAP_FFMPEG)
        if not video.isOpened():
            raise _bad_video(self._path, "it is no video, or its format or codec is not known")
        return video


def _wait(until_s: float) -> Iterator[None]:
    while (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(left_s, _TURN_S))
        if left_s > _TURN_S:
            yield None


def _validate_file(path: Path) -> None:
    try:
        if path.stat().st_size and path.is_file():
            path.open("rb").close()
            return
        why = "it is empty" if path.is_file() else "it is no file"
    except OSError as error:
        why = error.strerror or str(error)
    raise _bad_video(path, why)


def _bad_video(path: Path, why: str) -> SensorError:
    hint = "Name a video that FFmpeg reads, such as H.264 in .mp4: --camera video:FILE"
    return SensorError(f"{path} cannot be played: {why}", code="bad_video", hint=hint, is_final=True)
