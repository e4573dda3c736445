"""The messages of the protocol's gRPC side.

They live in a descriptor pool of their own. The names of the protocol's messages are the same in everybody's generated
code, and two of them in the default pool are an error: a program could not import this package beside tritonclient.
Nor does it tie the installation to the version of protobuf that some code was generated for.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tscnc_deploy.open_inference.descriptor import FILES

SERVICE = "inference.GRPCInferenceService"

_POOL = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(b64decode(FILES)).file:
    _POOL.Add(_file)


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"inference.{name}"))


ServerLiveRequest = _message("ServerLiveRequest")
ServerLiveResponse = _message("ServerLiveResponse")
ServerReadyRequest = _message("ServerReadyRequest")
ServerReadyResponse = _message("ServerReadyResponse")
ModelReadyRequest = _message("ModelReadyRequest")
ModelReadyResponse = _message("ModelReadyResponse")
ServerMetadataRequest = _message("ServerMetadataRequest")
ServerMetadataResponse = _message("ServerMetadataResponse")
ModelMetadataRequest = _message("ModelMetadataRequest")
ModelMetadataResponse = _message("ModelMetadataResponse")
ModelInferRequest = _message("ModelInferRequest")
ModelInferResponse = _message("ModelInferResponse")
