"""What makes a service of it: units that systemd understands, a Debian package that installs, a container's recipe."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main

from edge.cli.app import app
from edge.config import read_config

ROOT = Path(__file__).parents[1]
PACKAGING = ROOT / "packaging"
UNITS = sorted((PACKAGING / "systemd").glob("*.service"))
# From systemd's own scale of 0 to 10: below 2 is what it calls OK; a service without any hardening has 9.6.
_MOST_EXPOSED = 2.0
_OPT = "/opt/crossglg-edge/bin/crossglg-edge"
_PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def needs(command: str, package: str) -> str:
    found = shutil.which(command, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{command} is not installed (Debian package {package})")
    return found


# Units


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return copies of the units that name a program which is there: systemd looks."""
    folder = tmp_path_factory.mktemp("units")
    for unit in UNITS:
        name = unit.name.replace("@.", "@mqtt.")
        (folder / name).write_text(unit.read_text(encoding="utf-8").replace(_OPT, "/bin/true"), encoding="utf-8")
    return sorted(folder.iterdir())


def test_systemd_understands_every_unit(units: list[Path]) -> None:
    analyze = needs("systemd-analyze", "systemd")
    done = subprocess.run([analyze, "verify", *map(str, units)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_unit_may_do_more_than_it_needs(units: list[Path]) -> None:
    analyze = needs("systemd-analyze", "systemd")
    for unit in units:
        command = [analyze, "security", "--offline=true", "--no-pager", str(unit)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.search(r"exposure level for .*: ([\d.]+)", done.stdout)
        if found is None:
            pytest.skip(f"this systemd-analyze knows no offline check: {done.stderr.strip()}")
        assert float(found[1]) < _MOST_EXPOSED, done.stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_every_unit_starts_a_command_that_there_is_as_the_account(unit: Path) -> None:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text(encoding="utf-8"))
    service = parser["Service"]
    program, command, *rest = shlex.split(service["ExecStart"])
    assert program == _OPT
    # `bridge` takes the unit's instance.
    assert command in {"bridge", *typer.main.get_command(app).commands}  # type: ignore[attr-defined]
    assert rest[-2:] == ["--config", "/etc/crossglg-edge/config.toml"]
    assert (service["User"], service["Restart"]) == ("crossglg-edge", "on-failure")
    assert service["Type"] == ("notify" if unit.stem == "crossglg-edge" else "exec")


# The Debian package


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the package, built as CI builds it, without extras."""
    needs("dpkg-deb", "dpkg")
    folder = tmp_path_factory.mktemp("deb")
    command = [*_PIP, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no package index answers: {done.stderr.strip().splitlines()[-1]}")
    (wheel,) = folder.glob("*.whl")
    build = [str(PACKAGING / "deb" / "build"), str(wheel), str(folder / "out")]
    quick = {"DPKG_DEB_COMPRESSOR_TYPE": "none", "PYTHON": sys.executable}
    built = subprocess.run(build, capture_output=True, text=True, check=False, env={**os.environ, **quick})
    assert built.returncode == 0, built.stderr
    (package,) = (folder / "out").glob("*.deb")
    return package


def test_the_package_holds_an_environment_units_and_nothing_of_this_machine(deb: Path, tmp_path: Path) -> None:
    field = subprocess.run(
        ["dpkg-deb", "--field", str(deb)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"Version: {version}" in field
    assert f"Depends: python{sys.version_info[0]}.{sys.version_info[1]}, systemd" in field
    listed = subprocess.run(["dpkg-deb", "--contents", str(deb)], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=5) for line in listed.splitlines()]
    assert {row[1] for row in rows} == {"root/root"}
    assert not [row for row in rows if row[0][8] == "w" and row[0][0] != "l"], "anybody may write it"
    names = {row[5].split(" -> ")[0] for row in rows}
    assert {f"./usr/lib/systemd/system/{unit.name}" for unit in UNITS} <= names
    assert {"./etc/crossglg-edge/config.toml", "./usr/bin/crossglg-edge", f".{_OPT}"} <= names
    subprocess.run(["dpkg-deb", "--extract", str(deb), str(tmp_path)], check=True)
    script = (tmp_path / _OPT[1:]).read_text()
    assert script.startswith("#!/opt/crossglg-edge/bin/python")
    # Where it was built is nobody's business, and not where it runs.
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.suffix in ("", ".cfg", ".json", ".py", ".pth", ".txt"):
            content = path.read_bytes()
            assert str(ROOT).encode() not in content, path
            assert str(deb.parents[1]).encode() not in content, path


def test_it_is_installed_serves_is_removed_and_purged(deb: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can install a package, into a root of the test's own too")
    needs("systemd-sysusers", "systemd")
    root = tmp_path / "root"
    admin = root / "var" / "lib" / "dpkg"
    for folder in ("info", "updates", "parts"):
        (admin / folder).mkdir(parents=True)
    (admin / "status").touch()
    dpkg = ["dpkg", f"--root={root}", "--force-depends", "--force-script-chrootless", "--log=/dev/null"]
    run(*dpkg, "--install", str(deb))
    python, script = root / "opt/crossglg-edge/bin/python", root / _OPT[1:]
    assert python.readlink() == Path(f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}")
    assert "crossglg-edge:" in (root / "etc" / "passwd").read_text()
    config = root / "etc" / "crossglg-edge" / "config.toml"
    assert read_config(config).gallery.path == "/var/lib/crossglg-edge/gallery.db"
    # The environment's own interpreter where this machine has Debian's, or else the one that built it.
    packages = next((root / "opt/crossglg-edge/lib").glob("python3.*/site-packages"))
    command = [str(python) if python.exists() else sys.executable, "-P", str(script), "doctor", "--json"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(packages)}
    doctor = subprocess.run([*command, "--config", str(config)], capture_output=True, text=True, env=environment)
    assert '"onnxruntime"' in doctor.stdout, doctor.stderr
    assert str(root) in run(*command[:1], "-P", "-c", "import edge; print(edge.__file__)", env=environment)
    gallery = root / "var" / "lib" / "crossglg-edge" / "gallery.db"
    gallery.parent.mkdir(parents=True, exist_ok=True)
    gallery.write_bytes(b"mine")
    config.write_text('camera = "demo"\n')
    run(*dpkg, "--install", str(deb))
    assert config.read_text() == 'camera = "demo"\n', "an upgrade leaves the configuration"
    run(*dpkg, "--remove", "crossglg-edge")
    assert not (root / "opt" / "crossglg-edge").exists()
    assert gallery.read_bytes() == b"mine"
    assert config.exists()
    run(*dpkg, "--purge", "crossglg-edge")
    assert not gallery.parent.exists()
    assert not config.parent.exists()


def run(*command: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize("name", ["build", "postinst", "prerm", "postrm"])
def test_the_scripts_of_the_package_can_be_read_by_their_shell(name: str) -> None:
    path = PACKAGING / "deb" / name
    assert path.stat().st_mode & stat.S_IXUSR
    shell = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#!").split()
    run(*shell, "-n", str(path))


# The container


def test_the_image_runs_as_nobody_special_and_copies_what_is_there() -> None:
    lines = (PACKAGING / "docker" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    said = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert [words for word, words in said if word == "USER"] == ["crossglg-edge"]
    sources = [
        source for word, words in said if word == "COPY" and "--from" not in words for source in words.split()[:-1]
    ]
    assert sources
    assert all((ROOT / source).exists() for source in sources)
    allowed = {
        line[1:]
        for line in (PACKAGING / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
        if line[0] == "!"
    }
    assert {*sources} == allowed
    (health,) = [words for word, words in said if word == "HEALTHCHECK"]
    assert health.endswith('CMD ["crossglg-edge", "status", "--json"]')
    bases = {words.split()[0] for word, words in said if word == "FROM"}
    assert bases == {"python:3.12-slim-bookworm"}, "one base, with its version"
