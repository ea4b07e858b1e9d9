"""The Azure Kinect's SDK by ctypes, and the process that watches a sensor, or plays a recording, with it."""

from streams.sensors.k4a.libraries import Libraries, find_libraries, usable_model
from streams.sensors.k4a.parts import Part, examine_k4a
from streams.sensors.k4a.program import K4aStart

__all__ = ["K4aStart", "Libraries", "Part", "examine_k4a", "find_libraries", "usable_model"]
