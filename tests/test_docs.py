"""The documentation: it is up to date with the code, it builds without network, and what it shows runs."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import typer.main

from edge.cli.app import add_offline_commands, app
from edge.config import read_config
from streams import wire
from streams.errors import WireError
from streams.event import Event
from streams.frame import Body, SkeletonFrame
from streams.layouts import KINECT25_JOINTS
from streams.performer import perform
from streams.recording import RecordingWriter
from streams.scores import Gate, Scores
from streams.skeleton import Skeleton, SkeletonBody

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md", *sorted(DOCS.glob("*.md"))]
SOCKETS = ("frames", "events", "control")
# A reader who gives up meets no answer at all: on a busy machine a command may take its time.
_PATIENCE_S = 180


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def lacks(page: Path) -> str:
    """Return the extra that a page's commands need and that is not installed, "" where none is."""
    needed = {"docs/engines.md": "openvino", "docs/web.md": "cryptography"}.get(page_name(page), "")
    return needed if needed and find_spec(needed) is None else ""


def prose(page: Path) -> str:
    """Return a page without what the code has written."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"<!-- generated: ([\w-]+) -->.*?<!-- end of \1 -->", "", text, flags=re.DOTALL)


# Up to date, and whole


def test_the_generated_pages_are_up_to_date() -> None:
    pytest.importorskip("torch", reason="the choices of a training run are on a page")
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
    assert checked.returncode == 0, checked.stderr


def test_the_site_builds_strictly_and_takes_nothing_from_another_server(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the site is built with the extra `docs`")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
    assert built.returncode == 0, built.stdout + built.stderr
    foreign = re.compile(r"""<(?:script|img|iframe)[^>]+src="?https?://|<link[^>]+href="?https?://""")
    for page in (tmp_path / "site").rglob("*.html"):
        assert not foreign.search(page.read_text(encoding="utf-8")), page


