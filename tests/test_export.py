"""A training run becomes a bundle that the device accepts; needs the extra `train`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="export needs the extra `train`")
pytest.importorskip("onnxscript", reason="export needs the extra `train`")

import export.bundle  # noqa: E402
from edge.bundle import read_bundle  # noqa: E402
from edge.encoder import OnnxEncoder  # noqa: E402
from export.bundle import branch_from_run, embed, fit_calibration, write_bundle  # noqa: E402
from streams.errors import BundleError, ConfigError  # noqa: E402
from streams.performer import perform  # noqa: E402
from training.data import TrainingSet  # noqa: E402
from training.train import TrainConfig, train  # noqa: E402

NUM_FRAMES = 16
WINDOWS = np.random.default_rng(0).normal(0, 0.5, (5, NUM_FRAMES, 25, 3)).astype(np.float32)
SIX_CLIPS = ["a", "a", "a", "b", "b", "b"], [("set", i) for i in (1, 2, 3, 1, 2, 3)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = TrainingSet(
        clips=tuple(perform(action, seed=seed) for seed in range(2) for action in ("wave", "squat")),
        labels=np.array([0, 1, 0, 1]),
        classes=("wave", "squat"),
        archives={"performer": "synthetic"},
    )
    out = tmp_path_factory.mktemp("run")
    train(data, TrainConfig(num_frames=NUM_FRAMES, epochs=1, batch=4, lr=1e-4), out)
    return out


def test_a_run_becomes_a_bundle_whose_embeddings_are_those_of_torch(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch, about = branch_from_run(run, "joints", WINDOWS)
    embeddings = embed(branch, WINDOWS)
    calibration = fit_calibration(np.concatenate((embeddings, embeddings[:1])), *SIX_CLIPS, "test")
    out = tmp_path / "bundle"
    info = write_bundle(branch, about, out, name="test", calibration=calibration)
    encoder = OnnxEncoder(out)
    assert read_bundle(out)[0] == info
    for batch in (1, 3, 5):
        np.testing.assert_allclose(encoder.encode(WINDOWS[:batch]), embeddings[:batch], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert info.training["actions"] == ["wave", "squat"]
    # The exporter would leave the names of our source files in it.
    assert b".py" not in (out / "encoder.onnx").read_bytes()
    # What only training needs is not counted: decoder, latent and fc of 1,546,527 - 3,200 at 20 classes.
    assert info.parameters == 1_546_527 - 3_200 - 257 * 20 - 3 * 65_792 + 256 * 32
    assert info.embedding_size == embeddings.shape[1] == 4 * 25 * 32

    (out / "MODEL_CARD.md").write_text("kept")
    monkeypatch.setattr(export.bundle, "PARITY_TOLERANCE", -1.0)
    with pytest.raises(BundleError, match="ONNX and torch differ"):
        write_bundle(branch, about, out, name="other", calibration=calibration)
    assert read_bundle(out)[0] == info  # the old one stays as it was
    assert (out / "MODEL_CARD.md").read_text() == "kept"


def test_the_midpoint_lets_through_the_wanted_share_of_different_actions() -> None:
    rng = np.random.default_rng(0)
    actions = [f"action {i % 10}" for i in range(400)]
    people = [("set", i // 10 % 8) for i in range(400)]
    centres = rng.normal(size=(10, 32))
    embeddings = np.array([centres[i % 10] + rng.normal(0, 1.0, 32) for i in range(400)], np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    calibration = fit_calibration(embeddings, actions, people, "test", fmr=0.05)
    distances = 1 - embeddings @ embeddings.T
    labels, subjects = np.array(actions), np.array([subject for _, subject in people])
    impostor = distances[(labels[:, None] != labels) & (subjects[:, None] != subjects)]
    assert (impostor < calibration.midpoint).mean() == pytest.approx(0.05, abs=0.005)
    assert calibration.slope > 0


def test_a_calibration_without_two_people_or_two_actions_is_refused() -> None:
    with pytest.raises(BundleError, match="at least two actions by two people"):
        fit_calibration(WINDOWS[:, 0, 0], ["a"] * 5, [("set", i) for i in range(5)], "test")


def test_the_mean_over_training_clips_is_taken_off(run: Path) -> None:
    branch, _ = branch_from_run(run, "pooled", WINDOWS)
    with torch.inference_mode():
        features = branch.features(torch.from_numpy(WINDOWS)) - branch.mean_C
    torch.testing.assert_close(features.mean(dim=(0, 1)), torch.zeros(256), atol=1e-5, rtol=0)


def test_windows_that_have_no_quarters_are_refused(run: Path) -> None:
    with pytest.raises(BundleError, match="multiple of 16"):
        branch_from_run(run, "joints", WINDOWS[:, :12])


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a finished training run"):
        branch_from_run(tmp_path, "pooled", WINDOWS)
