"""Which layers gain from their zeros, and whether the network as a whole does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tscnc_deploy.engines.structure import Structure
from tscnc_deploy.errors import StorageError

CROSSOVER = 0.6
"""Density above which filters run fastest as if they were dense, four at a time, and a network in onnxruntime.

Measured with benchmarks/sparse_cpu.py on an AMD EPYC with AVX-512; see its results for the machine and the figures.
"""


def dispatch(structure: Structure) -> dict[str, Any]:
    """How the layers of a network will run, and why, as JSON.

    Args:
        structure: Of the exported file, multiply-adds counted. All operators that this engine runs have known shapes.
    """
    density = 1 - (structure.multiply_add_sparsity or 0.0)
    rest = f"{density:.1%} of the multiply-adds are left"
    if density < CROSSOVER:
        advice = f"{rest}: this engine is the faster one"
    else:
        advice = f"{rest}, above the crossover of {CROSSOVER:.0%}: the target onnx-cpu is likely to be faster"
    layers = [
        {
            "name": layer.name,
            "multiply_adds": layer.multiply_adds,
            "density": round(1 - layer.sparsity, 6),
            "runs": "sparse" if 1 - layer.sparsity < CROSSOVER else "dense",
        }
        for layer in structure.layers
    ]
    return {"multiply_add_density": round(density, 6), "crossover": CROSSOVER, "advice": advice, "layers": layers}


def write_dispatch(structure: Structure, path: Path) -> None:
    """Writes `dispatch` as a JSON file.

    Raises:
        StorageError: The file cannot be written.
    """
    try:
        path.write_text(json.dumps(dispatch(structure), indent=1) + "\n", "utf-8")
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror}"
        raise StorageError(msg) from error
