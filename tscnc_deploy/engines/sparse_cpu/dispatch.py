"""Estimates which layers run faster because of their zeros, and whether the whole network does."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tscnc_deploy.engines.sparse_cpu.network import Kind, Layer, Network
from tscnc_deploy.files import write_atomic

CROSSOVER = 0.6
"""Density above which a layer runs fastest as a dense one, four filters at a time, and a network in onnxruntime.

Measured with benchmarks/sparse_cpu.py on an AMD EPYC with AVX-512; see its results for the machine and the figures.
"""


@dataclass(frozen=True)
class LayerCost:
    """The work of a convolution or a fully connected layer.

    Attributes:
        name: Name of its node.
        multiply_adds: MACs per image of the dense layer.
        density: Share of its weights that are not zero.
        transformed: Work of the dense layer in the transformed domain, as a share of its MACs; infinity if no kernel
            for that applies.
    """

    name: str
    multiply_adds: int
    density: float
    transformed: float = math.inf

    @property
    def runs(self) -> str:
        """ "sparse", "transformed" (dense by Winograd's algorithm, where that is less work), or "dense".

        This is an estimate: the core decides with a more precise model, which also depends on the batch size.
        """
        if self.density >= self.transformed:
            return "transformed"
        return "sparse" if self.density < CROSSOVER else "dense"


def layer_costs(network: Network) -> list[LayerCost]:
    """The work of all layers that have weights, in execution order."""
    return [
        LayerCost(
            layer.name,
            layer.weight.fan_in * network.shapes[layer.target].size,
            layer.weight.density,
            _transformed(layer, network),
        )
        for layer in network.layers
        if layer.kind is Kind.CONV and layer.weight is not None
    ]


def _transformed(layer: Layer, network: Network) -> float:
    """Winograd's F(4x4, 3x3) needs 36 of 144 MACs; the transforms cost as much as a few more channels."""
    applies = all((axis.kernel, axis.stride, axis.dilation) == (3, 1, 1) for axis in (layer.y, layer.x))
    if not applies or layer.groups != 1:
        return math.inf
    channels, filters = network.shapes[layer.sources[0]].c, network.shapes[layer.target].c
    return 0.25 * (1 + 9 / filters + 6 / channels)


def multiply_add_density(costs: list[LayerCost]) -> float:
    """Share of a network's MACs with non-zero weights, in [0, 1]."""
    total = sum(cost.multiply_adds for cost in costs)
    return sum(cost.multiply_adds * cost.density for cost in costs) / total if total else 0.0


def dispatch(network: Network) -> dict[str, Any]:
    """How each layer of a network will run, and why, as JSON."""
    costs = layer_costs(network)
    density = multiply_add_density(costs)
    rest = f"{density:.1%} of the MACs remain"
    if density < CROSSOVER:
        advice = f"{rest}: this engine is faster than onnx-cpu"
    else:
        advice = f"{rest}, above the crossover of {CROSSOVER:.0%}: the target onnx-cpu is likely to be faster"
    layers = [
        {
            "name": cost.name,
            "multiply_adds": cost.multiply_adds,
            "density": round(cost.density, 6),
            "runs": cost.runs,
        }
        for cost in costs
    ]
    return {
        "multiply_add_density": round(density, 6),
        "crossover": CROSSOVER,
        "advice": advice,
        "layers": layers,
    }


def write_dispatch(network: Network, path: Path) -> None:
    """Writes `dispatch` as a JSON file.

    Raises:
        StorageError: The file cannot be written.
    """
    write_atomic(path, json.dumps(dispatch(network), indent=1) + "\n")
