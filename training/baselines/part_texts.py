"""What a language model says of the parts of the body, for GAP and APSR.

GAP has such texts for NTU-120 and NW-UCLA, of GPT-3. For other actions they are made of the joints' sentences that
CrossGLG reads; a file in GAP's form takes their place.

Shapes: A classes, W wordings of a name, P parts, E channels of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from streams.errors import DescriptionError
from streams.layouts import KINECT25_JOINTS, LAYOUTS
from training.baselines.body import GAP_PARTS
from training.baselines.gap import ClassTexts
from training.data import ntu
from training.texts import Description, chosen_texts, embed_sentences, read_descriptions

# Whose sentences make a part's text: few, since a text encoder reads 77 to 256 tokens.
_SPOKEN_JOINTS = {
    "head": ("Head", "Neck"),
    "hand": ("HandRight", "HandLeft", "ElbowRight", "ElbowLeft", "WristRight", "WristLeft"),
    "hip": ("SpineBase", "HipRight", "HipLeft"),
    "foot": ("KneeRight", "KneeLeft", "FootRight", "FootLeft"),
}
# A line of GAP's file, and the fields that make each part's text.
_FIELDS = ("name", "head", "hand", "arm", "hip", "leg", "foot")
_FIELDS_OF = {"head": ("head",), "hand": ("hand", "arm"), "hip": ("hip",), "foot": ("leg", "foot")}


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTexts:
    """Hold the wordings of a class's name, and the text of each of GAP_PARTS, which begins with the name."""

    names: tuple[str, ...]
    parts: tuple[str, ...]


def read_part_texts(classes: Sequence[str], llm: str, file: Path | None = None) -> tuple[list[PartTexts], str]:
    """Return the texts of each class, and where they come from: a file in GAP's form, or an LLM's sentences.

    Raises DescriptionError.
    """
    if file is not None:
        return _read_file(file, classes), file.name
    llm = chosen_texts(llm, classes)
    described = read_descriptions(llm, classes)
    return [_from_joints(description) for description in described.values()], f"the joints' sentences of {llm}"


def embed_part_texts(texts: Sequence[PartTexts], encoder: Path | None = None) -> tuple[ClassTexts, str]:
    """Return the texts embedded, and the name of what embedded them. Raises TextToolError."""
    sentences = [sentence for text in texts for sentence in (*text.names, *text.parts)]
    features, name = embed_sentences(sentences, encoder)
    embedded = iter(torch.from_numpy(features))
    num_names_A = torch.tensor([len(text.names) for text in texts])
    names_AWE = torch.zeros(len(texts), int(num_names_A.max()), features.shape[1])
    parts_APE = torch.zeros(len(texts), len(GAP_PARTS), features.shape[1])
    for i, text in enumerate(texts):
        for j in range(len(text.names)):
            names_AWE[i, j] = next(embedded)
        for j in range(len(text.parts)):
            parts_APE[i, j] = next(embedded)
    return ClassTexts(names_AWE=names_AWE, num_names_A=num_names_A, parts_APE=parts_APE), name


def wordings(action: str) -> tuple[str, ...]:
    """Return a name and, where it has alternatives, each of them: "run / jog" is also "run", and "jog"."""
    parts = tuple(part.strip() for part in action.split("/"))
    return (action, *parts) if len(parts) > 1 and all(parts) else (action,)


def _from_joints(description: Description) -> PartTexts:
    layout = LAYOUTS[description.layout]
    # The native joint that each of kinect25's is most made of.
    stands_for = {
        joint: description.joints[int(weights_J.argmax())]
        for joint, weights_J in zip(KINECT25_JOINTS, layout.kinect25_weights, strict=True)
        if weights_J.any()
    }
    parts = []
    for part in GAP_PARTS:
        said = dict.fromkeys(stands_for[joint] for joint in _SPOKEN_JOINTS[part] if joint in stands_for)
        parts.append(f"{description.action}, {' '.join(said)}")
    return PartTexts(names=wordings(description.action), parts=tuple(parts))


def _read_file(path: Path, classes: Sequence[str]) -> list[PartTexts]:
    """Return the texts of these classes: by name, but by the numbers of NTU's actions in a file of 120 lines.

    GAP's own file has other names for many of NTU's actions. Raises DescriptionError.
    """
    form = ";".join(_FIELDS)
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DescriptionError(f"{path} cannot be read: {error}", hint=f"Expected lines of {form}.") from error
    texts = []
    for number, line in enumerate(lines, start=1):
        values = [value.strip() for value in line.split(";")]
        if len(values) != len(_FIELDS) or not all(values):
            raise DescriptionError(
                f"{path}, text {number}: {len(list(filter(None, values)))} parts, expected {len(_FIELDS)}",
                hint=f"A line is {form}.",
            )
        said = dict(zip(_FIELDS, values, strict=True))
        name = said["name"]
        parts = tuple(f"{name}, {', '.join(said[field] for field in _FIELDS_OF[part])}" for part in GAP_PARTS)
        texts.append(PartTexts(names=wordings(name), parts=parts))
    found = {text.names[0].lower(): text for text in texts}
    if len(texts) == len(ntu.ACTIONS):
        found |= {name.lower(): text for name, text in zip(ntu.ACTIONS, texts, strict=True)}
    missing = [name for name in classes if name.lower() not in found]
    if missing:
        raise DescriptionError(
            f"{path} has no texts of {len(missing)} of {len(classes)} actions: {', '.join(missing)}",
            code="missing",
            hint=f"Add a line of {form} for each, or leave out --part-texts.",
        )
    return [found[name.lower()] for name in classes]
