"""How fast this machine recognizes, beside references in the same run: encoder, decision, enrollment, gallery, sizes.

Shapes: N, W windows, T frames, V = 25, C = 3, P prototypes, E values of an embedding.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import msgspec
import numpy as np

from edge.bench.encoder import PLAIN, encoder_times, open_engines, plain_reference
from edge.bench.timing import Effort, Percentiles, Run, percentiles, time_in_turns
from edge.config import Config, GalleryFile, Model
from edge.daemon import carry_out
from edge.gallery import Prototype
from edge.library import Library, open_library
from edge.live import Recognizer
from edge.match import PrototypeIndex
from edge.model import BundleInfo, Encoder, read_bundle
from edge.model.engines import engine_file
from edge.motion import dtw_distances, window_from_movement
from edge.protocol import EnrollClip
from streams import wire
from streams.arrays import Array, Times
from streams.errors import EngineError
from streams.movement import Movement
from streams.performer import ACTIONS, Performer, perform

# 2.8 % of MotionBERT's 60.3 M parameters, the paper's other encoder; in fp16 with what a file holds besides.
MAX_PARAMETERS = 1_700_000
MAX_FP16_BYTES = 3_600_000

_BLOCK_FRAMES = 300
# Of its seven lengths a decision mostly cuts five or six windows; five, as all earlier results have.
_WINDOWS = 5
# More prototypes than these are the same ones again: a hundred thousand of them would take 2 GB.
_DISTINCT = 4096


def measure(
    bundle: Path | None,
    engines: Sequence[str],
    effort: Effort,
    references: Mapping[str, Run] = MappingProxyType({}),
    tell: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Measure everything; return it as JSON has it.

    `engines`: see open_engines; the first is ours. `references`: see encoder_times. `tell` hears what comes
    next. Raises BundleError, ConfigError, EngineError.
    """
    sizes = sizes_of(bundle)
    tell("opening the engines")
    encoders, not_run = open_engines(bundle, engines, effort.max_threads)
    try:
        references = {PLAIN: plain_reference(), **references}
    except EngineError as error:
        not_run[PLAIN] = f"{error.message}. {error.hint}"
    tell("the encoder, by engine")
    rows, beside = encoder_times(encoders, references, effort)
    for opened in encoders:
        opened.engine.close()
    plain = beside.get(PLAIN)
    encoder = {
        "ours_ms": rows[0].ms.p50,
        "plain_infogcn_ort_ms": plain and plain.p50,
        "ratio": rows[0].ratio and rows[0].ratio[0],
        "ratio_ci95": rows[0].ratio and rows[0].ratio[1:],
        "times": rows,
        "references_ms": beside,
        "not_run": not_run,
    }
    tell("frame to decision, and enrollment")
    decisions, enrollment = library_times(bundle, engines[0] if engines else "auto", effort)
    tell("gallery match")
    info, _ = read_bundle(bundle)
    matches = {size: percentiles(times) for size, times in match_times(info, effort).items()}
    measured = {
        "model": info.name,
        "encoder": encoder,
        "frame_to_decision_us": {**msgspec.structs.asdict(decisions.pop("with the encoder")), **decisions},
        "enrolment_ms": enrollment,
        "gallery_match_ms": matches,
        **sizes,
    }
    return cast(dict[str, Any], msgspec.to_builtins(measured))


def library_times(bundle: Path | None, engine: str, effort: Effort) -> tuple[dict[str, Percentiles], Percentiles]:
    """Return frame to decision, microseconds, with and without the encoder, and enrollment on disk, milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        gallery = GalleryFile(path=str(Path(folder) / "gallery.db"))
        library = open_library(Config(model=Model(bundle=str(bundle or ""), engine=engine), gallery=gallery))
        with library.gallery:
            for action in ACTIONS[:10]:
                enroll(library, action, action)
            index = PrototypeIndex(library.gallery.prototypes, library.encoder.info)
            ways: dict[str, Encoder] = {
                "with the encoder": library.encoder,
                "without the encoder": NoEncoder(library.encoder.info),
            }
            decisions = decision_times(messages(effort.num_frames), ways, index)
            enrollments = []
            for number in range(effort.num_enrollments):
                started_s = time.perf_counter()
                enroll(library, f"action {number}", "wave")
                enrollments.append(1e3 * (time.perf_counter() - started_s))
    return {name: percentiles(times) for name, times in decisions.items()}, percentiles(enrollments)


class NoEncoder:
    """Stand in for the encoder where the time of all the rest is measured: embeddings at no cost."""

    statistics = None

    def __init__(self, info: BundleInfo) -> None:
        self.info = info
        self._embeddings_NE = _random_embeddings(info, 256)

    def encode(self, windows_NTVC: Array) -> Array:
        return self._embeddings_NE[: len(windows_NTVC)]

    def encode_with_features(self, windows_NTVC: Array) -> tuple[Array, Array]:
        raise NotImplementedError("the benchmark matches by the cosine")


def messages(num_frames: int) -> list[bytes]:
    """Return frame messages of the synthetic performer at 30 fps, as a publisher sends them."""
    performer = Performer(seed=0)
    return [wire.encode_frame(performer.frame())[1] for _ in range(num_frames)]


def decision_times(
    payloads: Sequence[bytes], encoders: Mapping[str, Encoder], prototypes: PrototypeIndex
) -> dict[str, list[float]]:
    """Return microseconds from a message's bytes to the recognizer's answer, ten seconds for each encoder in turn.

    Of the frames whose decision cuts windows and matches them; under "NAME, all frames" of every one.
    """
    config = Config()
    found: dict[str, list[float]] = {}
    recognizers = {}
    for name, encoder in encoders.items():
        recognizers[name] = Recognizer(config, encoder, prototypes, clock=time.perf_counter)
        found[name], found[f"{name}, all frames"] = [], []
    # Frame by frame in turn, one encoder's weights would push what the other works on out of the cache.
    for start in range(0, len(payloads), _BLOCK_FRAMES):
        for name, recognizer in recognizers.items():
            for payload in payloads[start : start + _BLOCK_FRAMES]:
                started_s = time.perf_counter()
                turn = recognizer.feed([wire.decode_frame(payload)], started_s)
                took_us = 1e6 * (time.perf_counter() - started_s)
                found[f"{name}, all frames"].append(took_us)
                if any(decision.windows for decision in turn.decisions):
                    found[name].append(took_us)
    return found


def enroll(library: Library, label: str, action: str) -> None:
    """Enroll one of the synthetic performer's actions as `enroll --from` does: cut, checked, embedded, on disk."""
    shown = perform(action, seed=1)
    clip = EnrollClip(
        label=label,
        timestamps_s=shown.timestamps_s.astype("<f8").tobytes(),
        joints_m=shown.joints_m.astype("<f4").tobytes(),
        origin="bench",
        force=True,
    )
    carry_out(library, clip)


