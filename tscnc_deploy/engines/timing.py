"""Measures the latency of engines side by side, so that other load on the machine affects all of them equally."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tscnc_deploy.engines.base import Engine

OnStep = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Timing:
    """Timing of one engine at one batch size.

    Attributes:
        name: The engine's key in the results.
        batch: Images per call.
        calls: Number of timed calls, warm-up excluded.
        p50_ms: Median latency in milliseconds, from images in host memory to logits in host memory.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile; with fewer than 100 calls, close to the slowest.
        min_ms: The fastest call, which other work on the machine disturbed least.
        images_per_second: Images of all timed calls divided by the total time of these calls.
    """

    name: str
    batch: int
    calls: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    min_ms: float
    images_per_second: float

    def to_json(self) -> dict[str, Any]:
        """All attributes by name."""
        return asdict(self)


def time_engines(
    engines: Mapping[str, Engine],
    batches: Sequence[int],
    *,
    repeats: int,
    warmup: int,
    seed: int = 0,
    progress: OnStep = lambda done, total, label: None,
) -> list[Timing]:
    """Times the engines at each batch size in turns: one call per engine, each turn starting with a different engine.

    Args:
        engines: By name; all take images of the same shape.
        batches: Images per call.
        repeats: Timed calls per engine and batch size.
        warmup: Untimed calls before them; first calls choose kernels, allocate memory and record graphs.
        seed: Seed of the images, which are uniform noise.
        progress: Called with the number of turns done, the total and the batch size.

    Returns:
        One entry per batch size and engine, in that order.
    """
    generator = np.random.default_rng(seed)
    found = []
    names = list(engines)
    for position, batch in enumerate(batches):
        images = generator.random((batch, *next(iter(engines.values())).spec.input_shape), np.float32)
        for engine in engines.values():
            for _ in range(warmup):
                engine.logits(images)
        nanoseconds: dict[str, list[int]] = {name: [] for name in names}
        for turn in range(repeats):
            first = turn % len(names)
            for name in (*names[first:], *names[:first]):
                started = time.perf_counter_ns()
                engines[name].logits(images)
                nanoseconds[name].append(time.perf_counter_ns() - started)
            progress(position * repeats + turn + 1, len(batches) * repeats, f"batch {batch}")
        found += [timing(name, batch, nanoseconds[name]) for name in names]
    return found


def timing(name: str, batch: int, nanoseconds: Sequence[int]) -> Timing:
    """Percentiles (linear between neighbours) and throughput of the calls of one engine."""
    p50, p95, p99, least = (float(value) for value in np.percentile(np.array(nanoseconds) / 1e6, [50, 95, 99, 0]))
    rate = batch * len(nanoseconds) / (sum(nanoseconds) / 1e9)
    return Timing(name, batch, len(nanoseconds), p50, p95, p99, least, rate)
