"""Kinetics-skeleton: one JSON file a clip -> samples; the one-shot protocol of the CrossGLG paper.

As in the paper (appendix 2) and the reader it follows (yysijie/st-gcn): of the first five people of a
frame the two with the highest scores, in order of score and not of identity; a joint of score 0 is
missing; 60 frames evenly over the clip.

What differs, so that the archives fit everything that takes skeletons here: the 18 OpenPose joints
become kinect25 on reading (layout openpose18, hands, feet and spine by substitutes), where the paper
trains on its own graph of 18; z is 0. The scores are kept beside the joints: the preset `paper` takes them as the
third channel, as the paper has it, and a device does not see them. Coordinates are in image heights (of 340 x 256
pixels), x to the sensor's left and y up from the middle of the image; `edge.motion.preprocess` takes away place and
size. A joint in the very middle of the image, on 3 decimals, reads as missing.

Shapes: T = 60 frames, 18 joints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from streams.errors import ArchiveError
from training.data.prepare import Sample

NUM_FRAMES = 60
# A clip is 300 frames at 30 per second; a shorter one has the same number of frames, and so its own rate.
FPS = 6.0
FOLDERS = ("kinetics_train", "kinetics_val")
_CLIPS_AN_ARCHIVE = 20_000
_PEOPLE_LOOKED_AT = 5
_ASPECT = 340 / 256

# label_index 3, 23, ..., 383 and 2, 22, ..., 382 and 4, 24, ..., 384, counted from 0 as in the files.
_NOVEL = (
    "applauding", "blasting sand", "capoeira", "cleaning shoes", "cutting watermelon", "driving car",
    "feeding birds", "golf putting", "ice fishing", "lunge", "opening bottle", "playing cello", "playing recorder",
    "pushing wheelchair", "salsa dancing", "sign language interpreting", "snowkiting", "swinging legs",
    "training dog", "water skiing",
)  # fmt: skip
_FIRST_BASE = (
    "answering questions", "biking through snow", "canoeing or kayaking", "cleaning pool", "cutting pineapple",
    "drinking shots", "faceplanting", "golf driving", "ice climbing", "long jump", "news anchoring", "playing cards",
    "playing poker", "pushing cart", "sailing", "side kick", "snowboarding", "swing dancing", "tossing salad",
    "washing hands",
)  # fmt: skip
_SECOND_BASE = (
    "applying cream", "blowing glass", "carrying baby", "cleaning toilet", "dancing ballet", "driving tractor",
    "feeding fish", "grinding meat", "ice skating", "making a cake", "opening present", "playing chess",
    "playing saxophone", "reading book", "sanding floor", "singing", "snowmobiling", "swinging on something",
    "trapezing", "water sliding",
)  # fmt: skip


class _Person(msgspec.Struct):
    pose: Annotated[list[float], msgspec.Meta(min_length=36, max_length=36)]
    score: Annotated[list[float], msgspec.Meta(min_length=18, max_length=18)]


class _Frame(msgspec.Struct):
    frame_index: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
    skeleton: list[_Person]


class _Clip(msgspec.Struct):
    data: list[_Frame]
    label: Annotated[str, msgspec.Meta(min_length=1)]
    label_index: int


_decoder = msgspec.json.Decoder(_Clip)


def kinetics_parts(folder: Path) -> dict[str, list[Path]]:
    """Return the clips of kinetics_train and kinetics_val by archive, 20,000 clips each at most.

    Raises ArchiveError if neither has a clip.
    """
    parts = {}
    for name in FOLDERS:
        files = sorted((folder / name).glob("*.json"))
        starts = range(0, len(files), _CLIPS_AN_ARCHIVE)
        for i, start in enumerate(starts):
            part = name if len(starts) == 1 else f"{name}_{i:02}"
            parts[part] = files[start : start + _CLIPS_AN_ARCHIVE]
    if not parts:
        raise ArchiveError(
            f"no clip in {' or '.join(str(folder / name) for name in FOLDERS)}",
            code="not_found",
            hint="Name the folder that kinetics-skeleton was unpacked to; its clips are one .json file each.",
        )
    return parts


def read_sample(path: Path) -> Sample | None:
    """Read one clip; None where nobody was seen. Raises ArchiveError."""
    try:
        clip = _decoder.decode(path.read_bytes())
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArchiveError(
            f"{path} is no clip of Kinetics-skeleton: {error}", hint="Copy the file anew, or remove it."
        ) from error
    people = {frame.frame_index: _best_two(frame.skeleton) for frame in clip.data}
    if len(people) < len(clip.data):
        raise ArchiveError(f"{path}: a frame_index is there twice", hint="Copy the file anew, or remove it.")
    seen = [index for index, persons in people.items() if persons]
    if not seen:
        return None
    # float16 holds the files' 3 decimals, in half the memory.
    joints = np.full((NUM_FRAMES, 2, 18, 3), np.nan, np.float16)
    scores = np.zeros((NUM_FRAMES, 2, 18), np.float16)
    for t, index in enumerate(np.linspace(min(seen), max(seen), NUM_FRAMES).round().astype(int).tolist()):
        for person, found in enumerate(people.get(index, [])):
            joints[t, person] = _joints(found)
            scores[t, person] = found.score
    return Sample(source=path.stem, label=clip.label, subject=-1, joints=joints, scores=scores)


def _best_two(skeletons: list[_Person]) -> list[_Person]:
    seen = [person for person in skeletons[:_PEOPLE_LOOKED_AT] if any(score > 0 for score in person.score)]
    return sorted(seen, key=lambda person: -sum(person.score))[:2]


def _joints(person: _Person) -> np.ndarray[Any, np.dtype[np.float64]]:
    joints = np.zeros((18, 3))
    joints[:, 0] = (0.5 - np.array(person.pose[0::2])) * _ASPECT
    joints[:, 1] = 0.5 - np.array(person.pose[1::2])
    # Beyond a thousand image heights float16 ends, and the file's sense long before.
    joints[(np.array(person.score) <= 0) | (np.abs(joints) > 1000).any(axis=1)] = np.nan
    return joints


def kinetics_protocols() -> dict[str, dict[str, Any]]:
    """Return the one-shot protocol by file name, as `training.evaluate` reads it."""
    protocol = {
        "note": "Novel and base actions: the CrossGLG paper, appendix 2. Ours, as it does not say: its numbers count "
        "from 0, as label_index does; it trains on kinetics_train and tests on kinetics_val; the exemplars are drawn.",
        "sets": ["kinetics_val"],
        "novel": _NOVEL,
        "base_order": _FIRST_BASE + _SECOND_BASE,
        "settings": [20, 40],
    }
    return {"kinetics_one_shot.json": protocol}
