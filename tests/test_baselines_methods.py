"""The other systems of the paper's tables: distances, images, networks, losses and texts, against plain references.

Shapes: N pairs or windows, T, S, L frames, V = 25 joints, C channels, E channels of a text.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch", reason="baselines need the extra `train`")
from torch import Tensor, nn

from streams.errors import ConfigError, DescriptionError
from streams.layouts import LAYOUTS
from training.baselines.body import GAP_PARTS, LIMBS, pool_parts, pool_segments
from training.baselines.episodes import class_batch, split_episode
from training.baselines.fit import Size
from training.baselines.gap import GAP, ClassTexts, contrast
from training.baselines.local import LocalComponents, PartRelevance, part_relevance
from training.baselines.part_texts import read_part_texts, wordings
from training.baselines.resnet import ResNet18, load_imagenet
from training.baselines.rows import ROWS, Ingredients, Recipe, View, num_parameters
from training.baselines.udtw import SigmaNet, UncertaintyDTW, udtw
from training.model import CTRGCNConfig, InfoGCNConfig
from training.texts import ANY_SHIPPED, read_descriptions

Doubles = npt.NDArray[np.float64]


def _num_parameters(module: object) -> int:
    assert isinstance(module, nn.Module)
    return sum(parameter.numel() for parameter in module.parameters())


# uDTW


def _soft_dtw(cost_TS: Doubles, penalty_TS: Doubles, gamma: float) -> tuple[float, float]:
    """Return soft-DTW in expectation form, cell by cell, and what its paths carry along."""
    t, s = cost_TS.shape
    total, carried = np.full((t + 1, s + 1), np.inf), np.zeros((t + 1, s + 1))
    total[0, 0] = 0
    for i in range(1, t + 1):
        for j in range(1, s + 1):
            before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
            ways = np.array([total[at] for at in before])
            shares = np.exp(-(ways - ways.min()) / gamma)
            shares /= shares.sum()
            total[i, j] = cost_TS[i - 1, j - 1] + sum(w * x for w, x in zip(shares, ways, strict=True) if w > 0)
            carried[i, j] = penalty_TS[i - 1, j - 1] + sum(
                w * carried[at] for w, at in zip(shares, before, strict=True)
            )
    return float(total[t, s]), float(carried[t, s])


def _pairs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    x, y = torch.randn(3, 5, 4, dtype=torch.double), torch.randn(3, 7, 4, dtype=torch.double)
    return x, y, torch.rand(3, 5, dtype=torch.double) + 0.5, torch.rand(3, 7, dtype=torch.double) + 0.5


@pytest.mark.parametrize("gamma", [0.01, 0.3, 2.0])
def test_udtw_at_sigma_one_is_soft_dtw(gamma: float) -> None:
    x, y, sigma_x, sigma_y = _pairs()
    distances, penalties = udtw(x, y, torch.ones_like(sigma_x), torch.ones_like(sigma_y), gamma=gamma)
    for n in range(3):
        # Both sigma are 1: their squares add up to 2.
        cost = ((x[n][:, None] - y[n][None]) ** 2).sum(dim=2).numpy() / (4 * 2)
        expected = _soft_dtw(cost, np.full(cost.shape, 0.5 * np.log(2)), gamma)
        np.testing.assert_allclose((distances[n], penalties[n]), expected, rtol=1e-9)


def test_udtw_carries_the_uncertainty_along_the_softly_shortest_paths() -> None:
    x, y, sigma_x, sigma_y = _pairs()
    distances, penalties = udtw(x, y, sigma_x, sigma_y, gamma=0.1, beta=0.7)
    for n in range(3):
        variance = (sigma_x[n][:, None] ** 2 + sigma_y[n][None] ** 2).numpy()
        cost = ((x[n][:, None] - y[n][None]) ** 2).sum(dim=2).numpy() / 4 / variance
        np.testing.assert_allclose(
            (distances[n], penalties[n]), _soft_dtw(cost, 0.35 * np.log(variance), 0.1), rtol=1e-9
        )


def test_udtw_with_a_hard_minimum_is_dtw() -> None:
    x, y, _, _ = _pairs()
    ones = torch.full((1, 5), 0.5**0.5, dtype=torch.double), torch.full((1, 7), 0.5**0.5, dtype=torch.double)
    cost = ((x[0][:, None] - y[0][None]) ** 2).sum(dim=2).numpy() / 4
    best = np.full((6, 8), np.inf)
    best[0, 0] = 0
    for i in range(5):
        for j in range(7):
            best[i + 1, j + 1] = cost[i, j] + min(best[i, j], best[i, j + 1], best[i + 1, j])
    distance, _ = udtw(x[:1], y[:1], *ones, gamma=1e-4)
    assert float(distance[0]) == pytest.approx(best[5, 7], abs=1e-3)


def test_the_gradient_of_udtw_is_exact() -> None:
    inputs = [tensor.requires_grad_() for tensor in _pairs()]
    assert torch.autograd.gradcheck(lambda *given: udtw(*given, gamma=0.3), inputs)


def test_sigma_stays_between_half_and_two() -> None:
    torch.manual_seed(0)
    sigma = SigmaNet(8)(1000 * torch.randn(4, 6, 8)).detach()
    assert sigma.shape == (4, 6)
    assert float(sigma.min()) >= 0.5
    assert float(sigma.max()) <= 2.0


def test_udtw_is_nearest_to_the_same_movement() -> None:
    torch.manual_seed(0)
    method = UncertaintyDTW().eval()
    windows = torch.randn(6, 32, 25, 3)
    with torch.inference_mode():
        embedded = method.embed(method.encode(windows))
        distances = method.distances(embedded[:3], embedded)
    assert distances.shape == (3, 6)
    assert distances.argmin(dim=1).tolist() == [0, 1, 2]
    assert float(distances.diagonal().abs().max()) < 1e-5


# Deep metric learning on images


def _dml() -> type:
    pytest.importorskip("pytorch_metric_learning", reason="needs the extra `baselines`")
    from training.baselines.dml import DeepMetric

    return DeepMetric


def test_joints_become_the_pixels_that_each_paper_says() -> None:
    _dml()
    from training.baselines.dml import skeleton_image

    joints_LVC = np.random.default_rng(0).normal(size=(25, 25, 3)).astype(np.float32)
    joints_VCL = np.ascontiguousarray(joints_LVC.transpose(1, 2, 0))
    expected: dict[View, npt.NDArray[np.float32]] = {
        "sl-dml": joints_VCL.swapaxes(1, 2),
        "skeleton-dml": joints_VCL.reshape(25, 25, 3),
    }
    for representation, pixels_VLC in expected.items():
        assert representation != "window"
        assert skeleton_image(joints_LVC, representation).shape == (3, 256, 256)
        # Nine pixels for each joint and each frame: the one in the middle has their own color.
        middle = skeleton_image(joints_LVC, representation, size=225)[:, 4::9, 4::9].permute(1, 2, 0)
        own_color = (pixels_VLC - joints_LVC.min()) / np.ptp(joints_LVC)
        np.testing.assert_allclose(middle, own_color, atol=1e-5)


def test_a_clip_that_does_not_differ_anywhere_is_an_image_without_nan() -> None:
    _dml()
    from training.baselines.dml import skeleton_image

    assert torch.isfinite(skeleton_image(np.ones((4, 25, 3), np.float32), "sl-dml")).all()


def test_dml_has_the_parameters_of_its_authors() -> None:
    method = _dml()(num_classes=21)
    assert _num_parameters(method.trunk) == 11_176_512
    assert _num_parameters(method.classifier) == 2_709
    assert num_parameters(method) == 11_242_176


def test_resnet_has_the_names_and_shapes_of_torchvision() -> None:
    # torchvision 0.28 gives the same outputs with these weights, to the bit; it does not load beside torch for CPUs.
    shapes = {name: tuple(value.shape) for name, value in ResNet18().state_dict().items()}
    assert len(shapes) == 120
    for name, shape in {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "layer1.1.conv2.weight": (64, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer3.0.downsample.1.bias": (256,),
        "layer4.1.bn2.num_batches_tracked": (),
        "layer4.0.conv1.weight": (512, 256, 3, 3),
    }.items():
        assert shapes[name] == shape


def test_imagenet_weights_are_taken_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, trunk = ResNet18(), ResNet18()
    whole = {**source.state_dict(), "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    torch.save(whole, tmp_path / "resnet18.pth")
    load_imagenet(trunk, tmp_path / "resnet18.pth")
    for name, value in source.state_dict().items():
        assert torch.equal(trunk.state_dict()[name], value)


@pytest.mark.parametrize("broken", ["missing key", "unknown key", "shape", "not a state dict", "no file", "no weights"])
def test_weights_that_are_no_resnet_are_refused(tmp_path: Path, broken: str) -> None:
    weights: object = dict(ResNet18().state_dict())
    path = tmp_path / "weights.pth"
    assert isinstance(weights, dict)
    if broken == "missing key":
        del weights["layer4.1.conv2.weight"]
    elif broken == "unknown key":
        weights["layer5.weight"] = torch.zeros(1)
    elif broken == "shape":
        weights["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    elif broken == "not a state dict":
        weights = [1, 2]
    if broken == "no weights":
        path.write_text("not weights")
    elif broken != "no file":
        torch.save(weights, path)
    trunk = ResNet18()
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    with pytest.raises(ConfigError) as refused:
        load_imagenet(trunk, path)
    assert str(path) in refused.value.message
    assert "resnet18" in refused.value.hint
    expected = {"shape": "(64, 1, 7, 7), expected (64, 3, 7, 7)", "missing key": "layer4.1.conv2.weight"}
    assert expected.get(broken, "") in refused.value.message
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())


# CTR-GCN and GAP


@pytest.mark.parametrize(("num_classes", "alone"), [(60, 1_446_672), (100, 1_456_952), (120, 1_462_092)])
def test_ctr_gcn_and_gap_have_the_parameters_of_their_authors(num_classes: int, alone: int) -> None:
    encoder = CTRGCNConfig(num_classes=num_classes, num_persons=2).make()
    assert _num_parameters(encoder) == alone
    method = GAP(encoder, _texts(num_classes, channels=512))
    assert _num_parameters(method) == alone + 657_925
    assert num_parameters(method) == alone


def test_gap_adds_to_infogcn_what_the_paper_drops_again() -> None:
    encoder = InfoGCNConfig(num_classes=100, num_persons=2).make()
    alone = _num_parameters(encoder)
    assert _num_parameters(GAP(encoder, _texts(100, channels=512))) - alone == 657_925


def _texts(num_classes: int, channels: int = 16) -> ClassTexts:
    rng = torch.Generator().manual_seed(0)
    return ClassTexts(
        names_AWE=torch.randn(num_classes, 2, channels, generator=rng),
        num_names_A=torch.arange(num_classes) % 2 + 1,
        parts_APE=torch.randn(num_classes, 4, channels, generator=rng),
    )


def test_the_contrast_is_gaps() -> None:
    torch.manual_seed(0)
    seen, said = torch.randn(5, 8), torch.randn(5, 8)
    labels, scale = torch.tensor([0, 1, 0, 2, 2]), torch.tensor(2.66)
    unit_seen, unit_said = (x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for x in (seen, said))
    divergence = 0.0
    for logits in (2.66 * unit_seen @ unit_said.T, 2.66 * unit_said @ unit_seen.T):
        for i in range(5):
            target = np.exp([10.0 * float(labels[i] == labels[j]) for j in range(5)])
            target /= target.sum()
            predicted = np.exp(logits[i]) / np.exp(logits[i]).sum()
            # The mean over all 25 elements, times the 5 windows.
            divergence += float((target * np.log(target / predicted)).sum()) / 25 * 5
    assert float(contrast(seen, said, scale, labels)) == pytest.approx(divergence / 2, rel=1e-5)


def test_gap_learns_from_texts_and_keeps_only_the_encoder() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([0, 0, 1, 1])
    windows = torch.randn(4, 16, 25, 3)
    method = GAP(InfoGCNConfig(num_classes=2, width=16).make(), _texts(2))
    assert float(method.scales.detach()[0]) == pytest.approx(np.log(1 / 0.07), abs=1e-4)
    method.loss(method.encode(windows), labels).backward()
    for name, parameter in method.named_parameters():
        if not name.startswith("encoder."):
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().sum()) > 0, name
    plain = GAP(InfoGCNConfig(num_classes=2, width=16).make(), None)
    assert num_parameters(plain) == num_parameters(method) == _num_parameters(plain)


def test_large_noise_of_infogcns_latent_has_a_finite_gradient() -> None:
    torch.manual_seed(0)
    encoder = InfoGCNConfig(num_classes=2, width=16, noise_ratio=0.5).make()
    layers = {name: parameter for name, parameter in encoder.named_parameters() if name.startswith("fc_logvar")}
    # Its exponential is infinite in float32.
    nn.init.constant_(layers["fc_logvar.bias"], 1e4)
    logits, _ = encoder.classify(torch.rand(4, encoder.num_features))
    logits.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


# Parts of the body


def test_parts_and_segments_are_means() -> None:
    features = torch.randn(2, 5, 8, 25)
    parts = pool_parts(features, list(GAP_PARTS.values()))
    assert parts.shape == (2, 4, 5)
    torch.testing.assert_close(parts[1, 0], features[1][:, :, [2, 3, 20]].mean(dim=(1, 2)))
    segments = pool_segments(features, LIMBS, 4)
    assert segments.shape == (2, 24, 5)
    torch.testing.assert_close(segments[0, 6 * 3 + 1], features[0][:, 6:, [2, 3]].mean(dim=(1, 2)))
    assert sorted(joint for limb in LIMBS for joint in limb) == list(range(25))


def test_local_components_are_weighed_by_the_exemplar() -> None:
    torch.manual_seed(0)
    method = LocalComponents(InfoGCNConfig(num_classes=2, width=16).make()).eval()
    with torch.inference_mode():
        a, b = method.embed(method.encode(torch.randn(5, 16, 25, 3))).split([2, 3])
        found = method.distances(a, b)
    for i in range(2):
        for j in range(3):
            cosines = (a[i, :, :-1] * b[j, :, :-1]).sum(dim=1)
            assert float(found[i, j]) == pytest.approx(1 - float((a[i, :, -1] * cosines).sum()), abs=1e-5)
    torch.testing.assert_close(a[..., -1].sum(dim=1), torch.ones(2))
    # The encoder's classifier and the scale of the logits are for training alone.
    unused = sum(_num_parameters(getattr(method.encoder, name)) for name in ("fc", "fc_mu", "fc_logvar", "decoder"))
    assert num_parameters(method) == _num_parameters(method) - unused - 1


def test_parts_count_by_their_relevance_to_the_exemplars_name() -> None:
    torch.manual_seed(0)
    method = PartRelevance(InfoGCNConfig(num_classes=2, width=16).make(), torch.full((2, 4), 0.25)).eval()
    with torch.inference_mode():
        a, b = method.embed(method.encode(torch.randn(5, 16, 25, 3))).split([2, 3])
        weights = torch.tensor([[1.0, 0, 0, 0], [0.2, 0.5, 0.2, 0.1]])
        a = method.weigh(a, weights)
        found = method.distances(a, b)
        # What stands in the queries' own weights is not read.
        torch.testing.assert_close(found, method.distances(a, method.weigh(b, torch.rand(3, 4))))
    for i in range(2):
        for j in range(3):
            ours, theirs = ((weights[i][:, None] * x[:, :-1]).sum(dim=0) for x in (a[i], b[j]))
            cosine = float(nn.functional.cosine_similarity(ours, theirs, dim=0))
            assert float(found[i, j]) == pytest.approx(1 - cosine, abs=1e-4)


def test_a_part_is_relevant_whose_name_is_near() -> None:
    actions, parts = torch.eye(4)[:2] + 0.1, torch.eye(4)
    relevance = part_relevance(actions, parts)
    torch.testing.assert_close(relevance.sum(dim=1), torch.ones(2))
    assert relevance.argmax(dim=1).tolist() == [0, 1]


# Episodes


def test_an_episode_has_one_exemplar_a_class() -> None:
    labels = torch.tensor([7, 3, 7, 3, 3, 9])
    exemplars, queries, targets = split_episode(labels)
    assert labels[exemplars].tolist() == [3, 7, 9]
    assert exemplars.tolist() == [1, 0, 5]
    assert queries.tolist() == [2, 3, 4]
    assert labels[exemplars][targets].tolist() == labels[queries].tolist()


def test_a_batch_has_as_many_of_each_class() -> None:
    labels = np.repeat(np.arange(5), [3, 9, 9, 9, 1])
    chosen = class_batch(labels, 8, 4, np.random.default_rng(0))
    assert np.bincount(labels[chosen]).tolist() == [4] * 5
    assert len(set(chosen[labels[chosen] == 1])) == 4, "none twice where there are enough"


def test_the_size_says_how_many_steps() -> None:
    recipe = Recipe(optimizer="sgd", lr=0.1, batch=200, epochs=110)
    assert Size().num_steps(recipe, 1000) == 550
    assert Size(batch=64).num_steps(recipe, 1000) == 110 * 16
    assert Size(steps=7).num_steps(recipe, 1000) == 7


# Texts


def test_part_texts_are_made_of_the_joints_sentences() -> None:
    (run, swipe), origin = read_part_texts(["run / jog", "swipe"], ANY_SHIPPED)
    assert origin == "the joints' sentences of claude"
    assert run.names == ("run / jog", "run", "jog")
    assert swipe.names == wordings("swipe") == ("swipe",)
    assert len(swipe.parts) == len(GAP_PARTS)
    assert all(text.startswith("swipe, ") for text in swipe.parts)


def test_part_texts_of_other_layouts_are_made_of_the_joints_that_stand_for_kinects() -> None:
    description = next(iter(read_descriptions("claude-kinetics").values()))
    assert description.layout == "openpose18"
    (texts,), _ = read_part_texts([description.action], "claude-kinetics")
    said = dict(zip(LAYOUTS["openpose18"].joints, description.joints, strict=True))
    for part in texts.parts:
        sentences = [sentence for sentence in said.values() if sentence in part]
        assert sentences
        assert all(part.count(sentence) == 1 for sentence in sentences)


def test_part_texts_are_read_in_gaps_form(tmp_path: Path) -> None:
    path = tmp_path / "parts.txt"
    path.write_text("Drink;head tilts back;hand lifts a cup;arm bends;hip rests;leg stands;foot stays\n\n")
    (drink,), origin = read_part_texts(["drink"], "claude", path)
    assert origin == "parts.txt"
    assert drink.parts == (
        "Drink, head tilts back",
        "Drink, hand lifts a cup, arm bends",
        "Drink, hip rests",
        "Drink, leg stands, foot stays",
    )
    with pytest.raises(DescriptionError, match="no texts of 1 of 2 actions: bow"):
        read_part_texts(["drink", "bow"], "claude", path)
    path.write_text("drink;head;hand\n")
    with pytest.raises(DescriptionError, match="text 1: 3 parts, expected 7"):
        read_part_texts(["drink"], "claude", path)
    with pytest.raises(DescriptionError, match="cannot be read"):
        read_part_texts(["drink"], "claude", tmp_path / "none.txt")


def test_gaps_own_file_is_read_by_the_numbers_of_ntus_actions(tmp_path: Path) -> None:
    # As there: "brush teeth" where NTU has "brushing teeth".
    names = [f"name {number}" for number in range(1, 121)]
    names[2] = "brush teeth"
    (tmp_path / "ntu.txt").write_text("\n".join(f"{name};head; hand;arm;hip;leg;foot." for name in names))
    (first, third), _ = read_part_texts(["drink water", "brushing teeth"], ANY_SHIPPED, tmp_path / "ntu.txt")
    assert (first.names, third.names) == (("name 1",), ("brush teeth",))
    assert third.parts[3] == "brush teeth, leg, foot."


def test_each_row_says_what_is_not_its_papers() -> None:
    given = Ingredients(
        num_classes=3, imagenet=None, texts=_texts(3), relevance_KP=torch.full((3, 4), 0.25)
    )  # fmt: skip
    for row in ROWS.values():
        assert row.notes or row.needs, row.name
        if row.view == "window":
            assert row.make(given)
