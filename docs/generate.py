"""Write the parts of the pages that follow from the code, between markers; `--check` only compares.

A part stands between `<!-- generated: NAME -->` and `<!-- end of NAME -->`; a function below makes each.
Usage: python docs/generate.py [--check]
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import msgspec
import typer.main
from control_page import control
from draw import flat_files, images, package_layers
from tables import cell, table, without_home, words

from edge.cli.app import add_offline_commands, app
from edge.config import Config
from streams.layouts import KINECT25_JOINTS, LAYOUTS

DOCS = Path(__file__).parent


def main() -> int:
    """Bring all pages up to date; with `--check` say which are not, and fail."""
    is_check = sys.argv[1:] == ["--check"]
    files = current()
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if is_check:
            sys.stderr.write(f"{path} is not up to date: run `make docs`\n")
        else:
            path.write_text(files[path], encoding="utf-8")
    return int(is_check and bool(stale))


def current() -> dict[Path, str]:
    """Return what each page and each drawing should be."""
    pages = {path: filled(path.read_text(encoding="utf-8")) for path in sorted(DOCS.glob("*.md"))}
    return {**pages, **{DOCS / "images" / name: image for name, image in images().items()}}


def filled(text: str) -> str:
    """Return a page with its generated parts as the code is now."""

    def part(found: re.Match[str]) -> str:
        name = found[1]
        return f"<!-- generated: {name} -->\n\n{PARTS[name]().strip()}\n\n<!-- end of {name} -->"

    return re.sub(r"<!-- generated: ([\w-]+) -->\n.*?<!-- end of \1 -->", part, text, flags=re.DOTALL)


def commands() -> list[tuple[str, Any]]:
    """Return every command of the command line with its full name, the offline ones included."""
    if "train" not in {command.name for command in app.registered_commands}:
        add_offline_commands()

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        children = getattr(command, "commands", {})
        if not children or (command.invoke_without_command and name != "crossglg-edge"):
            yield name, command
        for child in sorted(children):
            yield from walk(f"{name} {child}", children[child])

    return list(walk("crossglg-edge", typer.main.get_command(app)))


def cli() -> str:
    """Return a section for each command: what it does, its arguments and options."""
    sections = []
    for name, command in commands():
        context = command.make_context(name, [], resilient_parsing=True)
        options, *arguments = command.collect_usage_pieces(context)
        usage = " ".join((name, *arguments, options))
        lines = [f"## {name.removeprefix('crossglg-edge ')}", "", f"    {usage}", "", _prose(command.help or "")]
        records = [parameter.get_help_record(context) for parameter in command.params]
        rows = [[f"`{cell(record[0])}`", words(record[1])] for record in records if record]
        lines += ["", table(["argument or option", "meaning"], rows)] if rows else []
        sections.append("\n".join(lines))
    return "\n\n".join(sections)


def _prose(text: str) -> str:
    """Return a help text's paragraphs, each on one line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def config() -> str:
    """Return a table of keys for each section of the configuration."""
    sections = [_section("", Config())]

    def add(section: msgspec.Struct, lead: str) -> None:
        for field in msgspec.structs.fields(section):
            value = getattr(section, field.name)
            if isinstance(value, msgspec.Struct):
                sections.append(_section(f"{lead}{field.name}", value))
                add(value, f"{lead}{field.name}.")

    add(Config(), "")
    return "\n\n".join(sections)


def _section(name: str, section: msgspec.Struct) -> str:
    rows = []
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        if not isinstance(value, msgspec.Struct):
            default = msgspec.json.encode(value).decode()
            rows.append(
                [f"`{field.name}`", f"`{without_home(default)}`", _bounds(field.type), cell(_description(field.type))]
            )
    head = [f"## [{name}]", "", (type(section).__doc__ or "").strip(), ""] if name else ["## Top level", ""]
    return "\n".join((*head, *([table(["key", "default", "allowed", "meaning"], rows)] if rows else []))).strip()


