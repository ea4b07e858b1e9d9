"""Every room says its rule and names its public face, and nobody goes in by another door."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge
import export
import streams
import training

ROOT = Path(__file__).parents[1]


def _rooms() -> list[str]:
    found = []
    for package in (streams, edge, training, export):
        modules = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        found += [module.name for module in modules if module.ispkg]
    return found


ROOMS = _rooms()


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _room_of(module: str) -> str:
    while module and module not in ROOMS:
        module = module.rpartition(".")[0]
    return module


def _imports() -> Iterator[tuple[str, str, str]]:
    """Yield (importing module, imported module, name) of everything that `from ... import` takes from a room."""
    for package in ("streams", "edge", "training", "export", "benchmarks"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module and _room_of(node.module):
                    yield from ((_module(path), node.module, alias.name) for alias in node.names)


def test_the_rooms_of_edge_and_of_training_are_these() -> None:
    assert sorted(room for room in ROOMS if room.count(".") == 1 and room.startswith("edge.")) == [
        f"edge.{name}"
        for name in [
            "bench",
            "bridge",
            "cli",
            "daemon",
            "enroll",
            "gallery",
            "live",
            "match",
            "model",
            "motion",
            "review",
            "thresholds",
            "web",
            "words",
        ]
    ], "config is one file"
    assert sorted(room for room in ROOMS if room.count(".") == 1 and room.startswith("training.")) == [
        f"training.{name}"
        for name in ["baselines", "cli", "data", "evaluate", "explain", "model", "reproduce", "run", "texts"]
    ]


@pytest.mark.parametrize("room", ["edge", "training", "export", *ROOMS])
def test_a_room_says_its_rule_in_a_sentence_and_names_its_face(room: str) -> None:
    pytest.importorskip("torch", reason="rooms of training and export need the extra `train`")
    face = importlib.import_module(room)
    rule = (face.__doc__ or "").strip()
    assert rule.endswith(".")
    assert "\n" not in rule
    assert face.__all__
    modules = {module.name for module in pkgutil.iter_modules(face.__path__)}
    missing = [name for name in face.__all__ if not hasattr(face, name) and name not in modules]
    assert not missing


def test_a_room_is_entered_by_its_face_alone() -> None:
    faces = {room: (ROOT / room.replace(".", "/") / "__init__.py").read_text(encoding="utf-8") for room in ROOMS}
    wrong = []
    for importing, imported, name in _imports():
        room = _room_of(imported)
        if importing == room or importing.startswith(f"{room}."):
            continue
        if imported != room or f'"{name}"' not in faces[room]:
            wrong.append(f"{importing}: from {imported} import {name}")
    assert not wrong
