"""Clients in a process of their own, as light as Python allows, so that it is the server that is measured.

Each sends its next request when it has the answer to the last. They send the same bytes every time and read of the
answers only whether they are good; the first one is decoded and compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from dataclasses import asdict, dataclass

import grpc
import numpy as np
import uvloop

from tscnc_deploy.open_inference import HEADER_LENGTH, messages

KINDS = ("http binary", "http json", "grpc")


@dataclass(frozen=True)
class Load:
    """What to send, where, and by how many.

    Attributes:
        kind: One of `KINDS`.
        address: host:port.
        model: Its name.
        shape: (N, C, H, W) of one request.
        clients: How many.
        seconds: For how long.
    """

    kind: str
    address: str
    model: str
    shape: tuple[int, ...]
    clients: int
    seconds: float

    @property
    def images(self) -> np.ndarray:
        """Of every request, float32 in [0, 1]."""
        return np.random.default_rng(0).random(self.shape, np.float32)


def measure(load: Load) -> dict[str, float]:
    """Runs them in a process of its own: requests per second, latency in ms, and the clients' CPU time per request."""
    arguments = [sys.executable, "-m", "benchmarks.serving.clients", json.dumps(asdict(load))]
    return json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)


def http_request(load: Load) -> tuple[bytes, dict[str, str]]:
    """Body and headers."""
    images = load.images
    tensor = {"name": "images", "datatype": "FP32", "shape": list(images.shape)}
    if load.kind == "http json":
        body = json.dumps({"inputs": [tensor | {"data": images.reshape(-1).tolist()}]}).encode()
        return body, {"Content-Type": "application/json"}
    tensor["parameters"] = {"binary_data_size": images.nbytes}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(text))}
    return text + images.tobytes(), headers


def grpc_request(load: Load) -> bytes:
    images = load.images
    message = messages.ModelInferRequest(model_name=load.model)
    message.inputs.add(name="images", datatype="FP32", shape=images.shape)
    message.raw_input_contents.append(images.tobytes())
    return message.SerializeToString()


def logits_of(load: Load) -> np.ndarray:
    """The logits that the server gives, float32 [N, K]."""
    if load.kind == "grpc":
        with grpc.insecure_channel(load.address) as channel:
            answer = messages.ModelInferResponse.FromString(channel.unary_unary(_METHOD)(grpc_request(load)))
        output = answer.outputs[0]
        raw = answer.raw_output_contents
        values = np.frombuffer(raw[0], np.float32) if raw else np.array(output.contents.fp32_contents, np.float32)
        return values.reshape(list(output.shape))
    body, headers = http_request(load)
    request = urllib.request.Request(f"http://{load.address}/v2/models/{load.model}/infer", body, headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        data = response.read()
        length = response.headers.get(HEADER_LENGTH)
    output = json.loads(data[: int(length)] if length else data)["outputs"][0]
    values = np.frombuffer(data[int(length) :], np.float32) if length else np.array(output["data"], np.float32)
    return values.reshape(output["shape"])


_METHOD = f"/{messages.SERVICE}/ModelInfer"


class _HttpClient(asyncio.Protocol):
    def __init__(self, request: bytes, times: list[float], end: float, gone: asyncio.Future) -> None:
        self.request, self.times, self.end, self.gone = request, times, end, gone
        self.received = b""

    def connection_made(self, transport):
        self.transport = transport
        self.ask()

    def ask(self):
        self.started = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data):
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator or len(body) < int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(self.received.decode("latin-1"))
        self.received = b""
        self.times.append(time.perf_counter() - self.started)
        if time.perf_counter() < self.end:
            self.ask()
        else:
            self.transport.close()

    def connection_lost(self, error):
        self.gone.set_result(None)


async def _over_http(load: Load, times: list[float], end: float) -> None:
    loop = asyncio.get_running_loop()
    body, headers = http_request(load)
    lines = [f"{name}: {value}" for name, value in ({"Host": "x", "Content-Length": len(body)} | headers).items()]
    request = "\r\n".join([f"POST /v2/models/{load.model}/infer HTTP/1.1", *lines, "\r\n"]).encode() + body
    host, port = load.address.split(":")
    all_gone = [loop.create_future() for _ in range(load.clients)]
    for gone in all_gone:
        await loop.create_connection(lambda gone=gone: _HttpClient(request, times, end, gone), host, int(port))
    await asyncio.gather(*all_gone)


async def _over_grpc(load: Load, times: list[float], end: float) -> None:
    async with grpc.aio.insecure_channel(load.address) as channel:
        call, request = channel.unary_unary(_METHOD), grpc_request(load)

        async def ask() -> None:
            while (started := time.perf_counter()) < end:
                await call(request)
                times.append(time.perf_counter() - started)

        await asyncio.gather(*(ask() for _ in range(load.clients)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("load", help="as JSON; see Load")
    load = Load(**json.loads(parser.parse_args().load))
    times: list[float] = []
    work = (_over_grpc if load.kind == "grpc" else _over_http)(load, times, time.perf_counter() + load.seconds)
    before, started = time.process_time(), time.perf_counter()
    if load.kind == "grpc":
        asyncio.run(work)
    else:
        uvloop.run(work)
    spent = time.perf_counter() - started
    found = {
        "requests_per_second": len(times) / spent,
        "p50_ms": float(np.percentile(times, 50)) * 1e3,
        "p99_ms": float(np.percentile(times, 99)) * 1e3,
        "client_cpu_ms": (time.process_time() - before) / len(times) * 1e3,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
