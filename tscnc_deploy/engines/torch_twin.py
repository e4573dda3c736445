"""The PyTorch model as an `Engine`, so that it is attacked and compared like every export."""

from __future__ import annotations

import torch
from torch import nn

from tscnc_deploy.engines.base import Array, CheckedEngine, EngineSpec
from tscnc_deploy.errors import InputError


class TwinEngine(CheckedEngine):
    """A module in eval mode that computes in float32.

    Args:
        module: Maps float32 [N, C, H, W] in [0, 1] to logits [N, K]; never changed.
        input_shape: (C, H, W).
        classes: K.
        device: Device of the module, which must already be on it.
        batch_max: Largest batch given to the module in one call.

    Raises:
        InputError: The module, or a part of it, is in train mode, on another device, or not in float32.
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: tuple[int, int, int],
        classes: int,
        device: str | torch.device = "cpu",
        batch_max: int = 256,
    ) -> None:
        self._module = module
        self._device = torch.device(device)
        self._refuse_train_mode()
        self._refuse_other_tensors()
        super().__init__(
            EngineSpec(
                name="twin",
                kind="torch",
                input_shape=input_shape,
                classes=classes,
                precision="fp32",
                provider=str(self._device),
                batch_max=batch_max,
            )
        )

    def _run(self, images: Array) -> Array:
        self._refuse_train_mode()
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, enabled=False),
            # By default PyTorch lets cuDNN round the inputs of convolutions to TF32.
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        ):
            logits: torch.Tensor = self._module(torch.tensor(images, device=self._device))
        if logits.shape != (len(images), self.spec.classes) or logits.dtype != torch.float32:
            expected = f"float32 [{len(images)}, {self.spec.classes}]"
            msg = f"{type(self._module).__name__} returned {logits.dtype} {list(logits.shape)} instead of {expected}"
            raise InputError(msg)
        return logits.cpu().numpy()

    def _refuse_train_mode(self) -> None:
        for name, part in self._module.named_modules():
            if part.training:
                msg = f"{name or type(part).__name__} is in train mode; call eval() on the model first"
                raise InputError(msg)

    def _refuse_other_tensors(self) -> None:
        for name, tensor in (*self._module.named_parameters(), *self._module.named_buffers()):
            if tensor.is_floating_point() and tensor.dtype != torch.float32:
                msg = f"{name} is {tensor.dtype}; the twin computes in float32, call float() on the model first"
                raise InputError(msg)
            if tensor.device.type != self._device.type:
                msg = f"{name} is on {tensor.device}, not on {self._device}; move the model there first"
                raise InputError(msg)
