"""libk4a, libk4arecord and libk4abt by ctypes: as much of their C interfaces as it takes to get skeletons.

After the public headers of the Azure Kinect Sensor SDK 1.4 (k4a.h, k4atypes.h, playback.h) and of the Body Tracking
SDK 1.1 (k4abt.h, k4abttypes.h). Orbbec's K4A wrapper has the same interface. Times are microseconds of the sensor.

Shapes: J = 32 joints of the layout k4a32; 3 is x, y, z in "RDF", meters.
"""

from __future__ import annotations

import ctypes as c
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from streams.frame import HIGH, NO_CONFIDENCE, Body
from streams.k4a_settings import K4aSettings
from streams.sensors import SensorError
from streams.sensors.k4a.libraries import Libraries, Name, usable_model
from streams.wire import MAX_COORDINATE_M

_SUCCEEDED, _FAILED, _TIMEOUT, _END_OF_FILE = 0, 1, 2, 2
_NUM_JOINTS, _CALIBRATION_BYTES = 32, 1032
_NO_BODY = 0xFFFFFFFF
# critical, error
_LOG_LEVEL_ERROR = 1
_KEPT_MESSAGES = 3

_DEPTH_MODES = {"nfov_2x2binned": 1, "nfov_unbinned": 2, "wfov_2x2binned": 3, "wfov_unbinned": 4}
_FPS = {5: 0, 15: 1, 30: 2}
_ORIENTATIONS = {"default": 0, "clockwise90": 1, "counterclockwise90": 2, "flip180": 3}
_MODES = {"cpu": 1, "cuda": 2, "tensorrt": 3, "directml": 4}
# Joints come in the coordinates of the sensor, however it is mounted. The SDK names the turn as who faces it sees it,
# the axes are as the sensor itself sees them.
AXES = {"default": "RDF", "clockwise90": "URF", "counterclockwise90": "DLF", "flip180": "LUF"}

_SKELETON = np.dtype([("position_mm", "<f4", 3), ("orientation_wxyz", "<f4", 4), ("confidence", "<i4")])

_Handle = c.c_void_p
_HandleOut = c.POINTER(c.c_void_p)


class _DeviceConfiguration(c.Structure):
    _fields_ = (
        ("color_format", c.c_int),
        ("color_resolution", c.c_int),
        ("depth_mode", c.c_int),
        ("camera_fps", c.c_int),
        ("synchronized_images_only", c.c_bool),
        ("depth_delay_off_color_usec", c.c_int32),
        ("wired_sync_mode", c.c_int),
        ("subordinate_delay_off_master_usec", c.c_uint32),
        ("disable_streaming_indicator", c.c_bool),
    )


class _RecordConfiguration(c.Structure):
    _fields_ = (
        ("color_format", c.c_int),
        ("color_resolution", c.c_int),
        ("depth_mode", c.c_int),
        ("camera_fps", c.c_int),
        ("color_track_enabled", c.c_bool),
        ("depth_track_enabled", c.c_bool),
        ("ir_track_enabled", c.c_bool),
        ("imu_track_enabled", c.c_bool),
        ("depth_delay_off_color_usec", c.c_int32),
        ("wired_sync_mode", c.c_int),
        ("subordinate_delay_off_master_usec", c.c_uint32),
        ("start_timestamp_offset_usec", c.c_uint32),
    )


class _TrackerConfiguration(c.Structure):
    _fields_ = (
        ("sensor_orientation", c.c_int),
        ("processing_mode", c.c_int),
        ("gpu_device_id", c.c_int32),
        ("model_path", c.c_char_p),
    )


_Calibration = c.c_char * _CALIBRATION_BYTES
_LogHandler = c.CFUNCTYPE(None, c.c_void_p, c.c_int, c.c_char_p, c.c_int, c.c_char_p)

