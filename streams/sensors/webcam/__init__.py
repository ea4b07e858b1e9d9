"""People in a webcam's or a file's pictures, found by MediaPipe; its Python has numpy < 2 and none of our packages."""

from streams.sensors.webcam.people import People, Pose

__all__ = ["People", "Pose"]
