"""Victims of attacks: a model, an engine with its twin, or an engine alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tscnc_deploy.errors import InputError, TscncError
from tscnc_deploy.robustness.answers import as_logits

if TYPE_CHECKING:  # Only the protocol is needed; importing it at run time would load the engines.
    from tscnc_deploy.engines.base import Engine


class Victim(Protocol):
    """Maps images, float32 [N, C, H, W] in [0, 1] on `device`, to logits, float32 [N, K]."""

    @property
    def device(self) -> torch.device:
        """The device of images and logits."""
        ...

    @property
    def has_gradient(self) -> bool:
        """Whether `differentiable` may be called."""
        ...

    @property
    def queries(self) -> int:
        """Number of images classified so far, with or without a gradient."""
        ...

    def logits(self, images: Tensor) -> Tensor:
        """The decisive logits, without a gradient."""
        ...

    def differentiable(self, images: Tensor) -> Tensor:
        """The same logits, with a gradient with respect to the images.

        Raises:
            InputError: The victim has no gradient.
        """
        ...


class _Counting:
    """Counts the classified images, and may tell a watcher, see `watched`."""

    def __init__(self) -> None:
        self.queries = 0
        self.watcher: Callable[[], None] | None = None

    def _count(self, images: Tensor) -> None:
        if self.watcher is not None:
            self.watcher()
        self.queries += len(images)


@contextmanager
def watched(victim: Victim, watcher: Callable[[], None]) -> Iterator[None]:
    """Calls the watcher whenever the victim is about to classify images; victims that cannot tell are not watched."""
    if not isinstance(victim, _Counting):
        yield
        return
    victim.watcher = watcher
    try:
        yield
    finally:
        victim.watcher = None


class ModelVictim(_Counting):
    """A PyTorch model in eval mode; it is never modified.

    Args:
        module: Maps images to logits [N, K].
        classes: K, if known beforehand; otherwise it is taken from the first output.

    Raises:
        InputError: The module, or a part of it, is in train mode.
    """

    has_gradient = True

    def __init__(self, module: nn.Module, classes: int | None = None) -> None:
        _refuse_train_mode(module)
        super().__init__()
        self.module = module
        self.classes = classes
        self.device = _device(module)

    def logits(self, images: Tensor) -> Tensor:
        _refuse_train_mode(self.module)
        with torch.no_grad():
            return self.differentiable(images)

    def differentiable(self, images: Tensor) -> Tensor:
        self._count(images)
        logits = as_logits(self.module(images), len(images), self.classes)
        self.classes = logits.shape[1]
        return logits


class EngineVictim(_Counting):
    """An exported engine, attacked with its own logits and the gradient of the twin it was exported from.

    Args:
        engine: Determines the loss, the best point and the outcome; only its queries are counted, not the twin's.
        twin: The PyTorch model in eval mode that the engine was exported from; gives the gradient.

    Raises:
        InputError: The twin is in train mode.
    """

    has_gradient = True

    def __init__(self, engine: Engine, twin: nn.Module) -> None:
        super().__init__()
        self.engine = engine
        self.twin = ModelVictim(twin, engine.spec.classes)
        self.device = self.twin.device

    def logits(self, images: Tensor) -> Tensor:
        self._count(images)
        return _engine_logits(self.engine, images)

    def differentiable(self, images: Tensor) -> Tensor:
        return self.both(images)[0]

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The engine's logits and the twin's, float32 [N, K] each, both with the twin's gradient."""
        twin = self.twin.differentiable(images)
        # twin + (engine - twin).detach(), in the order that adds an exact zero: the logits are the engine's to the bit.
        return self.logits(images) + (twin - twin.detach()), twin


class BlackBoxVictim(_Counting):
    """An engine alone, of which only the outputs are known."""

    has_gradient = False
    device = torch.device("cpu")

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def logits(self, images: Tensor) -> Tensor:
        self._count(images)
        return _engine_logits(self.engine, images)

    def differentiable(self, images: Tensor) -> Tensor:
        msg = (
            f"engine {self.engine.spec.name!r} has no gradient; "
            "attack it with square, hopskipjump or replay, or together with its twin (EngineVictim)"
        )
        raise InputError(msg)


def batched_logits(victim: Victim, images: Tensor, batch_size: int = 256) -> Tensor:
    """The logits of any number of images, float32 [N, K] on the CPU, without a gradient.

    Args:
        victim: Classifies them.
        images: float32 [N, C, H, W] in [0, 1], on any device.
        batch_size: Images per forward pass.
    """
    return torch.cat([victim.logits(part.to(victim.device)).cpu() for part in torch.split(images, batch_size)])


def _device(module: nn.Module) -> torch.device:
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def _refuse_train_mode(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if part.training:
            msg = f"{name or type(part).__name__} is in train mode; call eval() on the model before it is attacked"
            raise InputError(msg)


def _engine_logits(engine: Engine, images: Tensor) -> Tensor:
    array = np.ascontiguousarray(images.detach().cpu().numpy(), np.float32)
    try:
        # A copy, because an engine may return a view of memory that its next call overwrites.
        logits = np.array(engine.logits(array), np.float32)
    except TscncError:
        raise
    except Exception as error:  # third-party engines may raise anything
        msg = f"engine {engine.spec.name!r} failed on a batch of {len(array)}: {type(error).__name__}: {error}"
        raise InputError(msg) from error
    if logits.shape != (len(array), engine.spec.classes):
        expected = [len(array), engine.spec.classes]
        msg = f"engine {engine.spec.name!r} returned logits of shape {list(logits.shape)} instead of {expected}"
        raise InputError(msg)
    return torch.from_numpy(logits).to(images.device)
