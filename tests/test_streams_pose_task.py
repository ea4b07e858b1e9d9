"""The pose model as one file: what is altered makes none. test_web_browser_camera makes one of the real files."""

from __future__ import annotations

import pytest

from streams.errors import CameraError
from streams.pose_task import make_pose_task


def test_a_network_that_was_altered_makes_no_pose_model() -> None:
    with pytest.raises(CameraError, match=r"pose_detection.tflite of mediapipe==0.10.21 has") as caught:
        make_pose_task(b"detector", b"landmarks")
    assert caught.value.code == "bad_checksum"
