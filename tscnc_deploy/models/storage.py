"""A classifier as one safetensors file: all parameters and buffers, and the config in the metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tscnc_deploy.errors import InputError
from tscnc_deploy.models.classifier import Classifier, Normalize, skeleton
from tscnc_deploy.models.config import ModelConfig
from tscnc_deploy.models.fit import describe_misfit, describe_non_finite

_CONFIG_KEY = "config"
_NORMALIZATION = ("normalize.mean", "normalize.std")


def save_model(model: Classifier, path: Path | str) -> None:
    """Writes a classifier; equal models give equal bytes.

    Raises:
        ValueError: The model has other tensors than its config says, such as parametrised weights.
        OSError: The file cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if misfit := describe_misfit(skeleton(model.config).state_dict(), shapes):
        msg = f"the model is not the {model.config.arch} that its config describes; {misfit}"
        raise ValueError(msg)
    # A single key, since safetensors writes several in no fixed order.
    Path(path).write_bytes(safetensors.torch.save(state, {_CONFIG_KEY: model.config.to_json()}))


def load_model(path: Path | str) -> Classifier:
    """Opens a file that `save_model` wrote; memory is allocated only for tensors that the config explains.

    Returns:
        The classifier in evaluation mode on the CPU, every tensor as it was saved, to the bit.

    Raises:
        InputError: The file is missing, damaged, has no config or a bad one, or its tensors have other names, shapes
            or dtypes than the config says, are not finite, or contradict it.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            config = _config(path, (file.metadata() or {}).get(_CONFIG_KEY))
            model = skeleton(config)
            _check_form(path, file, model)
            state = {name: file.get_tensor(name) for name in model.state_dict()}
    except (SafetensorError, OSError) as error:
        msg = f"{path}: is no readable safetensors file: {error}"
        raise InputError(msg) from error
    _check_values(path, state, config)
    # A copy: the tensors of an open safetensors file may be mapped, and would change with it.
    model.to_empty(device="cpu").load_state_dict(state)
    return model.eval()


def _config(path: Path, text: str | None) -> ModelConfig:
    if text is None:
        msg = f"{path}: holds weights but no model config; as weights to start from, name it in model.checkpoint"
        raise InputError(msg)
    try:
        return ModelConfig.from_json(text)
    except InputError as error:
        msg = f"{path}: {error}"
        raise InputError(msg) from error


def _check_form(path: Path, file: Any, model: Classifier) -> None:
    expected = model.state_dict()
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    shapes = {name: tuple(tensor.get_shape()) for name, tensor in slices.items()}
    if misfit := describe_misfit(expected, shapes):
        msg = f"{path}: does not hold the {model.config.arch} that its config describes; {misfit}"
        raise InputError(msg)
    for name, tensor in expected.items():
        dtype = "F32" if tensor.is_floating_point() else "I64"
        if slices[name].get_dtype() != dtype:
            msg = f"{path}: {name} has the dtype {slices[name].get_dtype()} instead of {dtype}"
            raise InputError(msg)


def _check_values(path: Path, state: dict[str, Tensor], config: ModelConfig) -> None:
    if names := describe_non_finite(state):
        msg = f"{path}: holds NaN or infinity in {names}"
        raise InputError(msg)
    expected = Normalize(config.mean, config.std).state_dict(prefix="normalize.")
    for name in _NORMALIZATION:
        if not state[name].equal(expected[name]):
            msg = f"{path}: {name} is {state[name].flatten().tolist()}, which contradicts the file's config"
            raise InputError(msg)
