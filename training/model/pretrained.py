"""The weights that MotionBERT's authors publish, checked name by name before any of them is taken.

A file is what their `train.py` writes (`.bin`): under "model_pos" a DSTformer's weights; or what `train_action*.py`
write: under "model" those of a DSTformer and of a head, which is left out; or the weights alone. Names may begin with
"module.".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streams.errors import ConfigError
from training.model.motionbert import DSTformer

_DIMS = {512: "motionbert", 256: "motionbert-lite"}


def load_pretrained(backbone: DSTformer, file: Path) -> None:
    """Put the weights of a file into a backbone, all or none.

    Raises ConfigError where it cannot be read, or a weight is missing, unknown or of another shape.
    """
    found, own = _read(file), backbone.state_dict()
    wrong = [f"{name} is missing" for name in own.keys() - found.keys()]
    wrong += [f"{name} is unknown" for name in found.keys() - own.keys()]
    wrong += [
        f"{name} is {list(found[name].shape)}, expected {list(own[name].shape)}"
        for name in own.keys() & found.keys()
        if found[name].shape != own[name].shape
    ]
    if wrong:
        raise ConfigError(
            f"{file}: {len(wrong)} weights do not fit a DSTformer of {backbone.joints_embed.out_features} channels and "
            f"{backbone.pos_embed.shape[1]} joints: {', '.join(sorted(wrong)[:3])}{', ...' if len(wrong) > 3 else ''}",
            hint=_hint(found),
        )
    backbone.load_state_dict(found)


def _read(file: Path) -> dict[str, Tensor]:
    # A checkpoint holds a few numbers of numpy's beside the tensors.
    numbers: list[Any] = [np.dtype, *(type(np.dtype(name)) for name in ("float64", "float32", "int64"))]
    scalar = np.float64(0).__reduce__()[0]
    numbers += [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    try:
        with torch.serialization.safe_globals(numbers):
            content = torch.load(file, weights_only=True, map_location="cpu")
    except FileNotFoundError as error:
        raise ConfigError(f"{file} does not exist", hint="Name the authors' file, such as best_epoch.bin.") from error
    except Exception as error:  # a file of another kind makes the unpickler raise errors of many kinds
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"{file} cannot be read as weights: {reason}", hint="Copy the file anew; it is what torch.save writes."
        ) from error
    for part in ("model_pos", "model"):
        if isinstance(content, dict) and isinstance(content.get(part), dict):
            content = content[part]
    weights = content if isinstance(content, dict) else {}
    if not weights or not all(isinstance(name, str) and isinstance(w, Tensor) for name, w in weights.items()):
        raise ConfigError(
            f"{file} holds no weights: expected a dictionary of tensors, or one under model_pos or model",
            hint="Name the authors' file, such as best_epoch.bin.",
        )
    weights = {name.removeprefix("module."): weight for name, weight in weights.items()}
    own = {name.removeprefix("backbone."): weight for name, weight in weights.items() if name.startswith("backbone.")}
    return own or weights


def _hint(found: dict[str, Tensor]) -> str:
    embed, places = found.get("joints_embed.weight"), found.get("pos_embed")
    if embed is None or embed.ndim != 2 or places is None or places.ndim != 3:
        return "Name a file of Walter0807/MotionBERT's weights."
    encoder = _DIMS.get(len(embed), "motionbert")
    return f"Its DSTformer has {len(embed)} channels and {places.shape[1]} joints: try `--encoder {encoder}`."
