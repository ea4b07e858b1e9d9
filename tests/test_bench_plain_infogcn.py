"""Our InfoGCN and the plain layout that its speed is measured against are the same function."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import onnxruntime
from plain_infogcn import PlainInfoGCN
from training_speed import plain_from, steppers, windows

from edge.bench.plain_infogcn import plain_infogcn
from training.model.infogcn import InfoGCN, InfoGCNConfig


def pair() -> tuple[InfoGCN, PlainInfoGCN]:
    torch.manual_seed(0)
    # The authors' fresh attention is so sharp that gradients magnify rounding.
    ours = InfoGCN(InfoGCNConfig(num_classes=5, initial_weights="torch"))
    # Fresh, a normalization weighs the attention's output with 1e-6: nothing of it would be compared.
    for name, parameter in ours.named_parameters():
        if name.endswith("agcn.bn.weight"):
            torch.nn.init.constant_(parameter, 0.7)
    return ours, plain_from(ours)


def test_the_plain_network_has_our_parameters_and_gives_our_logits() -> None:
    ours, plain = pair()
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in ours.parameters())
    x_NMTVC = torch.randn(3, 1, 16, 25, 3)
    with torch.inference_mode():
        for a, b in zip(ours.eval()(x_NMTVC), plain.eval()(x_NMTVC.permute(0, 4, 2, 3, 1)), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_the_onnx_graph_that_speed_is_measured_against_is_the_same_function() -> None:
    _, plain = pair()
    state = plain.state_dict()
    for name, value in state.items():
        if name.endswith(("running_mean", "running_var", "bias", "bn.weight")):
            value.uniform_(0.5, 1.5)
    graph = plain_infogcn(5, 16, lambda name, shape: state[name].numpy())
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    x_NCTVM = torch.randn(3, 3, 16, 25, 1)
    (logits,) = session.run(None, {"windows": x_NCTVM.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(logits), plain.eval()(x_NCTVM)[0], atol=1e-4, rtol=1e-3)


def test_both_learn_by_the_same_gradients() -> None:
    ours, plain = pair()
    x_NMTVC = torch.randn(6, 1, 16, 25, 3)
    for model, x in ((ours, x_NMTVC), (plain, x_NMTVC.permute(0, 4, 2, 3, 1))):
        torch.manual_seed(1)
        logits, z = model.train()(x)
        (logits.square().mean() + z.square().mean()).backward()
    theirs = dict(plain.named_parameters())
    largest = max(float(parameter.grad.abs().max()) for parameter in theirs.values())
    compared = 0
    for name, parameter in ours.named_parameters():
        expected = theirs[name].grad
        # What a normalization takes off again has no gradient but rounding.
        if expected.abs().max() > 1e-4 * largest:
            error = (parameter.grad - expected).norm() / expected.norm()
            assert error < 0.02, name
            compared += 1
    assert compared > 100


def test_the_ways_of_the_benchmark_start_from_the_same_loss() -> None:
    x, y = windows(16)
    losses = []
    for step in steppers(0.0).values():
        torch.manual_seed(0)
        losses.append(step(x[:11], y[:11]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[2] == pytest.approx(losses[0], rel=0.05)
