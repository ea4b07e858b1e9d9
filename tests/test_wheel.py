"""What people install: the wheel, built from the sdist, in an environment that has nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
_PACKAGES = ("streams", "edge", "training", "export")
_PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def run(*command: object, cwd: Path, **env: str) -> str:
    """Return the stdout of a command that succeeds, without this environment's paths to packages."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=clean | env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    backend = folder / "backend"
    fetched = subprocess.run(
        [*_PIP, "install", "--retries", "0", "--target", backend, "hatchling>=1.27"], capture_output=True, text=True
    )
    if fetched.returncode:
        pytest.skip(f"no package index answers: {fetched.stderr.strip().splitlines()[-1]}")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT, PYTHONPATH=str(backend))
    (built,) = folder.glob("*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    run(*_PIP, "wheel", "--no-deps", "--wheel-dir", sdist.parent, sdist, cwd=sdist.parent)
    (built,) = sdist.parent.glob("*.whl")
    return built


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """Hold an environment with the wheel and what it declares, and an empty folder with a config to run it in."""

    bin: Path
    folder: Path

    def __call__(self, *words: str) -> str:
        return run(self.bin / "crossglg-edge", *words, cwd=self.folder, HOME=str(self.folder))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("empty")
    run(sys.executable, "-m", "venv", "--without-pip", wheel.parent / "venv", cwd=folder)
    python = wheel.parent / "venv" / "bin" / "python"
    run(*_PIP, "--python", python, "install", "-c", ROOT / "constraints.txt", wheel, cwd=folder)
    endpoints = [f'{name} = "ipc://{folder / name}"' for name in ("frames", "events", "control")]
    gallery = ["[gallery]", f'path = "{folder / "gallery.db"}"']
    (folder / "config.toml").write_text("\n".join(["[sockets]", *endpoints, *gallery, ""]), encoding="utf-8")
    return Installed(bin=python.parent, folder=folder)


def test_the_sdist_carries_the_tests_and_what_the_makefile_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", ".ci/run", "constraints.txt", "LICENSE", "README.md", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith((".venv", "runs", "shared")) or "__pycache__" in name]


def test_the_wheel_carries_types_texts_and_a_model(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"{package}/py.typed" for package in _PACKAGES} <= names
    assert {f"edge/bundles/default/{name}" for name in ("bundle.json", "encoder.onnx", "statistics.npz")} <= names
    assert {f"edge/web/static/{name}" for name in ("index.html", "page.css", "js/main.js", "icon.svg")} <= names
    assert "training/texts/descriptions/claude/KEY_JOINTS.json" in names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(_PACKAGES)


def test_the_wheel_needs_what_it_declares_and_no_torch(installed: Installed) -> None:
    code = "import importlib.metadata as m, json; print(json.dumps(sorted(d.name.lower() for d in m.distributions())))"
    packages = json.loads(run(installed.bin / "python", "-P", "-c", code, cwd=installed.folder))
    assert {"crossglg-edge", "numpy", "onnxruntime", "pyzmq"} <= set(packages)
    assert not {"torch", "pytest", "httpx2", "onnx", "safetensors", "matplotlib"} & set(packages)
    assert installed("--version").strip() == _version(installed)
    help_text = installed("--help")
    for command in ("serve", "enroll", "status", "train", "evaluate", "export", "describe"):
        assert command in help_text
        assert "Usage" in installed(command, "--help")


def _version(installed: Installed) -> str:
    code = "from importlib.metadata import version; print(version('crossglg-edge'))"
    return run(installed.bin / "python", "-P", "-c", code, cwd=installed.folder).strip()


def test_the_doctor_finds_all_that_serving_needs(installed: Installed) -> None:
    findings: list[dict[str, Any]] = json.loads(installed("doctor", "--json", "--config", "config.toml"))
    states = {finding["what"]: finding["state"] for finding in findings}
    assert "broken" not in states.values(), findings
    assert states["onnxruntime"] == states["model and gallery"] == "ok"
    assert states["torch"] == states["openvino"] == "missing"


@pytest.fixture
def served(installed: Installed) -> Iterator[subprocess.Popen[bytes]]:
    """Run the installed daemon until it answers; it stops when the test has ended."""
    script, env = installed.bin / "crossglg-edge", {"PATH": os.environ["PATH"], "HOME": str(installed.folder)}
    log = installed.folder / "serve.log"
    with log.open("wb") as out:
        command: list[str | Path] = [script, "serve", "--camera", "demo:2", "--config", "config.toml"]
        process = subprocess.Popen(command, cwd=installed.folder, env=env, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 30
        status: list[str | Path] = [script, "status", "--config", "config.toml"]
        while subprocess.run(status, cwd=installed.folder, env=env, capture_output=True).returncode:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        yield process
    finally:
        process.kill()
        process.wait()


def test_an_action_is_enrolled_from_the_demo(installed: Installed, served: subprocess.Popen[bytes]) -> None:
    assert installed("enroll", "wave", "--config", "config.toml").startswith("enrolled wave")
    status = json.loads(installed("status", "--json", "--config", "config.toml"))
    assert status["gallery"]["labels"] == ["wave"]
    assert status["model"]["engine"]["runs"] == "onnxruntime"
    installed("stop", "--config", "config.toml")
    assert served.wait(timeout=10) == 0
    log = (installed.folder / "serve.log").read_text(encoding="utf-8")
    assert "Traceback" not in log
    assert "Warning" not in log
