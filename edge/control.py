"""The commands of the control socket. Those on the gallery also run without a daemon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from edge.config import Config
from edge.encoder import Encoder, OnnxEncoder
from edge.enrollment import Example, example_from_capture
from edge.gallery import Gallery, Mode, Prototype
from edge.normalize import window_from_joints
from edge.recognizer import PrototypeIndex, score_from_distance
from streams.errors import ConfigError, ControlError, EnrollError
from streams.wire import MAX_COORDINATE_M

VERSION = version("crossglg-edge")


class Args(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold a command's arguments; unknown ones are refused."""


# The operating system takes no zero byte in a name.
FilePath = Annotated[str, msgspec.Meta(min_length=1, pattern=r"^[^\0]*$")]


class NoArgs(Args, frozen=True):
    pass


class LabelArgs(Args, frozen=True):
    label: str
    expected_revision: int | None = None


class RenameArgs(Args, frozen=True):
    old: str
    new: str
    expected_revision: int | None = None


class RevisionArgs(Args, frozen=True):
    expected_revision: int | None = None


class RevertArgs(Args, frozen=True):
    revision: int
    expected_revision: int | None = None


class VacuumArgs(Args, frozen=True):
    keep_revisions: Annotated[int, msgspec.Meta(ge=0)]


class ExportArgs(Args, frozen=True):
    path: FilePath
    labels: list[str] | None = None


class ImportArgs(Args, frozen=True):
    path: FilePath
    mode: Mode = "new"


class HistoryArgs(Args, frozen=True):
    limit: int = 20


class ClipArgs(Args, frozen=True):
    """An example as float64 seconds (L,) and float32 kinect25 metres (L, 25, 3), little-endian bytes."""

    label: str
    timestamps_s: bytes
    joints_m: bytes
    origin: str
    mode: Mode = "new"
    trim: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """Hold what commands on prototypes need, with a daemon or without."""

    config: Config
    encoder: Encoder
    gallery: Gallery


def open_library(config: Config) -> Library:
    """Load the encoder and open the gallery that the config names. Raises BundleError, ConfigError, GalleryError."""
    bundle = Path(config.model.bundle).expanduser() if config.model.bundle else None
    encoder = OnnxEncoder(bundle, num_threads=config.model.num_threads)
    num_frames = encoder.info.num_frames
    if config.model.matching == "calibrated" and encoder.statistics is None:
        raise ConfigError(
            f'matching = "calibrated" needs a model bundle with base statistics, {encoder.info.name!r} has none',
            hint='`crossglg-edge export` writes them; matching = "cosine" needs none.',
        )

    def embed(examples: Any) -> Any:
        windows = [window_from_joints(times, joints, num_frames) for times, joints in examples]
        return encoder.encode(np.stack(windows)) if windows else np.zeros((0, encoder.info.embedding_size))

    path = Path(config.gallery.path).expanduser()
    gallery = Gallery(path, embed=embed, model_sha256=encoder.info.onnx_sha256)
    return Library(config=config, encoder=encoder, gallery=gallery)


