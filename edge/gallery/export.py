"""The portable file of a gallery: raw examples with their labels, negatives and counter-examples, for any model.

One .npz of three plain arrays: `header` (JSON, what each example is, and labels by words alone), and the frames of
all examples, then of all negatives, then of all counter-examples, one after another, `timestamps_s` (F,) and `joints_m`
(F, 25, 3).

Shapes: L frames of one example, F frames of all, kinect25 joints in "LUF".
"""

from __future__ import annotations

import uuid
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np

from edge.gallery.examples import Described, Example, Negative, Prototype, validate_example, validate_movement
from edge.gallery.labels import validate_label
from streams.errors import GalleryError
from streams.files import replacing
from streams.movement import Movement

# Four hours of examples at 30 fps: a file of a few MB may say that it holds much more.
_MAX_BYTES = 128 * 1024 * 1024
_MEMBERS = {"header.npy", "timestamps_s.npy", "joints_m.npy"}


class _Raw(msgspec.Struct, frozen=True, kw_only=True):
    origin: str
    created: str
    num_frames: Annotated[int, msgspec.Meta(ge=2)]


class _Example(_Raw, frozen=True, kw_only=True):
    label: str
    words: str | None = ""


class _Described(msgspec.Struct, frozen=True, kw_only=True):
    label: str
    description: str
    created: str


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    # 2 has negatives, 3 counter-examples, 4 labels by words alone: what knows only less must not leave them out unsaid.
    export_version: Literal[1, 2, 3, 4]
    layout: Literal["kinect25"]
    axes: Literal["LUF"]
    examples: list[_Example]
    negatives: list[_Raw] = []
    counters: list[_Example] = []
    described: list[_Described] = []


def write_export(
    path: Path,
    examples: Sequence[Example | Prototype],
    negatives: Sequence[Negative] = (),
    counters: Sequence[Example | Prototype] = (),
    described: Sequence[Described] = (),
) -> None:
    """Write what a gallery holds to a file, whole or not at all. Raises GalleryError("export_failed")."""
    header = _Header(
        export_version=4 if described else 3 if counters else 2 if negatives else 1,
        layout="kinect25",
        axes="LUF",
        examples=[_labeled(example) for example in examples],
        negatives=[_Raw(origin=n.origin, created=n.created, num_frames=len(n.movement)) for n in negatives],
        counters=[_labeled(counter) for counter in counters],
        described=[_Described(label=d.label, description=d.description, created=d.created) for d in described],
    )
    movements = [recorded.movement for recorded in (*examples, *negatives, *counters)]
    if not path.name or (path.exists() and not path.is_file()):
        raise GalleryError(
            f"{path} is no file: expected the name of a file to write",
            code="export_failed",
            hint="Name a new file, or one to replace; an export ends in .npz.",
        )
    if path.exists() and not _is_export(path):
        raise GalleryError(
            f"{path} exists and is no export of a gallery: nothing else is replaced",
            code="export_failed",
            hint="Name a new file; an export ends in .npz.",
        )
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                header=np.frombuffer(msgspec.json.encode(header), np.uint8),
                timestamps_s=np.concatenate([np.zeros(0), *(movement.timestamps_s for movement in movements)]),
                joints_m=np.concatenate([np.zeros((0, 25, 3), "<f4"), *(movement.joints_m for movement in movements)]),
            )
    except OSError as error:
        raise GalleryError(
            f"{path} cannot be written: {error.strerror}",
            code="export_failed",
            hint="Name a file in a folder that exists, can be written to and has space.",
        ) from error


def _is_export(path: Path) -> bool:
    """Say whether a file is empty, as one that a full disk left, or of the kind that `write_export` writes."""
    try:
        if path.stat().st_size == 0:
            return True
        with zipfile.ZipFile(path) as file:
            return {*file.namelist()} >= _MEMBERS
    except (OSError, zipfile.BadZipFile):
        return False


def _check_size(path: Path) -> None:
    """Refuse what is no file, or would not fit into memory once it is unpacked. Raises ValueError."""
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")
    with path.open("rb") as content, zipfile.ZipFile(content) as file:
        num_bytes = sum(member.file_size for member in file.infolist())
    if num_bytes > _MAX_BYTES:
        raise ValueError(f"it unpacks to {num_bytes / 1e6:.0f} MB, expected {_MAX_BYTES / 1e6:.0f} MB at most")


def _labeled(example: Example | Prototype) -> _Example:
    about = {"label": example.label, "origin": example.origin, "created": example.created}
    return _Example(**about, num_frames=len(example.movement), words=example.words)


def read_export(path: Path) -> tuple[list[Example], list[Negative], list[Example], list[Described]]:
    """Read an exported file: examples, negatives with new ids, counter-examples, and labels by words alone.

    Raises GalleryError: "not_found", "bad_import".
    """
    try:
        _check_size(path)
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            header = msgspec.json.decode(file["header"].tobytes(), type=_Header)
            times, joints = file["timestamps_s"], file["joints_m"]
        described: list[_Raw] = [*header.examples, *header.negatives, *header.counters]
        ends = np.cumsum([0, *(item.num_frames for item in described)])
        if not ends[-1] == len(times) == len(joints):
            raise ValueError(f"{len(times)} timestamps and {len(joints)} frames, expected {ends[-1]} of both")
        whole = Movement(timestamps_s=times, joints_m=joints)
        labeled, negatives = [], []
        for item, begin, end in zip(described, ends, ends[1:], strict=False):
            movement, about = whole.part(slice(begin, end)), {"origin": item.origin, "created": item.created}
            if isinstance(item, _Example):
                example = Example(label=item.label, movement=movement, words=item.words, **about)
                labeled.append(validate_example(example))
            else:
                negatives.append(Negative(movement=validate_movement(movement), **about))
        num_examples, words = len(header.examples), [_described(each) for each in header.described]
        return labeled[:num_examples], negatives, labeled[num_examples:], words
    except FileNotFoundError as error:
        raise GalleryError(f"{path} does not exist", code="not_found", hint="Check the path.") from error
    # For a damaged file zipfile and numpy raise a dozen kinds, from zlib.error to a tokenizer's.
    except Exception as error:
        raise GalleryError(
            f"{path} cannot be imported: {error}",
            code="bad_import",
            hint="Import a file that `export` wrote, unaltered.",
        ) from error


def _described(item: _Described) -> Described:
    return Described(
        id=str(uuid.uuid4()),
        label=validate_label(item.label),
        description=item.description,
        embedding=np.zeros(0, np.float32),
        duration_s=0.0,
        created=item.created,
    )