def match_times(info: BundleInfo, effort: Effort) -> dict[str, Times]:
    """Return the milliseconds of comparing a decision's windows with a gallery, by the number of its prototypes.

    Beside them, under "10, DTW alone": as many windows and ten examples compared by DTW.
    """
    windows = [window_from_movement(perform(action, seed=1), 32) for action in ACTIONS[:10]]
    examples = np.reshape(windows, (len(windows), 32, 75))
    ways: dict[str, Run] = {str(size): gallery_match(info, size) for size in effort.galleries}
    ways["10, DTW alone"] = partial(dtw_distances, examples[:_WINDOWS], examples)
    return time_in_turns(ways, seconds=effort.seconds, num_blocks=effort.num_blocks)


def gallery_match(info: BundleInfo, size: int) -> Run:
    """Return a call that compares the windows of a decision with so many prototypes of random embeddings.

    Each label has ten where there are many; those beyond 4,096 are the same again.
    """
    windows_WE, embeddings_PE = np.split(_random_embeddings(info, _WINDOWS + min(size, _DISTINCT)), [_WINDOWS])
    movement = Movement(timestamps_s=np.array([0.0, 1.0]), joints_m=np.zeros((2, 25, 3), np.float32))
    prototypes = [
        Prototype(
            id=str(number),
            label=f"action {number % max(10, size // 10)}",
            movement=movement,
            embedding=embeddings_PE[number % len(embeddings_PE)],
            model_sha256=info.onnx_sha256,
            origin="bench",
            created="",
        )
        for number in range(size)
    ]
    index = PrototypeIndex(prototypes, info)
    return partial(index.distances, windows_WE, np.ones((_WINDOWS, size), bool))


def sizes_of(bundle: Path | None) -> dict[str, Any]:
    """Return parameters, bytes in fp16 and where those are known from, bytes of each file, and which limits are broken.

    Raises BundleError.
    """
    info, onnx = read_bundle(bundle)
    engines = [path for kind in engine_file.SUFFIXES for path in engine_file.find(info, onnx.parent, kind)]
    half = [path for path in engine_file.find(info, onnx.parent, "onnx") if _is_half(path, info)]
    if half:
        fp16_bytes, fp16_from = half[0].stat().st_size, str(half[0])
    else:
        fp16_bytes, fp16_from = onnx.stat().st_size - 2 * info.parameters, "encoder.onnx less two bytes a parameter"
    checks = (("parameters", info.parameters, MAX_PARAMETERS), ("fp16_bytes", fp16_bytes, MAX_FP16_BYTES))
    return {
        "parameters": info.parameters,
        "fp16_bytes": fp16_bytes,
        "fp16_from": fp16_from,
        "file_bytes": {str(path): path.stat().st_size for path in (onnx, *engines)},
        "broken": [f"{name}: {value:,}, at most {most:,} are allowed" for name, value, most in checks if value > most],
    }


def _is_half(path: Path, info: BundleInfo) -> bool:
    try:
        return engine_file.verify(path, info, "onnx").precision == "fp16"
    except EngineError:
        return False


def _random_embeddings(info: BundleInfo, num: int) -> Array:
    embeddings_NE = np.random.default_rng(0).normal(size=(num, info.embedding_size)).astype(np.float32)
    learned_ND = embeddings_NE[:, : info.num_learned]
    learned_ND /= np.linalg.norm(learned_ND, axis=1, keepdims=True)
    return embeddings_NE
