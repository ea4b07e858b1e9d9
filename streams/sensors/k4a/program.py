"""Watch an Azure Kinect or an Orbbec Femto, or play its recording: pictures in, people out, by the SDK's body tracker.

One picture at a time is in the tracker, the newest one: what came while it worked is skipped and counted.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec

from streams.frame import Body
from streams.k4a_settings import K4aSettings
from streams.sensors import Sender, SensorError, SensorStart
from streams.sensors.k4a.clock import DeviceClock
from streams.sensors.k4a.libraries import Libraries, find_libraries, library_environment
from streams.sensors.k4a.sdk import AXES, Capture, Device, Playback, Sdk, Tracker

LAYOUT = "k4a32"
# How long a call into the SDK may wait, so that this process can say in between that it is well.
_CALL_S = 0.25
# Between the end of a recording and its next round, as between two rounds of `replay`.
_PAUSE_S = 1.0
_LINKED = "CROSSGLG_EDGE_K4A_LINKED"


class K4aStart(msgspec.Struct, frozen=True, kw_only=True):
    """Say what to watch: the sensor, or a recording (`file`), again and again with `loop`.

    `no_picture_s`, `no_answer_s`: after so long without one the sensor counts as gone, the tracker as hung.
    """

    k4a: K4aSettings = K4aSettings()
    file: str = ""
    loop: bool = True
    no_picture_s: float = 5.0
    no_answer_s: float = 10.0


class _Watch:
    """Hold the tracker, and tell the camera that all is well while it works."""

    def __init__(self, sender: Sender, tracker: Tracker, start: K4aStart) -> None:
        self._sender, self._tracker, self._axes = sender, tracker, AXES[start.k4a.orientation]
        self._no_answer_s = start.no_answer_s
        self._has_answered = False

    def is_well(self) -> None:
        """Give a sign of life; none before the first answer, which takes long, as the model is loaded for it."""
        if self._has_answered:
            self._sender.alive()

    def skip(self) -> None:
        """Count a picture that came too fast to look at."""
        self._sender.num_skipped += 1

    def bodies_in(self, capture: Capture) -> list[Body]:
        """Return the people in a picture. Raises SensorError where the tracker fails or gives no answer."""
        since_s = time.monotonic()
        is_taken, bodies = False, None
        while bodies is None:
            is_taken = is_taken or self._tracker.take(capture, _CALL_S)
            bodies = self._tracker.bodies(_CALL_S) if is_taken else None
            self.is_well()
            if self._has_answered and time.monotonic() - since_s > self._no_answer_s:
                raise SensorError(
                    f"the body tracker gave no answer for {self._no_answer_s:g} s",
                    code="tracker_hung",
                    hint="It is restarted.",
                )
        self._has_answered = True
        return bodies

    def send(self, bodies: list[Body], timestamp_s: float, fps: float, *, is_live: bool) -> None:
        """Send what one exposure shows."""
        self._sender.send(bodies, layout=LAYOUT, axes=self._axes, timestamp_s=timestamp_s, fps=fps, is_live=is_live)


def watch_sensor(sender: Sender, sdk: Sdk, libraries: Libraries, start: K4aStart) -> None:
    """Send what the sensor sees, until it is gone: SensorError. The camera then starts this process again."""
    device = Device(sdk, start.k4a)
    tracker = Tracker(sdk, libraries, start.k4a, device.calibration)
    watch, clock = _Watch(sender, tracker, start), DeviceClock()
    try:
        while True:
            capture, timestamp_s = _newest(device, clock, watch, start.no_picture_s)
            bodies = watch.bodies_in(capture)
            capture.release()
            watch.send(bodies, timestamp_s, start.k4a.fps, is_live=True)
    except SystemExit:
        # Where the sensor or the tracker failed, to let go of it may hang: the end of the process does that.
        tracker.close()
        device.close()
        raise


def _newest(device: Device, clock: DeviceClock, watch: _Watch, no_picture_s: float) -> tuple[Capture, float]:
    """Return the newest exposure with a depth picture, and when it was taken by this machine's clock."""
    newest: tuple[Capture, float] | None = None
    since_s = time.monotonic()
    while True:
        capture = device.capture(0.0 if newest else _CALL_S)
        device_s = None if capture is None else capture.device_s()
        if capture is not None and device_s is not None:
            if newest is not None:
                newest[0].release()
                watch.skip()
            newest = capture, clock.host_s(device_s, time.monotonic())
            continue
        if capture is not None:
            capture.release()
        if newest is not None:
            return newest
        watch.is_well()
        if time.monotonic() - since_s > no_picture_s:
            raise SensorError(
                f"the sensor gave no picture for {no_picture_s:g} s",
                code="sensor_gone",
                hint="Is it plugged into USB 3, and does it have its own power?",
            )


