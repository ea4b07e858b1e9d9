"""Files of a public data set -> skeleton archives: read by several processes; what is finished stays finished.

Shapes: L frames of a clip, J joints of one person.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.errors import ArchiveError
from streams.files import replacing

PERSONS = ("P1", "P2")
_FILES_A_TASK = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Hold what one file gives: `joints`, shape (L, 2, J, 3), NaN where a person or joint is missing.

    `source` names the clip, `label` its class; `subject` is -1 where unknown. `scores`, shape (L, 2, J): how sure a 2D
    pose estimator is of each joint; of all samples or of none.
    """

    source: str
    label: str
    subject: int
    joints: npt.NDArray[np.floating[Any]]
    scores: npt.NDArray[np.floating[Any]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Hold what became of one archive: its clips, and the files in which no body was seen."""

    name: str
    clips: int
    without_body: tuple[str, ...]


def prepare_archives(
    parts: Mapping[str, Sequence[Path]],
    read: Callable[[Path], Sample | None],
    out: Path,
    *,
    joints: Sequence[str],
    fps: float,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Prepared]:
    """Write an archive `out`/NAME.npz for each part, of two persons with the `joints` of a known layout.

    `read` gives a file's sample, or None where no body was seen. An archive that is there, whole
    and of the same files is not made again; a new one appears when it is complete. Raises ArchiveError.
    """
    prepared = []
    total, done = sum(map(len, parts.values())), 0
    # Forking a process that has threads may lock up; a fresh one does not.
    pool = ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=_start_worker)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, files in parts.items():
            path, digest = out / f"{name}.npz", _digest(files)
            meta = _read_meta(path, digest)
            if meta is None:
                results = []
                for sample in _read_all(pool, read, files):
                    results.append(sample)
                    report(done + len(results), total)
                samples = [sample for sample in results if sample is not None]
                without_body = [file.stem for file, sample in zip(files, results, strict=True) if sample is None]
                meta = {"files_sha256": digest, "clips": len(samples), "without_body": without_body}
                _write(path, samples, joints, fps, meta)
            done += len(files)
            report(done, total)
            prepared.append(Prepared(name=name, clips=meta["clips"], without_body=tuple(meta["without_body"])))
    except OSError as error:
        raise ArchiveError(f"{error.filename or out}: {error.strerror or error}; expected to write {out}") from error
    except BrokenProcessPool as error:
        raise ArchiveError(
            "a process that reads files was killed",
            hint="Memory may be short. Run the same command again: archives that are finished are kept.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
    if not any(part.clips for part in prepared):
        raise ArchiveError(f"no body was seen in any of {total} files: no archive was written")
    return prepared


def _read_all(
    pool: ProcessPoolExecutor, read: Callable[[Path], Sample | None], files: Sequence[Path]
) -> Iterator[Sample | None]:
    # Workers start here and inherit the mask: Ctrl-C is the parent's to handle.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.map(read, files, chunksize=_FILES_A_TASK)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start_worker() -> None:
    # A worker is not to outlive a parent that was killed.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256("".join(f"{file.name} {file.stat().st_size}\n" for file in files).encode()).hexdigest()


def _read_meta(path: Path, digest: str) -> dict[str, Any] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        with np.load(path, allow_pickle=False) as arrays:
            meta = json.loads(arrays["meta"].item())
    except Exception:  # damage makes zipfile, zlib, numpy and json raise a dozen unrelated types
        return None
    return meta if isinstance(meta, dict) and meta.get("files_sha256") == digest else None


def _write(path: Path, samples: Sequence[Sample], joints: Sequence[str], fps: float, meta: dict[str, Any]) -> None:
    if not samples:
        path.unlink(missing_ok=True)
        return
    class_names = sorted({sample.label for sample in samples})
    joint_names = [f"{person}_{joint}" for person in PERSONS for joint in joints]
    arrays: dict[str, Any] = {
        "offsets": np.cumsum([0, *(len(sample.joints) for sample in samples)]),
        "label": np.array([class_names.index(sample.label) for sample in samples], np.int16),
        "subject": np.array([sample.subject for sample in samples], np.int16),
        "class_names": np.array(class_names),
        "joint_names": np.array(joint_names),
        "fps": np.array(fps),
        "source": np.array([sample.source for sample in samples]),
        "meta": np.array(json.dumps(meta)),
    }
    scores = [sample.scores.reshape(len(sample.scores), -1) for sample in samples if sample.scores is not None]
    if scores:
        arrays["scores"] = np.concatenate(scores)
    header = np.lib.format.header_data_from_array_1_0(samples[0].joints)
    header["shape"] = (int(arrays["offsets"][-1]), len(joint_names), 3)
    with (
        replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        # Clip by clip: a setup's frames are never in memory twice.
        with archive.open("frames.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for sample in samples:
                file.write(sample.joints.tobytes())
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