def created_now() -> str:
    """Return the present moment, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def commit_example(library: Library, label: str, example: Example, *, origin: str, mode: Mode) -> dict[str, Any]:
    """Store an example as a prototype; return what was stored and which label is most like it."""
    known = library.gallery.check_label(label, mode="add")
    others = PrototypeIndex([p for p in library.gallery.prototypes if p.label != known], library.encoder.info)
    prototype = library.gallery.add(
        label, example.timestamps_s, example.joints_m, origin=origin, created=created_now(), mode=mode
    )
    result = {
        "id": prototype.id,
        "label": prototype.label,
        "gallery_revision": library.gallery.revision,
        **example.report(),
        "similar": None,
    }
    if len(others):
        comparable = np.ones((1, len(others)), bool)
        distances, _ = others.distances(prototype.embedding[None], comparable)
        score = score_from_distance(float(distances.min()), library.encoder.info.calibration)
        if score >= library.config.events.min_score:
            result["similar"] = {"label": others.labels[int(distances.argmin())], "score": round(score, 3)}
    return result


def _describe(prototype: Prototype) -> dict[str, Any]:
    return {
        "id": prototype.id,
        "duration_s": round(prototype.duration_s, 3),
        "frames": len(prototype.timestamps_s),
        "joints": round(float(np.isfinite(prototype.joints_m[:, :, 0]).mean()), 3),
        "origin": prototype.origin,
        "created": prototype.created,
    }


def _list(library: Library, args: NoArgs) -> dict[str, Any]:
    gallery = library.gallery
    labels = [
        {"label": label, "examples": [_describe(p) for p in gallery.prototypes if p.label == label]}
        for label in gallery.labels()
    ]
    return {"gallery_revision": gallery.revision, "labels": labels}


def _get(library: Library, args: LabelArgs) -> dict[str, Any]:
    wanted = library.gallery.check_label(args.label, mode="add")
    found = [p for p in library.gallery.prototypes if p.label == wanted]
    if not found:
        raise ControlError(
            f"no label {args.label!r} in the gallery: it has {', '.join(library.gallery.labels()) or 'none yet'}",
            code="unknown_label",
        )
    distances = _distances_to_other_labels(library, found)
    return {"label": found[0].label, "examples": [_describe(p) for p in found], "nearest": distances}


def _distances_to_other_labels(library: Library, found: list[Prototype]) -> list[dict[str, Any]]:
    others = PrototypeIndex([p for p in library.gallery.prototypes if p.label != found[0].label], library.encoder.info)
    if not len(others):
        return []
    embeddings = np.array([p.embedding for p in found], np.float32)
    distances, _ = others.distances(embeddings, np.ones((len(found), len(others)), bool))
    return [
        {
            "label": others.labels[i],
            "distance": round(float(distances[i]), 4),
            "score": round(score_from_distance(float(distances[i]), library.encoder.info.calibration), 3),
        }
        for i in np.argsort(distances)[:5]
        if np.isfinite(distances[i])
    ]


def _rename(library: Library, args: RenameArgs) -> dict[str, Any]:
    label = library.gallery.rename(args.old, args.new, created=created_now(), expected_revision=args.expected_revision)
    return {"label": label, "gallery_revision": library.gallery.revision}


def _remove(library: Library, args: LabelArgs) -> dict[str, Any]:
    label = library.gallery.check_label(args.label, mode="add")
    library.gallery.remove(label, created=created_now(), expected_revision=args.expected_revision)
    return {"label": label, "gallery_revision": library.gallery.revision}


def _undo(library: Library, args: RevisionArgs) -> dict[str, Any]:
    undone = library.gallery.undo(created=created_now(), expected_revision=args.expected_revision)
    return {"undone": undone, "gallery_revision": library.gallery.revision}


def _revert(library: Library, args: RevertArgs) -> dict[str, Any]:
    library.gallery.revert(args.revision, created=created_now(), expected_revision=args.expected_revision)
    return {"labels": list(library.gallery.labels()), "gallery_revision": library.gallery.revision}


def _vacuum(library: Library, args: VacuumArgs) -> dict[str, Any]:
    return {"deleted": library.gallery.vacuum(args.keep_revisions)}


def _history(library: Library, args: HistoryArgs) -> dict[str, Any]:
    return {"history": [msgspec.to_builtins(revision) for revision in library.gallery.history(args.limit)]}


def _export(library: Library, args: ExportArgs) -> dict[str, Any]:
    return {"path": args.path, "examples": library.gallery.export(Path(args.path), args.labels)}


def _import(library: Library, args: ImportArgs) -> dict[str, Any]:
    labels = library.gallery.import_(Path(args.path), mode=args.mode, created=created_now())
    return {"labels": list(labels), "gallery_revision": library.gallery.revision}


def _enroll_clip(library: Library, args: ClipArgs) -> dict[str, Any]:
    num_frames = len(args.timestamps_s) // 8
    if len(args.timestamps_s) % 8 or len(args.joints_m) != num_frames * 25 * 3 * 4:
        raise EnrollError(
            f"{len(args.timestamps_s)} bytes of timestamps and {len(args.joints_m)} of joints: "
            "expected 8 and 300 bytes a frame",
            code="bad_shape",
        )
    timestamps_s = np.frombuffer(args.timestamps_s, "<f8")
    joints_LV3 = np.frombuffer(args.joints_m, "<f4").reshape(num_frames, 25, 3)
    if (np.abs(joints_LV3) > MAX_COORDINATE_M).any():
        raise EnrollError(
            f"a joint is {float(np.nanmax(np.abs(joints_LV3))):.0f} m away: expected at most {MAX_COORDINATE_M:.0f}",
            code="not_metres",
            hint="Give metres (millimetres / 1000), NaN for a missing joint.",
        )
    if not (np.isfinite(timestamps_s).all() and (np.diff(timestamps_s) > 0).all()):
        raise EnrollError("the timestamps do not rise: expected finite, rising seconds", code="bad_timestamp")
    example = example_from_capture(timestamps_s, joints_LV3, library.config, trim=args.trim)
    return commit_example(library, args.label, example, origin=args.origin, mode=args.mode)


def _model_info(library: Library, args: NoArgs) -> dict[str, Any]:
    return dict(msgspec.to_builtins(library.encoder.info))


Command = tuple[type[Args], Callable[[Any, Any], dict[str, Any]]]

LIBRARY_COMMANDS: dict[str, Command] = {
    "gallery.list": (NoArgs, _list),
    "gallery.get": (LabelArgs, _get),
    "gallery.rename": (RenameArgs, _rename),
    "gallery.remove": (LabelArgs, _remove),
    "gallery.undo": (RevisionArgs, _undo),
    "gallery.revert": (RevertArgs, _revert),
    "gallery.vacuum": (VacuumArgs, _vacuum),
    "gallery.history": (HistoryArgs, _history),
    "gallery.export": (ExportArgs, _export),
    "gallery.import": (ImportArgs, _import),
    "enroll.undo": (RevisionArgs, _undo),
    "enroll.clip": (ClipArgs, _enroll_clip),
    "model.info": (NoArgs, _model_info),
}


def call(commands: dict[str, Command], context: object, cmd: str, args: dict[str, Any]) -> dict[str, Any]:
    """Check a command's arguments and carry it out. Raises CrossGLGError."""
    if cmd not in commands:
        raise ControlError(
            f"command {cmd!r} is not known: expected one of {', '.join(sorted(commands))}",
            code="unknown_command",
        )
    kind, function = commands[cmd]
    try:
        checked = msgspec.convert(args, kind)
    except msgspec.ValidationError as error:
        raise ControlError(f"{cmd}: {error}", code="bad_args") from error
    return function(context, checked)
