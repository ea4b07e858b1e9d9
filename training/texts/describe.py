"""What a language model says of an action: the two prompts, the files that hold the answers, their reader.

A folder holds the texts of one LLM to one version of one style's prompts: ORIGIN.json and one <slug>.json an action.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from streams import files
from streams.errors import DescriptionError
from streams.layouts import LAYOUTS

T = TypeVar("T")

SHIPPED = Path(__file__).with_name("descriptions")
ANY_SHIPPED = "shipped"
# A folder holds one layout, and Kinetics has joints of its own; where both describe an action, the first is taken.
_OF_DATA_SETS = ("claude", "claude-kinetics")
ORIGIN, KEY_JOINTS = "ORIGIN.json", "KEY_JOINTS.json"

Style = Literal["plain", "contrastive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompts:
    """Hold what asks for a sentence on the whole action, and for one on each joint."""

    whole: str
    joints: str


_SIDE = "Where one hand or one foot acts and the name gives no side, the right one does."
_PROMPTS: dict[Style, _Prompts] = {
    # Source: CrossGLG, Fig. 3: a global action prompt and a joint motion prompt, [...] as there.
    "plain": _Prompts(
        whole="Describe the action [{action}] as a motion of the human body in one sentence of 25 to 60 words. "
        "Name the joints and body parts that take part and how they move; do not name parts that only stay still.",
        joints="For the action [{action}], describe in one sentence of 6 to 22 words how each of these joints moves: "
        "{joints}. " + _SIDE,
    ),
    # Ours.
    "contrastive": _Prompts(
        whole="Describe in one sentence of 25 to 60 words how the action [{action}], as a motion of the human body, "
        "differs from the actions that look most like it. Name these actions, and the joints and body parts that tell "
        "it from them by how they move.",
        joints="For the action [{action}], describe in one sentence of 6 to 22 words how the motion of each of these "
        "joints differs from that in an action that looks like it: {joints}. " + _SIDE,
    ),
}

# Wider than what the prompts ask for: few models count their words.
_GLOBAL_WORDS, _JOINT_WORDS = (8, 120), (3, 50)
_RENEW = "`crossglg-edge describe` makes a damaged text anew, with the same --model and --out."
_MAX_NAME, _MAX_SLUG_BYTES = 100, 200

# Joint names that are not spoken as they are written, without their side; {} is the side.
_SPOKEN = {
    "spinebase": "base of the spine", "spinemid": "middle of the spine", "spineshoulder": "spine at the shoulders",
    "spinenavel": "spine at the navel", "spinechest": "spine at the chest", "hipcenter": "center of the hips",
    "shouldercenter": "center of the shoulders", "handtip": "tip of the {} hand", "clavicle": "{} collarbone",
    "pinky": "{} little finger", "index": "{} index finger", "footindex": "tip of the {} foot",
    "mouth": "{} corner of the mouth", "eyeinner": "inner corner of the {} eye",
    "eyeouter": "outer corner of the {} eye",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Hold the texts of one action: `joints` has a sentence per joint, in the order of `layout`'s joints."""

    action: str
    global_text: str
    joints: tuple[str, ...]
    layout: str = "kinect25"


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say where a folder's texts come from; `server` is a host, `prompt` a prompt_version()."""

    llm: str
    model: str
    server: str
    prompt: str
    date: str
    how: str


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    action: str
    layout: str = "kinect25"
    global_text: str = msgspec.field(name="global")
    joints: dict[str, str]


def prompt_version(style: Style = "plain") -> str:
    """Return what changes with the prompts of a style."""
    prompts = _PROMPTS[style]
    return hashlib.sha256(f"{prompts.whole}\n{prompts.joints}".encode()).hexdigest()[:12]


def global_prompt(action: str, style: Style = "plain") -> str:
    """Return the prompt for a sentence on the whole action."""
    return _PROMPTS[style].whole.format(action=action)


