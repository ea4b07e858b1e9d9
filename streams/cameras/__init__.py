"""Where frames come from: what `--camera` names is opened here, and gives the daemon frames without making it wait."""

from streams.cameras.camera import Camera, CameraState, Note, Refused
from streams.cameras.capture import CaptureCamera, Limits, sensor_command
from streams.cameras.k4a import open_k4a
from streams.cameras.open import open_camera
from streams.cameras.paced import PacedCamera, ReplayFrames
from streams.cameras.webcam import (
    DISK_MB,
    DOWNLOAD_MB,
    set_up_webcam,
    validate_webcam,
    webcam_folder,
)
from streams.clock import clock_name

__all__ = [
    "DISK_MB",
    "DOWNLOAD_MB",
    "Camera",
    "CameraState",
    "CaptureCamera",
    "Limits",
    "Note",
    "PacedCamera",
    "Refused",
    "ReplayFrames",
    "clock_name",
    "open_camera",
    "open_k4a",
    "sensor_command",
    "set_up_webcam",
    "validate_webcam",
    "webcam_folder",
]
