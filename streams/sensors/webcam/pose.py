"""MediaPipe's pose landmarks of one picture after another."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np

from streams.arrays import Array
from streams.sensors.start import SensorError
from streams.sensors.webcam.people import Pose

# The networks look at 256 pixels a side; more only costs time on the way there.
_SIDE = 480


class PoseFinder:
    """Find the poses of at most `people` in pictures of one source. Raises SensorError where the model cannot run."""

    def __init__(self, model: Path, people: int) -> None:
        _without_its_face("mediapipe")
        import cv2
        from mediapipe.python._framework_bindings.image import Image
        from mediapipe.python._framework_bindings.image_frame import ImageFormat
        from mediapipe.tasks.python.core.base_options import BaseOptions
        from mediapipe.tasks.python.vision.core.vision_task_running_mode import VisionTaskRunningMode
        from mediapipe.tasks.python.vision.pose_landmarker import PoseLandmarker, PoseLandmarkerOptions

        # The networks have threads of their own.
        cv2.setNumThreads(1)
        self._cv2, self._image, self._rgb = cv2, Image, ImageFormat.SRGB
        self._time_ms = 0
        if not model.is_file():
            raise _no_model(f"the pose model {model} is missing")
        options = PoseLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=model.read_bytes()),
            running_mode=VisionTaskRunningMode.VIDEO,
            num_poses=people,
        )
        try:
            self._landmarker: Any = PoseLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise _no_model(f"the pose model {model} cannot be opened: {str(error).splitlines()[0]}") from error

    def poses(self, pixels: Any, timestamp_s: float) -> list[Pose]:
        """Return who is in a picture, shape (H, W, 3), uint8, BGR; `timestamp_s` rises from picture to picture."""
        # MediaPipe counts in milliseconds, and refuses two pictures in one.
        self._time_ms = max(self._time_ms + 1, round(1000 * timestamp_s))
        square, size = self._square(pixels)
        found = self._landmarker.detect_for_video(self._image(image_format=self._rgb, data=square), self._time_ms)
        return [
            Pose(
                picture_J2=np.array([(mark.x, mark.y) for mark in picture], np.float32) / size,
                joints_m=np.array([(mark.x, mark.y, mark.z) for mark in room], np.float32),
                visibility_J=np.array([mark.visibility for mark in room], np.float32),
            )
            for picture, room in zip(found.pose_landmarks, found.pose_world_landmarks, strict=True)
        ]

    def _square(self, pixels: Any) -> tuple[Any, Array]:
        """Return a small RGB picture with a black border, and the share of it, (2,), that is not border.

        MediaPipe turns a leaning body in the picture's own units: in a picture that is not square it bends limbs.
        """
        cv2, scale = self._cv2, min(1.0, _SIDE / max(pixels.shape[:2]))
        if scale < 1:
            pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        height, width = pixels.shape[:2]
        side = max(height, width)
        square = np.zeros((side, side, 3), np.uint8)
        square[:height, :width] = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        return square, np.array([width, height], np.float32) / side


def _no_model(message: str) -> SensorError:
    return SensorError(message, code="no_model", hint="Make it anew: crossglg-edge setup webcam", is_final=True)


def _without_its_face(package: str) -> None:
    """Let a package's modules be imported without its `__init__`: MediaPipe's draws in matplotlib and JAX."""
    if package not in sys.modules and (spec := importlib.util.find_spec(package)) is not None:
        sys.modules[package] = importlib.util.module_from_spec(spec)
