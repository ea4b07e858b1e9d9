"""What systemd hears of the daemon, at a socket that takes systemd's place."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge.daemon.systemd import Systemd
from tests.conftest import SCRIPT

if TYPE_CHECKING:
    from tests.conftest import MakeConfig

_PATIENCE_S = 60.0


@contextlib.contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    """Yield a socket as systemd has it, bound to the address; what nobody sends for long is an error."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + address[1:] if address.startswith("@") else address)
        systemd.settimeout(_PATIENCE_S)
        yield systemd


def heard(systemd: socket.socket) -> str:
    return systemd.recv(4096).decode()


def forget(systemd: socket.socket) -> None:
    """Read what was sent so far."""
    systemd.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while heard(systemd):
            pass


def test_the_daemon_tells_that_it_is_ready_alive_and_stopping(make_config: MakeConfig, tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    environment = {**os.environ, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "400000"}
    with listening(address) as systemd:
        command = [str(SCRIPT), "serve", "--camera", "zmq", "--config", str(make_config())]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as daemon:
            try:
                first = [heard(systemd) for _ in range(6)]
                # A loop that does not turn tells nothing; systemd would end it.
                daemon.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, daemon.pid, os.WSTOPPED)
                forget(systemd)
                systemd.settimeout(1)
                with pytest.raises(TimeoutError):
                    heard(systemd)
                systemd.settimeout(_PATIENCE_S)
                daemon.send_signal(signal.SIGCONT)
                assert heard(systemd).startswith(("WATCHDOG=1", "STATUS="))
                daemon.terminate()
                last = heard(systemd)
                while last.startswith(("WATCHDOG=1", "STATUS=")):
                    last = heard(systemd)
                assert last == "STOPPING=1"
            finally:
                daemon.kill()
    assert first[0] == "READY=1"
    assert first.count("WATCHDOG=1") >= 2
    assert next(line for line in first if line.startswith("STATUS=")) == (
        "STATUS=camera zmq: 0 sources, 0 bodies, 0 events of 0 enrolled actions"
    )


def test_signs_of_life_come_twice_as_often_as_systemd_asks(tmp_path: Path) -> None:
    address = f"@crossglg-{uuid.uuid4().hex}"
    with listening(address) as systemd:
        told = Systemd({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())})
        for now_s in (10.0, 10.9, 11.0, 11.5, 12.1):
            told.alive(now_s)
        told.status("one")
        told.status("one")
        told.status("two")
        told.close()
        told.ready()  # after the end it tells nothing
        assert [heard(systemd) for _ in range(5)] == ["WATCHDOG=1"] * 3 + ["STATUS=one", "STATUS=two"]
        systemd.settimeout(0)
        with pytest.raises(BlockingIOError):
            heard(systemd)


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "0"}],
)
def test_who_is_not_asked_for_signs_of_life_gives_none(environment: dict[str, str], tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with listening(address) as systemd:
        told = Systemd({**environment, "NOTIFY_SOCKET": address})
        told.alive(5.0)
        told.stopping()
        told.close()
        assert heard(systemd) == "STOPPING=1"


def test_a_systemd_that_reads_nothing_holds_nobody_up(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with listening(address):
        told = Systemd({"NOTIFY_SOCKET": address})
        begin_s = time.monotonic()
        for number in range(5000):
            told.status(f"{number}")
        assert time.monotonic() - begin_s < _PATIENCE_S
        told.close()


def test_a_systemd_that_is_gone_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = Systemd({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    with caplog.at_level(logging.WARNING, logger="crossglg_edge"):
        told.ready()
        told.stopping()
    assert len(caplog.messages) == 1
    assert "READY=1" in caplog.messages[0]
    assert "nobody" in caplog.messages[0]
