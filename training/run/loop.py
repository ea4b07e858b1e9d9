"""Train the skeleton branch on archives, guided by texts (CrossGLG, Eq. 8).

Shapes: N windows, M persons, B = N * M, T frames, V joints, A classes, D the latent's channels, C = 3 of
coordinates, channels of a text elsewhere.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from edge.model import BundleInfo, Encoder
from streams.errors import ConfigError
from streams.layouts import KINECT25_JOINTS, KINECT25_MIRROR
from training.data import NUM_TWINS, TrainingSet
from training.model import (
    NUM_QUARTERS,
    CrossModalInteraction,
    Guidance,
    MotionBERT,
    SkeletonBranch,
    SkeletonEncoder,
    Speaker,
    contrast_loss,
    load_pretrained,
    merge_key_joints,
    quarters,
    sentences,
)
from training.run.batches import Batch, batches
from training.run.config import TrainConfig, learning_rate
from training.run.files import (
    COLUMNS,
    CURVE,
    LOSSES,
    RUN,
    WEIGHTS,
    Row,
    begin_run,
    describe_run,
    load_checkpoint,
    load_run,
    open_curve,
    save_checkpoint,
    save_weights,
)
from training.run.losses import Outputs, compute_losses
from training.run.ranks import Ranks, join_ranks

__all__ = ["CURVE", "LOSSES", "RUN", "WEIGHTS", "Row", "TrainConfig", "learning_rate", "load_run", "train"]


_NUM_PLACES = NUM_QUARTERS * len(KINECT25_JOINTS)


class Learner(nn.Module):
    """The skeleton branch with what is dropped after training: phi, proxies, what speaks, what imitates a teacher.

    `imitated_channels`: how many the teachers' embeddings have for each joint in each quarter, 0 without one.
    """

    def __init__(self, config: TrainConfig, num_classes: int, text_channels: int, imitated_channels: int = 0) -> None:
        super().__init__()
        self.branch = config.make_branch(num_classes)
        self.scale = config.embedding_scale
        self.phi = self.proxies_AE = None
        encoder, places = self.branch.encoder, NUM_QUARTERS * config.place_channels
        channels = encoder.num_features
        if config.guidance.local_to_global:
            back = places if config.classifier == "cosine" else channels
            self.phi = CrossModalInteraction(text_channels, channels, back, config.guidance)
        if config.classifier == "cosine":
            size = places * len(encoder.joints)
            num_proxies = num_classes * (NUM_TWINS if config.augmentation.has_twins else 1)
            self.proxies_AE = nn.Parameter(torch.randn(num_proxies, size) * size**-0.5)
        self.imitate = nn.Linear(channels, imitated_channels) if imitated_channels else None
        self.speak = Speaker(channels, text_channels) if config.guidance.alpha_contrast else None
        # Without a loss they would learn nothing but the weight decay.
        latent = ["project", *(f"encoder.{name}" for name in encoder.classifier_layers)]
        unused = tuple(latent) if config.classifier == "cosine" else ("place",)
        for name, parameter in self.branch.named_parameters():
            if name.startswith(tuple(f"{layer}." for layer in unused)):
                parameter.requires_grad_(False)

    def forward(self, x_NMTVC: Tensor, texts_NVC: Tensor | None) -> Outputs:
        n, m = x_NMTVC.shape[:2]
        features_BCTV, importance_BV = self.branch.features(x_NMTVC)
        cross_NVC = spoken_NSP = None
        if self.phi is not None or self.speak is not None:
            joints_NVC = features_BCTV.mean(dim=2).transpose(1, 2).unflatten(0, (n, m)).mean(dim=1)
            cross_NVC = self.phi(joints_NVC, texts_NVC) if self.phi is not None else None
            spoken_NSP = self.speak(joints_NVC) if self.speak is not None else None
        if self.proxies_AE is None:
            skeleton = self.branch.to_classify(features_BCTV)
            cross = None
            if cross_NVC is not None:
                cross = cross_NVC.mean(dim=1) if self.branch.encoder.averages_joints else cross_NVC.flatten(1)
        else:
            skeleton = self.branch.places(features_BCTV).flatten(1)
            # As `places` are ordered: quarter, joint, channel.
            cross = None if cross_NVC is None else cross_NVC.unflatten(2, (NUM_QUARTERS, -1)).transpose(1, 2).flatten(1)
        imitated_NE = self.imitate(quarters(features_BCTV)).flatten(1).float() if self.imitate is not None else None
        # Logits in bfloat16 would be off by up to 0.1.
        with torch.autocast(x_NMTVC.device.type, enabled=False):
            logits_NA, z_ND = self.classify(skeleton.unflatten(0, (n, m)).mean(dim=1).float())
            cross_logits_NA = None if cross is None else self.classify(cross.float())[0]
        return Outputs(logits_NA, z_ND, importance_BV, cross_logits_NA, imitated_NE, spoken_NSP)

    def classify(self, x_NC: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return logits (N, A), and z of the encoder's classifier, if any: the one classifier that both branches share.

        With SupCon it is an embedding (N, E) of length 1.
        """
        if self.proxies_AE is None:
            return self.branch.encoder.classify(x_NC)
        return self.scale * _unit(x_NC) @ _unit(self.proxies_AE).T, None


