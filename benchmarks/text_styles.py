"""How much texts say of embeddings, without any training: the shipped styles, beside each other and permuted.

    python benchmarks/text_styles.py --data DIR [--texts claude,claude-contrastive] [--clips 30]

DIR holds protocol.json and its archives. A ridge regression from base actions' texts to their mean embeddings predicts
what unseen actions look like; each clip of these is named by the nearest prediction. Prints Markdown.

Shapes: N clips, D values of an embedding's learned part, B base actions, A unseen ones, C features of a text.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.model import Encoder, embed_movements, open_encoder
from edge.words import fit_predictor
from streams.archive import read_archive
from streams.arrays import Array
from streams.movement import Movement
from training.evaluate import read_protocol
from training.texts import read_text_features

Floats = npt.NDArray[np.float64]
KINDS = ("global", "joints", "both")
# Each of 90 base actions is held out twice.
FOLDS, WAYS, PERMUTATIONS = 9, 20, 20


def embed_clips(encoder: Encoder, data: Path, sets: tuple[str, ...], most: int) -> dict[str, Floats]:
    """Return the learned parts of at most so many clips of each action, by action, (N, D), of length 1."""
    rng = np.random.default_rng(0)
    movements: dict[str, list[Movement]] = {}
    for name in sets:
        archive = read_archive(data / f"{name}.npz")
        for i in rng.permutation(len(archive)).tolist():
            some = movements.setdefault(archive.actions[archive.labels[i]], [])
            if len(some) < most:
                some.append(archive[i].persons[0])
    return {
        action: unit(embed_movements(encoder, some)[:, : encoder.info.num_learned].astype(np.float64))
        for action, some in movements.items()
    }


def recall(texts_C: dict[str, Array], clips: dict[str, Floats], base: list[str], unseen: list[str]) -> Floats:
    """Return the share of each unseen action's clips that are named rightly, (1 + PERMUTATIONS, A).

    First by the texts as they are, then by permuted ones.
    """
    means_BD = unit(np.array([clips[action].mean(axis=0) for action in base]))
    shares = fit_predictor(np.array([texts_C[action] for action in base]), np.arange(len(base)), len(base))
    predicted_AD = unit(np.array([shares(texts_C[action]) @ (means_BD - means_BD.mean(axis=0)) for action in unseen]))
    # Which prediction each clip is nearest to; with permuted texts it stands for another action.
    nearest = [np.argmax((clips[action] - means_BD.mean(axis=0)) @ predicted_AD.T, axis=1) for action in unseen]
    rng = np.random.default_rng(0)
    orders = [np.arange(len(unseen)), *(rng.permutation(len(unseen)) for _ in range(PERMUTATIONS))]
    return np.array([[(order[named] == a).mean() for a, named in enumerate(nearest)] for order in orders])


def unit(x: Floats) -> Floats:
    """Return the vectors along the last axis, of length 1."""
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def features(llm: str, kind: str, actions: list[str]) -> dict[str, Array]:
    """Return what a regression gets of each action's texts."""
    read = read_text_features(llm, actions)
    # Each sentence counts alike among the joints, and the global text as much as all of them.
    joints_AC = unit(read.t_AVC - read.t_AVC.mean(axis=0)).reshape(len(actions), -1) / 5
    global_AC = unit(read.g_AC - read.g_AC.mean(axis=0))
    chosen = {"global": global_AC, "joints": joints_AC, "both": np.concatenate([global_AC, joints_AC], axis=1)}[kind]
    return dict(zip(actions, chosen.astype(np.float32), strict=True))


def interval(values: Floats) -> str:
    """Return a mean with its 95 % interval over actions, in %."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{100 * values.mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", default="claude,claude-contrastive")
    parser.add_argument("--clips", type=int, default=30)
    args = parser.parse_args()
    protocol = read_protocol(args.data / "protocol.json")
    clips = embed_clips(open_encoder(None), args.data, protocol.sets, args.clips)
    novel, base = [*protocol.novel], [*protocol.base_order]
    order = np.random.default_rng(0).permutation(len(base))
    print("| texts | sentences | 20 novel actions | permuted | 20 held-out base actions, 9 times | permuted |")
    print("|---|---|---|---|---|---|")
    of_novel: dict[tuple[str, str], Floats] = {}
    of_base: dict[tuple[str, str], Floats] = {}
    llms = args.texts.split(",")
    for llm in llms:
        for kind in KINDS:
            texts = features(llm, kind, novel + base)
            found = recall(texts, clips, base, novel)
            held_out = np.zeros((1 + PERMUTATIONS, len(base)))
            for fold in range(FOLDS):
                held = np.roll(order, -fold * len(base) // FOLDS)[:WAYS]
                rest = [base[i] for i in sorted({*order.tolist()} - {*held.tolist()})]
                held_out[:, held] += recall(texts, clips, rest, [base[i] for i in held]) * len(base) / FOLDS / WAYS
            of_novel[llm, kind], of_base[llm, kind] = found[0], held_out[0]
            print(
                f"| {llm} | {kind} | {interval(found[0])} | {100 * found[1:].mean():.1f} | {interval(held_out[0])} | "
                f"{100 * held_out[1:].mean():.1f} |"
            )
    for llm in llms[1:]:
        for kind in KINDS:
            of = [interval(found[llm, kind] - found[llms[0], kind]) for found in (of_novel, of_base)]
            print(f"| {llm} - {llms[0]} | {kind} | {of[0]} | | {of[1]} | |")


if __name__ == "__main__":
    main()
