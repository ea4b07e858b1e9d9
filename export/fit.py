"""What a bundle's encoder is fitted with after training: whitening, cohort, alignment weight and score.

Shapes: N windows, T frames, V = 25, C = 3, E values of an embedding, D features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edge.match import distances_between, take_apart
from edge.model import ScoreCurve
from edge.motion import window_from_movement
from export.frozen import ALIGNED_FRAMES, Embedding, FrozenBranch, embed
from streams.archive import read_archive
from streams.arrays import Array
from streams.errors import BundleError
from training.model import NUM_QUARTERS, whitening
from training.run import load_run

# So much of it counts, of each of two windows.
COHORT_WEIGHT = 0.75
# The alignment's cost spreads so far as a share of the cosine's spread.
_ALIGNMENT_SHARE = 0.6

# Share of pairs of different actions that may match. A live second makes five decisions about several
# windows, so what is rare for a pair of clips is not rare in a stream.
FALSE_MATCH_RATE = 0.002

# A class's mean and spread are those of so many of its clips at most.
CLIPS_OF_A_CLASS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Clips:
    """Hold whole clips as windows (N, T, 25, 3), float32, with action, (archive, subject) and length of each."""

    windows_NTVC: Array
    actions: tuple[str, ...]
    people: tuple[tuple[str, int], ...]
    durations_s: tuple[float, ...]

    def take(self, numbers: Iterable[int]) -> Clips:
        """Return the clips of these numbers, in their order."""
        taken = [int(number) for number in numbers]
        return Clips(
            windows_NTVC=self.windows_NTVC[taken],
            actions=tuple(self.actions[i] for i in taken),
            people=tuple(self.people[i] for i in taken),
            durations_s=tuple(self.durations_s[i] for i in taken),
        )


@torch.inference_mode()
def branch_from_run(
    run: Path, embedding: Embedding, training_windows: Array, actions: Sequence[str]
) -> tuple[FrozenBranch, dict[str, Any]]:
    """Load a training run; mean, projection and cohort are taken over `training_windows` (N, T, 25, 3) of `actions`.

    Raises ConfigError, or BundleError where T does not allow the embedding.
    """
    skeleton, about = load_run(run)
    windows, num_persons = about["config"]["windows"], skeleton.encoder.config.num_persons
    if windows != "device" or num_persons != 1:
        raise BundleError(
            f"{run} was trained on the windows {windows!r} of {num_persons} persons: "
            "expected those that a device makes, of one person",
            hint='Train with the preset 2-cores, or with windows = "device" and num_persons = 1 in --config.',
        )
    branch = FrozenBranch(skeleton, embedding).eval()
    num_frames = training_windows.shape[1]
    num_left = skeleton.encoder.config.frames_after(num_frames)
    if num_frames % ALIGNED_FRAMES or (embedding == "joints" and num_left % NUM_QUARTERS):
        raise BundleError(
            f"windows have {num_frames} frames: expected a multiple of {ALIGNED_FRAMES} and, for the embedding "
            f"`joints`, that the encoder leaves a multiple of {NUM_QUARTERS} of them; it leaves {num_left}",
            hint="Train with --num-frames 32 or 64.",
        )
    channels = len(branch.mean_C)
    total, products, count = torch.zeros(channels).double(), torch.zeros(channels, channels).double(), 0
    for start in range(0, len(training_windows), 64):
        batch = torch.from_numpy(training_windows[start : start + 64])
        places = branch.places(skeleton.features(batch[:, None])[0]).flatten(0, 1).double()
        total += places.sum(dim=0)
        products += places.T @ places
        count += len(places)
    mean_C = total / count
    if embedding == "joints":
        branch.projection = whitening(products / count - torch.outer(mean_C, mean_C)).float()
    branch.mean_C = mean_C.float()
    learned_NE = torch.from_numpy(embed(branch, training_windows)[0][:, : -ALIGNED_FRAMES * 75])
    is_of_KN = torch.tensor([[action == name for action in actions] for name in sorted(set(actions))])
    branch.cohort_KE = nn.functional.normalize(is_of_KN.float() @ learned_NE, dim=1)
    return branch, about


def read_clips(paths: Sequence[Path], num_frames: int) -> Clips:
    """Return all clips of archives, the first person of each. Raises ArchiveError."""
    windows, actions, people, durations_s = [], [], [], []
    for path in paths:
        archive = read_archive(path)
        for i in range(len(archive)):
            clip = archive[i]
            windows.append(window_from_movement(clip.persons[0], num_frames))
            actions.append(clip.action)
            people.append((clip.archive, clip.subject))
            durations_s.append(clip.persons[0].duration_s)
    return Clips(
        windows_NTVC=np.array(windows, np.float32),
        actions=tuple(actions),
        people=tuple(people),
        durations_s=tuple(durations_s),
    )


def some_of_each(actions: Sequence[str], most: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the numbers of `most` clips of each action, drawn at random, or of all that it has."""
    order = rng.permutation(len(actions))
    drawn = np.array(actions)[order]
    return np.concatenate([order[drawn == action][:most] for action in sorted(set(actions))])


def fit_alignment_weight(embeddings_NE: Array) -> float:
    """Return the weight that makes the alignment's cost spread by _ALIGNMENT_SHARE of the cosine's, over all pairs."""
    clips = take_apart(embeddings_NE, ALIGNED_FRAMES, has_cohort=True)
    cosine = distances_between(clips, clips, 0.0)
    cost = distances_between(clips, clips, 1.0) - cosine
    pairs = np.triu_indices(len(clips), 1)
    return round(_ALIGNMENT_SHARE * float(cosine[pairs].std() / max(float(cost[pairs].std()), 1e-9)), 6)


def fit_score_curve(
    embeddings_NE: Array,
    actions: Sequence[str],
    people: Sequence[tuple[str, int]],
    source: str,
    *,
    alignment_weight: float,
    fmr: float = FALSE_MATCH_RATE,
) -> ScoreCurve:
    """Choose the score's midpoint and slope from pairs of clips by different people of one archive.

    Midpoint: the distance that a share `fmr` of the pairs of different actions stays below (false
    match rate). Slope: so that what is nearer by the standard deviation of all pairs scores 0.9.
    """
    action, archive, subject = (
        np.array(actions),
        np.array([p[0] for p in people]),
        np.array([p[1] for p in people]),
    )
    clips = take_apart(embeddings_NE, ALIGNED_FRAMES, has_cohort=True)
    distances = distances_between(clips, clips, alignment_weight, COHORT_WEIGHT)
    comparable = (archive[:, None] == archive) & (subject[:, None] != subject)
    same = action[:, None] == action
    genuine, impostor = distances[comparable & same], distances[comparable & ~same]
    if not len(genuine) or not len(impostor):
        raise BundleError("a score curve needs clips of at least two actions by two people each")
    midpoint = float(np.quantile(impostor, fmr))
    slope = float(np.log(9.0)) / max(float(np.std(np.concatenate((genuine, impostor)))), 1e-3)
    missed = float((genuine > midpoint).mean())
    return ScoreCurve(
        midpoint=round(midpoint, 6),
        slope=round(slope, 6),
        source=f"{source}: {len(genuine)} pairs of the same action, {len(impostor)} of different ones, by different "
        f"people; at the distance {midpoint:.3f} {fmr:.1%} of the different match and {missed:.0%} of the same do not",
    )
