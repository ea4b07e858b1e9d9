"""The thresholds that a user asked for, in a file beside the gallery: read, and replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import msgspec

from streams.errors import GalleryError
from streams.files import replace_file

_VERSION = 1


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say how near a label's matches must be for the user's ordinary movement: where it alarms `num_alarms` times.

    `num_before`: how often it alarms with the threshold that the bundle's rates give.
    """

    distance: float
    num_alarms: int
    num_before: int


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold what was asked for with one model; the thresholds of the labels enrolled at present follow from it.

    `false_alarms_per_hour`: of all labels together; None where only `by_hand` was set. `limits`: of the
    labels that alarm too often in `negative_hours` of the user's ordinary movement, as of `gallery_revision`.
    """

    false_alarms_per_hour: float | None = None
    by_hand: dict[str, float] = {}
    limits: dict[str, Limit] = {}
    negative_hours: float = 0.0
    gallery_revision: int = 0
    created: str = ""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`models`: by the SHA-256 of the model, since distances mean nothing to another."""

    version: int
    models: dict[str, Thresholds]


def thresholds_path(gallery: Path) -> Path:
    """Return where the thresholds of a gallery are."""
    return gallery.with_name(f"{gallery.name}.thresholds.json")


def read_thresholds(path: Path) -> dict[str, Thresholds]:
    """Return what was asked for by model; nothing where there is no file. Raises GalleryError("bad_thresholds")."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
        if file.version != _VERSION:
            raise ValueError(f"version is {file.version}, expected {_VERSION}")
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise GalleryError(
            f"{path} cannot be read as thresholds: {error}",
            code="bad_thresholds",
            hint="Delete it, and run `crossglg-edge threshold calibrate` again.",
        ) from error
    return file.models


def write_thresholds(path: Path, model_sha256: str, thresholds: Thresholds | None) -> None:
    """Replace what was asked for with one model; None: nothing. Raises GalleryError."""
    models = {**read_thresholds(path)}
    models.pop(model_sha256, None)
    if thresholds is not None:
        models[model_sha256] = thresholds
    content = msgspec.json.format(msgspec.json.encode(_File(version=_VERSION, models=models)), indent=1)
    try:
        replace_file(path, content + b"\n")
    except OSError as error:
        raise GalleryError(
            f"{path} cannot be written: {error.strerror}",
            code="bad_thresholds",
            hint="Its folder needs space, and must be one that may be written to.",
        ) from error


def changed_at(path: Path) -> tuple[int, int] | None:
    """Return what is another whenever the file is replaced; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino
