"""Scores for ranking weights: TSCNC's and simple ones for comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from tscnc_deploy import tscnc
from tscnc_deploy.seeds import derive_generator

if TYPE_CHECKING:
    from tscnc_deploy.training.loop import Training

# Scores of every weight of a masked model at an update, from the weights' values without masks.
Saliency = Callable[["Training", dict[str, Tensor], int], dict[str, Tensor]]


def adversarial_taylor(training: Training, weights: dict[str, Tensor], update: int) -> dict[str, Tensor]:
    """TSCNC's saliency: the estimated increase of the adversarial loss without the weight."""
    return _taylor(training, weights, update, adversarial=True)


def clean_taylor(training: Training, weights: dict[str, Tensor], update: int) -> dict[str, Tensor]:
    """The estimated increase of the loss on clean images without the weight."""
    return _taylor(training, weights, update, adversarial=False)


def magnitude(_training: Training, weights: dict[str, Tensor], _update: int) -> dict[str, Tensor]:
    """|w|."""
    return {name: weight.abs() for name, weight in weights.items()}


def random(training: Training, _weights: dict[str, Tensor], _update: int) -> dict[str, Tensor]:
    """Random scores, the same at every update, so that the removed set only grows."""
    return tscnc.random(training.model, derive_generator(training.recipe.seed, "saliency"))


def _taylor(training: Training, weights: dict[str, Tensor], update: int, *, adversarial: bool) -> dict[str, Tensor]:
    training.network.eval()
    scores = tscnc.taylor(training.model, _losses(training, update, adversarial), weights)
    training.network.train()
    return scores


def _losses(training: Training, update: int, adversarial: bool) -> Iterator[Callable[[], Tensor]]:
    recipe = training.recipe
    order = derive_generator(recipe.seed, "saliency", update, "order")
    noise = derive_generator(recipe.seed, "saliency", update, "noise", device=training.device)
    # Masks and weights do not change meanwhile, so one copy is enough for all batches.
    attacked = training.attacked.refreshed() if adversarial else None
    permutation = torch.randperm(len(training.images), generator=order).to(training.device)
    for index in torch.split(permutation, recipe.train.batch_size)[: recipe.prune.saliency_batches]:
        images, labels = training.images.batch(index)

        def loss(logits: Tensor, labels: Tensor = labels) -> Tensor:
            return F.cross_entropy(logits.float(), labels, reduction="sum")

        def judge(images: Tensor = images, labels: Tensor = labels) -> Tensor:
            with training.numerics.autocast():
                if attacked is not None:
                    images = training.adversary.perturb(attacked, images, loss, noise)
                return F.cross_entropy(training.network(images).float(), labels)

        yield judge
