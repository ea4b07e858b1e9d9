"""Draw the rooms, as import-linter holds them, and the way of a frame, as SVG files that need nothing else."""

from __future__ import annotations

import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

_ROOT = Path(__file__).parents[1]
_INK, _LINE, _PAPER, _ROOM = "#1b2a33", "#5f7c8a", "#ffffff", "#d8eeee"
_FONT = "font-family='Helvetica, Arial, sans-serif'"

# What happens to a frame, and in which room.
FRAME_WAY = (
    ("a camera, or your tracker", "streams.cameras"),
    ("check the message", "streams.wire"),
    ("accept it, or drop and count", "edge.live"),
    ("turn it into kinect25", "streams.frame"),
    ("keep each body's last seconds", "edge.motion"),
    ("cut windows: level, pace by motion", "edge.motion"),
    ("encode them in one batch", "edge.model"),
    ("distance to each prototype", "edge.match"),
    ("decide: label, score, threshold", "edge.live"),
    ("begin, update or end an event", "edge.live"),
    ("publish it", "streams.sockets"),
)


def images() -> dict[str, str]:
    """Return each image's content by its file name."""
    return {"rooms.svg": rooms_svg(), "frame.svg": frame_svg()}


def package_layers() -> dict[str, list[list[str]]]:
    """Return the layers of rooms of each package, those that import first, from the contracts in pyproject.toml."""
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    found: dict[str, list[list[str]]] = {package: [] for package in reversed(settings["root_packages"])}
    for contract in settings["contracts"]:
        for container in contract.get("containers", ()):
            if container in found:
                found[container] = [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]
    return found


def rooms_svg() -> str:
    """Draw a column a package, a row a layer: each imports only what is below it, or to its right."""
    columns = package_layers()
    width, row, gap = 215, 38, 24
    height = 84 + row * max(len(layers or flat_files(package)) for package, layers in columns.items())
    parts = []
    for column, (package, layers) in enumerate(columns.items()):
        x = 12 + column * (width + gap)
        parts.append(_box(x, 12, width, height - 24, _PAPER))
        parts.append(_text(x + width / 2, 38, package, size=17, weight="bold"))
        for number, layer in enumerate(layers or flat_files(package)):
            share = (width - 12) / len(layer)
            for place, room in enumerate(layer):
                left, top = x + 6 + place * share, 54 + number * row
                if layers:
                    parts.append(_box(left + 2, top, share - 4, row - 8, _ROOM))
                parts.append(_text(left + share / 2, top + 20, room, size=13 if len(layer) < 3 else 11))
        if column:
            parts.append(_arrow(x - gap - 1, height / 2, x - 2, height / 2))
    return _svg(12 + len(columns) * (width + gap), height, parts)


def flat_files(package: str) -> list[list[str]]:
    """Return the files and rooms of a package that is not layered as a whole, two a row."""
    folder = _ROOT / package
    found = [*folder.glob("*.py"), *(face.parent for face in folder.glob("*/__init__.py"))]
    names = sorted(path.stem for path in found if path.stem != "__init__")
    return [names[i : i + 2] for i in range(0, len(names), 2)]


def frame_svg() -> str:
    """Draw the frame's way in rows of four, each step with its room."""
    width, row, gap, per_row = 208, 92, 26, 4
    parts = []
    for number, (what, room) in enumerate(FRAME_WAY):
        x, y = 12 + number % per_row * (width + gap), 12 + number // per_row * row
        parts.append(_box(x, y, width, 60, _ROOM))
        parts.append(_text(x + width / 2, y + 26, what, size=12.5))
        parts.append(_text(x + width / 2, y + 46, room, size=12, color=_LINE, weight="bold"))
        if number + 1 == len(FRAME_WAY):
            continue
        if number % per_row < per_row - 1:
            parts.append(_arrow(x + width + 2, y + 30, x + width + gap - 2, y + 30))
        else:
            middle = y + 60 + (row - 60) / 2
            start, end = x + width / 2, 12 + width / 2
            parts.append(_line([(start, y + 60), (start, middle), (end, middle)]))
            parts.append(_arrow(end, middle, end, y + row - 2))
    rows = -(-len(FRAME_WAY) // per_row)
    return _svg(12 + per_row * (width + gap) - gap + 12, 12 + rows * row - 20, parts)


def _svg(width: float, height: float, parts: list[str]) -> str:
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:g} {height:g}' width='{width:g}' {_FONT}>"
    marker = (
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
        f"<path d='M0 0 L8 4 L0 8 z' fill='{_LINE}'/></marker></defs>"
    )
    return "\n".join((head, marker, _box(0, 0, width, height, _PAPER, line=_PAPER), *parts, "</svg>", ""))


def _box(x: float, y: float, width: float, height: float, fill: str, *, line: str = _LINE) -> str:
    place = f"x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}'"
    return f"<rect {place} rx='6' fill='{fill}' stroke='{line}'/>"


def _text(x: float, y: float, text: str, *, size: float, color: str = _INK, weight: str = "normal") -> str:
    style = f"font-size='{size:g}' fill='{color}' font-weight='{weight}' text-anchor='middle'"
    return f"<text x='{x:g}' y='{y:g}' {style}>{escape(text)}</text>"


def _line(points: list[tuple[float, float]], end: str = "") -> str:
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f"<polyline points='{path}' fill='none' stroke='{_LINE}' stroke-width='1.5'{end}/>"


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return _line([(x1, y1), (x2, y2)], " marker-end='url(#tip)'")
