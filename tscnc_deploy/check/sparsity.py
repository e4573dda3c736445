"""Zeros and precision, counted again in every file that holds weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tscnc_deploy.bundle.manifest import TWIN
from tscnc_deploy.check.result import CheckResult, holds
from tscnc_deploy.engines.onnx.structure import Structure, full_structure_of

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.policy import Policy


def check_structure(bundle: Bundle, policy: Policy) -> Iterator[CheckResult]:
    """Counts the weights of the twin and of every ONNX file of every engine.

    They must be those of the manifest, and as many of them zero as the policy asks for.
    """
    from tscnc_deploy.tscnc.layers import prunable_weights

    facts = bundle.manifest.model
    weights = prunable_weights(bundle.twin).values()
    total = sum(weight.numel() for weight in weights)
    nonzero = sum(int(weight.count_nonzero()) for weight in weights)
    yield _as_listed(bundle, "twin", nonzero, total)
    parameters = sum(parameter.numel() for parameter in bundle.twin.parameters())
    network = (bundle.twin.config.arch, parameters)  # type: ignore[union-attr]
    said = f"the twin is {network[0]} with {network[1]} parameters, the manifest says {facts.arch} with "
    yield holds("twin: network as listed", network == (facts.arch, facts.parameters), f"{said}{facts.parameters}")
    for name, entry in sorted(bundle.manifest.engines.items()):
        files = [path for path in bundle.manifest.files if path.startswith(f"{entry.folder}/")]
        counted = {path: _count(bundle, path) for path in files if path.endswith(".onnx")}
        if not counted:
            yield CheckResult(f"{name}: zeros counted", "skipped", "it holds no ONNX file whose weights can be counted")
        for path, structure in counted.items():
            # Rounding to fewer bits and completing to 2:4 may add zeros, and never make a zero a weight.
            exact = structure.precision == "fp32" and f"{entry.folder}/{TWIN}" not in bundle.manifest.files
            yield _as_listed(bundle, path, structure.nonzero, structure.prunable, exact=exact)
            if facts.multiply_adds is not None:
                found = (structure.multiply_adds_left, structure.multiply_adds)
                listed = (facts.multiply_adds_left, facts.multiply_adds)
                said = f"{found[0]} of {found[1]} multiply-adds are left, the manifest says {listed[0]} of {listed[1]}"
                kept = _kept(found, listed, exact=exact)
                yield holds(f"{path}: multiply-adds as listed", kept, said, found[0], listed[0])
            zeros = structure.prunable - structure.nonzero
            wanted = round(policy.recipe.prune.sparsity * structure.prunable)
            said = (
                f"{zeros} of {structure.prunable} weights are zero ({zeros / max(structure.prunable, 1):.2%}); "
                f"{policy.says} asks for {wanted} ({policy.recipe.prune.sparsity:.2%})"
            )
            yield holds(f"{path}: as sparse as asked for", zeros >= wanted, said, zeros, wanted)
        if opened := counted.get(f"{entry.folder}/model.onnx"):
            said = f"its weights are {opened.precision}, the manifest says {entry.precision}"
            yield holds(f"{name}: precision as listed", opened.precision == entry.precision, said)


def _count(bundle: Bundle, path: str) -> Structure:
    from tscnc_deploy.engines.onnx.file import parse_onnx

    # From the bytes whose digest was compared, not from a path where others may stand by now.
    return full_structure_of(parse_onnx(bundle.read(path), path))


def _as_listed(bundle: Bundle, what: str, nonzero: int, total: int, *, exact: bool = True) -> CheckResult:
    facts = bundle.manifest.model
    said = f"{nonzero} of {total} weights are not zero, the manifest says {facts.nonzero} of {facts.prunable}"
    kept = _kept((nonzero, total), (facts.nonzero, facts.prunable), exact=exact)
    return holds(f"{what}: weights as listed", kept, said, nonzero, facts.nonzero)


def _kept(found: tuple[int | None, int | None], listed: tuple[int | None, int | None], *, exact: bool) -> bool:
    """Whether what is left, of how much, is what was listed; less may be left where `exact` is false."""
    if exact or found[0] is None or listed[0] is None:
        return found == listed
    return found[1] == listed[1] and found[0] <= listed[0]
