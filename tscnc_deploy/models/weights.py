"""Loads the user's own weights into a classifier."""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.models.classifier import Classifier
from tscnc_deploy.models.config import ModelConfig
from tscnc_deploy.models.fit import describe_misfit, describe_non_finite

_PICKLED = (".pt", ".pth", ".ckpt")
_CONTAINERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.")
# The exceptions of torch.load's parsers on damaged archives.
_DAMAGE = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    EOFError,
    AssertionError,
    struct.error,
)
_NORMALIZATION = ("normalize.mean", "normalize.std")


def load_weights(model: Classifier, path: Path | str) -> None:
    """Replaces a classifier's weights with those of a file, converted to the classifier's dtypes.

    The file is .safetensors, or .pt, .pth or .ckpt with only tensors and plain values (no code is run). It contains a
    state dict, directly or under "state_dict", "model_state_dict" or "model". Prefixes that wrappers add (module.,
    _orig_mod., model., network.) are ignored. The normalisation is replaced if the file contains one that this package
    wrote, and otherwise kept; batch counters that a file lacks are kept too. On an error nothing is changed.

    Raises:
        InputError: The file is missing or damaged, contains anything but tensors, tensors of another architecture, or
            values that are not finite.
    """
    path = Path(path)
    given = _bare_names(path, _state_dict(path, _read(path)))
    expected = _bare_names(path, model.state_dict())
    kept = [name for name in expected if name in _NORMALIZATION or name.endswith(".num_batches_tracked")]
    state = {name: expected[name] for name in kept} | given
    if misfit := describe_misfit(expected, {name: tuple(tensor.shape) for name, tensor in state.items()}):
        config = model.config
        msg = (
            f"{path}: the weights do not match model.arch = {config.arch!r} with model.width = {config.width:g}, "
            f"{config.classes} classes and {config.input_shape[0]} channels; {misfit}"
        )
        raise InputError(msg)
    for name, tensor in expected.items():
        if state[name].is_floating_point() != tensor.is_floating_point():
            msg = f"{path}: {name} has the dtype {state[name].dtype}, which does not convert to {tensor.dtype}"
            raise InputError(msg)
    state = {name: state[name].to(tensor.dtype) for name, tensor in expected.items()}
    if names := describe_non_finite(state):
        msg = f"{path}: contains NaN or infinity in {names}"
        raise InputError(msg)
    model.config = _with_normalization(path, model.config, given)
    model.load_state_dict({name: state[bare] for name, bare in zip(model.state_dict(), expected, strict=True)})


def _read(path: Path) -> Any:
    if path.suffix not in (".safetensors", *_PICKLED):
        msg = f"{path}: model.checkpoint must be a .safetensors file, or one of {', '.join(_PICKLED)} with only tensors"
        raise InputError(msg)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings():
            # Warnings about unknown pickle protocols, before the error that explains the problem.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        msg = f"{path}: cannot be read: {error}"
        raise InputError(msg) from error
    except pickle.UnpicklingError as error:
        msg = f"{path}: is damaged or contains more than tensors, so it is not loaded; save only the model's state_dict"
        raise InputError(msg) from error
    except _DAMAGE as error:
        msg = f"{path}: is damaged: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        raise InputError(msg) from error


def _state_dict(path: Path, content: Any) -> Mapping[str, Tensor]:
    if isinstance(content, dict):
        content = next((content[key] for key in _CONTAINERS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not content:
        what = "is empty" if content == {} else f"contains a {type(content).__name__}"
        msg = f"{path}: {what}; it must contain a state dict, directly or under {', '.join(map(repr, _CONTAINERS))}"
        raise InputError(msg)
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            msg = f"{path}: {name!r} is a {type(value).__name__}; a state dict must contain tensors by name"
            raise InputError(msg)
    return content


def _with_normalization(path: Path, config: ModelConfig, given: Mapping[str, Tensor]) -> ModelConfig:
    values: dict[str, Any] = {
        name.split(".")[1]: tuple(given[name].flatten().tolist()) for name in _NORMALIZATION if name in given
    }
    try:
        return replace(config, **values)
    except InputError as error:
        msg = f"{path}: {error}"
        raise InputError(msg) from error


def _bare_names(path: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    bare: dict[str, Tensor] = {}
    for name, tensor in state.items():
        stem = name
        while prefix := next((prefix for prefix in _PREFIXES if stem.startswith(prefix)), None):
            stem = stem.removeprefix(prefix)
        if stem in bare:
            msg = f"{path}: contains {stem} twice under different prefixes; save only one network"
            raise InputError(msg)
        bare[stem] = tensor
    return bare
