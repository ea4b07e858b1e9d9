"""The command line as a person or a script meets it: real processes, their output and their exit codes."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import termios
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import typer.main
from rich.console import Console
from typer.testing import CliRunner

from edge.cli.app import add_offline_commands, app
from edge.cli.doctor import Finding, print_findings
from edge.cli.terminal import escape, table
from edge.config import read_config
from edge.library import open_library
from streams.errors import ControlError, CrossGLGError, GalleryError, RecordingError
from streams.layouts import KINECT25_JOINTS
from streams.performer import perform
from streams.recording import describe_recording

if TYPE_CHECKING:
    from tests.conftest import DaemonProcess, MakeConfig, Serve

SCRIPT = str(Path(sys.executable).with_name("crossglg-edge"))
CLIPS = ("wave", "bow", "raise_arms")

# Running commands

_started: list[subprocess.Popen[str]] = []


@pytest.fixture(scope="module", autouse=True)
def _leave_nothing_running() -> Iterator[None]:
    yield
    for process in _started:
        process.kill()
        process.communicate()


def start(*args: object, config: Path) -> subprocess.Popen[str]:
    command = [SCRIPT, *map(str, args), "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _started.append(process)
    return process


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """Return stdout and stderr of a command that ends with this exit code, and without a traceback."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, (process.args, process.returncode, out, err)
    assert "Traceback" not in err
    return out, err


def run(*args: object, config: Path) -> str:
    """Return what a command says on stdout."""
    return finish(start(*args, config=config))[0]


