"""Whether an engine gives what ONNX Runtime gives in fp32, on four fixed windows.

Shapes: N = 4 windows, T frames, V = 25, C = 3, E embedding size, F features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.model.bundle import BundleInfo
from edge.model.engines.engine import Engine
from edge.model.engines.engine_file import Parity
from edge.model.engines.onnx_runtime import OnnxRuntime
from edge.motion import window_from_movement
from streams.arrays import Array
from streams.errors import EngineError
from streams.performer import perform

# fp16 and bf16 have cosines of 0.9999 and errors of 0.005; a wrong layer, another model or a lost exponent is far off.
MIN_COSINE = 0.999
MAX_ERROR = 0.02


def agreement(ours: tuple[Array, Array], theirs: tuple[Array, Array], info: BundleInfo, *, against: str) -> Parity:
    """Compare embeddings (N, E) and features (N, F) of the same windows with those of `against`, in the worst window.

    `largest`: difference of any value of an embedding; `cosine`: between the learned parts of the embeddings;
    `frames` and `features`: relative errors of what comes after it and of the features, 0 where there is none.
    """
    split = info.num_learned
    a_ND, b_ND = ours[0][:, :split], theirs[0][:, :split]
    cosines_N = (a_ND * b_ND).sum(axis=1) / np.linalg.norm(a_ND, axis=1) / np.linalg.norm(b_ND, axis=1)
    return Parity(
        largest=float(np.abs(ours[0] - theirs[0]).max()),
        cosine=float(cosines_N.min()),
        frames=_relative_error(ours[0][:, split:], theirs[0][:, split:]),
        features=_relative_error(ours[1], theirs[1]),
        against=against,
    )


def fixed_windows(num_frames: int) -> Array:
    """Return four windows of the synthetic performer, shape (4, T, 25, 3), float32."""
    actions = ("wave", "squat", "kick", "clap")
    return np.stack([window_from_movement(perform(action, seed=0), num_frames) for action in actions])


def prove(engine: Engine, info: BundleInfo, onnx: Path) -> Parity:
    """Return how near an engine comes to ONNX Runtime in fp32. Raises EngineError("parity_failed") if it does not."""
    windows_NTVC = fixed_windows(info.num_frames)
    reference = OnnxRuntime(onnx)
    theirs = reference.run(windows_NTVC)
    ours = engine.run(windows_NTVC)
    shapes = [tuple(part.shape for part in parts) for parts in (ours, theirs)]
    if shapes[0] != shapes[1]:
        raise _refusal(engine, onnx, f"embeddings and features have the shapes {shapes[0]}, expected {shapes[1]}")
    found = agreement(ours, theirs, info, against=f"onnxruntime {reference.details['version']}")
    # Written so that NaN fails.
    if not (found.cosine >= MIN_COSINE and found.frames <= MAX_ERROR and found.features <= MAX_ERROR):
        raise _refusal(
            engine,
            onnx,
            f"cosine {found.cosine:.5f}, error of the aligned frames {found.frames:.3g}, of the features "
            f"{found.features:.3g}; expected at least {MIN_COSINE}, at most {MAX_ERROR} and {MAX_ERROR}",
        )
    return found


def _relative_error(ours: Array, theirs: Array) -> float:
    if not theirs.size:
        return 0.0
    return float((np.linalg.norm(ours - theirs, axis=1) / (np.linalg.norm(theirs, axis=1) + 1e-12)).max())


def _refusal(engine: Engine, onnx: Path, what: str) -> EngineError:
    details = ", ".join(f"{key} {value}" for key, value in engine.details.items())
    return EngineError(
        f"{engine.name} ({details}) does not give what ONNX Runtime gives with {onnx}: {what}",
        code="parity_failed",
        hint="It may hold another model: export it anew from this bundle. Until then another engine serves.",
    )
