"""Networks from all sources with built-in normalisation, their files and their cost.

Names are imported on first use, so that `tscnc_deploy.models.config` stays free of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tscnc_deploy.models.classifier import Classifier, build
    from tscnc_deploy.models.config import ModelConfig
    from tscnc_deploy.models.cost import layer_multiply_adds, multiply_adds, output_maps
    from tscnc_deploy.models.storage import load_model, save_model
    from tscnc_deploy.models.weights.load import load_weights

__all__ = [
    "Classifier",
    "ModelConfig",
    "build",
    "layer_multiply_adds",
    "load_model",
    "load_weights",
    "multiply_adds",
    "output_maps",
    "save_model",
]

_HOMES = {
    "Classifier": "classifier",
    "ModelConfig": "config",
    "build": "classifier",
    "layer_multiply_adds": "cost",
    "load_weights": "weights.load",
    "load_model": "storage",
    "multiply_adds": "cost",
    "output_maps": "cost",
    "save_model": "storage",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
