"""What holds of every stream of matches: one event at a time, and each from its onset to its end."""

from __future__ import annotations

import math

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
        hold_score=draw(_SCORES),
        sure_score=draw(_SCORES),
        hits=draw(st.integers(1, 3)),
        out_of=draw(st.integers(3, 5)),
        release_s=draw(st.sampled_from([0.0, 0.5, 2.0])),
        refractory_s=draw(st.sampled_from([0.0, 1.0])),
        update_s=draw(st.sampled_from([0.1, 0.5])),
    )


@given(decisions(), configs())
def test_events_follow_one_another_each_from_onset_over_updates_to_end(
    stream: list[tuple[float, Match | None]], config: Events
) -> None:
    events, running, seen = BodyEvents(config.out_of), "", set()
    ended_s: dict[str, float] = {}
    for now_s, match in stream:
        for kind, active in events.follow(match, now_s, config):
            if kind == "onset":
                assert not running
                assert active.id not in seen
                assert match is not None
                assert active.match == match
                assert match.score >= config.min_score
                assert now_s - ended_s.get(match.label, -math.inf) > config.refractory_s
                running = active.id
                seen.add(running)
            else:
                assert active.id == running
                if kind == "end":
                    running = ""
                    ended_s[active.match.label] = now_s
            assert active.t_start_s <= active.last_hit_s <= now_s
        assert (events.active is not None) == bool(running)
        if events.active is not None:
            assert events.active.id == running
            assert now_s - events.active.last_hit_s <= config.release_s


@given(decisions(), configs())
def test_silence_ends_every_event(stream: list[tuple[float, Match | None]], config: Events) -> None:
    events = BodyEvents(config.out_of)
    for now_s, match in stream:
        events.follow(match, now_s, config)
    was_active = events.active is not None
    told = events.follow(None, stream[-1][0] + config.release_s + 0.01, config)
    assert [kind for kind, _ in told] == ["end"] * was_active
    assert events.active is None
