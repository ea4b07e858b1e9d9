"""The control socket's requests: the arguments of every command, as typed data.

No numpy here: whoever only sends a request starts in a fraction of a second.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Literal

import msgspec

VERSION = version("crossglg-edge")

# Adding an example: to a label that must be new, to one that may exist, or in place of its examples so far.
Mode = Literal["new", "add", "replace"]
# The side that an action is of; "either": stored as shown and mirrored.
Side = Literal["left", "right", "either"]
# Ten minutes are some 15,000 windows, which takes an indexer a quarter of a minute.
MAX_NEGATIVES_S = 600.0


class Args(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold a command's arguments; unknown ones are refused."""


# The operating system takes no zero byte in a name.
FilePath = Annotated[str, msgspec.Meta(min_length=1, pattern=r"^[^\0]*$")]


class NoArgs(Args, frozen=True):
    pass


class GetArgs(Args, frozen=True):
    """One label, or all of them."""

    label: str | None = None


class RemoveArgs(Args, frozen=True):
    """A label with all its examples, or the one example or negative whose id begins so."""

    label: str | None = None
    id: str | None = None
    expected_revision: int | None = None


class RenameArgs(Args, frozen=True):
    old: str
    new: str
    expected_revision: int | None = None


class RevisionArgs(Args, frozen=True):
    expected_revision: int | None = None


class RevertArgs(Args, frozen=True):
    revision: int
    expected_revision: int | None = None


class VacuumArgs(Args, frozen=True):
    keep_revisions: Annotated[int, msgspec.Meta(ge=0)]


class ExportArgs(Args, frozen=True):
    path: FilePath
    labels: list[str] | None = None


class ImportArgs(Args, frozen=True):
    path: FilePath
    mode: Mode = "new"


class HistoryArgs(Args, frozen=True):
    limit: int = 20


class ClipArgs(Args, frozen=True):
    """An example as float64 seconds (L,) and float32 kinect25 meters (L, 25, 3), little-endian bytes.

    `side` "left", "right": mirrored where the other side was shown; "either": stored as shown and mirrored.
    `force`: stored though it is too like another label's.
    """

    label: str
    timestamps_s: bytes
    joints_m: bytes
    origin: str
    mode: Mode = "new"
    trim: bool = True
    side: Side | None = None
    force: bool = False


class PieceArgs(Args, frozen=True):
    """Movement without a gap, as in ClipArgs."""

    timestamps_s: bytes
    joints_m: bytes


class NegativeArgs(Args, frozen=True):
    pieces: list[PieceArgs]
    origin: str


class ThresholdArgs(Args, frozen=True):
    """A label's own threshold: the distance at which a match scores `events.min_score`."""

    label: str
    distance: Annotated[float, msgspec.Meta(gt=0, le=100)]


class CalibrateArgs(Args, frozen=True):
    """Of all labels together."""

    false_alarms_per_hour: Annotated[float, msgspec.Meta(gt=0, le=1000)]


class EnrollArgs(Args, frozen=True):
    """Either a `label`, or `negative_s`: so many seconds of ordinary movement.

    `commit` false: the example waits for enroll.commit or enroll.cancel. `side`, `force`: see enroll.clip.
    """

    label: str | None = None
    negative_s: Annotated[float, msgspec.Meta(ge=1, le=MAX_NEGATIVES_S)] | None = None
    countdown_s: Annotated[float, msgspec.Meta(ge=0, le=60)] | None = None
    mode: Mode = "new"
    source: str | None = None
    body: int | None = None
    side: Side | None = None
    force: bool = False
    commit: bool = True


class CommitArgs(Args, frozen=True):
    force: bool = False


class RecordArgs(Args, frozen=True):
    path: FilePath
    overwrite: bool = False


class TimeArgs(Args, frozen=True):
    t0: float
