"""The engine kind "remote" over gRPC; importing this module needs grpc."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np

from tscnc_deploy.engines.base import Array
from tscnc_deploy.engines.remote.endpoint import Endpoint
from tscnc_deploy.engines.remote.transport import TemporaryError
from tscnc_deploy.errors import InputError
from tscnc_deploy.open_inference import messages
from tscnc_deploy.text import escaped

_TEMPORARY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
)
_MAX_MESSAGE = 64 << 20


class GrpcTransport:
    """See `Transport`; sends raw contents."""

    def __init__(self, endpoint: Endpoint, token: str | None, timeout: float) -> None:
        options = [("grpc.max_receive_message_length", _MAX_MESSAGE), ("grpc.max_send_message_length", -1)]
        if endpoint.scheme == "grpcs":
            self._channel = grpc.secure_channel(endpoint.address, grpc.ssl_channel_credentials(), options)
        else:
            self._channel = grpc.insecure_channel(endpoint.address, options)
        self._endpoint = endpoint
        self._timeout = timeout
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def metadata(self) -> dict[str, Any]:
        """See `Transport.metadata`."""
        request = messages.ModelMetadataRequest(name=self._endpoint.model, version=self._endpoint.version)
        said = self._ask("ModelMetadata", request)

        def tensors(of: Any) -> list[dict[str, Any]]:
            return [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in of]

        return {"inputs": tensors(said.inputs), "outputs": tensors(said.outputs), "versions": list(said.versions)}

    def infer(self, images: Array, tensors: tuple[str, str], classes: int) -> Array:
        """See `Transport.infer`."""
        request = messages.ModelInferRequest(
            model_name=self._endpoint.model,
            model_version=self._endpoint.version,
            raw_input_contents=[np.ascontiguousarray(images, "<f4").tobytes()],
        )
        request.inputs.add(name=tensors[0], datatype="FP32", shape=images.shape)
        request.outputs.add(name=tensors[1])
        said = self._ask("ModelInfer", request)
        shapes = [(output.datatype, list(output.shape)) for output in said.outputs]
        lengths = [len(raw) for raw in said.raw_output_contents]
        if shapes != [("FP32", [len(images), classes])] or lengths != [len(images) * classes * 4]:
            msg = (
                f"{self._endpoint.url}: returned {shapes[:3]} in {lengths[:3]} bytes instead of one FP32 "
                f"{[len(images), classes]}"
            )
            raise InputError(msg)
        return np.frombuffer(said.raw_output_contents[0], "<f4").reshape(len(images), classes)

    def _ask(self, call: str, request: Any) -> Any:
        ask = self._channel.unary_unary(
            f"/{messages.SERVICE}/{call}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=getattr(messages, f"{call}Response").FromString,
        )
        try:
            return ask(request, timeout=self._timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            said = f"{error.code().name} {escaped(error.details() or '', 300)}"
            if error.code() in _TEMPORARY:
                raise TemporaryError(said) from error
            msg = f"{self._endpoint.url}: request failed with {said}"
            raise InputError(msg) from error
