"""How long engines take: measured side by side, so that what the machine does meanwhile hits all of them alike."""

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
    """Calls of one engine with batches of one size.

    Attributes:
        name: The engine's key in what was measured.
        batch: Images per call.
        calls: Calls that were timed, after the warm-up.
        p50_ms: Half of the calls took at most so many milliseconds, from images in host memory to logits in it.
        p95_ms: 95% of the calls.
        p99_ms: 99% of the calls; with fewer than 100 calls, close to the slowest.
        min_ms: The fastest call, which other work on the machine disturbed least.
        images_per_second: Images of all timed calls by the time that these took.
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
    """Times the engines at each batch size: in turns, one call each, every turn beginning with another engine.

    Args:
        engines: By name; all take images of one shape.
        batches: Images per call.
        repeats: Timed calls per engine and batch size.
        warmup: Calls before them that are not timed: first calls choose kernels, allocate and record graphs.
        seed: Of the images, which are uniform noise.
        progress: Told the turns done, their number in all, and the batch size.

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
