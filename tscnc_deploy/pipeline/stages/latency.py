"""Latency of the exported engines for one image on this machine, compared with the dense network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tscnc_deploy.names import DENSE as DENSE_FILE

# Enough for a stable median on a busy machine, and less than a second for small networks.
ROUNDS, WARM_UP = 30, 5
DENSE = "dense network in onnxruntime"


def measure_latency(folders: Iterable[Path]) -> dict[str, Any]:
    """Times the engines that run here and a dense file in onnxruntime: one image per call, one thread each, in turns.

    The dense file contains the same pruned weights; onnxruntime does not skip their zeros. The figures are a snapshot
    of one machine: no gate uses them, and they differ from run to run.

    Args:
        folders: Folders of exported engines, at least one; see `engines.export_engine`.

    Returns:
        "threads", "batch", "rounds", "processor", and "engines", which holds for each name "median_ms" and "min_ms" of
        the calls and the "provider" that ran them.
    """
    from tscnc_deploy.engines import open_engine
    from tscnc_deploy.engines.base import Engine
    from tscnc_deploy.engines.onnx.runtime import OnnxRuntimeEngine
    from tscnc_deploy.engines.processor import processor
    from tscnc_deploy.engines.timing import time_engines

    folders = list(folders)
    engines: dict[str, Engine] = {DENSE: OnnxRuntimeEngine(folders[0] / DENSE_FILE, threads=1)}
    engines |= {folder.name: open_engine(folder, threads=1) for folder in folders}
    timings = time_engines(engines, [1], repeats=ROUNDS, warmup=WARM_UP)
    return {
        "threads": 1,
        "batch": 1,
        "rounds": ROUNDS,
        "processor": processor()["model"],
        "engines": {
            timing.name: {
                "median_ms": timing.p50_ms,
                "min_ms": timing.min_ms,
                "provider": engines[timing.name].spec.provider,
            }
            for timing in timings
        },
    }