def _meta(annotation: Any) -> Any:
    return next((m for m in getattr(annotation, "__metadata__", ()) if isinstance(m, msgspec.Meta)), None)


def _description(annotation: Any) -> str:
    meta = _meta(annotation)
    return (meta.description or "") if meta else ""


def _bounds(annotation: Any) -> str:
    meta = _meta(annotation)
    if meta is None:
        return ""
    signs = (("gt", "above"), ("ge", "from"), ("lt", "below"), ("le", "to"))
    sizes = (("min_length", "at least"), ("max_length", "at most"))
    parts = [f"{word} {getattr(meta, key):g}" for key, word in signs if getattr(meta, key) is not None]
    if (meta.min_length, meta.max_length) == (1, None):
        return "not empty"
    parts += [f"{word} {getattr(meta, key)} entries" for key, word in sizes if getattr(meta, key) is not None]
    return " ".join(parts)


def layouts() -> str:
    """Return the joint order of every layout, one column each."""
    length = max(layout.num_joints for layout in LAYOUTS.values())
    rows = [
        [str(i), *(layout.joints[i] if i < layout.num_joints else "" for layout in LAYOUTS.values())]
        for i in range(length)
    ]
    return table(["index", *(f"`{name}`" for name in LAYOUTS)], rows)


def layout_axes() -> str:
    """Return what each layout's coordinates mean, and what kinect25 lacks in it."""
    rows = []
    for layout in LAYOUTS.values():
        stand_ins = [joint for joint, is_one in zip(KINECT25_JOINTS, layout.substitute, strict=True) if is_one]
        rows.append([f"`{layout.name}`", str(layout.num_joints), f"`{layout.axes}`", ", ".join(stand_ins) or "none"])
    return table(["layout", "joints", "axes", "kinect25 joints that it only approximates"], rows)


def rooms() -> str:
    """Return each room's rule, the first sentence of its face."""
    rows = []
    for package, layers in package_layers().items():
        rooms = [room for layer in layers or flat_files(package) for room in layer]
        for name in (package, *(f"{package}.{room}" for room in rooms)):
            module = importlib.import_module(name)
            if hasattr(module, "__path__") and module.__doc__:
                rows.append([f"`{name}`", cell(module.__doc__.strip().split("\n\n")[0])])
    return table(["room", "rule"], rows)


def train_config() -> str:
    """Return the choices of a training run, the paper's values beside those of the other preset."""
    from training.run import TrainConfig

    paper, ours = (_flat(asdict(TrainConfig.preset(name))) for name in ("paper", "2-cores"))
    rows = [[f"`{key}`", f"`{value}`", f"`{ours[key]}`"] for key, value in paper.items()]
    return table(["key", "`paper`", "`2-cores`"], rows)


def train_encoders() -> str:
    """Return the choices in which the paper's preset differs by encoder."""
    from training.run import EncoderName, TrainConfig

    names = get_args(EncoderName)
    presets = [_flat(asdict(TrainConfig.preset("paper", name))) for name in names]
    rows = [
        [f"`{key}`", *(f"`{preset[key]}`" for preset in presets)]
        for key in presets[0]
        if key != "encoder" and len({str(preset[key]) for preset in presets}) > 1
    ]
    return table(["key", *(f"`{name}`" for name in names)], rows)


def _flat(content: Mapping[str, Any], lead: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= _flat(value, f"{lead}{key}.") if isinstance(value, Mapping) else {f"{lead}{key}": value}
    return found


PARTS: dict[str, Callable[[], str]] = {
    "cli": cli,
    "config": config,
    "control": control,
    "layouts": layouts,
    "layout-axes": layout_axes,
    "rooms": rooms,
    "train-config": train_config,
    "train-encoders": train_encoders,
}

if __name__ == "__main__":
    sys.exit(main())
