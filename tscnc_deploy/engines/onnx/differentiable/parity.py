"""Compares a graph as it is read with what the runtime computes, before its gradients are trusted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import ModelProto, ValueInfoProto

from tscnc_deploy.engines.base import Array, Engine
from tscnc_deploy.engines.onnx.differentiable.graph import GraphModule
from tscnc_deploy.engines.onnx.differentiable.step import tensor_of

QUANTISED_AGREEMENT = 0.9
"""Smallest share of images on which a quantised graph and the runtime give the same label.

Runtimes fuse quantised nodes, and processors without VNNI saturate, so logits differ by steps; below this share the
gradients are those of another network.
"""
TOLERANCES = {"fp32": 1e-3, "fp64": 1e-3, "fp16": 0.02, "bf16": 0.1}
"""Largest difference of a logit, relative to the largest one, of a graph that is not quantised, by its precision."""

_QUANTISED = ("Quantize", "QLinear", "QGemm", "ConvInteger", "MatMulInteger")
_FIRST = 4


@dataclass(frozen=True)
class GraphParity:
    """How far a graph as it is read and the runtime agree.

    Attributes:
        images: Number of images that both classified.
        agreement: Share of them with the same label, in [0, 1].
        difference: Largest difference of a logit, relative to the largest one.
        quantised: Whether the graph rounds to integers; then the labels decide, otherwise the difference.
        passed: Whether its gradients are trusted.
        node: The first node that computes something else than the runtime does, in words; None if they agree.
    """

    images: int
    agreement: float
    difference: float
    quantised: bool
    passed: bool
    node: str | None = None

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return asdict(self)

    def __str__(self) -> str:
        same = f"labels agree on {round(self.agreement * self.images)} of {self.images} images"
        return f"its logits differ by {self.difference:.2g} of the largest from onnxruntime's, and {same}"


def compare_with_runtime(module: GraphModule, engine: Engine, images: Array, model: ModelProto) -> GraphParity:
    """Classifies images with both.

    Args:
        module: The graph as it is read.
        engine: The same file in the runtime.
        images: float32 [N, C, H, W] in [0, 1], at least one; a difference may show only on real images.
        model: The graph, to look for the node that differs.
    """
    quantised = any(kind in node.op_type for node in model.graph.node for kind in _QUANTISED)
    ours = np.concatenate([_ours(module, images[place : place + 16]) for place in range(0, len(images), 16)])
    theirs = engine.logits(images)
    scale = float(np.abs(theirs).max()) or 1.0
    difference = float(np.abs(ours - theirs).max()) / scale
    agreement = float((ours.argmax(1) == theirs.argmax(1)).mean())
    tolerance = TOLERANCES.get(engine.spec.precision, TOLERANCES["fp32"])
    passed = agreement >= QUANTISED_AGREEMENT if quantised else bool(difference <= tolerance)
    passed = passed and bool(np.isfinite(ours).all())
    node = None if passed else first_difference(module, model, images[:_FIRST], tolerance)
    return GraphParity(len(images), agreement, difference, quantised, passed, node)


def first_difference(module: GraphModule, model: ModelProto, images: Array, tolerance: float) -> str:
    """The first node that computes something else than the runtime's kernel does, given the same operands.

    Args:
        module: The graph as it is read.
        model: The graph.
        images: float32 [N, C, H, W] in [0, 1].
        tolerance: Relative to the largest value of a result; integers may differ by 1.
    """
    try:
        values = _every_value(model, images)
    except Exception as error:  # onnxruntime's exceptions have no common base class
        return f"onnxruntime does not show what its nodes compute: {' '.join(str(error).split())}"
    with torch.no_grad():
        for step in module.steps:
            known = {name: values[name] for name in step.inputs if name in values}
            for name, ours in module.outputs_of(step, known).items():
                theirs = values.get(name)
                if theirs is None:
                    continue
                where = f"node {step.node.name!a} ({step.node.op})"
                if ours.shape != theirs.shape:
                    return f"{where} has the shape {list(ours.shape)}, in onnxruntime {list(theirs.shape)}"
                apart = (ours.double() - theirs.double()).abs().max() if ours.numel() else torch.zeros(())
                # Integers may differ by one step, where a sum lies between two of them.
                largest = tolerance * theirs.double().abs().max() if theirs.is_floating_point() else 1
                if not bool(apart <= largest):
                    return f"{where} differs by {float(apart):.3g} from onnxruntime"
    return "no node alone; onnxruntime's optimised graph computes something else than its nodes do"


def _ours(module: GraphModule, images: Array) -> Array:
    with torch.no_grad():
        found: Array = module(torch.from_numpy(images)).float().numpy()
    return found


def _every_value(model: ModelProto, images: Array) -> dict[str, torch.Tensor]:
    """What the runtime computes at every node, without its optimisations."""
    shown = ModelProto()
    shown.CopyFrom(model)
    names = list(dict.fromkeys(name for node in model.graph.node for name in node.output if name))
    del shown.graph.output[:]
    shown.graph.output.extend(ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    count = source.shape[0] if isinstance(source.shape[0], int) else len(images)
    given = np.resize(images, (count, *images.shape[1:]))
    results = session.run(names, {source.name: given})
    found = {name: tensor_of(np.asarray(array)) for name, array in zip(names, results, strict=True)}
    return found | {source.name: torch.from_numpy(given)}
