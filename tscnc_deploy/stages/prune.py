"""Stage 2: weights are removed, from none to the target sparsity, while the network goes on training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tscnc_deploy.recipe import Recipe
from tscnc_deploy.stages.base import Context, Stage, training_data, write_json, write_tensors
from tscnc_deploy.stages.budget import weight_costs

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.training.loop import Training


class Prune(Stage):
    """Writes model.safetensors (pruned), masks.safetensors and history.json."""

    name = "prune"
    reads = {"train": ("model.safetensors",)}  # noqa: RUF012
    code = (
        "stages/prune.py",
        "stages/budget.py",
        "training",
        "tscnc",
        "data",
        "models",
        "engines/sparse_cpu/latency.py",
    )
    libraries = ("torch", "torchvision", "numpy", "pillow", "scipy")

    def settings(self, recipe: Recipe) -> dict[str, Any]:
        return {
            "data": training_data(recipe),
            "threat": recipe.threat.model_dump(),
            "train": recipe.train.model_dump(exclude={"epochs", "lr", "clean_epochs", "ramp_epochs", "early_stop"}),
            "constrain": recipe.constrain.model_dump() if self.name in recipe.constrain.stages else None,
            "prune": recipe.prune.model_dump(),
            "seed": recipe.seed,
        }

    def run(self, context: Context) -> None:
        from tscnc_deploy import data, models
        from tscnc_deploy.training.device import choose_device
        from tscnc_deploy.training.loop import Phase, Training
        from tscnc_deploy.training.sparsifiers import Growing

        recipe, prune = context.recipe, context.recipe.prune
        model = models.load_model(context.inputs["train"] / "model.safetensors")
        # No average and no early stop: the masks change under the weights, and only the last epoch is at the target.
        phase = Phase("prune", prune.epochs, prune.lr, "constant", average=False, early_stop=False)
        training = Training(
            model, data.load(recipe.data), recipe, phase, choose_device(context.device), context.work / "checkpoint.pt"
        )
        growing = Growing(
            model,
            lambda weights, update: _scores(training, weights, update),
            steps=training.steps,
            updates=prune.updates,
            sparsity=prune.sparsity,
            floor=prune.floor,
            pattern=prune.pattern,
            regrow=prune.regrow,
            costs=weight_costs(model, prune.budget),
        )
        history = training.run(growing, context.progress.step)
        models.save_model(model.cpu(), context.out / "model.safetensors")
        write_tensors(context.out / "masks.safetensors", growing.masks.state_dict())
        write_json(context.out / "history.json", history)


def _scores(training: Training, weights: dict[str, Tensor], update: int) -> dict[str, Tensor]:
    """Saliency of every weight under the recipe's criterion, from the training images."""
    from tscnc_deploy import tscnc
    from tscnc_deploy.training.seeds import derive_generator

    prune, seed = training.recipe.prune, training.recipe.seed
    if prune.criterion == "magnitude":
        return {name: weight.abs() for name, weight in weights.items()}
    if prune.criterion == "random":
        # The same scores at every update, so that the removed set only grows.
        return tscnc.random(training.model, derive_generator(seed, "saliency"))
    training.model.eval()
    scores = tscnc.taylor(training.model, _losses(training, update), weights)
    training.model.train()
    return scores


def _losses(training: Training, update: int) -> Iterator[Callable[[], Tensor]]:
    import torch
    from torch.nn import functional as F

    from tscnc_deploy.training.seeds import derive_generator

    recipe = training.recipe
    order = derive_generator(recipe.seed, "saliency", update, "order")
    noise = derive_generator(recipe.seed, "saliency", update, "noise", device=training.device)
    permutation = torch.randperm(len(training.images), generator=order).to(training.device)
    for index in torch.split(permutation, recipe.train.batch_size)[: recipe.prune.saliency_batches]:
        images, labels = training.images.batch(index)

        def loss(logits: Tensor, labels: Tensor = labels) -> Tensor:
            return F.cross_entropy(logits.float(), labels, reduction="sum")

        def judge(images: Tensor = images, labels: Tensor = labels) -> Tensor:
            with training.numerics.autocast():
                if recipe.prune.criterion == "adversarial-taylor":
                    images = training.adversary.perturb(training.model, images, loss, noise)
                return F.cross_entropy(training.model(images).float(), labels)

        yield judge
