"""The interface of sources: artifacts that any process can open and attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import nn

    from tscnc_deploy.robustness import Victim


@dataclass(frozen=True)
class IOSpec:
    """Input shape and number of outputs of a model.

    Attributes:
        input_shape: (channels, height, width) of one image.
        classes: Number of logits.
    """

    input_shape: tuple[int, int, int]
    classes: int

    def __str__(self) -> str:
        return f"images {list(self.input_shape)} (channels, height, width) to {self.classes} logits"


class Source(Protocol):
    """An artifact; a frozen dataclass, so that it can be pickled for other processes and compared."""

    @property
    def name(self) -> str:
        """Its name in results: "twin", the name of a target, or the file's name without its suffix."""
        ...

    def form(self) -> IOSpec:
        """Input and output of the model, read from the artifact without running it.

        Raises:
            InputError: See `open`.
        """
        ...

    def open(self, device: str) -> Victim:
        """Opens it.

        Args:
            device: Device for PyTorch: "cpu", "cuda" or one GPU such as "cuda:1".

        Raises:
            InputError: It is missing, damaged, malicious, or does not match its description.
            UnavailableError: This machine cannot run it.
        """
        ...

    def digest(self) -> str:
        """SHA-256, 64 hexadecimal digits, of its bytes and of everything else that determines logits and gradients.

        Name, path and device do not matter.

        Raises:
            InputError: It cannot be read.
        """
        ...


def ready(module: nn.Module, device: str) -> nn.Module:
    """Moves the module to a device, in eval mode, without gradients of its weights, which attacks do not need.

    Raises:
        UnavailableError: A GPU was requested, but torch finds none.
    """
    import torch

    from tscnc_deploy.devices import choose_device

    choose_device(device.partition(":")[0])
    return module.eval().requires_grad_(False).to(torch.device(device))
