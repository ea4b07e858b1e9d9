"""Model bundles: an incomplete, altered or foreign one is refused before a window is encoded.

Shapes: N windows, T frames of a window, V = 25, C = 3, D embedding size, F features.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.model.bundle import BUNDLE_VERSION, read_bundle
from edge.model.choose import open_encoder
from edge.model.statistics import read_statistics, write_statistics
from edge.motion.preprocess import PREPROCESSING_VERSION
from streams.errors import BundleError


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def alter(bundle: Path, **changes: Any) -> None:
    """Change keys of bundle.json; None takes one out."""
    file = bundle / "bundle.json"
    info = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({k: v for k, v in info.items() if v is not None}), encoding="utf-8")


def refused(bundle: Path) -> BundleError:
    with pytest.raises(BundleError) as refusal:
        open_encoder(bundle)
    assert str(bundle) in refusal.value.message
    return refusal.value


# What is read


def test_a_bundle_is_read_and_encodes(bundle: Path) -> None:
    info, onnx = read_bundle(bundle)
    assert onnx == bundle / "encoder.onnx"
    assert info.onnx_sha256 == hashlib.sha256(onnx.read_bytes()).hexdigest()
    encoder = open_encoder(bundle)
    assert encoder.info == info
    rng = np.random.default_rng(0)
    for num_windows in (0, 1, 3):
        windows = rng.normal(size=(num_windows, info.num_frames, 25, 3)).astype(np.float32)
        embeddings = encoder.encode(windows)
        assert embeddings.shape == (num_windows, info.embedding_size)
        assert embeddings.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_windows_are_encoded_alike_alone_and_together(bundle: Path) -> None:
    encoder = open_encoder(bundle)
    windows = np.random.default_rng(1).normal(size=(5, encoder.info.num_frames, 25, 3)).astype(np.float32)
    alone = np.concatenate([encoder.encode(windows[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(encoder.encode(windows), alone, atol=1e-6)


@pytest.mark.parametrize("change", ["frames", "joints", "dimensions", "type"])
def test_windows_of_another_shape_are_refused_with_both_shapes(bundle: Path, change: str) -> None:
    encoder = open_encoder(bundle)
    windows = np.zeros((2, encoder.info.num_frames, 25, 3), np.float32)
    wrong = {
        "frames": windows[:, 1:],
        "joints": windows[:, :, :20],
        "dimensions": windows[0],
        "type": windows.astype(np.float64),
    }[change]
    with pytest.raises(BundleError, match=r"\(N, 16, 25, 3\), float32") as refusal:
        encoder.encode(wrong)
    assert str(wrong.shape) in refusal.value.message


def test_features_come_with_the_same_embeddings_in_one_pass(bundle: Path) -> None:
    encoder = open_encoder(bundle)
    assert encoder.statistics is not None
    windows = np.random.default_rng(0).normal(size=(3, encoder.info.num_frames, 25, 3)).astype(np.float32)
    embeddings, features = encoder.encode_with_features(windows)
    np.testing.assert_array_equal(embeddings, encoder.encode(windows))
    assert features.shape == (3, encoder.statistics.means_BF.shape[1])
    assert features.dtype == np.float32
    assert features.min() >= 0
    assert [part.shape for part in encoder.encode_with_features(windows[:0])] == [(0, 64), (0, 64)]
    with pytest.raises(BundleError, match=r"\(N, 16, 25, 3\), float32"):
        encoder.encode_with_features(windows[:, 1:])


def test_a_bundle_without_features_serves_until_they_are_asked_for(bundle: Path) -> None:
    without_features(bundle)
    alter(bundle, statistics_sha256="")
    encoder = open_encoder(bundle)
    windows = np.ones((2, encoder.info.num_frames, 25, 3), np.float32)
    assert encoder.encode(windows).shape == (2, encoder.info.embedding_size)
    assert encoder.statistics is None
    with pytest.raises(BundleError, match="gives embeddings: the distribution classifier needs `features`"):
        encoder.encode_with_features(windows)


def without_features(bundle: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="a test encoder is built with onnx, of the extra `train`")
    model = onnx.load(bundle / "encoder.onnx")
    del model.graph.output[1:]
    onnx.save(model, bundle / "encoder.onnx")
    alter(bundle, onnx_sha256=hashlib.sha256((bundle / "encoder.onnx").read_bytes()).hexdigest())


# What is refused


def test_statistics_that_were_altered_half_copied_or_left_behind_are_refused(bundle: Path) -> None:
    file = bundle / "statistics.npz"
    content = bytearray(file.read_bytes())
    file.write_bytes(content[: len(content) // 2])
    assert "statistics.npz: sha256" in refused(bundle).message
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    error = refused(bundle)
    assert "statistics.npz: sha256" in error.message
    assert "copy the whole bundle again" in error.hint
    file.unlink()
    assert "statistics.npz" in refused(bundle).message


def test_statistics_of_another_encoder_are_refused(bundle: Path, other_bundle: Path) -> None:
    shutil.copy2(other_bundle / "statistics.npz", bundle)
    alter(bundle, statistics_sha256=hashlib.sha256((bundle / "statistics.npz").read_bytes()).hexdigest())
    assert "belongs to the encoder" in refused(bundle).message


def test_statistics_that_do_not_fit_the_features_are_refused(bundle: Path) -> None:
    file = bundle / "statistics.npz"
    own = read_statistics(file, encoder_sha256=read_bundle(bundle)[0].onnx_sha256)
    narrow = {name: getattr(own, name)[:, :63] for name in ("means_BF", "factors_BFR", "stds_BF")}
    write_statistics(file, replace(own, **narrow))
    alter(bundle, statistics_sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    assert "expected (2, 63) as statistics.npz has" in refused(bundle).message


def test_an_altered_encoder_is_refused(bundle: Path) -> None:
    onnx = bundle / "encoder.onnx"
    content = bytearray(onnx.read_bytes())
    content[len(content) // 2] ^= 1
    onnx.write_bytes(content)
    assert "sha256" in refused(bundle).message
    onnx.write_bytes(content[: len(content) // 2])
    error = refused(bundle)
    assert "sha256" in error.message
    assert "copy the whole bundle again" in error.hint


@pytest.mark.parametrize("file", ["encoder.onnx", "bundle.json"])
def test_a_bundle_without_one_of_its_files_is_refused_with_its_name(bundle: Path, file: str) -> None:
    (bundle / file).unlink()
    assert file in refused(bundle).message
    (bundle / file).mkdir()
    assert file in refused(bundle).message


def test_what_is_no_folder_is_refused(bundle: Path, tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "nothing").message
    assert "Not a directory" in refused(bundle / "encoder.onnx").message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bundle_version", BUNDLE_VERSION - 1),
        ("preprocessing_version", PREPROCESSING_VERSION - 2),
        ("layout", "coco17"),
    ],
)
def test_a_bundle_for_another_program_is_refused_with_both_versions(bundle: Path, key: str, value: object) -> None:
    alter(bundle, **{key: value})
    error = refused(bundle)
    assert f"{key} is {value!r}" in error.message
    assert "needs" in error.message
    assert "crossglg-edge train" in error.hint


def test_another_bundle_version_is_named_before_its_other_fields(bundle: Path) -> None:
    alter(bundle, bundle_version=BUNDLE_VERSION + 1, encoder=None, engine={"kind": "new"})
    assert f"bundle_version is {BUNDLE_VERSION + 1}" in refused(bundle).message


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"extra": 1}, "extra"),
        ({"encoder": None}, "encoder"),
        ({"num_frames": "16"}, "num_frames"),
        ({"num_frames": 1}, "num_frames"),
        ({"num_frames": 10**9}, "num_frames"),
        ({"aligned_frames": 10**9}, "aligned_frames"),
        ({"aligned_frames": 16}, "embedding_size 64 has no room for aligned_frames 16"),
        ({"embedding_size": -1}, "embedding_size"),
        ({"cohort_weight": 1e308}, "cohort_weight"),
        ({"calibration": {"midpoint": 0.1}}, "slope"),
        ({"calibration": {"midpoint": 0.1, "slope": 0.0, "source": ""}}, "slope"),
        ({"calibration": {"midpoint": 0.1, "slope": 1e308, "source": ""}}, "slope"),
        ({"bundle_version": "1"}, "bundle_version"),
    ],
)
def test_a_description_that_does_not_fit_is_refused_with_the_key(
    bundle: Path, changes: dict[str, Any], names: str
) -> None:
    alter(bundle, **changes)
    error = refused(bundle)
    assert names in error.message
    assert "bundle.json" in error.message
    assert "crossglg-edge export RUN" in error.hint


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"bundle_version": "\xff"}', b"[" * 100_000])
def test_a_damaged_description_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / "bundle.json").write_bytes(content)
    assert "bundle.json" in refused(bundle).message


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08"])
def test_a_file_that_is_no_model_is_refused_in_spite_of_its_checksum(bundle: Path, content: bytes) -> None:
    (bundle / "encoder.onnx").write_bytes(content)
    alter(bundle, onnx_sha256=hashlib.sha256(content).hexdigest(), statistics_sha256="")
    assert "encoder.onnx" in refused(bundle).message


@pytest.mark.parametrize(("key", "value"), [("num_frames", 32), ("embedding_size", 63)])
def test_a_description_that_is_not_the_encoders_is_refused_at_once(bundle: Path, key: str, value: int) -> None:
    alter(bundle, **{key: value})
    with pytest.raises(BundleError, match=str(value)):
        open_encoder(bundle)
