"""Data sets as in-memory tensors: disjoint stratified splits, digests, augmentation.

Names are imported on first use, so that `tscnc_deploy.data.source.digest` stays free of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tscnc_deploy.data.augmentation import augment
    from tscnc_deploy.data.loading import load
    from tscnc_deploy.data.sampling import interleaved, stratified
    from tscnc_deploy.data.source import digest
    from tscnc_deploy.data.splits import Dataset, Split

__all__ = ["Dataset", "Split", "augment", "digest", "interleaved", "load", "stratified"]

_HOMES = {
    "Dataset": "splits",
    "Split": "splits",
    "augment": "augmentation",
    "digest": "source",
    "interleaved": "sampling",
    "load": "loading",
    "stratified": "sampling",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
