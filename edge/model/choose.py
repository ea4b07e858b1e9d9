"""Which engine runs the encoder: the one that the config names, or the best that runs here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge.config import Model
from edge.model.bundle import BundleInfo, read_bundle
from edge.model.encoder import BundleEncoder
from edge.model.engines import Engine, engine_file, inference_protocol, onnx_runtime, open_vino, parity, tensor_rt
from streams.errors import ConfigError, EngineError

_OPENERS: dict[str, Callable[[BundleInfo, Path, Model], Engine]] = {
    "tensorrt": tensor_rt.open_engine,
    "onnxruntime": onnx_runtime.open_engine,
    "openvino": open_vino.open_engine,
    "oip": inference_protocol.open_engine,
}
# A GPU's engine file was built on purpose. OpenVINO in fp32 is as fast as ONNX Runtime, but takes a second and 130 MB
# to start instead of a tenth and 20 MB; it is what has bf16.
_AUTO = ("tensorrt", "onnxruntime", "openvino")


def open_encoder(bundle: Path | None = None, model: Model = Model()) -> BundleEncoder:
    """Return the encoder of a bundle, in the engine that `model` asks for; None is the bundle that is shipped.

    Raises BundleError, ConfigError, EngineError; never takes another engine than one that is named.
    """
    info, onnx = read_bundle(bundle)
    not_used: dict[str, str] = {}
    if model.engine == "auto":
        engine = _best(info, onnx.parent, model, not_used)
    else:
        engine = _opened(model.engine.partition(":")[0], info, onnx.parent, model)
    try:
        return BundleEncoder(info, onnx.parent, engine, asked=model.engine, not_used=not_used)
    except BaseException:
        engine.close()
        raise


def _best(info: BundleInfo, bundle: Path, model: Model, not_used: dict[str, str]) -> Engine:
    engine: Engine | None = None
    for name in _AUTO:
        if engine is not None:
            not_used[name] = f"{engine.name} comes first"
            continue
        try:
            engine = _opened(name, info, bundle, model)
        except (ConfigError, EngineError) as error:
            not_used[name] = error.message
    if engine is None:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in not_used.items())
        raise EngineError(
            f"no engine here runs the encoder with precision = {model.precision!r}. {reasons}",
            code="no_engine",
            hint="`crossglg-edge doctor` says what each engine lacks.",
        )
    return engine


def _opened(name: str, info: BundleInfo, bundle: Path, model: Model) -> Engine:
    engine = _OPENERS[name](info, bundle, model)
    try:
        _check(engine, info, bundle / "encoder.onnx")
    except BaseException:
        engine.close()
        raise
    return engine


def _check(engine: Engine, info: BundleInfo, onnx: Path) -> None:
    """Compare an engine with ONNX Runtime, an engine file only once. Raises EngineError("parity_failed")."""
    if isinstance(engine, onnx_runtime.OnnxRuntime):
        return
    file = Path(str(engine.details["file"])) if "file" in engine.details else None
    about = engine_file.read(file) if file else None
    if about is not None and about.parity is not None:
        return
    found = parity.prove(engine, info, onnx)
    if file is not None and about is not None:
        engine_file.remember(file, about, found)
