"""What was seen is made for subscribers alone, and no faster than a picture needs it; over real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge.daemon.skeletons import Skeletons
from streams.clients import EventSubscriber
from streams.frame import SkeletonFrame, body_as_seen
from streams.sockets import EventPublisher


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path / 'events'}"


@pytest.fixture
def publisher(endpoint: str) -> Iterator[EventPublisher]:
    with closing(EventPublisher(endpoint)) as opened:
        yield opened


def frame(time_s: float, source: str = "cam") -> SkeletonFrame:
    joints_m = np.zeros((25, 3), np.float32)
    joints_m[3, 1] = np.nan
    return SkeletonFrame(
        source=source, epoch="e", seq=0, timestamp_s=time_s, t_send_s=time_s, bodies=(body_as_seen(2, joints_m),)
    )


def wait_until_wanted(publisher: EventPublisher, topic: str) -> None:
    deadline = time.monotonic() + 5
    while not publisher.is_wanted(topic):
        assert time.monotonic() < deadline
        publisher.take_subscriptions()
        time.sleep(0.01)


def test_nothing_is_made_of_what_nobody_asked_for(publisher: EventPublisher, endpoint: str) -> None:
    skeletons = Skeletons(publisher)
    with closing(EventSubscriber(endpoint, ("", "event.", "scores.", "skeleton.other"))):
        wait_until_wanted(publisher, "skeleton.other")
        skeletons.tell([frame(0.0), frame(1.0)], 1.0)
        assert skeletons.num_sent == 0
        skeletons.tell([frame(2.0), frame(2.0, "other")], 2.0)
        assert skeletons.num_sent == 1


@pytest.mark.parametrize(("fps", "expected"), [(10, 100), (15, 150), (30, 150), (60, 150), (1000, 150)])
def test_at_most_fifteen_a_second_are_sent(publisher: EventPublisher, endpoint: str, fps: int, expected: int) -> None:
    skeletons, rng = Skeletons(publisher), np.random.default_rng(fps)
    with closing(EventSubscriber(endpoint, ("skeleton.",))):
        wait_until_wanted(publisher, "skeleton.cam")
        times_s = 100 + np.arange(10 * fps) / fps + rng.uniform(0, 0.1 / fps, 10 * fps)
        for time_s in times_s.tolist():
            skeletons.tell([frame(time_s)], time_s)
    assert abs(skeletons.num_sent - expected) <= 2


def test_the_newest_of_the_frames_that_waited_is_sent(publisher: EventPublisher, endpoint: str) -> None:
    skeletons = Skeletons(publisher)
    with closing(EventSubscriber(endpoint, ("skeleton.",))) as subscriber:
        wait_until_wanted(publisher, "skeleton.cam")
        skeletons.tell([frame(1.0), frame(1.0, "door"), frame(1.1), frame(1.2)], 5.0)
        received = [subscriber.receive(5.0), subscriber.receive(5.0)]
        # A pause, in which the publisher's clock was set back.
        skeletons.tell([frame(0.1)], 60.0)
        received.append(subscriber.receive(5.0))
    told = [(topic, message["timestamp"]) for topic, message in filter(None, received)]
    assert told == [("skeleton.cam", 1.2), ("skeleton.door", 1.0), ("skeleton.cam", 0.1)]
    message = received[0][1] if received[0] else {}
    assert {**message, "bodies": []} == {"v": 1, "source": "cam", "timestamp": 1.2, "clock": "", "bodies": []}
    joints: list[list[float] | None] = [[0.0, 0.0, 0.0]] * 25
    joints[3] = None
    assert message["bodies"] == [{"id": 2, "joints": joints}]