def joint_prompt(action: str, joints: Iterable[str], style: Style = "plain") -> str:
    """Return the prompt for a sentence on each of these joints, named as in a layout."""
    return _PROMPTS[style].joints.format(action=action, joints=", ".join(spoken_joint(joint) for joint in joints))


def both_prompts(action: str, joints: Sequence[str], style: Style = "plain") -> str:
    """Return both prompts as one: so an answer is a whole file, and the joints fit the sentence."""
    form = {"global": "answer to 1", "joints": {joint: spoken_joint(joint) for joint in joints}}
    return (
        f"1. {global_prompt(action, style)}\n2. {joint_prompt(action, joints, style)}\n"
        "Answer with nothing but a JSON object of this form, in which each joint's name is replaced by its sentence, "
        "no two of them the same:\n"
        f"{msgspec.json.encode(form).decode()}"
    )


def spoken_joint(joint: str) -> str:
    """Return a layout's joint name in plain words: "HandTipLeft" -> "tip of the left hand"."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", re.sub(r"^([LR])(?=[A-Z])", r"\1 ", joint)).lower().split()
    words = [{"l": "left", "r": "right"}.get(word, word) for word in words]
    side = next((word for word in words if word in ("left", "right")), "")
    part = [word for word in words if word != side]
    return _SPOKEN.get("".join(part), "{} " + " ".join(part)).format(side).strip()


def slug(name: str) -> str:
    """Return how an action's file, or an LLM's folder, is named. Raises DescriptionError for a name that has none."""
    short = re.sub(r"[\W_]+", "_", unicodedata.normalize("NFC", name).lower()).strip("_")
    if not short or not name.isprintable() or len(name) > _MAX_NAME or len(short.encode()) > _MAX_SLUG_BYTES:
        raise DescriptionError(
            f"name {name[:_MAX_NAME]!r}: expected 1 to {_MAX_NAME} printable characters with a letter or digit",
            code="bad_name",
        )
    return short


def check_slugs(actions: Iterable[str]) -> None:
    """Raise DescriptionError where two actions would share one file."""
    taken: dict[str, str] = {}
    for action in actions:
        other = taken.setdefault(slug(action), action)
        if other != action:
            raise _collision(f"{slug(action)}.json", action, other)


def faults(global_text: str, joints: Mapping[str, str], expected: Sequence[str]) -> list[str]:
    """Return what keeps these texts from describing exactly the expected joints, in words for whoever wrote them."""
    found = [f"joint {joint} is missing" for joint in expected if joint not in joints]
    found += [f"joint {joint} was not asked for" for joint in joints if joint not in expected]
    texts = [("the sentence on the whole action", global_text, _GLOBAL_WORDS)]
    texts += [(f"the sentence of {joint}", joints[joint], _JOINT_WORDS) for joint in expected if joint in joints]
    for what, text, (fewest, most) in texts:
        if not fewest <= (words := len(text.split())) <= most:
            found.append(f"{what} has {words} words, expected {fewest} to {most}")
    return found


def available_llms() -> tuple[str, ...]:
    """Return the LLMs whose texts are shipped."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob(f"*/{ORIGIN}")))


def chosen_texts(llm: str, actions: Iterable[str]) -> str:
    """Return `llm`, but for ANY_SHIPPED the shipped folder that describes all of these actions, or else most."""
    if llm != ANY_SHIPPED:
        return llm
    wanted = {*actions}
    return max(_OF_DATA_SETS, key=lambda folder: len(wanted & _shipped_actions(folder)))


@cache
def _shipped_actions(llm: str) -> frozenset[str]:
    return frozenset(read_descriptions(llm))


