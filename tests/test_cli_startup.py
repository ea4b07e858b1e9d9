"""The command line starts in a fraction of a second: what only sends a request imports nothing heavy."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import edge.cli

if TYPE_CHECKING:
    from tests.conftest import DaemonProcess, MakeConfig, Serve

HEAVY = {"numpy", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "torch", "mcap", "matplotlib", "httpx2"}
# Whether rich is there is told, too: it prints for people, never JSON.
_WATCHED = HEAVY | {"rich"}
_RUN = f"""
import sys
from edge.cli.app import main
try:
    main()
finally:
    print("imported", *sorted({_WATCHED} & {{*sys.modules}}), file=sys.stderr)
"""


def imports_of(*args: str, config: Path | None = None, code: int = 0) -> set[str]:
    """Run a command line; return which of the watched packages it imports."""
    env = {**os.environ, "NO_COLOR": "1"}
    command = [sys.executable, "-c", _RUN, *args, *([] if config is None else ["--config", str(config)])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("imported")]
    assert len(lines) == 1, done.stderr
    return {*lines[0].split()[1:]}


@pytest.fixture(scope="module")
def daemon(serve: Serve) -> DaemonProcess:
    return serve("zmq")


def test_no_file_of_the_command_line_imports_what_is_heavy() -> None:
    offline = distribution("crossglg-edge").entry_points.select(group="crossglg_edge.commands")
    modules = [f"edge.cli.{path.stem}" for path in Path(edge.cli.__path__[0]).glob("[!_]*.py")]
    modules += sorted({entry.module for entry in offline})
    code = f"import sys, {', '.join(modules)}; print(*sorted({_WATCHED} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert len(modules) > 15
    assert done.stdout == "\n"


@pytest.mark.parametrize(
    "args",
    [("--help",), ("-h",), ("gallery", "-h"), ("serve", "--help"), ("evaluate", "one-shot", "-h"), ("train", "-h")],
)
def test_help_imports_nothing_heavy(args: tuple[str, ...]) -> None:
    assert imports_of(*args) == {"rich"}


def test_the_version_imports_nothing_heavy() -> None:
    assert imports_of("--version") == set()


@pytest.mark.parametrize(
    "args",
    [
        ("status", "--json"),
        ("gallery", "list", "--json"),
        ("gallery", "show", "--json"),
        ("gallery", "history", "--json"),
        ("threshold", "get", "--json"),
        ("review", "--json"),
        ("review", "list", "--json"),
        ("watch", "--json", "--seconds", "0.1"),
    ],
)
def test_what_asks_a_daemon_for_json_imports_nothing_heavy(daemon: DaemonProcess, args: tuple[str, ...]) -> None:
    assert imports_of(*args, config=daemon.config) == set()


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("status",), 0),
        (("gallery", "list"), 0),
        (("threshold", "get"), 0),
        (("gallery", "undo"), 2),
        (("review", "undo"), 2),
        (("enroll", "wave", "--countdown", "0", "--source", "nobody"), 2),
    ],
)
def test_what_asks_a_daemon_for_people_imports_nothing_heavy_but_rich(
    daemon: DaemonProcess, args: tuple[str, ...], code: int
) -> None:
    assert imports_of(*args, config=daemon.config, code=code) == {"rich"}


@pytest.mark.parametrize("command", ["status", "stop"])
def test_to_find_no_daemon_imports_nothing_heavy(make_config: MakeConfig, command: str) -> None:
    assert imports_of(command, config=make_config(), code=3) == {"rich"}


def test_a_daemon_is_stopped_without_anything_heavy(serve: Serve) -> None:
    assert imports_of("stop", config=serve("zmq").config) <= {"rich"}


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="slices need the extra `train`")
def test_the_help_names_every_slice() -> None:
    from training.cli.evaluate import SLICE_NAMES
    from training.evaluate.live import SLICES

    assert list(SLICES) == ["clean", *SLICE_NAMES]
