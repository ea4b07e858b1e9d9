"""Programs that watch a sensor, each in a process of its own, and send what they see to the camera that began them."""

from streams.sensors.sender import Sender, run_sensor
from streams.sensors.start import (
    ALIVE_TOPIC,
    END_TOPIC,
    NOTE_TOPIC,
    Alive,
    ExitCode,
    SensorError,
    SensorStart,
    Told,
    Trouble,
)

__all__ = [
    "ALIVE_TOPIC",
    "END_TOPIC",
    "NOTE_TOPIC",
    "Alive",
    "ExitCode",
    "Sender",
    "SensorError",
    "SensorStart",
    "Told",
    "Trouble",
    "run_sensor",
]
