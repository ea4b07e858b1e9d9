"""NTU RGB+D 60 and 120: .skeleton files -> samples, with the bodies that the reference keeps; the protocols.

What is kept is the choice of the reference that the papers use (microsoft/SGN, MIT; stnoah1/infogcn has
the same): frames without a body go; of several bodies, those of 11 frames or fewer go, then those that
are mostly wider than high (tables and seats); the rest are ranked by motion, and bodies that follow
each other in time become one person, two at most. Its centring, its turn of the first frame and its
crop are left out: `edge.motion.preprocess` does that, the same on the device. Unlike it, a body that comes
back keeps its own frames (the reference closes the gap), a joint at exactly zero or not a number is
missing, and so is a second person who is not there (zeros for NTU-60, the first person again for
NTU-120).

Shapes: F frames of one body, L frames of a clip, V = 25 joints.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.arrays import Array, Mask
from streams.errors import ArchiveError
from training.data.prepare import Sample

FPS = 30.0
# A1 to A120, in the words of the data set's own list (shahroudy/NTURGB-D) as stnoah1/infogcn has them.
ACTIONS = (
    "drink water", "eat meal/snack", "brushing teeth", "brushing hair", "drop", "pickup", "throw", "sitting down",
    "standing up (from sitting position)", "clapping", "reading", "writing", "tear up paper", "wear jacket",
    "take off jacket", "wear a shoe", "take off a shoe", "wear on glasses", "take off glasses", "put on a hat/cap",
    "take off a hat/cap", "cheer up", "hand waving", "kicking something", "reach into pocket",
    "hopping (one foot jumping)", "jump up", "make a phone call/answer phone", "playing with phone/tablet",
    "typing on a keyboard", "pointing to something with finger", "taking a selfie", "check time (from watch)",
    "rub two hands together", "nod head/bow", "shake head", "wipe face", "salute", "put the palms together",
    "cross hands in front (say stop)", "sneeze/cough", "staggering", "falling", "touch head (headache)",
    "touch chest (stomachache/heart pain)", "touch back (backache)", "touch neck (neckache)",
    "nausea or vomiting condition", "use a fan (with hand or paper)/feeling warm", "punching/slapping other person",
    "kicking other person", "pushing other person", "pat on back of other person", "point finger at the other person",
    "hugging other person", "giving something to other person", "touch other person's pocket", "handshaking",
    "walking towards each other", "walking apart from each other", "put on headphone", "take off headphone",
    "shoot at the basket", "bounce ball", "tennis bat swing", "juggling table tennis balls", "hush (quiet)",
    "flick hair", "thumb up", "thumb down", "make ok sign", "make victory sign", "staple book", "counting money",
    "cutting nails", "cutting paper (using scissors)", "snapping fingers", "open bottle", "sniff (smell)",
    "squat down", "toss a coin", "fold paper", "ball up paper", "play magic cube", "apply cream on face",
    "apply cream on hand back", "put on bag", "take off bag", "put something into a bag",
    "take something out of a bag", "open a box", "move heavy objects", "shake fist", "throw up cap/hat",
    "hands up (both hands)", "cross arms", "arm circles", "arm swings", "running on the spot",
    "butt kicks (kick backward)", "cross toe touch", "side kick", "yawn", "stretch oneself", "blow nose",
    "hit other person with something", "wield knife towards other person", "knock over other person (hit with body)",
    "grab other person's stuff", "shoot at other person with a gun", "step on foot", "high-five", "cheers and drink",
    "carry something with other person", "take a photo of other person", "follow other person",
    "whisper in other person's ear", "exchange things with other person",
    "support somebody with one's hand (someone is sick, help him to walk)",
    "finger-guessing game (playing rock-paper-scissors)",
)  # fmt: skip

_NAME = re.compile(r"S(\d{3})C\d{3}P(\d{3})R\d{3}A(\d{3})")
_MAX_NOISE_FRAMES = 11
_MAX_WIDTH = 0.8
_MIN_WIDE_SHARE = 0.69754


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Track:
    """Hold one body: the frames it is in, shape (F,), rising, and its joints there, shape (F, 25, 3), meters."""

    frames: npt.NDArray[np.int64]
    joints: Array


def ntu_parts(folder: Path, skip: Collection[str] = ()) -> dict[str, list[Path]]:
    """Return the .skeleton files in a folder or below, by setup (S001, ...), without those named in `skip`.

    Raises ArchiveError if there is none, one is not named SsssCcccPpppRrrrAaaa, or a name is there twice.
    """
    parts: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*.skeleton"), key=lambda file: file.name):
        action = _name(file)[2]
        if file.stem in skip:
            continue
        files = parts.setdefault(file.stem[:4], [])
        if files and files[-1].name == file.name:
            raise ArchiveError(f"{file} and {files[-1]} have the same name", hint="Keep one of them in the folder.")
        if not 1 <= action <= len(ACTIONS):
            raise ArchiveError(f"{file}: action A{action:03} is none of A001 to A{len(ACTIONS)}")
        files.append(file)
    if not parts:
        raise ArchiveError(
            f"no .skeleton file in {folder} or below",
            code="not_found",
            hint="Name the folder that nturgbd_skeletons_s001_to_s017.zip (and s018_to_s032) was unpacked to.",
        )
    return parts


def read_skip_list(path: Path) -> frozenset[str]:
    """Return the sample names in a text file, such as the authors' list of missing skeletons. Raises ArchiveError."""
    try:
        names = _NAME.finditer(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror}", code="not_found") from error
    found = frozenset(name.group() for name in names)
    if not found:
        raise ArchiveError(f"{path}: no name such as S001C002P005R002A008 in it")
    return found


