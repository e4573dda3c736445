"""Whether every engine is the export of its twin: the twin is exported again and the graphs are compared.

A bundle's maker can put any network beside any twin and make all figures agree on the evidence. The export needs no
training and is the same bytes with the same versions, so it shows on every input, not only on the evidence, that the
engine is the network whose gradients are attacked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tscnc_deploy.bundle.manifest import TWIN
from tscnc_deploy.check.exporting import open_twin
from tscnc_deploy.check.result import CheckResult
from tscnc_deploy.check.targets import named_target
from tscnc_deploy.errors import InputError
from tscnc_deploy.text import escaped
from tscnc_deploy.versions import installed_version

if TYPE_CHECKING:
    from onnx import ModelProto

    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.bundle.manifest import EngineEntry
    from tscnc_deploy.check.exporting import TwinGraphs
    from tscnc_deploy.check.policy import Policy
    from tscnc_deploy.engines.base import Array
    from tscnc_deploy.engines.target import Target

# What decides the graph that is written, besides this package.
_EXPORTERS = ("torch", "onnx", "onnxscript")
_FACTS, _GRAPHS = "engine.json", ("model.graph.onnx", "model.dense.onnx")


def check_exports(
    bundle: Bundle, policy: Policy, graphs: TwinGraphs, unproved: set[str], images: Array
) -> Iterator[CheckResult]:
    """Compares every ONNX file of every engine with the graph that its twin gives here.

    What cannot be compared because of what the maker says of the build is a note, but "not checked" if the user's own
    policy applies.

    Args:
        bundle: The bundle; its engines need not run on this machine.
        policy: What the bundle is checked against.
        graphs: Exports its twins.
        unproved: Receives the names of the engines that were not shown to be their twin's export.
        images: float32 [N, C, H, W] in [0, 1], clean images; the ranges of 8-bit activations must fit their values.
    """
    exports = _Exports(bundle, policy, graphs)
    for name, entry in sorted(bundle.manifest.engines.items()):
        target = bundle.target(name)
        own = f"{entry.folder}/{TWIN}"
        twin = own if own in bundle.manifest.files else TWIN
        if twin == own:
            # The target of a name that the checker does not know is its maker's word.
            yield from _check_completion(bundle, name, named_target(policy, target) or target, unproved)
        paths = [path for path in sorted(bundle.manifest.files) if _is_graph(path, entry)]
        for path in paths:
            result = exports.compared(path, twin)
            if result.outcome != "passed":
                unproved.add(name)
            yield result
            if (ranges := exports.ranges(path, twin, images)) is not None:
                if ranges.outcome != "passed":
                    unproved.add(name)
                yield ranges
        if target.engine in ("tensorrt", "tensorrt-rtx"):
            unproved.add(name)
            yield from _check_plan(bundle, name, entry, target, paths)
        if not paths:
            unproved.add(name)
            message = "it has no ONNX file to compare, which every build writes"
            yield CheckResult(f"{name}: the twin's export", "failed", message)


class _Exports:
    """The twins' graphs and the comparisons with them; each is made once."""

    def __init__(self, bundle: Bundle, policy: Policy, graphs: TwinGraphs) -> None:
        self._bundle = bundle
        self._policy = policy
        self._graphs = graphs
        self._found: dict[tuple[str, str], tuple[str | None, str | None]] = {}

    def compared(self, path: str, twin: str) -> CheckResult:
        """Whether an ONNX file is the export of a twin, both by their paths in the bundle."""
        files = self._bundle.manifest.files
        key = (files[path].sha256, files[twin].sha256)
        title = f"{path}: the twin's export"
        graph = self._graphs.graph(twin)
        if isinstance(graph, str):
            return CheckResult(title, "failed", graph)
        if key not in self._found:
            self._found[key] = self._compare(graph, path)
        exact, layers = self._found[key]
        if exact is None:
            return CheckResult(title, "passed")
        versions = _other_versions(self._bundle)
        if not versions:
            return CheckResult(title, "failed", f"it is not the export of {twin}: {exact}")
        if layers is not None:
            message = f"it is not the export of {twin}: {layers}; to compare exactly, check with {versions}"
            return CheckResult(title, "failed", message)
        message = (
            f"not proved: according to its maker it was exported with {versions}, which write another graph ({exact}); "
            "the same layers, weights and operators were found, but not how they are wired"
        )
        if self._policy.source == "bundle":
            return CheckResult(title, "note", message)
        return CheckResult(title, "not checked", f"{message}; check with those versions")

    def ranges(self, path: str, twin: str, images: Array) -> CheckResult | None:
        """Whether an 8-bit file that is the export of a twin has the ranges of a calibration; None for other files."""
        from tscnc_deploy.engines.onnx.file import parse_onnx
        from tscnc_deploy.engines.onnx.ranges import range_problem
        from tscnc_deploy.engines.onnx.structure import stored_weights
        from tscnc_deploy.engines.onnx.unquantised import is_quantised

        graph = self._graphs.graph(twin)
        try:
            found = parse_onnx(self._bundle.read(path), path)
        except InputError:
            return None
        if isinstance(graph, str) or not is_quantised(found):
            return None
        title = f"{path}: ranges of its activations"
        largest = max(math.prod(tensor.dims) for tensor in stored_weights(graph.graph).values())
        try:
            problem = range_problem(found, images, largest, Path(path))
        except InputError as error:
            problem = str(error)
        return CheckResult(title, "failed" if problem else "passed", problem or "")

    def _compare(self, graph: ModelProto, path: str) -> tuple[str | None, str | None]:
        from tscnc_deploy.engines.onnx.equivalence import difference_from_export, difference_of_layers
        from tscnc_deploy.engines.onnx.file import parse_onnx

        try:
            found = parse_onnx(self._bundle.read(path), path)
            exact = difference_from_export(graph, found, Path(path))
            return exact, None if exact is None else difference_of_layers(graph, found, Path(path))
        except InputError as error:
            return str(error), str(error)


