"""The control socket's protocol: every command with its request and its answer, as typed data, in one table.

No numpy here: whoever only sends a request starts in a fraction of a second. The keys on the wire are the names of
the fields; what a field means is in its description, of which the reference in the docs is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from importlib.metadata import version
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar, Union, cast, get_args, get_origin

import msgspec
from msgspec import Meta

from edge.config import Config
from streams.errors import ControlError
from streams.messages import Failure

if TYPE_CHECKING:
    from streams.clients import ControlClient

VERSION = version("crossglg-edge")

# Ten minutes are some 15,000 windows, which takes an indexer a quarter of a minute.
MAX_NEGATIVES_S = 600.0

A = TypeVar("A")
S = TypeVar("S")

Mode = Annotated[
    Literal["new", "add", "replace"],
    Meta(description="to a label that must be new, to one that may exist, or in place of its examples so far"),
]
Side = Annotated[
    Literal["left", "right", "either"],
    Meta(description="the action's side, whichever was shown; either: stored as shown and mirrored"),
]
# The operating system takes no zero byte in a name.
FilePath = Annotated[str, Meta(min_length=1, pattern=r"^[^\0]*$", description="a file on the daemon's machine")]
ExpectedRevision = Annotated[int | None, Meta(description="refused unless this is the gallery's revision; null: any")]
GalleryRevision = Annotated[int, Meta(description="the gallery's revision after it")]
Joints = Annotated[float, Meta(description="share of the joints that were seen, 0 to 1")]
Timestamps = Annotated[bytes, Meta(description="rising seconds of L frames, little-endian float64")]
JointPositions = Annotated[
    bytes, Meta(description="positions (L, 25, 3) of kinect25, meters, little-endian float32; NaN: missing")
]
Origin = Annotated[str, Meta(description="where the movement is from, for people")]
EnrollmentId = Annotated[str, Meta(description="which enrollment it is")]
ExpectedEnrollment = Annotated[
    str | None, Meta(description="refused unless this is the enrollment that is under way; null: any")
]
Force = Annotated[bool, Meta(description="stored even if it is too similar to another label")]
Notes = Annotated[tuple[str, ...], Meta(description="lines to read")]
WordsCount = Annotated[
    Literal["off", "mixed", "unlike"],
    Meta(description="whether the label's words count beside the example; unlike: they do not agree with it"),
]
CountWords = Annotated[bool, Meta(description="let the label's words count, where a text encoder is set up")]
Description = Annotated[str, Meta(max_length=500, description="what the body does, beside the label's own words")]
Trimmed = Annotated[tuple[float, float], Meta(description="seconds of rest that were cut off before and after")]
Why = Annotated[
    Literal["told", "threshold", "nearer", "few", "overlap", "rules"],
    Meta(
        description="told: an event; or why it was not: too far, another label nearer, too few decisions agreed, the "
        "movement was told before, the events' rules"
    ),
]
Motion = Annotated[float, Meta(description="how far the joint that traveled most got")]


class Request(msgspec.Struct, Generic[A], frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Hold a command's arguments; unknown ones are refused. `A` is what answers it."""


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """Hold an answer, or a part of one; a client passes over keys that it does not know."""


# What answers have in common.


class EngineReport(Data, frozen=True, kw_only=True):
    """Say which engine was asked for, which runs, and why not another."""

    asked: Annotated[str, Meta(description="the config's `model.engine`")]
    runs: str
    details: Annotated[dict[str, str | int], Meta(description="version, device, precision, threads, file")]
    not_used: Annotated[dict[str, str], Meta(description="why each other engine was not taken")]


class Likeness(Data, frozen=True, kw_only=True):
    """Say how near another label is: the smallest distance to its examples, and the score of that."""

    label: str
    distance: float
    score: float


class ExampleAbout(Data, frozen=True, kw_only=True):
    """Describe a stored example, or a piece of ordinary movement."""

    id: str
    duration_s: float
    frames: int
    joints: Joints
    origin: Origin
    created: Annotated[str, Meta(description="ISO 8601, UTC")]
    words: WordsCount = "off"


class ExampleDetails(ExampleAbout, frozen=True, kw_only=True):
    """Describe a stored example and what moved in it."""

    moved: Annotated[tuple[str, ...], Meta(description="the joints that moved most, the longest path first")]


class LabelByWords(Data, frozen=True, kw_only=True):
    """Describe what stands for a label that was enrolled by words alone: rough, until an example comes."""

    id: str
    description: str
    in_use: Annotated[bool, Meta(description="false: no text encoder is set up, and nothing is compared with it")]
    duration_s: Annotated[float, Meta(description="as the words predict it; 0: not in use")]
    created: Annotated[str, Meta(description="ISO 8601, UTC")]


ByWords = Annotated[LabelByWords | None, Meta(description="null: the label has examples")]