# Each function's result, then its arguments.
_Declarations = Mapping[str, tuple[Any, ...]]
_DECLARATIONS: dict[Name, _Declarations] = {
    "libk4a": {
        "k4a_set_debug_message_handler": (c.c_int, _LogHandler, c.c_void_p, c.c_int),
        "k4a_device_get_installed_count": (c.c_uint32,),
        "k4a_device_open": (c.c_int, c.c_uint32, _HandleOut),
        "k4a_device_close": (None, _Handle),
        "k4a_device_get_serialnum": (c.c_int, _Handle, c.c_char_p, c.POINTER(c.c_size_t)),
        "k4a_device_get_calibration": (c.c_int, _Handle, c.c_int, c.c_int, c.POINTER(_Calibration)),
        "k4a_device_start_cameras": (c.c_int, _Handle, c.POINTER(_DeviceConfiguration)),
        "k4a_device_stop_cameras": (None, _Handle),
        "k4a_device_get_capture": (c.c_int, _Handle, _HandleOut, c.c_int32),
        "k4a_capture_release": (None, _Handle),
        "k4a_capture_get_depth_image": (_Handle, _Handle),
        "k4a_image_get_device_timestamp_usec": (c.c_uint64, _Handle),
        "k4a_image_release": (None, _Handle),
    },
    "libk4arecord": {
        "k4a_playback_open": (c.c_int, c.c_char_p, _HandleOut),
        "k4a_playback_close": (None, _Handle),
        "k4a_playback_get_calibration": (c.c_int, _Handle, c.POINTER(_Calibration)),
        "k4a_playback_get_record_configuration": (c.c_int, _Handle, c.POINTER(_RecordConfiguration)),
        "k4a_playback_get_next_capture": (c.c_int, _Handle, _HandleOut),
        "k4a_playback_seek_timestamp": (c.c_int, _Handle, c.c_int64, c.c_int),
    },
    "libk4abt": {
        "k4abt_tracker_create": (c.c_int, c.POINTER(_Calibration), _TrackerConfiguration, _HandleOut),
        "k4abt_tracker_set_temporal_smoothing": (None, _Handle, c.c_float),
        "k4abt_tracker_enqueue_capture": (c.c_int, _Handle, _Handle, c.c_int32),
        "k4abt_tracker_pop_result": (c.c_int, _Handle, _HandleOut, c.c_int32),
        "k4abt_tracker_shutdown": (None, _Handle),
        "k4abt_tracker_destroy": (None, _Handle),
        "k4abt_frame_get_num_bodies": (c.c_uint32, _Handle),
        "k4abt_frame_get_body_id": (c.c_uint32, _Handle, c.c_uint32),
        "k4abt_frame_get_body_skeleton": (c.c_int, _Handle, c.c_uint32, c.c_void_p),
        "k4abt_frame_release": (None, _Handle),
    },
}


def load_library(name: Name, path: Path) -> Any:
    """Return a library with its functions declared.

    Raises SensorError where it cannot be loaded, or lacks a function.
    """
    try:
        # The others look for the functions of libk4a among those of the process.
        library = c.CDLL(str(path), mode=c.RTLD_GLOBAL)
    except OSError as error:
        raise SensorError(
            f"{path} cannot be loaded: {error}",
            code=f"bad_{name}",
            hint="Install what it needs (`ldd` lists it), or name the folder that has it as `libraries` under [k4a].",
            is_final=True,
        ) from error
    for function, (result, *arguments) in _DECLARATIONS.get(name, {}).items():
        try:
            declared = getattr(library, function)
        except AttributeError as error:
            raise SensorError(
                f"{path} has no function {function}",
                code=f"bad_{name}",
                hint="Expected Sensor SDK 1.4 or Orbbec's K4A wrapper, and Body Tracking SDK 1.1.",
                is_final=True,
            ) from error
        declared.restype, declared.argtypes = result, arguments
    return library