def train(
    data: TrainingSet,
    config: TrainConfig,
    out: Path,
    *,
    guidance: Guidance | None = None,
    teachers: Sequence[Encoder] = (),
    pretrained: Path | None = None,
    on_epoch: Callable[[Row], None] | None = None,
    on_batch: Callable[[int, int], None] | None = None,
) -> SkeletonBranch:
    """Train, or go on from the checkpoint in `out`, and write what run_files names; return the branch that is kept.

    `guidance` has a row for each of `data.classes`. `teachers`: the encoders of bundles, whose embeddings of
    undistorted windows are imitated beside all else, so that a small encoder learns what large ones found.
    `pretrained`: a file of weights of MotionBERT's authors, to begin with. A run that
    was killed goes on from its last whole epoch with the same batches and noise. Started by torchrun, each process
    takes its share of every batch, and all must see the same `out`; only the first writes. `on_batch` gets the
    number of windows done, and of all.
    Raises ConfigError if `out` holds another run, texts are missing, the teacher or the weights do not fit, or the
    loss is not finite.
    """
    if config.needs_texts and (guidance is None or len(guidance.key_joints_AV) != len(data.classes)):
        raise ConfigError(
            f"training with guidance needs the texts of its {len(data.classes)} classes",
            hint="Give them, or switch both ways of guidance off.",
        )
    for teacher in teachers:
        _check_teacher(teacher.info, config)
    with join_ranks() as ranks:
        _check_shares(data, config, ranks)
        # A fresh InfoGCN is full of denormals, twenty times slower than zeros; the caller keeps its own setting.
        torch.set_flush_denormal(True)
        try:
            training = _Training(data, config, guidance, teachers, ranks, pretrained)
            begin_run(out, describe_run(config, data, guidance, teachers, pretrained), is_first=ranks.rank == 0)
            curve = load_checkpoint(out, training.learner, training.optimizer)
            with open_curve(out, curve) if ranks.rank == 0 else nullcontext() as add_to_curve:
                for epoch in range(len(curve), config.epochs):
                    curve.append(training.epoch(epoch, on_batch))
                    if add_to_curve is not None:
                        save_checkpoint(out, training.learner, training.optimizer, curve)
                        add_to_curve(curve[-1])
                        if on_epoch is not None:
                            on_epoch(curve[-1])
        finally:
            torch.set_flush_denormal(False)
        if ranks.rank == 0:
            save_weights(out, training.learner.branch)
        ranks.wait()
    return training.learner.branch.cpu().eval()


