"""Make the pose model of what MediaPipe's package carries, and prove that it finds a person in a picture.

The last step of `crossglg-edge setup webcam`, run by the Python that was set up; its argument is the model's path.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np

from streams.errors import CameraError
from streams.files import replace_file
from streams.pose_task import DETECTOR, LANDMARKS, make_pose_task
from streams.sensors.webcam.pose import PoseFinder

_SIDE = 480
# Left and right shoulder and wrist of the drawn figure, in pixels; the figure faces who looks.
_DRAWN = {11: (282, 165), 12: (198, 165), 15: (315, 275), 16: (165, 275)}
_WITHIN = 25.0
_SKIN, _SHIRT, _TROUSERS, _HAIR, _WALL = (150, 180, 225), (160, 80, 40), (70, 60, 60), (30, 40, 60), (200, 205, 210)
_LIMBS = (
    ((222, 270), (215, 350), 30, _TROUSERS), ((215, 350), (213, 425), 24, _TROUSERS),
    ((258, 270), (265, 350), 30, _TROUSERS), ((265, 350), (267, 425), 24, _TROUSERS),
    ((213, 430), (200, 440), 16, _HAIR), ((267, 430), (280, 440), 16, _HAIR),
    ((198, 165), (175, 220), 20, _SHIRT), ((175, 220), (165, 275), 16, _SKIN),
    ((282, 165), (305, 220), 20, _SHIRT), ((305, 220), (315, 275), 16, _SKIN),
    ((240, 155), (240, 130), 24, _SKIN),
)  # fmt: skip
_CHEST = ((195, 155), (285, 155), (272, 275), (208, 275))


def draw_person() -> Any:
    """Return a picture of a person who stands: shape (480, 480, 3), uint8, BGR. Nobody's photograph is needed."""
    import cv2

    picture = np.full((_SIDE, _SIDE, 3), _WALL, np.uint8)
    cv2.fillPoly(picture, [np.array(_CHEST)], _SHIRT, cv2.LINE_AA)
    for start, end, width, color in _LIMBS:
        cv2.line(picture, start, end, color, width, cv2.LINE_AA)
    cv2.ellipse(picture, (240, 105), (26, 34), 0, 0, 360, _SKIN, -1, cv2.LINE_AA)
    cv2.ellipse(picture, (240, 90), (28, 26), 0, 180, 360, _HAIR, -1, cv2.LINE_AA)
    for x in (230, 250):
        cv2.circle(picture, (x, 103), 3, _HAIR, -1, cv2.LINE_AA)
    cv2.line(picture, (240, 108), (238, 115), (110, 140, 190), 2, cv2.LINE_AA)
    cv2.ellipse(picture, (240, 122), (8, 3), 0, 0, 180, (90, 90, 180), 2, cv2.LINE_AA)
    return picture


def prove(model: Path) -> str:
    """Return what is wrong with the model, "" where it finds the drawn person's arms where they were drawn."""
    poses = PoseFinder(model, people=1).poses(draw_person(), 0.0)
    if len(poses) != 1:
        return f"it finds {len(poses)} people in a picture of one"
    for joint, drawn in _DRAWN.items():
        off = float(np.linalg.norm(poses[0].picture_J2[joint] * _SIDE - np.array(drawn)))
        if off > _WITHIN:
            return f"it finds joint {joint} {off:.0f} pixels off"
    return ""


def main(path: Path) -> int:
    """Make the model, prove it; return the exit code, 0 if all is well."""
    spec = importlib.util.find_spec("mediapipe")
    if spec is None or spec.origin is None:
        sys.stderr.write("mediapipe is not installed\n")
        return 1
    packages = Path(spec.origin).parents[1]
    try:
        replace_file(path, make_pose_task((packages / DETECTOR).read_bytes(), (packages / LANDMARKS).read_bytes()))
        problem = prove(path)
    except (CameraError, OSError) as error:
        problem = str(error)
    sys.stderr.write(f"{problem}\n" if problem else "")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[-1])))
