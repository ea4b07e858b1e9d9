"""Record docs/images/terminal.svg: a daemon with the demo camera, an enrollment, and what is recognized then.

Nothing in it is staged: the commands run as they are shown, in a folder of their own. No other daemon may run, or
the environment names other endpoints.
Usage: python docs/record_terminal.py [FILE [ACTION ...]]
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

_FILE = Path(__file__).parent / "images" / "terminal.svg"
_BIN = Path(sys.executable).parent
_WIDTH = 124
_PATIENCE_S = 120.0
# As rich has it, without the fonts that it would fetch from another server.
_FORMAT = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-family: sans-serif; }}
{styles}</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g></g></svg>
"""


def main() -> None:
    """Run the commands and draw the terminal."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else _FILE
    actions = sys.argv[2:] or ["wave", "squat"]
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(_WIDTH), "PATH": f"{_BIN}:{os.environ['PATH']}"}
        environment |= {f"XDG_{kind}_HOME": f"{folder}/{kind}" for kind in ("CONFIG", "DATA", "CACHE")}
        show(console, "crossglg-edge serve --camera demo:7 &")
        daemon = subprocess.Popen(
            shlex.split("crossglg-edge serve --camera demo:7"), env=environment, stderr=subprocess.DEVNULL
        )
        try:
            wait_for(daemon, environment)
            for action in actions:
                command = f"crossglg-edge enroll {action}"
                show(console, command, run(command, environment))
            # Each action begins once, and ends.
            show(console, "crossglg-edge watch", watch(environment, 2 * len(actions)))
            show(console, "crossglg-edge gallery list", run("crossglg-edge gallery list", environment))
        finally:
            daemon.terminate()
            daemon.wait()
    svg = console.export_svg(title="crossglg-edge", theme=MONOKAI, code_format=_FORMAT, unique_id="terminal")
    path.write_text(re.sub(r"[ \t]+\n", "\n", svg), encoding="utf-8")


def show(console: Console, command: str, said: str = "") -> None:
    """Print a command behind a prompt, and what it said."""
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
    if said:
        console.print(Text.from_ansi(said))


def run(command: str, environment: Mapping[str, str]) -> str:
    """Return what a command says on stdout. Raises CalledProcessError."""
    done = subprocess.run(
        shlex.split(command), env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=_PATIENCE_S
    )
    return done.stdout.rstrip("\n")


def watch(environment: Mapping[str, str], num_events: int) -> str:
    """Return what `watch` prints until so many times an action began or ended."""
    command = shlex.split(f"crossglg-edge watch --seconds {_PATIENCE_S:g}")
    lines: list[str] = []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        for line in watching.stdout:
            lines.append(line)
            if len(re.findall("began|ended", "".join(lines))) == num_events:
                break
        else:
            raise SystemExit(f"fewer than {num_events} events came within {_PATIENCE_S:g} s")
        watching.terminate()
    return "".join(lines).rstrip("\n")


def wait_for(daemon: subprocess.Popen[bytes], environment: Mapping[str, str]) -> None:
    """Wait until the daemon answers. Raises SystemExit where it ends instead."""
    command = shlex.split("crossglg-edge status --json")
    deadline_s = time.monotonic() + _PATIENCE_S
    while subprocess.run(command, env=environment, capture_output=True, check=False).returncode:
        if daemon.poll() is not None or time.monotonic() > deadline_s:
            raise SystemExit("no daemon: is another one running? `crossglg-edge stop` ends it")


if __name__ == "__main__":
    main()
