"""Live recognition of real people: one example each, other people's clips, actions never enrolled among them."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streams.archive import Archive, Clip, read_archive
from streams.frame import SkeletonFrame
from streams.sockets import ControlClient, EventSubscriber, FramePublisher

DATA = Path(__file__).parents[2] / "shared" / "data"
# Chosen before anything was measured: arms, both arms, whole body.
ENROLLED = ("wave", "clap", "arm cross", "squat", "bowling")
NEVER_ENROLLED = ("swipe left", "basketball shoot", "knock", "sit to stand", "lunge")
ENROLLER, PERFORMERS = 1, (2, 3, 4, 5)
SPEED = 3.0
PAUSE_S = 1.0
NOTHING = "(none of these)"

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the recordings are not there")


def clips_of(archive: Archive, label: str, subjects: tuple[int, ...]) -> list[Clip]:
    """Return the first clip of each subject doing the action."""
    clips = [archive[i] for i in range(len(archive))]
    mine = [[clip for clip in clips if clip.label == label and clip.subject == subject] for subject in subjects]
    return [found[0] for found in mine if found]


def stream(clips: list[Clip]) -> Iterator[SkeletonFrame]:
    """Yield the clips one after another; clip i is body i, and nobody is seen in between."""
    epoch, seq, start_s = uuid.uuid4().hex, 0, 0.0
    for body, clip in enumerate(clips):
        for frame in clip.frames(source="utd", epoch=epoch, body=body):
            yield replace(frame, seq=seq, timestamp_s=start_s + frame.timestamp_s)
            seq += 1
        start_s += len(clip.timestamps_s) / clip.fps
        for i in range(int(PAUSE_S * clip.fps)):
            yield replace(frame, seq=seq, timestamp_s=start_s + i / clip.fps, bodies=())
            seq += 1
        start_s += PAUSE_S


def publish_and_listen(
    publisher: FramePublisher, events: EventSubscriber, frames: Iterator[SkeletonFrame], speed: float
) -> list[dict[str, Any]]:
    """Publish in real time x speed; return the events that came, until a second after the last frame."""
    received: list[dict[str, Any]] = []

    def listen(until_s: float) -> None:
        while (left_s := until_s - time.monotonic()) > 0:
            message = events.receive(left_s)
            if message is not None:
                received.append(message[1])

    start_s = time.monotonic()
    for frame in frames:
        listen(start_s + frame.timestamp_s / speed)
        publisher.send(replace(frame, t_send_s=frame.timestamp_s))
    listen(time.monotonic() + 1.0)
    return received


def named(events: list[dict[str, Any]], body: int) -> tuple[str, int]:
    """Return the best-scoring label of a body's events, and how many events began."""
    mine = [event for event in events if event["body"] == body]
    if not mine:
        return NOTHING, 0
    best = max(mine, key=lambda event: float(event["score"]))
    return str(best["label"]), len({event["id"] for event in mine})


def confusion_table(counts: Counter[tuple[str, str]], truths: tuple[str, ...]) -> str:
    columns = (*ENROLLED, NOTHING)
    lines = [" " * 18 + "".join(f"{column[:10]:>11}" for column in columns)]
    lines += [f"{truth:18}" + "".join(f"{counts[truth, column]:11d}" for column in columns) for truth in truths]
    return "\n".join(lines)


def test_actions_shown_once_by_one_person_are_recognized_in_others(
    serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["[sockets]", *(f'{name} = "ipc://{tmp_path / name}"' for name in ("frames", "events", "control"))]
    lines += ["[gallery]", f'path = "{tmp_path / "gallery.db"}"']
    config = tmp_path / "config.toml"
    config.write_text("\n".join(lines), encoding="utf-8")
    sockets = serve("zmq", config=config).sockets
    archive = read_archive(DATA / "utd_mhad.npz")
    control = ControlClient(sockets.control, timeout_s=20)
    for label in ENROLLED:
        clip = clips_of(archive, label, (ENROLLER,))[0]
        control.ask(
            "enroll.clip",
            label=label,
            timestamps_s=clip.timestamps_s.astype("<f8").tobytes(),
            joints_m=np.asarray(clip.persons[0].joints_m, "<f4").tobytes(),
            origin=f"file:{clip.source}",
            force=True,
        )
    clips = [clip for label in (*ENROLLED, *NEVER_ENROLLED) for clip in clips_of(archive, label, PERFORMERS)]
    clips = [clips[i] for i in np.random.default_rng(0).permutation(len(clips))]
    events = EventSubscriber(sockets.events)
    publisher = FramePublisher(sockets.frames)
    assert publisher.wait_for_subscriber(5.0)
    received = publish_and_listen(publisher, events, stream(clips), SPEED)
    status = control.ask("status")
    for socket in (control, events, publisher):
        socket.close()

    counts: Counter[tuple[str, str]] = Counter()
    num_onsets = 0
    for body, clip in enumerate(clips):
        label, begun = named(received, body)
        counts[clip.label, label] += 1
        num_onsets += begun
    right = sum(counts[label, label] for label in ENROLLED)
    of_enrolled = sum(clip.label in ENROLLED for clip in clips)
    rejected = sum(counts[label, NOTHING] for label in NEVER_ENROLLED)
    of_never = len(clips) - of_enrolled
    source = status["sources"]["utd"]
    with capsys.disabled():
        print(f"\n\nlive, real recordings x {SPEED:g}, one example an action from person {ENROLLER}, others perform:")
        print(confusion_table(counts, (*ENROLLED, *NEVER_ENROLLED)))
        print(f"enrolled actions named right: {right} of {of_enrolled}; others left alone: {rejected} of {of_never}")
        print(f"events begun: {num_onsets}; frames {source['frames']}, lost {source['lost']}, ", end="")
        print(f"decisions {status['decisions']}, hops skipped {status['hops_skipped']}")
    assert source["frames"] + source["lost"] + sum(source["dropped"].values()) == sum(1 for _ in stream(clips))
    begun_ids = {event["id"] for event in received if event["type"] == "onset"}
    assert begun_ids == {event["id"] for event in received if event["type"] == "end"}
    assert right >= 0.6 * of_enrolled
    assert rejected >= 0.5 * of_never
