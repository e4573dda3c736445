"""Finds a network in the dicts of a file, whatever its tensors' names have in front of them.

Prefixes are found by fitting: those after which the names are the network's. Names of other projects count as the
network's where the layers compute the same; so the shortcut of a pre-activation block that projects the raw input, and
MobileNetV2 with other strides or shortcuts, have no mapping, even where all shapes agree.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tscnc_deploy.models.fit import describe_misfit, listed
from tscnc_deploy.models.weights.pickles import PickleError
from tscnc_deploy.models.weights.read import Container, Foreign, Stored

COUNTER = ".num_batches_tracked"
"""End of the names of buffers that batch norms do not need to compute."""

# Wrappers around a network that are looked through, such as state_dict's "module._orig_mod.attacker.model.".
_MAX_PREFIXES = 8
# In one dict.
_MAX_NETWORKS = 32
_HEADS = ("fc", "linear", "classifier", "head", "last_linear", "logits")
_MEANS_STDS = (("mean", "std"), ("mu", "sigma"), ("new_mean", "new_std"))
_AVERAGED = re.compile(r"(?:^|[._])(?:ema|swa|avg|averaged?)(?:[._]|$)", re.IGNORECASE)
# What torch's two kinds of parametrisation leave in place of a weight.
_PARAMETRISED = re.compile(r"\.parametrizations\.|_(?:orig|mask|g|v)$")


@dataclass
class Candidate:
    """Tensors of a file that may be the network.

    Attributes:
        key: The keys that lead to them and their common prefix, joined by dots; "" if there is neither.
        tensors: Found tensors by the network's names.
        unexpected: Tensors that are not the network's, by their names after the prefix.
        normalization: (mean, std) of each normalisation beside or inside of the network, by the name of its mean.
        foreign: Python objects that are where tensors are needed, by their names.
        misfit: Why they are not the network; empty if they are.
    """

    key: str
    tensors: dict[str, Stored] = field(default_factory=dict)
    unexpected: dict[str, Stored] = field(default_factory=dict)
    normalization: dict[str, tuple[Stored, Stored]] = field(default_factory=dict)
    foreign: dict[str, Foreign] = field(default_factory=dict)
    misfit: str = ""

    @property
    def averaged(self) -> bool:
        """Whether the key is one that projects give to averages of weights over a training."""
        return _AVERAGED.search(self.key) is not None

    def is_under(self, key: str) -> bool:
        """Whether a key leads to it, or to a part of the file that contains it."""
        return _leads(key, self.key)

    def same_as(self, other: Candidate) -> bool:
        """Whether both are the same parts of the file."""
        return {name: tensor.place for name, tensor in self.tensors.items()} == {
            name: tensor.place for name, tensor in other.tensors.items()
        }


def find_networks(containers: Iterable[Container], expected: Mapping[str, Tensor], key: str | None) -> list[Candidate]:
    """All that resembles the network in some dicts, the outermost first.

    Args:
        containers: The dicts.
        expected: The network's tensors by name.
        key: Only candidates that this key leads to; tensors that it does not lead to are nobody's. None for all.
    """
    known = _known_names(expected)
    found: list[Candidate] = []
    outer: dict[str, dict[str, tuple[Stored, Stored]]] = {}
    for container in containers:
        inside = _Inside(container, known, key)
        outer[container.key] = inside.normalization
        for prefix in reversed(inside.prefixes):
            candidate = inside.candidate(prefix, expected)
            for place in _ancestors(container.key):
                candidate.normalization = candidate.normalization or outer.get(place, {})
            found.append(candidate)
    return [candidate for candidate in found if key is None or candidate.is_under(key)]


def _known_names(expected: Iterable[str]) -> dict[str, str]:
    """The network's names by each name that a file may use."""
    known = {name: name for name in expected}
    *_, last = known
    head = last.rpartition(".")[0]
    for name in list(known):
        module, _, parameter = name.rpartition(".")
        # kuangliu's ResNets.
        names = [name.replace(".downsample.", ".shortcut.")]
        names += [f"{other}.{parameter}" for other in _HEADS if module == head]
        for other in names:
            known.setdefault(other, name)
    return known


class _Inside:
    """What one dict has: the names before which prefix are the network's, and what is beside them.

    Attributes:
        prefixes: The longest first, so that a name belongs to the first one that it begins with.
        normalization: Means and standard deviations by the name of the mean.
    """

    def __init__(self, container: Container, known: Mapping[str, str], key: str | None) -> None:
        self._place, self._known = container.key, known
        entries = unpruned(container.entries)
        self.prefixes = _prefixes(entries, known)
        self._parts: dict[str, dict[str, Stored | Foreign]] = {prefix: {} for prefix in self.prefixes}
        beside: dict[str, Stored] = {}
        for name, entry in entries.items():
            prefix = self._owner(name)
            rest = name.removeprefix(prefix or "")
            if prefix is not None and rest in known:
                self._parts[prefix][rest] = entry
            elif isinstance(entry, Stored) and not self._is_unused(rest, entry):
                beside[name] = entry
        self.normalization = _take_normalization(beside)
        self._beside: dict[str | None, dict[str, Stored]] = {}
        for name, entry in beside.items():
            if key is None or _leads(key, _joined(container.key, name)):
                self._beside.setdefault(self._owner(name), {})[name] = entry

    def candidate(self, prefix: str, expected: Mapping[str, Tensor]) -> Candidate:
        candidate = Candidate(_joined(self._place, prefix.rstrip(".")))
        doubled = []
        for name, entry in self._parts[prefix].items():
            target = self._known[name]
            if target in candidate.tensors or target in candidate.foreign:
                doubled.append(name)
            elif isinstance(entry, Stored):
                candidate.tensors[target] = entry
            else:
                candidate.foreign[target] = entry
        # Of two networks in one dict, each has what is next to it.
        nearest = max((_shared(name, prefix) for name in self.normalization), default=0)
        candidate.normalization = {
            name: pair for name, pair in self.normalization.items() if _shared(name, prefix) == nearest
        }
        candidate.unexpected = {
            name.removeprefix(prefix): entry
            for name, entry in (self._beside.get(prefix, {}) | self._beside.get(None, {})).items()
        }
        candidate.misfit = _misfit(candidate, expected, doubled)
        return candidate

    def _owner(self, name: str) -> str | None:
        return next((prefix for prefix in self.prefixes if name.startswith(prefix)), None)

    def _is_unused(self, name: str, entry: Stored) -> bool:
        # The published WideResNets of TRADES have a second first group, which their forward never calls.
        if name.startswith("sub_block1.") and name.removeprefix("sub_") in self._known:
            return True
        # Counters, such as n_averaged of torch.optim.swa_utils.AveragedModel.
        return entry.dtype == torch.int64 and math.prod(entry.shape) == 1


