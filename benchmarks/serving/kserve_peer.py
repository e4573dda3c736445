"""The tiny model behind kserve's own server; run by `peers` in an environment that has kserve and onnxruntime."""

from __future__ import annotations

import sys

import onnxruntime
from kserve import InferOutput, InferResponse, Model, ModelServer


class Tiny(Model):
    def __init__(self, path: str) -> None:
        super().__init__("tiny")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        (logits,) = self.session.run(None, {"images": payload.inputs[0].as_numpy()})
        output = InferOutput("logits", list(logits.shape), "FP32")
        output.set_data_from_numpy(logits, binary_data=bool(payload.use_binary_outputs))
        return InferResponse(payload.id or "0", self.name, [output])


if __name__ == "__main__":
    model, http, grpc = sys.argv[1:]
    ModelServer(http_port=int(http), grpc_port=int(grpc), workers=1, enable_latency_logging=False).start([Tiny(model)])
