"""`crossglg-edge evaluate stream`: the recognizer and DTW over streams, and what is printed.

Shapes: L frames, V = 25 kinect25 joints, N windows, P prototypes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from edge.config import Config, Events
from edge.model.bundle import read_bundle
from edge.model.choose import open_encoder
from edge.model.encoder import Encoder
from edge.motion.dtw import dtw_distances
from edge.motion.preprocess import fill_missing
from streams.archive import Archive, read_archive
from streams.arrays import Array
from streams.errors import ArchiveError
from streams.layouts import KINECT25_JOINTS
from streams.performer import perform
from training.cli.evaluate import evaluate
from training.evaluate.live.dtw import DTW_FACTORS, DtwPrototypes, JointsEncoder, background_of, dtw_index
from training.evaluate.live.evaluate import (
    Build,
    best_factors,
    dtw_method,
    evaluate_streams,
    outcome_of,
    play,
    tuned_dtw_method,
)
from training.evaluate.live.rates import fit_rates
from training.evaluate.live.score import Emitted, Outcome, outcome
from training.evaluate.live.stream import Action, prototypes_of
from training.evaluate.live.streams_of_clips import build_streams

ACTIONS = ("wave", "bow", "raise_arms", "clap", "squat", "kick")
# Of the tiny bundle's scores 0.85 tells the performer's actions apart.
CONFIG = Config(events=Events(min_score=0.85))
WAVE = Action(label="wave", start_s=1.0, end_s=2.0)
TOLD = Emitted(label="wave", body=0, start_s=1.0, end_s=2.0, onset_s=2.0, wall_ms=1.0)
FIGURES = {"f1", "precision", "recall", "false_alarms_per_hour", "hours", "delay_p50_ms", "delay_p90_ms"}


def write(path: Path, subjects: tuple[int, ...] = (1, 2), actions: tuple[str, ...] = ACTIONS) -> Path:
    """Write an archive of synthetic people who do each action twice."""
    takes = [(action, subject) for subject in subjects for action in actions for _ in (0, 1)]
    joints = [fill_missing(perform(action, seed=subject)).joints_m for action, subject in takes]
    np.savez(
        path,
        frames=np.concatenate(joints),
        offsets=np.cumsum([0, *map(len, joints)]),
        label=np.array([actions.index(action) for action, _ in takes]),
        subject=np.array([subject for _, subject in takes]),
        class_names=np.array(actions),
        joint_names=np.array(KINECT25_JOINTS),
        fps=30.0,
    )
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("archives") / "people.npz")


@pytest.fixture(scope="module")
def archive(path: Path) -> Archive:
    return read_archive(path)


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Path) -> Encoder:
    return open_encoder(tiny_bundle)


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(evaluate, ["stream", *map(str, args)])


def test_what_is_enrolled_is_recognized_when_another_acts_it(archive: Archive, encoder: Encoder) -> None:
    found = evaluate_streams([archive], encoder, CONFIG, build=Build(num_labels=3, num_streams=1))
    for score in found.total.values():
        assert score.num_actions == 6
        assert score.f1 > 0.5
        assert score.hours == pytest.approx(score.hours_of["other"] + score.hours_of["rest"])
    assert found.total == found.archives["people"]
    assert found.slices == {}


def test_an_event_is_told_in_the_time_of_the_stream(archive: Archive, encoder: Encoder) -> None:
    (stream, *_), _ = build_streams(archive, num_labels=3)
    background = background_of(archive, stream, CONFIG, encoder.info.num_frames)
    told = play(stream, tuned_dtw_method(encoder.info, CONFIG, 0.9, background))
    assert told
    for event in told:
        assert event.start_s <= event.onset_s <= stream.timestamps_s[-1]
        assert event.start_s < event.end_s
        # Decisions come with frames.
        assert np.abs(stream.timestamps_s - event.onset_s).min() < 1e-9
        assert event.wall_ms > 0


def test_tuned_dtw_measures_distances_by_a_prototypes_background_and_remembers_them_right(
    archive: Archive, encoder: Encoder
) -> None:
    (stream, *_), _ = build_streams(archive, num_labels=3)
    background = background_of(archive, stream, CONFIG, encoder.info.num_frames)
    known: dict[bytes, Array] = {}
    method = tuned_dtw_method(encoder.info, CONFIG, 0.7, background, known)
    prototypes = sorted(prototypes_of(stream, method.encoder), key=lambda prototype: prototype.label)
    index = method.make_index(prototypes, method.encoder.info)
    frames_PTD, background_NTD = (
        x.reshape(len(x), encoder.info.num_frames, 75)
        for x in (np.stack([p.embedding for p in prototypes]), method.encoder.encode(background))
    )
    units_P = np.quantile(dtw_distances(background_NTD, frames_PTD), 0.01, axis=0)
    expected_NP = dtw_distances(background_NTD[:4], frames_PTD) / units_P
    for _ in ("computed", "remembered"):
        for window, expected_P in zip(method.encoder.encode(background[:4]), expected_NP, strict=True):
            distances_K, _ = index.distances(window[None], np.ones((1, 3), np.bool_))
            assert distances_K == pytest.approx(expected_P, rel=1e-3)
    assert len(known) == 4
    play(stream, method)
    assert len(known) > 4
    fresh = play(stream, tuned_dtw_method(encoder.info, CONFIG, 1.0, background))
    again = play(stream, tuned_dtw_method(encoder.info, CONFIG, 1.0, background, known))
    assert fresh
    assert [(e.label, e.onset_s, e.end_s) for e in again] == [(e.label, e.onset_s, e.end_s) for e in fresh]


def test_calibrated_dtw_measures_distances_by_a_prototypes_own_motion_wherever_the_body_holds_still(
    encoder: Encoder,
) -> None:
    method = dtw_method(encoder.info, CONFIG, 0.5)
    rng = np.random.default_rng(0)
    windows = rng.normal(0, 0.5, (2, encoder.info.num_frames, 25, 3)).astype(np.float32)
    held = windows + rng.normal(0, 0.5, (1, 1, 25, 3)).astype(np.float32)
    still = np.repeat(held[:1, :1], encoder.info.num_frames, axis=1)
    (example,) = method.encoder.encode(windows[:1])
    index = DtwPrototypes([example], method.encoder.info)
    same, other, none = index.distances(method.encoder.encode(np.concatenate((held, still))))[:, 0]
    assert same == pytest.approx(0, abs=1e-3)
    assert none == pytest.approx(1, rel=1e-3)
    assert other > 0.5
    (twice,) = DtwPrototypes([2 * example], method.encoder.info).distances(2 * method.encoder.encode(held[1:]))[:, 0]
    assert twice == pytest.approx(other, rel=1e-3)


def test_dtw_alarms_at_its_midpoint_as_often_as_its_rates_say(archive: Archive, encoder: Encoder) -> None:
    (stream, *_), _ = build_streams(archive, num_labels=3)
    rates = fit_rates([stream], JointsEncoder(encoder.info, 1.0), Config(), dtw_index)
    assert rates is not None
    strict, lax = (
        outcome_of(stream, play(stream, dtw_method(encoder.info, Config(), rates.distances[i]))) for i in (0, -1)
    )
    assert strict.num_missed == round(rates.missed[0] * 6) > lax.num_missed


def test_background_is_of_others_who_do_nothing_enrolled(path: Path, encoder: Encoder, tmp_path: Path) -> None:
    """The performer's own clips, and those of enrolled labels, are blanked: what is cut must stay the same."""
    archive = read_archive(path)
    (stream, *_), _ = build_streams(archive, num_labels=3)
    before = background_of(archive, stream, CONFIG, encoder.info.num_frames)
    for i in range(len(archive)):
        if archive[i].subject == 1 or archive[i].label in stream.enrolled:
            archive.persons[0][archive.offsets[i] : archive.offsets[i + 1]] = 0
    np.testing.assert_array_equal(background_of(archive, stream, CONFIG, encoder.info.num_frames), before)
    assert before.shape == (500, encoder.info.num_frames, 25, 3)