class LabelExamples(Data, frozen=True, kw_only=True):
    """List the examples of a label."""

    label: str
    examples: tuple[ExampleAbout, ...]
    by_words: ByWords = None


class LabelDetails(Data, frozen=True, kw_only=True, omit_defaults=True):
    """Describe a label: its examples, and how well they keep together and apart from those of the others."""

    label: str
    examples: tuple[ExampleDetails, ...]
    counters: Annotated[
        tuple[ExampleAbout, ...], Meta(description="movements that were taken for it, and are not")
    ] = ()
    apart: Annotated[
        float | None,
        Meta(description="distance from an example to the next one of its label, the median; null: there is one"),
    ]
    margin: Annotated[float, Meta(description="how much less than itself (1) the nearest other label scores")]
    confused_with: Annotated[tuple[str, ...], Meta(description="labels that its examples will be confused with")]
    nearest: Annotated[tuple[Likeness, ...], Meta(description="the other labels, the nearest first, five at most")]
    by_words: ByWords = None


class JointPath(Data, frozen=True, kw_only=True):
    """Say how far a joint traveled; of those that traveled most, the longest path first."""

    joint: str
    path_m: float


class PlayedMovement(Data, frozen=True, kw_only=True):
    """Hold a movement to be shown, and the part of it that counts."""

    timestamps_s: Timestamps
    joints_m: JointPositions
    start_s: Annotated[float, Meta(description="where the part that counts begins; the whole movement begins at 0")]
    end_s: Annotated[float, Meta(description="where it ends")]


Similar = Annotated[Likeness | None, Meta(description="the other label that it may be confused with")]


class Preview(Data, frozen=True, kw_only=True):
    """Show an example that is not stored yet, and what a person should know before it is."""

    label: str
    duration_s: float
    frames: int
    fps: float
    joints: Joints
    trimmed_s: Trimmed
    motion_m: Motion
    moved: tuple[JointPath, ...]
    similar: Similar
    notes: Notes
    words: WordsCount = "off"


class StoredExample(Data, frozen=True, kw_only=True):
    """Tell what was stored of an action."""

    id: str
    stored: Annotated[int, Meta(description="number of examples: two where it was stored mirrored as well")]
    label: str
    duration_s: float
    frames: int
    fps: float
    joints: Joints
    trimmed_s: Trimmed
    motion_m: Motion
    moved: tuple[JointPath, ...]
    similar: Similar
    notes: Notes
    gallery_revision: GalleryRevision
    words: WordsCount = "off"


class StoredWords(Data, frozen=True, kw_only=True):
    """Tell what was stored of a label by words alone."""

    label: str
    by_words: LabelByWords
    gallery_revision: GalleryRevision


class StoredNegatives(Data, frozen=True, kw_only=True):
    """Tell what was stored of ordinary movement."""

    ids: tuple[str, ...]
    pieces: int
    duration_s: float
    frames: int
    fps: float
    joints: Joints
    gallery_revision: GalleryRevision


# The daemon itself.


class ProcessAnswer(Data, frozen=True, kw_only=True):
    """Name the daemon's process."""

    pid: int


class Ping(Request[ProcessAnswer], frozen=True, kw_only=True):
    """Ask whether a daemon is there."""


class Shutdown(Request[ProcessAnswer], frozen=True, kw_only=True):
    """Stop the daemon."""


class VersionAnswer(Data, frozen=True, kw_only=True):
    """Name the daemon's version and the wire's."""

    version: str
    wire: int


class Version(Request[VersionAnswer], frozen=True, kw_only=True):
    """Ask for the versions of the program and of the wire format."""


class TimeAnswer(Data, frozen=True, kw_only=True):
    """Give the daemon's clock, so that a peer can tell how the two differ."""

    t0: Annotated[float, Meta(description="as it was sent")]
    t1: Annotated[float, Meta(description="when the request was read, seconds")]
    t2: Annotated[float, Meta(description="when the answer was written, seconds")]
    clock: Annotated[str, Meta(description="the name of the daemon's clock")]


class Time(Request[TimeAnswer], frozen=True, kw_only=True):
    """Compare clocks."""

    t0: Annotated[float, Meta(description="the peer's clock, seconds")]


class SourceStatus(Data, frozen=True, kw_only=True):
    """Tell what came from one source."""

    epoch: str
    frames: Annotated[int, Meta(description="frames that were taken")]
    fps: Annotated[float, Meta(description="frames a second; 0: not known yet, or silent for `stream.takeover_s`")]
    slow: Annotated[bool, Meta(description="whether they come more slowly than `stream.min_rate_fps`")]
    age_s: Annotated[float, Meta(description="time since the last frame")]
    lost: Annotated[int, Meta(description="frames that never arrived, by gaps in `seq`")]
    restarts: Annotated[int, Meta(description="how often its clock was set back")]
    dropped: Annotated[dict[str, int], Meta(description="frames that were not taken, by reason")]


