"""The prunable weights of any model: the parameters that masks multiply, and the values that its layers use."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_LAYERS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    nn.Linear,
)
# Of `nn.MultiheadAttention`; it has the first, or the other three, and its output projection is a linear layer.
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")

_EXCLUDED = "tscnc_excluded"
# The name of the parameter that stands for a weight, by its parametrisations; masks ask in every step.
_origins: WeakKeyDictionary[nn.Module, str | None] = WeakKeyDictionary()


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that sparsity refers to: the weights of convolutions, linear layers and attention's projections.

    Layers of `exclude_layers` are left out. A weight under a parametrisation (`torch.nn.utils.parametrize`) is stood
    for by the parameter that it is computed from, if a zero of that is a zero of the weight, as in weight and spectral
    norm; otherwise it is not prunable. A weight that several layers share appears once, under its first name.

    Args:
        model: Any module. Everything else is not prunable: biases, norms and scales, because they are few and
            important; embeddings and positions, because they are not multiplied with activations.

    Returns:
        Parameters by the name of the layer's weight ("layer1.0.conv1.weight"), in the order of `named_modules`. A
        weight is [out, in, *kernel] or [out, in]; [in, out, *kernel] for a transposed convolution, which is the adjoint
        of the convolution with that weight, and has its singular values.
    """
    weights: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for name, module, attribute in _uses(model):
        parameter = _origin(module, attribute)
        if parameter is not None and id(parameter) not in seen:
            seen.add(id(parameter))
            weights[name] = parameter
    return weights


def layer_weights(model: nn.Module) -> dict[str, Tensor]:
    """The values that layers compute with, by the names of `prunable_weights`, differentiable in its parameters."""
    prunable = prunable_weights(model)
    return {name: getattr(module, attribute) for name, module, attribute in _uses(model) if name in prunable}


def weighted_layers(model: nn.Module) -> Iterator[nn.Module]:
    """The modules that have a prunable weight."""
    prunable = prunable_weights(model)
    for name, module, _ in _uses(model):
        if name in prunable:
            yield module


def exclude_layers(model: nn.Module, weights: Iterable[str]) -> None:
    """Makes layers not prunable, by the names of their weights: copies of the model inherit it, files do not.

    For layers that compute nothing of the images, such as those that make a table of positions.
    """
    names = set(weights)
    for name, module, _ in list(_uses(model)):
        if name in names:
            setattr(module, _EXCLUDED, True)


def unprunable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The other parameters, by their names in the model."""
    taken = {id(parameter) for parameter in prunable_weights(model).values()}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) not in taken}


def as_matrix(weight: Tensor) -> Tensor:
    """The matrix [out, in * kh * kw] of a layer's weight [out, in, kh, kw] or [out, in]."""
    return weight.reshape(weight.shape[0], -1)


def _uses(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Every weight of a layer: its name, the layer, and the layer's attribute."""
    for prefix, module in model.named_modules():
        attributes: tuple[str, ...] = ()
        if getattr(module, _EXCLUDED, False):
            continue
        if isinstance(module, _LAYERS):
            attributes = ("weight",)
        elif isinstance(module, nn.MultiheadAttention):
            attributes = tuple(name for name in _PROJECTIONS if getattr(module, name) is not None)
        for attribute in attributes:
            yield f"{prefix}.{attribute}" if prefix else attribute, module, attribute


def _origin(module: nn.Module, attribute: str) -> nn.Parameter | None:
    """The parameter whose zeros are those of a layer's weight; None if there is none."""
    if not parametrize.is_parametrized(module, attribute):
        weight = getattr(module, attribute)
        return weight if isinstance(weight, nn.Parameter) else None
    chain = cast(nn.ModuleDict, module.parametrizations)[attribute]
    if chain not in _origins:
        shape = getattr(module, attribute).shape
        alike = (name for name, candidate in chain.named_parameters(recurse=False) if candidate.shape == shape)
        _origins[chain] = next((name for name in alike if _keeps_zeros(chain, name)), None)
    name = _origins[chain]
    return None if name is None else cast(nn.Parameter, getattr(chain, name))


@torch.no_grad()
def _keeps_zeros(chain: nn.Module, name: str) -> bool:
    """Whether zeros in a parametrisation's parameter are zeros, and nothing else is, in the weight that it computes."""
    # A copy in eval mode: spectral norm changes its state whenever it computes.
    trial = copy.deepcopy(chain).eval()
    original: Tensor = getattr(trial, name)
    kept = torch.ones_like(original, dtype=torch.bool).flatten()
    kept[::2] = False
    original.copy_(torch.where(kept.view_as(original), original.abs() + 1, 0))
    return bool(((trial() != 0) == kept.view_as(original)).all())
