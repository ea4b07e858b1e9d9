"""Thresholds by false alarms an hour: from a bundle's rates and the user's own movement to what the daemon does.

Shapes: D decisions, K labels.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from edge.cli.app import app
from edge.config import Config, Events, Model, read_config
from edge.daemon.background import Calibrating
from edge.daemon.commands import carry_out
from edge.library import open_library
from edge.match.index import PrototypeIndex
from edge.match.score import distance_at_score
from edge.model.bundle import Rates, ScoreCurve, read_bundle
from edge.model.choose import open_encoder
from edge.model.encoder import Encoder
from edge.motion.preprocess import fill_missing
from edge.protocol import ThresholdCalibrate, ThresholdGet, ThresholdPreview
from edge.thresholds.calibrate import thresholds_for, thresholds_in_force
from edge.thresholds.file import Limit, Thresholds, read_thresholds, thresholds_path, undo_change, write_thresholds
from edge.thresholds.replay import Decisions, all_spells, decisions_of, spells
from edge.thresholds.report import OTHER_MODEL
from export.rates import add_rates, rates_of, streams_of
from streams.archive import read_archive
from streams.errors import BundleError, ControlError, CrossGLGError, GalleryError
from streams.layouts import KINECT25_JOINTS
from streams.performer import perform
from training.evaluate.live.evaluate import Method, outcome_of, play, play_and_keep
from training.evaluate.live.rates import fit_rates
from training.evaluate.live.stream import Stream, prototypes_of
from training.evaluate.live.streams_of_clips import build_streams

if TYPE_CHECKING:
    from tests.conftest import MakeConfig, Serve

ACTIONS = ("wave", "bow", "raise_arms", "clap", "squat", "kick")
# Of the tiny bundle's scores 0.85 tells the performer's actions apart.
CONFIG = Config(events=Events(min_score=0.85))
CALIBRATION = ScoreCurve(midpoint=0.5, slope=10.0, source="none")
RATES = Rates(
    distances=(0.01, 0.05, 0.1, 0.2), alarms_per_hour=(0.1, 0.4, 2.0, 9.0), missed=(0.95, 0.4, 0.2, 0.1), hours=5.0,
    source="test",
)  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an archive of two synthetic people who do each action twice."""
    takes = [(action, subject) for subject in (1, 2) for action in ACTIONS for _ in (0, 1)]
    joints = [fill_missing(perform(action, seed=subject)).joints_m for action, subject in takes]
    path = tmp_path_factory.mktemp("archives") / "people.npz"
    np.savez(
        path,
        frames=np.concatenate(joints),
        offsets=np.cumsum([0, *map(len, joints)]),
        label=np.array([ACTIONS.index(action) for action, _ in takes]),
        subject=np.array([subject for _, subject in takes]),
        class_names=np.array(ACTIONS),
        joint_names=np.array(KINECT25_JOINTS),
        fps=30.0,
    )
    return path


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Path) -> Encoder:
    return open_encoder(tiny_bundle)


@pytest.fixture(scope="module")
def stream(path: Path) -> Stream:
    return build_streams(read_archive(path), num_labels=3)[0][0]


