"""The daemon as a unit of systemd: the system's, where the Debian package is installed, or else the user's own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from streams.errors import ConfigError
from streams.files import replace_file

# What the Debian package brings.
SYSTEM_CONFIG = Path("/etc/crossglg-edge/config.toml")
_SYSTEM_UNIT = Path("/usr/lib/systemd/system/crossglg-edge.service")
_DAEMON, _PAGE = "crossglg-edge.service", "crossglg-edge-web.service"
_UNIT = """\
# Written by `crossglg-edge setup`.
[Unit]
Description=One-shot skeleton action recognition

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
Restart=on-failure
RestartSec=2
TimeoutStartSec=10min
WatchdogSec=30
WatchdogSignal=SIGKILL

[Install]
WantedBy=default.target
"""


def is_system_wide() -> bool:
    """Say whether root sets up the daemon of the Debian package, not a person their own."""
    return os.geteuid() == 0 and _SYSTEM_UNIT.exists()


@dataclass(frozen=True, slots=True, kw_only=True)
class Autostart:
    """Start the daemon with the system, or no longer. `config`: the file that it reads."""

    config: Path
    page: bool

    def on(self) -> str:
        """Start it now and with the system from now on; return the command that shows how it is.

        Raises ConfigError where systemd does not take it.
        """
        if is_system_wide():
            _systemctl("enable", "--now", _DAEMON)
            _systemctl(*(("enable", "--now") if self.page else ("disable", "--now")), _PAGE)
            return "systemctl status crossglg-edge"
        unit = _user_unit()
        try:
            unit.parent.mkdir(parents=True, exist_ok=True)
            replace_file(unit, _UNIT.format(command=self._command()).encode())
        except OSError as error:
            raise ConfigError(f"the unit {unit} cannot be written: {error.strerror}") from error
        _systemctl("--user", "daemon-reload")
        _systemctl("--user", "enable", "--now", _DAEMON)
        return "systemctl --user status crossglg-edge"

    def off(self) -> None:
        """Stop it, and start it with the system no longer, where it did. Raises ConfigError."""
        if is_system_wide():
            _systemctl("disable", "--now", _DAEMON, _PAGE)
        elif _user_unit().exists():
            try:
                _systemctl("--user", "disable", "--now", _DAEMON)
            finally:
                _user_unit().unlink(missing_ok=True)

    def _command(self) -> str:
        words = [str(Path(sys.executable).with_name("crossglg-edge")), "serve", "--config", str(self.config)]
        return " ".join(_quoted(word) for word in (*words, *(["--web"] if self.page else [])))


def _user_unit() -> Path:
    folder = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(folder) / "systemd" / "user" / _DAEMON


def _quoted(word: str) -> str:
    """Return a word as systemd.service(5) takes it whole: without variables, specifiers and escapes in it."""
    for special, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        word = word.replace(special, escaped)
    return f'"{word}"'


def _systemctl(*words: str) -> None:
    hint = "The configuration is written. Start the daemon by hand: `crossglg-edge serve`."
    try:
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"systemctl cannot be run: {error}", code="no_systemd", hint=hint) from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[0]
        raise ConfigError(f"`systemctl {' '.join(words)}` failed: {said}", code="no_systemd", hint=hint)
