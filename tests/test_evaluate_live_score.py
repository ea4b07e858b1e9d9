"""Events held against the truth of a stream, on cases made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.evaluate.live.score import Emitted, Outcome, match_events, outcome, poisson_rate_interval, score_streams
from training.evaluate.live.stream import Action

WAVE = Action(label="wave", start_s=10.0, end_s=12.0)


def event(
    onset_s: float,
    *,
    start_s: float = 0.0,
    end_s: float = 0.0,
    label: str = "wave",
    body: int = 0,
    wall_ms: float = 1.0,
) -> Emitted:
    return Emitted(label=label, body=body, start_s=start_s, end_s=end_s, onset_s=onset_s, wall_ms=wall_ms)


@pytest.mark.parametrize(
    ("told", "belongs"),
    [
        (event(10.0), True),
        (event(11.0), True),
        (event(12.5), True),
        (event(12.51), False),
        (event(9.99), False),
        (event(11.0, label="clap"), False),
        (event(11.0, body=1), False),
        # Late, but over half of the union: 10 to 12 and 11 to 13 share a third, 10.5 to 12.5 three fifths.
        (event(13.0, start_s=11.0, end_s=13.0), False),
        (event(13.0, start_s=10.5, end_s=12.5), True),
        # Exactly half.
        (event(14.0, start_s=10.0, end_s=14.0), True),
        (event(14.0, start_s=10.0, end_s=14.01), False),
        (event(13.0, start_s=12.0, end_s=12.0), False),
    ],
)
def test_an_event_belongs_to_an_action_of_its_label_that_it_overlaps_or_is_told_in(
    told: Emitted, belongs: bool
) -> None:
    assert match_events([WAVE], [told]) == ([(0, 0)] if belongs else [])


def test_a_second_event_for_one_action_is_false() -> None:
    result = outcome("a", [WAVE], [], [event(11.0), event(11.8), event(12.4)], seen_s=100)
    assert (len(result.pairs), result.num_missed, result.num_false) == (1, 0, 2)
    assert result.false == {"enrolled": 2, "other": 0, "rest": 0}
    score = score_streams([result])
    assert (score.precision, score.recall, score.f1) == (pytest.approx(1 / 3), 1.0, pytest.approx(0.5))


def test_one_event_over_two_actions_is_right_once() -> None:
    second = Action(label="wave", start_s=12.2, end_s=14.0)
    result = outcome("a", [WAVE, second], [], [event(11.0, start_s=10.0, end_s=14.0)], seen_s=100)
    assert (len(result.pairs), result.num_missed, result.num_false) == (1, 1, 0)


def test_overlapping_actions_of_two_labels_are_told_apart_by_label() -> None:
    clap = Action(label="clap", start_s=11.0, end_s=13.0)
    assert match_events([WAVE, clap], [event(11.5, label="clap"), event(11.6)]) == [(0, 1), (1, 0)]


def test_as_many_pairs_are_made_as_can_be() -> None:
    """The first action could take either event, the second only the first: greed would miss one."""
    first, second = Action(label="wave", start_s=10.0, end_s=12.0), Action(label="wave", start_s=9.0, end_s=10.5)
    assert match_events([first, second], [event(10.9), event(11.8)]) == [(0, 1), (1, 0)]


def test_what_was_done_by_a_person_whose_id_was_exchanged_may_have_either_id() -> None:
    swapped = Action(label="wave", start_s=10.0, end_s=12.0, bodies=frozenset({0, 1}))
    assert match_events([swapped], [event(12.0, body=1)]) == [(0, 0)]


def test_false_events_are_counted_by_what_was_being_done() -> None:
    knock = Action(label="knock", start_s=20.0, end_s=22.0)
    events = [event(11.0, label="clap"), event(21.0), event(22.5), event(22.6), event(50.0)]
    result = outcome("a", [WAVE], [knock], events, seen_s=365)
    assert result.false == {"enrolled": 1, "other": 2, "rest": 2}
    assert result.hours == pytest.approx({"enrolled": 2.5 / 3600, "other": 2.5 / 3600, "rest": 360 / 3600})
    score = score_streams([result])
    assert score.hours == pytest.approx(362.5 / 3600)
    assert score.false_alarms_per_hour == pytest.approx(4 / (362.5 / 3600))


def test_delays_are_counted_from_the_end_and_from_the_start_of_the_actions_that_were_told() -> None:
    actions = [Action(label="wave", start_s=10.0 * i, end_s=10.0 * i + 2) for i in range(1, 12)]
    events = [event(10.0 * i + 2 + 0.01 * i, wall_ms=float(i)) for i in range(1, 12)]
    score = score_streams([outcome("a", [*actions, Action(label="clap", start_s=0.0, end_s=1.0)], [], events, 200)])
    assert (score.delay_p50_ms, score.delay_p90_ms) == (pytest.approx(60), pytest.approx(100))
    assert (score.delay_from_start_p50_ms, score.delay_from_start_p90_ms) == (pytest.approx(2060), pytest.approx(2100))
    assert (score.wall_p50_ms, score.wall_p90_ms) == (6, 10)
    assert score.num_actions == 12


def test_nothing_told_is_no_delay_and_no_error() -> None:
    score = score_streams([outcome("a", [WAVE], [], [], seen_s=3600)])
    assert (score.f1, score.precision, score.recall, score.false_alarms_per_hour) == (0, 0, 0, 0)
    assert math.isnan(score.delay_p50_ms)
    assert score.ci95["false_alarms_per_hour"] == pytest.approx((0, 3 / score.hours))


def of_group(group: str, num_right: int, num_missed: int) -> Outcome:
    actions = [Action(label="wave", start_s=10.0 * i, end_s=10.0 * i + 2) for i in range(num_right + num_missed)]
    return outcome(group, actions, [], [event(10.0 * i + 2) for i in range(num_right)], seen_s=1000)


def test_intervals_come_from_resampling_whole_groups() -> None:
    one = score_streams([of_group("a", 5, 5)])
    assert np.isnan(one.ci95["recall"]).all()
    same = score_streams([of_group(name, 5, 5) for name in "abc"])
    assert same.ci95["recall"] == (0.5, 0.5)
    differing = score_streams([of_group("a", 10, 0), of_group("b", 0, 10), of_group("c", 5, 5)])
    assert differing.ci95["recall"][0] < 0.1
    assert differing.ci95["recall"][1] > 0.9
    # Parts of one group move together: nothing is left to resample.
    parts = score_streams([of_group("a", 10, 0), of_group("a", 0, 10)])
    assert np.isnan(parts.ci95["recall"]).all()


@pytest.mark.parametrize(
    ("num_events", "low", "high"), [(0, 0, 3.0), (1, 0.0253, 5.5716), (10, 4.7954, 18.3904), (100, 81.3640, 121.6275)]
)
def test_rates_have_the_exact_poisson_interval(num_events: int, low: float, high: float) -> None:
    """Garwood's table; nothing in T hours: three over T."""
    assert poisson_rate_interval(num_events, 1.0) == pytest.approx((low, high), abs=1e-3)
    assert poisson_rate_interval(num_events, 4.0) == pytest.approx((low / 4, high / 4), abs=1e-3)