def _is_graph(path: str, entry: EngineEntry) -> bool:
    return path.startswith(f"{entry.folder}/") and path.endswith(".onnx")


def _other_versions(bundle: Bundle) -> str:
    """The recorded versions of what decides the exported graph, if they differ from those on this machine."""
    recorded = {name: bundle.record.environment.get(name) for name in _EXPORTERS}
    differing = {name: then for name, then in recorded.items() if then != installed_version(name)}
    return ", ".join(f"{name} {escaped(then) if then else '(unknown)'}" for name, then in differing.items())


def _check_completion(bundle: Bundle, name: str, target: Target, unproved: set[str]) -> Iterator[CheckResult]:
    """A twin of the engine's own must be a 2:4 completion of the bundle's."""
    import torch

    from tscnc_deploy.tscnc import Masks, complete_2_4, magnitude
    from tscnc_deploy.tscnc.layers import prunable_weights

    title = f"{name}: its own twin completes the bundle's"
    if target.complete == "none":
        unproved.add(name)
        message = (
            f"its folder contains {TWIN}, but its target completes nothing; only the bundle's twin may be exported"
        )
        yield CheckResult(title, "failed", message)
        return
    own, twin = open_twin(bundle, f"{bundle.entry(name).folder}/{TWIN}"), open_twin(bundle, TWIN)
    if own.config != twin.config:
        unproved.add(name)
        yield CheckResult(title, "failed", f"it is another network than {TWIN}")
        return
    masks = Masks.of(own).state_dict()
    completed, _ = complete_2_4(masks, magnitude(own), least_channels=target.complete_channels)
    if excess := [key for key, mask in masks.items() if not torch.equal(mask, completed[key])]:
        unproved.add(name)
        message = f"{len(excess)} layers keep more than 2 of 4 input channels, such as {escaped(excess[0])}"
        yield CheckResult(title, "failed", message)
        return
    if target.complete_epochs:
        unproved.add(name)
        message = (
            "not proved: it was trained further after the completion; it is attacked as a network of its own, with its "
            "own gradients"
        )
        yield CheckResult(title, "note", message)
        return
    prunable, weights = prunable_weights(twin), own.state_dict()
    changed = []
    for key, value in twin.state_dict().items():
        theirs = weights[key]
        kept = theirs != 0 if key in prunable else torch.ones_like(value, dtype=torch.bool)
        if not torch.equal(theirs[kept], value[kept]):
            changed.append(key)
    message = (
        f"{len(changed)} tensors differ by more than removed weights, such as {escaped(changed[0])}" if changed else ""
    )
    if changed:
        unproved.add(name)
    yield CheckResult(title, "failed" if changed else "passed", message)


def _check_plan(
    bundle: Bundle, name: str, entry: EngineEntry, target: Target, paths: list[str]
) -> Iterator[CheckResult]:
    """What is known of TensorRT's own file, which nothing but TensorRT reads."""
    from tscnc_deploy.engines.onnx.file import parse_onnx
    from tscnc_deploy.engines.onnx.structure import structure_of
    from tscnc_deploy.engines.tensorrt.facts import read_facts

    graph = next((path for file in _GRAPHS if (path := f"{entry.folder}/{file}") in paths), None)
    if graph is not None:
        title = f"{name}: built from the compared file"
        facts = read_facts(
            bundle.path / entry.folder / _FACTS, lambda path, limit: bundle.read(f"{entry.folder}/{_FACTS}", limit)
        )
        precision = structure_of(parse_onnx(bundle.read(graph), graph)).precision
        if facts.graph != bundle.manifest.files[graph].sha256:
            yield CheckResult(title, "failed", f"{_FACTS} names another file than {graph} as its origin")
        elif precision != target.precision:
            yield CheckResult(title, "failed", f"{graph} is {precision}, but the target asks for {target.precision}")
        else:
            yield CheckResult(title, "passed")
    compared = (
        "the ONNX file that it is said to be built from is compared" if graph else "it has no ONNX file to compare"
    )
    message = f"not proved: that the plan computes this network, as only TensorRT reads it; {compared}, and its answers"
    yield CheckResult(f"{name}: the twin's export", "note", f"{message} where it runs")
