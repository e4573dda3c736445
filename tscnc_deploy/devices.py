"""Selects the device, names it in results, and makes it deterministic."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from tscnc_deploy.errors import UnavailableError


def choose_device(name: str) -> torch.device:
    """The device for "auto" (a GPU if available), "cpu" or "cuda".

    Raises:
        UnavailableError: "cuda" was requested but torch finds no GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        msg = "--device cuda: torch finds no GPU; run `tscnc-deploy doctor` to see what is missing, or use --device cpu"
        raise UnavailableError(msg)
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """The class of device that results may depend on: "cpu", or the GPU's name."""
    return f"cuda:{torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def deterministic(*, tf32: bool) -> AbstractContextManager[None]:
    """Context in which a GPU's convolutions sum in a fixed order, so that results are reproducible bit for bit.

    Args:
        tf32: Whether float32 convolutions may round their inputs to TF32; for training, not for reported results.
    """
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32)
