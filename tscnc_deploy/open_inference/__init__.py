"""The wire format of the Open Inference Protocol, version 2, for the server and the engine kind "remote".

Importing this package imports neither grpc nor protobuf; `messages` needs protobuf, which comes with onnx.
"""

INPUT = "images"
OUTPUT = "logits"

# HTTP header: length of the JSON at the start of a body, before the bytes of the tensors.
HEADER_LENGTH = "Inference-Header-Content-Length"

# Environment variable with the bearer token of server and client, so that no file or process list shows it.
TOKEN_VARIABLE = "TSCNC_SERVE_TOKEN"
