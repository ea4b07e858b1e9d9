"""What runs on another machine calls what the Makefile has."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
yaml = pytest.importorskip("yaml", reason="reading the workflow needs PyYAML, of the extra `test-device`")


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return content


def goals(text: str) -> set[str]:
    return {goal for line in re.findall(r"^\s*make (.+)$", text, re.MULTILINE) for goal in line.split()}


def jobs() -> dict[str, Any]:
    return dict(read(".github/workflows/ci.yml")["jobs"])


def commands(job: str) -> list[str]:
    return [step["run"] for step in jobs()[job]["steps"] if "run" in step]


def test_every_command_of_the_workflow_is_one_of_the_makefile() -> None:
    for job in jobs():
        for command in commands(job):
            if command.startswith("make "):
                for goal in goals(command):
                    subprocess.run(["make", "--dry-run", goal], cwd=ROOT, check=True, capture_output=True)
            else:
                assert (ROOT / command).stat().st_mode & 0o111, command


def test_the_workflow_runs_what_a_clean_checkout_must_pass_on_every_python() -> None:
    assert goals((ROOT / ".ci" / "run").read_text(encoding="utf-8")) == {"check", "test"}
    assert (ROOT / ".ci" / "packages").stat().st_mode & 0o111
    assert commands("everything")[-1] == ".ci/run"
    assert "make torch-cpu" in commands("everything")
    for job in ("device", "everything"):
        assert jobs()[job]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]


def test_the_hooks_check_a_commit_with_the_tools_of_the_project_alone() -> None:
    check = (ROOT / "Makefile").read_text(encoding="utf-8")
    repos = read(".pre-commit-config.yaml")["repos"]
    assert [repo["repo"] for repo in repos] == ["local"], "others would be fetched"
    for hook in repos[0]["hooks"]:
        assert hook["language"] == "system"
        tool = hook["entry"].split()[0]
        assert tool == "git" or tool.replace(".venv", "$(VENV)").replace("$(VENV)/bin", "$(BIN)") in check
