"""Train the arms of the paper's Table 4 on the open protocol, and compare them one-shot, with DTW in the same run.

    python benchmarks/one_shot_table.py --data DIR --runs DIR [--base 20,80] [--seeds 3] [--windows 8000] [--jobs 2]

DIR holds protocol.json and its archives. Arms that are trained already are not trained again, so a run
that was stopped goes on. Each training has one thread. Prints Markdown.

Shapes: N clips of the novel actions, E values of an embedding, F features.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ARMS = {
    "InfoGCN": (False, False),
    "InfoGCN + global-to-local": (True, False),
    "InfoGCN + local-to-global": (False, True),
    "InfoGCN + both": (True, True),
}
UNTRAINED = "untrained encoder"
DRAWS, CALIBRATED_DRAWS = 100, 20
Accuracies = npt.NDArray[np.float64]


def measure(job: tuple[str, int, int, int, Path, Path]) -> tuple[tuple[str, int, int], dict[str, list[float]]]:
    """Train one arm, or find it trained; return the accuracy of each draw, by method."""
    arm, num_base, seed, num_windows, data, runs = job
    run = runs / f"base{num_base}_{arm.replace(' ', '').replace('+', '_')}_seed{seed}"
    scores = run / "scores.json"
    if scores.exists():
        return (arm, num_base, seed), json.loads(scores.read_text())
    import torch

    from training.data import load_training_set
    from training.evaluate import read_protocol
    from training.run import TrainConfig, load_guidance, train

    torch.set_num_threads(1)
    protocol = read_protocol(data / "protocol.json")
    archives = [data / f"{name}.npz" for name in protocol.sets]
    base = load_training_set(archives, actions=protocol.base_order[:num_base])
    config = TrainConfig.preset("2-cores")
    to_local, to_global = ARMS.get(arm, (False, False))
    guidance = replace(config.guidance, global_to_local=to_local, local_to_global=to_global)
    epochs = max(1, round(num_windows / len(base)))
    config = replace(config, guidance=guidance, seed=seed, epochs=epochs)
    if arm == UNTRAINED:
        # One step without a learning rate: fresh weights, and no statistics of normalization but a batch's.
        config = replace(config, lr=0.0, epochs=1)
    train(base, config, run, guidance=load_guidance(config.descriptions, base.classes) if config.needs_texts else None)
    result = evaluate(run, base, protocol.novel, data, archives)
    scores.write_text(json.dumps(result))
    return (arm, num_base, seed), result


def evaluate(run: Path, base: Any, novel: tuple[str, ...], data: Path, archives: list[Path]) -> dict[str, list[float]]:
    """Return the balanced accuracy of each draw on the novel actions: learned part, device's distance, calibrated."""
    from edge.match import distances_between, take_apart
    from edge.model import base_statistics
    from edge.motion import window_from_movement
    from export.fit import branch_from_run, fit_alignment_weight
    from export.frozen import ALIGNED_FRAMES, embed
    from training.evaluate import By, accuracies, clip_distances, distribution_accuracies, protocol_draws, read_clips

    shuffled = np.random.default_rng(0).permutation(len(base))
    labels = base.labels[shuffled]
    # Up to 30 clips of each base class say enough about its mean, spread and covariance.
    chosen = shuffled[np.concatenate([np.flatnonzero(labels == label)[:30] for label in np.unique(labels)])]
    chosen = np.random.default_rng(0).permutation(chosen)
    known = np.stack([window_from_movement(base.clips[i][0], 32) for i in chosen])
    actions = [base.classes[base.labels[i]] for i in chosen]
    branch, _ = branch_from_run(run, "joints", known[:1000], actions[:1000])
    known_embeddings, known_features = embed(branch, known)
    weight = fit_alignment_weight(known_embeddings[:1000])
    clips = read_clips(sorted(archives), name="novel", by=By.ACTION, classes=novel)
    embeddings, features = embed(branch, np.stack([window_from_movement(movement, 32) for movement in clips.movements]))
    draws = protocol_draws(clips.labels, clips.subjects, DRAWS)

    def nearest(alignment_weight: float) -> list[float]:
        def compare(a: Any, b: Any) -> Any:
            # The arms are held against each other without the cohort, which tells what is enrolled from what is not.
            a, b = (take_apart(each, ALIGNED_FRAMES, has_cohort=True) for each in (a, b))
            return distances_between(a, b, alignment_weight)

        def between(exemplars: Any, queries: Any) -> Any:
            return clip_distances(embeddings, clips.persons[exemplars], clips.persons[queries], compare)

        return [float(share) for share in accuracies(clips.labels, draws, between)]

    statistics = base_statistics(known_features, base.labels[chosen], base.classes, encoder_sha256="")
    calibrated = distribution_accuracies(clips, draws[:CALIBRATED_DRAWS], features, statistics)
    return {"cosine": nearest(0.0), "cosine + alignment": nearest(weight), "calibrated": calibrated.tolist()}


def dtw(data: Path) -> Accuracies:
    """Return the balanced accuracy of each draw by DTW."""
    from edge.motion import dtw_distances
    from training.evaluate import (
        By,
        accuracies,
        clip_distances,
        dtw_features,
        protocol_draws,
        read_clips,
        read_protocol,
    )

    protocol = read_protocol(data / "protocol.json")
    clips = read_clips(
        [data / f"{name}.npz" for name in sorted(protocol.sets)], name="novel", by=By.ACTION, classes=protocol.novel
    )
    features = dtw_features(clips)
    draws = protocol_draws(clips.labels, clips.subjects, DRAWS)
    return accuracies(
        clips.labels,
        draws,
        lambda e, q: clip_distances(features, clips.persons[e], clips.persons[q], dtw_distances),
    )


def interval(accuracies_SD: Accuracies) -> str:
    """Return mean and 95 % interval in %, by bootstrap over seeds and over draws."""
    rng = np.random.default_rng(0)
    num_seeds, num_draws = accuracies_SD.shape
    means = [
        accuracies_SD[rng.integers(num_seeds, size=num_seeds)][:, rng.integers(num_draws, size=num_draws)].mean()
        for _ in range(2000)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{100 * accuracies_SD.mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--base", default="20,80")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--windows", type=int, default=8_000, help="windows that a training sees, of any base set")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    bases = [int(number) for number in args.base.split(",")]
    jobs = [
        (arm, base, seed, args.windows, args.data, args.runs)
        for base in bases
        for seed in range(args.seeds)
        for arm in (UNTRAINED, *ARMS)
    ]
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        found = dict(pool.map(measure, jobs))
    by_dtw = dtw(args.data)
    methods = ("cosine", "cosine + alignment", "calibrated")
    print("| | base actions | " + " | ".join(methods) + " |\n|---|---|" + "---|" * len(methods))
    print(f"| DTW | none | {interval(by_dtw[None])} | | |")
    for base in bases:
        plain = None
        for arm in (UNTRAINED, *ARMS):
            rows = {m: np.array([found[arm, base, seed][m] for seed in range(args.seeds)]) for m in methods}
            print(f"| {arm} | {base} | " + " | ".join(interval(rows[m]) for m in methods) + " |")
            plain = rows if arm == "InfoGCN" else plain
            if plain is not None and arm != "InfoGCN":
                gains = " | ".join(interval(rows[m] - plain[m]) for m in methods)
                print(f"| ... less InfoGCN | {base} | {gains} |")
    print(f"\n{args.seeds} seeds, {args.windows} windows a training, {platform.processor() or platform.machine()}")


if __name__ == "__main__":
    main()
