"""A file is written whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streams.files import replace_file, replacing


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    for content in (b"first", b"second"):
        replace_file(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_while_writing_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    path.write_bytes(b"before")

    def fail_halfway() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_was_never_written_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    path.write_bytes(b"before")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_bytes() == b"before"


def test_what_a_killed_process_left_goes_and_what_another_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "[some].npz"
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left, written = (tmp_path / f".{path.name}.{pid}.part" for pid in (int(gone.stdout), os.getppid()))
    for temporary in (left, written):
        temporary.write_bytes(b"half")
    replace_file(path, b"whole")
    assert sorted(tmp_path.iterdir()) == sorted((path, written))
