"""Small models and engines with known answers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tscnc_deploy.engines.base import CheckedEngine, EngineSpec


class Linear(nn.Module):
    """logits = weight . x + bias, with weight [K, C, H, W]; exact, so an image's logits are the same in any batch."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.eval()

    def forward(self, images):
        products = images[:, None].double() * self.weight.double()
        return (products.sum((2, 3, 4)) + self.bias.double()).float()


class Quantised(nn.Module):
    """The same model behind a staircase of 1/levels: its gradient is zero everywhere, so it masks it."""

    def __init__(self, inner: nn.Module, levels: int):
        super().__init__()
        self.inner = inner
        self.levels = levels
        self.eval()

    def forward(self, images):
        return self.inner(torch.round(images * self.levels) / self.levels)


class Constant(nn.Module):
    """The same logits for every image, without any gradient."""

    def __init__(self, logits: list[float]):
        super().__init__()
        self.register_buffer("values", torch.tensor(logits))
        self.eval()

    def forward(self, images):
        return self.values.expand(len(images), -1)


class ModuleEngine(CheckedEngine):
    """An engine that runs a PyTorch model."""

    def __init__(self, module: nn.Module, input_shape: tuple[int, int, int], classes: int):
        super().__init__(EngineSpec("small", "torch", input_shape, classes, "fp32", "cpu"))
        self.module = module

    def _run(self, images):
        with torch.no_grad():
            return self.module(torch.from_numpy(images)).numpy().astype(np.float32)


def linear(classes: int, count: int, seed: int = 0, shape: tuple[int, int, int] = (1, 4, 4), norm: str = "Linf"):
    """A random linear model, images well inside [0, 1], their predicted labels and exact minimal perturbations.

    The distance of an image from the boundary between its class y and class j is margin / ||w_y - w_j||, in the L1
    norm for Linf perturbations and the L2 norm for L2 ones.
    """
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, *shape, generator=generator)
    model = Linear(weight, torch.zeros(classes))
    images = 0.3 + 0.4 * torch.rand(count, *shape, generator=generator)
    with torch.no_grad():
        # The biases put the middle of the images on the boundaries, so that every class is predicted.
        model.bias -= model(images).mean(0)
        logits = model(images)
    labels = logits.argmax(1)
    margins = logits.gather(1, labels[:, None]) - logits
    lengths = torch.linalg.vector_norm(
        (weight[labels][:, None] - weight).flatten(2), ord=1 if norm == "Linf" else 2, dim=2
    )
    distances = margins / lengths.clamp(min=1e-12)
    distances[torch.arange(count), labels] = torch.inf
    return model, images, labels, distances.amin(1)