def read_descriptions(llm: str | Path, actions: Sequence[str] | None = None) -> dict[str, Description]:
    """Read the texts of these actions, or of all that are there, by action.

    `llm`: one of available_llms(), or a folder that `crossglg-edge describe` wrote. Raises
    DescriptionError: "missing" names the command that makes what is missing.
    """
    folder = descriptions_folder(llm)
    if actions is None:
        read = [read_file(path) for path in sorted(folder.glob("*.json")) if path.name not in (ORIGIN, KEY_JOINTS)]
        if not read:
            raise DescriptionError(f"{folder} holds no description", code="missing", hint=_command(folder, ["ACTION"]))
        return {description.action: description for description in read}
    check_slugs(actions)
    paths = {action: folder / f"{slug(action)}.json" for action in actions}
    missing = [action for action, path in paths.items() if not path.is_file()]
    if missing:
        raise DescriptionError(
            f"{folder} has no description of {len(missing)} of {len(paths)} actions: {', '.join(missing)}",
            code="missing",
            hint=_command(folder, missing),
        )
    return {action: read_file(path, action) for action, path in paths.items()}


def descriptions_folder(llm: str | Path) -> Path:
    """Return the folder of an LLM's texts. Raises DescriptionError."""
    folder = SHIPPED / llm if isinstance(llm, str) and llm in available_llms() else Path(llm)
    if not folder.is_dir():
        raise DescriptionError(
            f"{str(llm)!r} is no folder, and no LLM whose texts are shipped ({', '.join(available_llms())})",
            code="missing",
            hint="Name a folder that `crossglg-edge describe` wrote.",
        )
    return folder


def read_file(path: Path, action: str | None = None) -> Description:
    """Read one action's file; `action`, where given, must be what it describes. Raises DescriptionError."""
    file = _decode(path, _File)
    if action is not None and file.action != action:
        raise _collision(str(path), action, file.action)
    if file.layout not in LAYOUTS:
        raise DescriptionError(f"{path}: layout {file.layout!r} is not known: expected one of {', '.join(LAYOUTS)}")
    joints = LAYOUTS[file.layout].joints
    found = faults(file.global_text, file.joints, joints)
    if f"{slug(file.action)}.json" != path.name:
        found.append(f"{file.action!r} belongs in {slug(file.action)}.json")
    if found:
        raise DescriptionError(f"{path}: {'; '.join(found)}", hint=_RENEW)
    return Description(
        action=file.action,
        global_text=file.global_text,
        joints=tuple(file.joints[joint] for joint in joints),
        layout=file.layout,
    )


def read_origin(folder: Path) -> Origin:
    """Read where a folder's texts come from. Raises DescriptionError."""
    return _decode(folder / ORIGIN, Origin)


def write_description(folder: Path, description: Description) -> None:
    """Write an action's file, whole or not at all. Raises DescriptionError."""
    joints = dict(zip(LAYOUTS[description.layout].joints, description.joints, strict=True))
    file = _File(
        action=description.action, layout=description.layout, global_text=description.global_text, joints=joints
    )
    _write(folder / f"{slug(description.action)}.json", file)


def write_origin(folder: Path, origin: Origin) -> None:
    """Write where a folder's texts come from. Raises DescriptionError."""
    _write(folder / ORIGIN, origin)


def write_file(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, and its folder where there is none. Raises DescriptionError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace_file(path, content)
    except OSError as error:
        raise DescriptionError(
            f"{path} cannot be written: {error.strerror}", hint="Name a folder that can be written to and has space."
        ) from error


def _collision(where: str, action: str, other: str) -> DescriptionError:
    return DescriptionError(
        f"{where} would hold both {action!r} and {other!r}",
        code="same_file",
        hint="Use one name for one action, and names that differ in letters or digits for others.",
    )


def _command(folder: Path, actions: Sequence[str]) -> str:
    model, options = "NAME", ""
    if (folder / ORIGIN).is_file():
        origin = read_origin(folder)
        if origin.prompt == prompt_version("contrastive"):
            options = " --style contrastive"
        if folder.parent != SHIPPED:
            model, options = shlex.quote(origin.model), f"{options} --out {shlex.quote(str(folder.parent))}"
    return f"Make them: crossglg-edge describe {shlex.join(actions)} --llm URL --model {model}{options}"


def _decode(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise DescriptionError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DescriptionError(f"{path} is damaged: {error}", hint="" if path.name == ORIGIN else _RENEW) from error


def _write(path: Path, content: msgspec.Struct) -> None:
    write_file(path, msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