def _check_shares(data: TrainingSet, config: TrainConfig, ranks: Ranks) -> None:
    fewest = 2 * ranks.num_ranks
    if config.batch % ranks.num_ranks or min(config.batch, len(data)) < fewest:
        raise ConfigError(
            f"{len(data)} clips in batches of {config.batch} cannot be shared by {ranks.num_ranks} processes: "
            f"each needs two windows of a batch, and all the same number"
        )


def _check_teacher(info: BundleInfo, config: TrainConfig) -> None:
    if config.windows != "device":
        raise ConfigError(
            f"a teacher looks at the windows of a device: expected windows = 'device', not {config.windows!r}"
        )
    wanted = {"embedding": "joints", "num_frames": config.num_frames}
    found = {"embedding": info.embedding, "num_frames": info.num_frames}
    if found != wanted or config.num_persons != 1 or info.num_learned % _NUM_PLACES:
        raise ConfigError(
            f"the teacher {info.name!r} has {found}: expected {wanted} of 25 joints, and num_persons 1, "
            f"not {config.num_persons}",
            hint="Choose a bundle that was exported with --embedding joints, and its number of frames.",
        )
    num_joints = len(config.encoder_config(num_classes=2).joints)
    if num_joints != len(KINECT25_JOINTS):
        raise ConfigError(
            f"{config.encoder} sees {num_joints} joints, which no teacher has: expected all {len(KINECT25_JOINTS)}",
            hint='With MotionBERT, that is layout = "kinect25" under [motionbert] in --config.',
        )


def _load_pretrained(encoder: SkeletonEncoder, file: Path) -> None:
    if not isinstance(encoder, MotionBERT):
        raise ConfigError(
            f"{file}: pretrained weights are read into MotionBERT alone, not {type(encoder).__name__}",
            hint="Add --encoder motionbert or motionbert-lite, or leave --pretrained out.",
        )
    load_pretrained(encoder.backbone, file)


