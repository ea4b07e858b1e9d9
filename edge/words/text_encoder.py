"""The text encoder on the device: one text in, its features out, by ONNX Runtime and the library `tokenizers`.

Its folder is made once, by `crossglg-edge setup words` (edge.words.setup).

Shapes: N texts, C features of a text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import platformdirs

from streams.arrays import Array
from streams.errors import TextToolError

SETUP_HINT = "`crossglg-edge setup words` sets it up, once."
# More is cut off: a description of 500 characters has some 120.
_MAX_TOKENS = 256


class About(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say which text encoder a folder holds (text_encoder.json); `weights_sha256`: of what it was made of."""

    name: str
    weights_sha256: str
    onnx_sha256: str
    tokenizer_sha256: str


class TextEncoder:
    """Turn texts into features."""

    def __init__(self, folder: Path) -> None:
        """Open the encoder in a folder that `setup words` wrote. Raises TextToolError."""
        self.about, onnx, tokenizer = _read(folder)
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as missing:
            raise TextToolError(
                f"words need a package that is not installed: {missing.name}",
                code="no_text_encoder",
                hint="Install it: pip install 'crossglg-edge[words]'",
            ) from missing
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
            self._tokenizer = Tokenizer.from_str(tokenizer.decode())
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(_MAX_TOKENS)
            self.encode(["wave"])
        except Exception as error:  # both libraries raise plain Exception
            raise _broken(folder, str(error)) from error

    def encode(self, texts: Sequence[str]) -> Array:
        """Return the features of texts, shape (N, C), float32, each of length 1."""
        found = []
        for text in texts:
            tokens = np.array([self._tokenizer.encode(text).ids], np.int64)
            found.append(self._session.run(None, {"tokens": tokens})[0][0])
        return np.array(found, np.float32)


def default_folder() -> Path:
    """Return where `setup words` puts the text encoder, and where it is looked for."""
    return platformdirs.user_data_path("crossglg-edge") / "text-encoder"


def open_text_encoder(folder: str = "") -> TextEncoder:
    """Open the text encoder in a folder, or in the default one.

    Raises TextToolError: "no_text_encoder" where there is none, "bad_text_encoder".
    """
    return TextEncoder(Path(folder).expanduser() if folder else default_folder())


def _read(folder: Path) -> tuple[About, bytes, bytes]:
    try:
        about = msgspec.json.decode((folder / "text_encoder.json").read_bytes(), type=About)
        onnx, tokenizer = (folder / "encoder.onnx").read_bytes(), (folder / "tokenizer.json").read_bytes()
    except FileNotFoundError as error:
        raise TextToolError(
            f"no text encoder is set up: {error.filename} is missing", code="no_text_encoder", hint=SETUP_HINT
        ) from error
    except OSError as error:
        raise _broken(folder, f"{error.strerror}: {error.filename}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _broken(folder, f"text_encoder.json: {error}") from error
    for name, content, sha256 in (
        ("encoder.onnx", onnx, about.onnx_sha256),
        ("tokenizer.json", tokenizer, about.tokenizer_sha256),
    ):
        digest = hashlib.sha256(content).hexdigest()
        if digest != sha256:
            raise _broken(folder, f"{name}: sha256 is {digest[:12]}..., text_encoder.json says {sha256[:12]}...")
    return about, onnx, tokenizer


def _broken(folder: Path, problem: str) -> TextToolError:
    return TextToolError(
        f"the text encoder in {folder} cannot be used: {problem}", code="bad_text_encoder", hint=SETUP_HINT
    )
