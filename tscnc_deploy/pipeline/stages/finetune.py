"""Stage 3: fine-tunes the pruned network with frozen masks; the result is the twin of every engine."""

from __future__ import annotations

from typing import Any

from tscnc_deploy.pipeline.stages.base import Context, Stage, training_data, write_json
from tscnc_deploy.recipe import Recipe


class Finetune(Stage):
    """Writes model.safetensors (the twin), layers.json (conditioning and sparsity of every layer) and history.json."""

    name = "finetune"
    reads = {"prune": ("model.safetensors", "masks.safetensors")}  # noqa: RUF012

    def settings(self, recipe: Recipe) -> dict[str, Any]:
        return {
            "data": training_data(recipe),
            "threat": recipe.threat.model_dump(),
            "train": recipe.train.model_dump(exclude={"epochs", "lr", "clean_epochs", "ramp_epochs", "schedule"}),
            "constrain": recipe.constrain.model_dump() if self.name in recipe.constrain.stages else None,
            "finetune": recipe.finetune.model_dump(),
            "seed": recipe.seed,
        }

    def run(self, context: Context) -> None:
        from safetensors.torch import load_file

        from tscnc_deploy import data, models
        from tscnc_deploy.devices import choose_device
        from tscnc_deploy.training.criteria import Frozen
        from tscnc_deploy.training.loop import Phase, Training
        from tscnc_deploy.tscnc import Masks, conditions

        recipe = context.recipe
        device = choose_device(context.device)
        model = context.network("prune")
        phase = Phase(
            "finetune", recipe.finetune.epochs, recipe.finetune.lr, "cosine", early_stop=recipe.train.early_stop
        )
        training = Training(model, data.load(recipe.data), recipe, phase, device, context.work / "checkpoint.pt")
        masks = load_file(context.inputs["prune"] / "masks.safetensors", device=str(device))
        history = training.run(Frozen(model, Masks(masks)), context.progress.step)
        models.save_model(model.cpu(), context.out / "model.safetensors")
        write_json(context.out / "layers.json", [layer.to_json() for layer in conditions(model)])
        write_json(context.out / "history.json", history)
