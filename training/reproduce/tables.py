"""A table, from its rows to its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from training.model import fixed_calibration_loss
from training.reproduce.baselines import Baseline
from training.reproduce.measure import Accuracies
from training.reproduce.results import make_cell
from training.reproduce.rows import Arm, Row, rows_of
from training.reproduce.runner import Material, Run, Scores, dtw_scores
from training.reproduce.setup import Setup, is_built
from training.reproduce.write import OWN, FoundRow, write_table
from training.run import deviations, load_guidance

_SUPCON = "`pooled` is its own way: the nearest example by the embedding that SupCon trains"
# Accuracies by method, a seed each.
BySeed = list[dict[str, Accuracies]]


def arms_of(setup: Setup) -> list[Arm]:
    """Return the arms that a table trains: those whose encoder is built."""
    arms = [row.arm for row in rows_of(setup.name, setup.texts) if row.arm is not None]
    return [arm for arm in dict.fromkeys(arms) if is_built(arm)]


def make_table(
    material: Material, runs: Mapping[tuple[Arm, int, int], Run], baselines: Mapping[str, Baseline]
) -> list[Path]:
    """Write a table of measured runs and of baselines; return the paths of its files.

    Raises ArchiveError, ConfigError.
    """
    setup = material.setup
    rows = rows_of(setup.name, setup.texts)
    by_row = {row.title: _accuracies(material, row, runs, baselines) for row in rows}
    found = [_found(setup, row, by_row, runs, baselines) for row in rows]
    return write_table(setup, found, _notes(setup))


def _accuracies(
    material: Material, row: Row, runs: Mapping[tuple[Arm, int, int], Run], baselines: Mapping[str, Baseline]
) -> dict[int, BySeed]:
    """Return what a row gave, by number of base actions; nothing where it is not built."""
    setup = material.setup
    if row.arm is not None and is_built(row.arm):
        found = {n: [runs[row.arm, n, seed].scores().accuracies for seed in setup.seeds] for n in setup.columns}
        return {num_base: each for num_base, each in found.items() if all(each)}
    if row.baseline is not None:
        of_seeds = baselines[row.baseline].accuracies
        return {num_base: [{OWN: each} for each in accuracies] for num_base, accuracies in of_seeds.items()}
    if row.arm is None:
        dtw = dtw_scores(material)
        return {num_base: [{OWN: dtw}] for num_base in setup.columns}
    return {}


def _found(
    setup: Setup,
    row: Row,
    by_row: Mapping[str, dict[int, BySeed]],
    runs: Mapping[tuple[Arm, int, int], Run],
    baselines: Mapping[str, Baseline],
) -> FoundRow:
    own, others = by_row[row.title], {title: by_row[title] for title in row.less if title in by_row}
    if row.arm is not None and not is_built(row.arm):
        return FoundRow(row=row, missing=f"not built: the encoder {row.arm.encoder!r} is not in this version")
    cells = {
        num_base: make_cell(seeds, {title: other[num_base] for title, other in others.items() if num_base in other})
        for num_base, seeds in own.items()
    }
    if row.baseline is not None:
        made = baselines[row.baseline]
        return FoundRow(row=row, cells=cells, parameters=made.parameters, notes=made.notes, missing=made.missing)
    if row.arm is None:
        return FoundRow(row=row, cells=cells)
    scores = {n: [runs[row.arm, n, seed].scores() for seed in setup.seeds] for n in setup.columns}
    notes = [
        f"{num_base} base actions, seed {seed}: {each.diverged}"
        for num_base, of_seeds in scores.items()
        for seed, each in zip(setup.seeds, of_seeds, strict=True)
        if each.diverged
    ]
    is_supcon = setup.train_config(row.arm, setup.columns[0], 0).classifier == "supcon"
    return FoundRow(
        row=row,
        cells=cells,
        notes=(*((_SUPCON,) if is_supcon else ()), *notes),
        parameters=scores[setup.columns[-1]][0].parameters,
        endings={
            num_base: _ending(each) | _fixed(setup, row.arm, num_base)
            for num_base, each in scores.items()
            if num_base in cells
        },
    )


def _ending(scores: Sequence[Scores]) -> dict[str, float]:
    """Return the last epoch's losses, their mean over the seeds."""
    return {
        "epochs": scores[0].epochs,
        **{name: fmean(each.losses[name] for each in scores) for name in scores[0].losses},
    }


def _fixed(setup: Setup, arm: Arm, num_base: int) -> dict[str, float]:
    """Return what L_calibrate weights that no class changes would have."""
    config = setup.train_config(arm, num_base, 0)
    if not config.guidance.global_to_local:
        return {"fixed_calibrate": 0.0}
    guidance = load_guidance(config.descriptions, setup.base(num_base), config.text_encoder)
    return {"fixed_calibrate": fixed_calibration_loss(guidance.key_joints_AV, config.guidance)}


def _notes(setup: Setup) -> list[str]:
    notes = []
    if setup.name == "appendix3":
        notes.append("an alpha of 0 is that way of guidance left out, as the paper's numbers have it (its Table 4)")
    if setup.protocol_name == "kinetics":
        notes.append("trained on kinetics_train, tested on kinetics_val")
    if setup.choices.preset == "paper":
        notes += [f"not as in the paper: {told}" for told in deviations(setup.train_config(Arm(), setup.columns[0], 0))]
    return notes