class StepTimes(Data, frozen=True, kw_only=True):
    """Tell how long the daemon worked on a frame, microseconds."""

    p50: float
    p99: float


class GalleryStatus(Data, frozen=True, kw_only=True):
    """Tell which gallery is open and what it holds."""

    path: str
    revision: int
    labels: tuple[str, ...]
    examples: int
    negatives: Annotated[int, Meta(description="pieces of ordinary movement")]
    counters: Annotated[int, Meta(description="counter-examples")] = 0
    damaged: Annotated[int, Meta(description="examples that are set aside: not what was stored")] = 0
    replaced: Annotated[int, Meta(description="how often the file was found to be another one")] = 0
    backup: Annotated[str, Meta(description="the file of the last backup by the date, or why it failed")] = ""
    reembedded: Annotated[int, Meta(description="examples that were embedded again, by this model, at the start")]


class ModelStatus(Data, frozen=True, kw_only=True):
    """Tell which model runs, and in what."""

    name: str
    sha256: str
    engine: EngineReport
    matching: Annotated[str, Meta(description="what chooses the label at present")]
    words: Annotated[str, Meta(description='"in use", or why the words of labels do not count')] = ""


class Recording(Data, frozen=True, kw_only=True):
    """Name a recording and count its frames."""

    path: str
    frames: Annotated[int, Meta(description="frames in the file")]
    dropped: Annotated[int, Meta(description="frames that were not recorded: the disk was too slow")] = 0
    state: Annotated[str, Meta(description='"finishing" after a stop, while the disk takes what waits; else ""')] = ""


class ReviewStatus(Data, frozen=True, kw_only=True):
    """Tell what is kept for review, and what was not."""

    path: str
    kept: Annotated[int, Meta(description="clips that were kept since the start")]
    not_kept: Annotated[
        dict[str, int],
        Meta(description="clips that were not, by reason: rate (`review.max_per_minute`), queue_full, failed"),
    ]
    state: Annotated[str, Meta(description='"": clips are kept; "off"; or why the last one was not')]


class CameraProcess(Data, frozen=True, kw_only=True):
    """Tell how the process is that watches the camera's sensor."""

    kind: str
    state: Annotated[str, Meta(description="starting, runs, waits (to be started again), stopping, ended or failed")]
    pid: Annotated[int | None, Meta(description="null: none runs")]
    fps: Annotated[float, Meta(description="frames a second that came lately")]
    age_s: Annotated[float | None, Meta(description="time since the last frame; null: none came")]
    restarts: int
    skipped: Annotated[int, Meta(description="pictures that came too fast to look at")]
    last_error: Annotated[str, Meta(description='why it ended last; "": it never did')]
    last_lines: Annotated[tuple[str, ...], Meta(description="what it printed last")]


class StatusAnswer(Data, frozen=True, kw_only=True):
    """Tell how the daemon is; the topic status.daemon carries it every second."""

    version: str
    pid: int
    uptime_s: float
    camera: str
    sources: dict[str, SourceStatus]
    dropped: Annotated[dict[str, int], Meta(description="messages that name no source and were not taken, by reason")]
    bodies: Annotated[int, Meta(description="bodies that are followed at present")]
    bodies_refused: Annotated[int, Meta(description="bodies beyond `stream.max_bodies`")]
    bodies_without_joints: int
    decisions: int
    windows: Annotated[int, Meta(description="windows that were encoded")]
    encode_s: Annotated[float, Meta(description="time that the encoder ran since the start, seconds")] = 0.0
    hop_s: Annotated[float, Meta(description="time between two decisions about a body; longer on a busy machine")]
    hops_skipped: int
    encodes_failed: int
    events: Annotated[dict[str, int], Meta(description="events that were sent, by type")]
    per_frame_us: StepTimes
    cpu: Annotated[
        float | None, Meta(description="processor time per second, of late; 1: a whole core; null: an older daemon")
    ] = None
    gallery: GalleryStatus
    model: ModelStatus
    recording: Recording | None
    enrolling: Annotated[str | None, Meta(description="what is being enrolled; null: nothing")]
    review: Annotated[ReviewStatus | None, Meta(description="null: from a daemon that keeps none")] = None
    camera_process: Annotated[CameraProcess | None, Meta(description="null: the camera has no process of its own")] = (
        None
    )


class Status(Request[StatusAnswer], frozen=True, kw_only=True):
    """Ask how the daemon is: sources, rates, what was dropped and why, the gallery, the model."""


class ScoreCurve(Data, frozen=True, kw_only=True):
    """Turn a distance into a score: 1 / (1 + exp(slope * (distance - midpoint)))."""

    midpoint: float
    slope: float
    source: Annotated[str, Meta(description="the recordings that it was fitted on")]


