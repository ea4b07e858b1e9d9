"""Skeletons and events as data: what one is, how it travels, how it is stored; knows files and sockets, no model.

The names below are what a program needs to publish frames, listen to events, ask a daemon and read files. Each is
loaded when it is first used: who takes only errors or a client imports no numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.archive import Archive, Clip, read_archive
    from streams.clients import ControlClient, EventSubscriber
    from streams.continuous import ContinuousArchive, read_continuous
    from streams.errors import (
        ArchiveError,
        BridgeError,
        BundleError,
        CameraError,
        ConfigError,
        ControlError,
        CrossGLGError,
        DescriptionError,
        EngineError,
        EnrollError,
        GalleryError,
        LayoutError,
        LlmError,
        RecordingError,
        ReviewError,
        TextToolError,
        WireError,
    )
    from streams.event import Event, Latency, Quality, RunnerUp
    from streams.frame import Body, SkeletonFrame
    from streams.layouts import LAYOUTS, Layout, layout_by_name
    from streams.messages import decode_event
    from streams.movement import Movement
    from streams.recording import RecordingSummary, RecordingWriter, describe_recording, read_recording
    from streams.scores import LabelScore, Scores
    from streams.skeleton import Skeleton, SkeletonBody
    from streams.sockets import FramePublisher
    from streams.wire import decode_frame, encode_frame

__all__ = [
    "LAYOUTS",
    "Archive",
    "ArchiveError",
    "Body",
    "BridgeError",
    "BundleError",
    "CameraError",
    "Clip",
    "ConfigError",
    "ContinuousArchive",
    "ControlClient",
    "ControlError",
    "CrossGLGError",
    "DescriptionError",
    "EngineError",
    "EnrollError",
    "Event",
    "EventSubscriber",
    "FramePublisher",
    "GalleryError",
    "LabelScore",
    "Latency",
    "Layout",
    "LayoutError",
    "LlmError",
    "Movement",
    "Quality",
    "RecordingError",
    "RecordingSummary",
    "RecordingWriter",
    "ReviewError",
    "RunnerUp",
    "Scores",
    "Skeleton",
    "SkeletonBody",
    "SkeletonFrame",
    "TextToolError",
    "WireError",
    "decode_event",
    "decode_frame",
    "describe_recording",
    "encode_frame",
    "layout_by_name",
    "read_archive",
    "read_continuous",
    "read_recording",
]

_MODULES = {
    "archive": ("Archive", "Clip", "read_archive"),
    "clients": ("ControlClient", "EventSubscriber"),
    "continuous": ("ContinuousArchive", "read_continuous"),
    "event": ("Event", "Latency", "Quality", "RunnerUp"),
    "frame": ("Body", "SkeletonFrame"),
    "layouts": ("LAYOUTS", "Layout", "layout_by_name"),
    "messages": ("decode_event",),
    "movement": ("Movement",),
    "recording": ("RecordingSummary", "RecordingWriter", "describe_recording", "read_recording"),
    "scores": ("LabelScore", "Scores"),
    "skeleton": ("Skeleton", "SkeletonBody"),
    "sockets": ("FramePublisher",),
    "wire": ("decode_frame", "encode_frame"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # What is in no other module is an error.
    return getattr(import_module(f"{__name__}.{_MODULE_OF.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