class Sdk:
    """Hold the loaded libraries, and what libk4a said last."""

    def __init__(self, libraries: Libraries, *, records: bool = False) -> None:
        self.k4a = load_library("libk4a", libraries.file("libk4a"))
        self.record = load_library("libk4arecord", libraries.file("libk4arecord")) if records else None
        self.bodies = load_library("libk4abt", libraries.file("libk4abt"))
        self._said: deque[str] = deque(maxlen=_KEPT_MESSAGES)
        # The library keeps the pointer, so it must live as long.
        self._handler = _LogHandler(
            lambda _, level, file, line, message: self._said.append(message.decode("utf-8", "replace"))
        )
        self.k4a.k4a_set_debug_message_handler(self._handler, None, _LOG_LEVEL_ERROR)

    def take_said(self) -> str:
        """Return the last errors that libk4a and libk4arecord reported, in one line, and forget them."""
        said = "; ".join(dict.fromkeys(self._said))
        self._said.clear()
        return f" (it says: {said})" if said else ""


class Capture:
    """Hold one exposure of the depth camera until it is released."""

    def __init__(self, sdk: Sdk, handle: c.c_void_p) -> None:
        self._sdk, self.handle = sdk, handle

    def device_s(self) -> float | None:
        """Return when the depth picture was taken, by the sensor's clock; None where there is none."""
        k4a = self._sdk.k4a
        image = k4a.k4a_capture_get_depth_image(self.handle)
        if not image:
            return None
        try:
            return float(k4a.k4a_image_get_device_timestamp_usec(image)) / 1e6
        finally:
            k4a.k4a_image_release(image)

    def release(self) -> None:
        """Give its memory back."""
        self._sdk.k4a.k4a_capture_release(self.handle)


class Device:
    """Hold an opened sensor whose depth camera runs. Raises SensorError where there is none, or it fails."""

    def __init__(self, sdk: Sdk, settings: K4aSettings) -> None:
        self._sdk = sdk
        self._handle = _open_by_serial(sdk, settings.serial) if settings.serial else _open_device(sdk, settings.device)
        depth_mode = _DEPTH_MODES[settings.depth_mode]
        self.calibration = _Calibration()
        configuration = _DeviceConfiguration(depth_mode=depth_mode, camera_fps=_FPS[settings.fps])
        try:
            if sdk.k4a.k4a_device_get_calibration(self._handle, depth_mode, 0, c.byref(self.calibration)) != _SUCCEEDED:
                raise _sensor_failed(f"the sensor's calibration cannot be read{sdk.take_said()}")
            if sdk.k4a.k4a_device_start_cameras(self._handle, c.byref(configuration)) != _SUCCEEDED:
                raise SensorError(
                    f"the sensor's depth camera does not start{sdk.take_said()}",
                    code="no_depth",
                    hint="It needs USB 3. Its depth engine needs OpenGL: a graphics driver and a display (DISPLAY).",
                )
        except SensorError:
            sdk.k4a.k4a_device_close(self._handle)
            raise

    def capture(self, timeout_s: float) -> Capture | None:
        """Return the next exposure, None where none comes in time. Raises SensorError where the sensor is gone."""
        handle = c.c_void_p()
        result = self._sdk.k4a.k4a_device_get_capture(self._handle, c.byref(handle), int(timeout_s * 1000))
        if result == _TIMEOUT:
            return None
        if result != _SUCCEEDED:
            raise _sensor_failed(f"the sensor is gone{self._sdk.take_said()}")
        return Capture(self._sdk, handle)

    def close(self) -> None:
        """Stop the cameras and let go of the sensor."""
        self._sdk.k4a.k4a_device_stop_cameras(self._handle)
        self._sdk.k4a.k4a_device_close(self._handle)


def _sensor_failed(message: str) -> SensorError:
    return SensorError(message, code="sensor_gone", hint="Is it plugged into USB 3, and does it have its own power?")


