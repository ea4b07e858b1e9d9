"""What holds of every stream of matches: one event at a time, and each from its onset to its end."""

from __future__ import annotations

import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Events
from edge.live.decision import Match
from edge.live.events import BodyEvents

_SCORES = st.floats(0.0, 1.0)


@st.composite
def decisions(draw: st.DrawFn) -> list[tuple[float, Match | None]]:
    """Draw moments that rise, each with a match of one of three labels or none."""
    now_s, drawn = 0.0, []
    for _ in range(draw(st.integers(1, 60))):
        now_s += draw(st.sampled_from([0.1, 0.2, 0.2, 0.2, 1.0, 5.0]))
        match = None
        if label := draw(st.sampled_from(["", "wave", "wave", "bow", "kick"])):
            window_s = draw(st.sampled_from([0.6, 2.0, 6.75]))
            match = Match(
                label=label,
                distance=1.0,
                threshold_distance=1.0,
                score=draw(_SCORES),
                runner_up=None,
                t_start_s=now_s - window_s,
                joints=1.0,
            )
        drawn.append((now_s, match))
    return drawn


@st.composite
def configs(draw: st.DrawFn) -> Events:
    return Events(
        min_score=draw(st.floats(0.01, 1.0)),
        hits=draw(st.integers(1, 3)),
        settle_s=draw(st.sampled_from([0.0, 0.5, 1.0])),
        hold_rise=draw(st.sampled_from([0.0, 0.07, 1.0])),
        release_s=draw(st.sampled_from([0.0, 0.5, 2.0])),
        update_s=draw(st.sampled_from([0.1, 0.5])),
    )


@given(decisions(), configs())
def test_events_follow_one_another_each_from_onset_over_updates_to_end(
    stream: list[tuple[float, Match | None]], config: Events
) -> None:
    events, running, seen = BodyEvents(), "", set()
    until_s = -math.inf
    for now_s, match in stream:
        has_begun = False
        for kind, active in events.follow(match, now_s, config):
            if kind == "onset":
                has_begun = True
                assert not running
                assert active.id not in seen
                assert active.match in [earlier for _, earlier in stream]
                assert active.match.score >= config.min_score
                # No movement is told twice: most of its window lies after what the event before was matched by.
                assert active.t_start_s >= until_s - 0.4 * (now_s - active.t_start_s) - 1e-6
                running = active.id
                seen.add(running)
            else:
                assert active.id == running
                if kind == "end":
                    running = ""
            until_s = active.last_hit_s
            assert active.t_start_s <= active.last_hit_s <= now_s
        assert (events.active is not None) == bool(running)
        if events.active is not None:
            assert events.active.id == running
            until_s = events.active.last_hit_s
            assert has_begun or now_s - events.active.last_hit_s <= config.release_s


def test_what_an_event_explains_while_a_match_waits_is_not_told_again() -> None:
    config = msgspec.structs.replace(Events(), settle_s=0.5, hits=1)
    events = BodyEvents()
    assert [kind for kind, _ in events.follow(match_at(0.5, 0.0), 0.0, config)] == []
    assert [kind for kind, _ in events.follow(None, 0.5, config)] == ["onset"]
    events.follow(match_at(0.8, 0.6, label="bow", length_s=0.6), 0.6, config)
    events.follow(match_at(0.5, 0.8, length_s=1.0), 0.8, config)
    # The bow's window ends before what the wave has explained since.
    assert "onset" not in [kind for kind, _ in events.follow(None, 1.2, config)]


@given(decisions(), configs(), st.booleans())
def test_the_end_of_a_body_ends_every_event(
    stream: list[tuple[float, Match | None]], config: Events, begins: bool
) -> None:
    events, kinds = BodyEvents(), []
    for now_s, match in stream:
        kinds += [kind for kind, _ in events.follow(match, now_s, config)]
    kinds += [kind for kind, _ in events.finish(stream[-1][0], config, begins=begins)]
    assert events.active is None
    assert kinds.count("onset") == kinds.count("end")


