"""The reference of the control socket, made from the table of commands and the types of its answers."""

from __future__ import annotations

import inspect
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from tables import table, words

from edge.config import Config
from edge.protocol import COMMANDS, Command

_WORDS = {str: "text", int: "integer", float: "number", bool: "boolean", bytes: "bytes", Any: "anything"}


def control() -> str:
    """Return a section for each command, then one for each structure that answers are made of."""
    found: dict[str, Any] = {}
    sections = [_command(command, found) for command in COMMANDS]
    parts = []
    # What an answer holds may hold more: `found` grows on the way.
    for name in (names := list(found)):
        parts.append(_part(name, found[name], found))
        names += [other for other in found if other not in names]
    return "\n\n".join((*sections, "## What answers hold", *parts))


def _command(command: Command, found: dict[str, Any]) -> str:
    where = "It needs a daemon." if command.needs_daemon else ""
    answers = [_type(answer, found) for answer in command.answers]
    lines = [f"### {command.name}", "", f"{command.description} {where}".strip(), ""]
    rows = [_argument(field, found) for field in msgspec.structs.fields(command.request)]
    lines += [table(["argument", "type", "default", "what"], rows) if rows else "No arguments.", ""]
    lines.append(f"Answer: {' or '.join(answers)}.")
    return "\n".join(lines)


def _argument(field: Any, found: dict[str, Any]) -> list[str]:
    default = "required" if field.required else f"`{msgspec.json.encode(field.default).decode()}`"
    return [f"`{field.encode_name}`", _type(field.type, found), default, words(_description(field.type))]


def _part(name: str, kind: Any, found: dict[str, Any]) -> str:
    rows = [
        [f"`{field.encode_name}`", _type(field.type, found), words(_description(field.type))]
        for field in msgspec.structs.fields(kind)
    ]
    doc = " ".join(inspect.cleandoc(kind.__doc__ or "").split())
    return f"### {name}\n\n{doc}\n\n{table(['key', 'type', 'what'], rows)}"


def _type(annotation: Any, found: dict[str, Any]) -> str:
    """Return a type in words; a structure is a link, and is noted in `found`."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(args[0], found)
    if origin in (Union, UnionType):
        return " or ".join(_type(arg, found) for arg in args)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin in (tuple, list):
        items = [arg for arg in args if arg is not Ellipsis]
        return f"list of {_type(items[0], found)}"
    if origin is dict:
        return f"map to {_type(args[1], found)}"
    if annotation is Config:
        return "the [configuration](config.md)"
    kind = origin or annotation
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        found.setdefault(kind.__name__, kind)
        of = f" of {_type(args[0], found)}" if args else ""
        return f"[{kind.__name__}](#{kind.__name__.lower()}){of}"
    if isinstance(annotation, TypeVar):
        return "what was stored"
    return "null" if annotation is type(None) else _WORDS[annotation]


def _description(annotation: Any) -> str:
    """Return the first description in a type, from the outside in, but not of what a structure holds."""
    for meta in getattr(annotation, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.description:
            return str(meta.description)
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return next(filter(None, map(_description, get_args(annotation))), "")
    return ""
