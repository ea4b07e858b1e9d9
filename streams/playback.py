"""Frames from a file, named as RECORDING.mcap, ARCHIVE.npz or ARCHIVE.npz:CLIP, and their pace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from streams.archive import Clip, read_archive
from streams.errors import ArchiveError
from streams.frame import SkeletonFrame
from streams.recording import read_recording

# Between two clips of an archive the camera sees nobody for this long, and then another body.
_PAUSE_S = 1.0


def is_archive(spec: str) -> bool:
    """Return whether a name means an archive or a clip in one."""
    return spec.endswith(".npz") or ".npz:" in spec


def read_clip(spec: str) -> Clip:
    """Return the clip that ARCHIVE.npz:CLIP names; CLIP is a number or a source name. Raises ArchiveError."""
    path, _, clip = spec.rpartition(".npz:")
    if not path:
        raise ArchiveError(
            f"{spec}: which clip? expected ARCHIVE.npz:CLIP, with the clip's number or source name",
            code="no_clip",
            hint=f"For example {spec.rstrip(':')}:0.",
        )
    return read_archive(f"{path}.npz").find(clip)


def read_frames(spec: str) -> Iterator[SkeletonFrame]:
    """Yield the frames of a recording, a clip, or all clips of an archive one after another.

    Timestamps rise over the whole; each clip of an archive is a body of its own, with a second of
    empty frames before the next. Raises ArchiveError or RecordingError.
    """
    if not is_archive(spec):
        yield from read_recording(Path(spec))
        return
    if ".npz:" in spec:
        yield from read_clip(spec).frames()
        return
    archive = read_archive(spec)
    seq, start_s = 0, 0.0
    for index in range(len(archive)):
        clip = archive[index]
        for frame in clip.frames(body=index * len(clip.persons)):
            yield replace(_later(frame, start_s), seq=seq)
            seq += 1
        start_s += len(clip.persons[0]) / clip.fps
        for i in range(int(_PAUSE_S * clip.fps)):
            pause_s = start_s + i / clip.fps
            yield replace(frame, seq=seq, timestamp_s=pause_s, t_send_s=pause_s, bodies=())
            seq += 1
        start_s += _PAUSE_S


def repeat_frames(spec: str, *, loop: bool) -> Iterator[SkeletonFrame]:
    """Yield the frames of `read_frames`, from time 0 on; with `loop` for ever, time still rising.

    Each publisher in a recording has a clock of its own: its first frame is put at the time of the
    frame before it.
    """
    now_s = 0.0
    while True:
        start_s: dict[tuple[str, str], float] = {}
        for frame in read_frames(spec):
            by_s = start_s.setdefault((frame.source, frame.epoch), now_s - frame.timestamp_s)
            now_s = max(now_s, frame.timestamp_s + by_s)
            yield _later(frame, by_s)
        if not loop or not start_s:
            return
        now_s += _PAUSE_S


def _later(frame: SkeletonFrame, by_s: float) -> SkeletonFrame:
    return replace(frame, timestamp_s=frame.timestamp_s + by_s, t_send_s=frame.t_send_s + by_s)
