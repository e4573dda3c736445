"""Compares the tensors of a file with those that a model needs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tscnc_deploy.text import escaped

_SHOWN = 3


def describe_misfit(expected: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Describes how a file's tensors differ from the expected ones in names and shapes; empty if they match."""
    missing = [name for name in expected if name not in shapes]
    unexpected = [name for name in shapes if name not in expected]
    reshaped = [
        f"{name} {list(shapes[name])} instead of {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in shapes and shapes[name] != tuple(tensor.shape)
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("wrong shape", reshaped))
    return "; ".join(f"{what}: {listed(names)}" for what, names in found if names)


def describe_non_finite(tensors: Mapping[str, Tensor]) -> str:
    """Lists the tensors that contain NaN or infinity; empty if there are none."""
    return listed([name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()])


def listed(names: list[str]) -> str:
    """The first names of a file, safe to print, and how many more there are."""
    more = len(names) - _SHOWN
    # Names from untrusted files must not send control characters to the terminal.
    return ", ".join(escaped(name, 200) for name in names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
