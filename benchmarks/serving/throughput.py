"""Many clients as a share of the engine's own best: what batching and transport leave of it.

    python -m benchmarks.serving.throughput runs/digits-resnet18-s95/bundle [--engine onnx-cpu] [--name amd-epyc]

In each round the engine runs alone in this process over all batch sizes, and then 32 clients ask the server, in three
ways. All of them share the processor: where server and clients together need more of its time for an image than all
cores have while the engine alone computes one, nobody can reach the engine's best. That bound is printed; it counts CPU
time, which the work of others on the machine stretches less than the clock's. Shares are those within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving import results
from benchmarks.serving.clients import Load, measure
from tests.serving.servers import Server, serving
from tscnc_deploy import open_bundle

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
Figures = dict[str, Any]
CORES = len(os.sched_getaffinity(0))
# Kind of client, and images of each request.
WAYS = (("http binary", 1), ("grpc", 1), ("http binary", 8))


def engine_alone(engine, seconds: float) -> Figures:
    """Images per second by batch size, the best of them, and the least CPU time of an image."""
    found, cpu_ms = {}, []
    for batch in (size for size in BATCHES if size <= engine.spec.batch_max):
        images = np.random.default_rng(0).random((batch, *engine.spec.input_shape), np.float32)
        engine.logits(images)
        calls, started, cpu = 0, time.perf_counter(), time.process_time()
        while (spent := time.perf_counter() - started) < seconds / len(BATCHES):
            engine.logits(images)
            calls += 1
        found[batch] = round(calls * batch / spent, 1)
        cpu_ms.append((time.process_time() - cpu) / (calls * batch) * 1e3)
    return {"images_per_second": found, "best": max(found.values()), "cpu_ms_per_image": round(min(cpu_ms), 4)}


def cpu_seconds(pid: int) -> float:
    """That a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def served(server: Server, shape: tuple[int, ...], way: tuple[str, int], clients: int, seconds: float) -> Figures:
    """Images per second of many clients, and what each image cost."""
    kind, images = way
    address = server.grpc if kind == "grpc" else server.http
    before = cpu_seconds(server.process.pid)
    found = measure(Load(kind, address, server.document["model"], (images, *shape), clients, seconds))
    asked = found["requests_per_second"] * seconds * images
    server_ms = (cpu_seconds(server.process.pid) - before) / asked * 1e3
    client_ms = found["client_cpu_ms"] / images
    return {
        "images_per_second": round(found["requests_per_second"] * images, 1),
        "p50_ms": round(found["p50_ms"], 2),
        "p99_ms": round(found["p99_ms"], 2),
        "server_cpu_ms_per_image": round(server_ms, 4),
        "client_cpu_ms_per_image": round(client_ms, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--engine", default="onnx-cpu")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement in each round")
    parser.add_argument("--name", help="of the machine, to write the results")
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    engine = bundle.engine(options.engine, threads=1)
    before, rounds = results.load_average(), []
    # What a network of untrained weights would fail is no matter here.
    with serving(options.bundle, "--engine", options.engine, "--allow-failed") as server:
        for _ in range(options.rounds):
            alone = engine_alone(engine, options.seconds)
            found = {"engine": alone}
            for way in WAYS:
                ours = served(server, engine.spec.input_shape, way, options.clients, options.seconds)
                needed = ours["server_cpu_ms_per_image"] + ours["client_cpu_ms_per_image"]
                ours["share"] = round(ours["images_per_second"] / alone["best"], 3)
                ours["bound"] = round(min(1.0, CORES * alone["cpu_ms_per_image"] / needed), 3)
                found["{}, images {}".format(*way)] = ours
            rounds.append(found)
            print(json.dumps(found), flush=True)
    names = [name for name in rounds[0] if name != "engine"]
    shares = {name: sorted(each[name]["share"] for each in rounds) for name in names}
    figures = {
        "bundle": bundle.manifest.name,
        "clients": options.clients,
        "load_average": {"before": before, "after": results.load_average()},
        "share_of_best": {
            name: {"median": statistics.median(all_), "best": max(all_)} for name, all_ in shares.items()
        },
        "rounds": rounds,
    }
    print(json.dumps(figures["share_of_best"]))
    if options.name:
        pixels = engine.spec.input_shape[-1]
        results.write(f"throughput, {options.engine}, {pixels} pixels", options.name, figures)


if __name__ == "__main__":
    main()
