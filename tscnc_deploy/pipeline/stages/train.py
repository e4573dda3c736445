"""Stage 1: trains the dense network adversarially, or loads it from the user's checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tscnc_deploy.arch import parse_arch
from tscnc_deploy.digests import digest_of_stream
from tscnc_deploy.errors import InputError
from tscnc_deploy.pipeline.stages.base import Context, Stage, new_network, training_data, write_json
from tscnc_deploy.recipe import Recipe


class Train(Stage):
    """Writes model.safetensors (the dense network), classes.json (their names in order) and history.json."""

    name = "train"

    def settings(self, recipe: Recipe) -> dict[str, Any]:
        constrained = self.name in recipe.constrain.stages
        return {
            "data": training_data(recipe),
            "model": recipe.model.model_dump(exclude={"arch", "checkpoint"})
            | {"arch": parse_arch(recipe.model.arch).public, "checkpoint": _digest_of(recipe)},
            "threat": recipe.threat.model_dump(),
            "train": recipe.train.model_dump(),
            "constrain": recipe.constrain.model_dump() if constrained else None,
            "seed": recipe.seed,
        }

    def run(self, context: Context) -> None:
        from tscnc_deploy import data, models
        from tscnc_deploy.devices import choose_device
        from tscnc_deploy.training.criteria import Sparsifier
        from tscnc_deploy.training.loop import Phase, Training

        recipe, settings = context.recipe, context.recipe.train
        dataset = data.load(recipe.data)
        model = new_network(recipe, dataset)
        phase = Phase(
            "train", settings.epochs, settings.lr, settings.schedule, settings.clean_epochs, settings.ramp_epochs,
            early_stop=settings.early_stop,
        )  # fmt: skip
        training = Training(
            model, dataset, recipe, phase, choose_device(context.device), context.work / "checkpoint.pt"
        )
        history = training.run(Sparsifier(), context.progress.step)
        models.save_model(model.cpu(), context.out / "model.safetensors")
        write_json(context.out / "classes.json", list(dataset.classes))
        write_json(context.out / "history.json", history)


def _digest_of(recipe: Recipe) -> str | None:
    """Digest of the user's weights.

    Raises:
        InputError: They cannot be read, or there are none from which a key could choose.
    """
    if recipe.model.checkpoint is None:
        # Not refused by the recipe, because `verify FILE.pt` takes the key too.
        if recipe.model.checkpoint_key is not None:
            msg = (
                f"model.checkpoint_key = {recipe.model.checkpoint_key!r} chooses among the weights of "
                "model.checkpoint; set that too, or leave the key out"
            )
            raise InputError(msg)
        return None
    try:
        with Path(recipe.model.checkpoint).open("rb") as file:
            return digest_of_stream(file)
    except OSError as error:
        msg = f"model.checkpoint = {recipe.model.checkpoint!r}: cannot be read: {error.strerror}"
        raise InputError(msg) from error
