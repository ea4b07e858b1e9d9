"""Check which of the packages that a device needs exist as wheels for ARM: nothing is installed, nothing runs on ARM.

Usage: python benchmarks/aarch64_wheels.py --out benchmarks/results/aarch64_wheels_202611.md

For each system and each extra, pip resolves the versions of constraints.txt from wheels alone, as it would there.
x86_64 is the reference of the same run: what fails there too is no fault of ARM.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# What is resolved together: "" is what every device needs.
_EXTRAS = ("", "web,words", "bridge", "openvino,oip", "train")
# What `setup webcam` installs into a Python of its own; the last release for ARM is an older one.
_WEBCAM = {"x86_64": "mediapipe==0.10.21", "aarch64": "mediapipe==0.10.18"}


@dataclass(frozen=True, slots=True)
class System:
    """Hold what decides which wheels a machine takes: its Python and its C library, glibc 2.`glibc`."""

    name: str
    machine: str
    python: str
    glibc: int

    def platforms(self) -> list[str]:
        """Return the tags of the wheels that it takes, the newest C library first."""
        versions = [f"2_{minor}" for minor in range(self.glibc, 16, -1)]
        return [f"manylinux_{version}_{self.machine}" for version in versions] + [f"manylinux2014_{self.machine}"]


SYSTEMS = (
    System("x86_64, Debian 12 (reference)", "x86_64", "3.11", 36),
    System("Raspberry Pi OS 12", "aarch64", "3.11", 36),
    System("Raspberry Pi OS 13", "aarch64", "3.13", 41),
    System("Jetson, JetPack 6, its own Python", "aarch64", "3.10", 35),
    System("Jetson, JetPack 6, Python 3.11 added", "aarch64", "3.11", 35),
    System("Jetson, JetPack 7", "aarch64", "3.12", 39),
)


def requirements(project: dict[str, Any], extra: str) -> list[str]:
    """Return what an extra asks for, those that it names of this project among them; "": what every device needs."""
    if not extra:
        return list(project["dependencies"])
    found: list[str] = []
    for wanted in project["optional-dependencies"][extra]:
        if wanted.startswith("crossglg-edge["):
            for other in wanted[len("crossglg-edge[") : -1].split(","):
                found += requirements(project, other)
        else:
            found.append(wanted)
    return found


def resolve(system: System, wanted: list[str], *, is_constrained: bool = True) -> tuple[list[dict[str, Any]], str]:
    """Return the wheels that pip takes, or else the sentence with which it gives up."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run"]
        command += ["--ignore-installed", "--only-binary=:all:", "--target", folder, "--report", str(report)]
        command += ["--python-version", system.python, "--implementation", "cp"]
        command += [word for platform in system.platforms() for word in ("--platform", platform)]
        command += ["--constraint", str(ROOT / "constraints.txt")] if is_constrained else []
        done = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
            return [], (errors[0] if errors else done.stderr.strip()).removeprefix("ERROR: ")
        taken: list[dict[str, Any]] = json.loads(report.read_text())["install"]
        return taken, ""


def cell(taken: list[dict[str, Any]], failure: str) -> str:
    """Return a table's cell: how many wheels, how many of them compiled for the machine, or what is missing."""
    if failure:
        return f"no: {failure}"
    compiled = [each for each in taken if not each["download_info"]["url"].endswith("-any.whl")]
    return f"yes, {len(taken)} ({len(compiled)} compiled)"


def main() -> None:
    """Resolve every extra on every system, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", metavar="EXTRA", action="append", help="check these extras alone")
    parser.add_argument("--systems", type=int, default=len(SYSTEMS), help="check the first so many systems")
    args = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    groups = {
        extras or "the daemon": [each for extra in extras.split(",") for each in requirements(project, extra)]
        for extras in _EXTRAS
        if not extras or {*extras.split(",")} <= {*known}
    }
    groups["webcam"] = ["numpy<2"]
    groups = {name: wanted for name, wanted in groups.items() if args.only is None or name in args.only}

    def check(system: System) -> list[tuple[System, str, str]]:
        rows = []
        for name, always in groups.items():
            wanted = [*always, *([_WEBCAM[system.machine]] if name == "webcam" else [])]
            rows.append((system, name, cell(*resolve(system, wanted, is_constrained=name != "webcam"))))
            print(system.name, *rows[-1][1:], sep="; ", flush=True)
        return rows

    # pip waits for the index most of the time.
    with ThreadPoolExecutor(len(SYSTEMS)) as pool:
        rows = [row for found in pool.map(check, SYSTEMS[: args.systems]) for row in found]
    lines = [
        "# Wheels for ARM",
        "",
        f"`python benchmarks/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`, {datetime.now(UTC):%Y-%m-%d}, "
        "on an AMD EPYC with 2 cores; no seed, as nothing is drawn.",
        "",
        "pip resolved the versions of constraints.txt from wheels alone, with what they need in turn. Nothing was",
        "installed, and nothing ran on ARM: a wheel that exists may still fail there. x86_64 is the reference.",
        "",
        f"The minimum of this project is Python {project['requires-python'].removeprefix('>=')}.",
        "",
        "| system | Python | extra | wheels |",
        "| --- | --- | --- | --- |",
        *(f"| {system.name} | {system.python} | {name} | {found} |" for system, name, found in rows),
    ]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