@given(decisions(), configs(), st.lists(st.booleans(), min_size=60, max_size=60))
def test_an_event_that_its_repetitions_keep_open_changes_no_other(
    stream: list[tuple[float, Match | None]], config: Events, repeats: list[bool]
) -> None:
    def spans(body: BodyEvents, keeps: list[bool]) -> list[tuple[str, float, float, float]]:
        found, number = [], 0
        for (now_s, match), keeps_open in zip(stream, keeps, strict=False):
            for kind, active in body.follow(match, now_s, config, repeats=keeps_open):
                if kind == "onset":
                    found.append((active, now_s))
            if body.active is not None:
                number += 1
                body.active.count = number
        return [(active.match.label, active.t_start_s, active.last_hit_s, now_s) for active, now_s in found]

    assert spans(BodyEvents(), repeats) == spans(BodyEvents(), [False] * 60)


def match_at(distance: float, now_s: float, *, label: str = "wave", length_s: float = 1.0) -> Match:
    return Match(
        label=label,
        distance=distance,
        threshold_distance=1.0,
        score=0.9 if distance <= 1.0 else 0.1,
        runner_up=None,
        t_start_s=now_s - length_s,
        joints=1.0,
    )


def onsets(distances: list[float], **settings: float) -> list[tuple[float, float]]:
    """Return when each event was told and its distance, of decisions every 0.2 s, 9 where nothing was matched."""
    config, events, told = msgspec.structs.replace(Events(), **settings), BodyEvents(), []
    for number, distance in enumerate(distances):
        now_s = 0.2 * number
        match = match_at(distance, now_s) if distance < 9 else None
        for kind, active in events.follow(match, now_s, config):
            if kind == "onset":
                told.append((round(now_s, 1), active.match.distance))
    return told


def test_an_event_is_told_at_the_second_match_or_once_its_label_came_nearest() -> None:
    falling_and_rising = [9, 9, 9, 9, 9, 0.9, 0.7, 0.5, 0.6, 0.8, 0.9, 9, 9, 9]
    assert onsets(falling_and_rising) == [(1.2, 0.7)]
    assert onsets(falling_and_rising, settle_s=0.2) == [(1.6, 0.5)]
    assert onsets(falling_and_rising, settle_s=0.5) == [(2.0, 0.5)]
    assert onsets(falling_and_rising, hits=8) == []


def test_what_repeats_is_told_each_time_it_comes_nearest() -> None:
    once = [0.9, 0.6, 0.5, 0.6, 0.9, 1.2]
    assert len(onsets([9] * 5 + 4 * once + [9] * 5)) == 4
    assert [distance for _, distance in onsets([9] * 5 + 4 * once + [9] * 5, settle_s=0.2)] == [0.5] * 4


def test_a_match_that_stays_as_near_is_one_event() -> None:
    assert len(onsets([9] * 5 + [0.5, 0.52, 0.51] * 20 + [9] * 5)) == 1


def test_each_repetition_is_news_and_so_is_that_they_keep_the_event_open() -> None:
    config, events = msgspec.structs.replace(Events(), hits=1, release_s=0.5, update_s=60.0), BodyEvents()
    told: list[tuple[float, str, int, bool]] = []
    for number in range(20):
        now_s = 0.2 * number
        match = match_at(0.5, now_s) if number < 2 else None
        if events.active is not None:
            events.active.count = 1 + (number >= 1) + (number >= 8)
        told += [
            (round(now_s, 1), kind, active.count, active.is_kept)
            for kind, active in events.follow(match, now_s, config, repeats=number < 12)
        ]
    assert told == [
        (0.0, "onset", 1, False),
        (0.2, "update", 2, False),
        (0.8, "update", 2, True),
        (1.6, "update", 3, True),
        (2.4, "end", 3, True),
    ]
