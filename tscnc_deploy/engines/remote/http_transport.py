"""The engine kind "remote" over HTTP, with Python's own client."""

from __future__ import annotations

import http.client
import json
import ssl
import weakref
from typing import Any

import numpy as np

from tscnc_deploy.engines.base import Array
from tscnc_deploy.engines.remote.endpoint import Endpoint
from tscnc_deploy.engines.remote.transport import TemporaryError
from tscnc_deploy.errors import InputError
from tscnc_deploy.open_inference import HEADER_LENGTH
from tscnc_deploy.text import escaped

# Bytes that a server may send besides its logits; more is not read.
_MAX_SAID = 1 << 20


class HttpTransport:
    """See `Transport`; sends and requests tensors in binary form."""

    def __init__(self, endpoint: Endpoint, token: str | None, timeout: float) -> None:
        self._endpoint = endpoint
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        if endpoint.scheme == "https":
            context = ssl.create_default_context()
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                endpoint.host, endpoint.port, timeout=timeout, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout)
        # Engines are not closed, only let go.
        weakref.finalize(self, self._connection.close)

    def metadata(self) -> dict[str, Any]:
        """See `Transport.metadata`."""
        body, _ = self._ask("GET", self._endpoint.path, b"", {}, _MAX_SAID)
        return self._document(body)

    def infer(self, images: Array, tensors: tuple[str, str], classes: int) -> Array:
        """See `Transport.infer`."""
        input_name, output_name = tensors
        data = np.ascontiguousarray(images, "<f4").tobytes()
        tensor = {"name": input_name, "datatype": "FP32", "shape": list(images.shape)}
        document = {
            "inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}],
            "outputs": [{"name": output_name, "parameters": {"binary_data": True}}],
        }
        text = json.dumps(document).encode()
        headers = {HEADER_LENGTH: str(len(text)), "Content-Type": "application/octet-stream"}
        expected = len(images) * classes * 4
        path = f"{self._endpoint.path}/infer"
        body, response = self._ask("POST", path, text + data, headers, expected + _MAX_SAID)
        length = response.headers.get(HEADER_LENGTH, "")
        answer = self._document(body[: int(length)] if length.isdigit() else body)
        outputs = answer.get("outputs")
        first = outputs[0] if isinstance(outputs, list) and outputs and isinstance(outputs[0], dict) else {}
        logits = body[int(length) :] if length.isdigit() else b""
        if first.get("datatype") != "FP32" or first.get("shape") != [len(images), classes] or len(logits) != expected:
            msg = (
                f"{self._endpoint.url}: returned {first.get('datatype')} {first.get('shape')} in {len(logits)} "
                f"bytes instead of FP32 {[len(images), classes]} in {expected}"
            )
            raise InputError(msg)
        return np.frombuffer(logits, "<f4").reshape(len(images), classes)

    def _ask(
        self, method: str, path: str, body: bytes, headers: dict[str, str], most: int
    ) -> tuple[bytes, http.client.HTTPResponse]:
        try:
            self._connection.request(method, path, body, self._headers | headers)
            response = self._connection.getresponse()
            data = response.read(most + 1)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()  # the next request opens a new one
            raise TemporaryError(str(error) or type(error).__name__) from error
        if len(data) > most:
            self._connection.close()
            msg = f"{self._endpoint.url}: the response exceeds {most} bytes"
            raise InputError(msg)
        if response.status in (408, 429, 502, 503, 504):
            raise TemporaryError(f"{response.status} {_said(data)}")
        if response.status != 200:
            msg = f"{self._endpoint.url}: request failed with {response.status}: {_said(data)}"
            raise InputError(msg)
        return data, response

    def _document(self, text: bytes) -> dict[str, Any]:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            msg = f"{self._endpoint.url}: the response is not a JSON object: {_said(text)}"
            raise InputError(msg)
        return document


def _said(data: bytes) -> str:
    """A server's response for use in a message, without control characters that could affect the terminal."""
    return escaped(data.decode("utf-8", "replace"), 300)
