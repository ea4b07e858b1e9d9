"""MediaPipe's pose model as one file, pose_landmarker.task, made of two networks that its package carries.

What reads the file, in Python and in a browser, takes from each network's metadata how pictures become its input. The
detector has its own, the network of the landmarks comes without. TFLite and its metadata are FlatBuffers: the fields
below are numbered as in their schemas (schema.fbs of TensorFlow Lite, metadata_schema.fbs of MediaPipe; a union takes
two numbers, its type and its value).
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from typing import Any

from streams.errors import CameraError

# The last release whose package carries the networks; any of its wheels has the same two files.
PACKAGE = "mediapipe==0.10.21"
# Where the two networks lie in the package, and their SHA-256.
DETECTOR = "mediapipe/modules/pose_detection/pose_detection.tflite"
LANDMARKS = "mediapipe/modules/pose_landmark/pose_landmark_full.tflite"
SHA256 = {
    DETECTOR: "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
    LANDMARKS: "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
}
_MODEL_NAME = "TFLITE_METADATA"


def make_pose_task(detector: bytes, landmarks: bytes) -> bytes:
    """Return pose_landmarker.task, 9.4 MB, from the content of the files DETECTOR and LANDMARKS.

    The same two files give the same bytes. Raises CameraError: "not_installed", "bad_checksum".
    """
    for name, content in ((DETECTOR, detector), (LANDMARKS, landmarks)):
        digest = hashlib.sha256(content).hexdigest()
        if digest != SHA256[name]:
            raise CameraError(
                f"{name} of {PACKAGE} has the sha256 {digest[:12]}..., expected {SHA256[name][:12]}...",
                code="bad_checksum",
                hint="The file was altered or only half copied: get it again.",
            )
    task = io.BytesIO()
    with zipfile.ZipFile(task, "w", zipfile.ZIP_STORED) as archive:
        # A date would make each file another one.
        archive.writestr(zipfile.ZipInfo("pose_detector.tflite"), detector)
        with_metadata = _with_metadata(landmarks, _image_metadata(mean=0.0, std=255.0))
        archive.writestr(zipfile.ZipInfo("pose_landmarks_detector.tflite"), with_metadata)
    return task.getvalue()


def _builder(num_bytes: int) -> Any:
    try:
        import flatbuffers
    except ImportError as missing:
        raise CameraError(
            f"making the pose model needs a package that is not installed: {missing.name}",
            code="not_installed",
            hint="Install it: pip install 'crossglg-edge[web]'",
        ) from missing
    return flatbuffers.Builder(num_bytes)


def _image_metadata(mean: float, std: float) -> bytes:
    """Return the ModelMetadata that says: the one input is an RGB picture, of pixels that become (p - mean) / std."""
    builder = _builder(1024)

    def floats(value: float) -> int:
        builder.StartVector(4, 1, 4)
        builder.PrependFloat32(value)
        return int(builder.EndVector())

    version = builder.CreateString("1.0.0")
    normalization = _table(builder, 2, offsets={0: floats(mean), 1: floats(std)})
    unit = _table(builder, 2, offsets={1: normalization}, bytes_={0: 1})  # of the union: NormalizationOptions
    image = _table(builder, 2, bytes_={0: 1})  # RGB
    content = _table(builder, 3, offsets={1: image}, bytes_={0: 2})  # of the union: ImageProperties
    tensor = _table(builder, 7, offsets={3: content, 4: _offsets(builder, [unit])})
    subgraph = _table(builder, 5, offsets={2: _offsets(builder, [tensor])})
    builder.Finish(_table(builder, 8, offsets={3: _offsets(builder, [subgraph]), 7: version}), b"M001")
    return bytes(builder.Output())


def _with_metadata(model: bytes, metadata: bytes) -> bytes:
    """Return the TFLite model with metadata: the old file stays whole behind a new head that points into it."""
    from flatbuffers.table import Table

    builder = _builder(len(model) + 64 * 1024)
    builder.Prep(16, len(model))  # the weights inside are aligned to 16 bytes, and stay so
    end = builder.CreateByteVector(model) - 4
    old = Table(model, struct.unpack_from("<I", model)[0])

    def field(number: int) -> int:
        """Return where the old model's table has what a field refers to, 0 where it has no such field."""
        place = old.Offset(4 + 2 * number)
        return old.Indirect(old.Pos + place) if place else 0

    def elements(number: int) -> list[int]:
        place = field(number)
        length = struct.unpack_from("<I", model, place)[0] if place else 0
        return [end - old.Indirect(place + 4 + 4 * item) for item in range(length)]

    name = builder.CreateString(_MODEL_NAME)
    buffer = _table(builder, 1, offsets={0: builder.CreateByteVector(metadata)})
    buffers = elements(4)
    entry = _table(builder, 2, offsets={0: name}, ints={1: len(buffers)})
    offsets = {number: end - field(number) for number in (1, 2, 3, 5, 7) if field(number)}
    offsets |= {4: _offsets(builder, [*buffers, buffer]), 6: _offsets(builder, [*elements(6), entry])}
    version = struct.unpack_from("<I", model, old.Pos + old.Offset(4))[0]
    builder.Finish(_table(builder, 8, offsets=offsets, ints={0: version}), b"TFL3")
    return bytes(builder.Output())


def _table(
    builder: Any,
    num_fields: int,
    *,
    offsets: dict[int, int] | None = None,
    bytes_: dict[int, int] | None = None,
    ints: dict[int, int] | None = None,
) -> int:
    """Add a table, by its fields' numbers: `offsets` of what was added before, or numbers of 8 and 32 bits."""
    builder.StartObject(num_fields)
    for number, offset in (offsets or {}).items():
        builder.PrependUOffsetTRelativeSlot(number, offset, 0)
    for number, value in (ints or {}).items():
        builder.PrependUint32Slot(number, value, 0)
    for number, value in (bytes_ or {}).items():
        builder.PrependUint8Slot(number, value, 0)
    return int(builder.EndObject())


def _offsets(builder: Any, items: list[int]) -> int:
    """Add a vector of what was added before."""
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        builder.PrependUOffsetTRelative(item)
    return int(builder.EndVector())
