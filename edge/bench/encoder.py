"""Encoder latency by engine, precision, threads and batch, with plain InfoGCN beside it in the same run.

Shapes: N windows, T frames, V = 25, C = 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from edge.bench.plain_infogcn import plain_infogcn
from edge.bench.timing import Effort, Percentiles, Run, percentiles, ratio, time_in_turns
from edge.config import Model
from edge.model import BundleEncoder, open_encoder
from streams.errors import ConfigError, EngineError

Precision = Literal["auto", "fp32", "bf16", "fp16"]

PLAIN = "plain InfoGCN, ONNX Runtime fp32"

_PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "onnxruntime": ("fp32",),
    "openvino": ("fp32", "bf16"),
    "tensorrt": ("auto",),
}
_ON_CPU = ("onnxruntime", "openvino")
_PLAIN_FRAMES = 64


class EncoderTime(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what one call of one engine takes; `ratio`: of its p50 to plain InfoGCN's, with its 95 % interval."""

    engine: str
    precision: str
    threads: int
    batch: int
    ms: Percentiles
    ratio: tuple[float, float, float] | None = None


def open_engines(
    bundle: Path | None, names: Sequence[str], max_threads: int
) -> tuple[list[BundleEncoder], dict[str, str]]:
    """Return the encoder in each engine, precision and number of threads, ours first, and why others do not run.

    `names`: as the configuration names engines; none: what `auto` takes, then all that run here. Raises
    BundleError, and EngineError or ConfigError where one that is named does not run.
    """
    threads = [2**power for power in range(max_threads.bit_length())]
    encoders: dict[tuple[str, str, int], BundleEncoder] = {}
    not_run: dict[str, str] = {}
    for name in names or ("auto", *_PRECISIONS):
        refusals: list[ConfigError | EngineError] = []
        precisions = _PRECISIONS.get(name, ("auto",))
        for precision in precisions:
            for num_threads in threads if name in _ON_CPU else (1,):
                try:
                    encoder = open_encoder(bundle, _model(name, precision, num_threads))
                except (ConfigError, EngineError) as error:
                    refusals.append(error)
                    not_run[f"{name} {precision}".removesuffix(" auto")] = error.message
                    break
                if encoders.setdefault(kind_of(encoder), encoder) is not encoder:
                    encoder.engine.close()
        if names and len(refusals) == len(precisions):
            raise refusals[0]
    return list(encoders.values()), not_run


def _model(engine: str, precision: Precision, num_threads: int) -> Model:
    try:
        return Model(engine=engine, precision=precision, num_threads=num_threads)
    except ValueError as error:
        raise ConfigError(str(error), hint="Name one of them with --engine.") from error


def encoder_times(
    encoders: Sequence[BundleEncoder], references: Mapping[str, Run], effort: Effort
) -> tuple[list[EncoderTime], dict[str, Percentiles]]:
    """Return what a call takes by encoder and batch, and what the references take beside one window, milliseconds."""
    found: list[EncoderTime] = []
    beside: dict[str, Percentiles] = {}
    rng = np.random.default_rng(0)
    for batch in effort.batches:
        windows_NTVC = rng.normal(size=(batch, encoders[0].info.num_frames, 25, 3)).astype(np.float32)
        ways: dict[str, Run] = {str(kind_of(encoder)): partial(encoder.encode, windows_NTVC) for encoder in encoders}
        ways |= references if batch == 1 else {}
        times = time_in_turns(ways, seconds=effort.seconds, num_blocks=effort.num_blocks)
        beside |= {name: percentiles(times[name]) for name in references if name in times}
        for encoder in encoders:
            (engine, precision, threads), own = kind_of(encoder), times[str(kind_of(encoder))]
            compared = ratio(own, times[PLAIN]) if PLAIN in times else None
            found.append(
                EncoderTime(
                    engine=engine,
                    precision=precision,
                    threads=threads,
                    batch=batch,
                    ms=percentiles(own),
                    ratio=compared,
                )
            )
    return found, beside


def kind_of(encoder: BundleEncoder) -> tuple[str, str, int]:
    """Return the name of the engine that runs an encoder, its precision and its number of threads."""
    details = encoder.engine.details
    return encoder.engine.name, str(details.get("precision", "")), int(details.get("num_threads", 1))


def plain_reference() -> Run:
    """Return a call of plain InfoGCN in ONNX Runtime: one window of 64 frames, fp32, one thread. Raises EngineError."""
    model = plain_infogcn(num_frames=_PLAIN_FRAMES)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    window = np.random.default_rng(0).normal(size=(1, 3, _PLAIN_FRAMES, 25, 1)).astype(np.float32)
    return partial(session.run, None, {"windows": window})
