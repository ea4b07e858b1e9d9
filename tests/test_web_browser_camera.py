"""Browsers as cameras, at the page's server: what they send becomes frames; what is none is refused and counted."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("aiohttp", reason="the page needs the extra `web`")

import aiohttp

from edge.config import read_config
from edge.web.browser_camera import MAX_CAMERAS
from edge.web.browser_clock import BrowserClock
from streams.clock import clock_name
from streams.frame import SkeletonFrame
from streams.sockets import FrameSubscriber
from streams.wire import decode_frame

if TYPE_CHECKING:
    from tests.conftest import MakeConfig, ServePage

_PATIENCE_S = 30
Page = tuple[str, FrameSubscriber]


@pytest.fixture(scope="module")
def page(make_config: MakeConfig, serve_page: ServePage) -> Iterator[Page]:
    """Serve the page; give its address, and the socket at which a daemon would take its frames."""
    config = make_config()
    frames = FrameSubscriber(read_config(config).sockets.frames)
    url = serve_page(config)
    asyncio.run(_found(url, frames))
    yield url, frames
    frames.close()


async def _found(url: str, frames: FrameSubscriber) -> None:
    """Wait until the page's server has found whoever takes its frames: what it sends before is lost."""
    async with (
        asyncio.timeout(_PATIENCE_S),
        aiohttp.ClientSession(url) as client,
        client.ws_connect("/camera/frames?name=first") as camera,
    ):
        for seq in itertools.count():
            await camera.send_str(said(seq, sent_ms=seq, taken_ms=seq))
            await asyncio.sleep(0.02)
            frames.socket.poll(20)  # a bound SUB takes new publishers only while it is polled
            if frames.receive(1):
                return


def run(page: Page, act: Callable[[aiohttp.ClientSession, str], Awaitable[None]]) -> None:
    async def session() -> None:
        async with asyncio.timeout(_PATIENCE_S), aiohttp.ClientSession(page[0]) as client:
            await act(client, "/camera/frames?name=")

    asyncio.run(session())


def said(seq: int | None = None, *, sent_ms: float, taken_ms: float = 0.0, **pose: Any) -> str:
    """Return what a page sends: a person of 1 m at the middle of a square picture, or only its time."""
    if seq is None:
        return json.dumps({"sent_ms": sent_ms})
    heights = [-0.5 + joint / 32 for joint in range(33)]
    whole = {
        "picture": [[0.5, 0.5 + height / 2] for height in heights],
        "joints": [[0.0, height, 0.0] for height in heights],
        "visibility": [1.0] * 33,
    }
    frame = {"seq": seq, "taken_ms": taken_ms, "width": 640, "height": 640, "poses": [whole | pose]}
    return json.dumps({"sent_ms": sent_ms, "frame": frame})


def next_frame(frames: FrameSubscriber, source: str) -> SkeletonFrame:
    deadline_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline_s:
        frames.socket.poll(20)
        for _, payload in frames.receive(1):
            frame = decode_frame(payload)
            if frame.source == source:
                return frame
    raise AssertionError(f"no frame of {source}")


