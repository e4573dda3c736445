"""Recomputes what is counted in the files: figures of network, layers and sizes, and the gates that need them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tscnc_deploy.bundle.manifest import MANIFEST, RECIPE, TWIN
from tscnc_deploy.check.figures import result_of, same
from tscnc_deploy.check.graphs import conditions_of
from tscnc_deploy.text import escaped, number, quoted

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.check.result import CheckResult
    from tscnc_deploy.engines.onnx.structure import Structure
    from tscnc_deploy.record import Gate

# Condition numbers near the limit of float32 depend on the rounding of a library's eigenvalues.
_KAPPA_ROUNDING = 0.05


def check_counted(bundle: Bundle, counted: Mapping[str, Structure]) -> Iterator[CheckResult]:
    """Whether the figures of network, layers, sizes and gates follow from the files and from the other figures.

    Args:
        bundle: The bundle.
        counted: The weights of its ONNX files, by path, the twin's among them.
    """
    yield result_of("manifest: network as in the record and the files", _network(bundle, counted))
    yield result_of("record: layers are the twin's", _layers(bundle, counted))
    yield result_of("record: sizes are those of the files", _sizes(bundle))
    yield result_of("record: gates follow from the figures", _gates(bundle, counted))


def _network(bundle: Bundle, counted: Mapping[str, Structure]) -> Iterator[str]:
    manifest, record = bundle.manifest, bundle.record
    if manifest.name != record.name:
        yield f"{MANIFEST} calls the bundle {manifest.name}, the record {quoted(record.name)}"
    stated, told = manifest.model, record.model
    for key in type(stated).model_fields:
        if (have := getattr(stated, key)) != getattr(told, key):
            yield f"{key} is {_short(have)} in {MANIFEST}, {_short(getattr(told, key))} in the record"
    if stated.arch != (arch := bundle.load_recipe().model.arch):
        yield f"arch is {_short(stated.arch)} in {MANIFEST}, {_short(arch)} in {RECIPE}"
    if not same(stated.sparsity, 1 - stated.nonzero / stated.prunable if stated.prunable else 0.0):
        yield f"sparsity is {stated.sparsity:.4%}, but {stated.nonzero} of {stated.prunable} weights are not zero"
    macs = (stated.multiply_adds, stated.multiply_adds_left, stated.multiply_add_sparsity)
    if macs != (None, None, None):
        found = _multiply_adds(counted)
        total, left = (sum(pair[which] for pair in found.values()) for which in (0, 1))
        expected = (total, left, 1 - left / total if total else 0.0)
        if not all(map(same, macs, expected)):
            yield f"{macs[1]} of {macs[0]} MACs are said to remain, {left} of {total} in the files"


def _multiply_adds(counted: Mapping[str, Structure]) -> dict[str, tuple[int, int]]:
    """MACs of every layer of the twin with all weights, and with those that are not zero; by name."""
    return {layer.name: (layer.multiply_adds or 0, layer.multiply_adds_left or 0) for layer in counted[TWIN].layers}


def _layers(bundle: Bundle, counted: Mapping[str, Structure]) -> Iterator[str]:
    found = {layer.name: layer.to_json() for layer in conditions_of(bundle, TWIN)}
    macs = _multiply_adds(counted)
    told = {layer.name: layer for layer in bundle.record.layers}
    if found.keys() != told.keys() or len(told) != len(bundle.record.layers):
        yield f"the twin has {len(found)} layers, the record others"
        return
    for name, layer in told.items():
        expected = found[name]
        for key in ("shape", "parameters", "nonzero", "sparsity", "filters", "dead_filters", "full_rank"):
            have, want = getattr(layer, key), expected[key]
            if not (list(have) == want if key == "shape" else same(have, want)):
                yield f"{escaped(name)}: {key} is {want}, the record says {have}"
        for key, rounding in (("kappa", _KAPPA_ROUNDING), ("spectral_norm", 1e-4), ("rank", _KAPPA_ROUNDING)):
            if not same(getattr(layer, key), expected[key], rounding):
                yield f"{escaped(name)}: {key} is {expected[key]}, the record says {getattr(layer, key)}"
        told_macs = (layer.multiply_adds, layer.multiply_adds_left)
        if told_macs not in ((None, None), macs[name]):
            yield f"{escaped(name)}: {macs[name][1]} of {macs[name][0]} MACs remain, the record says {told_macs[1]}"


def _sizes(bundle: Bundle) -> Iterator[str]:
    rows = {size.name: size for size in bundle.record.sizes}
    files = {entry.bytes for path, entry in bundle.manifest.files.items() if path.startswith(("engines/", TWIN))}
    dense = rows.get("dense file")
    for name, size in rows.items():
        if name in ("dense file", "sparse file", "engine file") and size.bytes not in files:
            yield f"the {name} is said to have {size.bytes} bytes; no file of twin or engines has"
        if dense and dense.bytes and size.bytes and not same(size.ratio, dense.bytes / size.bytes):
            yield f"{quoted(name)} is {dense.bytes / size.bytes:.2f} times smaller, the record says {size.ratio}"


def _gates(bundle: Bundle, counted: Mapping[str, Structure]) -> Iterator[str]:
    try:
        expected = {gate.name: gate for gate in _expected_gates(bundle, counted)}
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        yield f"a figure that a gate needs is missing: {quoted(str(error).splitlines()[0])}"
        return
    told = {gate.name: gate for gate in bundle.record.gates}
    for name in sorted({*expected, *told}):
        if name not in told:
            yield f"the record lacks the gate {quoted(name)}, which {RECIPE} sets"
        elif name not in expected:
            yield f"{quoted(name)} is not a gate of {RECIPE}"
        elif not _equal(told[name], expected[name]):
            yield f"{quoted(name)} is {_told(expected[name])}, the record says {_told(told[name])}"
    if len(told) != len(bundle.record.gates):
        yield "the record has a gate twice"


def _expected_gates(bundle: Bundle, counted: Mapping[str, Structure]) -> list[Gate]:
    from tscnc_deploy.pipeline.gates import build_gates

    document = bundle.record.to_json()
    structure = {}
    for name, entry in bundle.manifest.engines.items():
        twin = bundle.twin_path(name)
        graphs = (f"{entry.folder}/model.graph.onnx", f"{entry.folder}/model.onnx", twin)
        graph = next(counted[path] for path in graphs if path in counted)
        structure[name] = {
            "prunable": graph.prunable,
            "nonzero": graph.nonzero,
            "precision": graph.precision,
            **({"completion": True} if twin != TWIN else {}),
        }
    engines = {
        name: {key: value for key, value in engine.items() if key != "unavailable" or value is not None}
        for name, engine in document["evaluations"]["engines"].items()
    }
    verified = {"twin": document["evaluations"]["twin"], "comparison": document["pruning"]}
    return build_gates(bundle.load_recipe(), structure, verified, engines, document["layers"])


def _equal(one: Gate, other: Gate) -> bool:
    alike = same(one.value, other.value) and same(one.limit, other.limit)
    return alike and (one.passed, one.inconclusive) == (other.passed, other.inconclusive)


def _told(gate: Gate) -> str:
    limit = "none" if gate.limit is None else number(gate.limit)
    value = "none" if gate.value is None else number(gate.value)
    return f"{value} with the limit {limit}, {'passed' if gate.passed else 'failed'}"


def _short(value: object) -> str:
    text = str(value)
    return quoted(text if len(text) <= 60 else text[:57] + "...")