class _Training:
    """Hold what a step changes, and what it needs."""

    def __init__(
        self,
        data: TrainingSet,
        config: TrainConfig,
        guidance: Guidance | None,
        teachers: Sequence[Encoder],
        ranks: Ranks,
        pretrained: Path | None = None,
    ) -> None:
        self.data, self.config, self.teachers, self.ranks = data, config, teachers, ranks
        imitated_channels = sum(teacher.info.num_learned // _NUM_PLACES for teacher in teachers)
        self.guidance = guidance.to(ranks.device) if guidance is not None and config.needs_texts else None
        if self.guidance is not None and config.permute_texts:
            self.guidance = self.guidance.permute(config.seed)
        torch.manual_seed(config.seed)
        text_channels = self.guidance.texts_AVC.shape[2] if self.guidance else 0
        self.learner = Learner(config, len(data.classes), text_channels, imitated_channels)
        if pretrained is not None:
            _load_pretrained(self.learner.branch.encoder, pretrained)
        if ranks.num_ranks > 1 and ranks.device.type == "cuda":
            # It exists for CUDA only: elsewhere each process normalizes by its own share of a batch.
            nn.SyncBatchNorm.convert_sync_batchnorm(self.learner)
        self.learner.to(ranks.device)
        self.parameters = [parameter for parameter in self.learner.parameters() if parameter.requires_grad]
        self.optimizer = _make_optimizer(self.learner, config)
        # Each process loads the same checkpoint into it before the first step.
        self.model: nn.Module = self.learner
        if ranks.num_ranks > 1:
            # The strides that it complains of are those of dimensions of size one.
            warnings.filterwarnings("ignore", "Grad strides do not match")
            self.model = DistributedDataParallel(self.learner, static_graph=True)
        self.compiled = torch.compile(self.model, dynamic=False) if config.compile else self.model

    def epoch(self, epoch: int, on_batch: Callable[[int, int], None] | None) -> Row:
        """Learn from every clip once. Raises ConfigError when the loss is no longer finite."""
        config, ranks, started, lr = self.config, self.ranks, time.monotonic(), 0.0
        torch.manual_seed(config.seed * 1_000_003 + epoch + 1_000_000_007 * ranks.rank)
        self.model.train()
        num_batches = max(1, len(self.data) // config.batch)
        totals = torch.zeros(len(LOSSES) + 2, dtype=torch.float64, device=ranks.device)
        for i, batch in enumerate(batches(self.data, config, epoch, ranks.rank, ranks.num_ranks)):
            lr = learning_rate(config, epoch + min(i / num_batches, 1.0))
            for group in self.optimizer.param_groups:
                group["lr"] = lr * group.get("lr_factor", 1.0)
            totals += self.step(batch)
            if on_batch is not None:
                in_epoch = min((i + 1) * config.batch, len(self.data))
                on_batch(epoch * len(self.data) + in_epoch, config.epochs * len(self.data))
        *sums, seen = ranks.add_up(totals).tolist()
        means = [total / seen for total in sums]
        if not math.isfinite(means[0]):
            raise ConfigError(
                f"the loss of epoch {epoch} is {means[0]}: the training diverged",
                code="diverged",
                hint="Train anew, in another --out, with a smaller --lr, or with grad_clip = 5 in --config.",
            )
        return dict(zip(COLUMNS, (epoch, *means, time.monotonic() - started, lr), strict=True))

    def step(self, batch: Batch) -> Tensor:
        """Learn from one batch; return the sums over its windows of LOSSES and right answers, and their number."""
        device, config = self.ranks.device, self.config
        labels_N, twins_N = batch.labels_N.to(device), batch.twins_N.to(device)
        texts_NVC = key_joints_NV = among_NA = None
        if self.guidance is not None:
            joints = list(self.learner.branch.encoder.joints)
            texts_NVC = _mirror(self.guidance.texts_AVC[labels_N], twins_N)[:, joints]
            key_joints_NV = merge_key_joints(_mirror(self.guidance.key_joints_AV[labels_N], twins_N), joints)
        classes_N = labels_N
        if config.augmentation.has_twins:
            labels_N, among_NA = _among_twins(labels_N, twins_N, len(self.data.classes))
        # Another size would be compiled anew, for every size, and run at a third of the speed.
        is_whole = len(labels_N) * self.ranks.num_ranks == config.batch
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            outputs: Outputs = (self.compiled if is_whole else self.model)(batch.x_NMTVC.to(device), texts_NVC)
        z_prior_AD = self.learner.branch.encoder.z_prior
        teacher_NE = self.taught(batch.undistorted_NMTVC)
        contrast = None
        if outputs.spoken_NSP is not None and self.guidance is not None:
            contrast = self.contrast(outputs.spoken_NSP, self.guidance, classes_N, twins_N)
        parts = compute_losses(
            outputs, labels_N, z_prior_AD, config,
            key_joints_NV=key_joints_NV, among_NA=among_NA, teacher_NE=teacher_NE, contrast=contrast,
        )  # fmt: skip
        self.optimizer.zero_grad()
        parts["loss"].backward()
        if config.grad_clip:
            nn.utils.clip_grad_norm_(self.parameters, config.grad_clip)
        self.optimizer.step()
        num_right = _count_right(outputs.logits_NA.detach(), labels_N, config, among_NA)
        sums = [part.detach() * len(labels_N) for part in parts.values()]
        return torch.stack([*sums, num_right, num_right.new_tensor(len(labels_N))]).double()

    def contrast(self, spoken_NSP: Tensor, guidance: Guidance, classes_N: Tensor, twins_N: Tensor) -> Tensor:
        """Return the contrast with texts: in a mirrored window the right hand is held against the left hand's sentence.

        What runs backwards is another movement, which no text describes.
        """
        joints = list(self.learner.branch.encoder.joints)
        mirror = [joints.index(int(KINECT25_MIRROR[joint])) for joint in joints]
        is_mirrored_N11 = (twins_N >= 2)[:, None, None]
        spoken_NSP = torch.where(is_mirrored_N11, spoken_NSP[:, [*mirror, len(joints)]], spoken_NSP)
        forwards_N = twins_N % 2 == 0
        sentences_ASP = sentences(guidance)[:, [*joints, len(KINECT25_JOINTS)]]
        temperature = self.config.guidance.contrast_temperature
        return contrast_loss(spoken_NSP[forwards_N], sentences_ASP, classes_N[forwards_N], temperature)

    def taught(self, windows_NMTVC: Tensor) -> Tensor | None:
        """Return the learned part of the teachers' embeddings, side by side at each place, (N, E)."""
        if not self.teachers:
            return None
        windows_NTVC = windows_NMTVC[:, 0].numpy()
        by_place = []
        for teacher in self.teachers:
            # A few at once fit the processor's cache: 64 take twice the time for each.
            parts = [teacher.encode(windows_NTVC[i : i + 8]) for i in range(0, len(windows_NTVC), 8)]
            learned_NE = np.concatenate(parts)[:, : teacher.info.num_learned]
            by_place.append(learned_NE.reshape(len(windows_NTVC), _NUM_PLACES, -1))
        return torch.from_numpy(np.concatenate(by_place, axis=2)).flatten(1).to(self.ranks.device)


def _make_optimizer(learner: Learner, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer of what learns; encoder, the rest, and JID with phi may have rates of their own."""
    classifying = tuple(f"branch.encoder.{layer}" for layer in learner.branch.encoder.classifier_layers)
    own: list[nn.Parameter] = []
    other: list[nn.Parameter] = []
    guiding: list[nn.Parameter] = []
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad and config.lr_guidance != 1 and name.startswith(("branch.jid.", "phi.")):
            guiding.append(parameter)
        elif parameter.requires_grad:
            is_own = not config.lr_head or (name.startswith("branch.encoder.") and not name.startswith(classifying))
            (own if is_own else other).append(parameter)
    groups: list[dict[str, Any]] = [{"params": own, "lr_factor": 1.0}]
    if other:
        groups.append({"params": other, "lr_factor": config.lr_head / config.lr if config.lr else 1.0})
    if guiding:
        groups.append({"params": guiding, "lr_factor": config.lr_guidance})
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, nesterov=True
    )


def _count_right(answers_NA: Tensor, labels_N: Tensor, config: TrainConfig, among_NA: Tensor | None) -> Tensor:
    """Count windows whose highest logit is their label's; with SupCon those whose nearest other one has their label."""
    if config.classifier == "supcon":
        nearest_N = (answers_NA @ answers_NA.T).fill_diagonal_(-torch.inf).argmax(dim=1)
        return (labels_N[nearest_N] == labels_N).sum()
    if among_NA is not None:
        answers_NA = answers_NA.masked_fill(~among_NA, -torch.inf)
    return (answers_NA.argmax(dim=1) == labels_N).sum()


def _among_twins(labels_N: Tensor, twins_N: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return the labels among classes and their twins, and what each window is told apart from, shape (N, 4 A).

    Not from its own twins: a clap is the same mirrored, and nearly so backwards.
    """
    own_N = labels_N + twins_N * num_classes
    all_own_NA = nn.functional.one_hot(labels_N, num_classes).bool().repeat(1, NUM_TWINS)
    return own_N, ~all_own_NA.scatter(1, own_N[:, None], False)


def _mirror(by_joint: Tensor, twins_N: Tensor) -> Tensor:
    """Exchange what belongs to left and right joints, shape (N, V, ...), of those windows that are mirrored."""
    is_mirrored = (twins_N >= 2).view(-1, *[1] * (by_joint.dim() - 1))
    return torch.where(is_mirrored, by_joint[:, KINECT25_MIRROR.tolist()], by_joint)


def _unit(x_NE: Tensor) -> Tensor:
    return nn.functional.normalize(x_NE, dim=1)
