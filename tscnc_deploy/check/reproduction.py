"""A bundle beside the same recipe built again: what is not the same, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from tscnc_deploy.bundle.manifest import ARRAYS, RECIPE, TWIN
from tscnc_deploy.check.result import CheckResult, holds
from tscnc_deploy.errors import BundleError
from tscnc_deploy.report.data import ReportData
from tscnc_deploy.strict_json import quoted

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle

# Of the record: what differs between two builds that are the same.
_TIMES = {"seconds", "environment", "latency"}
# They choose kernels by timing them, so no two of their engines are the same file.
_TIMED = "tensorrt"


def compare_rebuilt(bundle: Bundle, rebuilt: Bundle) -> Iterator[CheckResult]:
    """Whether everything that a build determines came out the same: recipe, masks, weights, engines, evidence, figures.

    Left out is what is made of these or tells of the build itself: report, model card, bill of materials, provenance,
    script, and the times in the record. On a machine of another class, or with other versions, bytes may differ for no
    worse reason than rounding; what differs there is named too.

    Args:
        bundle: What is checked.
        rebuilt: Built again from its recipe.
    """
    elsewhere = _environment(bundle, rebuilt)
    for name, difference in {
        "recipe": _file(bundle, rebuilt, RECIPE),
        **_weights(bundle, rebuilt),
        "evidence": _arrays(bundle, rebuilt),
        "figures": _record(bundle, rebuilt),
    }.items():
        yield holds(f"reproduced: {name}", not difference, difference + elsewhere)
    yield from _engines(bundle, rebuilt, elsewhere)


def _digest(bundle: Bundle, path: str) -> str | None:
    entry = bundle.manifest.files.get(path)
    return entry.sha256 if entry else None


def _file(bundle: Bundle, rebuilt: Bundle, path: str) -> str:
    was, now = _digest(bundle, path), _digest(rebuilt, path)
    return "" if was == now else f"{path} has the SHA-256 {was or 'none'}, built again {now or 'none'}"


def _weights(bundle: Bundle, rebuilt: Bundle) -> dict[str, str]:
    """What differs of the masks, and of the weights."""
    difference = _file(bundle, rebuilt, TWIN)
    if not difference:
        return {"masks": "", "weights": ""}
    was, now = _tensors(bundle, TWIN), _tensors(rebuilt, TWIN)
    if {name: array.shape for name, array in was.items()} != {name: array.shape for name, array in now.items()}:
        return {"masks": "the layers are not the same", "weights": difference}
    # Norms and biases are no part of a mask; a weight of theirs that is zero by chance would count here for nothing.
    moved = sum(int(((was[name] == 0) != (now[name] == 0)).sum()) for name in was if was[name].ndim > 1)
    masks = f"{moved} weights are zero in one of the two only" if moved else ""
    return {"masks": masks, "weights": f"{_apart(was, now)}; {difference}"}


def _arrays(bundle: Bundle, rebuilt: Bundle) -> str:
    difference = _file(bundle, rebuilt, ARRAYS)
    if not difference:
        return ""
    return f"{_apart(_tensors(bundle, ARRAYS), _tensors(rebuilt, ARRAYS))}; {difference}"


def _tensors(bundle: Bundle, path: str) -> dict[str, NDArray[Any]]:
    try:
        return safetensors.numpy.load(bundle.read(path))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        msg = f"{bundle.path}: {path} is not a safetensors file: {quoted(str(error))}"
        raise BundleError(msg) from None


def _apart(was: Mapping[str, NDArray[Any]], now: Mapping[str, NDArray[Any]]) -> str:
    """Which arrays differ, and by how much those of numbers do at most."""
    names = sorted(name for name in {*was, *now} if not _same(was.get(name), now.get(name)))
    both = [name for name in names if name in was and name in now and was[name].shape == now[name].shape]
    largest = max((float(np.abs(was[name].astype(float) - now[name]).max(initial=0)) for name in both), default=0.0)
    return f"{len(names)} of {len({*was, *now})} arrays differ, by up to {largest:.3g}: {_few(names)}"


def _same(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    return one is not None and other is not None and one.dtype == other.dtype and np.array_equal(one, other)


def _record(bundle: Bundle, rebuilt: Bundle) -> str:
    names = sorted(_unequal(bundle.record, rebuilt.record, ""))
    return f"{len(names)} entries of the record differ: {_few(names)}" if names else ""


def _unequal(one: Any, other: Any, place: str) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {*one, *other} - _TIMES:
            yield from _unequal(one.get(key), other.get(key), f"{place}.{key}" if place else str(key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from _unequal(*pair, f"{place}[{index}]")
    elif one != other:
        yield place


def _engines(bundle: Bundle, rebuilt: Bundle, elsewhere: str) -> Iterator[CheckResult]:
    for name, entry in sorted(bundle.manifest.engines.items()):
        inside = f"{entry.folder}/"
        paths = {path for each in (bundle, rebuilt) for path in each.manifest.files if path.startswith(inside)}
        differences = [found for path in sorted(paths) if (found := _file(bundle, rebuilt, path))]
        if differences and entry.kind.startswith(_TIMED):
            said = f"{entry.kind} times its kernels to choose them, so its files are never the same twice"
            yield CheckResult(f"reproduced: {name}", "note", said)
            continue
        yield holds(f"reproduced: {name}", not differences, "\n".join(differences) + elsewhere)


def _environment(bundle: Bundle, rebuilt: Bundle) -> str:
    """The end of a message: in what the two machines differ."""
    was, now = (ReportData.from_json(each.record).environment for each in (bundle, rebuilt))
    differing = [
        f"{quoted(name)[1:-1]} {quoted(was.get(name, 'none'))[1:-1]} -> {quoted(now.get(name, 'none'))[1:-1]}"
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name)
    ]
    return f" (built again with {', '.join(differing)})" if differing else ""


def _few(names: list[str]) -> str:
    shown = ", ".join(quoted(name)[1:-1] for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