def play_recording(sender: Sender, sdk: Sdk, libraries: Libraries, start: K4aStart) -> None:
    """Send what a recording shows, at its pace or as fast as the tracker is; every picture is looked at."""
    playback = Playback(sdk, Path(start.file))
    tracker = Tracker(sdk, libraries, start.k4a, playback.calibration)
    watch = _Watch(sender, tracker, start)
    end_s: float | None = None
    while end_s is None or start.loop:
        if end_s is not None:
            playback.rewind()
        end_s = _play_once(playback, watch, sender, None if end_s is None else end_s + _PAUSE_S)
        if end_s is None:
            raise SensorError(f"{start.file} holds no depth picture", code="bad_recording", is_final=True)
    tracker.close()
    playback.close()


def _play_once(playback: Playback, watch: _Watch, sender: Sender, begin_s: float | None) -> float | None:
    """Play from `begin_s` on, None: from when the tracker is ready; return the last picture's time, None without any.

    A file's time is its own where the tracker is slower than the recording was.
    """
    offset_s: float | None = None
    timestamp_s: float | None = None
    while (capture := _next_capture(playback, sender)) is not None:
        device_s = capture.device_s()
        if device_s is None:
            capture.release()
            continue
        bodies = watch.bodies_in(capture)
        capture.release()
        if offset_s is None:
            offset_s = (time.monotonic() if begin_s is None else begin_s) - device_s
        timestamp_s = device_s + offset_s
        while (wait_s := timestamp_s - time.monotonic()) > 0:
            time.sleep(min(wait_s, _CALL_S))
            watch.is_well()
        watch.send(bodies, timestamp_s, playback.fps, is_live=False)
    return timestamp_s


def _next_capture(playback: Playback, sender: Sender) -> Capture | None:
    try:
        return playback.capture()
    except SensorError as error:  # what there is of it was played
        sender.note("warning", f"{error.message}: it ends here")
        return None


def watch_k4a(sender: Sender, start: SensorStart) -> None:
    """Watch what the start says. Raises SensorError."""
    what = msgspec.convert(start.settings, K4aStart)
    libraries = find_libraries(what.k4a)
    sdk = Sdk(libraries, records=bool(what.file))
    if what.file:
        play_recording(sender, sdk, libraries, what)
    else:
        watch_sensor(sender, sdk, libraries, what)


def link_libraries() -> None:
    """Start this process anew where the SDK's libraries find each other, unless it is that one already.

    libk4abt asks for libk4a.so.1.4, which the wheel calls otherwise, and the dynamic linker looks for it only where
    LD_LIBRARY_PATH led when the process began. The links lie beside the socket, in the camera's private folder.
    """
    if _LINKED in os.environ:
        return
    start = msgspec.json.decode(sys.argv[-1], type=SensorStart)
    links = Path(start.endpoint.removeprefix("ipc://")).with_name("libraries")
    links.mkdir(exist_ok=True)
    try:
        libraries = find_libraries(msgspec.convert(start.settings, K4aStart).k4a)
    except SensorError:  # it is told when the watch begins
        return
    os.execve(sys.executable, sys.orig_argv, {**library_environment(libraries, links), _LINKED: "1"})