class ModelRates(Data, frozen=True, kw_only=True):
    """Say what a threshold costs: false alarms an hour of one label, and the share of performances missed."""

    distances: Annotated[tuple[float, ...], Meta(description="thresholds, rising")]
    alarms_per_hour: tuple[float, ...]
    missed: tuple[float, ...]
    hours: Annotated[float, Meta(description="hours of movement, times the labels held against it")]
    source: Annotated[str, Meta(description="the recordings that were measured")]


class ModelInfo(Data, frozen=True, kw_only=True):
    """Describe the model bundle, as its bundle.json does, and the engine that runs it."""

    bundle_version: int
    name: str
    encoder: str
    layout: str
    num_frames: int
    preprocessing_version: int
    embedding_size: int
    embedding: str
    aligned_frames: int
    alignment_weight: float
    cohort_weight: float
    onnx_sha256: str
    statistics_sha256: str
    weights_sha256: str
    words_sha256: str = ""
    parameters: int
    score_curve: ScoreCurve = msgspec.field(name="calibration")
    rates: ModelRates | None
    dtw_midpoint: float | None
    training: Annotated[dict[str, Any], Meta(description="what it was trained on, as the bundle has it")]
    licence: str
    engine: EngineReport


class ModelInfoGet(Request[ModelInfo], frozen=True, kw_only=True):
    """Describe the model and the engine that runs it."""


class ConfigGet(Request[Config], frozen=True, kw_only=True):
    """Return the configuration in force."""


class ConfigReload(Request[Config], frozen=True, kw_only=True):
    """Read the config file again; what opened files or sockets keeps its value until a restart."""


class RecordStartAnswer(Data, frozen=True, kw_only=True):
    """Name the file that is written."""

    path: str


class RecordStart(Request[RecordStartAnswer], frozen=True, kw_only=True):
    """Record what comes from the camera, as MCAP."""

    path: FilePath
    overwrite: bool = False


class RecordStop(Request[Recording], frozen=True, kw_only=True):
    """End the recording."""


# The gallery.


class GalleryListAnswer(Data, frozen=True, kw_only=True):
    """List what is enrolled."""

    gallery_revision: GalleryRevision
    labels: tuple[LabelExamples, ...]
    negatives: Annotated[tuple[ExampleAbout, ...], Meta(description="pieces of ordinary movement")]


class GalleryList(Request[GalleryListAnswer], frozen=True, kw_only=True):
    """List the enrolled actions with their examples, and ordinary movement."""


class GalleryGetAnswer(Data, frozen=True, kw_only=True):
    """Describe all labels."""

    gallery_revision: GalleryRevision
    labels: tuple[LabelDetails, ...]


class GalleryGet(Request[LabelDetails | GalleryGetAnswer], frozen=True, kw_only=True):
    """Describe one label, or all of them: how well each keeps apart, and which will be confused."""

    label: Annotated[str | None, Meta(description="null: all of them")] = None


class GalleryMovement(Request[PlayedMovement], frozen=True, kw_only=True):
    """Return the movement of a stored example, negative or counter-example."""

    id: Annotated[str, Meta(description="the beginning of its id")]


class RenameAnswer(Data, frozen=True, kw_only=True):
    """Tell how the new label is spelled."""

    label: str
    gallery_revision: GalleryRevision


class GalleryRename(Request[RenameAnswer], frozen=True, kw_only=True):
    """Rename a label."""

    old: str
    new: str
    expected_revision: ExpectedRevision = None


class RemovedLabel(Data, frozen=True, kw_only=True):
    """Name the label that was removed."""

    label: str
    gallery_revision: GalleryRevision


class RemovedExample(Data, frozen=True, kw_only=True):
    """Name the example, or piece of ordinary movement, that was removed."""

    id: str
    gallery_revision: GalleryRevision


class GalleryRemove(Request[RemovedLabel | RemovedExample], frozen=True, kw_only=True):
    """Remove a label with all its examples, or one example or piece of ordinary movement."""

    label: Annotated[str | None, Meta(description="either this or `id`")] = None
    id: Annotated[str | None, Meta(description="the beginning of its id")] = None
    expected_revision: ExpectedRevision = None


class UndoAnswer(Data, frozen=True, kw_only=True):
    """Tell what was taken back."""

    undone: str
    gallery_revision: GalleryRevision


class GalleryUndo(Request[UndoAnswer], frozen=True, kw_only=True):
    """Take back the latest change; again for the one before."""

    expected_revision: ExpectedRevision = None


class EnrollUndo(Request[UndoAnswer], frozen=True, kw_only=True):
    """Take back the latest change, as gallery.undo."""

    expected_revision: ExpectedRevision = None


class RevertAnswer(Data, frozen=True, kw_only=True):
    """List the labels that are enrolled now."""

    labels: tuple[str, ...]
    gallery_revision: GalleryRevision


