"""K, the key joints that an LLM's global texts name: derived once, stored beside them in words that a person can check.

Shapes: A actions, V = 25 joints of kinect25, which is what an encoder sees; J joints of the texts' own layout.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from streams.arrays import Array
from streams.errors import DescriptionError
from streams.files import replace_file
from streams.layouts import Layout, layout_by_name
from training.texts.body_parts import KeyJoints, english, key_joints
from training.texts.describe import KEY_JOINTS, Description, descriptions_folder, read_descriptions


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    text: str
    nouns: tuple[str, ...]
    parts: tuple[str, ...]
    joints: tuple[str, ...]


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    extractor: str
    layout: str
    actions: dict[str, _Entry]


def write_key_joints(llm: str | Path) -> dict[str, KeyJoints]:
    """Derive the key joints of every action that an LLM described, and write them beside its texts.

    Raises DescriptionError, TextToolError.
    """
    texts = read_descriptions(llm)
    layout = common_layout([*texts.values()])
    found = {action: key_joints(text.global_text, layout.name) for action, text in texts.items()}
    entries = {
        action: _Entry(text=texts[action].global_text, nouns=key.nouns, parts=key.parts, joints=key.joints)
        for action, key in found.items()
    }
    file = _File(extractor=english()[1], layout=layout.name, actions=entries)
    write_derived(descriptions_folder(llm) / KEY_JOINTS, _readable(file))
    return found


def read_key_joints(llm: str | Path, actions: Sequence[str]) -> Array:
    """Read K_AV, shape (A, V), float32: 1 where joint v is a key joint of action a, else 0.

    Where the texts are of another layout, a joint is a key joint if most of what it is made of is.
    Raises DescriptionError: "missing" or "stale" where `crossglg-edge embed-texts` has to run (again).
    """
    texts = read_descriptions(llm, actions)
    layout = common_layout([*texts.values()])
    path, command = descriptions_folder(llm) / KEY_JOINTS, embed_command(llm)
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError as error:
        raise underived(f"{path} is missing", command, "missing") from error
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise underived(f"{path} cannot be read as key joints: {error}", command, "bad_key_joints") from error
    unknown = {joint for entry in file.actions.values() for joint in entry.joints} - {*layout.joints}
    if file.layout != layout.name or unknown:
        names = f", with {', '.join(sorted(unknown))}" if unknown else ""
        raise underived(f"{path} is of layout {file.layout}{names}, its texts of {layout.name}", command, "stale")
    now = {action: text.global_text for action, text in texts.items()}
    check_fresh(path, command, now, {action: entry.text for action, entry in file.actions.items()})
    K_AJ = np.array([[j in file.actions[a].joints for j in layout.joints] for a in actions], np.float32)
    return (K_AJ @ layout.kinect25_weights.T > 0.5).astype(np.float32)


def _readable(file: _File) -> bytes:
    """Return the file's JSON with one line a list."""
    content = msgspec.json.format(msgspec.json.encode(file), indent=1)
    return content.replace(b"[\n    ", b"[").replace(b",\n    ", b", ").replace(b"\n   ]", b"]") + b"\n"


def common_layout(descriptions: Sequence[Description]) -> Layout:
    """Return the layout that these descriptions share. Raises DescriptionError."""
    names = sorted({description.layout for description in descriptions})
    if len(names) != 1:
        raise DescriptionError(
            f"the descriptions are of {len(names)} layouts ({', '.join(names)}), expected one",
            hint="Describe all actions with the same --layout.",
        )
    return layout_by_name(names[0])


def check_fresh(path: Path, command: str, now: dict[str, str], then: dict[str, str]) -> None:
    """Raise DescriptionError where a derived file lacks an action, or was made of another text than there is now."""
    for actions, code, what in (
        ([action for action in now if action not in then], "missing", "lacks"),
        ([action for action in now if then.get(action, now[action]) != now[action]], "stale", "is of older texts of"),
    ):
        if actions:
            raise underived(f"{path} {what} {', '.join(actions)}", command, code)


def underived(message: str, command: str, code: str) -> DescriptionError:
    """Return the error of a derived file that this command makes (anew)."""
    return DescriptionError(message, code=code, hint=f"Make it: {command}")


def embed_command(llm: str | Path) -> str:
    """Return the command that derives all that belongs to these texts."""
    return f"crossglg-edge embed-texts {shlex.quote(str(llm))}"


def write_derived(path: Path, content: bytes) -> None:
    """Write a derived file, whole or not at all. Raises DescriptionError."""
    try:
        replace_file(path, content)
    except OSError as error:
        raise DescriptionError(
            f"{path} cannot be written: {error.strerror}",
            hint="Copy the folder of texts to one of yours and name that.",
        ) from error