def read_sample(path: Path) -> Sample | None:
    """Read one .skeleton file and keep two bodies at most; None where no body was seen. Raises ArchiveError."""
    _, subject, action = _name(path)
    joints_L2V3 = two_persons(*read_skeleton(path))
    if not len(joints_L2V3):
        return None
    return Sample(source=path.stem, label=ACTIONS[action - 1], subject=subject, joints=joints_L2V3)


def _name(path: Path) -> tuple[int, int, int]:
    name = _NAME.fullmatch(path.stem)
    if name is None:
        raise ArchiveError(f"{path}: expected a name such as S001C002P003R002A013.skeleton")
    setup, subject, action = map(int, name.groups())
    return setup, subject, action


class _Lines:
    """Hand out a file's lines, field by field; every error names the file and the line."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, 0
        self.fields: list[str] = []
        try:
            # A byte that is no text becomes a field that is no number.
            self._lines = path.read_text(encoding="ascii", errors="replace").rstrip().splitlines()
        except OSError as error:
            raise ArchiveError(f"{path} cannot be read: {error.strerror}") from error

    def error(self, what: str) -> ArchiveError:
        return ArchiveError(
            f"{self.path}, line {self.number}: {what}",
            hint="Copy the file anew, or name it in a list for --skip.",
        )

    def numbers(self, num_fields: int, what: str) -> list[float]:
        self.number += 1
        if self.number > len(self._lines):
            raise self.error(f"the file ends where {what} was expected")
        self.fields = self._lines[self.number - 1].split()
        try:
            numbers = [float(field) for field in self.fields]
        except ValueError:
            numbers = []
        if len(numbers) != num_fields:
            raise self.error(f"expected {what} ({num_fields} numbers), got {' '.join(self.fields)[:80]!r}")
        return numbers

    def count(self, what: str) -> int:
        (number,) = self.numbers(1, what)
        if not (number >= 0 and number.is_integer()):
            raise self.error(f"expected {what}, a whole number from 0 up, got {number}")
        return int(number)

    def end(self) -> None:
        self.number += 1
        if self.number <= len(self._lines):
            raise self.error("expected the end of the file after its last frame")


def read_skeleton(path: Path) -> tuple[list[Track], int]:
    """Return the bodies of a .skeleton file, in order of appearance, and how many frames have a body.

    Frames without a body are not counted. Format: frame count; per frame a body count; per body a line
    of 10 fields (its id first), a joint count of 25, and 25 lines of 12 fields, x y z first (source:
    shahroudy/NTURGB-D, read_skeleton_file.m). Raises ArchiveError with the file and the line.
    """
    lines = _Lines(path)
    found: dict[str, tuple[list[int], list[list[list[float]]]]] = {}
    frame = 0
    for _ in range(lines.count("the frame count")):
        num_bodies = lines.count("a body count")
        for _ in range(num_bodies):
            lines.numbers(10, "the fields of a body")
            # An id has 17 digits: as a float it would be that of its neighbors, too.
            frames, joints = found.setdefault(lines.fields[0], ([], []))
            if frames and frames[-1] == frame:
                raise lines.error("the same body is twice in one frame")
            num_joints = lines.count("a joint count")
            if num_joints != 25:
                raise lines.error(f"expected 25 joints, got {num_joints}")
            frames.append(frame)
            joints.append([lines.numbers(12, "the fields of a joint")[:3] for _ in range(25)])
        frame += num_bodies > 0
    lines.end()
    return [_track(frames, joints) for frames, joints in found.values()], frame


def _track(frames: Sequence[int], joints: Sequence[Sequence[Sequence[float]]]) -> Track:
    with np.errstate(over="ignore"):
        joints_FV3 = np.array(joints, np.float32)
    joints_FV3[~np.isfinite(joints_FV3).all(axis=2) | (joints_FV3 == 0).all(axis=2)] = np.nan
    return Track(frames=np.array(frames, np.int64), joints=joints_FV3)


def two_persons(tracks: Sequence[Track], num_frames: int) -> Array:
    """Return two persons at most, shape (L, 2, 25, 3), NaN where missing, without frames in which nobody is."""
    if len(tracks) > 1:
        tracks = [track for track in tracks if len(track.frames) > _MAX_NOISE_FRAMES]
    kept = list(tracks)
    for track in tracks:
        if len(kept) > 1 and 1 - _is_slim(track).mean() >= _MIN_WIDE_SHARE:
            kept.remove(track)
    joints_L2V3 = np.full((num_frames, 2, 25, 3), np.nan, np.float32)
    ends: list[tuple[int, int] | None] = [None, None]
    for track in sorted(kept, key=_motion, reverse=True):
        first, last = int(track.frames[0]), int(track.frames[-1])
        for person, end in enumerate(ends):
            if end is None or min(end[1], last) <= max(end[0], first):
                joints_L2V3[track.frames, person] = track.joints
                ends[person] = (first, last) if end is None else (min(end[0], first), max(end[1], last))
                break
    seen_L = np.isfinite(joints_L2V3).any(axis=(1, 2, 3))
    return np.asarray(joints_L2V3[seen_L], np.float32)


def _is_slim(track: Track) -> Mask:
    """Return whether the body is at most 0.8 times as wide as high, for each frame, shape (F,)."""
    seen = np.isfinite(track.joints[:, :, :2])
    xy = track.joints[:, :, :2]
    spread_F2 = np.where(seen, xy, -np.inf).max(axis=1) - np.where(seen, xy, np.inf).min(axis=1)
    return np.asarray(spread_F2[:, 0] <= _MAX_WIDTH * spread_F2[:, 1])


def _motion(track: Track) -> float:
    """Return the summed variance of x, y and z over all joints and frames, or over the slim ones if less."""
    slim_F = _is_slim(track)
    motion = _variance(track.joints)
    return min(motion, _variance(track.joints[slim_F])) if slim_F.any() else motion


def _variance(joints_FV3: Array) -> float:
    seen = joints_FV3[np.isfinite(joints_FV3).all(axis=2)]
    return float(seen.var(axis=0).sum()) if len(seen) else 0.0


def ntu_protocols() -> dict[str, dict[str, Any]]:
    """Return the one-shot protocols of NTU-60 and NTU-120, by file name, as `training.evaluate` reads them."""
    return {f"ntu{num}_one_shot.json": _protocol(num, num_setups) for num, num_setups in ((60, 17), (120, 32))}


def _protocol(num_actions: int, num_setups: int) -> dict[str, Any]:
    novel = range(0, num_actions, 6)
    return {
        "note": "Novel actions and exemplars: the data set's authors (shahroudy/NTURGB-D). Base sets smaller than "
        "all: ours, as the papers' are not public; the first N of base_order, which takes the action after each "
        "novel one, then the second after each, up to the fifth.",
        "sets": [f"S{setup:03}" for setup in range(1, num_setups + 1)],
        "novel": [ACTIONS[action] for action in novel],
        "base_order": [ACTIONS[action + offset] for offset in range(1, 6) for action in novel],
        "settings": [len(novel) * offset for offset in range(1, 6)],
        # A001 to A060 were recorded in setups 1 to 17, A061 to A120 in the others.
        "exemplars": [f"S{1 if action < 60 else 18:03}C003P008R001A{action + 1:03}" for action in novel],
    }
