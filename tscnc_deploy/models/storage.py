"""A classifier as one safetensors file: all parameters and buffers, and the config in the metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from tscnc_deploy.arch import parse_arch
from tscnc_deploy.errors import InputError
from tscnc_deploy.files import Read, read_file
from tscnc_deploy.models.classifier import Classifier, Normalize, build, skeleton
from tscnc_deploy.models.config import ModelConfig
from tscnc_deploy.models.fit import describe_misfit, describe_non_finite
from tscnc_deploy.text import escaped

_CONFIG_KEY = "config"
_METADATA = "__metadata__"
_MAX_BYTES = 1 << 32
# Enough for the config and a hundred bytes per tensor.
_MAX_HEADER = 4 << 20
# As safetensors names them.
_DTYPES = {
    torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_NORMALIZATION = ("normalize.mean", "normalize.std")


def save_model(model: Classifier, path: Path | str) -> None:
    """Writes a classifier; equal models give equal bytes.

    Raises:
        ValueError: The model's tensors do not match its config, for example because weights are parametrised.
        OSError: The file cannot be written.
    """
    # Copies, as tensors in a file share no memory.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    known = model.config.network.source == "builtin"
    if known and (misfit := describe_misfit(skeleton(model.config).state_dict(), shapes)):
        msg = f"the model does not match its config, which describes a {model.config.arch}; {misfit}"
        raise ValueError(msg)
    # A single key, because safetensors writes several keys in no fixed order.
    Path(path).write_bytes(safetensors.torch.save(state, {_CONFIG_KEY: model.config.to_json()}))


def load_model(path: Path | str, read: Read = read_file, *, arch: str | None = None, seed: int = 0) -> Classifier:
    """Opens a file that `save_model` wrote.

    Args:
        path: Path of the file.
        read: Returns the file's content.
        arch: The network's name as whoever runs this gave it, which a network needs that is not built in: what a file
            names is never imported.
        seed: That of `build`, which may determine more of such a network than its tensors.

    Returns:
        The classifier in evaluation mode on the CPU, with every tensor exactly as it was saved.

    Raises:
        InputError: The file is missing or damaged, has no valid config, or its tensors have other names, shapes or
            dtypes than the config requires, are not finite, or contradict it.
    """
    path = Path(path)
    data = read(path, _MAX_BYTES)
    header = _header(path, data)
    model = _model(path, (header.pop(_METADATA, None) or {}).get(_CONFIG_KEY), arch, seed)
    _check_form(path, header, model)
    try:
        state = safetensors.torch.load(data)
    except (SafetensorError, ValueError, RuntimeError) as error:
        msg = f"{path}: is not a readable safetensors file: {error}"
        raise InputError(msg) from error
    _check_values(path, state, model.config)
    if model.config.network.source == "builtin":
        model.to_empty(device="cpu")
    model.load_state_dict(state)
    return model.eval()


def _header(path: Path, data: bytes) -> dict[str, Any]:
    """Names, dtypes and shapes, to be checked against the config before any tensor is created.

    The library checks the rest of the file's format when it creates the tensors.
    """
    length = int.from_bytes(data[:8], "little")
    try:
        if length > _MAX_HEADER:
            msg = f"its header has {length} bytes; at most {_MAX_HEADER} are allowed"
            raise ValueError(msg)
        header = json.loads(data[8 : 8 + length], object_pairs_hook=_unique)
        entries = [entry for name, entry in header.items() if name != _METADATA]
        if not all(isinstance(entry["dtype"], str) and _is_shape(entry["shape"]) for entry in entries):
            msg = "a tensor has no dtype or no shape"
            raise ValueError(msg)
        if not isinstance((header.get(_METADATA) or {}).get(_CONFIG_KEY), str | None):
            msg = "its config is not text"
            raise ValueError(msg)
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        msg = f"{path}: is not a readable safetensors file: {error}"
        raise InputError(msg) from error
    return dict(header)


def _model(path: Path, text: str | None, arch: str | None, seed: int) -> Classifier:
    if text is None:
        msg = f"{path}: contains weights but no model config; to start from these weights, set model.checkpoint"
        raise InputError(msg)
    try:
        config = ModelConfig.from_json(text)
        if config.network.source == "builtin":
            return skeleton(config)
        return _of_code(config, arch, seed)
    except InputError as error:
        msg = f"{path}: {error}"
        raise InputError(msg) from error


def _of_code(config: ModelConfig, arch: str | None, seed: int) -> Classifier:
    """The network whose code the caller names, not yet with the file's weights."""
    if arch is None or parse_arch(arch).public != config.arch:
        given = "" if arch is None else f", not of {parse_arch(arch).public}"
        msg = (
            f"holds the weights of {escaped(config.arch)}{given}; its code is not in the file, and none is imported "
            "because a file says so"
        )
        raise InputError(msg)
    return build(
        arch, classes=config.classes, input_shape=config.input_shape, mean=config.mean, std=config.std,
        args=config.args, seed=seed,
    )  # fmt: skip


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # The library might use the other value.
    if len(found := dict(pairs)) != len(pairs):
        msg = "a key appears twice"
        raise ValueError(msg)
    return found


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 1 << 48 for size in value)


def _check_form(path: Path, header: dict[str, Any], model: Classifier) -> None:
    expected = model.state_dict()
    shapes = {name: tuple(tensor["shape"]) for name, tensor in header.items()}
    if misfit := describe_misfit(expected, shapes):
        msg = f"{path}: its tensors do not match its config, which describes a {model.config.arch}; {misfit}"
        raise InputError(msg)
    for name, tensor in expected.items():
        dtype = _DTYPES.get(tensor.dtype, str(tensor.dtype))
        if header[name]["dtype"] != dtype:
            msg = f"{path}: {name} has the dtype {escaped(header[name]['dtype'])} instead of {dtype}"
            raise InputError(msg)


def _check_values(path: Path, state: dict[str, Tensor], config: ModelConfig) -> None:
    if names := describe_non_finite(state):
        msg = f"{path}: contains NaN or infinity in {names}"
        raise InputError(msg)
    expected = Normalize(config.mean, config.std).state_dict(prefix="normalize.")
    for name in _NORMALIZATION:
        if not state[name].equal(expected[name]):
            msg = f"{path}: {name} is {state[name].flatten().tolist()}, which contradicts the file's config"
            raise InputError(msg)
