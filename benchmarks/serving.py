"""What the server adds to its engine: throughput with many clients as a share of the engine's own best, and latency.

    python benchmarks/serving.py runs/digits-resnet18-s95/bundle --seconds 10 --out benchmarks/results

The engine in this process, a lone client and many clients take turns on the same machine, so their ratio holds where
the figures themselves do not. Engine, server and clients share the processor; on few cores the clients' own work counts
against the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import tritonclient.grpc.aio
import tritonclient.http

from tests.serving.running import serving
from tscnc_deploy import open_bundle

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


def engine_images_per_second(engine, seconds):
    """By batch size."""
    found = {}
    for batch in (size for size in BATCHES if size <= engine.spec.batch_max):
        images = np.random.default_rng(0).random((batch, *engine.spec.input_shape), np.float32)
        engine.logits(images)
        calls, started = 0, time.perf_counter()
        while (spent := time.perf_counter() - started) < seconds / len(BATCHES):
            engine.logits(images)
            calls += 1
        found[batch] = calls * batch / spent
    return found


def tensor(module, images):
    made = module.InferInput("images", list(images.shape), "FP32")
    made.set_data_from_numpy(images)
    return [made]


def http_latency_ms(address, model, shape, seconds):
    """Median time of a lone client's requests of one image, binary."""
    client = tritonclient.http.InferenceServerClient(address)
    inputs = tensor(tritonclient.http, np.zeros((1, *shape), np.float32))
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        client.infer(model, inputs)
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


async def clients_images_per_second(address, model, shape, clients, seconds):
    """Of clients over gRPC that each wait for the answer to one image before they send the next."""
    module = tritonclient.grpc.aio
    async with module.InferenceServerClient(address) as client:
        inputs = tensor(module, np.random.default_rng(0).random((1, *shape), np.float32))
        answered, end = 0, time.perf_counter() + seconds

        async def ask():
            nonlocal answered
            while time.perf_counter() < end:
                await client.infer(model, inputs)
                answered += 1

        started = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(clients)))
        return answered / (time.perf_counter() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--engine", default="onnx-cpu")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement in each round")
    parser.add_argument("--out", type=Path, help="folder for the results")
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    engine = bundle.engine(options.engine, threads=options.threads)
    rounds = []
    with serving(options.bundle, "--engine", options.engine, "--threads", str(options.threads)) as server:
        shape, model = engine.spec.input_shape, server.document["model"]
        for _ in range(options.rounds):
            alone = engine_images_per_second(engine, options.seconds)
            served = asyncio.run(clients_images_per_second(server.grpc, model, shape, options.clients, options.seconds))
            latency = http_latency_ms(server.http, model, shape, options.seconds)
            rounds.append({"engine": alone, "best": max(alone.values()), "served": served, "http_ms": latency})
            print(json.dumps(rounds[-1]), flush=True)
    document = {
        "bundle": bundle.manifest.name,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "clients": options.clients,
        "threads": options.threads,
        "share_of_best": statistics.median(found["served"] / found["best"] for found in rounds),
        "http_ms": statistics.median(found["http_ms"] for found in rounds),
        "rounds": rounds,
    }
    print(json.dumps({key: document[key] for key in ("share_of_best", "http_ms")}))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"serving-{bundle.manifest.name}.json"
        path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
