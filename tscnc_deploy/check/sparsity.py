"""Counts zeros and reads the precision in every file that contains weights: those of twins and engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tscnc_deploy.bundle.manifest import TWIN
from tscnc_deploy.check.graphs import graph_of
from tscnc_deploy.check.result import CheckResult, Outcome, pass_or_fail
from tscnc_deploy.engines.onnx.structure import count_parameters, full_structure_of
from tscnc_deploy.text import escaped

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.policy import Policy
    from tscnc_deploy.engines.onnx.hidden import HiddenWeights
    from tscnc_deploy.engines.onnx.structure import Structure


@dataclass(frozen=True)
class CountedFile:
    """What was counted in an ONNX file: its weights, its parameters, and other constants that act as weights."""

    structure: Structure
    parameters: int
    hidden: HiddenWeights


def count_files(bundle: Bundle) -> dict[str, CountedFile]:
    """What is counted in the twin and in every ONNX file of every engine, by the path; equal files are read once.

    Raises:
        BundleError: A file is damaged.
    """
    folders = tuple(f"{entry.folder}/" for entry in bundle.manifest.engines.values())
    known: dict[str, CountedFile] = {}
    counted = {}
    for path, file in sorted(bundle.manifest.files.items()):
        if path == TWIN or (path.startswith(folders) and path.endswith(".onnx")):
            if file.sha256 not in known:
                known[file.sha256] = _count(bundle, path)
            counted[path] = known[file.sha256]
    return counted


def check_structure(bundle: Bundle, policy: Policy, files: Mapping[str, CountedFile]) -> Iterator[CheckResult]:
    """Compares the weights of the twin and of every ONNX file of every engine with the manifest and the policy.

    The counts must match the manifest, at least as many weights must be zero as the policy requires, and no other
    constants may act as weights.

    Args:
        bundle: The bundle.
        policy: What it must meet.
        files: What was counted in its files, see `count_files`.
    """
    facts = bundle.manifest.model
    parameters = files[TWIN].parameters
    message = f"the twin has {parameters} parameters, the manifest says {facts.parameters}"
    same = parameters == facts.parameters
    yield pass_or_fail(f"{TWIN}: parameters match the manifest", same, message, parameters, facts.parameters)
    completed = {entry.folder for name, entry in bundle.manifest.engines.items() if bundle.twin_path(name) != TWIN}
    for path, file in files.items():
        structure = file.structure
        folder, _, name = path.rpartition("/")
        # Rounding to fewer bits and completing to 2:4 may add zeros, but never remove one.
        exact = structure.precision == "fp32" and folder not in completed
        yield _check_weights(bundle, path, structure.nonzero, structure.prunable, exact=exact)
        if facts.multiply_adds is not None:
            found = (structure.multiply_adds_left, structure.multiply_adds)
            listed = (facts.multiply_adds_left, facts.multiply_adds)
            message = f"{found[0]} of {found[1]} MACs remain, the manifest says {listed[0]} of {listed[1]}"
            same = _matches(found, listed, exact=exact)
            yield pass_or_fail(f"{path}: MACs match the manifest", same, message, found[0], listed[0])
        zeros = structure.prunable - structure.nonzero
        wanted = round(policy.recipe.prune.sparsity * structure.prunable)
        message = (
            f"{zeros} of {structure.prunable} weights are zero ({zeros / max(structure.prunable, 1):.2%}); "
            f"{policy.name} requires {wanted} ({policy.recipe.prune.sparsity:.2%})"
        )
        yield pass_or_fail(f"{path}: as sparse as required", zeros >= wanted, message, zeros, wanted)
        yield _check_hidden(file.hidden, path)
        if name == TWIN:
            message = f"its weights are {structure.precision}; a twin computes in fp32"
            yield pass_or_fail(f"{path}: in float32", structure.precision == "fp32", message)
    for name, entry in sorted(bundle.manifest.engines.items()):
        if opened := files.get(f"{entry.folder}/model.onnx"):
            precision = opened.structure.precision
            message = f"its weights are {precision}, the manifest says {entry.precision}"
            same = precision == entry.precision
            yield pass_or_fail(f"{name}: precision matches the manifest", same, message)


def _count(bundle: Bundle, path: str) -> CountedFile:
    from tscnc_deploy.engines.onnx.hidden import hidden_weights

    model = graph_of(bundle, path)
    return CountedFile(full_structure_of(model), count_parameters(model.graph), hidden_weights(model, path))


def _check_hidden(hidden: HiddenWeights, path: str) -> CheckResult:
    """Whether weights hide from the count; a few values are only worth a note."""
    from tscnc_deploy.engines.onnx.hidden import shown

    title = f"{path}: no weights outside of layers"
    if hidden.idle:
        names = ", ".join(escaped(name) for name in hidden.idle[:5])
        message = f"{len(hidden.idle)} counted weights are not between images and output, so do nothing: {names}"
        return CheckResult(title, "failed", message)
    if not hidden.found:
        return CheckResult(title, "passed")
    message = (
        f"{hidden.values} values act as weights that sparsity does not count, {hidden.limit} may: as many as the "
        f"widest layer has output channels; {shown(hidden.found)}"
    )
    outcome: Outcome = "failed" if hidden.values > hidden.limit else "note"
    return CheckResult(title, outcome, message, hidden.values, hidden.limit)


def _check_weights(bundle: Bundle, what: str, nonzero: int, total: int, *, exact: bool = True) -> CheckResult:
    facts = bundle.manifest.model
    message = f"{nonzero} of {total} weights are nonzero, the manifest says {facts.nonzero} of {facts.prunable}"
    same = _matches((nonzero, total), (facts.nonzero, facts.prunable), exact=exact)
    return pass_or_fail(f"{what}: weights match the manifest", same, message, nonzero, facts.nonzero)


def _matches(found: tuple[int | None, int | None], listed: tuple[int | None, int | None], *, exact: bool) -> bool:
    """Whether (remaining, total) is what the manifest lists; without `exact`, less may remain."""
    if exact or found[0] is None or listed[0] is None:
        return found == listed
    return found[1] == listed[1] and found[0] <= listed[0]
