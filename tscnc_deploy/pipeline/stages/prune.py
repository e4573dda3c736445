"""Stage 2: removes weights, from none up to the target sparsity, while training continues."""

from __future__ import annotations

from typing import Any

from tscnc_deploy.pipeline.stages.base import Context, Stage, training_data, write_json, write_tensors
from tscnc_deploy.pipeline.stages.budget import weight_costs
from tscnc_deploy.recipe import Recipe


class Prune(Stage):
    """Writes model.safetensors (pruned), masks.safetensors and history.json."""

    name = "prune"
    reads = {"train": ("model.safetensors",)}  # noqa: RUF012

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
        from tscnc_deploy.devices import choose_device
        from tscnc_deploy.training.criteria import pruning
        from tscnc_deploy.training.loop import Phase, Training

        recipe, prune = context.recipe, context.recipe.prune
        model = context.network("train")
        # No averaging and no early stopping: masks change during training, and only the last epoch has the target
        # sparsity.
        phase = Phase("prune", prune.epochs, prune.lr, "constant", average=False, early_stop=False)
        training = Training(
            model, data.load(recipe.data), recipe, phase, choose_device(context.device), context.work / "checkpoint.pt"
        )
        masked = pruning(training, weight_costs(model, prune.budget))
        history = training.run(masked, context.progress.step)
        models.save_model(model.cpu(), context.out / "model.safetensors")
        write_tensors(context.out / "masks.safetensors", masked.masks.state_dict())
        write_json(context.out / "history.json", history)
