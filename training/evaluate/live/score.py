"""Events held against the truth of a stream: one-to-one matching, counts, delays, intervals. Pure.

Shapes: S streams, A actions, E events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluate.live.stream import Action

_MIN_IOU = 0.5
# An onset so long after the action's end still belongs to it.
LATE_S = 0.5
# An event may miss an action's point by so much (Fothergill et al., CHI 2012, as MSRC-12 is scored).
_POINT_S = 0.33
_RESAMPLES = 1_000
DOING = ("enrolled", "other", "rest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """Hold one event: its span, when its onset was told, seconds of the stream, and what that decision took."""

    label: str
    body: int
    start_s: float
    end_s: float
    onset_s: float
    wall_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Hold what one stream gave.

    `pairs`: the actions recognized, each with its one event. `false`: the events without an action, by what
    was being done when their onset was told: an action that is "enrolled", an "other" one, or "rest" and what leads
    from one action to the next. `hours`: how long persons were seen doing each of the three, added up.
    """

    group: str
    pairs: tuple[tuple[Action, Emitted], ...]
    num_missed: int
    false: dict[str, int]
    hours: dict[str, float]

    @property
    def num_false(self) -> int:
        """The number of false events, over all labels."""
        return sum(self.false.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamScore:
    """Hold the figures of a set of streams, and their 95 % intervals by name.

    A false alarm is an event without an action that began while nothing enrolled was done, in `hours` altogether;
    `false` and `hours_of` tell them apart as Outcome does.
    `delay_*`: from an action's end to its onset event, in the stream's time; negative: before the end.
    `delay_from_start_*`: from its start. `wall_*`: how long the decision was computed. NaN: there is none.
    """

    f1: float
    precision: float
    recall: float
    false_alarms_per_hour: float
    hours: float
    delay_p50_ms: float
    delay_p90_ms: float
    delay_from_start_p50_ms: float
    delay_from_start_p90_ms: float
    wall_p50_ms: float
    wall_p90_ms: float
    num_actions: int
    num_events: int
    false: dict[str, int]
    hours_of: dict[str, float]
    ci95: dict[str, tuple[float, float]]


def match_events(truth: Sequence[Action], events: Sequence[Emitted]) -> list[tuple[int, int]]:
    """Pair actions and events one to one, as many as can be; return their numbers.

    A pair has the same label and body. Of an action without a point it overlaps by half of its union, or the onset was
    told between the action's start and half a second after its end. Of an action with one the event spans the point, or
    its onset was told within half a second after the action's end.
    """
    event_of: dict[int, int] = {}
    possible = [[e for e, event in enumerate(events) if _belongs(action, event)] for action in truth]

    def place(action: int, tried: set[int]) -> bool:
        for event in possible[action]:
            if event in tried:
                continue
            tried.add(event)
            holder = next((a for a, e in event_of.items() if e == event), None)
            if holder is None or place(holder, tried):
                event_of[action] = event
                return True
        return False

    for action in range(len(truth)):
        place(action, set())
    return sorted(event_of.items())


def _belongs(action: Action, event: Emitted) -> bool:
    if event.label != action.label or event.body not in action.bodies:
        return False
    if action.point_s is not None:
        return (
            point_is_within(action, event.start_s, event.end_s)
            or action.end_s <= event.onset_s <= action.end_s + LATE_S
        )
    if action.start_s <= event.onset_s <= action.end_s + LATE_S:
        return True
    common_s = min(action.end_s, event.end_s) - max(action.start_s, event.start_s)
    union_s = max(action.end_s, event.end_s) - min(action.start_s, event.start_s)
    return union_s > 0 and common_s / union_s >= _MIN_IOU


def point_is_within(action: Action, start_s: float, end_s: float) -> bool:
    """Return whether a span holds an action's point, give or take a third of a second; false where it has none."""
    return action.point_s is not None and start_s - _POINT_S <= action.point_s <= end_s + _POINT_S


def outcome(
    group: str, truth: Sequence[Action], others: Sequence[Action], events: Sequence[Emitted], seen_s: float
) -> Outcome:
    """Hold a stream's events against what was done: `truth`, what is enrolled; `others`, what is not.

    An event that belongs to an action that is not scored does not count. `seen_s`: how long persons were seen, added
    up.
    """
    unscored = [action for action in others if not action.is_scored]
    events = [event for event in events if not any(_belongs(action, event) for action in unscored)]
    pairs = match_events(truth, events)
    matched = {event for _, event in pairs}
    false = dict.fromkeys(DOING, 0)
    for e, event in enumerate(events):
        if e not in matched:
            doing = "enrolled" if _during(event, truth) else "other" if _during(event, others) else "rest"
            false[doing] += 1
    enrolled_s, other_s = (sum(a.end_s - a.start_s + LATE_S for a in actions) for actions in (truth, others))
    rest_s = max(0.0, seen_s - enrolled_s - other_s)
    return Outcome(
        group=group,
        pairs=tuple((truth[a], events[e]) for a, e in pairs),
        num_missed=len(truth) - len(pairs),
        false=false,
        hours={"enrolled": enrolled_s / 3600, "other": other_s / 3600, "rest": rest_s / 3600},
    )


def _during(event: Emitted, actions: Sequence[Action]) -> bool:
    return any(event.body in a.bodies and a.start_s <= event.onset_s <= a.end_s + LATE_S for a in actions)


def score_streams(outcomes: Sequence[Outcome]) -> StreamScore:
    """Return the figures over all streams.

    Intervals: percentiles of 1,000 resamplings of whole groups, seed 0; of false alarms: exact Poisson.
    """
    groups: dict[str, list[Outcome]] = {}
    for result in outcomes:
        groups.setdefault(result.group, []).append(result)
    figures = _figures(outcomes)
    rng = np.random.default_rng(0)
    by_group = list(groups.values())
    drawn = [rng.integers(len(by_group), size=len(by_group)) for _ in range(_RESAMPLES)] if len(by_group) > 1 else []
    resampled = [_figures([result for i in draw for result in by_group[i]]) for draw in drawn]
    ci95 = {}
    for name in figures:
        values = np.array([figure[name] for figure in resampled])
        values = values[np.isfinite(values)]
        low, high = np.percentile(values, [2.5, 97.5]) if len(values) else (math.nan, math.nan)
        ci95[name] = (float(low), float(high))
    false = {doing: sum(o.false[doing] for o in outcomes) for doing in DOING}
    hours_of = {doing: sum(o.hours[doing] for o in outcomes) for doing in DOING}
    num_alarms, negative_hours = false["other"] + false["rest"], hours_of["other"] + hours_of["rest"]
    ci95["false_alarms_per_hour"] = poisson_rate_interval(num_alarms, negative_hours)
    return StreamScore(
        **figures,
        false_alarms_per_hour=num_alarms / negative_hours if negative_hours else math.nan,
        hours=negative_hours,
        num_actions=sum(len(o.pairs) + o.num_missed for o in outcomes),
        num_events=sum(len(o.pairs) + o.num_false for o in outcomes),
        false=false,
        hours_of=hours_of,
        ci95=ci95,
    )


def f1_of(outcomes: Sequence[Outcome]) -> float:
    """Return the F1 over streams: 0 where nothing was to be recognized and nothing was."""
    num_right = sum(len(o.pairs) for o in outcomes)
    return 2 * num_right / max(1, sum(2 * len(o.pairs) + o.num_missed + o.num_false for o in outcomes))


def _figures(outcomes: Sequence[Outcome]) -> dict[str, float]:
    pairs = [pair for o in outcomes for pair in o.pairs]
    figures = {
        "f1": f1_of(outcomes),
        "precision": len(pairs) / max(1, len(pairs) + sum(o.num_false for o in outcomes)),
        "recall": len(pairs) / max(1, len(pairs) + sum(o.num_missed for o in outcomes)),
    }
    for name, values in (
        ("delay", [1000 * (event.onset_s - action.end_s) for action, event in pairs]),
        ("delay_from_start", [1000 * (event.onset_s - action.start_s) for action, event in pairs]),
        ("wall", [event.wall_ms for _, event in pairs]),
    ):
        for percent in (50, 90):
            figures[f"{name}_p{percent}_ms"] = float(np.percentile(values, percent)) if values else math.nan
    return figures


def poisson_rate_interval(num_events: int, hours: float) -> tuple[float, float]:
    """Return the exact 95 % interval of a rate per hour; none in T hours: 0 to 3 / T, one-sided."""
    if not hours:
        return (0.0, math.inf)
    if not num_events:
        return (0.0, 3.0 / hours)
    low = _bisect(lambda mean: 1 - _poisson_cdf(num_events - 1, mean), 0.025, 0.0, float(num_events))
    high = _bisect(lambda mean: -_poisson_cdf(num_events, mean), -0.025, num_events, 2.0 * num_events + 10)
    return (low / hours, high / hours)


def _poisson_cdf(count: int, mean: float) -> float:
    logs = np.array([k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(count + 1)]) if mean else np.zeros(1)
    return float(np.exp(logs).sum())


def _bisect(rising: Callable[[float], float], value: float, low: float, high: float) -> float:
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return (low + high) / 2