@pytest.mark.parametrize("page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "SECURITY.md"], ids=page_name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


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


# Words


def test_the_readme_has_at_most_900_words() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


@pytest.mark.parametrize("page", [*PAGES, ROOT / "SECURITY.md", ROOT / "ARCHITECTURE.md"], ids=page_name)
def test_sentences_are_short_and_people_are_they(page: Path) -> None:
    text = re.sub(r"```.*?```|<!--.*?-->|^\|.*$|^#.*$|^ {4}.*$", "\n\n", prose(page), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    sentences = re.split(r"(?<=[.!?])\s+|\n\s*\n|\n\s*[-0-9]+[.]?\s", text)
    assert not [sentence for sentence in sentences if len(sentence.split()) > 35]
    assert not re.findall(r"\b(?:she|her|hers|he|his|him)\b", text, flags=re.IGNORECASE)


# Commands that are named


def command_tree() -> Any:
    if not {"train", "export"} <= set(typer.main.get_command(app).commands):  # type: ignore[attr-defined]
        add_offline_commands()
    return typer.main.get_command(app)


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", {})
    # Some groups, such as `setup`, are a command too.
    if not children or (path and command.invoke_without_command):
        yield path, command
    for name, child in children.items():
        yield from leaves(child, (*path, name))


def options_of(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help",
        "-h",
    }


def shown_commands(page: Path) -> list[str]:
    """Return every command line of ours on a page, from blocks and from running text."""
    text = prose(page)
    blocks = [line for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines()]
    inline = re.findall(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    found = [line.split("  #")[0] for line in (*blocks, *(" ".join(code.split()) for code in inline))]
    return [line[line.index("crossglg-edge ") :] for line in found if re.search("crossglg-edge [a-z]", line)]


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_and_options_that_pages_name_exist(page: Path) -> None:
    for line in shown_commands(page):
        words, command = shlex.split(line)[1:], command_tree()
        runnable = [leaf for _, leaf in leaves(command)]
        if words[0].isupper() or words[0] == "...":
            continue
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert command in runnable or set(words) <= {"--help", "--version"}, line
        named = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert named <= options_of(command), line


def test_every_option_in_running_text_exists() -> None:
    known = {option for _, command in leaves(command_tree()) for option in options_of(command)}
    known |= {"--version", "--no-python", "--nproc-per-node"}
    for page in PAGES:
        text = re.sub(r"```.*?```", "", prose(page), flags=re.DOTALL)
        assert set(re.findall(r"`(--[a-z-]+)", text)) <= known, page


def test_every_command_is_in_the_docs() -> None:
    reference = (DOCS / "cli.md").read_text(encoding="utf-8")
    written = "\n".join(prose(page) for page in PAGES)
    for path, _ in leaves(command_tree()):
        name = " ".join(path)
        assert f"\n## {name}\n" in reference, name
        assert re.search(rf"(crossglg-edge |`){name}\b", written), f"{name}: only in the reference"


# Formats that are described


def table_keys(page: str, heading: str) -> list[str]:
    """Return the code words in the first column of the table under a heading."""
    text = (DOCS / page).read_text(encoding="utf-8").split(f"\n{heading}\n", 1)[1]
    body = re.split(r"\n#+ ", text)[0]
    return [
        key for row in re.findall(r"^\| (`.*?) \|", body, flags=re.MULTILINE) for key in re.findall(r"`(\w+)`", row)
    ]


def test_the_keys_of_a_frame_are_as_described() -> None:
    msgpack = pytest.importorskip("msgpack", reason="a publisher's messages are made by the package msgpack")
    body = {"id": 0, "pos": np.zeros((25, 3), "<f4").tobytes(), "conf": bytes([3] * 25)}
    frame = {"v": 1, "source": "a", "epoch": "b", "seq": 0, "timestamp": 1.0, "layout": "kinect25", "bodies": [body]}
    frame |= {"t_send": 1.0, "clock": "c", "units": "m", "axes": "LUF", "mirrored": False, "fps": 30.0}
    required, optional = table_keys("publish.md", "### Required keys"), table_keys("publish.md", "### Optional keys")
    assert {*required, *optional} == {*frame}
    assert set(table_keys("publish.md", "### Keys of a body")) == {*body}
    for key in required:
        with pytest.raises(WireError):
            wire.decode_frame(msgpack.packb({other: frame[other] for other in frame if other != key}))
    wire.decode_frame(msgpack.packb({key: frame[key] for key in required}))


def test_the_reasons_for_which_frames_are_dropped_are_described() -> None:
    described = set(table_keys("publish.md", "## What is dropped"))
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path in ("streams/wire.py", "edge/live/intake.py")}
    codes = set(re.findall(r'code="(\w+)"', sources["streams/wire.py"]))
    listed = re.search(r"Reasons counted here: ([\w, ]+)\.", " ".join(sources["edge/live/intake.py"].split()))
    assert listed is not None
    assert codes | {"bad_message", "bad_topic"} | set(listed[1].split(", ")) <= described


def test_the_keys_of_an_event_are_as_described() -> None:
    assert set(table_keys("events.md", "## Keys")) >= {field.name for field in dataclasses.fields(Event)}


def test_the_keys_and_gates_of_scores_are_as_described() -> None:
    keys = {field.name for field in dataclasses.fields(Scores)}
    assert set(table_keys("events.md", "## Scores")) >= keys | {*get_args(Gate)} - {""}


def test_the_keys_of_a_skeleton_are_as_described() -> None:
    keys = {field.name for kind in (Skeleton, SkeletonBody) for field in dataclasses.fields(kind)}
    assert set(table_keys("events.md", "## Skeletons")) == keys


def test_shown_configurations_are_valid(tmp_path: Path) -> None:
    for page in PAGES:
        for block in re.findall(r"```toml\n(.*?)```", prose(page), flags=re.DOTALL):
            path = tmp_path / "config.toml"
            path.write_text(block, encoding="utf-8")
            read_config(path)


# Commands that are shown


class Reader:
    """Type what a page shows, in a folder, with a configuration and sockets of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoints = {name: f"ipc://{folder / name}" for name in SOCKETS}
        self.background: list[tuple[str, subprocess.Popen[bytes], Path]] = []
        self.environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self.environment |= {f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "CACHE")}
        self.environment |= {f"CROSSGLG_EDGE_{name.upper()}": endpoint for name, endpoint in self.endpoints.items()}
        config = folder / "config" / "crossglg-edge" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text("[enroll]\ncountdown_s = 0.2\n", encoding="utf-8")
        (folder / "examples").symlink_to(ROOT / "examples")
        write_files(folder)

    def type(self, line: str) -> None:
        """Run one line: what serves or watches goes on in the background."""
        words = shlex.split(self.here(line), comments=True)
        if not words:
            return
        if words[0] == "python" and words[1].startswith("examples/"):
            sockets = {"publish": "frames", "control": "control"}
            words.append(self.endpoints[sockets.get(Path(words[1]).stem.partition("_")[0], "events")])
        is_endless = words[0] == "python" or words[1:2] == ["serve"] or (words[1:2] == ["watch"] and len(words) == 2)
        if words[1:2] == ["serve"]:
            self.stop("crossglg-edge serve")
        if is_endless:
            log = self.folder / f"{len(self.background)}.log"
            with log.open("wb") as said:
                process = subprocess.Popen(words, cwd=self.folder, env=self.environment, stdout=said, stderr=said)
            self.background.append((line, process, log))
            if words[1] == "serve":
                self.wait_for_daemon(process, log)
            return
        done = self.run(words)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if words[1:2] == ["stop"]:
            self.stop("crossglg-edge serve")

    def here(self, text: str) -> str:
        """Return a text with this reader's endpoints in place of the defaults."""
        for name, port in zip(SOCKETS, (5560, 5561, 5562), strict=True):
            text = text.replace(f"tcp://127.0.0.1:{port}", self.endpoints[name])
        return text

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
            timeout=_PATIENCE_S,
        )  # fmt: skip

    def wait_for_daemon(self, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline_s = time.monotonic() + _PATIENCE_S
        while not (self.folder / "control").exists():
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline_s, log.read_text(encoding="utf-8")
            time.sleep(0.05)

    def stop(self, beginning: str = "") -> None:
        """End what runs in the background; it must not have ended by itself, except because it was stopped."""
        going_on = []
        for line, process, log in self.background:
            if not line.startswith(beginning):
                going_on.append((line, process, log))
                continue
            said = log.read_text(encoding="utf-8")
            assert process.poll() in (None, 0), f"{line}\n{said}"
            process.terminate()
            process.wait(timeout=_PATIENCE_S)
            assert "Traceback" not in said, f"{line}\n{said}"
        self.background = going_on
        if not beginning or beginning.endswith("serve"):
            (self.folder / "control").unlink(missing_ok=True)


def write_files(folder: Path) -> None:
    """Write what the pages' commands read: an archive of clips, and a recording of one performance."""
    names = ("wave", "kick", "squat", "raise_arms")
    clips = {f"{name}-{person}": perform(name, seed=person).joints_m for person in (0, 1) for name in names}
    np.savez(
        folder / "actions.npz",
        frames=np.concatenate([*clips.values()]),
        offsets=np.cumsum([0, *map(len, clips.values())]),
        label=np.tile(np.arange(len(names)), 2).astype(np.int16),
        subject=np.repeat([0, 1], len(names)).astype(np.int16),
        class_names=np.array(names),
        joint_names=np.array(KINECT25_JOINTS),
        fps=np.array(30.0),
        source=np.array([*clips]),
    )
    with RecordingWriter(folder / "performance.mcap") as writer:
        punch = perform("punch", seed=3)
        for seq, (time_s, joints_m) in enumerate(zip(punch.timestamps_s, punch.joints_m, strict=True)):
            seen = np.where(np.isfinite(joints_m).all(axis=1), np.uint8(3), np.uint8(0))
            writer.write(
                SkeletonFrame(
                    source="demo", epoch="a", seq=seq, timestamp_s=float(time_s), t_send_s=float(time_s),
                    bodies=(Body(id=0, joints_m=joints_m, confidence=seen),),
                ),
                log_time_ns=int(1e9 * float(time_s)),
            )  # fmt: skip


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Return (comment before it, language, content) of each block of commands or of Python."""
    pattern = r"(?:<!-- ([^>]*?) -->\n)?```(sh|python)\n(.*?)```"
    return re.findall(pattern, prose(page), flags=re.DOTALL)


RECORDER = DOCS / "record_terminal.py"
SHOWING = [page for page in PAGES if blocks(page)]


def read_page(page: Path, folder: Path) -> None:
    """Do what a page shows, block by block."""
    reader = Reader(folder)
    try:
        for comment, language, content in blocks(page):
            if comment.startswith("not run: "):
                continue
            if comment.startswith("needs: "):
                reader.type(comment.removeprefix("needs: "))
            if language == "python":
                done = reader.run([sys.executable, "-c", reader.here(content)])
                assert done.returncode == 0, f"{content}\n{done.stderr}"
                continue
            for line in content.splitlines():
                reader.type(line)
    finally:
        reader.stop()


def record_terminal(folder: Path) -> str:
    reader, drawing = Reader(folder), folder / "terminal.svg"
    done = reader.run([sys.executable, str(RECORDER), str(drawing), "squat"])
    assert done.returncode == 0, done.stderr
    return drawing.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def readers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path, Future[Any]]]:
    """Have several of the chosen pages read at once: a reader mostly waits for a synthetic person to move."""
    pytest.importorskip("msgpack", reason="the examples speak MessagePack by the package msgpack")
    names = {item.name for item in request.session.items if "readers" in getattr(item, "fixturenames", ())}
    with ThreadPoolExecutor(max_workers=4) as pool:
        futures: dict[Path, Future[Any]] = {}
        if any("recorded" in name for name in names):
            futures[RECORDER] = pool.submit(record_terminal, tmp_path_factory.mktemp("terminal"))
        for page in SHOWING:
            if any(f"[{page_name(page)}]" in name for name in names) and not lacks(page):
                futures[page] = pool.submit(read_page, page, tmp_path_factory.mktemp("page"))
        yield futures


@pytest.mark.parametrize("page", SHOWING, ids=page_name)
def test_what_a_page_shows_runs(page: Path, readers: dict[Path, Future[Any]]) -> None:
    if lacks(page):
        pytest.skip(f"the page's commands need the extra `{lacks(page)}`")
    readers[page].result()


def test_the_terminal_in_the_readme_can_be_recorded(readers: dict[Path, Future[Any]]) -> None:
    drawn = readers[RECORDER].result()
    assert re.findall(r"https?://[^\"']+", drawn) == ["http://www.w3.org/2000/svg"]
    text = re.sub(r"<[^>]+>", "", drawn)
    assert all(word in text for word in ("enrolled", "squat", "began", "ended", "live:demo"))
