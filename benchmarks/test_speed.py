"""The measurements of `crossglg-edge bench` one by one, for pytest-benchmark's statistics and comparisons.

    make bench
    python -m pytest benchmarks --benchmark-autosave --benchmark-compare   # against the run before

The functions are those of edge.bench. BUNDLE in the environment names another model bundle than the one shipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from edge.bench import (
    NoEncoder,
    decision_times,
    enroll,
    gallery_match,
    kind_of,
    messages,
    open_engines,
    plain_reference,
)
from edge.config import Config, GalleryFile, Model
from edge.library import Library, open_library
from edge.match import PrototypeIndex
from edge.model import BundleEncoder, read_bundle
from streams.performer import ACTIONS

BUNDLE = os.environ.get("BUNDLE", "")
ENCODERS, _ = open_engines(Path(BUNDLE) if BUNDLE else None, (), max_threads=os.cpu_count() or 1)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    """Return a gallery on disk with ten actions, and the encoder that `auto` takes."""
    config = Config(model=Model(bundle=BUNDLE), gallery=GalleryFile(path=str(tmp_path / "gallery.db")))
    opened = open_library(config)
    with opened.gallery:
        for action in ACTIONS[:10]:
            enroll(opened, action, action)
        yield opened


@pytest.mark.benchmark(group="encoder")
@pytest.mark.parametrize("batch", [1, 2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: "-".join(map(str, kind_of(encoder))))
def test_encoder(benchmark: BenchmarkFixture, encoder: BundleEncoder, batch: int) -> None:
    windows = np.random.default_rng(0).normal(size=(batch, encoder.info.num_frames, 25, 3)).astype(np.float32)
    assert len(benchmark(encoder.encode, windows)) == batch


@pytest.mark.benchmark(group="encoder")
def test_plain_infogcn_in_onnx_runtime(benchmark: BenchmarkFixture) -> None:
    benchmark(plain_reference())


@pytest.mark.benchmark(group="ten seconds of one body at 30 fps")
@pytest.mark.parametrize("with_encoder", [True, False])
def test_frames_to_decisions(benchmark: BenchmarkFixture, library: Library, with_encoder: bool) -> None:
    index = PrototypeIndex(library.gallery.prototypes, library.encoder.info)
    encoder = library.encoder if with_encoder else NoEncoder(library.encoder.info)
    assert benchmark(decision_times, messages(300), {"": encoder}, index)[""]


@pytest.mark.benchmark(group="enrollment")
def test_enrollment(benchmark: BenchmarkFixture, library: Library) -> None:
    numbers = iter(range(1_000_000))
    benchmark(lambda: enroll(library, f"action {next(numbers)}", "wave"))
    assert len(library.gallery.prototypes) > 10


@pytest.mark.benchmark(group="gallery match")
@pytest.mark.parametrize("size", [10, 1_000, 100_000])
def test_gallery_match(benchmark: BenchmarkFixture, size: int) -> None:
    info, _ = read_bundle(Path(BUNDLE) if BUNDLE else None)
    distances, _ = benchmark(gallery_match(info, size))
    assert len(distances) == max(10, size // 10)
