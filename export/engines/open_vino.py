"""A bundle's encoder as OpenVINO's IR: half the size of the ONNX file, read without parsing ONNX."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edge.model import BundleInfo
from edge.model.engines import EngineFile, OpenVino, engine_file, import_openvino, prove
from streams.errors import EngineError

NAME = "encoder.xml"


def write_ir(info: BundleInfo, bundle: Path, folder: Path) -> Path:
    """Write FOLDER/encoder.xml and encoder.bin, where OpenVINO with them agrees with encoder.onnx; return the former.

    The weights are stored in fp16; what OpenVINO computes in is chosen when it runs. Raises EngineError.
    """
    openvino = import_openvino()
    onnx = bundle / "encoder.onnx"
    with tempfile.TemporaryDirectory() as scratch:
        xml = Path(scratch) / NAME
        try:
            openvino.save_model(openvino.Core().read_model(onnx), xml, compress_to_fp16=True)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot convert {onnx}: {error}") from error
        parity = prove(OpenVino(xml, info.num_frames, precision="fp32"), info, onnx)
        content, weights = xml.read_bytes(), xml.with_suffix(".bin").read_bytes()
    about = EngineFile(
        kind="openvino",
        version=str(openvino.__version__),
        precision="fp16",
        onnx_sha256=info.onnx_sha256,
        parity=parity,
    )
    engine_file.write(folder / NAME, content, about, second=weights)
    return folder / NAME
