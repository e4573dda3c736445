"""The 2:4 completion of a target: the twin with fewer weights, optionally fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tscnc_deploy.engines.target import Target
from tscnc_deploy.pipeline.stages.base import Context

if TYPE_CHECKING:
    from tscnc_deploy.models import Classifier


def completed_twin(context: Context, target: Target) -> tuple[Classifier, list[dict[str, Any]]]:
    """Creates the twin of a target's engine: the build's twin, completed to 2:4.

    A weight's saliency is its magnitude. Regrown weights are ranked by their magnitude in the dense network.

    Returns:
        The model on the CPU in eval mode, and the completion of every layer, see `tscnc.LayerCompletion`.
    """
    from tscnc_deploy.tscnc import Masks, complete_2_4, magnitude

    twin = context.network("finetune")
    dense = context.network("train") if target.regrow else None
    masks, costs = complete_2_4(
        Masks.of(twin).state_dict(),
        magnitude(twin),
        least_channels=target.complete_channels,
        regrow=None if dense is None else magnitude(dense),
    )
    Masks(masks).apply_(twin)
    if target.complete_epochs:
        _train_on(context, target, twin, Masks(masks))
    return twin, [cost.to_json() for cost in costs]


def _train_on(context: Context, target: Target, model: Classifier, masks: Any) -> None:
    from tscnc_deploy import data
    from tscnc_deploy.devices import choose_device
    from tscnc_deploy.training.criteria import Frozen
    from tscnc_deploy.training.loop import Phase, Training
    from tscnc_deploy.tscnc import Masks

    recipe, device = context.recipe, choose_device(context.device)
    phase = Phase("finetune", target.complete_epochs, recipe.finetune.lr, "cosine", early_stop=recipe.train.early_stop)
    checkpoint = context.work / f"{target.name}.pt"
    training = Training(model, data.load(recipe.data), recipe, phase, device, checkpoint)
    there = Masks({name: mask.to(device) for name, mask in masks.state_dict().items()})

    def on_step(done: int, total: int, figures: dict[str, float]) -> None:
        context.progress.step(done, total, figures, f"{target.name}: fine-tuning the 2:4 completion")

    training.run(Frozen(model, there), on_step)
    model.cpu()
