"""The Open Inference Protocol, version 2, as bytes: what the server and the engine kind "remote" both speak.

Importing this package imports neither grpc nor protobuf; `messages` needs protobuf, which comes with onnx.
"""

INPUT = "images"
OUTPUT = "logits"

# HTTP: length of the JSON at the start of a body that goes on with the bytes of the tensors.
HEADER_LENGTH = "Inference-Header-Content-Length"

# Environment variable that holds the bearer token, of server and client: no file and no list of processes shows it.
TOKEN_VARIABLE = "TSCNC_SERVE_TOKEN"
