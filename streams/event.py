"""What the recognizer tells the world: an enrolled action began, goes on, or has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerUp:
    """Name the second-best label and its score, 0 to 1."""

    label: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Split the time from the newest frame's exposure to the event, in milliseconds.

    `sensor`: exposure to sending, by the publisher's clock. `queue`: reading to recognizer.
    `encode`, `match`: this decision's share. `total`: the sum.
    """

    sensor: float
    queue: float
    encode: float
    match: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Say what the decision rests on: share of joints seen, frames per second, frames dropped so far."""

    joints: float
    fps: float
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Hold one message about one action of one body; `id` is the same from onset to end.

    Times are seconds of the publisher's clock, named by `clock`; `t_emit` is the newest frame's
    timestamp plus the latency. `distance` is how far the best match so far is from what was enrolled, from 0, and
    `threshold_distance` is the farthest at which this label begins an event: an onset has `distance` <=
    `threshold_distance`, and updates and the end have the same or a smaller distance. The same on the other scale:
    `score` is 0 to 1, and `threshold`, for historical reasons a score, is `events.min_score`, which it had to reach.
    `count` is how often the action was done in a row so far, 1 from a daemon older than the field; `progress` is how
    far the newest repetition is, 0 to 1, None where no example says so. `margin` is the score's lead over the
    runner-up, negative where the distribution classifier chose a label that is not the nearest. `threshold_distance` is
    None from a daemon older than the field.
    """

    v: int = 1
    id: str
    type: Literal["onset", "update", "end"]
    label: str
    source: str
    body: int
    score: float
    distance: float
    threshold: float
    threshold_distance: float | None = None
    count: int = 1
    progress: float | None = None
    margin: float
    runner_up: RunnerUp | None
    t_start: float
    t_end: float
    t_emit: float
    clock: str
    seq_last: int
    gallery_revision: int
    model_sha256: str
    latency_ms: Latency
    quality: Quality
