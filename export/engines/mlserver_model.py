"""The ONNX model of this folder for MLServer, which has no runtime for ONNX of its own.

`crossglg-edge export --to triton` puts a copy beside model-settings.json. Needs mlserver and onnxruntime, nothing else.
"""

from __future__ import annotations

import asyncio

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri


class OnnxModel(MLModel):  # type: ignore[misc]
    """Answer requests with ONNX Runtime on the CPU, each on one thread; several run at once."""

    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = await get_model_uri(self._settings)
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feed = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        # On a thread: the server goes on answering whether it lives.
        found = await asyncio.to_thread(self._session.run, self._outputs, feed)
        outputs = [NumpyCodec.encode_output(name, array) for name, array in zip(self._outputs, found, strict=True)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
