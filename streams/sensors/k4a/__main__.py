"""The process that watches an Azure Kinect; `streams.cameras` starts it."""

from streams.sensors import run_sensor
from streams.sensors.k4a.program import link_libraries, watch_k4a

if __name__ == "__main__":
    link_libraries()
    run_sensor(watch_k4a)
