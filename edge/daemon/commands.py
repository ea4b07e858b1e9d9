"""What carries out each command of edge.protocol: on the library alone, or in a daemon that has one.

Every handler takes what serves it and the request, and returns the answer of that command's type.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import msgspec

from edge import protocol
from edge.config import Config, read_config
from edge.daemon.background import Calibrating
from edge.daemon.recorder import Recorder
from edge.enroll import (
    Enrolling,
    TrimmedExample,
    commit_draft,
    draft_example,
    enroll_words,
    example_from_capture,
    movement_from_bytes,
    movement_to_bytes,
    store_negatives,
    validate_pieces,
)
from edge.gallery import Described, Gallery, Negative, Prototype, label_key
from edge.library import Library, created_now
from edge.match import Prototypes, separability, separability_of_words
from edge.motion import moved_most
from edge.protocol import Mode, Request, Side
from edge.review import answer_clip, answers_to, clear_ring, most_useful, read_clip, read_clips, ring_path, undo_answer
from edge.thresholds import report
from streams.cameras import Camera, clock_name
from streams.errors import ConfigError, ControlError, RecordingError
from streams.messages import WIRE_VERSION

A = TypeVar("A")


# A request for an end of a recording takes no longer of the loop's time.
_STOP_S = 0.3


class Desk(Protocol):
    """What every handler works with."""

    @property
    def library(self) -> Library: ...
    @property
    def calibrating(self) -> Calibrating: ...


class DaemonDesk(Desk, Protocol):
    """What only a daemon has."""

    recorder: Recorder | None

    @property
    def camera(self) -> Camera: ...
    @property
    def config_path(self) -> Path | None: ...
    @property
    def enrolling(self) -> Enrolling: ...

    def status(self) -> protocol.StatusAnswer: ...
    def reconfigure(self, config: Config) -> None: ...
    def tell_enrolled(self) -> None: ...
    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _LibraryDesk:
    library: Library
    calibrating: Calibrating


# On the library, with a daemon or without: the gallery.


def commit_example(
    library: Library,
    label: str,
    example: TrimmedExample,
    *,
    origin: str,
    mode: Mode,
    side: Side | None = None,
    words: str | None = "",
    force: bool = False,
) -> protocol.StoredExample:
    """Store an example; return what was stored and which label is most like it.

    Raises EnrollError("too_similar"), GalleryError.
    """
    gallery, info, created = library.gallery, library.encoder.info, created_now()
    draft = draft_example(
        gallery, info, label, example, origin=origin, created=created, mode=mode, side=side, words=words
    )
    return commit_draft(gallery, info, draft, created=created, force=force)


def _about(example: Prototype | Negative) -> dict[str, Any]:
    return {
        "id": example.id,
        "duration_s": round(example.movement.duration_s, 3),
        "frames": len(example.movement),
        "joints": round(example.movement.joints_seen, 3),
        "origin": example.origin,
        "created": example.created,
    }


def _list(desk: Desk, request: protocol.GalleryList) -> protocol.GalleryListAnswer:
    gallery = desk.library.gallery
    labels = [
        protocol.LabelExamples(
            label=label,
            examples=tuple(
                protocol.ExampleAbout(**_about(p), words=gallery.words_of(p))
                for p in gallery.prototypes
                if p.label == label
            ),
            by_words=_by_words(gallery, label),
        )
        for label in gallery.labels()
    ]
    negatives = tuple(protocol.ExampleAbout(**_about(negative)) for negative in gallery.negatives)
    return protocol.GalleryListAnswer(gallery_revision=gallery.revision, labels=tuple(labels), negatives=negatives)


def _by_words(gallery: Gallery, label: str) -> protocol.LabelByWords | None:
    return next((_about_words(words) for words in gallery.described if words.label == label), None)


def _about_words(words: Described) -> protocol.LabelByWords:
    return protocol.LabelByWords(
        id=words.id,
        description=words.description,
        in_use=len(words.embedding) > 0,
        duration_s=round(words.duration_s, 1),
        created=words.created,
    )


def _get(desk: Desk, request: protocol.GalleryGet) -> protocol.LabelDetails | protocol.GalleryGetAnswer:
    library, gallery = desk.library, desk.library.gallery
    compared = Prototypes([prototype.embedding for prototype in gallery.prototypes], library.encoder.info)
    if request.label is None:
        labels = tuple(_label_details(library, label, compared) for label in gallery.labels())
        return protocol.GalleryGetAnswer(gallery_revision=gallery.revision, labels=labels)
    label = gallery.check_label(request.label, mode="add")
    if label not in gallery.labels():
        raise ControlError(
            f"no label {request.label!r} in the gallery: it has {', '.join(gallery.labels()) or 'none yet'}",
            code="unknown_label",
        )
    return _label_details(library, label, compared)


def _label_details(library: Library, label: str, compared: Prototypes) -> protocol.LabelDetails:
    prototypes, info = library.gallery.prototypes, library.encoder.info
    by_words = next((words for words in library.gallery.described if words.label == label), None)
    if by_words is not None:
        found = separability_of_words(by_words, prototypes, compared, info.score_curve)
    else:
        found = separability(label, prototypes, compared, info)
    examples = []
    for prototype in prototypes:
        if prototype.label == label:
            moved = tuple(joint for joint, _ in moved_most(prototype.movement))
            words = library.gallery.words_of(prototype)
            examples.append(protocol.ExampleDetails(**_about(prototype), moved=moved, words=words))
    return protocol.LabelDetails(
        label=label,
        examples=tuple(examples),
        counters=tuple(protocol.ExampleAbout(**_about(c)) for c in library.gallery.counters if c.label == label),
        apart=found.apart,
        margin=found.margin,
        confused_with=found.confused_with,
        nearest=found.nearest,
        by_words=_by_words(library.gallery, label),
    )


def _movement(desk: Desk, request: protocol.GalleryMovement) -> protocol.PlayedMovement:
    return movement_to_bytes(desk.library.gallery.movement(request.id))


def _rename(desk: Desk, request: protocol.GalleryRename) -> protocol.RenameAnswer:
    gallery = desk.library.gallery
    label = gallery.rename(request.old, request.new, created=created_now(), expected_revision=request.expected_revision)
    return protocol.RenameAnswer(label=label, gallery_revision=gallery.revision)


def _remove(desk: Desk, request: protocol.GalleryRemove) -> protocol.RemovedLabel | protocol.RemovedExample:
    gallery, created, expected = desk.library.gallery, created_now(), request.expected_revision
    if (request.label is None) == (request.id is None):
        raise ControlError("gallery.remove: expected either a label or an id", code="bad_args")
    if request.id is not None:
        id = gallery.remove_example(request.id, created=created, expected_revision=expected)
        return protocol.RemovedExample(id=id, gallery_revision=gallery.revision)
    label = gallery.check_label(request.label or "", mode="add")
    gallery.remove(label, created=created, expected_revision=expected)
    return protocol.RemovedLabel(label=label, gallery_revision=gallery.revision)


def _undo(desk: Desk, request: protocol.GalleryUndo | protocol.EnrollUndo) -> protocol.UndoAnswer:
    gallery = desk.library.gallery
    undone = gallery.undo(created=created_now(), expected_revision=request.expected_revision)
    return protocol.UndoAnswer(undone=undone, gallery_revision=gallery.revision)


def _revert(desk: Desk, request: protocol.GalleryRevert) -> protocol.RevertAnswer:
    gallery = desk.library.gallery
    gallery.revert(request.revision, created=created_now(), expected_revision=request.expected_revision)
    return protocol.RevertAnswer(labels=gallery.labels(), gallery_revision=gallery.revision)


def _vacuum(desk: Desk, request: protocol.GalleryVacuum) -> protocol.VacuumAnswer:
    return protocol.VacuumAnswer(deleted=desk.library.gallery.vacuum(request.keep_revisions))


def _history(desk: Desk, request: protocol.GalleryHistory) -> protocol.HistoryAnswer:
    changes = [protocol.Change(**asdict(change)) for change in desk.library.gallery.history(request.limit)]
    return protocol.HistoryAnswer(history=tuple(changes))


def _export(desk: Desk, request: protocol.GalleryExport) -> protocol.ExportAnswer:
    gallery = desk.library.gallery
    num_examples = gallery.export(Path(request.path), request.labels)
    num_negatives = len(gallery.negatives) if request.labels is None else 0
    return protocol.ExportAnswer(path=request.path, examples=num_examples, negatives=num_negatives)


def _import(desk: Desk, request: protocol.GalleryImport) -> protocol.ImportAnswer:
    gallery = desk.library.gallery
    labels = gallery.import_(Path(request.path), mode=request.mode, created=created_now())
    return protocol.ImportAnswer(
        labels=tuple(labels), negatives=len(gallery.negatives), gallery_revision=gallery.revision
    )


# On the library: clips, thresholds, the model.


def _enroll_clip(desk: Desk, request: protocol.EnrollClip) -> protocol.StoredExample:
    movement = movement_from_bytes(request.timestamps_s, request.joints_m)
    return commit_example(
        desk.library,
        request.label,
        example_from_capture(movement, desk.library.config, trim=request.trim),
        origin=request.origin,
        mode=request.mode,
        side=request.side,
        words=request.description if request.words else None,
        force=request.force,
    )


def _enroll_words(desk: Desk, request: protocol.EnrollWords) -> protocol.StoredWords:
    stored = enroll_words(desk.library, request)
    return protocol.StoredWords(
        label=stored.label, by_words=_about_words(stored), gallery_revision=desk.library.gallery.revision
    )


def _enroll_negative(desk: Desk, request: protocol.EnrollNegative) -> protocol.StoredNegatives:
    pieces = [movement_from_bytes(piece.timestamps_s, piece.joints_m) for piece in request.pieces]
    kept = validate_pieces(pieces, desk.library.config)
    return store_negatives(desk.library.gallery, kept, origin=request.origin, created=created_now())


def _review_list(desk: Desk, request: protocol.ReviewList) -> protocol.ReviewListAnswer:
    gallery = desk.library.gallery
    clips, answered = read_clips(ring_path(gallery.path)), answers_to(gallery)
    chosen = [clip for clip in clips if request.label is None or label_key(clip.label) == label_key(request.label)]
    if request.useful:
        chosen = most_useful([clip for clip in chosen if clip.id not in answered])
    entries = [
        protocol.ReviewEntry(**msgspec.structs.asdict(clip), answer=answered.get(clip.id, ""))
        for clip in chosen[: request.limit]
    ]
    return protocol.ReviewListAnswer(clips=tuple(entries), total=len(clips))


def _review_movement(desk: Desk, request: protocol.ReviewMovement) -> protocol.PlayedMovement:
    _, movement = read_clip(ring_path(desk.library.gallery.path), request.id)
    return movement_to_bytes(movement)


def _review_answer(desk: Desk, request: protocol.ReviewAnswer) -> protocol.ReviewAnswered:
    library = desk.library
    clip, movement = read_clip(ring_path(library.gallery.path), request.id)
    return answer_clip(
        library.gallery,
        library.encoder.info,
        library.config,
        clip,
        movement,
        request.answer,
        created=created_now(),
        label=request.label,
    )


def _review_undo(desk: Desk, request: protocol.ReviewUndo) -> protocol.ReviewUndone:
    return undo_answer(desk.library.gallery, request.id, created=created_now())


def _review_clear(desk: Desk, request: protocol.ReviewClear) -> protocol.ReviewCleared:
    return protocol.ReviewCleared(deleted=clear_ring(ring_path(desk.library.gallery.path)))


def _threshold_get(desk: Desk, request: protocol.ThresholdGet) -> protocol.ThresholdAnswer:
    return _thresholds(desk)


def _thresholds(desk: Desk) -> protocol.ThresholdAnswer:
    library = desk.library
    return report.describe_thresholds(
        library.gallery, library.encoder.info, library.config, state=desk.calibrating.state
    )


def _threshold_preview(desk: Desk, request: protocol.ThresholdPreview) -> protocol.ThresholdPreviewAnswer:
    library, wishes = desk.library, request.false_alarms_per_hour
    return report.preview_thresholds(library.gallery, library.encoder.info, library.config, wishes)


def _threshold_set(desk: Desk, request: protocol.ThresholdSet) -> protocol.ThresholdAnswer:
    desk.calibrating.check_idle()
    gallery, info = desk.library.gallery, desk.library.encoder.info
    report.set_by_hand(gallery, info, request.label, request.distance, created_now(), force=request.force)
    return _thresholds(desk)


def _threshold_reset(desk: Desk, request: protocol.ThresholdReset) -> protocol.ThresholdAnswer:
    desk.calibrating.check_idle()
    report.reset(desk.library.gallery, desk.library.encoder.info, request.label, created_now())
    return _thresholds(desk)


def _threshold_undo(desk: Desk, request: protocol.ThresholdUndo) -> protocol.ThresholdAnswer:
    desk.calibrating.check_idle()
    undone = report.undo(desk.library.gallery, desk.library.encoder.info)
    answer = _thresholds(desk)
    return msgspec.structs.replace(answer, notes=(f"undone: {undone}", *answer.notes))


def _threshold_calibrate(desk: Desk, request: protocol.ThresholdCalibrate) -> protocol.ThresholdAnswer:
    library, per_hour = desk.library, request.false_alarms_per_hour
    desk.calibrating.begin(
        report.plan_calibration(library.gallery, library.encoder, library.config, per_hour, created_now())
    )
    return _thresholds(desk)


def _model_info(desk: Desk, request: protocol.ModelInfoGet) -> protocol.ModelInfo:
    encoder = desk.library.encoder
    about = {**msgspec.to_builtins(encoder.info), "engine": encoder.report()}
    return msgspec.convert(about, protocol.ModelInfo)


# In a daemon only.


def _ping(daemon: DaemonDesk, request: protocol.Ping) -> protocol.ProcessAnswer:
    return protocol.ProcessAnswer(pid=os.getpid())


def _shutdown(daemon: DaemonDesk, request: protocol.Shutdown) -> protocol.ProcessAnswer:
    daemon.stop()
    return protocol.ProcessAnswer(pid=os.getpid())


def _version(daemon: DaemonDesk, request: protocol.Version) -> protocol.VersionAnswer:
    return protocol.VersionAnswer(version=protocol.VERSION, wire=WIRE_VERSION)


def _status(daemon: DaemonDesk, request: protocol.Status) -> protocol.StatusAnswer:
    return daemon.status()


def _time(daemon: DaemonDesk, request: protocol.Time) -> protocol.TimeAnswer:
    now_s = time.monotonic()
    return protocol.TimeAnswer(t0=request.t0, t1=now_s, t2=time.monotonic(), clock=clock_name())


def _enroll_start(daemon: DaemonDesk, request: protocol.EnrollStart) -> protocol.EnrollStartAnswer:
    return daemon.enrolling.start(request, daemon.library, daemon.camera, time.monotonic())


def _enroll_status(daemon: DaemonDesk, request: protocol.EnrollStatus) -> protocol.EnrollState:
    return daemon.enrolling.status(time.monotonic())


def _enroll_movement(daemon: DaemonDesk, request: protocol.EnrollMovement) -> protocol.PlayedMovement:
    return daemon.enrolling.movement(request.id)


def _enroll_trim(daemon: DaemonDesk, request: protocol.EnrollTrim) -> protocol.Preview:
    return daemon.enrolling.trim(request, daemon.library, time.monotonic())


def _enroll_commit(daemon: DaemonDesk, request: protocol.EnrollCommit) -> protocol.StoredExample:
    stored = daemon.enrolling.commit(daemon.library, force=request.force, id=request.id)
    daemon.tell_enrolled()
    return stored


def _enroll_cancel(daemon: DaemonDesk, request: protocol.EnrollCancel) -> protocol.CancelAnswer:
    return daemon.enrolling.cancel(request.id)


def _config_get(daemon: DaemonDesk, request: protocol.ConfigGet) -> Config:
    return daemon.library.config


def _config_reload(daemon: DaemonDesk, request: protocol.ConfigReload) -> Config:
    old, new = daemon.library.config, read_config(daemon.config_path)
    fixed = [key for key in ("sockets", "model", "gallery", "words") if getattr(old, key) != getattr(new, key)]
    if fixed:
        raise ConfigError(
            f"[{'], ['.join(fixed)}] changed: they are read only at the start", hint="Restart the daemon."
        )
    daemon.reconfigure(msgspec.structs.replace(new, camera=old.camera))
    return daemon.library.config


def _record_start(daemon: DaemonDesk, request: protocol.RecordStart) -> protocol.RecordStartAnswer:
    if daemon.recorder is not None:
        doing = "still finishing" if daemon.recorder.is_ending else "already recording to"
        raise RecordingError(f"{doing} {daemon.recorder.path}", code="busy", hint="Stop it first, or wait.")
    daemon.recorder = Recorder(Path(request.path), overwrite=request.overwrite)
    return protocol.RecordStartAnswer(path=request.path)


def _record_stop(daemon: DaemonDesk, request: protocol.RecordStop) -> protocol.Recording:
    recorder = daemon.recorder
    if recorder is None:
        raise RecordingError("nothing is being recorded", code="not_recording")
    # Nearly always at once; a disk that stalls goes on behind, and `status` says when it is done.
    if recorder.stop(_STOP_S):
        daemon.recorder = None
        if (error := recorder.take_error()) is not None:
            raise error
    return describe_recorder(recorder)


def describe_recorder(recorder: Recorder) -> protocol.Recording:
    """Return what is recorded, as an answer."""
    return protocol.Recording(
        path=str(recorder.path),
        frames=recorder.num_frames,
        dropped=recorder.num_dropped,
        state="finishing" if recorder.is_ending and not recorder.is_over else "",
    )


HANDLERS: Mapping[type[Request[Any]], Callable[[Any, Any], msgspec.Struct]] = {
    protocol.Ping: _ping,
    protocol.Version: _version,
    protocol.Status: _status,
    protocol.Time: _time,
    protocol.Shutdown: _shutdown,
    protocol.ConfigGet: _config_get,
    protocol.ConfigReload: _config_reload,
    protocol.ModelInfoGet: _model_info,
    protocol.RecordStart: _record_start,
    protocol.RecordStop: _record_stop,
    protocol.EnrollStart: _enroll_start,
    protocol.EnrollStatus: _enroll_status,
    protocol.EnrollMovement: _enroll_movement,
    protocol.EnrollTrim: _enroll_trim,
    protocol.EnrollCommit: _enroll_commit,
    protocol.EnrollCancel: _enroll_cancel,
    protocol.EnrollClip: _enroll_clip,
    protocol.EnrollNegative: _enroll_negative,
    protocol.EnrollWords: _enroll_words,
    protocol.EnrollUndo: _undo,
    protocol.GalleryList: _list,
    protocol.GalleryGet: _get,
    protocol.GalleryMovement: _movement,
    protocol.GalleryRename: _rename,
    protocol.GalleryRemove: _remove,
    protocol.GalleryUndo: _undo,
    protocol.GalleryHistory: _history,
    protocol.GalleryRevert: _revert,
    protocol.GalleryVacuum: _vacuum,
    protocol.GalleryExport: _export,
    protocol.GalleryImport: _import,
    protocol.ReviewList: _review_list,
    protocol.ReviewMovement: _review_movement,
    protocol.ReviewAnswer: _review_answer,
    protocol.ReviewUndo: _review_undo,
    protocol.ReviewClear: _review_clear,
    protocol.ThresholdGet: _threshold_get,
    protocol.ThresholdPreview: _threshold_preview,
    protocol.ThresholdSet: _threshold_set,
    protocol.ThresholdReset: _threshold_reset,
    protocol.ThresholdUndo: _threshold_undo,
    protocol.ThresholdCalibrate: _threshold_calibrate,
}


def answer_request(daemon: DaemonDesk, cmd: str, args: dict[str, Any]) -> msgspec.Struct:
    """Check a command's arguments and carry it out in a daemon. Raises CrossGLGError."""
    request = protocol.request_from(cmd, args, has_daemon=True)
    return HANDLERS[type(request)](daemon, request)


def carry_out(library: Library, request: Request[A]) -> A:
    """Check a request and carry it out on the library alone, without a daemon. Raises CrossGLGError."""
    command = protocol.command_of(request)
    checked = protocol.request_from(command.name, protocol.arguments(request), has_daemon=False)
    desk = _LibraryDesk(library, Calibrating(at_once=True))
    return cast(A, HANDLERS[type(checked)](desk, checked))