def _open_device(sdk: Sdk, index: int) -> c.c_void_p:
    num_devices = sdk.k4a.k4a_device_get_installed_count()
    if index >= num_devices:
        seen = f"sensor {index} is not there, {num_devices} found" if num_devices else "no sensor is plugged in"
        raise SensorError(
            f"{seen}{sdk.take_said()}",
            code="no_sensor",
            hint="An Azure Kinect needs USB 3 and its own power. An Orbbec Femto needs Orbbec's K4A wrapper as libk4a.",
        )
    handle = c.c_void_p()
    if sdk.k4a.k4a_device_open(index, c.byref(handle)) != _SUCCEEDED:
        raise SensorError(
            f"sensor {index} is plugged in, but cannot be opened{sdk.take_said()}",
            code="sensor_taken",
            hint="Another program may have it, or this user may not: `crossglg-edge doctor` looks for the udev rule.",
        )
    return handle


def _open_by_serial(sdk: Sdk, wanted: str) -> c.c_void_p:
    found = []
    for index in range(sdk.k4a.k4a_device_get_installed_count()):
        try:
            handle = _open_device(sdk, index)
        except SensorError:  # another program's
            continue
        serial = _serial_number(sdk, handle)
        if serial == wanted:
            return handle
        found.append(serial)
        sdk.k4a.k4a_device_close(handle)
    raise SensorError(
        f"no sensor has the serial number {wanted}; free ones: {', '.join(found) or 'none'}{sdk.take_said()}",
        code="no_sensor",
        hint="`serial` under [k4a] in the config names it; it stands on the sensor.",
    )


def _serial_number(sdk: Sdk, handle: c.c_void_p) -> str:
    text = c.create_string_buffer(64)
    if sdk.k4a.k4a_device_get_serialnum(handle, text, c.byref(c.c_size_t(len(text)))) != _SUCCEEDED:
        return ""
    return text.value.decode("ascii", "replace")


class Playback:
    """Hold a recording (.mkv) of the sensor. Raises SensorError where it is none, or lacks what the tracker needs.

    `fps`: of its depth pictures.
    """

    def __init__(self, sdk: Sdk, path: Path) -> None:
        if sdk.record is None:
            raise AssertionError("libk4arecord was not asked for")
        self._sdk, self._record = sdk, sdk.record
        self._handle = c.c_void_p()
        if self._record.k4a_playback_open(str(path).encode(), c.byref(self._handle)) != _SUCCEEDED:
            raise _bad_recording(f"{path} cannot be played{sdk.take_said()}", "Expected what `k4arecorder` writes.")
        try:
            self._check_tracks(path)
            self.calibration = _Calibration()
            if self._record.k4a_playback_get_calibration(self._handle, c.byref(self.calibration)) != _SUCCEEDED:
                raise _bad_recording(f"{path} has no calibration{sdk.take_said()}", "Record it anew, with k4arecorder.")
        except SensorError:
            self.close()
            raise

    def _check_tracks(self, path: Path) -> None:
        configuration = _RecordConfiguration()
        if self._record.k4a_playback_get_record_configuration(self._handle, c.byref(configuration)) != _SUCCEEDED:
            raise _bad_recording(f"{path} does not say what it holds{self._sdk.take_said()}", "Record it anew.")
        missing = [
            name
            for name, is_there in (
                ("depth", configuration.depth_track_enabled),
                ("infrared", configuration.ir_track_enabled),
            )
            if not is_there
        ]
        if missing:
            raise _bad_recording(
                f"{path} has no {' and no '.join(missing)} pictures",
                "The body tracker needs both: record with `k4arecorder --depth-mode NFOV_UNBINNED`.",
            )
        self.fps = {rate: fps for fps, rate in _FPS.items()}.get(configuration.camera_fps, 0)

    def capture(self) -> Capture | None:
        """Return the next exposure, None at the end. Raises SensorError where the file is damaged."""
        handle = c.c_void_p()
        result = self._record.k4a_playback_get_next_capture(self._handle, c.byref(handle))
        if result == _END_OF_FILE:
            return None
        if result != _SUCCEEDED:
            raise _bad_recording(f"the recording cannot be read further{self._sdk.take_said()}", "Is it cut off?")
        return Capture(self._sdk, handle)

    def rewind(self) -> None:
        """Begin again."""
        self._record.k4a_playback_seek_timestamp(self._handle, 0, 0)

    def close(self) -> None:
        """Close the file."""
        self._record.k4a_playback_close(self._handle)


