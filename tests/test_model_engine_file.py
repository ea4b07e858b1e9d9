"""An engine file and its sidecar are written whole, found, and refused with the reason where they do not fit."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from edge.model.bundle import BundleInfo, read_bundle
from edge.model.engines import engine_file
from edge.model.engines.engine_file import Batch, EngineFile, Parity
from streams.errors import EngineError

PARITY = Parity(largest=1e-4, cosine=0.9999, frames=0.0, features=0.001, against="onnxruntime 1.32.0")


@pytest.fixture
def info(tiny_bundle: Path) -> BundleInfo:
    return read_bundle(tiny_bundle)[0]


def about(info: BundleInfo, kind: engine_file.Kind = "tensorrt") -> EngineFile:
    return EngineFile(
        kind=kind,
        version="10.3.0",
        precision="fp16",
        onnx_sha256=info.onnx_sha256,
        compute_capabilities=("8.6", "8.9"),
        batch=Batch(min=1, opt=5, max=64),
    )


def test_what_was_written_is_read_and_fits(tmp_path: Path, info: BundleInfo) -> None:
    path = tmp_path / "new" / "encoder.engine"
    written = engine_file.write(path, b"plan", about(info))
    assert path.read_bytes() == b"plan"
    assert written == engine_file.read(path)
    assert engine_file.verify(path, info, "tensorrt", version="10.3.0", compute_capability="8.9") == written
    assert written.parity is None
    assert len(written.built) == len("2026-01-31")


def test_a_comparison_is_remembered_and_the_engine_still_fits(tmp_path: Path, info: BundleInfo) -> None:
    path = tmp_path / "encoder.engine"
    engine_file.remember(path, engine_file.write(path, b"plan", about(info)), PARITY)
    assert engine_file.verify(path, info, "tensorrt").parity == PARITY


def test_openvinos_weights_are_part_of_the_engine(tmp_path: Path, info: BundleInfo) -> None:
    path = tmp_path / "encoder.xml"
    engine_file.write(path, b"<net/>", about(info, "openvino"), second=b"weights")
    engine_file.verify(path, info, "openvino")
    (tmp_path / "encoder.bin").write_bytes(b"Weights")
    with pytest.raises(EngineError, match="the file's sha256 is"):
        engine_file.verify(path, info, "openvino")
    (tmp_path / "encoder.bin").unlink()
    with pytest.raises(EngineError, match=r"encoder\.bin cannot be read: No such file"):
        engine_file.verify(path, info, "openvino")


@pytest.mark.parametrize(
    ("version", "compute_capability", "reason"),
    [
        ("11.0.0", "8.6", "tensorrt is 10.3.0, expected 11.0.0"),
        ("10.3.0", "8.7", "its GPUs are 8.6, 8.9, expected 8.7"),
        ("11.0.0", "8.7", "tensorrt is 10.3.0, expected 11.0.0; its GPUs are 8.6, 8.9, expected 8.7"),
    ],
)
def test_an_engine_of_another_version_or_gpu_is_refused(
    tmp_path: Path, info: BundleInfo, version: str, compute_capability: str, reason: str
) -> None:
    path = tmp_path / "encoder.engine"
    engine_file.write(path, b"plan", about(info))
    with pytest.raises(EngineError) as refusal:
        engine_file.verify(path, info, "tensorrt", version=version, compute_capability=compute_capability)
    assert refusal.value.code == "engine_mismatch"
    assert refusal.value.message == f"the engine {path} is not used: {reason}"
    assert "export BUNDLE --to tensorrt`" in refusal.value.hint


def test_an_engine_of_another_model_is_refused(tmp_path: Path, info: BundleInfo, other_bundle: Path) -> None:
    path = tmp_path / "encoder.engine"
    engine_file.write(path, b"plan", about(info))
    other, _ = read_bundle(other_bundle)
    with pytest.raises(EngineError, match=f"its model is {info.onnx_sha256[:12]}, expected {other.onnx_sha256[:12]}$"):
        engine_file.verify(path, other, "tensorrt")


def test_an_engine_of_another_kind_is_refused(tmp_path: Path, info: BundleInfo) -> None:
    path = tmp_path / "encoder.engine"
    engine_file.write(path, b"plan", about(info))
    with pytest.raises(EngineError, match="it is of the kind tensorrt, expected tensorrt-rtx"):
        engine_file.verify(path, info, "tensorrt-rtx")


def test_a_half_copied_engine_is_refused(tmp_path: Path, info: BundleInfo) -> None:
    path = tmp_path / "encoder.engine"
    engine_file.write(path, b"plan" * 1000, about(info))
    path.write_bytes(b"plan" * 500)
    with pytest.raises(EngineError, match=r"the file's sha256 is .*, as its sidecar"):
        engine_file.verify(path, info, "tensorrt")
    path.unlink()
    with pytest.raises(EngineError, match="cannot be read: No such file"):
        engine_file.verify(path, info, "tensorrt")


@pytest.mark.parametrize(
    "sidecar",
    [b"", b"garbage", b"\xff\xfe", b"[]", b"null", b'{"kind": "tensorrt"}', b"[" * 100_000, None],
    ids=["empty", "garbage", "binary", "a list", "null", "incomplete", "deep", "missing"],
)
def test_a_sidecar_that_says_nothing_is_refused(tmp_path: Path, info: BundleInfo, sidecar: bytes | None) -> None:
    path = tmp_path / "encoder.engine"
    engine_file.write(path, b"plan", about(info))
    file = tmp_path / "encoder.engine.json"
    if sidecar is None:
        file.unlink()
    else:
        file.write_bytes(sidecar)
    with pytest.raises(EngineError, match=r"its sidecar encoder\.engine\.json (is damaged|cannot be read)") as refusal:
        engine_file.verify(path, info, "tensorrt")
    assert refusal.value.code == "engine_mismatch"


def test_a_sidecar_with_a_key_that_nobody_knows_is_refused(tmp_path: Path, info: BundleInfo) -> None:
    path = tmp_path / "encoder.engine"
    known = msgspec.to_builtins(engine_file.write(path, b"plan", about(info)))
    (tmp_path / "encoder.engine.json").write_bytes(msgspec.json.encode({**known, "gpus": 2}))
    with pytest.raises(EngineError, match="unknown field `gpus`"):
        engine_file.read(path)


def test_engines_are_found_beside_the_bundle_and_in_the_cache_newest_first(
    tmp_path: Path, info: BundleInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = tmp_path / "bundle"
    assert engine_file.find(info, bundle, "tensorrt") == []
    cached = engine_file.default_folder(info)
    assert cached.is_relative_to(tmp_path / "cache")
    for age, path in enumerate(
        (bundle / "engines" / "new.engine", bundle / "engines" / "old.engine", cached / "c.engine")
    ):
        engine_file.write(path, b"plan", about(info))
        os.utime(path, (1e9 - age, 1e9 - age))
    engine_file.write(cached / "encoder.rtx", b"plan", about(info, "tensorrt-rtx"))
    (cached / "folder.engine").mkdir()
    found = engine_file.find(info, bundle, "tensorrt")
    assert [path.name for path in found] == ["new.engine", "old.engine", "c.engine"]
    assert [path.name for path in engine_file.find(info, bundle, "tensorrt-rtx")] == ["encoder.rtx"]


def test_a_folder_that_is_a_file_is_named(tmp_path: Path, info: BundleInfo) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EngineError, match="cannot be written: ") as refusal:
        engine_file.write(tmp_path / "file" / "encoder.engine", b"plan", about(info))
    assert str(tmp_path / "file") in refusal.value.message


_WRITER = """
import sys
from pathlib import Path
import msgspec
from edge.model.engines import engine_file
path, about = Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=engine_file.EngineFile)
for number in range(1_000_000):
    engine_file.write(path, bytes([number % 256]) * 300_000, about)
"""


def test_a_write_that_is_killed_leaves_a_whole_engine_or_one_that_is_refused(tmp_path: Path, info: BundleInfo) -> None:
    path = tmp_path / "encoder.engine"
    sidecar = msgspec.json.encode(about(info)).decode()
    for _ in range(3):
        path.unlink(missing_ok=True)
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path), sidecar])
        while not path.exists():
            assert writer.poll() is None
            time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        content = path.read_bytes()
        assert content == content[:1] * 300_000
        # Killed between the engine and its sidecar, it is refused.
        with contextlib.suppress(EngineError):
            assert engine_file.verify(path, info, "tensorrt").file_sha256 == hashlib.sha256(content).hexdigest()
    # What it left half written goes with the next write.
    (tmp_path / f".encoder.engine.{writer.pid}.part").write_bytes(b"pl")
    engine_file.write(path, b"plan", about(info))
    engine_file.verify(path, info, "tensorrt")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["encoder.engine", "encoder.engine.json"]