class GalleryRevert(Request[RevertAnswer], frozen=True, kw_only=True):
    """Go back to the gallery as of a revision, as a new one."""

    revision: int
    expected_revision: ExpectedRevision = None


class VacuumAnswer(Data, frozen=True, kw_only=True):
    """Count the examples that were deleted."""

    deleted: int


class GalleryVacuum(Request[VacuumAnswer], frozen=True, kw_only=True):
    """Delete removed examples for good."""

    keep_revisions: Annotated[int, Meta(ge=0, description="how many of the latest changes can still be undone")]


class Change(Data, frozen=True, kw_only=True):
    """Tell one change of the gallery."""

    revision: int
    created: Annotated[str, Meta(description="ISO 8601, UTC")]
    action: Annotated[str, Meta(description="add, replace, remove, rename, import, undo or revert")]
    label: str
    detail: str


class HistoryAnswer(Data, frozen=True, kw_only=True):
    """List changes, the newest first."""

    history: tuple[Change, ...]


class GalleryHistory(Request[HistoryAnswer], frozen=True, kw_only=True):
    """List the latest changes."""

    limit: int = 20


class ExportAnswer(Data, frozen=True, kw_only=True):
    """Count what was written."""

    path: str
    examples: int
    negatives: int


class GalleryExport(Request[ExportAnswer], frozen=True, kw_only=True):
    """Write examples to one portable file."""

    path: FilePath
    labels: Annotated[list[str] | None, Meta(description="null: all of them, and ordinary movement")] = None


class ImportAnswer(Data, frozen=True, kw_only=True):
    """Name the labels that came, and count the pieces of ordinary movement that are there now."""

    labels: tuple[str, ...]
    negatives: int
    gallery_revision: GalleryRevision


class GalleryImport(Request[ImportAnswer], frozen=True, kw_only=True):
    """Read the examples of a file that gallery.export wrote."""

    path: FilePath
    mode: Mode = "new"


# Enrollment.


class EnrollStartAnswer(Data, frozen=True, kw_only=True):
    """Tell what is being enrolled."""

    label: Annotated[str, Meta(description="as the gallery spells it")]
    countdown_s: float
    cued: Annotated[bool, Meta(description="whether a synthetic performer will do it")]
    id: EnrollmentId = ""


class EnrollStart(Request[EnrollStartAnswer], frozen=True, kw_only=True):
    """Begin to capture an example of a label, or ordinary movement, from the live stream."""

    label: Annotated[str | None, Meta(description="either this or `negative_s`")] = None
    negative_s: (
        Annotated[float, Meta(ge=1, le=MAX_NEGATIVES_S, description="so many seconds of ordinary movement")] | None
    ) = None
    countdown_s: Annotated[float, Meta(ge=0, le=60, description="null: the config's")] | None = None
    mode: Mode = "new"
    source: Annotated[str | None, Meta(description="null: whichever source shows somebody")] = None
    body: Annotated[int | None, Meta(description="null: the only body in view")] = None
    side: Side | None = None
    force: Force = False
    commit: Annotated[bool, Meta(description="false: it waits for enroll.commit or enroll.cancel")] = True
    words: CountWords = True
    description: Description = ""


class EnrollIdle(Data, frozen=True, kw_only=True):
    """Nothing was enrolled since the start."""

    state: Literal["none"] = "none"


class EnrollUnderWay(Data, frozen=True, kw_only=True):
    """Movement is awaited or captured."""

    state: Literal["stillness", "countdown", "capture"]
    label: str
    left_s: Annotated[float, Meta(description="the longest that this state lasts on")]
    message: Annotated[str, Meta(description="what the person should know")]
    id: EnrollmentId = ""


class EnrollCaptured(Data, frozen=True, kw_only=True):
    """An example waits to be stored."""

    state: Literal["captured"] = "captured"
    label: str
    left_s: Annotated[float, Meta(description="until it is given up")]
    preview: Preview
    id: EnrollmentId = ""


class EnrollDone(Data, Generic[S], frozen=True, kw_only=True):
    """What was captured is stored."""

    state: Literal["done"] = "done"
    label: str
    result: S
    id: EnrollmentId = ""


class EnrollFailed(Data, frozen=True, kw_only=True):
    """Nothing was stored."""

    state: Literal["failed"] = "failed"
    label: str
    error: Failure
    id: EnrollmentId = ""


EnrollOutcome = EnrollIdle | EnrollDone[StoredExample] | EnrollDone[StoredNegatives] | EnrollFailed
EnrollState = EnrollOutcome | EnrollCaptured | EnrollUnderWay


class EnrollStatus(Request[EnrollState], frozen=True, kw_only=True):
    """Ask how the enrollment stands that is under way, or how the last one ended."""


class EnrollMovement(Request[PlayedMovement], frozen=True, kw_only=True):
    """Return the movement that waits to be stored, with what was trimmed off."""

    id: ExpectedEnrollment = None


