"""How like each other the enrolled actions are, by distances that are known.

Shapes: P prototypes, E values of an embedding.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.gallery.examples import Prototype
from edge.match.distances import Prototypes
from edge.match.likeness import likenesses, separability
from edge.match.score import distance_at_score, score_from_distance
from edge.model.bundle import BundleInfo
from streams.movement import Movement


@pytest.fixture(scope="module")
def info(tiny_bundle: Path) -> BundleInfo:
    info = msgspec.json.decode((tiny_bundle / "bundle.json").read_bytes(), type=BundleInfo)
    return msgspec.structs.replace(info, embedding_size=2)


def prototype(label: str, angle_deg: float) -> Prototype:
    """Return a prototype whose embedding points that way: two are 1 - cos(angle between them) apart."""
    angle = np.radians(angle_deg)
    return Prototype(
        id=f"{label} {angle_deg}",
        label=label,
        movement=Movement(timestamps_s=np.arange(2.0), joints_m=np.zeros((2, 25, 3), np.float32)),
        origin="test",
        created="",
        embedding=np.array([np.cos(angle), np.sin(angle)], np.float32),
        model_sha256="",
    )


def test_a_score_and_its_distance_belong_together(info: BundleInfo) -> None:
    for score in (0.1, 0.5, 0.8, 0.99):
        assert score_from_distance(distance_at_score(score, info.score_curve), info.score_curve) == pytest.approx(score)
    assert distance_at_score(0.5, info.score_curve) == info.score_curve.midpoint


def test_labels_are_listed_by_their_nearest_example(info: BundleInfo) -> None:
    prototypes = [prototype("far", 90), prototype("near", 40), prototype("near", 60), prototype("middle", 50)]
    compared = Prototypes([p.embedding for p in prototypes], info)
    found = likenesses(np.array([[1, 0]], np.float32), prototypes, compared, info.score_curve)
    assert [(other.label, other.distance) for other in found] == [
        ("near", pytest.approx(1 - np.cos(np.radians(40)), abs=1e-3)),
        ("middle", pytest.approx(1 - np.cos(np.radians(50)), abs=1e-3)),
        ("far", pytest.approx(1.0, abs=1e-3)),
    ]
    assert found[0].score == pytest.approx(score_from_distance(found[0].distance, info.score_curve), abs=1e-3)
    assert likenesses(np.array([[1, 0]], np.float32), [], Prototypes([], info), info.score_curve) == []


def test_a_label_is_told_what_it_will_be_confused_with(info: BundleInfo) -> None:
    # The tiny bundle's midpoint, 0.1, is 25.8 degrees.
    prototypes = [prototype("a", 0), prototype("a", 10), prototype("b", 30), prototype("c", 120)]
    compared = Prototypes([p.embedding for p in prototypes], info)
    a = separability("a", prototypes, compared, info)
    assert a.confused_with == ("b",)
    assert [other.label for other in a.nearest] == ["b", "c"]
    assert a.nearest[0].distance == pytest.approx(1 - np.cos(np.radians(20)), abs=1e-3)
    assert a.apart == pytest.approx(1 - np.cos(np.radians(10)), abs=1e-3)
    assert a.margin == pytest.approx(1 - a.nearest[0].score)
    c = separability("c", prototypes, compared, info)
    assert (c.apart, c.confused_with) == (None, ())
    assert c.margin > 0.99
    alone = separability("a", prototypes[:2], Prototypes([p.embedding for p in prototypes[:2]], info), info)
    assert (alone.nearest, alone.margin, alone.confused_with) == ((), 1.0, ())
