"""Compares a bundle with a rebuild of the same recipe, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from tscnc_deploy.bundle.manifest import ARRAYS, RECIPE, TWIN
from tscnc_deploy.check.graphs import graph_of
from tscnc_deploy.check.result import CheckResult, pass_or_fail
from tscnc_deploy.errors import BundleError
from tscnc_deploy.text import escaped, quoted

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle

# Parts of the record that differ between two equal builds; the schema is that of the version that wrote it.
_NOT_COMPARED = {"seconds", "environment", "latency", "schema"}
# These builders choose kernels by timing them, so no two of their engines are the same file.
_TIMED = "tensorrt"


def compare_rebuilt(bundle: Bundle, rebuilt: Bundle) -> Iterator[CheckResult]:
    """Whether everything that a build determines is equal: recipe, masks, weights, engines, evidence, figures.

    Files that are derived from these or that describe the build are not compared: report, model card, bill of
    materials, provenance, script, and the times in the record. On another class of machine or with other versions,
    bytes may differ through rounding alone, so messages name what differs in the environment.

    Args:
        bundle: The bundle to check.
        rebuilt: The rebuild from its recipe.
    """
    environment = _environment(bundle, rebuilt)
    for name, difference in {
        "recipe": _file(bundle, rebuilt, RECIPE),
        **_weights(bundle, rebuilt),
        "evidence": _evidence(bundle, rebuilt),
        "figures": _record(bundle, rebuilt),
    }.items():
        yield pass_or_fail(f"reproduced: {name}", not difference, difference + environment)
    yield from _engines(bundle, rebuilt, environment)


def _digest(bundle: Bundle, path: str) -> str | None:
    entry = bundle.manifest.files.get(path)
    return entry.sha256 if entry else None


def _file(bundle: Bundle, rebuilt: Bundle, path: str) -> str:
    was, now = _digest(bundle, path), _digest(rebuilt, path)
    return "" if was == now else f"{path} has the SHA-256 {was or 'none'}, rebuilt {now or 'none'}"


def _weights(bundle: Bundle, rebuilt: Bundle) -> dict[str, str]:
    """How the masks and the weights differ."""
    difference = _file(bundle, rebuilt, TWIN)
    if not difference:
        return {"masks": "", "weights": ""}
    was, now = (_constants(each) for each in (bundle, rebuilt))
    if {name: array.shape for name, array in was.items()} != {name: array.shape for name, array in now.items()}:
        return {"masks": "the layers are not the same", "weights": difference}
    # Norms and biases have no mask; one of their weights may be zero by chance.
    moved = sum(int(((was[name] == 0) != (now[name] == 0)).sum()) for name in was if was[name].ndim > 1)
    masks = f"{moved} weights are zero in only one of the two" if moved else ""
    return {"masks": masks, "weights": f"{_differing(was, now)}; {difference}"}


def _evidence(bundle: Bundle, rebuilt: Bundle) -> str:
    difference = _file(bundle, rebuilt, ARRAYS)
    if not difference:
        return ""
    return f"{_differing(_arrays(bundle), _arrays(rebuilt))}; {difference}"


def _constants(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """What the twin's graph stores, by name: parameters, statistics of norms, and the exporter's own."""
    from tscnc_deploy.engines.onnx.file import dense_array
    from tscnc_deploy.engines.onnx.structure import stored_weights

    stored = stored_weights(graph_of(bundle, TWIN).graph)
    return {name: dense_array(tensor) for name, tensor in stored.items()}


def _arrays(bundle: Bundle) -> dict[str, NDArray[Any]]:
    try:
        return safetensors.numpy.load(bundle.read(ARRAYS))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        msg = f"{bundle.path}: {ARRAYS} is not a safetensors file: {quoted(str(error))}"
        raise BundleError(msg) from None


def _differing(was: Mapping[str, NDArray[Any]], now: Mapping[str, NDArray[Any]]) -> str:
    """Which arrays differ, and the largest difference of a value."""
    names = sorted(name for name in {*was, *now} if not _same(was.get(name), now.get(name)))
    both = [name for name in names if name in was and name in now and was[name].shape == now[name].shape]
    largest = max((float(np.abs(was[name].astype(float) - now[name]).max(initial=0)) for name in both), default=0.0)
    return f"{len(names)} of {len({*was, *now})} arrays differ, by up to {largest:.3g}: {_few(names)}"


def _same(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    return one is not None and other is not None and one.dtype == other.dtype and np.array_equal(one, other)


def _record(bundle: Bundle, rebuilt: Bundle) -> str:
    names = sorted(_unequal(bundle.record.to_json(), rebuilt.record.to_json(), ""))
    return f"{len(names)} entries of the record differ: {_few(names)}" if names else ""


def _unequal(one: Any, other: Any, place: str) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {*one, *other} - _NOT_COMPARED:
            yield from _unequal(one.get(key), other.get(key), f"{place}.{key}" if place else str(key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from _unequal(*pair, f"{place}[{index}]")
    elif one != other:
        yield place


def _engines(bundle: Bundle, rebuilt: Bundle, environment: str) -> Iterator[CheckResult]:
    for name, entry in sorted(bundle.manifest.engines.items()):
        inside = f"{entry.folder}/"
        paths = {path for each in (bundle, rebuilt) for path in each.manifest.files if path.startswith(inside)}
        differences = [found for path in sorted(paths) if (found := _file(bundle, rebuilt, path))]
        if differences and entry.kind.startswith(_TIMED):
            message = f"{entry.kind} chooses kernels by timing them, so two builds never give the same files"
            yield CheckResult(f"reproduced: {name}", "note", message)
            continue
        yield pass_or_fail(f"reproduced: {name}", not differences, "\n".join(differences) + environment)


def _environment(bundle: Bundle, rebuilt: Bundle) -> str:
    """The end of a message: how the two environments differ."""
    was, now = (each.record.environment for each in (bundle, rebuilt))
    differing = [
        f"{escaped(name)} {escaped(was.get(name, 'none'))} -> {escaped(now.get(name, 'none'))}"
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name)
    ]
    return f" (rebuilt with {', '.join(differing)})" if differing else ""


def _few(names: list[str]) -> str:
    shown = ", ".join(escaped(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