class EnrollTrim(Request[Preview], frozen=True, kw_only=True):
    """Choose which part of the captured movement is the example that waits."""

    start_s: Annotated[float, Meta(ge=0, description="where it begins, in enroll.movement's time")]
    end_s: Annotated[float, Meta(gt=0, description="where it ends")]
    id: ExpectedEnrollment = None


class EnrollCommit(Request[StoredExample], frozen=True, kw_only=True):
    """Store the example that waits."""

    force: Force = False
    id: ExpectedEnrollment = None


class CancelAnswer(Data, frozen=True, kw_only=True):
    """Name what was given up."""

    cancelled: Annotated[str | None, Meta(description="null: nothing was under way")]


class EnrollCancel(Request[CancelAnswer], frozen=True, kw_only=True):
    """Give up the enrollment that is under way."""

    id: ExpectedEnrollment = None


class EnrollClip(Request[StoredExample], frozen=True, kw_only=True):
    """Enroll an example that was recorded before."""

    label: str
    timestamps_s: Timestamps
    joints_m: JointPositions
    origin: Origin
    mode: Mode = "new"
    trim: Annotated[bool, Meta(description="cut off rest at both ends")] = True
    side: Side | None = None
    force: Force = False
    words: CountWords = True
    description: Description = ""


class EnrollWords(Request[StoredWords], frozen=True, kw_only=True):
    """Enroll a label by words alone: rough, until an example comes."""

    label: str
    description: Description = ""
    mode: Annotated[
        Literal["new", "replace"], Meta(description="a label that must be new, or one that may have other words")
    ] = "new"
    force: Annotated[bool, Meta(description="stored even if the words say nothing about a movement")] = False


