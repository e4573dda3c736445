"""Where training runs and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from tscnc_deploy import recipe
from tscnc_deploy.errors import UnavailableError


def choose_device(name: str) -> torch.device:
    """The device for "auto" (a GPU where there is one), "cpu" or "cuda".

    Raises:
        UnavailableError: "cuda" was asked for and torch finds no GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        msg = (
            "--device cuda: torch finds no GPU; `tscnc-deploy doctor` says what is missing, --device cpu works anywhere"
        )
        raise UnavailableError(msg)
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """The class of device that results may depend on: "cpu", or the GPU's name."""
    return f"cuda:{torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def deterministic(*, tf32: bool) -> AbstractContextManager[None]:
    """Context in which a GPU's convolutions sum in a fixed order, so that the same work ends in the same bytes.

    Args:
        tf32: Whether float32 convolutions may round their inputs to TF32: for training, not for what is reported.
    """
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32)


@dataclass(frozen=True)
class Numerics:
    """Device, memory format and precision of one training."""

    device: torch.device
    bf16: bool
    memory_format: torch.memory_format

    @classmethod
    def choose(cls, settings: recipe.Train, device: torch.device) -> Numerics:
        """Resolves the recipe's "auto" for a device.

        Raises:
            UnavailableError: bf16 was asked for and the GPU does not have it.
        """
        on_gpu = device.type == "cuda"
        has_bf16 = torch.cuda.is_bf16_supported() if on_gpu else True
        if settings.precision == "bf16" and not has_bf16:
            msg = f"train.precision = 'bf16': {describe_device(device)} has no bf16; write 'fp32' or 'auto'"
            raise UnavailableError(msg)
        bf16 = settings.precision == "bf16" or (settings.precision == "auto" and on_gpu and has_bf16)
        channels_last = on_gpu if settings.channels_last == "auto" else settings.channels_last
        return cls(device, bf16, torch.channels_last if channels_last else torch.contiguous_format)

    def autocast(self) -> AbstractContextManager[None]:
        """Context for forward passes."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)
