"""What a user can set about an Azure Kinect or an Orbbec Femto; the configuration's section [k4a]."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class K4aSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Azure Kinect and Orbbec Femto: where their libraries are, and how the body tracker works."""

    libraries: Annotated[
        str,
        Meta(
            description="folder of libk4a, libk4arecord and libk4abt, or one in which their packages are unpacked; "
            "empty: they are looked for. CROSSGLG_EDGE_K4A names one, too"
        ),
    ] = ""
    model: Annotated[
        str, Meta(description="the body tracker's model, a .onnx file; empty: dnn_model_2_0_op11.onnx is looked for")
    ] = ""
    mode: Annotated[
        Literal["cuda", "tensorrt", "directml", "cpu"],
        Meta(description="what the body tracker runs on: cuda, tensorrt, directml (Windows) or cpu (a few frames/s)"),
    ] = "cuda"
    gpu: Annotated[int, Meta(ge=0, le=63, description="number of the GPU that the body tracker takes")] = 0
    smoothing: Annotated[
        float, Meta(ge=0, le=1, description="temporal smoothing of the joints, 0: none; more of it lags behind more")
    ] = 0.5
    depth_mode: Annotated[
        Literal["nfov_unbinned", "nfov_2x2binned", "wfov_2x2binned", "wfov_unbinned"],
        Meta(
            description="nfov_unbinned, nfov_2x2binned (less USB), wfov_2x2binned or wfov_unbinned (15 fps at most): "
            "narrow or wide field of view"
        ),
    ] = "nfov_unbinned"
    fps: Annotated[Literal[5, 15, 30], Meta(description="depth pictures a second: 5, 15 or 30")] = 30
    orientation: Annotated[
        Literal["default", "clockwise90", "counterclockwise90", "flip180"],
        Meta(
            description="how the sensor is mounted, as seen by who faces it: default, clockwise90, counterclockwise90 "
            "or flip180 (upside down)"
        ),
    ] = "default"
    device: Annotated[int, Meta(ge=0, le=63, description="number of the sensor, where several are plugged in")] = 0
    serial: Annotated[
        str, Meta(description="serial number of the sensor, which `device` does not count then; empty: any")
    ] = ""

    def __post_init__(self) -> None:
        if self.depth_mode == "wfov_unbinned" and self.fps == 30:
            raise ValueError("depth_mode wfov_unbinned gives 15 pictures a second at most: set fps to 15 or 5")