def unpruned(entries: Mapping[str, Stored | Foreign]) -> dict[str, Stored | Foreign]:
    """Replaces each weight that torch's pruning has split into weight and mask by their product.

    That is X_orig and X_mask of torch.nn.utils.prune, and parametrizations.X.original with parametrizations.X.0.mask of
    torch.ao.pruning. What other parametrisations compute is not in a file.
    """
    found = dict(entries)
    for name in entries:
        if name.endswith("_orig"):
            whole = name.removesuffix("_orig")
            parts = [name, f"{whole}_mask"]
        elif name.endswith(".original") and ".parametrizations." in f".{name}":
            stem = name.removesuffix("original")
            whole = "".join(f".{stem[:-1]}".rsplit("parametrizations.", 1))[1:]
            parts = [name, f"{stem}0.mask"]
            if any(other.startswith(stem) and other not in parts for other in entries):
                continue
        else:
            continue
        weight, mask = (entries.get(part) for part in parts)
        if whole in entries or not isinstance(weight, Stored) or not isinstance(mask, Stored):
            continue
        if weight.shape == mask.shape:
            found[whole] = _product(weight, mask, parts[1])
            del found[parts[0]], found[parts[1]]
    return found


def _product(weight: Stored, mask: Stored, name: str) -> Stored:
    def read() -> Tensor:
        kept = mask.read()
        if not ((kept == 0) | (kept == 1)).all():
            msg = f"{name} has values other than 0 and 1"
            raise PickleError(msg)
        return weight.read() * kept.to(weight.dtype)

    return Stored(weight.shape, weight.dtype, (weight.place, mask.place), read)


def _prefixes(entries: Mapping[str, Stored | Foreign], known: Mapping[str, str]) -> list[str]:
    """Prefixes after which most of the network's names follow, or else the one after which the most do."""
    counts: Counter[str] = Counter()
    for name in entries:
        start = 0
        for _ in range(_MAX_PREFIXES):
            if name[start:] in known:
                counts[name[:start]] += 1
            start = name.find(".", start) + 1
            if not start:
                break
    if not counts:
        # Another network, perhaps; an object alone is none.
        return [""] if any(isinstance(entry, Stored) for entry in entries.values()) else []
    needed = len({target for name, target in known.items() if not name.endswith(COUNTER)})
    first, *others = counts.most_common(_MAX_NETWORKS)
    most = [first[0], *(prefix for prefix, count in others if count >= needed / 2)]
    return sorted(most, key=len, reverse=True)


def _take_normalization(beside: dict[str, Stored]) -> dict[str, tuple[Stored, Stored]]:
    """Removes means and standard deviations from the tensors beside a network, and returns them."""
    found = {}
    for name in list(beside):
        stem, _, last = name.rpartition(".")
        for mean, std in _MEANS_STDS:
            other = f"{stem}.{std}" if stem else std
            if last == mean and other in beside:
                found[name] = (beside.pop(name), beside.pop(other))
    return found


def _misfit(candidate: Candidate, expected: Mapping[str, Tensor], doubled: list[str]) -> str:
    if doubled:
        return f"the same tensor under two names: {listed(doubled)}"
    shapes = {name: tuple(tensor.shape) for name, tensor in expected.items() if name.endswith(COUNTER)}
    # What a Python object stands for is said below, so it is not missing.
    shapes |= {name: tuple(expected[name].shape) for name in candidate.foreign}
    shapes |= {name: tensor.shape for name, tensor in (candidate.tensors | candidate.unexpected).items()}
    parts = [describe_misfit(expected, shapes)]
    if candidate.foreign:
        objects = [f"{name} ({foreign.name})" for name, foreign in candidate.foreign.items()]
        parts.append(f"not a tensor but a Python object, which is not loaded: {listed(objects)}")
    if any(_PARAMETRISED.search(name) for name in candidate.unexpected):
        parts.append(
            "what a parametrisation computes is not in the file; before you save, call "
            "torch.nn.utils.parametrize.remove_parametrizations (torch.nn.utils.remove_weight_norm, prune.remove)"
        )
    return "; ".join(part for part in parts if part)


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key and name else key or name


def _leads(key: str, name: str) -> bool:
    return f"{name}.".startswith(f"{key}.")


def _ancestors(key: str) -> list[str]:
    """Keys of the dicts around a dict, the nearest first."""
    return [key[:end] for end in range(len(key) - 1, 0, -1) if key[end] == "."] + ([""] if key else [])


def _shared(name: str, prefix: str) -> int:
    """How many parts of their dotted names are the same from the start."""
    pairs = zip(name.split("."), prefix.split("."), strict=False)
    return next((count for count, (one, other) in enumerate(pairs) if one != other), len(prefix.split(".")))
