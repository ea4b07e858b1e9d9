"""Whether a threshold travels: the F1 at many thresholds, and which one others choose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge.config import Config
from edge.model.choose import open_encoder
from streams.continuous import read_continuous
from training.evaluate.live.evaluate import Method, outcome_of, play_and_keep
from training.evaluate.live.recordings import Enrollment, evaluate_recordings, streams_with_own_examples
from training.evaluate.live.score import f1_of
from training.evaluate.live.travel import FACTORS, choose, f1_by_factor

if TYPE_CHECKING:
    from tests.conftest import WriteRecordings


def test_the_strictest_threshold_is_taken_that_costs_little() -> None:
    peak = np.zeros(len(FACTORS))
    peak[30:40] = [0.5, 0.55, 0.585, 0.59, 0.6, 0.6, 0.59, 0.5, 0.4, 0.3]
    assert choose([peak]) == 32
    # Archives weigh alike.
    other = np.zeros(len(FACTORS))
    other[38] = 0.9
    assert choose([peak, other]) == 38


def test_the_f1_at_the_default_threshold_is_what_the_recognizer_gives(
    tmp_path: Path, tiny_bundle: Path, write_recordings: WriteRecordings
) -> None:
    encoder, config = open_encoder(tiny_bundle), Config()
    archive = read_continuous(write_recordings(tmp_path / "own.npz"))
    played, outcomes = [], []
    for stream in streams_with_own_examples(archive, config, Enrollment(num_labels=3)):
        told, decisions = play_and_keep(stream, Method(encoder=encoder, config=config))
        played.append((stream, decisions))
        outcomes.append(outcome_of(stream, told))
    f1_F = f1_by_factor(played, encoder.info.score_curve, config.events)
    assert f1_F[np.flatnonzero(FACTORS == 1.0)[0]] == pytest.approx(f1_of(outcomes))
    assert f1_F.max() > f1_F.min()


def test_a_threshold_travels_from_the_other_archives_alone(
    tmp_path: Path, tiny_bundle: Path, write_recordings: WriteRecordings
) -> None:
    encoder = open_encoder(tiny_bundle)
    paths = [
        write_recordings(tmp_path / "a.npz"),
        write_recordings(tmp_path / "b.npz", subjects=(7, 8), actions=("clap", "kick", "bow")),
    ]
    both = evaluate_recordings(paths, encoder, Config()).travels
    assert {*both} == {"a", "b"}
    for name, other in (("a", "b"), ("b", "a")):
        factor = both[name].others_factor
        assert factor is not None
        assert factor <= both[other].best_factor
        assert both[name].best_f1 >= (both[name].others_f1 or 0.0)
    (alone,) = evaluate_recordings(paths[:1], encoder, Config()).travels.values()
    assert (alone.others_f1, alone.others_factor) == (None, None)
    assert alone.best_f1 == both["a"].best_f1
