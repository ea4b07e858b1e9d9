"""The documentation: it is up to date with the code, it builds without network, and what it shows runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md", *sorted(DOCS.glob("*.md"))]


def test_the_generated_pages_are_up_to_date() -> None:
    pytest.importorskip("torch", reason="the choices of a training run are on a page")
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert checked.returncode == 0, checked.stderr


def test_the_site_builds_strictly_and_takes_nothing_from_another_server(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the site is built with the extra `docs`")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert built.returncode == 0, built.stdout + built.stderr
    foreign = re.compile(r"""<(?:script|img|iframe)[^>]+src="?https?://|<link[^>]+href="?https?://""")
    for page in (tmp_path / "site").rglob("*.html"):
        assert not foreign.search(page.read_text(encoding="utf-8")), page


def test_citation_names_this_software_and_the_paper() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra `docs`")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (paper,) = citation["references"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == "Apache-2.0"
    assert [author["family-names"] for author in paper["authors"]][:2] == ["Yan", "Zeng"]
    assert paper["title"].startswith("CrossGLG: ")
    assert paper["year"] == 2024


def test_every_results_file_is_in_the_index() -> None:
    index = (DOCS / "results.md").read_text(encoding="utf-8")
    missing = [path.name for path in (ROOT / "benchmarks" / "results").glob("*.md") if path.name not in index]
    assert not missing
