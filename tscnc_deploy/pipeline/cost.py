"""The cost of a build: its MACs, counted from the recipe, and the time that they take on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tscnc_deploy.errors import InputError
from tscnc_deploy.pipeline.stages.base import new_network
from tscnc_deploy.pipeline.stages.trial import not_pruned
from tscnc_deploy.recipe import Recipe

if TYPE_CHECKING:
    import torch

# Cost of a forward and backward pass, in forward passes: for the gradient of the input, and of all weights too.
TO_INPUT, TO_WEIGHTS = 2, 3
# Weights, two moments, the average and the best weights in checkpoints, plus models, engines and archives.
COPIES_ON_DISK = 16
BYTES_PER_FLOAT = 4


@dataclass(frozen=True)
class Cost:
    """Estimates for one build.

    Attributes:
        multiply_adds: Number of MACs of each stage that computes.
        disk_bytes: Peak size of the run directory.
    """

    multiply_adds: dict[str, float]
    disk_bytes: int

    def seconds(self, rate: float) -> dict[str, float]:
        """Seconds by stage at a rate of MACs per second."""
        return {stage: count / rate for stage, count in self.multiply_adds.items()}


def estimate(recipe: Recipe, *, per_image: int, parameters: int, images: tuple[int, int, int], pixels: int) -> Cost:
    """Counts the MACs and the disk space of a build.

    Args:
        recipe: The recipe.
        per_image: MACs of one forward pass for one image.
        parameters: Number of parameters.
        images: Number of training, validation and test images.
        pixels: Number of values of one image.
    """
    train, validation, test = images
    settings = recipe.train
    adversarial = 1 + settings.inner_steps * TO_INPUT + 2 * TO_WEIGHTS
    judged = validation * (2 + settings.validation_steps * TO_INPUT)
    clean = min(settings.clean_epochs, settings.epochs)
    updates = recipe.prune.updates * recipe.prune.saliency_batches * settings.batch_size
    by_taylor = recipe.prune.criterion in ("adversarial-taylor", "clean-taylor")
    scoring = updates * (settings.inner_steps * TO_INPUT + TO_WEIGHTS) if by_taylor else 0
    samples = min(recipe.verify.samples or test, test)
    measured = _measure_passes(recipe.verify.measures)
    passes = {
        "train": (settings.epochs - clean) * train * adversarial
        + clean * train * TO_WEIGHTS
        + settings.epochs * judged,
        "prune": recipe.prune.epochs * (train * adversarial + judged) + scoring,
        "finetune": recipe.finetune.epochs * (train * adversarial + judged),
        "verify": samples * (2 * _attack_passes(recipe.verify.attacks) + measured),
        "reverify": len(recipe.export.targets) * samples * (_attack_passes(recipe.verify.engine_attacks) + measured),
    }
    disk = COPIES_ON_DISK * parameters * BYTES_PER_FLOAT + 6 * samples * pixels * BYTES_PER_FLOAT + 50_000_000
    return Cost({stage: float(count * per_image) for stage, count in passes.items()}, disk)


def estimate_build(recipe: Recipe) -> tuple[Cost, dict[str, Any]]:
    """The estimate for a recipe and the figures it is based on; loads the data and builds the network without training.

    Raises:
        InputError: The recipe does not match the images, the network or the engines.
    """
    from tscnc_deploy import data, models, tscnc
    from tscnc_deploy.record import ModelFacts, ThreatModel
    from tscnc_deploy.record.limits import check_classes, check_size
    from tscnc_deploy.robustness import parse_attacks
    from tscnc_deploy.training.balls import check_radius

    dataset = data.load(recipe.data)
    check_radius(recipe.threat.norm, recipe.threat.epsilon, dataset.input_shape)
    check_classes(dataset.classes)
    random = recipe.model.model_copy(update={"checkpoint": None, "pretrained": False})
    model = new_network(recipe.model_copy(update={"model": random}), dataset)
    shapes = {name: weight.shape for name, weight in tscnc.prunable_weights(model).items()}
    _require_filters(recipe, shapes)
    tscnc.check_budget(shapes, recipe.prune.sparsity, floor=recipe.prune.floor, pattern=recipe.prune.pattern)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    prunable = sum(shape.numel() for shape in shapes.values())
    check_size(
        name=recipe.name,
        recipe=recipe.model_dump(mode="json", by_alias=True),
        threat=ThreatModel(norm=recipe.threat.norm, epsilon=recipe.threat.epsilon),
        model=ModelFacts(
            arch=model.config.network.public,
            parameters=parameters,
            prunable=prunable,
            nonzero=prunable,
            sparsity=0.0,
            input_shape=dataset.input_shape,
            classes=tuple(dataset.classes),
        ),
        layers=list(shapes),
        epochs=recipe.train.epochs + recipe.prune.epochs + recipe.finetune.epochs,
        engines=len(recipe.export.targets),
        # An engine also faces the replay of its twin's examples.
        attacks=max(len(parse_attacks(recipe.verify.attacks)), 1 + len(parse_attacks(recipe.verify.engine_attacks))),
    )
    per_image = models.multiply_adds(model)
    images = (len(dataset.train), len(dataset.validation), len(dataset.test))
    channels, height, width = dataset.input_shape
    cost = estimate(recipe, per_image=per_image, parameters=parameters, images=images, pixels=channels * height * width)
    facts = {
        "parameters": parameters,
        "not_pruned": not_pruned(model),
        "multiply_adds_per_image": per_image,
        "train_images": images[0],
        "validation_images": images[1],
        "test_images": images[2],
    }
    return cost, facts


def _require_filters(recipe: Recipe, shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuses to prune filters of a network of linear layers.

    Raises:
        InputError: Convolutions have less than half of the prunable weights.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    filters = sum(size for name, size in sizes.items() if len(shapes[name]) > 2)
    if recipe.prune.pattern == "filters" and 2 * filters < sum(sizes.values()):
        msg = (
            f'prune.pattern = "filters" removes filters of convolutions, but they have {filters} of the '
            f'{sum(sizes.values())} prunable weights of {recipe.model.arch}; write "unstructured" or "2:4"'
        )
        raise InputError(msg)


def probe_rate(device: torch.device) -> float:
    """MACs per second of a small convolution and its backward pass on this machine, measured in less than 1 s."""
    import torch

    layer = torch.nn.Conv2d(128, 128, 3, padding=1, bias=False, device=device)
    images = torch.rand(64, 128, 8, 8, device=device, requires_grad=True)
    counted = 64 * 64 * 128 * 128 * 9 * TO_WEIGHTS

    def once() -> float:
        started = time.perf_counter()
        torch.autograd.grad(layer(images).square().mean(), [images, layer.weight])
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    once()
    return counted / min(once() for _ in range(5))


def _attack_passes(names: Sequence[str]) -> int:
    """Number of forward passes that attacks and ensembles take for an image that stays correctly classified."""
    from tscnc_deploy.robustness import parse_attacks
    from tscnc_deploy.robustness.sharding.work import passes

    return sum(map(passes, parse_attacks(names)))


def _measure_passes(names: Sequence[str]) -> int:
    from tscnc_deploy.robustness.measures.registry import PASSES

    return sum(PASSES[name] for name in names)
