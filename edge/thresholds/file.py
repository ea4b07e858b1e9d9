"""The thresholds that a user asked for, in a file beside the gallery: read, replaced as a whole, and undone."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from streams.errors import GalleryError
from streams.files import replace_file

_VERSION = 1
# Changes that can be undone.
_MAX_CHANGES = 50


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


class _Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold what was asked for with a model before a change, None: nothing, and say what the change was."""

    model: str
    change: str
    before: Thresholds | None


class _Changes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`changes`: the oldest first. In a file of its own, so that versions without undo read the thresholds."""

    version: int
    changes: list[_Change]


F = TypeVar("F", _File, _Changes)


def thresholds_path(gallery: Path) -> Path:
    """Return where the thresholds of a gallery are."""
    return gallery.with_name(f"{gallery.name}.thresholds.json")


def read_thresholds(path: Path) -> dict[str, Thresholds]:
    """Return what was asked for by model; nothing where there is no file. Raises GalleryError("bad_thresholds")."""
    file = _read(path, _File)
    return {} if file is None else file.models


def write_thresholds(path: Path, model_sha256: str, thresholds: Thresholds | None, *, change: str) -> None:
    """Replace what was asked for with one model; None: nothing. Raises GalleryError.

    `change` says for people what is changed; `undo_change` takes it back.
    """
    models = read_thresholds(path)
    changes = _read_changes(path)
    changes.append(_Change(model=model_sha256, change=change, before=models.get(model_sha256)))
    # What is remembered and did not come about is undone to no effect; the other way round a change could not be.
    _write(_changes_path(path), _Changes(version=_VERSION, changes=changes[-_MAX_CHANGES:]))
    _write_models(path, models, model_sha256, thresholds)


def undo_change(path: Path, model_sha256: str) -> str:
    """Take back the latest change of one model's thresholds; return what that was. Again: the one before it.

    Raises GalleryError: "nothing_to_undo", "bad_thresholds".
    """
    changes = _read_changes(path)
    last = next((change for change in reversed(changes) if change.model == model_sha256), None)
    if last is None:
        raise GalleryError(
            f"nothing to undo: {_changes_path(path)} holds no change of this model's thresholds",
            code="nothing_to_undo",
            hint="`crossglg-edge threshold reset` goes back to the model's own.",
        )
    _write_models(path, read_thresholds(path), model_sha256, last.before)
    changes.remove(last)
    _write(_changes_path(path), _Changes(version=_VERSION, changes=changes))
    return last.change


def _changes_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.before.json")


def _read_changes(path: Path) -> list[_Change]:
    file = _read(_changes_path(path), _Changes)
    return [] if file is None else file.changes


def _write_models(path: Path, models: dict[str, Thresholds], model_sha256: str, thresholds: Thresholds | None) -> None:
    others = {model: asked for model, asked in models.items() if model != model_sha256}
    if thresholds is not None:
        others[model_sha256] = thresholds
    _write(path, _File(version=_VERSION, models=others))


def _read(path: Path, kind: type[F]) -> F | None:
    try:
        file = msgspec.json.decode(path.read_bytes(), type=kind)
        if file.version != _VERSION:
            raise ValueError(f"version is {file.version}, expected {_VERSION}")
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise GalleryError(
            f"{path} cannot be read as thresholds: {error}",
            code="bad_thresholds",
            hint="Delete it, and run `crossglg-edge threshold calibrate` again.",
        ) from error
    return file


def _write(path: Path, file: _File | _Changes) -> None:
    try:
        replace_file(path, msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")
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