def call(*args: object, config: Path) -> str:
    """Return what a command says on stdout, in this process, which is quicker. Raises what it raises."""
    answer = CliRunner().invoke(app, [*map(str, args), "--config", str(config)], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def read_json(*args: object, config: Path) -> Any:
    return json.loads(call(*args, "--json", config=config))


def refused(*args: object, config: Path, code: int = 2) -> list[str]:
    """Return the lines of a refusal: one for the error, one for the hint where there is one; nothing on stdout."""
    out, err = finish(start(*args, config=config), code)
    lines = err.splitlines()
    assert out == ""
    assert lines[0].startswith("error (")
    assert len(lines) <= 2
    return lines


def until(is_so: Callable[[], Any]) -> Any:
    deadline_s = time.monotonic() + 20
    while not (value := is_so()):
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.05)
    return value


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a skeleton archive: each of three actions by two people."""
    clips = [perform(action, seed=seed).joints_m for action in CLIPS for seed in (0, 1)]
    path = tmp_path_factory.mktemp("archive") / "demo.npz"
    np.savez(
        path,
        frames=np.concatenate(clips),
        offsets=np.cumsum([0, *map(len, clips)]),
        label=np.repeat(np.arange(3), 2).astype(np.int16),
        subject=np.tile([0, 1], 3).astype(np.int16),
        class_names=np.array(CLIPS),
        joint_names=np.array(KINECT25_JOINTS),
        fps=np.array(30.0),
        source=np.array([f"{action}-{seed}" for action in CLIPS for seed in (0, 1)]),
    )
    return path


@pytest.fixture(scope="module")
def daemon(serve: Serve) -> DaemonProcess:
    return serve("zmq")


@pytest.fixture(scope="module")
def empty(serve: Serve) -> DaemonProcess:
    """Serve with nothing enrolled, ever."""
    return serve("zmq")


@pytest.fixture(scope="module", autouse=True)
def demo(serve: Serve) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """Start, beside the other tests, an enrollment at the synthetic performer and a watch for what comes of it."""
    config = serve("demo:2").config
    enrolling = start("enroll", "wave", "--countdown", "0.5", config=config)
    return enrolling, start("watch", "--json", config=config)


@pytest.fixture(scope="module", autouse=True)
def publish_to_nobody(archive: Path, make_config: MakeConfig) -> subprocess.Popen[str]:
    """Start, beside the other tests, what waits for five seconds."""
    return start("publish", f"{archive}:0", config=make_config())


@pytest.fixture(scope="module", autouse=True)
def publish_to_another_camera(
    demo: tuple[subprocess.Popen[str], subprocess.Popen[str]], archive: Path
) -> subprocess.Popen[str]:
    """Start, beside the other tests, what finds a daemon that takes no frames."""
    args = demo[0].args
    assert isinstance(args, list)
    return start("publish", f"{archive}:0", config=Path(str(args[-1])))


@pytest.fixture(scope="module", autouse=True)
def played_once(archive: Path, make_config: MakeConfig) -> subprocess.Popen[str]:
    """Start, beside the other tests, what plays a file to its end; the same action by somebody else is enrolled."""
    config = make_config()
    call("enroll", "bow", "--from", f"{archive}:bow-0", config=config)
    return start("serve", "--camera", f"replay:{archive}:bow-1", "--once", config=config)


# Help and configuration


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


def test_every_command_explains_itself() -> None:
    add_offline_commands()
    known = list(commands(typer.main.get_command(app)))
    assert {("serve",), ("enroll",), ("gallery", "undo"), ("evaluate", "one-shot"), ("train",), ("export",)} <= {*known}
    for path in known:
        answer = CliRunner().invoke(app, [*path, "--help"])
        assert answer.exit_code == 0, path
        assert "Usage" in answer.output
        assert len(answer.output.splitlines()) > 5, path
        assert CliRunner().invoke(app, [*path, "-h"]).output == answer.output


def test_every_option_explains_itself() -> None:
    add_offline_commands()

    def walk(command: Any) -> Iterator[Any]:
        yield command
        for child in getattr(command, "commands", {}).values():
            yield from walk(child)

    for command in walk(typer.main.get_command(app)):
        assert command.help.splitlines()[0].endswith("."), command.name
        for parameter in command.params:
            assert parameter.hidden or parameter.help, (command.name, parameter.name)


def test_the_printed_configuration_is_a_configuration(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    printed = run("config", config=config)
    copy = tmp_path / "copy.toml"
    copy.write_text(printed, encoding="utf-8")
    assert tomllib.loads(printed)["events"]["min_score"] == 0.85
    assert read_config(copy) == read_config(config)
    assert run("config", config=copy) == printed


@pytest.mark.parametrize("text", ["speed = 5\n", "[events]\nhits = 0\n", "[events\n", 'camera = "\xff"\n'])
def test_a_bad_configuration_is_refused_with_where_to_look(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="latin-1")
    lines = refused("status", config=path)
    assert lines[0].startswith(f"error (bad_config) {path}")
    assert "crossglg-edge config" in lines[1]


def test_a_configuration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refused("status", config=tmp_path / "none.toml")[0]


def test_the_doctor_finds_what_is_there_and_what_is_not(
    make_config: MakeConfig, daemon: DaemonProcess, tmp_path: Path
) -> None:
    def findings(config: Path, code: int) -> dict[str, dict[str, str]]:
        out, _ = finish(start("doctor", "--json", config=config), code)
        return {finding["what"]: finding for finding in json.loads(out)}

    config = make_config()
    found = findings(config, 0)
    assert {found[name]["state"] for name in ("onnxruntime", "model and gallery", "socket for control")} == {"ok"}
    assert found["config"]["found"] == str(config)
    assert str(daemon.process.pid) in findings(daemon.config, 0)["daemon"]["found"]

    without = make_config(bundle=tmp_path / "none")
    with without.open("a", encoding="utf-8") as file:
        file.write(f'[webcam]\nfolder = "{tmp_path / "none"}"\n')
    found = findings(without, 1)
    assert (found["webcam"]["state"], found["webcam"]["remedy"]) == ("missing", "crossglg-edge setup webcam")
    assert found["model and gallery"]["state"] == "broken"
    assert "export" in found["model and gallery"]["remedy"]
    table, _ = finish(start("doctor", config=config))
    assert "model and gallery" in table


# Refusals


def test_the_doctor_cuts_nothing_off_and_calls_what_is_optional_so() -> None:
    long = "of a model that is not here, which nothing can be done about, " * 3
    findings = [
        Finding(what="numpy", state="ok", found="2.4.6"),
        Finding(what="openvino", state="missing", found="not installed", remedy=long, command="pip install 'a[b]'"),
        Finding(what="words", state="missing", found="none", remedy="`crossglg-edge setup words` sets it up, once."),
        Finding(what="model", state="broken", found="x" * 100),
    ]
    console = Console(file=io.StringIO(), width=80, force_terminal=True, no_color=True)
    print_findings(console, findings)
    printed = re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue())  # type: ignore[attr-defined]
    lines = [line.rstrip() for line in printed.splitlines()]
    assert max(map(len, lines)) <= 80
    assert "…" not in printed
    assert {"           pip install 'a[b]'", "           crossglg-edge setup words"} <= {*lines}
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        "ok",
        "optional",
        "optional",
        "broken",
        "1",
    ]
    assert lines[-1] == "1 broken; 2 optional, not set up"
    assert " ".join(printed.split()).count("nothing can be done about") == 3


def test_a_table_cuts_nothing_off() -> None:
    console = Console(file=io.StringIO(), width=30)
    rows = table("what", "where")
    rows.add_row("gallery", "/a/long/path/to/a/file/that/somebody/looks/for.db")
    console.print(rows)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in printed
    assert "looks/for.db" in "".join(line.split("│")[-2].strip() for line in printed.splitlines() if "│" in line)


def test_a_terminal_breaks_lines_between_words_and_a_pipe_nowhere(make_config: MakeConfig) -> None:
    config = make_config()
    _, whole = finish(start("status", config=config), 3)
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 40))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"NO_COLOR": "1"}
    process = subprocess.Popen(
        [SCRIPT, "status", "--config", str(config)], stderr=follower, env={**environment, "TERM": "xterm"}
    )
    os.close(follower)
    process.wait(timeout=60)
    shown = re.sub(r"\x1b\[[\d;]*m", "", os.read(leader, 10_000).decode())
    os.close(leader)
    lines = [line.rstrip() for line in shown.splitlines()]
    words = " ".join(lines).split()
    assert "Start one with `crossglg-edge serve`," in whole
    assert " ".join(words[-10:]) == " ".join(whole.split()[-10:])
    assert all(len(line) <= 40 for line in lines if "/" not in line)


def test_without_a_daemon_the_exit_code_is_three(make_config: MakeConfig) -> None:
    config = make_config()
    lines = refused("status", config=config, code=3)
    assert lines[0].startswith("error (unreachable) no daemon answers at ipc://")
    assert "crossglg-edge serve" in lines[1]
    for args in (("enroll", "wave"), ("record", "x.mcap"), ("stop",)):
        with pytest.raises(ControlError) as unreachable:
            call(*args, config=config)
        assert unreachable.value.code == "unreachable"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("gallery", "show", "nothing"), "unknown_label"),
        (("gallery", "remove", "nothing"), "unknown_label"),
        (("gallery", "undo"), "nothing_to_undo"),
        (("gallery", "revert", "7"), "unknown_revision"),
        (("gallery", "import", "none.npz"), "not_found"),
        (("gallery", "export", "/not/there/x.npz"), "export_failed"),
        (("enroll", "x", "--from", "ARCHIVE"), "no_clip"),
        (("enroll", "x", "--from", "ARCHIVE:6"), "no_clip"),
        (("enroll", "x", "--from", "ARCHIVE:jump-0"), "no_clip"),
        (("enroll", "x", "--from", "ARCHIVE:0", "--body", "3"), "no_body"),
        (("enroll", "x", "--from", "none.npz:0"), "not_found"),
        (("enroll", "x", "--from", "none.mcap"), "not_found"),
        (("publish", "none.mcap"), "not_found"),
        (("record", "/not/there/x.mcap", "--camera", "demo"), "write_failed"),
        (("record", "x.mcap", "--camera", "webcam"), "not_set_up"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_code(
    empty: DaemonProcess, archive: Path, args: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(CrossGLGError) as refusal:
        call(*(arg.replace("ARCHIVE", str(archive)) for arg in args), config=empty.config)
    assert refusal.value.code == expected


def test_a_refusal_is_one_message_a_hint_and_the_exit_code_two(empty: DaemonProcess) -> None:
    lines = refused("gallery", "remove", "[/nothing]", config=empty.config)
    assert lines[0].startswith("error (unknown_label) ")
    assert "'[/nothing]'" in lines[0]
    assert lines[1]
    refused("publish", "none.mcap", config=empty.config)
    refused("record", "/not/there/x.mcap", "--camera", "demo", config=empty.config)


def test_a_daemon_is_found_by_the_flag_or_the_environment(
    empty: DaemonProcess, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, endpoint = make_config(), empty.sockets.control
    pid = empty.process.pid
    assert read_json("status", "--endpoint", endpoint, config=elsewhere)["pid"] == pid
    monkeypatch.setenv("CROSSGLG_EDGE_CONTROL", endpoint)
    assert read_json("status", config=elsewhere)["pid"] == pid
    for command in (("status",), ("gallery", "list")):
        with pytest.raises(ControlError, match="no daemon answers at ipc:///nobody"):
            call(*command, "--endpoint", "ipc:///nobody", config=elsewhere)
    assert endpoint in call("config", config=elsewhere)
    monkeypatch.setenv("CROSSGLG_EDGE_CONTROL", "nonsense")
    (line,) = refused("status", config=elsewhere)
    assert line.startswith("error (bad_endpoint) CROSSGLG_EDGE_CONTROL is 'nonsense': expected an endpoint such as")


def test_what_comes_from_elsewhere_gives_the_terminal_no_command() -> None:
    assert escape("wave \x1b[31m[bold]\x07\r\x9b2J") == "wave \\x1b[31m\\[bold]\\x07\\r\\x9b2J"
    assert escape("ein Grüß\nGott") == "ein Grüß\nGott"


# The gallery, without a daemon and with one


@pytest.mark.parametrize("is_served", [False, True])
def test_the_gallery_is_enrolled_from_files_changed_and_moved(
    archive: Path, make_config: MakeConfig, serve: Serve, tmp_path: Path, is_served: bool
) -> None:
    config = make_config()
    if is_served:
        serve("zmq", config=config)

    def labels() -> dict[str, int]:
        answer = read_json("gallery", "list", config=config)
        return {label["label"]: len(label["examples"]) for label in answer["labels"]}

    wave = read_json("enroll", "wave", "--from", f"{archive}:0", config=config)
    assert (wave["label"], wave["gallery_revision"], wave["similar"]) == ("wave", 1, None)
    assert wave["trimmed_s"][0] > 0.1
    said = call("enroll", "Bow [deep]", "--from", f"{archive}:bow-0", "--no-trim", config=config)
    assert said.startswith("enrolled Bow [deep]: 3.7")
    assert "cut off 0.00 s before and 0.00 s after" in said
    assert len(said.splitlines()) == 1
    assert refused("enroll", "WAVE", "--from", f"{archive}:1", config=config)[0].startswith("error (label_exists)")
    assert "enrolled wave" in run("enroll", "wave", "--from", f"{archive}:1", "--add", config=config)
    assert labels() == {"wave": 2, "Bow [deep]": 1}

    shown = read_json("gallery", "show", "wave", config=config)
    assert [example["origin"] for example in shown["examples"]] == ["file:demo.npz:0", "file:demo.npz:1"]
    assert [other["label"] for other in shown["nearest"]] == ["Bow [deep]"]
    assert "Bow [deep]" in call("gallery", "list", config=config)
    assert "Bow [deep]" in call("gallery", "show", "wave", config=config)

    exported = tmp_path / "moved.npz"
    assert read_json("gallery", "export", exported, config=config)["examples"] == 3
    assert call("gallery", "rename", "wave", "[/hello]", config=config) == "wave is now [/hello]\n"
    assert labels() == {"[/hello]": 2, "Bow [deep]": 1}
    assert read_json("gallery", "remove", "[/hello]", config=config)["gallery_revision"] == 5
    undone = read_json("gallery", "undo", config=config)
    assert undone["undone"].startswith("revision 5: remove")
    history = read_json("gallery", "history", "--limit", "3", config=config)["history"]
    assert [change["action"] for change in history] == ["undo", "remove", "rename"]
    assert "[/hello]" in call("gallery", "history", config=config)
    assert read_json("gallery", "revert", "1", config=config)["labels"] == ["wave"]
    imported = read_json("gallery", "import", exported, "--replace", config=config)
    assert imported["labels"] == ["wave", "Bow [deep]"]
    assert labels() == {"wave": 2, "Bow [deep]": 1}


@pytest.mark.parametrize("is_served", [False, True])
def test_the_gallery_is_checked_backed_up_restored_and_repaired(
    archive: Path, make_config: MakeConfig, serve: Serve, tmp_path: Path, is_served: bool
) -> None:
    gallery = tmp_path / "own" / "gallery.db"
    config = make_config(gallery=gallery)
    assert refused("gallery", "check", config=config)[0].startswith("error (not_found)")
    call("enroll", "wave", "--from", f"{archive}:0", config=config)
    call("enroll", "bow", "--from", f"{archive}:bow-0", config=config)
    if is_served:
        serve("zmq", config=config)
    assert "2 examples; sound" in run("gallery", "check", config=config)
    assert refused("gallery", "restore", config=config)[0].startswith("error (not_found)")
    made = call("gallery", "backup", config=config)
    (copy,) = (gallery.parent / "backups").iterdir()
    assert copy.name in "".join(made.split())
    call("gallery", "remove", "wave", config=config)
    assert "restored" in call("gallery", "restore", config=config)

    def labels() -> list[str]:
        return [label["label"] for label in read_json("gallery", "list", config=config)["labels"]]

    until(lambda: labels() == ["wave", "bow"])
    database = sqlite3.connect(gallery)
    with database:
        database.execute("UPDATE examples SET origin = 'elsewhere' WHERE origin LIKE '%bow-0'")
    database.close()
    done = CliRunner().invoke(app, ["gallery", "check", "--json", "--config", str(config)])
    assert (done.exit_code, len(json.loads(done.stdout)["damaged"])) == (1, 1)
    assert "damaged" in " ".join(refused("gallery", "backup", tmp_path / "copy.db", config=config))
    assert "is lost, unless a backup has it" in " ".join(call("gallery", "repair", config=config).split())
    assert "nothing to repair" in call("gallery", "repair", config=config)
    until(lambda: labels() == ["wave"])
    call("gallery", "restore", copy, config=config)
    until(lambda: labels() == ["wave", "bow"])


def test_an_action_too_like_another_is_refused_and_shown_as_confused_when_forced(
    archive: Path, make_config: MakeConfig
) -> None:
    config = make_config()
    call("enroll", "wave", "--from", f"{archive}:0", config=config)
    call("enroll", "bow", "--from", f"{archive}:bow-0", config=config)
    said = call("gallery", "show", config=config)
    assert "HandRight" in said
    assert "confused" not in said
    lines = refused("enroll", "hi", "--from", f"{archive}:1", config=config)
    assert lines[0].startswith("error (too_similar) it is too like 'wave': 0.0")
    assert "--force" in lines[1]
    said = call("enroll", "hi", "--from", f"{archive}:1", "--force", config=config)
    assert said.splitlines()[1].startswith("It is much like wave (distance 0.0")
    assert "hi will be confused with wave" in call("gallery", "show", config=config)
    said = call("gallery", "show", "wave", config=config)
    assert "wave will be confused with hi" in said
    assert "moves HandRight" in said
    confused = {
        label["label"]: label["confused_with"] for label in read_json("gallery", "show", config=config)["labels"]
    }
    assert confused == {"wave": ["hi"], "bow": [], "hi": ["wave"]}


def test_an_example_of_the_other_side_is_stored_mirrored_and_one_of_both_twice(
    archive: Path, make_config: MakeConfig
) -> None:
    config = make_config()
    left = read_json("enroll", "wave", "--from", f"{archive}:0", "--side", "left", config=config)
    assert left["notes"] == ["shown with the right side: stored mirrored, as of the left"]
    assert read_json("enroll", "hi", "--from", f"{archive}:0", "--side", "right", config=config)["notes"] == []
    both = read_json("enroll", "bow", "--from", f"{archive}:bow-0", "--side", "either", config=config)
    assert both["stored"] == 2
    first, second = read_json("gallery", "show", "bow", config=config)["examples"]
    removed = read_json("gallery", "remove", "--id", second["id"][:8], config=config)
    assert removed["id"] == second["id"]
    assert [example["id"] for example in read_json("gallery", "show", "bow", config=config)["examples"]] == [
        first["id"]
    ]


def test_ordinary_movement_is_enrolled_from_a_file_listed_moved_and_removed(
    archive: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    config, other = make_config(), make_config()
    said = call("negatives", "record", "--from", f"{archive}:0", config=config)
    assert said.startswith("stored ordinary movement: ")
    stored = read_json("negatives", "record", "--from", f"{archive}:bow-0", config=config)
    assert (stored["pieces"], stored["gallery_revision"]) == (1, 2)
    listed = read_json("gallery", "list", config=config)
    assert listed["labels"] == []
    assert [negative["origin"] for negative in listed["negatives"]] == ["file:demo.npz:0", "file:demo.npz:bow-0"]
    assert "ordinary movement" in call("gallery", "list", config=config)
    exported = tmp_path / "moved.npz"
    assert (
        call("gallery", "export", exported, config=config) == f"0 examples and 2 of ordinary movement in {exported}\n"
    )
    said = call("gallery", "import", exported, config=other)
    assert said == "imported: no action; 2 of ordinary movement are here now\n"
    call("gallery", "remove", "--id", stored["ids"][0], config=config)
    assert len(read_json("gallery", "list", config=config)["negatives"]) == 1
    assert "undone: revision 3: remove negative" in call("gallery", "undo", config=config)
    assert read_json("negatives", "list", config=config) == {"gallery_revision": 4, "negatives": listed["negatives"]}
    said = call("negatives", "remove", stored["ids"][0][:8], config=config)
    assert said == f"removed {stored['ids'][0][:8]}; `crossglg-edge gallery undo` brings it back\n"
    assert stored["ids"][0][:8] not in call("negatives", "list", config=config)


def test_negatives_remove_takes_no_action_away(archive: Path, make_config: MakeConfig) -> None:
    config = make_config()
    wave = read_json("enroll", "wave", "--from", f"{archive}:0", config=config)
    with pytest.raises(GalleryError, match="no ordinary movement has an id") as refusal:
        call("negatives", "remove", wave["id"], config=config)
    assert refusal.value.code == "unknown_id"
    assert len(read_json("gallery", "list", config=config)["labels"]) == 1


@pytest.mark.parametrize("args", [("--negative",), ("--negative", "--seconds", "5"), ("x", "--negative", "--quiet")])
def test_the_old_flag_is_refused_with_the_new_command(make_config: MakeConfig, args: tuple[str, ...]) -> None:
    (line,) = refused("enroll", *args, config=make_config())
    assert line == "error (moved) `enroll --negative` is now `crossglg-edge negatives record`"


@pytest.mark.parametrize(
    "args",
    [
        ("enroll",),
        ("enroll", "x", "--from", "y", "--confirm"),
        ("enroll", "x", "--from", "y", "--examples", "2"),
        ("enroll", "x", "--examples", "0"),
        ("enroll", "x", "--side", "upper"),
        ("negatives", "record", "--seconds", "0"),
        ("negatives", "record", "x"),
        ("negatives", "remove"),
        ("gallery", "remove"),
        ("gallery", "remove", "x", "--id", "y"),
    ],
)
def test_options_that_make_no_sense_together_are_a_usage_error(args: tuple[str, ...]) -> None:
    answer = CliRunner().invoke(app, args)
    assert answer.exit_code == 2
    assert "Usage" in answer.output


def test_modes_that_exclude_each_other_are_a_usage_error(make_config: MakeConfig) -> None:
    config = make_config()
    for args in (("enroll", "x", "--add", "--replace"), ("gallery", "import", "x", "--add", "--replace")):
        _, err = finish(start(*args, config=config), 2)
        assert "exclude each other" in err


# Recording, publishing, watching


def test_a_recorded_camera_can_be_published_and_enrolled_from(daemon: DaemonProcess, tmp_path: Path) -> None:
    path = tmp_path / "demo.mcap"
    # The first action of this seed's performer, a squat, is over after 3.13 s.
    said = run("record", path, "--camera", "demo:4", "--seconds", "3.4", config=daemon.config)
    summary = describe_recording(path)
    assert said == f"{summary.num_frames} frames in {path}\n"
    assert 90 <= summary.num_frames <= 103
    assert summary.complete
    with pytest.raises(RecordingError, match="exists already") as refusal:
        call("record", path, "--camera", "demo", config=daemon.config)
    assert "--overwrite" in refusal.value.hint

    squat = read_json("enroll", "squat", "--from", path, config=daemon.config)
    assert 1.2 < squat["duration_s"] < 2.6

    said = run("publish", path, "--speed", "4", "--source", "played", config=daemon.config)
    assert said == f"{summary.num_frames} frames sent\n"
    source = until(lambda: read_json("status", config=daemon.config)["sources"].get("played"))
    assert (source["frames"], source["lost"], source["dropped"]) == (summary.num_frames, 0, {})
    assert "played" in call("status", config=daemon.config)


def test_recording_a_replay_ends_with_it(make_config: MakeConfig, tmp_path: Path) -> None:
    first, second = tmp_path / "first.mcap", tmp_path / "second.mcap"
    call("record", first, "--camera", "demo", "--seconds", "0.3", config=make_config())
    said = call("record", second, "--camera", f"replay:{first}", config=make_config())
    assert said == f"{describe_recording(first).num_frames} frames in {second}\n"
    assert describe_recording(second).num_frames == describe_recording(first).num_frames > 3


def test_what_a_clip_shows_is_recognized_and_watched(daemon: DaemonProcess, archive: Path) -> None:
    call("enroll", "raise_arms", "--from", f"{archive}:raise_arms-0", config=daemon.config)
    for_scripts = start("watch", "--json", "--seconds", "60", config=daemon.config)
    for_people = start("watch", "--seconds", "60", config=daemon.config)
    publishing = start("publish", f"{archive}:raise_arms-1", "--loop", "--speed", "2", config=daemon.config)
    assert for_scripts.stdout is not None
    assert for_people.stdout is not None
    assert for_people.stderr is not None
    assert "raise_arms; waiting for events" in for_people.stderr.readline()

    # The first event may have begun before.
    lines = map(json.loads, iter(for_scripts.stdout.readline, ""))
    onset = next(event for event in lines if event["type"] == "onset")
    end = next(event for event in lines if event["type"] == "end" and event["id"] == onset["id"])
    for event in (onset, end):
        assert (event["topic"], event["label"], event["body"]) == ("event.demo.0", "raise_arms", 0)
    line = for_people.stdout.readline()
    while " ended raise_arms" not in line:
        line = for_people.stdout.readline()
    # Distance and threshold are on the scale of `threshold get`.
    found = re.search(r" ended raise_arms  \d+ times?, score 0\.9\d \((0\.\d\d) of (0\.\d\d)\), body 0 of demo, ", line)
    assert found is not None, line
    assert float(found[1]) < float(found[2])
    (threshold,) = (
        label
        for label in read_json("threshold", "get", config=daemon.config)["labels"]
        if label["label"] == "raise_arms"
    )
    assert threshold["distance"] == pytest.approx(end["threshold_distance"])
    assert "latency 0.0" not in line

    for process in (for_scripts, for_people, publishing):
        process.send_signal(signal.SIGINT)
    finish(for_scripts)
    finish(for_people)
    assert finish(publishing)[0].endswith(" frames sent\n")


def test_who_watches_is_told_of_warnings_of_a_daemon_that_is_gone_and_of_one_that_is_back(
    serve: Serve, make_config: MakeConfig
) -> None:
    config = make_config()
    daemon = serve("zmq", config=config)
    watching = start("watch", config=config)
    assert watching.stderr is not None
    assert watching.stdout is not None
    assert "waiting for events" in watching.stderr.readline()
    # As a program does that starts an enrollment and looks no further.
    until(
        lambda: daemon.ask("enroll.start", label="ghost", source="nobody", countdown_s=0) and _told(watching, "ghost")
    )
    daemon.process.kill()
    assert watching.stderr.readline() == "the daemon was not heard for 3 s; waiting for it\n"
    serve("zmq", config=config)
    assert watching.stderr.readline() == "the daemon is there again\n"
    watching.send_signal(signal.SIGINT)
    finish(watching)


def _told(watching: subprocess.Popen[str], label: str) -> bool:
    assert watching.stdout is not None
    line = watching.stdout.readline()
    return line.startswith("warning enrollment of") and label in line and "(no_body)" in line


def test_a_recording_by_the_daemon_ends_with_the_command(daemon: DaemonProcess, archive: Path, tmp_path: Path) -> None:
    for number, name in ((signal.SIGINT, "a.mcap"), (signal.SIGTERM, "b.mcap")):
        path = tmp_path / name
        recording = start("record", path, config=daemon.config)
        until(lambda: daemon.ask("status")["recording"])
        call("publish", f"{archive}:0", "--speed", "20", "--source", name, config=daemon.config)
        until(lambda: daemon.ask("status")["recording"]["frames"])
        recording.send_signal(number)
        said = finish(recording)[0]
        assert daemon.ask("status")["recording"] is None
        assert said == f"{describe_recording(path).num_frames} frames in {path}\n"


def test_an_enrollment_that_is_broken_off_is_cancelled(daemon: DaemonProcess) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        enrolling = start("enroll", "never", "--countdown", "30", config=daemon.config)
        until(lambda: daemon.ask("status")["enrolling"] == "never")
        enrolling.send_signal(number)
        _, err = finish(enrolling, 130)
        assert "cancelled, nothing was stored" in err
        assert daemon.ask("status")["enrolling"] is None


def test_an_enrollment_that_fails_says_why(daemon: DaemonProcess) -> None:
    lines = refused("enroll", "ghost", "--countdown", "0", "--source", "nobody", config=daemon.config)
    assert lines[0] == "error (no_body) nobody was seen by 'nobody'"


def test_a_replay_is_played_again_and_again(serve: Serve, archive: Path, make_config: MakeConfig) -> None:
    config = make_config()
    call("enroll", "bow", "--from", f"{archive}:bow-0", config=config)
    daemon = serve(f"replay:{archive}:bow-1", config=config)
    until(lambda: daemon.ask("status")["events"].get("onset", 0) > 1)
    log = daemon.log.read_text(encoding="utf-8")
    assert "onset bow of body" in log
    # One line when an event begins and one when it ends, however long it lasts.
    assert "update bow" not in log
    assert "In a second terminal: crossglg-edge watch. Ctrl-C stops." in log
    assert "enroll wave" not in log


def test_a_file_that_is_played_once_ends_with_what_was_recognized(played_once: subprocess.Popen[str]) -> None:
    out, err = finish(played_once)
    found = re.fullmatch(r"(\d+) frames, (\d+) decisions; 1 events: 1 bow\n", out)
    assert found is not None, out
    assert 60 < int(found[1]) < 150
    assert 10 < int(found[2]) < int(found[1])
    assert "Nothing is enrolled" not in err


@pytest.mark.parametrize("camera", ["demo:1", "zmq", "k4a"])
def test_what_has_no_end_is_not_played_once(make_config: MakeConfig, camera: str) -> None:
    lines = refused("serve", "--camera", camera, "--once", config=make_config())
    assert lines[0] == f"error (bad_config) --once plays a file to its end: {camera!r} has none"
    assert "--camera replay:PATH" in lines[1]


@pytest.mark.parametrize(
    ("camera", "said", "unsaid"),
    [
        ("zmq", ("frames ipc://", "crossglg-edge publish FILE", "enroll LABEL"), "enroll wave"),
        ("demo:1", ("enroll wave", "synthetic performer"), "frames ipc://"),
        ("replay:demo.npz", ("Nothing is enrolled: crossglg-edge enroll LABEL --from FILE",), "enroll wave"),
        ("webcam", ("enroll LABEL",), "publish FILE"),
    ],
)
def test_the_hint_at_the_start_fits_the_camera(
    make_config: MakeConfig, capsys: pytest.CaptureFixture[str], camera: str, said: tuple[str, ...], unsaid: str
) -> None:
    from edge.cli.serve import introduce

    library = open_library(msgspec.structs.replace(read_config(make_config()), camera=camera))
    with library.gallery:
        introduce(library, once=False)
    told = capsys.readouterr().err
    assert all(text in told for text in said), told
    assert unsaid not in told


def test_a_daemon_is_stopped_by_its_command(serve: Serve) -> None:
    daemon = serve("zmq")
    assert run("stop", config=daemon.config) == f"stopped, process {daemon.process.pid}\n"
    assert daemon.process.wait(timeout=10) == 0
    refused("stop", config=daemon.config, code=3)


# What was started at the beginning


def test_publishing_to_nobody_is_refused(publish_to_nobody: subprocess.Popen[str]) -> None:
    _, err = finish(publish_to_nobody, 3)
    assert "no daemon takes frames at ipc://" in err
    assert "crossglg-edge serve --camera zmq" in err


def test_publishing_to_a_daemon_with_another_camera_names_that_camera(
    publish_to_another_camera: subprocess.Popen[str],
) -> None:
    _, err = finish(publish_to_another_camera, 2)
    assert err.startswith("error (other_camera) no daemon takes frames at ipc://")
    assert "the one that runs takes them from --camera demo:2\n" in err
    assert "Stop it with `crossglg-edge stop`." in err


def test_the_demo_enrols_a_wave_and_recognizes_the_next_persons(
    demo: tuple[subprocess.Popen[str], subprocess.Popen[str]],
) -> None:
    enrolling, watching = demo
    out, err = finish(enrolling)
    assert "the synthetic performer will do wave for you" in err
    assert out.startswith("enrolled wave: ")
    assert watching.stdout is not None
    event = json.loads(watching.stdout.readline())
    assert (event["type"], event["label"], event["source"]) == ("onset", "wave", "demo")
    watching.send_signal(signal.SIGINT)
    finish(watching)
