"""Whether one threshold travels: the F1 of recordings at many, and the one that other archives would choose.

Shapes: F factors of the default threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.config import Events
from edge.model import ScoreCurve
from edge.thresholds import Decisions, all_spells
from training.evaluate.live.score import Emitted, Outcome, f1_of, outcome
from training.evaluate.live.stream import Stream

Played = Sequence[tuple[Stream, Decisions]]
F1s = npt.NDArray[np.float64]

FACTORS = np.linspace(0.5, 2.0, 61)
# F1 is flat about its best threshold, and false alarms are not: the strictest that costs no more F1 than this is taken.
_SLACK = 0.04


@dataclass(frozen=True, slots=True, kw_only=True)
class Travel:
    """Hold an archive's F1 with its own best threshold, and with the one that the other archives choose.

    Factors are of the default threshold. `others_*`: None where there is no other archive.
    """

    best_f1: float
    best_factor: float
    others_f1: float | None
    others_factor: float | None


def travels(played: Mapping[str, Played], curve: ScoreCurve, events: Events) -> dict[str, Travel]:
    """Return for each archive how a threshold travels to it from the others, which weigh alike."""
    f1_by_archive = {name: f1_by_factor(own, curve, events) for name, own in played.items()}
    found = {}
    for name, f1_F in f1_by_archive.items():
        others = [other_F for other, other_F in f1_by_archive.items() if other != name]
        best, chosen = int(f1_F.argmax()), choose(others) if others else None
        found[name] = Travel(
            best_f1=float(f1_F[best]),
            best_factor=float(FACTORS[best]),
            others_f1=None if chosen is None else float(f1_F[chosen]),
            others_factor=None if chosen is None else float(FACTORS[chosen]),
        )
    return found


def choose(f1s: Sequence[F1s]) -> int:
    """Return the number of the strictest factor whose mean F1 over archives is within 0.04 of the best."""
    mean_F = np.mean(f1s, axis=0)
    return int(np.flatnonzero(mean_F >= mean_F.max() - _SLACK)[0])


def f1_by_factor(played: Played, curve: ScoreCurve, events: Events) -> F1s:
    """Return the F1 over recordings of one person each, with each of FACTORS times the default threshold."""
    return np.array(
        [
            f1_of([_outcome(stream, decisions, factor * curve.midpoint, curve, events) for stream, decisions in played])
            for factor in FACTORS.tolist()
        ]
    )


def _outcome(stream: Stream, decisions: Decisions, threshold: float, curve: ScoreCurve, events: Events) -> Outcome:
    told = [
        Emitted(label=s.label, body=0, start_s=s.start_s, end_s=s.end_s, onset_s=s.onset_s, wall_ms=0.0)
        for s in all_spells(decisions, threshold, curve, events)
    ]
    return outcome(stream.group, stream.truth, stream.others, told, stream.seen_s)
