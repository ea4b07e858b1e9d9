"""The classifier of a gallery that grows: fitted in the background, of the newest examples, given up in time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.daemon.background import MAX_LABELS, Fitting
from edge.gallery.examples import Example
from edge.match.distribution import Classifier
from edge.match.fitting import fit_gallery
from edge.model.bundle import read_bundle
from edge.model.choose import open_encoder
from edge.model.encoder import BundleEncoder
from edge.model.engines.onnx_runtime import OnnxRuntime
from streams.errors import BundleError
from streams.performer import perform

NEEDS_TWO = f"calibrated: cosine, as 2 to {MAX_LABELS} labels can be fitted, not "


@pytest.fixture
def fitting(tiny_bundle: Path) -> Iterator[Fitting]:
    with closing(Fitting(open_encoder(tiny_bundle))) as fitting:
        yield fitting


def example(label: str, action: str = "wave", seed: int = 0) -> Example:
    return Example(label=label, movement=perform(action, seed=seed), origin="test", created="")


def many() -> list[Example]:
    """Return examples that take seconds to fit."""
    return [example(f"label {i}", seed=i) for i in range(60)]


def taken(fitting: Fitting) -> Classifier:
    deadline_s = time.monotonic() + 60
    while (classifier := fitting.take()) is None:
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.01)
    return classifier


def test_the_classifier_is_that_of_the_examples_and_is_given_once(fitting: Fitting, tiny_bundle: Path) -> None:
    examples = [example("wave"), example("bow", "bow"), example("wave", seed=1)]
    assert fitting.take() is None
    fitting.begin(examples)
    assert fitting.state == "calibrated: being fitted, cosine until then"
    classifier = taken(fitting)
    assert fitting.state == "calibrated"
    assert fitting.take() is None
    again = fit_gallery(examples, open_encoder(tiny_bundle))
    assert classifier.labels == again.labels == ("bow", "wave")
    # A product of matrices may be summed up in another order by another thread.
    np.testing.assert_allclose(classifier.weights_FK, again.weights_FK, atol=1e-3)


def test_a_change_during_a_fit_ends_in_the_classifier_of_the_newer_examples(fitting: Fitting) -> None:
    fitting.begin(many())
    fitting.begin(many()[:50])
    fitting.begin([example("wave"), example("bow", "bow")])
    assert taken(fitting).labels == ("bow", "wave")
    assert fitting.take() is None


@pytest.mark.parametrize("num_labels", [0, 1, MAX_LABELS + 1])
def test_as_many_labels_as_cannot_be_fitted_end_the_fit_before(fitting: Fitting, num_labels: int) -> None:
    fitting.begin([example("wave"), example("bow", "bow")])
    fitting.begin([example(f"label {i}") for i in range(num_labels)])
    assert fitting.state == f"{NEEDS_TWO}{num_labels}"
    assert fitting.take() is None


def test_a_long_fit_is_given_up_at_the_end(tiny_bundle: Path) -> None:
    fitting = Fitting(open_encoder(tiny_bundle))
    fitting.begin(many())
    fitting.close()
    assert fitting.take() is None


class Negative(OnnxRuntime):
    """An engine whose features are no ReLU's."""

    def run(self, windows_NTVC: Any) -> Any:
        embeddings, features = super().run(windows_NTVC)
        return embeddings, features if not windows_NTVC.any() else -features


def test_what_stopped_a_fit_is_raised_once_and_the_next_fit_is_another(fitting: Fitting, tiny_bundle: Path) -> None:
    examples = [example("wave"), example("bow", "bow")]
    info, onnx = read_bundle(tiny_bundle)
    with closing(Fitting(BundleEncoder(info, tiny_bundle, Negative(onnx)))) as failing:
        failing.begin(examples)
        with pytest.raises(BundleError, match="not negative"):
            taken(failing)
        assert failing.state == "calibrated: it could not be fitted, cosine instead"
        assert failing.take() is None
        failing.begin(examples[:1])
        assert failing.state == f"{NEEDS_TWO}1"
