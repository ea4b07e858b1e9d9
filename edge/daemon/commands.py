"""The commands of the control socket. Those on the gallery also run without a daemon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from edge.enroll import (
    TrimmedExample,
    commit_draft,
    draft_example,
    example_from_capture,
    store_negatives,
    validate_pieces,
)
from edge.gallery import Negative, Prototype
from edge.library import Library, created_now
from edge.match import Prototypes, separability
from edge.motion import moved_most
from edge.protocol import (
    EnrollClip,
    EnrollNegative,
    EnrollUndo,
    GalleryExport,
    GalleryGet,
    GalleryHistory,
    GalleryImport,
    GalleryList,
    GalleryRemove,
    GalleryRename,
    GalleryRevert,
    GalleryUndo,
    GalleryVacuum,
    Mode,
    ModelInfoGet,
    Request,
    Side,
    ThresholdCalibrate,
    ThresholdGet,
    ThresholdReset,
    ThresholdSet,
    answer_from,
    arguments,
    command_of,
    request_from,
)
from edge.thresholds import report as calibrating
from streams.errors import ControlError, EnrollError
from streams.movement import Movement
from streams.wire import MAX_COORDINATE_M

A = TypeVar("A")


def commit_example(
    library: Library,
    label: str,
    example: TrimmedExample,
    *,
    origin: str,
    mode: Mode,
    side: Side | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Store an example; return what was stored and which label is most like it.

    Raises EnrollError("too_similar"), GalleryError.
    """
    gallery, info, created = library.gallery, library.encoder.info, created_now()
    draft = draft_example(gallery, info, label, example, origin=origin, created=created, mode=mode, side=side)
    return commit_draft(gallery, info, draft, created=created, force=force)


def _describe(example: Prototype | Negative) -> dict[str, Any]:
    return {
        "id": example.id,
        "duration_s": round(example.movement.duration_s, 3),
        "frames": len(example.movement),
        "joints": round(example.movement.joints_seen, 3),
        "origin": example.origin,
        "created": example.created,
    }


def _list(library: Library, args: GalleryList) -> dict[str, Any]:
    gallery = library.gallery
    labels = [
        {"label": label, "examples": [_describe(p) for p in gallery.prototypes if p.label == label]}
        for label in gallery.labels()
    ]
    negatives = [_describe(negative) for negative in gallery.negatives]
    return {"gallery_revision": gallery.revision, "labels": labels, "negatives": negatives}


def _get(library: Library, args: GalleryGet) -> dict[str, Any]:
    gallery, info = library.gallery, library.encoder.info
    labels = gallery.labels()
    if args.label is not None:
        labels = tuple(label for label in labels if label == gallery.check_label(args.label or "", mode="add"))
        if not labels:
            raise ControlError(
                f"no label {args.label!r} in the gallery: it has {', '.join(gallery.labels()) or 'none yet'}",
                code="unknown_label",
            )
    compared = Prototypes([prototype.embedding for prototype in gallery.prototypes], info)
    found = []
    for label in labels:
        examples = [
            {
                **_describe(prototype),
                "moved": [joint for joint, _ in moved_most(prototype.movement)],
            }
            for prototype in gallery.prototypes
            if prototype.label == label
        ]
        found.append({"label": label, "examples": examples, **separability(label, gallery.prototypes, compared, info)})
    return {"gallery_revision": gallery.revision, "labels": found} if args.label is None else found[0]


def _rename(library: Library, args: GalleryRename) -> dict[str, Any]:
    label = library.gallery.rename(args.old, args.new, created=created_now(), expected_revision=args.expected_revision)
    return {"label": label, "gallery_revision": library.gallery.revision}


def _remove(library: Library, args: GalleryRemove) -> dict[str, Any]:
    gallery, created, expected = library.gallery, created_now(), args.expected_revision
    if (args.label is None) == (args.id is None):
        raise ControlError("gallery.remove: expected either a label or an id", code="bad_args")
    if args.id is not None:
        id = gallery.remove_example(args.id, created=created, expected_revision=expected)
        return {"id": id, "gallery_revision": gallery.revision}
    label = gallery.check_label(args.label or "", mode="add")
    gallery.remove(label, created=created, expected_revision=expected)
    return {"label": label, "gallery_revision": gallery.revision}


def _undo(library: Library, args: GalleryUndo | EnrollUndo) -> dict[str, Any]:
    undone = library.gallery.undo(created=created_now(), expected_revision=args.expected_revision)
    return {"undone": undone, "gallery_revision": library.gallery.revision}


def _revert(library: Library, args: GalleryRevert) -> dict[str, Any]:
    library.gallery.revert(args.revision, created=created_now(), expected_revision=args.expected_revision)
    return {"labels": list(library.gallery.labels()), "gallery_revision": library.gallery.revision}


def _vacuum(library: Library, args: GalleryVacuum) -> dict[str, Any]:
    return {"deleted": library.gallery.vacuum(args.keep_revisions)}


def _history(library: Library, args: GalleryHistory) -> dict[str, Any]:
    return {"history": [msgspec.to_builtins(revision) for revision in library.gallery.history(args.limit)]}


