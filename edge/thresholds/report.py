"""The thresholds of a gallery as a person sees and changes them, and their calibration while the daemon goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from edge.config import Config
from edge.gallery import Gallery, find_spelling
from edge.model import BundleInfo, Encoder, Rates
from edge.protocol import LabelThreshold, ThresholdAnswer, ThresholdPreviewAnswer, ThresholdWish
from edge.thresholds.calibrate import (
    Threshold,
    cost_of,
    limits_by_negatives,
    midpoints,
    negative_hours,
    thresholds_in_force,
)
from edge.thresholds.file import Thresholds, read_thresholds, thresholds_path, undo_change, write_thresholds
from streams.errors import BundleError, GalleryError

# Nobody wants to hear so many, and whoever does says so.
MAX_FALSE_ALARMS_PER_HOUR = 20.0
# What is said where no thresholds are this model's.
OTHER_MODEL = "the thresholds that were asked for are another model's and not used: calibrate again"
Job = Callable[[Callable[[], bool]], None]


def midpoints_in_force(gallery: Gallery, info: BundleInfo, config: Config) -> dict[str, float]:
    """Return the distance at which labels score 0.5, of those that have a threshold of their own.

    Raises GalleryError("bad_thresholds").
    """
    asked = read_thresholds(thresholds_path(gallery.path)).get(info.onnx_sha256)
    own = [found for found in _in_force(asked, gallery, info, config) if found.origin != "bundle"]
    return midpoints(own, info.score_curve, config.events)


def are_of_another_model(gallery: Gallery, info: BundleInfo) -> bool:
    """Return whether thresholds were asked for, but never with this model. Raises GalleryError("bad_thresholds")."""
    by_model = read_thresholds(thresholds_path(gallery.path))
    return bool(by_model) and info.onnx_sha256 not in by_model


def describe_thresholds(gallery: Gallery, info: BundleInfo, config: Config, state: str = "") -> ThresholdAnswer:
    """Return each label's threshold, where it is from, and what to know about it. Raises GalleryError.

    `state`: how a calibration stands that goes on in the background.
    """
    by_model = read_thresholds(thresholds_path(gallery.path))
    asked = by_model.get(info.onnx_sha256)
    labels = _described(asked, gallery, info, config)
    asked_for = asked or Thresholds()
    return ThresholdAnswer(
        state=state,
        false_alarms_per_hour=asked_for.false_alarms_per_hour,
        created=asked_for.created,
        negative_hours=round(asked_for.negative_hours, 4),
        labels=labels,
        unused=tuple(sorted({*asked_for.by_hand, *asked_for.limits} - {*gallery.labels()})),
        notes=tuple(_notes(asked, by_model, gallery, info)),
    )


def preview_thresholds(
    gallery: Gallery, info: BundleInfo, config: Config, wishes: Sequence[float]
) -> ThresholdPreviewAnswer:
    """Return what each wish, false alarms an hour of all labels together, would give; change nothing.

    The user's ordinary movement counts as it did for the wish in force. Raises BundleError("no_rates"), GalleryError.
    """
    _rates_of(info)
    asked = _read_asked(gallery, info)
    found = [
        ThresholdWish(
            false_alarms_per_hour=wish,
            labels=_described(msgspec.structs.replace(asked, false_alarms_per_hour=wish), gallery, info, config),
        )
        for wish in wishes
    ]
    return ThresholdPreviewAnswer(wishes=tuple(found))


def _described(
    asked: Thresholds | None, gallery: Gallery, info: BundleInfo, config: Config
) -> tuple[LabelThreshold, ...]:
    labels = []
    for found in _in_force(asked, gallery, info, config):
        limit = asked.limits.get(found.label) if asked is not None else None
        said = f"it alarmed {limit.num_before} times in your ordinary movement" if limit is not None else ""
        labels.append(LabelThreshold(**asdict(found), negatives=said))
    return tuple(labels)


def _in_force(asked: Thresholds | None, gallery: Gallery, info: BundleInfo, config: Config) -> list[Threshold]:
    return thresholds_in_force(asked, gallery.labels(), info.score_curve, info.rates, config.events)


def _notes(asked: Thresholds | None, by_model: dict[str, Thresholds], gallery: Gallery, info: BundleInfo) -> list[str]:
    if asked is None:
        return [OTHER_MODEL] if by_model else []
    said = []
    per_hour, num_labels = asked.false_alarms_per_hour, max(1, len(gallery.labels()))
    if per_hour is not None and info.rates is None:
        said.append("the model bundle has no rates: thresholds by false alarms are not used")
    elif per_hour is not None and info.rates is not None and per_hour / num_labels < 3 / info.rates.hours:
        said.append(
            f"{num_labels} labels share {per_hour:g} an hour; the bundle's rates are of {info.rates.hours:.0f} hours, "
            f"and cannot promise less than {3 / info.rates.hours:.2g} an hour of each"
        )
    if per_hour is not None and not asked.negative_hours:
        said.append("no ordinary movement of yours was looked at: `negatives record` captures it")
    if per_hour is not None and asked.gallery_revision != gallery.revision:
        said.append("the gallery has changed since: calibrate again, so that your ordinary movement counts")
    return said


def set_by_hand(
    gallery: Gallery, info: BundleInfo, label: str, distance: float, created: str, *, force: bool = False
) -> None:
    """Give one label a threshold.

    Raises GalleryError: "unknown_label", "bad_thresholds", or, unless `force`, "too_many_false_alarms" by the
    bundle's rates.
    """
    spelling = find_spelling(label, gallery.labels())
    if not spelling:
        known = ", ".join(map(repr, gallery.labels())) or "none"
        raise GalleryError(f"no label {label!r} in {gallery.path}; it has {known}", code="unknown_label")
    per_hour, _ = (0.0, 0.0) if info.rates is None else cost_of(distance, info.rates)
    if distance > info.score_curve.midpoint and per_hour > MAX_FALSE_ALARMS_PER_HOUR and not force:
        raise GalleryError(
            f"{distance:g} would give {spelling!r} {per_hour:.0f} false alarms an hour by the bundle's rates: "
            f"expected at most {MAX_FALSE_ALARMS_PER_HOUR:g}, or {info.score_curve.midpoint:g}, the model's default",
            code="too_many_false_alarms",
            hint="Set a smaller distance, see `crossglg-edge threshold get`; --force (force: true) sets it anyway.",
        )
    asked = _read_asked(gallery, info)
    by_hand = {**asked.by_hand, spelling: distance}
    _write(
        gallery, info, asked, f"the threshold of {spelling!r} was set to {distance:g}", by_hand=by_hand, created=created
    )


def reset(gallery: Gallery, info: BundleInfo, label: str | None, created: str) -> None:
    """Forget what was set by hand for a label, or everything that was asked for. Raises GalleryError."""
    if label is None:
        write_thresholds(thresholds_path(gallery.path), info.onnx_sha256, None, change="all thresholds were reset")
        return
    asked = _read_asked(gallery, info)
    spelling = find_spelling(label, asked.by_hand)
    if not spelling:
        known = ", ".join(map(repr, asked.by_hand)) or "none"
        raise GalleryError(f"no threshold of {label!r} was set by hand: there is {known}", code="unknown_label")
    by_hand = {other: distance for other, distance in asked.by_hand.items() if other != spelling}
    _write(gallery, info, asked, f"the threshold of {spelling!r} was reset", by_hand=by_hand, created=created)


def undo(gallery: Gallery, info: BundleInfo) -> str:
    """Take back the latest change of thresholds; return what it was. Raises GalleryError("nothing_to_undo")."""
    return undo_change(thresholds_path(gallery.path), info.onnx_sha256)


def plan_calibration(
    gallery: Gallery, encoder: Encoder, config: Config, false_alarms_per_hour: float, created: str
) -> Job:
    """Return the work of a calibration of the gallery as it is now, for any thread, told whether to give up.

    The work puts the outcome in the file. Raises BundleError where the bundle has no rates; the work
    raises EngineError, GalleryError, CancelledError.
    """
    info, revision = encoder.info, gallery.revision
    prototypes, negatives = gallery.prototypes, gallery.negatives
    rates = _rates_of(info)

    def work(is_cancelled: Callable[[], bool]) -> None:
        limits = limits_by_negatives(
            prototypes, negatives, false_alarms_per_hour, rates, encoder, config, is_cancelled=is_cancelled
        )
        _write(
            gallery,
            info,
            _read_asked(gallery, info),
            f"thresholds were calibrated for {false_alarms_per_hour:g} false alarms an hour",
            false_alarms_per_hour=false_alarms_per_hour,
            limits=limits,
            negative_hours=negative_hours(negatives),
            gallery_revision=revision,
            created=created,
        )

    return work


def _rates_of(info: BundleInfo) -> Rates:
    if info.rates is None:
        raise BundleError(
            f"the model bundle {info.name!r} has no rates of false alarms: thresholds cannot be set by them",
            code="no_rates",
            hint="Export the bundle anew, or set a label's threshold by hand: `crossglg-edge threshold set`.",
        )
    return info.rates


def _read_asked(gallery: Gallery, info: BundleInfo) -> Thresholds:
    return read_thresholds(thresholds_path(gallery.path)).get(info.onnx_sha256, Thresholds())


def _write(gallery: Gallery, info: BundleInfo, asked: Thresholds, change: str, **changes: Any) -> None:
    changed = msgspec.structs.replace(asked, **changes)
    write_thresholds(thresholds_path(gallery.path), info.onnx_sha256, changed, change=change)
