"""The program behind `--camera webcam` and `--camera video`: pictures in, bodies out."""

from __future__ import annotations

from pathlib import Path

import msgspec

from streams.sensors import Sender, SensorStart, run_sensor
from streams.sensors.webcam.people import People
from streams.sensors.webcam.pictures import VideoFile, Webcam
from streams.sensors.webcam.pose import PoseFinder


class Watched(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tell what is to be watched: `device`, a number or a path, or else `file`, once or for ever."""

    model: str
    people: int
    device: str = ""
    fps: float = 30.0
    exposure_ms: float = 0.0
    file: str = ""
    loop: bool = True


def watch(sender: Sender, start: SensorStart) -> None:
    """Send the people in the pictures until a file is over. Raises SensorError."""
    watched = msgspec.convert(start.settings, Watched)
    source: VideoFile | Webcam
    if watched.file:
        source = VideoFile(Path(watched.file), loop=watched.loop)
        pictures = source.pictures(warn=lambda message: sender.note("warning", message))
    else:
        source = Webcam(watched.device, fps=watched.fps, exposure_ms=watched.exposure_ms)
        pictures = source.pictures()
    finder, people = PoseFinder(Path(watched.model), watched.people), People()
    for picture in pictures:
        sender.num_skipped = source.num_skipped
        if picture is None:
            sender.alive()
            continue
        poses = finder.poses(picture.pixels, picture.timestamp_s)
        height, width = picture.pixels.shape[:2]
        bodies = people.bodies(poses, picture.timestamp_s, width, height)
        sender.send(bodies, layout="mediapipe33", timestamp_s=picture.timestamp_s, fps=source.fps)
    sender.num_skipped = source.num_skipped


if __name__ == "__main__":
    run_sensor(watch)