async def told(camera: aiohttp.ClientWebSocketResponse, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the first of the server's reports of which something is true."""
    while True:
        report: dict[str, Any] = await camera.receive_json()
        if is_it(report):
            return report


def test_what_a_browser_sees_becomes_frames_on_this_machines_clock(page: Page) -> None:
    async def act(client: aiohttp.ClientSession, path: str) -> None:
        async with client.ws_connect(path + "kitchen") as camera:
            begun_s = time.monotonic()
            # The page was opened 5 s ago, by its own clock.
            await camera.send_str(said(sent_ms=5000))
            await camera.send_str(said(7, sent_ms=5000, taken_ms=4900))
            frame = next_frame(page[1], "browser-kitchen")
            assert (frame.layout, frame.axes, frame.mirrored, frame.seq) == ("mediapipe33", "RDF", False, 7)
            assert frame.clock == clock_name()
            assert 0 < frame.timestamp_s - (begun_s - 0.1) < time.monotonic() - begun_s
            assert frame.t_send_s >= frame.timestamp_s + 0.1
            (body,) = frame.bodies
            assert body.id == 0
            # 1 m is half of the picture at 2 m, as with a webcam; see tests/test_webcam.py.
            assert body.joints_m[32].tolist() == pytest.approx([0.0, 0.5, 2.0], abs=1e-3)
            report = await told(camera, lambda report: report["frames"] > 0)
            assert report == {"source": "browser-kitchen", "frames": 1, "refused": {}}

    run(page, act)


def test_a_joint_that_is_hardly_seen_has_little_confidence(page: Page) -> None:
    async def act(client: aiohttp.ClientSession, path: str) -> None:
        async with client.ws_connect(path + "faint") as camera:
            await camera.send_str(said(0, sent_ms=0, visibility=[1.0, 0.5, 0.2, 0.0] + [1.0] * 29))
            (body,) = next_frame(page[1], "browser-faint").bodies
            assert body.confidence[:4].tolist() == [3, 2, 1, 0]

    run(page, act)


def test_what_is_no_frame_is_counted_by_reason_and_told_and_the_next_one_is_taken(page: Page) -> None:
    nobody = {"seq": 1, "taken_ms": 1, "width": 640, "height": 480, "poses": []}
    wrong = [
        *("no JSON", "{}", "[]", '{"sent_ms": 1e999}', said(sent_ms=-1), said(0, sent_ms=1e300)),
        *(said(-1, sent_ms=1), said(0, sent_ms=1, taken_ms=-1), said(0, sent_ms=1, more=1)),
        *(said(0, sent_ms=1, joints=[[0.0, 0.0, 0.0]] * 25), said(0, sent_ms=1, joints=[[0.0, 170.0, 0.0]] * 33)),
        *(said(0, sent_ms=1, picture=[[0.5]] * 33), said(0, sent_ms=1, visibility=[1.5] * 33)),
        *(json.dumps({"sent_ms": 1, "frame": nobody | {key: 0}}) for key in ("width", "height", "poses")),
    ]

    async def act(client: aiohttp.ClientSession, path: str) -> None:
        async with client.ws_connect(path + "odd") as camera:
            for text in wrong:
                await camera.send_str(text)
            await camera.send_str(said(1, sent_ms=1))
            await camera.send_str(said(2, sent_ms=1))  # the same moment once more
            report = await told(camera, lambda report: report["frames"] > 0)
            assert report["refused"] == {"bad_message": len(wrong), "time_backwards": 1}
            assert next_frame(page[1], "browser-odd").seq == 1

    run(page, act)


def test_the_newest_page_of_a_name_is_the_camera(page: Page) -> None:
    async def act(client: aiohttp.ClientSession, path: str) -> None:
        async with client.ws_connect(path + "twice") as first:
            await first.receive()
            async with client.ws_connect(path + "twice") as second:
                await first.receive()
                assert first.close_code == 4001
                await second.send_str(said(0, sent_ms=0))
                assert next_frame(page[1], "browser-twice").seq == 0

    run(page, act)


def test_names_that_are_none_and_too_many_cameras_are_refused(page: Page) -> None:
    async def act(client: aiohttp.ClientSession, path: str) -> None:
        for name in ("", "%20", "a%0Ab", "x" * 101):
            async with client.ws_connect(path + name) as camera:
                await camera.receive()
                assert camera.close_code == 4003, name
        cameras = [await client.ws_connect(f"{path}many{number}") for number in range(MAX_CAMERAS)]
        async with client.ws_connect(path + "oneMore") as camera:
            await camera.receive()
            assert camera.close_code == 4002
        for camera in cameras:
            await camera.close()
        async with client.ws_connect(path + "oneMore") as camera:
            assert (await camera.receive_json())["source"] == "browser-oneMore"

    run(page, act)


def test_the_page_of_another_site_is_no_camera(page: Page) -> None:
    async def act(client: aiohttp.ClientSession, path: str) -> None:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await client.ws_connect(path + "evil", origin="http://evil.example")
        assert caught.value.status == 403

    run(page, act)


def test_the_fastest_message_tells_how_far_two_clocks_are_apart() -> None:
    clock = BrowserClock()
    for way_s in (0.3, 0.02, 0.25, 0.04):
        clock.hear(10.0, 110.0 + way_s)
    assert clock.here_s(10.0) == pytest.approx(110.02)


def test_two_clocks_that_drift_apart_are_followed() -> None:
    clock = BrowserClock()
    for second in range(3600):
        clock.hear(second * (1 - 1e-4), 100.0 + second + 0.01)
    # 100 ppm are 6 ms in the minute that it looks back on, at most twice.
    assert clock.here_s(3599 * (1 - 1e-4)) == pytest.approx(3699.01, abs=0.013)


def test_a_device_that_slept_is_on_time_again_at_once() -> None:
    clock = BrowserClock()
    clock.hear(10.0, 110.0)
    # Its clock stood still for an hour.
    clock.hear(11.0, 3711.0)
    assert clock.here_s(11.0) == pytest.approx(3711.0)
    # A message that was held back for some seconds is no such thing.
    clock.hear(12.0, 3714.0)
    assert clock.here_s(12.0) == pytest.approx(3712.0)
