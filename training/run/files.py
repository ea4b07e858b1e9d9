"""The folder of a training run: run.json, curve.csv, TensorBoard events, the checkpoint, the weights in the end.

All are written whole or not at all, so that a run that was killed goes on.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from edge.model import Encoder
from streams.errors import ConfigError
from streams.files import replacing
from training.data import TrainingSet
from training.model import Guidance, SkeletonBranch
from training.run.config import TrainConfig, stored_config

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "encoder.safetensors"
RUN = "run.json"
CURVE = "curve.csv"
EVENTS = "tensorboard"
LOSSES = ("loss", "loss_skeleton", "loss_calibrate", "loss_cross", "loss_contrast", "loss_teacher")
COLUMNS = ("epoch", *LOSSES, "accuracy", "seconds", "lr")

# One epoch: COLUMNS -> numbers.
Row = dict[str, float]


def describe_run(
    config: TrainConfig,
    data: TrainingSet,
    guidance: Guidance | None,
    teachers: Sequence[Encoder] = (),
    pretrained: Path | None = None,
) -> dict[str, Any]:
    """Return what run.json says, and what must be the same for a run to go on."""
    texts = b"" if guidance is None else guidance.key_joints_AV.numpy().tobytes() + guidance.texts_AVC.numpy().tobytes()
    run = {
        "config": dataclasses.asdict(config),
        "classes": list(data.classes),
        "clips": len(data),
        "archives": data.archives,
        "texts_sha256": hashlib.sha256(texts).hexdigest() if texts else None,
        "teacher_sha256": " ".join(teacher.info.onnx_sha256 for teacher in teachers) or None,
        "pretrained_sha256": hashlib.sha256(pretrained.read_bytes()).hexdigest() if pretrained is not None else None,
        "torch": torch.__version__,
    }
    return dict(json.loads(json.dumps(run)))


def begin_run(out: Path, run: dict[str, Any], *, is_first: bool) -> None:
    """Make the folder and, in the first process, write run.json. Raises ConfigError where it holds another run."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not (out / RUN).exists():
            if is_first:
                content = json.dumps(run, indent=1) + "\n"
                _write(out / RUN, lambda path: path.write_text(content, encoding="utf-8"))
            return
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}", hint="Choose another --out.") from error
    changed = find_changes(_read_run(out), run)
    if changed:
        raise ConfigError(
            f"{out} holds a training run with another {', '.join(changed)}",
            hint="Choose another --out, or remove that folder.",
        )


def save_checkpoint(out: Path, learner: nn.Module, optimizer: torch.optim.Optimizer, curve: list[Row]) -> None:
    """Keep all that the next epoch starts from; `curve` has a row for each epoch done."""
    state = {"learner": learner.state_dict(), "optimizer": optimizer.state_dict(), "curve": curve}
    _write(out / CHECKPOINT, lambda path: torch.save(state, path))


def load_checkpoint(out: Path, learner: nn.Module, optimizer: torch.optim.Optimizer) -> list[Row]:
    """Go on from the checkpoint, where there is one, and return the curve so far. Raises ConfigError."""
    path = out / CHECKPOINT
    if not path.exists():
        return []
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        learner.load_state_dict(state["learner"])
        optimizer.load_state_dict(state["optimizer"])
        return [{column: float(row.get(column, 0.0)) for column in COLUMNS} for row in state["curve"]]
    except Exception as error:  # a file of another kind makes the unpickler raise errors of many kinds
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"{path} is damaged, or no checkpoint of this run: {reason}",
            hint="Remove it: the run then begins anew.",
        ) from error


@contextmanager
def open_curve(out: Path, curve: Sequence[Row]) -> Iterator[Callable[[Row], None]]:
    """Write curve.csv and TensorBoard's events anew, as far as the run came; yield what adds an epoch to both."""
    from tensorboardX import SummaryWriter

    rows: list[Row] = []
    shutil.rmtree(out / EVENTS, ignore_errors=True)
    with SummaryWriter(str(out / EVENTS)) as events:

        def add(*new: Row) -> None:
            rows.extend(new)
            _write(out / CURVE, lambda path: _write_csv(path, rows))
            for row in new:
                for column in COLUMNS[1:]:
                    events.add_scalar(column, row[column], int(row["epoch"]))
            events.flush()

        add(*curve)
        yield add


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(COLUMNS)
        lines.writerows([int(row["epoch"]), *(f"{row[column]:.9g}" for column in COLUMNS[1:])] for row in rows)


def save_weights(out: Path, branch: SkeletonBranch) -> None:
    """Write what is kept of a finished run: the skeleton branch alone."""
    weights = {name: tensor.cpu().contiguous() for name, tensor in branch.state_dict().items()}
    _write(out / WEIGHTS, lambda path: save_file(weights, path))


def load_run(out: Path) -> tuple[SkeletonBranch, dict[str, Any]]:
    """Return a finished run's skeleton branch in evaluation mode, and its run.json. Raises ConfigError."""
    run = _read_run(out)
    try:
        weights = load_file(out / WEIGHTS)
        branch = msgspec.convert(run["config"], TrainConfig).make_branch(len(run["classes"]))
        branch.load_state_dict(weights)
    except FileNotFoundError as error:
        raise _unfinished(out, WEIGHTS) from error
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, msgspec.ValidationError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(f"{out / WEIGHTS} does not fit {out / RUN}: {reason}", hint="Train it anew.") from error
    return branch.eval(), run


def _read_run(out: Path) -> dict[str, Any]:
    try:
        run = json.loads((out / RUN).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _unfinished(out, RUN) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{out / RUN} cannot be read as JSON: {error}", hint="Choose another --out.") from error
    if not isinstance(run, dict):
        raise ConfigError(f"{out / RUN} is not a training run's", hint="Choose another --out.")
    if isinstance(run.get("config"), dict):
        run["config"] = stored_config(run["config"])
    return run


def find_changes(before: Any, now: Any, name: str = "") -> list[str]:
    """Return the names of what differs between two contents of run.json, such as config.lr."""
    if before == now:
        return []
    if not isinstance(before, dict) or not isinstance(now, dict):
        return [name]
    keys = sorted({*before, *now})
    return [
        found for key in keys for found in find_changes(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    ]


def _unfinished(out: Path, missing: str) -> ConfigError:
    return ConfigError(
        f"{out} is not a finished training run: {missing} is missing",
        hint="Run `crossglg-edge train` with this folder as --out; it goes on where it stopped.",
    )


def _write(path: Path, write: Callable[[Path], object]) -> None:
    try:
        with replacing(path) as temporary:
            write(temporary)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch reports a full disk as a RuntimeError
        raise ConfigError(
            f"{path} cannot be written: {str(error).strip()}",
            hint="Make room, or name another --out; a run goes on where it stopped.",
        ) from error
