"""The camera `k4a`: an Azure Kinect, or an Orbbec Femto through its K4A wrapper."""

from __future__ import annotations

from typing import Any

from streams.cameras.camera import Camera
from streams.errors import CameraError


def open_k4a() -> Camera:
    """Open an Azure Kinect (or an Orbbec Femto through its K4A wrapper) with pyk4a.

    Body tracking, which makes skeletons of its depth frames, is not part of this version: once the
    sensor has opened, CameraError says so. Raises CameraError where the package, the SDK or the
    sensor is missing.
    """
    try:
        import pyk4a
    except ImportError as error:
        raise CameraError(
            f"the Azure Kinect SDK's Python package cannot be loaded: {error}",
            code="no_sdk",
            hint="Install it with `pip install 'crossglg-edge[k4a]'` (x86_64); it brings the SDK's libraries.",
        ) from error
    config: Any = pyk4a.Config(color_resolution=pyk4a.ColorResolution.OFF, depth_mode=pyk4a.DepthMode.NFOV_UNBINNED)
    device = pyk4a.PyK4A(config=config)
    try:
        device.start()
    except pyk4a.K4AException as error:
        raise CameraError(
            f"no Azure Kinect could be opened: {error or type(error).__name__}",
            code="no_sensor",
            hint="Is it plugged into USB 3 and powered? On Linux the udev rule 99-k4a.rules gives access. "
            "`--camera demo` runs without a sensor.",
        ) from error
    device.stop()
    raise CameraError(
        "the Azure Kinect was opened, but body tracking is not part of this version",
        code="no_body_tracking",
        hint="Run a body tracker that publishes skeletons (docs/publish.md), and --camera zmq.",
    )
