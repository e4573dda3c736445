"""Whether every engine computes the network of its twin: their graphs are compared.

A bundle's maker can put any network beside any twin and make all figures agree on the evidence. The graphs show on
every input, not only on the evidence, that the engine is the network whose gradients are attacked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tscnc_deploy.bundle.manifest import TWIN
from tscnc_deploy.check.graphs import graph_of
from tscnc_deploy.check.result import CheckResult, pass_or_fail
from tscnc_deploy.check.targets import named_target
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.policy import Policy
    from tscnc_deploy.engines.base import Array
    from tscnc_deploy.engines.target import Target

_FACTS, _GRAPH = "engine.json", "model.graph.onnx"
# They open files of their own, which only they read.
_TENSORRT = ("tensorrt", "tensorrt-rtx")


def check_networks(bundle: Bundle, policy: Policy, unproved: set[str], images: Array) -> Iterator[CheckResult]:
    """Compares every ONNX file of every engine with its twin.

    Args:
        bundle: The bundle; its engines need not run on this machine.
        policy: What the bundle is checked against.
        unproved: Receives the names of the engines that were not shown to compute their twin's network.
        images: float32 [N, C, H, W] in [0, 1], clean images; the ranges of 8-bit activations must fit their values.
    """
    comparisons = _Comparisons(bundle, images)
    for name, entry in sorted(bundle.manifest.engines.items()):
        target, twin = bundle.target(name), bundle.twin_path(name)
        found: list[CheckResult] = []
        if twin != TWIN:
            # The target of a name that the checker does not know is its maker's word.
            found.append(_check_completion(bundle, name, named_target(policy, target) or target, comparisons))
        inside = [path for path in sorted(bundle.manifest.files) if path.startswith(f"{entry.folder}/")]
        paths = [path for path in inside if path.endswith(".onnx") and path != twin]
        for path in paths:
            found += comparisons.results(path, twin)
        if target.engine in _TENSORRT:
            found += _check_plan(bundle, name, target)
        elif not paths:
            message = "it has no ONNX file to compare, which every build writes"
            found.append(CheckResult(f"{name}: the twin's network", "failed", message))
        if any(result.outcome != "passed" for result in found):
            unproved.add(name)
        yield from found


class _Comparisons:
    """The twins' graphs and the comparisons of files with them; each is made once."""

    def __init__(self, bundle: Bundle, images: Array) -> None:
        self._bundle = bundle
        self._images = images
        self._twins: dict[str, ModelProto] = {}
        self._found: dict[tuple[str, str], tuple[str | None, str | None]] = {}

    def twin(self, path: str) -> ModelProto:
        """The graph of a twin.

        Raises:
            InputError: The file is damaged.
        """
        if path not in self._twins:
            self._twins[path] = graph_of(self._bundle, path)
        return self._twins[path]

    def results(self, path: str, twin: str) -> Iterator[CheckResult]:
        """Whether an ONNX file computes the network of a twin, both by their paths in the bundle.

        In 8 bits, also whether it has the ranges of a calibration.
        """
        files = self._bundle.manifest.files
        key = (files[path].sha256, files[twin].sha256)
        if key not in self._found:
            self._found[key] = self._compared(path, twin)
        difference, ranges = self._found[key]
        message = f"it does not compute the network of {twin}: {difference}"
        yield pass_or_fail(f"{path}: the twin's network", difference is None, message)
        if ranges is not None:
            yield pass_or_fail(f"{path}: ranges of its activations", not ranges, ranges)

    def _compared(self, path: str, twin: str) -> tuple[str | None, str | None]:
        """How the networks differ, and what is wrong with the ranges; both None if there is nothing to say."""
        from tscnc_deploy.engines.onnx.equivalence import difference_from_twin
        from tscnc_deploy.engines.onnx.unquantised import is_quantised

        try:
            found = graph_of(self._bundle, path)
            difference = difference_from_twin(self.twin(twin), found, Path(path))
            return difference, self._ranges(found, twin, path) if is_quantised(found) else None
        except InputError as error:
            return str(error), None

    def _ranges(self, found: ModelProto, twin: str, path: str) -> str:
        from tscnc_deploy.engines.onnx.ranges import range_problem
        from tscnc_deploy.engines.onnx.structure import stored_weights

        largest = max(math.prod(tensor.dims) for tensor in stored_weights(self.twin(twin).graph).values())
        try:
            return range_problem(found, self._images, largest, Path(path)) or ""
        except InputError as error:
            return str(error)