@pytest.fixture
def rated(tiny_bundle: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny bundle, with rates."""
    bundle = tmp_path / "rated"
    shutil.copytree(tiny_bundle, bundle)
    info, _ = read_bundle(bundle)
    (bundle / "bundle.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(info, rates=RATES)))
    return bundle


def found_at(distances: list[float], *, every_s: float = 0.2) -> Decisions:
    """Return the decisions about one label, whose windows begin a second before."""
    times_s = every_s * np.arange(len(distances), dtype=np.float64)
    return Decisions(
        labels=("wave",),
        times_s=times_s,
        distances_DK=np.array(distances, np.float32)[:, None],
        starts_s_DK=times_s[:, None] - 1.0,
    )


FAR = [np.inf] * 20


@pytest.mark.parametrize("min_score", [0.3, 0.5, 0.85])
@pytest.mark.parametrize(
    ("distances", "threshold", "expected"),
    [
        ([*FAR, 0.29, 0.29, 0.29, *FAR], 0.3, 1),
        ([*FAR, 0.31, 0.31, 0.31, *FAR], 0.3, 0),
        ([*FAR, 0.29, *FAR], 0.3, 0),
        ([*FAR, 0.29, 0.29, *FAR, 0.28, 0.28, *FAR], 0.3, 2),
        ([0.29] * 100, 0.3, 1),
        (FAR, 9.0, 0),
        ([], 0.3, 0),
    ],
)
def test_a_run_of_decisions_within_the_threshold_is_one_event(
    distances: list[float], threshold: float, expected: int, min_score: float
) -> None:
    events = Events(min_score=min_score)
    assert len(spells(found_at(distances), "wave", threshold, CALIBRATION, events)) == expected


def test_the_events_that_would_be_are_those_of_the_recognizer(stream: Stream, encoder: Encoder) -> None:
    # Of one label alone, or the best of several would win.
    (example, *_) = stream.examples
    one = replace(stream, examples=(example,))
    index = PrototypeIndex(prototypes_of(one, encoder), encoder.info)
    decisions = decisions_of(one.frames(), index, encoder, CONFIG)
    distance = distance_at_score(CONFIG.events.min_score, encoder.info.score_curve)
    found = spells(decisions, example.label, distance, encoder.info.score_curve, CONFIG.events)
    told = play(one, Method(encoder=encoder, config=CONFIG))
    assert told
    assert [(s.start_s, s.end_s, s.onset_s) for s in found] == [(e.start_s, e.end_s, e.onset_s) for e in told]


def test_the_events_of_all_labels_that_would_be_are_those_of_the_recognizer(stream: Stream, encoder: Encoder) -> None:
    told, decisions = play_and_keep(stream, Method(encoder=encoder, config=CONFIG))
    distance = distance_at_score(CONFIG.events.min_score, encoder.info.score_curve)
    found = all_spells(decisions, distance, encoder.info.score_curve, CONFIG.events)
    assert len({event.label for event in told}) > 1
    assert [(s.label, s.start_s, s.end_s, s.onset_s) for s in found] == [
        (e.label, e.start_s, e.end_s, e.onset_s) for e in told
    ]


def test_labels_share_the_false_alarms() -> None:
    assert thresholds_for(RATES, 2.0, ["a"]) == {"a": 0.1}
    assert thresholds_for(RATES, 2.0, ["a", "b"]) == {"a": 0.05, "b": 0.05}
    assert thresholds_for(RATES, 1000.0, ["a"]) == {"a": 0.2}
    assert thresholds_for(RATES, 0.01, ["a"]) == {"a": 0.01}


def test_a_threshold_is_by_hand_or_of_the_rates_or_of_negatives_and_says_what_it_costs() -> None:
    asked = Thresholds(
        false_alarms_per_hour=4.0,
        by_hand={"hand": 0.15},
        limits={"near": Limit(distance=0.05, num_alarms=0, num_before=3)},
        negative_hours=0.1,
    )
    # Half of 4 an hour for each.
    by_hand, plain = thresholds_in_force(asked, ["hand", "new"], CALIBRATION, RATES, Events())
    assert (by_hand.distance, by_hand.origin, by_hand.warning) == (0.15, "hand", "")
    assert by_hand.false_alarms_per_hour == pytest.approx(5.5)
    assert by_hand.missed == pytest.approx(0.15)
    assert (plain.distance, plain.origin, plain.false_alarms_per_hour, plain.missed) == (0.1, "rates", 2.0, 0.2)
    (near,) = thresholds_in_force(asked, ["near"], CALIBRATION, RATES, Events())
    assert (near.distance, near.origin, near.missed, near.warning) == (0.05, "negatives", 0.4, "")
    (own,) = thresholds_in_force(None, ["wave"], CALIBRATION, None, Events())
    assert (own.distance, own.origin, own.missed) == (CALIBRATION.midpoint, "bundle", None)


def test_where_no_threshold_can_meet_it_the_strictest_is_set_and_the_reasons_are_told() -> None:
    asked = Thresholds(
        false_alarms_per_hour=0.05,
        limits={"wave": Limit(distance=0.01, num_alarms=2, num_before=3)},
        negative_hours=1.0,
    )
    (found,) = thresholds_in_force(asked, ["wave"], CALIBRATION, RATES, Events())
    assert found.distance == 0.01
    assert found.warning == (
        "no threshold can meet it: the strictest has 0.1 false alarms an hour; 95% of the same action by others are "
        "missed; the strictest still alarms 2 times in your ordinary movement"
    )


# Rates


@pytest.mark.parametrize("is_mislabelled", [False, True])
def test_rates_tell_what_a_distance_gives(stream: Stream, encoder: Encoder, is_mislabelled: bool) -> None:
    """An example with another's label alarms whenever its own action is done."""
    (example, other, *_) = stream.examples
    example = replace(example, label=other.label) if is_mislabelled else example
    one = replace(stream, examples=(example,))
    rates = fit_rates([one], encoder, CONFIG)
    assert rates is not None
    own_s = sum(action.end_s - action.start_s + 0.5 for action in one.truth)
    assert rates.hours == pytest.approx((one.seen_s - own_s) / 3600, abs=1e-3)
    offset = distance_at_score(0.85, encoder.info.score_curve) - encoder.info.score_curve.midpoint
    for i in (0, len(rates.distances) // 2):
        midpoints = {example.label: rates.distances[i] - offset}
        make_index = partial(PrototypeIndex, midpoints=midpoints)
        found = outcome_of(one, play(one, Method(encoder=encoder, config=CONFIG, make_index=make_index)))
        num_alarms = found.false["other"] + found.false["rest"]
        assert rates.alarms_per_hour[i] == pytest.approx(num_alarms / rates.hours, rel=0.02)
        assert rates.missed[i] == pytest.approx(found.num_missed / len(one.truth), abs=1e-3)
    assert (rates.alarms_per_hour[-1] > 0) == is_mislabelled


class Farther(PrototypeIndex):
    """Stand for another way to compare, whose distances are ten times as large."""

    def distances(self, embeddings_WE: Any, comparable_WP: Any) -> Any:
        distances_K, windows_K = super().distances(embeddings_WE, comparable_WP)
        return 10 * distances_K, windows_K


def test_labels_count_one_by_one_and_another_way_to_compare_gets_its_own_rates(
    stream: Stream, encoder: Encoder
) -> None:
    ours, others = fit_rates([stream], encoder, CONFIG), fit_rates([stream], encoder, CONFIG, Farther)
    assert ours is not None
    assert others is not None
    assert 2.5 * stream.seen_s / 3600 < ours.hours < 3 * stream.seen_s / 3600
    assert others.hours == ours.hours
    assert others.distances[0] == pytest.approx(10 * ours.distances[0], rel=0.01)
    assert others.distances[-1] > 5 * ours.distances[-1]
    assert ours.missed[0] > ours.missed[-1]


def test_where_nothing_enrolled_is_done_there_are_no_rates(stream: Stream, encoder: Encoder) -> None:
    assert fit_rates([replace(stream, actions=())], encoder, CONFIG) is None


def test_rates_are_added_to_a_bundles_description_and_all_else_stays(tiny_bundle: Path, path: Path) -> None:
    before, _ = read_bundle(tiny_bundle)
    encoder = open_encoder(tiny_bundle, Model(engine="onnxruntime"))
    done: list[tuple[int, int]] = []
    info = add_rates(encoder, [path], report=lambda *progress: done.append(progress))
    rates = info.rates
    assert rates is not None
    assert info == msgspec.structs.replace(
        before, rates=rates, dtw_midpoint=info.dtw_midpoint, score_curve=info.score_curve
    )
    # A movement costs as much as it moves where it is compared with none.
    assert info.dtw_midpoint is not None
    assert 0 < info.dtw_midpoint < 1.5
    assert rates.distances[0] <= info.score_curve.midpoint <= rates.distances[-1]
    assert info.score_curve.slope == before.score_curve.slope
    # Nothing here alarms five times.
    assert info.score_curve.source == "none; at the midpoint, by `rates`, a label alarms 0 times an hour"
    assert done == [(i, 4) for i in range(1, 5)], "two streams, once for the encoder and once for DTW"
    assert add_rates(encoder, [path]) == info, "the same once more"
    assert rates.source.startswith("people: ")
    assert read_bundle(tiny_bundle)[0] == before


def test_the_streams_for_rates_are_of_all_archives_alike_and_as_long_as_wanted(
    path: Path, tmp_path: Path, encoder: Encoder
) -> None:
    copy, alone = tmp_path / "copy.npz", tmp_path / "alone.npz"
    shutil.copy(path, copy)
    with np.load(path) as content:
        np.savez(alone, **{**content, "label": np.zeros_like(content["label"])})
    assert [stream.archive for stream in streams_of([path, copy, alone])] == ["people", "people", "copy", "copy"]
    assert [stream.archive for stream in streams_of([path, copy], minutes=0.1)] == ["people", "copy"]
    assert {len(stream.examples) for stream in streams_of([path])} == {len(ACTIONS) - 1}
    with pytest.raises(BundleError, match="nobody does there what another enrolls"):
        rates_of(streams_of([alone]), encoder)


@pytest.mark.parametrize(
    "change",
    [
        {"distances": (0.2, 0.1, 0.05, 0.01)},
        {"missed": (0.1, 0.2, 0.4, 0.9)},
        {"alarms_per_hour": (1.0,)},
        {"distances": (), "alarms_per_hour": (), "missed": ()},
    ],
)
def test_a_bundle_whose_rates_cannot_be_is_refused(rated: Path, change: dict[str, Any]) -> None:
    content = json.loads((rated / "bundle.json").read_bytes())
    content["rates"] |= change
    (rated / "bundle.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BundleError, match="rates"):
        read_bundle(rated)


# Commands, without a daemon and with one


def call(*args: object, config: Path) -> str:
    """Return what a command says on stdout. Raises what it raises."""
    answer = CliRunner().invoke(app, [*map(str, args), "--config", str(config)], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def read_json(*args: object, config: Path) -> Any:
    return json.loads(call(*args, "--json", config=config))


def by_label(answer: dict[str, Any]) -> dict[str, Any]:
    return {label.pop("label"): label for label in answer["labels"]}


@pytest.mark.parametrize("is_served", [False, True])
def test_thresholds_are_calibrated_set_kept_for_later_labels_and_reset(
    path: Path, rated: Path, make_config: MakeConfig, serve: Serve, is_served: bool
) -> None:
    config = make_config(bundle=rated)
    if is_served:
        serve("zmq", config=config)
    call("enroll", "wave", "--from", f"{path}:0", config=config)
    call("enroll", "bow", "--from", f"{path}:2", config=config)
    before = read_json("threshold", "get", config=config)
    assert {label["origin"] for label in before["labels"]} == {"bundle"}
    done = read_json("threshold", "calibrate", "--false-alarms-per-hour", "4", config=config)
    assert (done["state"], done["false_alarms_per_hour"], done["negative_hours"]) == ("", 4, 0)
    assert {label: (told["distance"], told["origin"]) for label, told in by_label(done).items()} == {
        "wave": (0.1, "rates"),
        "bow": (0.1, "rates"),
    }
    assert any("no ordinary movement of yours" in note for note in done["notes"])
    assert by_label(read_json("threshold", "set", "BOW", "0.033", config=config))["bow"]["origin"] == "hand"
    call("enroll", "raise_arms", "--from", f"{path}:4", config=config)
    shown = read_json("threshold", "get", config=config)
    assert {label: told["distance"] for label, told in by_label(shown).items()} == {
        "wave": 0.05,
        "bow": 0.033,
        "raise_arms": 0.05,
    }
    assert any("the gallery has changed" in note for note in shown["notes"])
    shown_to_people = call("threshold", "get", config=config)
    assert "0.033" in shown_to_people
    assert "false alarms/h and missed: what the model's rates expect of it" in shown_to_people
    call("gallery", "rename", "bow", "deep bow", config=config)
    assert read_json("threshold", "get", config=config)["unused"] == ["bow"]
    assert read_json("threshold", "reset", "bow", config=config)["unused"] == []
    assert read_json("threshold", "reset", config=config)["false_alarms_per_hour"] is None


def test_a_preview_tells_what_a_calibration_would_give_and_changes_nothing(
    path: Path, rated: Path, make_config: MakeConfig
) -> None:
    config = make_config(bundle=rated)
    for number, label in ((0, "wave"), (2, "bow"), (10, "kick")):
        call("enroll", label, "--from", f"{path}:{number}", "--force", config=config)
    call("threshold", "set", "kick", 0.06, config=config)
    library = open_library(read_config(config))
    with library.gallery:
        before = carry_out(library, ThresholdGet())
        wishes = [0.5, 5.0, 300.0]
        preview = carry_out(library, ThresholdPreview(false_alarms_per_hour=wishes))
        assert [wish.false_alarms_per_hour for wish in preview.wishes] == wishes
        assert carry_out(library, ThresholdGet()) == before
        for wish in preview.wishes:
            asked = ThresholdCalibrate(false_alarms_per_hour=wish.false_alarms_per_hour)
            assert carry_out(library, asked).labels == wish.labels
        strict, _, loose = preview.wishes
        assert strict.labels[0].distance < loose.labels[0].distance
        assert (strict.labels[0].missed or 0) > (loose.labels[0].missed or 0)
        assert strict.labels[2] == loose.labels[2], "set by hand"


@pytest.mark.parametrize("is_served", [False, True])
def test_a_threshold_of_many_false_alarms_is_refused_unless_forced(
    path: Path, rated: Path, make_config: MakeConfig, serve: Serve, is_served: bool
) -> None:
    info, _ = read_bundle(rated)
    rates = msgspec.structs.replace(RATES, alarms_per_hour=(0.1, 0.4, 2.0, 92.0))
    (rated / "bundle.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(info, rates=rates)))
    config = make_config(bundle=rated)
    daemon = serve("zmq", config=config) if is_served else None
    call("enroll", "wave", "--from", f"{path}:0", config=config)
    assert by_label(read_json("threshold", "set", "wave", "0.12", config=config))["wave"]["false_alarms_per_hour"] == 20
    with pytest.raises(CrossGLGError) as refusal:
        call("threshold", "set", "WAVE", "0.13", config=config)
    assert refusal.value.code == "too_many_false_alarms"
    assert refusal.value.message == (
        "0.13 would give 'wave' 29 false alarms an hour by the bundle's rates: expected at most 20, "
        "or 0.075, the model's default"
    )
    assert "--force" in refusal.value.hint
    assert by_label(read_json("threshold", "get", config=config))["wave"]["distance"] == 0.12
    forced = by_label(read_json("threshold", "set", "wave", "0.13", "--force", config=config))
    assert (forced["wave"]["distance"], forced["wave"]["false_alarms_per_hour"]) == (0.13, 29)
    if daemon is not None:
        assert daemon.ask("threshold.set", label="wave", distance=0.2, force=True)["labels"][0]["distance"] == 0.2


def test_without_rates_no_threshold_is_refused(path: Path, make_config: MakeConfig) -> None:
    config = make_config()
    call("enroll", "wave", "--from", f"{path}:0", config=config)
    assert by_label(read_json("threshold", "set", "wave", "50", config=config))["wave"]["distance"] == 50


def test_movement_in_which_an_action_alarms_makes_its_threshold_stricter_and_no_others(
    path: Path, rated: Path, make_config: MakeConfig
) -> None:
    config = make_config(bundle=rated)
    call("enroll", "wave", "--from", f"{path}:0", config=config)
    call("enroll", "raise_arms", "--from", f"{path}:4", config=config)
    # Another person's wave, which is to be no wave to this user.
    call("negatives", "record", "--from", f"{path}:12", config=config)
    done = read_json("threshold", "calibrate", "--false-alarms-per-hour", "4", config=config)
    labels = by_label(done)
    assert labels["wave"]["distance"] < labels["raise_arms"]["distance"] == 0.1
    assert (labels["wave"]["origin"], labels["raise_arms"]["origin"]) == ("negatives", "rates")
    assert labels["wave"]["negatives"] == "it alarmed 1 times in your ordinary movement"
    assert 0.0005 < done["negative_hours"] < 0.002
    # The example itself alarms however near a match must be.
    call("negatives", "record", "--from", f"{path}:0", config=config)
    done = read_json("threshold", "calibrate", "--false-alarms-per-hour", "4", config=config)
    assert by_label(done)["wave"]["distance"] == 0.01
    assert "the strictest still alarms 1 times" in call("threshold", "get", config=config)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("calibrate", "--false-alarms-per-hour", "1"), "no_rates"),
        (("calibrate", "--false-alarms-per-hour", "0"), "bad_args"),
        (("calibrate", "--false-alarms-per-hour", "nan"), "bad_args"),
        (("set", "wave", "0.1"), "unknown_label"),
        (("set", "wave", "1000"), "bad_args"),
        (("reset", "wave"), "unknown_label"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(make_config: MakeConfig, args: tuple[str, ...], code: str) -> None:
    with pytest.raises(CrossGLGError) as refusal:
        call("threshold", *args, config=make_config())
    assert refusal.value.code == code


def test_thresholds_of_another_model_are_not_used_and_come_back_with_it(
    path: Path, rated: Path, other_bundle: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery.db"
    config, other = make_config(bundle=rated, gallery=gallery), make_config(bundle=other_bundle, gallery=gallery)
    call("enroll", "wave", "--from", f"{path}:0", config=config)
    call("threshold", "set", "wave", "0.05", config=config)
    shown = read_json("threshold", "get", config=other)
    assert (by_label(shown)["wave"]["origin"], shown["notes"]) == ("bundle", [OTHER_MODEL])
    call("threshold", "set", "wave", "0.07", config=other)
    assert by_label(read_json("threshold", "get", config=config))["wave"]["distance"] == 0.05


@pytest.mark.parametrize("content", [b"", b'{"version": 1, "mod', b'{"version": 2, "models": {}}', b"[]", b"\xff"])
def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    file = thresholds_path(tmp_path / "gallery.db")
    file.write_bytes(content)
    for ask in (lambda: read_thresholds(file), lambda: write_thresholds(file, "model", Thresholds(), change="x")):
        with pytest.raises(GalleryError) as refusal:
            ask()
        assert refusal.value.code == "bad_thresholds"
        assert str(file) in refusal.value.message
    assert file.read_bytes() == content


def test_changes_of_thresholds_are_undone_one_by_one_and_the_gallery_stays(
    rated: Path, path: Path, make_config: MakeConfig
) -> None:
    ask = partial(read_json, config=make_config(bundle=rated))
    with pytest.raises(GalleryError) as refusal:
        ask("threshold", "undo")
    assert refusal.value.code == "nothing_to_undo"
    ask("enroll", "wave", "--from", f"{path}:0")
    ask("enroll", "bow", "--from", f"{path}:2")
    changes = (
        ("get",), ("calibrate", "--false-alarms-per-hour", "4"), ("set", "wave", "0.01"), ("set", "bow", "0.02"),
        ("reset", "wave"), ("reset",),
    )  # fmt: skip
    states = [ask("threshold", *change)["labels"] for change in changes]
    undone = []
    for state in reversed(states[:-1]):
        taken_back = ask("threshold", "undo")
        undone.append(taken_back["notes"][0])
        assert taken_back["labels"] == state
    assert undone == [
        "undone: all thresholds were reset",
        "undone: the threshold of 'wave' was reset",
        "undone: the threshold of 'bow' was set to 0.02",
        "undone: the threshold of 'wave' was set to 0.01",
        "undone: thresholds were calibrated for 4 false alarms an hour",
    ]
    with pytest.raises(GalleryError, match="nothing to undo"):
        ask("threshold", "undo")
    assert [label["label"] for label in ask("gallery", "list")["labels"]] == ["wave", "bow"]


def test_what_can_be_undone_is_bounded_and_of_each_model_its_own(tmp_path: Path) -> None:
    file = tmp_path / "gallery.db.thresholds.json"
    write_thresholds(file, "other", Thresholds(by_hand={"wave": 9.0}), change="of the other")
    for number in range(60):
        write_thresholds(file, "model", Thresholds(by_hand={"wave": float(number)}), change=str(number))
    assert [undo_change(file, "model") for _ in range(50)] == [str(number) for number in reversed(range(10, 60))]
    assert read_thresholds(file) == {
        "other": Thresholds(by_hand={"wave": 9.0}),
        "model": Thresholds(by_hand={"wave": 9.0}),
    }
    with pytest.raises(GalleryError, match="nothing to undo"):
        undo_change(file, "model")


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="cannot be written") as refusal:
        write_thresholds(tmp_path / "nowhere" / "x.thresholds.json", "model", Thresholds(), change="x")
    assert refusal.value.hint


def until(is_so: Callable[[], Any]) -> Any:
    deadline_s = time.monotonic() + 20
    while not (value := is_so()):
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.05)
    return value


def test_the_daemon_takes_over_thresholds_that_another_program_sets(
    path: Path, rated: Path, make_config: MakeConfig, serve: Serve
) -> None:
    config = make_config(bundle=rated)
    daemon = serve("zmq", config=config)
    gallery, model = Path(read_config(config).gallery.path), read_bundle(rated)[0].onnx_sha256
    call("enroll", "wave", "--from", f"{path}:0", config=config)

    def onsets_of_a_wave(source: str) -> int:
        before = daemon.ask("status")
        call("publish", f"{path}:0", "--speed", "4", "--source", source, config=config)
        until(lambda: daemon.ask("status")["decisions"] >= before["decisions"] + 10)
        time.sleep(0.2)
        return int(daemon.ask("status")["events"].get("onset", 0) - before["events"].get("onset", 0))

    assert onsets_of_a_wave("first") == 1
    write_thresholds(thresholds_path(gallery), model, Thresholds(by_hand={"wave": 1e-6}), change="x")
    until(lambda: "the thresholds were changed" in daemon.log.read_text(encoding="utf-8"))
    assert onsets_of_a_wave("second") == 0
    thresholds_path(gallery).write_text("{", encoding="utf-8")
    until(lambda: "cannot be read as thresholds" in daemon.log.read_text(encoding="utf-8"))


def assert_so(value: object) -> None:
    assert value


def test_a_calibration_runs_beside_and_its_failure_is_told() -> None:
    go_on = Event()
    with closing(Calibrating()) as calibrating:
        assert calibrating.state == ""
        calibrating.begin(lambda is_cancelled: assert_so(go_on.wait(20)))
        assert calibrating.state == "calibrating"
        with pytest.raises(ControlError) as refusal:
            calibrating.begin(lambda is_cancelled: None)
        assert refusal.value.code == "busy"
        go_on.set()
        until(lambda: calibrating.state == "")

        def fail(is_cancelled: Callable[[], bool]) -> None:
            raise GalleryError("the disk is full")

        calibrating.begin(fail)
        assert until(lambda: calibrating.state != "calibrating")
        assert calibrating.state == "failed: the disk is full"


def test_a_calibration_that_goes_on_is_given_up_at_the_end(stream: Stream, encoder: Encoder) -> None:
    index = PrototypeIndex(prototypes_of(stream, encoder), encoder.info)
    calibrating = Calibrating()
    begun = Event()

    def work(is_cancelled: Callable[[], bool]) -> None:
        begun.set()
        while True:
            decisions_of(stream.frames(), index, encoder, CONFIG, is_cancelled)

    calibrating.begin(work)
    assert begun.wait(20)
    calibrating.close()
    assert calibrating.state.startswith("failed")