class Piece(Data, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold movement without a gap."""

    timestamps_s: Timestamps
    joints_m: JointPositions


class EnrollNegative(Request[StoredNegatives], frozen=True, kw_only=True):
    """Store ordinary movement that was recorded before."""

    pieces: list[Piece]
    origin: Origin


# Review.


class ReviewClip(Data, frozen=True, kw_only=True):
    """Describe a movement that was told, or nearly was, as `label`."""

    id: str
    created: Annotated[str, Meta(description="when it was kept, ISO 8601, UTC")]
    label: str
    source: str
    body: int
    time_s: Annotated[float, Meta(description="its newest moment, seconds of the publisher's clock")]
    duration_s: float
    frames: int
    score: float
    distance: float
    threshold_distance: Annotated[float, Meta(description="the farthest at which the label begins an event")]
    why: Why
    nearer: Annotated[str, Meta(description='the label that was nearer, or ""')] = ""


class ReviewEntry(ReviewClip, frozen=True, kw_only=True):
    """Describe a clip and what was answered."""

    answer: Annotated[str, Meta(description='"is LABEL", "is not LABEL", or "" where nothing was answered')] = ""


class ReviewListAnswer(Data, frozen=True, kw_only=True):
    """List clips, the newest first."""

    clips: tuple[ReviewEntry, ...]
    total: Annotated[int, Meta(description="number of all clips that are kept")]


class ReviewList(Request[ReviewListAnswer], frozen=True, kw_only=True):
    """List what was told and what nearly was, the newest first."""

    label: Annotated[str | None, Meta(description="null: of every label")] = None
    useful: Annotated[
        bool, Meta(description="only what was not answered, in the order in which answers teach most")
    ] = False
    limit: Annotated[int, Meta(ge=1, le=100_000)] = 50


class ReviewMovement(Request[PlayedMovement], frozen=True, kw_only=True):
    """Return the movement of a clip."""

    id: Annotated[str, Meta(description="the beginning of its id")]


Verdict = Literal["right", "wrong", "is"]


class ReviewAnswered(Data, frozen=True, kw_only=True):
    """Tell what an answer has stored."""

    id: str
    answer: Annotated[str, Meta(description='"is LABEL": an example; "is not LABEL": a counter-example')]
    example: Annotated[str, Meta(description="the id of the example or counter-example")]
    notes: Notes
    gallery_revision: GalleryRevision


class ReviewAnswer(Request[ReviewAnswered], frozen=True, kw_only=True):
    """Answer whether a clip is the label that it was taken for."""

    id: Annotated[str, Meta(description="the beginning of the clip's id")]
    answer: Annotated[Verdict, Meta(description="right and is make an example of it, wrong a counter-example")]
    label: Annotated[str | None, Meta(description="with is: the enrolled label that it is")] = None


class ReviewUndone(Data, frozen=True, kw_only=True):
    """Tell which answer was taken back."""

    id: str
    answer: Annotated[str, Meta(description="what had been answered")]
    gallery_revision: GalleryRevision


class ReviewUndo(Request[ReviewUndone], frozen=True, kw_only=True):
    """Take an answer back, of a clip that is gone too."""

    id: Annotated[str, Meta(description="the beginning of the clip's id, or last")] = "last"


class ReviewCleared(Data, frozen=True, kw_only=True):
    """Count the clips that were deleted."""

    deleted: int


class ReviewClear(Request[ReviewCleared], frozen=True, kw_only=True):
    """Delete all clips for good; answers stay."""


# Thresholds.


class LabelThreshold(Data, frozen=True, kw_only=True):
    """Tell a label's threshold, where it is from, and what it costs."""

    label: str
    distance: Annotated[float, Meta(description="the farthest at which a match begins an event")]
    origin: Annotated[
        Literal["bundle", "hand", "rates", "negatives"],
        Meta(description="the model, a person, the model's rates, or the user's ordinary movement"),
    ]
    false_alarms_per_hour: Annotated[float | None, Meta(description="expected; null: the model has no rates")]
    missed: Annotated[float | None, Meta(description="share of performances by others, expected; null: as above")]
    warning: Annotated[str, Meta(description="why it does not do what was asked")]
    negatives: Annotated[str, Meta(description="what the user's ordinary movement says")]


class ThresholdAnswer(Data, frozen=True, kw_only=True):
    """Tell each label's threshold."""

    state: Annotated[str, Meta(description='"calibrating", "failed: ..." or ""')]
    false_alarms_per_hour: Annotated[float | None, Meta(description="what was asked for, all labels together")]
    created: str
    negative_hours: Annotated[float, Meta(description="the user's ordinary movement that was looked at")]
    labels: tuple[LabelThreshold, ...]
    unused: Annotated[tuple[str, ...], Meta(description="labels with thresholds that are not enrolled")]
    notes: Notes


class ThresholdGet(Request[ThresholdAnswer], frozen=True, kw_only=True):
    """Tell each label's threshold, where it is from, and what it costs."""


class ThresholdSet(Request[ThresholdAnswer], frozen=True, kw_only=True):
    """Set one label's threshold by hand."""

    label: str
    distance: Annotated[float, Meta(gt=0, le=100, description="the farthest at which a match begins an event")]
    force: Annotated[
        bool, Meta(description="set even if the model's rates expect more than 20 false alarms an hour")
    ] = False


class ThresholdReset(Request[ThresholdAnswer], frozen=True, kw_only=True):
    """Forget what was set by hand for a label, or everything that was asked for."""

    label: Annotated[str | None, Meta(description="null: everything")] = None


class ThresholdUndo(Request[ThresholdAnswer], frozen=True, kw_only=True):
    """Take back the latest change of thresholds; the answer's notes say what it was."""


class ThresholdCalibrate(Request[ThresholdAnswer], frozen=True, kw_only=True):
    """Give each label the threshold for so many false alarms; threshold.get tells when it is done."""

    false_alarms_per_hour: Annotated[float, Meta(gt=0, le=1000, description="of all labels together")]


class ThresholdWish(Data, frozen=True, kw_only=True):
    """Tell the thresholds that a wish would give."""

    false_alarms_per_hour: Annotated[float, Meta(description="of all labels together")]
    labels: tuple[LabelThreshold, ...]


class ThresholdPreviewAnswer(Data, frozen=True, kw_only=True):
    """Tell what each wish would give, in the order in which they came."""

    wishes: tuple[ThresholdWish, ...]


class ThresholdPreview(Request[ThresholdPreviewAnswer], frozen=True, kw_only=True):
    """Tell which thresholds threshold.calibrate would give, by negatives as far as looked at, and change nothing."""

    false_alarms_per_hour: Annotated[
        list[Annotated[float, Meta(gt=0, le=1000)]],
        Meta(max_length=100, description="wishes, each of all labels together"),
    ]


# The table.


class Command(msgspec.Struct, frozen=True):
    """Hold one command: its name on the wire, its request, and whether it needs a daemon or the library alone.

    `is_question`: it changes nothing, and each time it is asked it is answered anew.
    """

    name: str
    request: type[Request[Any]]
    needs_daemon: bool = False
    is_question: bool = False

    @property
    def description(self) -> str:
        """Say what the command does, in one line."""
        return inspect.cleandoc(self.request.__doc__ or "")

    @property
    def answers(self) -> tuple[type[msgspec.Struct], ...]:
        """Return what it is answered with: one struct, or one of several."""
        (answer,) = get_args(vars(self.request)["__orig_bases__"][0])
        return get_args(answer) if get_origin(answer) in (Union, UnionType) else (answer,)


COMMANDS = (
    Command("ping", Ping, needs_daemon=True, is_question=True),
    Command("version", Version, needs_daemon=True, is_question=True),
    Command("status", Status, needs_daemon=True, is_question=True),
    Command("time", Time, needs_daemon=True, is_question=True),
    Command("shutdown", Shutdown, needs_daemon=True),
    Command("config.get", ConfigGet, needs_daemon=True, is_question=True),
    Command("config.reload", ConfigReload, needs_daemon=True),
    Command("model.info", ModelInfoGet, is_question=True),
    Command("record.start", RecordStart, needs_daemon=True),
    Command("record.stop", RecordStop, needs_daemon=True),
    Command("enroll.start", EnrollStart, needs_daemon=True),
    Command("enroll.status", EnrollStatus, needs_daemon=True, is_question=True),
    Command("enroll.movement", EnrollMovement, needs_daemon=True, is_question=True),
    Command("enroll.trim", EnrollTrim, needs_daemon=True),
    Command("enroll.commit", EnrollCommit, needs_daemon=True),
    Command("enroll.cancel", EnrollCancel, needs_daemon=True),
    Command("enroll.clip", EnrollClip),
    Command("enroll.negative", EnrollNegative),
    Command("enroll.words", EnrollWords),
    Command("enroll.undo", EnrollUndo),
    Command("gallery.list", GalleryList, is_question=True),
    Command("gallery.get", GalleryGet, is_question=True),
    Command("gallery.movement", GalleryMovement, is_question=True),
    Command("gallery.rename", GalleryRename),
    Command("gallery.remove", GalleryRemove),
    Command("gallery.undo", GalleryUndo),
    Command("gallery.history", GalleryHistory, is_question=True),
    Command("gallery.revert", GalleryRevert),
    Command("gallery.vacuum", GalleryVacuum),
    Command("gallery.export", GalleryExport),
    Command("gallery.import", GalleryImport),
    Command("review.list", ReviewList, is_question=True),
    Command("review.movement", ReviewMovement, is_question=True),
    Command("review.answer", ReviewAnswer),
    Command("review.undo", ReviewUndo),
    Command("review.clear", ReviewClear),
    Command("threshold.get", ThresholdGet, is_question=True),
    Command("threshold.preview", ThresholdPreview, is_question=True),
    Command("threshold.set", ThresholdSet),
    Command("threshold.reset", ThresholdReset),
    Command("threshold.undo", ThresholdUndo),
    Command("threshold.calibrate", ThresholdCalibrate),
)
_BY_NAME = {command.name: command for command in COMMANDS}
_BY_REQUEST = {command.request: command for command in COMMANDS}


def is_question(name: str) -> bool:
    """Say whether a command changes nothing; one that is not known does not either."""
    command = _BY_NAME.get(name)
    return command is None or command.is_question


def command_of(request: Request[Any]) -> Command:
    """Return the command that a request asks for."""
    return _BY_REQUEST[type(request)]


def arguments(request: Request[Any]) -> dict[str, Any]:
    """Return a request's arguments as the wire has them, without those that are as by default."""
    return cast(dict[str, Any], msgspec.to_builtins(request, builtin_types=(bytes,)))


def request_from(name: str, args: dict[str, Any], *, has_daemon: bool) -> Request[Any]:
    """Return the request that a command's name and arguments are. Raises ControlError: unknown_command, bad_args."""
    command = _BY_NAME.get(name)
    if command is None or (command.needs_daemon and not has_daemon):
        known = sorted(known.name for known in COMMANDS if has_daemon or not known.needs_daemon)
        raise ControlError(f"command {name!r} is not known: expected one of {', '.join(known)}", code="unknown_command")
    try:
        return cast(Request[Any], msgspec.convert(args, command.request))
    except msgspec.ValidationError as error:
        raise ControlError(f"{name}: {error}", code="bad_args") from error


def answer_from(request: Request[A], result: object) -> A:
    """Return the answer that a result is. Raises ControlError("bad_answer") where it lacks something."""
    command = command_of(request)
    reasons = []
    for kind in command.answers:
        try:
            return cast(A, msgspec.convert(_without_unknown(kind, result), kind))
        except msgspec.ValidationError as error:
            reasons.append(str(error))
    raise ControlError(
        f"the answer to {command.name} is not as this version expects it: {'; '.join(reasons)}",
        code="bad_answer",
        hint="Use the same version of crossglg-edge at both ends.",
    )


def _without_unknown(kind: object, value: object) -> object:
    """Return a map without the keys that a struct would refuse: a config of a newer daemon may have more."""
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict)):
        return value
    if not kind.__struct_config__.forbid_unknown_fields:
        return value
    fields: Iterable[msgspec.structs.FieldInfo] = msgspec.structs.fields(kind)
    return {field.name: _without_unknown(field.type, value[field.name]) for field in fields if field.name in value}


def ask(client: ControlClient, request: Request[A]) -> A:
    """Ask a daemon and return its typed answer. Raises ControlError, with the daemon's code and hint."""
    return answer_from(request, client.ask(command_of(request).name, **arguments(request)))
