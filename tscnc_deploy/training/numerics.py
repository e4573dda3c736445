"""Precision, memory format and compilation of training."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from tscnc_deploy import recipe
from tscnc_deploy.devices import describe_device
from tscnc_deploy.errors import UnavailableError
from tscnc_deploy.models.folded import FoldedCopy


@dataclass(frozen=True)
class Numerics:
    """Device, precision, memory format, compilation and image size of one training."""

    device: torch.device
    bf16: bool
    memory_format: torch.memory_format
    compiles: bool
    input_shape: tuple[int, int, int]

    @classmethod
    def choose(cls, settings: recipe.Train, device: torch.device, input_shape: tuple[int, int, int]) -> Numerics:
        """Resolves the recipe's "auto" for a device and images [C, H, W].

        Raises:
            UnavailableError: bf16 was requested, but the GPU does not support it.
        """
        on_gpu = device.type == "cuda"
        has_bf16 = torch.cuda.is_bf16_supported() if on_gpu else True
        if settings.precision == "bf16" and not has_bf16:
            msg = f"train.precision = 'bf16': {describe_device(device)} does not support bf16; write 'fp32' or 'auto'"
            raise UnavailableError(msg)
        bf16 = settings.precision == "bf16" or (settings.precision == "auto" and on_gpu and has_bf16)
        # A CPU's float32 convolutions of small images are faster in NCHW, all others in NHWC.
        suits = on_gpu or bf16 or min(input_shape[1:]) >= 32
        channels_last = suits if settings.channels_last == "auto" else settings.channels_last
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        return cls(device, bf16, memory_format, settings.compile, input_shape)

    def attacked(self, model: nn.Module) -> FoldedCopy:
        """The copy of a network that inner attacks run on."""
        return FoldedCopy(model, torch.bfloat16 if self.bf16 else torch.float32, self.input_shape)

    def compiled(self, module: nn.Module) -> nn.Module:
        """The module itself, or its compiled form if the recipe asks for it."""
        if not self.compiles:
            return module
        # All batches of a training have the same shape, so a GPU can replay the kernel launches of the first ones.
        mode = "reduce-overhead" if self.device.type == "cuda" else None
        return cast(nn.Module, torch.compile(module, mode=mode))

    def autocast(self) -> AbstractContextManager[None]:
        """Context for forward passes."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)
