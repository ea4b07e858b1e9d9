"""The encoder, its data and its training; needs the extra `train`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

from streams.errors import ArchiveError, ConfigError  # noqa: E402
from streams.performer import ACTIONS, perform  # noqa: E402
from training.data import TrainingSet, load_training_set, sampling_order  # noqa: E402
from training.encoders.infogcn import BLOCKS, InfoGCN, InfoGCNConfig, SpatialAttentionGC  # noqa: E402
from training.train import CURVE, TrainConfig, batches, learning_rate, load_run, train  # noqa: E402

DATA = Path(__file__).parents[2] / "shared" / "data"
TINY = TrainConfig(num_frames=8, epochs=3, batch=11, lr=2e-4)
GOLDEN_LOSSES = (28.7464, 16.5759, 16.4596)


def performed(num_people: int = 3, actions: tuple[str, ...] = ACTIONS) -> TrainingSet:
    clips = [perform(action, seed=seed) for seed in range(num_people) for action in actions]
    return TrainingSet(
        clips=tuple(clips),
        labels=np.tile(np.arange(len(actions)), num_people),
        classes=actions,
        archives={"performer": "synthetic"},
    )


@pytest.mark.parametrize(
    ("num_classes", "parameters"), [(20, 1_546_527), (60, 1_556_807), (100, 1_567_087), (120, 1_572_227)]
)
def test_infogcn_has_the_authors_parameters_to_the_digit(num_classes: int, parameters: int) -> None:
    model = InfoGCN(InfoGCNConfig(num_classes=num_classes, num_persons=2))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_k_0_is_refused_because_it_makes_the_input_all_zero() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        InfoGCN(InfoGCNConfig(num_classes=2, k=0))


@pytest.mark.parametrize("k", [1, 8])
def test_the_input_map_gives_bones_for_k_1_and_joints_for_k_8(k: int) -> None:
    model = InfoGCN(InfoGCNConfig(num_classes=2, k=k))
    x_VC = torch.randn(25, 3)
    mapped = model.input_map_VV @ x_VC
    if k == 8:
        assert torch.equal(mapped, x_VC)
    else:
        assert torch.equal(mapped[1], x_VC[1])  # the root stays as it is
        torch.testing.assert_close(mapped[5], x_VC[5] - x_VC[4])  # left elbow minus left shoulder


def test_time_is_halved_twice_and_channels_end_at_256() -> None:
    model = InfoGCN(InfoGCNConfig(num_classes=2)).eval()
    with torch.inference_mode():
        assert model.features(torch.randn(2, 1, 16, 25, 3)).shape == (2, 1, 256, 4, 25)
    assert [stride for _, stride in BLOCKS].count(2) == 2


def test_attention_in_one_batched_product_equals_the_plain_way_head_by_head() -> None:
    torch.manual_seed(0)
    layer = SpatialAttentionGC(16, 32, 25).eval()
    x_NCTV = torch.randn(2, 16, 5, 25)
    with torch.inference_mode():
        x = x_NCTV.permute(0, 2, 3, 1).reshape(10, 25, 16)
        qk = layer.to_qk(layer.norm(x)).view(10, 25, 2, 3, 2)
        out = torch.zeros(2, 32, 5, 25)
        for head in range(3):
            q, k = qk[:, :, 0, head], qk[:, :, 1, head]
            attention = (q @ k.transpose(1, 2) / 2**0.5).softmax(dim=-1) * layer.shared_topology[head]
            mixed = (attention @ x).view(2, 5, 25, 16).permute(0, 3, 1, 2)
            out = out + layer.conv_d[head](mixed)
        expected = torch.relu(layer.bn(out) + layer.down(x_NCTV))
        torch.testing.assert_close(layer(x_NCTV), expected, atol=1e-5, rtol=1e-4)


def test_a_tiny_seeded_run_has_its_golden_loss(tmp_path: Path) -> None:
    losses: list[float] = []
    train(performed(), TINY, tmp_path, on_epoch=lambda epoch, loss, accuracy: losses.append(loss))
    assert losses == pytest.approx(GOLDEN_LOSSES, rel=0.02)


def test_a_run_that_stopped_goes_on_with_the_same_curve(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop_after_the_first(epoch: int, loss: float, accuracy: float) -> None:
        raise Stopped

    train(performed(), TINY, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(performed(), TINY, tmp_path / "stopped", on_epoch=stop_after_the_first)
    train(performed(), TINY, tmp_path / "stopped")
    whole, stopped = (_curve(tmp_path / run) for run in ("whole", "stopped"))
    assert len(whole) == TINY.epochs
    assert stopped == whole


def _curve(run: Path) -> list[tuple[str, str, str]]:
    with (run / CURVE).open() as file:
        return [(row["epoch"], row["loss"], row["accuracy"]) for row in csv.DictReader(file)]


def test_a_run_of_another_configuration_is_not_gone_on_with(tmp_path: Path) -> None:
    train(performed(), TrainConfig(num_frames=8, epochs=1, batch=11), tmp_path)
    with pytest.raises(ConfigError, match="another config"):
        train(performed(), TINY, tmp_path)


def test_an_unfinished_run_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a finished training run"):
        load_run(tmp_path)


def test_batches_are_the_same_for_the_same_seed_and_epoch_and_others_otherwise() -> None:
    data = performed()
    first, again, other = (next(iter(batches(data, TINY, epoch)))[0] for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (11, 1, 8, 25, 3)
    assert first.isfinite().all()


def test_balanced_sampling_draws_rare_classes_as_often_as_frequent_ones() -> None:
    labels = np.array([0] * 900 + [1] * 100)
    order = sampling_order(labels, 1.0, np.random.default_rng(0))
    assert 0.45 < (labels[order] == 1).mean() < 0.55
    assert sorted(sampling_order(labels, 0.0, np.random.default_rng(0))) == list(range(1000))


def test_the_learning_rate_warms_up_and_falls_tenfold_at_the_authors_epochs() -> None:
    config = TrainConfig()
    rates = [learning_rate(config, epoch) for epoch in (0, 2.5, 5, 89, 90, 100)]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.1, 0.01, 0.001])


@pytest.mark.skipif(not DATA.exists(), reason="the recordings are not there")
def test_base_actions_alone_are_kept_and_two_persons_are_two_clips() -> None:
    data = load_training_set([DATA / "sbu.npz"], actions=["approaching", "hugging"])
    assert data.classes == ("approaching", "hugging")
    assert len(data) % 2 == 0
    with pytest.raises(ArchiveError, match="no clip of the wanted actions"):
        load_training_set([DATA / "sbu.npz"], actions=["no such action"])
