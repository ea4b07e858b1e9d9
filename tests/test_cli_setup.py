"""`crossglg-edge setup`: three questions, and the configuration that the answers make."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edge.cli.autostart import Autostart
from edge.cli.setup import setup
from edge.config import read_config
from streams.errors import ConfigError

# Written down by a stand-in for systemctl: here no systemd runs.
_SYSTEMCTL = """#!/bin/sh
echo "$@" >>"{log}"
{end}
"""


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a systemctl first that writes its arguments down, and the user's configuration in a folder of the test."""
    return _put_systemctl(tmp_path, monkeypatch, "exit 0")


def _put_systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> Path:
    folder, log = tmp_path / "bin", tmp_path / "systemctl.log"
    folder.mkdir(exist_ok=True)
    (folder / "systemctl").write_text(_SYSTEMCTL.format(log=log, end=end))
    (folder / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own config"))
    return log


def run(*args: object, answers: str | None = None) -> Result:
    return CliRunner().invoke(setup, [str(arg) for arg in args], input=answers)


def refusal(*args: object, answers: str | None = None) -> ConfigError:
    result = run(*args, answers=answers)
    assert isinstance(result.exception, ConfigError), result.output
    return result.exception


def test_three_answers_make_a_configuration_and_a_unit(systemctl: Path, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "config.toml"
    result = run("--config", path, answers="webcam:1\ny\ny\n")
    assert result.exit_code == 0, result.output
    assert read_config(path).camera == "webcam:1"
    unit = (tmp_path / "own config" / "systemd" / "user" / "crossglg-edge.service").read_text()
    script = Path(sys.executable).with_name("crossglg-edge")
    assert f'ExecStart="{script}" "serve" "--config" "{path}" "--web"\n' in unit
    assert "Type=notify\n" in unit
    assert systemctl.read_text().splitlines() == [
        "--user daemon-reload", "--user enable --now crossglg-edge.service"
    ]  # fmt: skip
    assert "systemctl --user status crossglg-edge" in result.output


def test_flags_answer_and_nothing_is_asked(systemctl: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    result = run("--config", path, "--camera", "demo:3", "--no-page", "--no-start")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert f"crossglg-edge serve --config {path}" in result.stdout
    assert read_config(path).camera == "demo:3"
    assert not systemctl.exists()
    # Once more: nothing changes, so nothing is asked.
    assert run("--config", path, "--camera", "demo:3", "--page", "--no-start").exit_code == 0
    assert [file.name for file in tmp_path.glob("config*")] == ["config.toml"]


def test_a_configuration_that_is_there_is_changed_when_that_is_wanted_alone(systemctl: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    mine = '# mine\ncamera = "zmq"\n[events]\nmin_score = 0.6\nhits = 3\n[gallery]\npath = "/a \\"b\\".db"\n'
    path.write_text(mine)
    flags = ("--config", path, "--camera", "k4a", "--no-page", "--no-start")
    error = refusal(*flags, answers="n\n")
    assert error.code == "config_exists"
    assert "--force" in error.hint
    assert refusal(*flags).code == "no_answer"
    assert path.read_text() == mine
    before = read_config(path)
    assert run(*flags, answers="y\n").exit_code == 0
    after = read_config(path)
    assert (after.camera, after.events, after.gallery) == ("k4a", before.events, before.gallery)
    assert path.with_name("config.toml.before").read_text() == mine
    assert run("--config", path, "--camera", "zmq", "--no-page", "--no-start", "--force").exit_code == 0
    assert read_config(path) == before


def test_no_answer_and_a_camera_that_there_is_not_write_nothing(systemctl: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert "Give --camera" in refusal("--config", path, "--page", "--start").hint
    assert "Give --page or --no-page" in refusal("--config", path, answers="demo\n").hint
    error = refusal("--config", path, "--camera", "kinect", "--page", "--start")
    assert "'kinect': expected one of webcam, k4a, zmq, demo" in error.message
    path.write_text("camera = 7\n")
    assert "Expected `str`" in refusal("--config", path, "--camera", "demo", "--page", "--start").message
    path.unlink()
    (tmp_path / "file").write_text("")
    error = refusal("--config", tmp_path / "file" / "config.toml", "--camera", "demo", "--page", "--no-start")
    assert "cannot be written" in error.message
    assert not path.exists()
    assert not systemctl.exists()


def test_who_no_longer_wants_the_unit_is_rid_of_it(systemctl: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert run("--config", path, "--camera", "demo", "--no-page", "--start").exit_code == 0
    assert run("--config", path, "--camera", "demo", "--no-page", "--no-start").exit_code == 0
    assert systemctl.read_text().splitlines()[-1] == "--user disable --now crossglg-edge.service"
    assert not [*(tmp_path / "own config" / "systemd" / "user").iterdir()]


def test_a_machine_without_systemd_keeps_the_configuration_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put_systemctl(tmp_path, monkeypatch, "echo 'System has not been booted with systemd' >&2; exit 1")
    path = tmp_path / "config.toml"
    error = refusal("--config", path, "--camera", "demo", "--no-page", "--start")
    assert error.code == "no_systemd"
    assert "System has not been booted with systemd" in error.message
    assert "crossglg-edge serve" in error.hint
    assert read_config(path).camera == "demo"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "systemctl cannot be run" in refusal("--config", path, "--camera", "demo", "--no-page", "--start").message


def test_systemd_understands_the_unit_whatever_the_paths_hold(systemctl: Path, tmp_path: Path) -> None:
    odd = tmp_path / 'a "b" 100% $HOME \\c' / "config.toml"
    Autostart(config=odd, page=True).on()
    unit = tmp_path / "own config" / "systemd" / "user" / "crossglg-edge.service"
    assert '/a \\"b\\" 100%% $$HOME \\\\c/config.toml"' in unit.read_text()
    try:
        done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not installed (package systemd)")
    assert (done.returncode, done.stderr) == (0, "")