def test_the_factor_of_dtw_is_chosen_by_the_streams_of_others() -> None:
    right, nothing = (outcome("x", [WAVE], [], events, 100.0) for events in ([TOLD], []))
    by_factor: dict[str, dict[float, Outcome]] = {
        "a": {factor: right if factor == 0.8 else nothing for factor in DTW_FACTORS},
        "b": {factor: right if factor == 1.0 else nothing for factor in DTW_FACTORS},
    }
    assert best_factors(by_factor) == {"a": 1.0, "b": 0.8}
    assert best_factors({"a": by_factor["a"]}) == {"a": 0.8}


def test_json_has_the_figures_of_both_by_archive_and_slice(path: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[events]\nmin_score = 0.85\n", encoding="utf-8")
    negatives = write(tmp_path / "others.npz", subjects=(7,), actions=("jumping_jack", "swipe"))
    options: list[str | Path] = [
        "--encoder",
        tiny_bundle,
        "--config",
        config,
        "--num-labels",
        "3",
        "--num-streams",
        "1",
        "--json",
    ]
    content = json.loads(run(path, *options, "--negatives", negatives, "--slice", "id-swap").stdout)
    assert list(content["archives"]) == ["people"]
    assert list(content["slices"]) == ["id-swap"]
    for row in (content, content["archives"]["people"], content["slices"]["id-swap"]):
        for figures in (row, row["dtw"], row["dtw_tuned"]):
            assert figures.keys() >= FIGURES
            assert 0 <= figures["f1"] <= 1
            assert figures["hours"] > 0
            assert figures["ci95"].keys() >= FIGURES - {"hours"}
    assert "dtw" not in content["dtw"]
    assert "dtw_tuned" not in content["dtw"]
    assert content["dtw"]["f1"] == content["dtw_tuned"]["f1"], "this bundle was given no threshold of DTW"
    assert any("no threshold of DTW" in note for note in content["notes"])
    assert content["num_actions"] == 6
    # Who enrolled acts beside, but not the examples again.
    assert content["slices"]["id-swap"]["num_actions"] == 6 + 3
    (stream, *_), _ = build_streams(read_archive(path), num_labels=3)
    longer_s = len(read_archive(negatives).persons[0]) / 30
    assert 3600 * sum(content["hours_of"].values()) == pytest.approx(stream.seen_s + longer_s, abs=0.1)


def test_dtw_has_the_threshold_that_the_bundle_was_given(archive: Archive, tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    info, _ = read_bundle(bundle)
    (bundle / "bundle.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(info, dtw_midpoint=1e-6)))
    found = evaluate_streams([archive], open_encoder(bundle), CONFIG, build=Build(num_labels=3, num_streams=1))
    assert found.total["dtw"].num_events == 0
    assert found.total["dtw_tuned"].num_events > 0
    assert found.notes == ()


def test_a_figure_that_there_is_none_of_is_null(path: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[events]\nmin_score = 1.0\n", encoding="utf-8")
    options: list[str | Path] = ["--encoder", tiny_bundle, "--config", config, "--num-streams", "1", "--json"]
    content = json.loads(run(path, *options).stdout, parse_constant=pytest.fail)
    assert (content["f1"], content["delay_p50_ms"], content["false_alarms_per_hour"]) == (0, None, 0)
    assert content["ci95"]["false_alarms_per_hour"] == pytest.approx([0, 3 / content["hours"]])


def test_the_table_says_what_was_left_alone(path: Path, tiny_bundle: Path) -> None:
    result = run(path, "--encoder", tiny_bundle, "--num-streams", "1", "--num-labels", "2")
    assert result.exit_code == 0, result.output
    for expected in (
        "people",
        "all",
        "DTW",
        "DTW tuned",
        "false while an enrolled action was done",
        "at rest and in between",
    ):
        assert expected in result.stdout


def test_an_unknown_slice_is_refused_with_those_known(path: Path) -> None:
    result = run(path, "--slice", "upside-down")
    assert result.exit_code == 2
    assert "upside-down" in result.stderr
    assert "id-swap" in result.stderr


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (["people.npz", "people.npz"], "two archives have one name: people, people"),
        (["missing.npz"], "does not exist"),
    ],
)
def test_archives_that_cannot_be_used_are_refused(path: Path, tiny_bundle: Path, names: list[str], error: str) -> None:
    result = run(*(path.with_name(name) for name in names), "--encoder", tiny_bundle)
    assert isinstance(result.exception, ArchiveError)
    assert error in str(result.exception)
