"""Every choice of a training run, its presets, and the learning rate."""

from __future__ import annotations

import math
import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import msgspec

from streams.errors import ConfigError
from training.data import Augmentation, SecondPerson
from training.model import (
    NUM_QUARTERS,
    BoneTree,
    EncoderConfig,
    GuidanceConfig,
    HDGCNChoices,
    HDGCNConfig,
    InfoGCNConfig,
    InitialWeights,
    Input,
    MotionBERTChoices,
    MotionBERTConfig,
    SkeletonBranch,
)
from training.texts import ANY_SHIPPED, ENCODER, PAPER_ENCODER

Preset = Literal["paper", "2-cores", "smoke"]
EncoderName = Literal["infogcn", "hd-gcn", "motionbert", "motionbert-lite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Name each choice of a training run; the defaults are the paper's, with InfoGCN's optimizer (stnoah1/infogcn).

    `encoder`: which one; `preset` sets the rest by it. `num_persons` 2 takes both persons of a clip as one sample, a
    missing one as zeros; `width`, `strides`, `k`, `inputs` are InfoGCNConfig's, `hd_gcn` and `motionbert` the other
    encoders' choices. Texts: `descriptions`, an LLM whose texts are shipped or a folder ("shipped": those of the
    shipped ones that describe the actions), and the `text_encoder` that embedded them. `classifier`, shared by both
    branches: "latent" is the encoder's own, of the features' mean; "cosine" (ours) takes `embedding_scale` times the
    cosines between the embedding, `place_channels` for each joint in each quarter of the window, and a learned proxy of
    each class, and so trains what the device compares; "supcon" draws the embeddings of a class near to each other, at
    `temperature`, with at least `samples_per_class` of them in a batch (MotionBERT's one-shot recipe). Optimizer: the
    learning rate rises over `warmup_share` of the epochs; then "step" divides it by ten at each of `milestones`, shares
    of the epochs (5, 90 and 100 of 110), "cosine" lets it fall to zero, and "exponential" takes it times `lr_decay`
    after each epoch. What is not of the encoder's blocks learns at `lr_head`, which falls alike; 0: at `lr`. JID and
    phi learn at `lr_guidance` times that rate. `permute_texts` guides each class by another's texts, as a control.
    `grad_clip`: the largest norm of a gradient, 0 for any. `balance`: see `sampling_order`. `lambda_teacher` (ours):
    the weight of imitating a teacher, where there is one. `batch` counts the windows of a step, over all processes.
    """

    encoder: EncoderName = "infogcn"
    windows: Literal["authors", "device"] = "authors"
    num_frames: int = 64
    num_persons: Literal[1, 2] = 2
    second_person: SecondPerson = "first"
    width: int = 64
    strides: tuple[int, ...] = (1, 1, 1, 2, 1, 1, 2, 1, 1)
    k: int = 1
    inputs: tuple[Input, ...] = ("bones",)
    noise_ratio: float = 0.5
    initial_weights: InitialWeights = "authors"
    bone_tree: BoneTree = "authors"
    hd_gcn: HDGCNChoices = field(default_factory=HDGCNChoices)
    motionbert: MotionBERTChoices = field(default_factory=MotionBERTChoices)
    place_channels: int = 32
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    descriptions: str = ANY_SHIPPED
    text_encoder: str = PAPER_ENCODER
    permute_texts: bool = False
    classifier: Literal["latent", "cosine", "supcon"] = "latent"
    embedding_scale: float = 20.0
    temperature: float = 0.1
    samples_per_class: int = 2
    label_smoothing: float = 0.1
    cross_smoothing: float = 0.0
    lambda_class_mean: float = 0.1
    lambda_mean_norm: float = 1e-4
    lambda_teacher: float = 10.0
    epochs: int = 110
    batch: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.05
    lr_head: float = 0.0
    lr_guidance: float = 1.0
    schedule: Literal["step", "cosine", "exponential"] = "step"
    lr_decay: float = 0.99
    warmup_share: float = 5 / 110
    warmup: Literal["epoch", "batch"] = "epoch"
    milestones: tuple[float, ...] = (90 / 110, 100 / 110)
    momentum: float = 0.9
    weight_decay: float = 5e-4
    grad_clip: float = 0.0
    balance: float = 0.0
    drop_last: bool = True
    seed: int = 0
    bf16: bool = False
    compile: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name, least in (
            ("num_frames", 4), ("epochs", 1), ("batch", 2), ("lr", 0.0), ("lr_head", 0.0), ("lr_guidance", 0.0),
            ("samples_per_class", 2),
        ):  # fmt: skip
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} is {getattr(self, name)}: expected {least} or more")
        encoder = self.encoder_config(num_classes=2)  # refuses what the encoder would
        if self.windows == "authors" and self.augmentation.has_more_than_theirs:
            raise ValueError(
                'windows = "authors" are cropped and turned only: expected no augmentation but min_crop, '
                "min_crop_frames and max_turn_rad"
            )
        if self.augmentation.has_twins and self.classifier != "cosine":
            raise ValueError('reversed_share and mirrored_share need classifier = "cosine"')
        if self.guidance.num_pre > encoder.num_blocks:
            raise ValueError(
                f"guidance.num_pre is {self.guidance.num_pre}: expected 1 to {encoder.num_blocks}, "
                f"the blocks of {self.encoder}"
            )
        if self.classifier == "supcon" and not isinstance(encoder, MotionBERTConfig):
            raise ValueError(f'classifier "supcon" needs the encoder motionbert or motionbert-lite, not {self.encoder}')
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}: expected more than 0")
        num_frames = encoder.frames_after(self.num_frames)
        if self.classifier == "cosine" and num_frames % NUM_QUARTERS:
            raise ValueError(
                f"num_frames {self.num_frames} and the encoder's strides leave {num_frames} frames: "
                f"the embedding needs a multiple of {NUM_QUARTERS}"
            )

    @classmethod
    def preset(cls, name: Preset, encoder: EncoderName = "infogcn") -> TrainConfig:
        """Return the paper's settings with an encoder, or what two CPU cores train in half an hour to an hour or two.

        What the paper leaves to the encoders' authors is theirs; where JID comes in others than InfoGCN is open.
        "smoke" is the latter for one epoch, and narrow: it shows that all works and recognizes little.
        """
        if name == "smoke":
            return cls.preset("2-cores", encoder)._narrow()
        preset = cls() if name == "paper" else cls._two_cores()
        if encoder == "hd-gcn":
            return preset._with_hd_gcn(name)
        return preset if encoder == "infogcn" else preset._with_motionbert(name, encoder)

    @classmethod
    def _two_cores(cls) -> TrainConfig:
        return cls(
            windows="device", num_frames=32, num_persons=1, width=48, strides=(2, 1, 1, 2, 1, 1, 1, 1, 1),
            inputs=("places", "deviations", "steps"), initial_weights="torch", place_channels=16, text_encoder=ENCODER,
            classifier="cosine", cross_smoothing=0.1, guidance=GuidanceConfig(key_joints="share", calibrate_sum=True),
            epochs=10, batch=64, schedule="cosine", warmup="batch", grad_clip=5.0, balance=0.5, drop_last=False,
            bf16=True,
            augmentation=Augmentation(
                min_crop=0.7, min_crop_frames=0, axis_scale=0.08, joint_noise=0.01, joint_drop=0.02,
                reversed_share=0.2, mirrored_share=0.5,
            ),
        )  # fmt: skip

    def _narrow(self) -> TrainConfig:
        """Return the same for one epoch, with a fraction of the channels."""
        return replace(
            self, epochs=1, width=16, place_channels=8,
            hd_gcn=replace(self.hd_gcn, width=16),
            motionbert=replace(self.motionbert, dim=24, dim_features=24, hidden=64),
            guidance=replace(self.guidance, jid_hidden=16, shared_channels=16),
        )  # fmt: skip

    def _with_hd_gcn(self, name: Preset) -> TrainConfig:
        if name == "paper":
            return replace(
                self, encoder="hd-gcn", epochs=90, batch=64, schedule="cosine", warmup_share=5 / 90, weight_decay=4e-4
            )
        return replace(self, encoder="hd-gcn", hd_gcn=HDGCNChoices(width=32, strides=(2, 1, 1, 1, 2, 1, 1, 1, 1, 1)))

    def _with_motionbert(self, name: Preset, encoder: EncoderName) -> TrainConfig:
        is_lite = encoder == "motionbert-lite"
        choices = MotionBERTChoices(dim=256, mlp_ratio=4) if is_lite else MotionBERTChoices()
        recipe = replace(
            self, encoder=encoder, motionbert=choices, guidance=replace(self.guidance, num_pre=3), classifier="supcon",
            # It moves windows itself.
            augmentation=Augmentation(
                min_crop=1.0, min_crop_frames=0, max_turn_rad=0.0, axis_scale=0.0, joint_noise=0.0, joint_drop=0.0
            ),
            second_person="zeros", batch=32, optimizer="adamw", lr_head=1e-3, weight_decay=0.01,
        )  # fmt: skip
        if name == "paper":
            # The authors have 100 frames; an embedding is made of sixteenths of a window.
            return replace(recipe, num_frames=96, epochs=50, lr=8e-5, schedule="exponential", warmup_share=0.0)
        small = replace(choices, dim=48 if is_lite else 96, dim_features=96, hidden=256)
        # From fresh weights, at 1e-3 all embeddings become one within an epoch.
        return replace(recipe, motionbert=small, lr=2e-4, bf16=False)

    @property
    def takes_scores(self) -> bool:
        """Whether the score of a 2D pose's joint is the third coordinate, where archives have scores."""
        return self.windows == "authors"

    @property
    def needs_texts(self) -> bool:
        """Whether a guidance is on, which reads a language model's texts."""
        guidance = self.guidance
        return guidance.global_to_local or guidance.local_to_global or guidance.alpha_contrast > 0

    def encoder_config(self, num_classes: int) -> EncoderConfig:
        """Return the encoder's configuration. Raises ValueError."""
        given: dict[str, Any] = {"num_classes": num_classes, "num_persons": self.num_persons}
        if self.encoder == "hd-gcn":
            return HDGCNConfig(**given, **asdict(self.hd_gcn))
        if self.encoder in ("motionbert", "motionbert-lite"):
            given["head"] = "embed" if self.classifier == "supcon" else "class"
            up = self.motionbert.up or ("y" if self.windows == "device" else "z")
            return MotionBERTConfig(**given, **asdict(self.motionbert) | {"up": up})
        return InfoGCNConfig(
            num_classes=num_classes,
            num_persons=self.num_persons,
            k=self.k,
            width=self.width,
            strides=self.strides,
            inputs=self.inputs,
            noise_ratio=self.noise_ratio,
            initial_weights=self.initial_weights,
            bone_tree=self.bone_tree,
        )

    def make_branch(self, num_classes: int) -> SkeletonBranch:
        """Return the skeleton branch with fresh weights."""
        return SkeletonBranch(self.encoder_config(num_classes), self.guidance, place_channels=self.place_channels)


# What runs did that do not name it: those before it could be chosen.
_BEFORE: dict[str, Any] = {
    "windows": "device", "noise_ratio": 0.1, "initial_weights": "torch", "bone_tree": "kinect25", "warmup": "batch",
    "drop_last": False,
}  # fmt: skip


def stored_config(content: dict[str, Any]) -> dict[str, Any]:
    """Return a run's stored configuration with what runs of its time did and could not name yet."""
    # These came later, and were off.
    guidance = {"alpha_contrast": 0.0, "contrast_temperature": 0.1} | dict(content.get("guidance", {}))
    content = {"lr_guidance": 1.0, "permute_texts": False} | content | {"guidance": guidance}
    if "windows" in content:
        return content
    augmentation = {"min_crop_frames": 0} | dict(content.get("augmentation", {}))
    before = _BEFORE | {"cross_smoothing": content.get("label_smoothing", 0.1)}
    return before | content | {"augmentation": augmentation}


def learning_rate(config: TrainConfig, epoch: float) -> float:
    """Return the learning rate at a (fractional) epoch."""
    warmup = config.warmup_share * config.epochs
    if epoch < warmup:
        risen = math.floor(epoch) + 1 if config.warmup == "epoch" else epoch
        return config.lr * min(risen / warmup, 1.0)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (config.epochs - warmup)))
    if config.schedule == "exponential":
        return config.lr * config.lr_decay ** math.floor(epoch)
    return config.lr * 0.1 ** sum(epoch >= share * config.epochs for share in config.milestones)


def read_train_config(preset: Preset, file: Path | None, flags: dict[str, Any]) -> TrainConfig:
    """Return a preset with an encoder, changed by the keys of a TOML file, then by flags. Raises ConfigError."""
    where = "the flags"
    try:
        keys = {}
        if file is not None:
            where = str(file)
            keys = tomllib.loads(file.read_text(encoding="utf-8"))
        encoder = {**keys, **flags}.get("encoder", "infogcn")
        if encoder not in get_args(EncoderName):
            raise ValueError(f"encoder is {encoder!r}: expected one of {', '.join(get_args(EncoderName))}")
        content = asdict(TrainConfig.preset(preset, cast(EncoderName, encoder)))
        _change(content, keys)
        _change(content, flags)
        return msgspec.convert(content, TrainConfig)
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{where}: {error}", hint="The keys are those of TrainConfig in training/run/config.py."
        ) from error


def _change(content: dict[str, Any], by: dict[str, Any], prefix: str = "") -> None:
    for key, value in by.items():
        if key not in content:
            raise ValueError(f"unknown key {prefix}{key}: expected one of {', '.join(content)}")
        if isinstance(content[key], dict) and isinstance(value, dict):
            _change(content[key], value, f"{prefix}{key}.")
        else:
            content[key] = value
