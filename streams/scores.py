"""What the recognizer found a moment ago, label by label: sent only to whoever subscribes to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Gate = Literal["", "still", "not_compared", "threshold", "nearer", "rules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScore:
    """Hold how near one label is now: its best score, 0 to 1, its distance, and the farthest that begins an event.

    `distance`: None where nothing was compared. `gate`: what stops an event: "" nothing, it goes on; "still": the body
    rests, or was not seen for long enough; "not_compared": no window has the length of an example, or a
    counter-example is nearer; "threshold": it is too far; "nearer": another label is nearer; "rules": too few
    decisions agree yet, or the movement was told before.
    """

    label: str
    score: float
    distance: float | None
    threshold_distance: float
    gate: Gate


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Hold one decision about one body; `labels`: the best first. `timestamp`: seconds of the publisher's clock."""

    v: int = 1
    source: str
    body: int
    timestamp: float
    clock: str
    labels: tuple[LabelScore, ...]
