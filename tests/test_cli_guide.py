"""A person is led through an enrollment: real daemon, real sockets, somebody who acts when told to."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from edge.cli.app import app
from edge.cli.guide import guide
from edge.protocol import EnrollStart, EnrollState
from streams.arrays import Array
from streams.errors import ControlError
from streams.frame import HIGH, Body, SkeletonFrame
from streams.performer import perform
from streams.sockets import ControlClient, FramePublisher

if TYPE_CHECKING:
    from tests.conftest import DaemonProcess, Serve

SCRIPT = str(Path(sys.executable).with_name("crossglg-edge"))
SPEED = 4


class Person(threading.Thread):
    """Stand before the sensor, four times as fast as real time, and do `action` once at each capture."""

    def __init__(self, daemon: DaemonProcess) -> None:
        super().__init__(daemon=True)
        self.action = "wave"
        self.seed = 0
        self._is_leaving = threading.Event()
        self._daemon = daemon
        self._seq = 0

    def run(self) -> None:
        publisher = FramePublisher(self._daemon.sockets.frames)
        client = ControlClient(self._daemon.sockets.control, timeout_s=10)
        confidence = np.full(25, HIGH, np.uint8)
        left: list[Array] = []
        was_capturing = False
        try:
            while not self._is_leaving.wait(1 / 30 / SPEED):
                if self._seq % 10 == 0 and not left:
                    is_capturing = client.ask("enroll.status")["state"] == "capture"
                    begins = is_capturing and not was_capturing
                    left = list(perform(self.action, seed=self.seed).joints_m) if begins else []
                    was_capturing = is_capturing
                joints_m = left.pop(0) if left else perform("wave", seed=self.seed).joints_m[0]
                self._seq += 1
                now_s = self._seq / 30
                body = Body(id=1, joints_m=joints_m, confidence=confidence)
                publisher.send(
                    SkeletonFrame(
                        source="cam", epoch="e", seq=self._seq, timestamp_s=now_s, t_send_s=now_s, bodies=(body,)
                    )
                )
        finally:
            publisher.close()
            client.close()

    def leave(self) -> None:
        self._is_leaving.set()
        self.join()


@pytest.fixture(scope="module")
def daemon(serve: Serve) -> DaemonProcess:
    return serve("zmq")


@pytest.fixture(scope="module")
def person(daemon: DaemonProcess) -> Iterator[Person]:
    person = Person(daemon)
    person.start()
    yield person
    person.leave()


@pytest.fixture
def empty_gallery(daemon: DaemonProcess) -> None:
    daemon.ask("gallery.revert", revision=0)


pytestmark = pytest.mark.usefixtures("empty_gallery")


def labels(daemon: DaemonProcess) -> dict[str, int]:
    return {label["label"]: len(label["examples"]) for label in daemon.ask("gallery.list")["labels"]}


def enroll(daemon: DaemonProcess, *args: str, answer: str | None = None) -> Result:
    return invoke(daemon, "enroll", *args, answer=answer)


def invoke(daemon: DaemonProcess, *args: str, answer: str | None = None) -> Result:
    words = [*args, "--countdown", "0.3", "--config", str(daemon.config)]
    return CliRunner().invoke(app, words, input=answer)


def until(is_so: Callable[[], Any]) -> Any:
    deadline_s = time.monotonic() + 20
    while not (value := is_so()):
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.02)
    return value


def led(daemon: DaemonProcess, *, quiet: bool, **args: Any) -> tuple[EnrollState, str]:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80)
    client = ControlClient(daemon.sockets.control, timeout_s=10)
    try:
        status = guide(client, terminal, EnrollStart(**args), quiet=quiet)
    finally:
        client.close()
    assert isinstance(terminal.file, io.StringIO)
    return status, terminal.file.getvalue()


def test_a_person_is_told_what_to_do_and_hears_when(daemon: DaemonProcess, person: Person) -> None:
    status, told = led(daemon, quiet=False, label="wave", countdown_s=2.0)
    assert status.state == "done"
    for words in ("stand still", "get ready", "do it now"):
        assert words in told
    assert told.index("stand still") < told.index("get ready") < told.index("do it now")
    assert told.count("\a") == 2 + 2 + 1, "one a second, two when it is time, one at the end"


def test_quiet_is_quiet(daemon: DaemonProcess, person: Person) -> None:
    status, told = led(daemon, quiet=True, label="wave", countdown_s=0.3)
    assert (status.state, told) == ("done", "")


def test_what_fails_is_raised_with_its_code(daemon: DaemonProcess, person: Person) -> None:
    with pytest.raises(ControlError) as refused:
        led(daemon, quiet=True, label="wave", countdown_s=0.0, source="nobody")
    assert refused.value.code == "no_body"


def test_a_preview_that_is_turned_down_is_not_stored(daemon: DaemonProcess, person: Person) -> None:
    answer = enroll(daemon, "wave", "--confirm", answer="n\n")
    assert answer.exit_code == 1, answer.output
    assert "captured wave: " in answer.stderr
    assert "HandRight" in answer.stderr
    assert "not stored" in answer.stderr
    assert labels(daemon) == {}
    assert daemon.ask("enroll.status")["error"]["code"] == "cancelled"


def test_a_preview_that_is_like_another_action_is_stored_only_at_a_plain_yes(
    daemon: DaemonProcess, person: Person
) -> None:
    answer = enroll(daemon, "wave", "--confirm", answer="\n")
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.startswith("enrolled wave: ")
    answer = enroll(daemon, "hello", "--confirm", answer="\n")
    assert "It is much like wave" in answer.stderr
    assert labels(daemon) == {"wave": 1}
    assert enroll(daemon, "hello", "--confirm", answer="y\n").exit_code == 0
    assert labels(daemon) == {"wave": 1, "hello": 1}


def test_a_question_that_nobody_answers_stores_nothing(daemon: DaemonProcess, person: Person) -> None:
    assert enroll(daemon, "wave", "--confirm", answer="").exit_code == 130
    assert labels(daemon) == {}
    assert daemon.ask("status")["enrolling"] is None


def test_several_examples_are_captured_in_one_go(daemon: DaemonProcess, person: Person) -> None:
    answer = enroll(daemon, "wave", "--examples", "2", "--side", "either")
    assert answer.exit_code == 0, answer.output
    assert [line.split(":")[0] for line in answer.stdout.splitlines() if "enrolled" in line] == ["enrolled wave"] * 2
    assert labels(daemon) == {"wave": 4}
    assert daemon.ask("gallery.undo")["undone"].endswith("add 'wave'")
    assert labels(daemon) == {"wave": 2}, "the last of them, as shown and mirrored"


def test_ordinary_movement_is_captured_live(daemon: DaemonProcess, person: Person) -> None:
    answer = invoke(daemon, "negatives", "record", "--seconds", "1")
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.startswith("stored ordinary movement: ")
    (negative,) = daemon.ask("gallery.list")["negatives"]
    assert negative["origin"] == "live:cam"
    assert 2 < negative["duration_s"] < 6, "four times as fast as real time"
    assert daemon.ask("status")["gallery"]["negatives"] == 1
    assert labels(daemon) == {}


def test_whoever_leaves_at_the_question_leaves_nothing_behind(daemon: DaemonProcess, person: Person) -> None:
    command = [SCRIPT, "enroll", "wave", "--confirm", "--countdown", "0.3", "--config", str(daemon.config)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as asking:
        preview = until(lambda: daemon.ask("enroll.status").get("preview"))
        assert preview["moved"][0]["joint"] == "HandRight"
        stderr = asking.stderr
        assert stderr is not None
        until(lambda: "captured" in stderr.readline())
        asking.send_signal(signal.SIGINT)
        _, err = asking.communicate(timeout=20)
    assert asking.returncode == 130, err
    assert "cancelled, nothing was stored" in err
    assert labels(daemon) == {}
    assert daemon.ask("status")["enrolling"] is None


def test_a_daemon_that_dies_in_the_middle_stores_nothing_and_is_missed(serve: Serve) -> None:
    victim = serve("zmq")
    command = [SCRIPT, "enroll", "wave", "--config", str(victim.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as enrolling:
        until(lambda: victim.ask("status")["enrolling"] == "wave")
        victim.process.kill()
        victim.process.wait()
        out, err = enrolling.communicate(timeout=30)
    assert (enrolling.returncode, out) == (3, "")
    assert err.startswith("error (unreachable)")
    heir = serve("zmq", config=victim.config)
    assert heir.ask("gallery.list") == {"gallery_revision": 0, "labels": [], "negatives": []}
    assert heir.ask("enroll.status") == {"state": "none"}
    assert heir.stop() == 0
