"""What a threshold costs, measured on streams: false alarms of a label in an hour, and misses (edge.model.Rates).

Shapes: D decisions, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edge.config import Config
from edge.gallery import Prototype
from edge.match import PrototypeIndex
from edge.model import BundleInfo, Encoder, Rates
from edge.thresholds import Decisions, decisions_of, spells
from training.evaluate.live.score import LATE_S, Emitted, Outcome, outcome
from training.evaluate.live.stream import Action, Stream, prototypes_of

MakeIndex = Callable[[Sequence[Prototype], BundleInfo], PrototypeIndex]

# Thresholds tried: where so many shares of all performances are missed.
_NUM_DISTANCES = 40


def fit_rates(
    streams: Sequence[Stream],
    encoder: Encoder,
    config: Config,
    make_index: MakeIndex = PrototypeIndex,
    *,
    source: str = "",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Rates | None:
    """Return the rates over streams of one person each; None where nothing enrolled is ever done in them.

    A label's false alarms are counted while it is not done: then whatever else is done, enrolled or not, is the
    movement it should not answer to.
    """
    played: list[tuple[Stream, Decisions]] = []
    for stream in streams:
        index = make_index(prototypes_of(stream, encoder), encoder.info)
        played.append((stream, decisions_of(stream.frames(), index, encoder, config)))
        report(len(played), len(streams))
    nearest = np.array([_nearest(decisions, action) for stream, decisions in played for action in stream.truth])
    nearest = nearest[np.isfinite(nearest)]
    if not len(nearest):
        return None
    found = np.quantile(nearest, np.linspace(0, 1, _NUM_DISTANCES)).round(5)
    distances = np.unique(found).tolist()
    alarms, missed, hours = [], [], 0.0
    for distance in distances:
        outcomes = [
            _of_label(stream, decisions, label, distance, encoder, config)
            for stream, decisions in played
            for label in decisions.labels
        ]
        hours = sum(o.hours["other"] + o.hours["rest"] for o in outcomes)
        alarms.append(sum(o.false["other"] + o.false["rest"] for o in outcomes) / hours)
        missed.append(sum(o.num_missed for o in outcomes) / sum(o.num_missed + len(o.pairs) for o in outcomes))
    # Beyond, events begin so early that they belong to no action. Two events of a strict threshold may be one of a
    # lax one, which makes that no better.
    end = int(np.argmin(missed)) + 1
    return Rates(
        distances=tuple(distances[:end]),
        alarms_per_hour=tuple(np.maximum.accumulate(alarms[:end]).round(4).tolist()),
        missed=tuple(np.minimum.accumulate(missed[:end]).round(4).tolist()),
        hours=round(hours, 3),
        source=source,
    )


def _nearest(decisions: Decisions, action: Action) -> float:
    """Return the smallest distance to the action's label while it was done."""
    at_D = (decisions.times_s >= action.start_s) & (decisions.times_s <= action.end_s + LATE_S)
    distances_D = decisions.distances_DK[at_D, decisions.labels.index(action.label)]
    return float(distances_D.min(initial=np.inf))


def _of_label(
    stream: Stream, decisions: Decisions, label: str, distance: float, encoder: Encoder, config: Config
) -> Outcome:
    told = [
        Emitted(label=label, body=0, start_s=s.start_s, end_s=s.end_s, onset_s=s.onset_s, wall_ms=0.0)
        for s in spells(decisions, label, distance, encoder.info.score_curve, config.events)
    ]
    own = [action for action in stream.actions if action.label == label]
    others = [action for action in stream.actions if action.label != label]
    return outcome(stream.group, own, others, told, stream.seen_s)
