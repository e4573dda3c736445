"""The gRPC messages of the protocol.

They are in a private descriptor pool. Every project that generates code from this protocol uses the same message
names, and registering a name twice in the default pool is an error: a program could not import this package together
with tritonclient. The descriptor is data, so any version of protobuf can read it.

Raises:
    UnavailableError: On import, if the package runs from a checkout that was never installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tscnc_deploy.errors import UnavailableError

SERVICE = "inference.GRPCInferenceService"

# Written by setup.py from open_inference.proto.
_DESCRIPTOR = Path(__file__).with_name("open_inference.binpb")


def _read_pool(path: Path) -> descriptor_pool.DescriptorPool:
    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}; in a checkout, run: pip install -e . (this compiles the file)"
        raise UnavailableError(msg) from error
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(content).file:
        pool.Add(file)
    return pool


_POOL = _read_pool(_DESCRIPTOR)


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