def _export(library: Library, args: GalleryExport) -> dict[str, Any]:
    num_examples = library.gallery.export(Path(args.path), args.labels)
    num_negatives = len(library.gallery.negatives) if args.labels is None else 0
    return {"path": args.path, "examples": num_examples, "negatives": num_negatives}


def _import(library: Library, args: GalleryImport) -> dict[str, Any]:
    labels = library.gallery.import_(Path(args.path), mode=args.mode, created=created_now())
    negatives = len(library.gallery.negatives)
    return {"labels": list(labels), "negatives": negatives, "gallery_revision": library.gallery.revision}


def _movement(timestamps: bytes, joints: bytes) -> Movement:
    """Return the movement that a request carries. Raises EnrollError."""
    num_frames = len(timestamps) // 8
    if len(timestamps) % 8 or len(joints) != num_frames * 25 * 3 * 4:
        raise EnrollError(
            f"{len(timestamps)} bytes of timestamps and {len(joints)} of joints: expected 8 and 300 bytes a frame",
            code="bad_shape",
        )
    timestamps_s = np.frombuffer(timestamps, "<f8")
    joints_LV3 = np.frombuffer(joints, "<f4").reshape(num_frames, 25, 3)
    if (np.abs(joints_LV3) > MAX_COORDINATE_M).any():
        raise EnrollError(
            f"a joint is {float(np.nanmax(np.abs(joints_LV3))):.0f} m away: expected at most {MAX_COORDINATE_M:.0f}",
            code="not_metres",
            hint="Give meters (millimeters / 1000), NaN for a missing joint.",
        )
    if not (np.isfinite(timestamps_s).all() and (np.diff(timestamps_s) > 0).all()):
        raise EnrollError("the timestamps do not rise: expected finite, rising seconds", code="bad_timestamp")
    return Movement(timestamps_s=timestamps_s, joints_m=joints_LV3)


def _enroll_clip(library: Library, args: EnrollClip) -> dict[str, Any]:
    example = example_from_capture(_movement(args.timestamps_s, args.joints_m), library.config, trim=args.trim)
    return commit_example(
        library, args.label, example, origin=args.origin, mode=args.mode, side=args.side, force=args.force
    )


def _enroll_negative(library: Library, args: EnrollNegative) -> dict[str, Any]:
    pieces = [_movement(piece.timestamps_s, piece.joints_m) for piece in args.pieces]
    kept = validate_pieces(pieces, library.config)
    return store_negatives(library.gallery, kept, origin=args.origin, created=created_now())


def threshold_get(library: Library, args: ThresholdGet) -> dict[str, Any]:
    return calibrating.describe_thresholds(library.gallery, library.encoder.info, library.config)


def threshold_set(library: Library, args: ThresholdSet) -> dict[str, Any]:
    gallery, info = library.gallery, library.encoder.info
    calibrating.set_by_hand(gallery, info, args.label, args.distance, created_now(), force=args.force)
    return threshold_get(library, ThresholdGet())


def threshold_reset(library: Library, args: ThresholdReset) -> dict[str, Any]:
    """One label's that was set by hand, or everything."""
    calibrating.reset(library.gallery, library.encoder.info, args.label, created_now())
    return threshold_get(library, ThresholdGet())


def calibration(library: Library, args: ThresholdCalibrate) -> calibrating.Job:
    """Return the work that `threshold.calibrate` is. Raises BundleError."""
    per_hour = args.false_alarms_per_hour
    return calibrating.plan_calibration(library.gallery, library.encoder, library.config, per_hour, created_now())


def _threshold_calibrate(library: Library, args: ThresholdCalibrate) -> dict[str, Any]:
    calibration(library, args)(lambda: False)
    return threshold_get(library, ThresholdGet())


def _model_info(library: Library, args: ModelInfoGet) -> dict[str, Any]:
    return {**msgspec.to_builtins(library.encoder.info), "engine": library.encoder.report()}


Handlers = dict[str, Callable[[Any, Any], dict[str, Any]]]

LIBRARY_COMMANDS: Handlers = {
    "gallery.list": _list,
    "gallery.get": _get,
    "gallery.rename": _rename,
    "gallery.remove": _remove,
    "gallery.undo": _undo,
    "gallery.revert": _revert,
    "gallery.vacuum": _vacuum,
    "gallery.history": _history,
    "gallery.export": _export,
    "gallery.import": _import,
    "enroll.undo": _undo,
    "enroll.clip": _enroll_clip,
    "enroll.negative": _enroll_negative,
    "threshold.get": threshold_get,
    "threshold.set": threshold_set,
    "threshold.reset": threshold_reset,
    "threshold.calibrate": _threshold_calibrate,
    "model.info": _model_info,
}


def call(handlers: Handlers, context: object, cmd: str, args: dict[str, Any]) -> dict[str, Any]:
    """Check a command's arguments and carry it out. Raises CrossGLGError."""
    request = request_from(cmd, args, has_daemon=handlers is not LIBRARY_COMMANDS)
    return handlers[cmd](context, request)


def carry_out(library: Library, request: Request[A]) -> A:
    """Carry a command out on the library alone, without a daemon. Raises CrossGLGError."""
    return answer_from(request, call(LIBRARY_COMMANDS, library, command_of(request).name, arguments(request)))
