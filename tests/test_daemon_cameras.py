"""The daemon beside a camera with a process of its own: it tells how that is, and goes on when that dies."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from edge.config import Config, read_config
from edge.daemon import Daemon
from edge.library import open_library
from streams.cameras import CaptureCamera, Limits
from streams.clients import ControlClient, EventSubscriber
from streams.errors import CameraError

Message = dict[str, Any]

SENSOR = """
import time
import numpy as np
from streams.frame import body_as_seen
from streams.sensors import SensorError, run_sensor

def watch(sender, start):
    if start.settings.get("error"):
        raise SensorError(start.settings["error"], code="no_sensor", hint="Plug it in.", is_final=True)
    while True:
        sender.send([], layout="k4a32", timestamp_s=time.monotonic())
        time.sleep(0.02)

run_sensor(watch)
"""


class Running:
    """Hold a daemon that runs on the main thread, while `play` asks it from another and then stops it."""

    def __init__(self, config: Config, camera: CaptureCamera) -> None:
        self.daemon = Daemon(open_library(config), camera)
        self.client = ControlClient(config.sockets.control, timeout_s=10)
        self.log = EventSubscriber(config.sockets.events, ("log.",))

    def run(self, play: Callable[[Running], None] | None) -> None:
        failed: list[BaseException] = []

        def drive() -> None:
            try:
                if play is not None:
                    play(self)
                    self.daemon.stop()
            except BaseException as error:
                failed.append(error)
                self.daemon.stop()

        thread = Thread(target=drive)
        thread.start()
        try:
            self.daemon.run()
        finally:
            thread.join()
            self.client.close()
            self.log.close()
        if failed:
            raise failed[0]

    def process_when(self, is_so: Callable[[Message], bool]) -> Message:
        """Return what `status` says of the camera's process once it is so."""
        deadline_s = time.monotonic() + 30
        while not is_so(process := self.client.ask("status")["camera_process"]):
            assert time.monotonic() < deadline_s, process
            time.sleep(0.02)
        return dict(process)


@pytest.fixture
def run(make_config: Callable[..., Path], tmp_path: Path) -> Callable[..., None]:
    sensor = tmp_path / "sensor.py"
    sensor.write_text(SENSOR, encoding="utf-8")

    def run_one(play: Callable[[Running], None] | None, **does: Any) -> None:
        limits = Limits(hang_s=1.0, backoff_s=0.05)
        camera = CaptureCamera("test", [sys.executable, str(sensor)], source="cam", settings=does, limits=limits)
        Running(read_config(make_config()), camera).run(play)

    return run_one


def test_status_tells_of_the_cameras_process_and_the_daemon_answers_while_it_dies_and_hangs(
    run: Callable[..., None],
) -> None:
    def play(running: Running) -> None:
        for number in (signal.SIGKILL, signal.SIGSTOP):
            before = running.process_when(lambda process: process["state"] == "runs" and process["fps"] > 10)
            assert before["kind"] == "test"
            os.kill(before["pid"], number)
            after = running.process_when(lambda process, pid=before["pid"]: process["pid"] not in (None, pid))  # type: ignore[misc]
            assert after["restarts"] == before["restarts"] + 1
            assert after["last_error"]
        running.process_when(lambda process: process["state"] == "runs")
        told = running.log.receive(5.0)
        assert told is not None
        assert "started again" in told[1]["message"]

    run(play)


def test_a_camera_that_can_never_give_frames_ends_the_daemon_with_its_error(run: Callable[..., None]) -> None:
    with pytest.raises(CameraError, match="no sensor is plugged in") as ended:
        run(None, error="no sensor is plugged in")
    assert ended.value.hint == "Plug it in."