def _check_completion(bundle: Bundle, name: str, target: Target, comparisons: _Comparisons) -> CheckResult:
    """A twin of the engine's own must be a 2:4 completion of the bundle's."""
    from tscnc_deploy.engines.onnx.equivalence import difference_from_twin
    from tscnc_deploy.engines.onnx.file import array_of
    from tscnc_deploy.engines.onnx.patterns import excess_groups
    from tscnc_deploy.engines.onnx.structure import weights_of

    title, path = f"{name}: its own twin completes the bundle's", bundle.twin_path(name)
    if target.complete == "none":
        message = f"its folder contains {TWIN}, but its target completes nothing; only the bundle's twin may be used"
        return CheckResult(title, "failed", message)
    own, twin = comparisons.twin(path), comparisons.twin(TWIN)
    weights = weights_of(own.graph)
    wide = {key for key, weight in weights.items() if min(weight.shape[:2]) >= target.complete_channels}
    if excess := [key for key, count in excess_groups(own).items() if count and key in wide]:
        message = f"{len(excess)} layers keep more than 2 of 4 input channels, such as {escaped(excess[0])}"
        return CheckResult(title, "failed", message)
    if target.complete_epochs:
        expected = _with_values(twin, {tensor.name: array_of(tensor) for tensor in own.graph.initializer})
    else:
        before = weights_of(twin.graph)
        kept = {key: weight * (weights[key] != 0) for key, weight in before.items() if key in weights}
        expected = _with_values(twin, kept)
    if difference := difference_from_twin(expected, own, Path(path)):
        return CheckResult(title, "failed", f"it differs from {TWIN} by more than removed weights: {difference}")
    if target.complete_epochs:
        message = (
            "not proved: it was trained further after the completion; it is attacked as a network of its own, with its "
            "own gradients"
        )
        return CheckResult(title, "note", message)
    return CheckResult(title, "passed")


def _with_values(model: ModelProto, values: Mapping[str, NDArray[Any]]) -> ModelProto:
    """The graph with other values in its float32 constants of these names, where the shape is the same."""
    from onnx import ModelProto, TensorProto, numpy_helper

    changed = ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        value = values.get(tensor.name)
        if value is not None and tensor.data_type == TensorProto.FLOAT and value.shape == tuple(tensor.dims):
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
    return changed


def _check_plan(bundle: Bundle, name: str, target: Target) -> Iterator[CheckResult]:
    """What is known of TensorRT's own file, which nothing but TensorRT reads."""
    from tscnc_deploy.engines.onnx.structure import structure_of
    from tscnc_deploy.engines.tensorrt.facts import read_facts

    folder = bundle.entry(name).folder
    graph = f"{folder}/{_GRAPH}"
    if graph not in bundle.manifest.files:
        graph = bundle.twin_path(name)
    title = f"{name}: built from the compared file"
    facts = read_facts(bundle.path / folder / _FACTS, lambda path, limit: bundle.read(f"{folder}/{_FACTS}", limit))
    precision = structure_of(graph_of(bundle, graph)).precision
    if facts.graph != bundle.manifest.files[graph].sha256:
        yield CheckResult(title, "failed", f"{_FACTS} names another file than {graph} as its origin")
    elif precision != target.precision:
        yield CheckResult(title, "failed", f"{graph} is {precision}, but the target asks for {target.precision}")
    else:
        yield CheckResult(title, "passed")
    message = (
        "not proved: that the plan computes this network, as only TensorRT reads it; the ONNX file that it is said to "
        "be built from is compared, and its answers where it runs"
    )
    yield CheckResult(f"{name}: the twin's network", "note", message)
