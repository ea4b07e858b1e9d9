"""The camera `k4a[:FILE.mkv]`: an Azure Kinect, an Orbbec Femto through its K4A wrapper, or a recording of one."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from streams.cameras.capture import CaptureCamera, Limits, sensor_command
from streams.errors import CameraError
from streams.k4a_settings import K4aSettings
from streams.sensors.k4a import K4aStart, find_libraries, usable_model

# Until the tracker's first answer: it loads the model, and TensorRT builds an engine for the graphics card.
_START_S = {"tensorrt": 900.0, "cuda": 120.0, "directml": 120.0, "cpu": 120.0}
# One call into the SDK may wait longer than a webcam's; who plugs a sensor in again does not wait half a minute.
_HANG_S, _MAX_BACKOFF_S = 10.0, 5.0


def open_k4a(settings: K4aSettings, *, file: str = "", loop: bool = True) -> CaptureCamera:
    """Open the sensor, or play a recording (.mkv), again and again with `loop`.

    Raises CameraError where a library, the model or the file is missing. A sensor that is missing is waited for.
    """
    path = Path(file).expanduser().absolute() if file else None
    if path is not None:
        _check_recording(path)
    libraries = find_libraries(settings)
    for name in ("libk4a", "libk4abt") if path is None else ("libk4a", "libk4arecord", "libk4abt"):
        libraries.file(name)
    usable_model(libraries)
    start = K4aStart(k4a=settings, file=str(path or ""), loop=loop)
    return CaptureCamera(
        "k4a",
        sensor_command(sys.executable, "streams.sensors.k4a"),
        source="k4a",
        settings=msgspec.to_builtins(start),
        limits=Limits(start_s=_START_S[settings.mode], hang_s=_HANG_S, max_backoff_s=_MAX_BACKOFF_S),
    )


def _check_recording(path: Path) -> None:
    """Refuse what cannot be a recording. Raises CameraError."""
    hint = "Expected a recording of the sensor, FILE.mkv, as `k4arecorder` writes it."
    try:
        with path.open("rb") as file:
            is_matroska = file.read(4) == b"\x1aE\xdf\xa3"
    except OSError as error:
        raise CameraError(f"{path} cannot be read: {error.strerror}", code="no_recording", hint=hint) from error
    if not is_matroska:
        raise CameraError(f"{path} is no .mkv file", code="bad_recording", hint=hint)
