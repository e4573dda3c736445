"""Loads the user's own weights into a classifier."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.models.classifier import Classifier, Normalize
from tscnc_deploy.models.config import ModelConfig
from tscnc_deploy.models.fit import describe_non_finite
from tscnc_deploy.models.weights.names import COUNTER, Candidate, find_networks
from tscnc_deploy.models.weights.read import Content, Foreign, open_weights
from tscnc_deploy.text import any_of, did_you_mean, escaped

_log = logging.getLogger(__name__)
_SHOWN = 10


def load_weights(model: Classifier, path: Path | str, key: str | None = None) -> str:
    """Replaces a classifier's weights with those of a file, converted to the classifier's dtypes.

    The file is one of `weights.SUFFIXES`: safetensors, or what torch.save wrote. No code of it is run, and Python
    objects beside the tensors are ignored. The network is the state dict, up to two keys deep, whose names are the
    classifier's, or those of kuangliu's networks, after any common prefix. Weights that torch's pruning has split into
    weight and mask are multiplied. Of plain and averaged weights (a key with "ema", "swa", "avg" or "averaged"), the
    averaged ones are taken, because they are the ones that papers evaluate, and a warning is logged.

    A normalisation in the file (mean and std, mu and sigma, or new_mean and new_std) replaces the classifier's, which
    is kept otherwise; so are batch counters that the file lacks. On an error nothing is changed.

    Args:
        model: The classifier.
        path: The file.
        key: Keys that lead to the weights, joined by dots, such as "ema" or "state_dict.model"; a prefix of names
            counts as a key. None takes the only network that fits.

    Returns:
        The keys that lead to the weights that were taken, in the same form; "" if the file is the state dict itself.

    Raises:
        InputError: The file is missing or damaged; nothing or more than one network in it fits the classifier; there is
            no such key; or values are not finite.
    """
    path = Path(path)
    expected = model.network.state_dict()
    with open_weights(path) as content:
        chosen = _choose(path, content, model, key)
        given = {name: content.read(tensor) for name, tensor in chosen.tensors.items()}
        config = _with_normalization(path, content, model.config, chosen)
    state = {}
    for name, tensor in expected.items():
        value = given[name] if name in given or not name.endswith(COUNTER) else tensor
        if value.is_floating_point() != tensor.is_floating_point() or value.is_complex():
            msg = f"{path}: {name} has the dtype {value.dtype}, which does not convert to {tensor.dtype}"
            raise InputError(msg)
        state[name] = value.to(tensor.dtype)
    if names := describe_non_finite(state):
        msg = f"{path}: contains NaN or infinity in {names}"
        raise InputError(msg)
    model.config = config
    model.normalize.load_state_dict(Normalize(config.mean, config.std).state_dict())
    model.network.load_state_dict(state)
    return chosen.key


def _choose(path: Path, content: Content, model: Classifier, key: str | None) -> Candidate:
    expected = model.network.state_dict()
    found = find_networks(content.containers, expected, key)
    networks = _distinct(content, [candidate for candidate in found if not candidate.misfit])
    if not networks:
        raise InputError(f"{path}: {_nothing_fits(content, found, model, key)}")
    averaged = [candidate for candidate in networks if candidate.averaged]
    plain = [candidate for candidate in networks if not candidate.averaged]
    if len(networks) > 1 and (len(averaged), len(plain)) != (1, 1):
        keys = any_of(repr(escaped(candidate.key)) for candidate in networks)
        msg = f"{path}: contains several networks that fit; set model.checkpoint_key to {keys}"
        raise InputError(msg)
    chosen = (averaged or plain)[0]
    if len(networks) > 1:
        _log.warning(
            "%s: takes the averaged weights under %r; for the others, set model.checkpoint_key to %r",
            path, escaped(chosen.key), escaped(plain[0].key),
        )  # fmt: skip
    for other in found:
        if other.averaged and other.misfit and other.tensors and not chosen.averaged:
            _log.warning(
                "%s: takes the weights under %r, because the averaged ones under %r do not fit: %s",
                path, escaped(chosen.key), escaped(other.key), other.misfit,
            )  # fmt: skip
    return chosen


def _distinct(content: Content, candidates: list[Candidate]) -> list[Candidate]:
    """Those that differ: some projects save one network under several names, and copies of it."""
    distinct: list[Candidate] = []
    for candidate in candidates:
        if not any(candidate.same_as(other) or _equal(content, candidate, other) for other in distinct):
            distinct.append(candidate)
        if len(distinct) == _SHOWN:
            break
    return distinct


def _equal(content: Content, first: Candidate, second: Candidate) -> bool:
    return first.tensors.keys() == second.tensors.keys() and all(
        content.read(tensor).equal(content.read(second.tensors[name])) for name, tensor in first.tensors.items()
    )


def _nothing_fits(content: Content, found: list[Candidate], model: Classifier, key: str | None) -> str:
    best = max(found, key=lambda candidate: (len(candidate.tensors), len(candidate.unexpected)), default=None)
    if best is None or not (best.tensors or best.foreign or best.unexpected):
        if key is not None and content.containers:
            return _no_such_key(content, model, key)
        return _no_weights(content)
    config = model.config
    what = f"the weights under {escaped(best.key)!r}" if best.key else "the weights"
    return (
        f"{what} do not match model.arch = {config.arch!r} with model.width = {config.width:g}, "
        f"{config.classes} classes and {config.input_shape[0]} channels; {best.misfit}"
    )


def _no_such_key(content: Content, model: Classifier, key: str) -> str:
    others = find_networks(content.containers, model.network.state_dict(), None)
    keys = [escaped(other.key) for other in others if other.key and other.tensors][:_SHOWN]
    known = f"it has {any_of(map(repr, keys))}{did_you_mean(key, keys)}" if keys else "leave it out"
    return f"model.checkpoint_key = {escaped(key)!r} does not lead to weights in this file; {known}"


def _no_weights(content: Content) -> str:
    """Says what is in the file instead of a state dict."""
    objects = [entry for container in content.containers for entry in container.entries.values()]
    objects += [] if content.whole is None else [content.whole]
    foreign = [entry for entry in objects if isinstance(entry, Foreign)]
    if modules := [entry.name for entry in foreign if entry.is_module]:
        return (
            f"contains a whole pickled module ({modules[0]}), whose code is not run; save its state_dict(), or export "
            "it to ONNX"
        )
    others = f"; Python objects are not loaded ({foreign[0].name})" if foreign else ""
    return f"contains no tensors by name, as a state dict has{others}; save the model's state_dict() with torch.save"


def _with_normalization(path: Path, content: Content, config: ModelConfig, chosen: Candidate) -> ModelConfig:
    found: dict[str, tuple[tuple[float, ...], ...]] = {}
    for name, pair in chosen.normalization.items():
        found[name] = tuple(_per_channel(content.read(part), config) for part in pair)
    if not found:
        return config
    if len(set(found.values())) > 1:
        msg = f"{path}: contains several normalisations: {', '.join(escaped(name) for name in found)}"
        raise InputError(msg)
    name, (mean, std) = next(iter(found.items()))
    if max(mean) > 1:
        values = f"{escaped(name)} is {list(mean)}"
        msg = f"{path}: {values}, which is not a mean of pixels in [0, 1]; divide mean and std by 255 if that is meant"
        raise InputError(msg)
    try:
        return replace(config, mean=mean, std=std)
    except InputError as error:
        msg = f"{path}: {error}"
        raise InputError(msg) from error


def _per_channel(values: Tensor, config: ModelConfig) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values.flatten()[: config.input_shape[0] + 1].to(torch.float64))
    return numbers * config.input_shape[0] if len(numbers) == 1 else numbers
