"""What is verified: an artefact on disk that any process can open and attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import nn

    from tscnc_deploy.robustness import Victim


@dataclass(frozen=True)
class IOSpec:
    """What goes into a model, and what comes out.

    Attributes:
        input_shape: (channels, height, width) of one image.
        classes: Number of logits.
    """

    input_shape: tuple[int, int, int]
    classes: int

    def __str__(self) -> str:
        return f"images {list(self.input_shape)} (channels, height, width) to {self.classes} logits"


class Source(Protocol):
    """An artefact; a frozen dataclass, so that it can be pickled to other processes and compared with others."""

    @property
    def name(self) -> str:
        """How results call it: "twin", the name of a target, or the file's name without its suffix."""
        ...

    def form(self) -> IOSpec:
        """What `open` will take and give, read from the artefact without running it.

        Raises:
            InputError: See `open`.
        """
        ...

    def open(self, device: str) -> Victim:
        """Opens it.

        Args:
            device: Where PyTorch computes: "cpu", "cuda" or one GPU such as "cuda:1".

        Raises:
            InputError: It is missing, damaged, hostile, or of another form than its description.
            UnavailableError: This machine cannot run it.
        """
        ...

    def digest(self) -> str:
        """SHA-256, 64 hexadecimal digits, of its bytes and of everything else that determines logits and gradients.

        Neither its name nor its place counts, nor the device it is opened on.

        Raises:
            InputError: It cannot be read.
        """
        ...


def ready(module: nn.Module, device: str) -> nn.Module:
    """The module in eval mode on a device, without gradients of its weights, which attacks do not need.

    Raises:
        UnavailableError: A GPU was asked for and torch finds none.
    """
    import torch

    from tscnc_deploy.devices import choose_device

    choose_device(device.partition(":")[0])
    return module.eval().requires_grad_(False).to(torch.device(device))
