"""What still differs from the paper in a run of `--preset paper`, in words: `train` prints it, docs/train.md has it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from training.run.config import TrainConfig
from training.texts import PAPER_ENCODER

# What the paper leaves open or nobody but its authors has.
ALWAYS = (
    "The texts are Claude's: the paper's, by ChatGPT, Gemini and Qwen, are not public.",
    "The paper leaves open: JID's hidden channels (128), phi's channels, heads, residual sums and norms, how K becomes "
    "a target (0 or 1 each).",
    "Frames in which a person or joint is missing are interpolated; the authors have zeros there.",
    "Kinetics' 18 joints become 25, mapped as the layout openpose18 has it; the paper trains on a graph of 18.",
    "Weights and products are float32; the authors use mixed precision (apex O1).",
)
_OPEN_NUM_PRE = "The paper says for InfoGCN alone after which block JID comes; here it is {0}."
_OF_MOTIONBERT = (
    "Windows have 96 frames, MotionBERT's authors have 100: an embedding is made of sixteenths of a window.",
    "Joints are a sensor's, seen from the front with a confidence of 1; MotionBERT's authors have HRNet's, in images.",
    "JID's weights multiply MotionBERT's spatial attention, relative to their mean; the paper does not say where.",
    "No epoch is chosen on test clips, as MotionBERT's authors do.",
)
OF_ENCODER = {
    "infogcn": (),
    "hd-gcn": ("One stream of HD-GCN, from one center of mass; its authors add up the scores of six.",),
    "motionbert": _OF_MOTIONBERT,
    "motionbert-lite": _OF_MOTIONBERT,
}
OTHER_TEXT_ENCODER = "DeBERTa's features of the texts were not found: all-MiniLM-L6-v2 embeds them instead."


def deviations(config: TrainConfig) -> list[str]:
    """Return a sentence for each way in which a configuration is not the paper's, those that always hold first."""
    paper, own = (_flat(asdict(each)) for each in (TrainConfig.preset("paper", config.encoder), config))
    told = [*ALWAYS, *OF_ENCODER[config.encoder]]
    if config.encoder != "infogcn" and config.guidance.global_to_local:
        told.append(_OPEN_NUM_PRE.format(config.guidance.num_pre))
    if config.text_encoder != PAPER_ENCODER and config.needs_texts:
        told.append(OTHER_TEXT_ENCODER)
    # Which of the paper's own settings a run is of, and where it runs, is no deviation.
    own_choice = {"text_encoder", "descriptions", "seed", "compile", "second_person"}
    told += [
        f"{name} is {own[name]!r}: the paper has {paper[name]!r}."
        for name in paper
        if own[name] != paper[name] and name.split(".")[0] not in own_choice
    ]
    return told


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