def _bad_recording(message: str, hint: str) -> SensorError:
    return SensorError(message, code="bad_recording", hint=hint, is_final=True)


class Tracker:
    """Hold the body tracker of one calibration. Raises SensorError where it cannot be made."""

    def __init__(self, sdk: Sdk, libraries: Libraries, settings: K4aSettings, calibration: Any) -> None:
        self._sdk, self._bodies = sdk, sdk.bodies
        model = usable_model(libraries)
        configuration = _TrackerConfiguration(
            sensor_orientation=_ORIENTATIONS[settings.orientation],
            processing_mode=_MODES[settings.mode],
            gpu_device_id=settings.gpu,
            model_path=str(model).encode(),
        )
        self._handle = c.c_void_p()
        if self._bodies.k4abt_tracker_create(c.byref(calibration), configuration, c.byref(self._handle)) != _SUCCEEDED:
            raise SensorError(
                f"the body tracker cannot be made, mode {settings.mode}, model {model}{sdk.take_said()}",
                code="no_tracker",
                hint='`crossglg-edge doctor` looks for what the mode needs; `mode = "cpu"` under [k4a] needs least.',
            )
        self._bodies.k4abt_tracker_set_temporal_smoothing(self._handle, settings.smoothing)

    def take(self, capture: Capture, timeout_s: float) -> bool:
        """Give the tracker an exposure; False where it does not take one in time. Raises SensorError."""
        result = self._bodies.k4abt_tracker_enqueue_capture(self._handle, capture.handle, int(timeout_s * 1000))
        if result == _FAILED:
            raise _tracker_failed(f"the body tracker refuses a picture{self._sdk.take_said()}")
        return bool(result == _SUCCEEDED)

    def bodies(self, timeout_s: float) -> list[Body] | None:
        """Return the people in the exposure that it was given; None where it is not ready. Raises SensorError."""
        frame = c.c_void_p()
        result = self._bodies.k4abt_tracker_pop_result(self._handle, c.byref(frame), int(timeout_s * 1000))
        if result == _TIMEOUT:
            return None
        if result != _SUCCEEDED:
            raise _tracker_failed(f"the body tracker failed{self._sdk.take_said()}")
        try:
            return list(self._bodies_in(frame))
        finally:
            self._bodies.k4abt_frame_release(frame)

    def _bodies_in(self, frame: c.c_void_p) -> Iterator[Body]:
        skeleton = np.empty(_NUM_JOINTS, _SKELETON)
        for index in range(self._bodies.k4abt_frame_get_num_bodies(frame)):
            id_ = self._bodies.k4abt_frame_get_body_id(frame, index)
            if id_ == _NO_BODY:
                continue
            if self._bodies.k4abt_frame_get_body_skeleton(frame, index, skeleton.ctypes.data) != _SUCCEEDED:
                raise _tracker_failed(f"the body tracker gives no skeleton{self._sdk.take_said()}")
            joints_m = (skeleton["position_mm"] / 1000).astype(np.float32)
            # One joint that is nowhere must not cost the frame.
            joints_m[~(np.abs(joints_m) <= MAX_COORDINATE_M).all(axis=1)] = np.nan
            confidence = np.clip(skeleton["confidence"], NO_CONFIDENCE, HIGH).astype(np.uint8)
            yield Body(id=id_, joints_m=joints_m, confidence=confidence)

    def close(self) -> None:
        """Let go of the tracker, and of its GPU."""
        self._bodies.k4abt_tracker_shutdown(self._handle)
        self._bodies.k4abt_tracker_destroy(self._handle)


def _tracker_failed(message: str) -> SensorError:
    return SensorError(message, code="tracker_failed", hint="It is started anew; its own words are in `status`.")
