"""Stage 5: exports the twin as engines, and measures size and sparsity on the files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tscnc_deploy.digests import digest_of_file
from tscnc_deploy.engines.target import Target, load_target
from tscnc_deploy.names import TWIN
from tscnc_deploy.pipeline.stages.base import Context, Stage, training_data, write_json
from tscnc_deploy.pipeline.stages.completion import completed_twin
from tscnc_deploy.pipeline.stages.finetune import Finetune
from tscnc_deploy.recipe import Recipe

if TYPE_CHECKING:
    from tscnc_deploy.engines.base import Array


class Export(Stage):
    """Writes twin.onnx, engines/TARGET/ for every target, structure.json (recounted sparsity) and sizes.json.

    The folder of a target with a 2:4 completion also contains twin.onnx, the completed network.
    """

    name = "export"
    reads = {"train": ("model.safetensors",), "finetune": ("model.safetensors",)}  # noqa: RUF012

    def settings(self, recipe: Recipe) -> dict[str, Any]:
        targets = [load_target(name) for name in recipe.export.targets]
        settings: dict[str, Any] = {"targets": [target.model_dump(mode="json") for target in targets]}
        if _most_images(targets):
            settings |= {"data": training_data(recipe), "seed": recipe.seed}
        if any(target.complete_epochs for target in targets):
            settings |= Finetune().settings(recipe)
        return settings

    def run(self, context: Context) -> None:
        from tscnc_deploy.engines import ExportAids, export_engine
        from tscnc_deploy.engines.onnx.export import export_onnx
        from tscnc_deploy.engines.onnx.size import size_table
        from tscnc_deploy.engines.onnx.structure import recount

        recipe = context.recipe
        model = context.network("finetune")
        targets = [load_target(name) for name in recipe.export.targets]
        calibration = _calibration(recipe, _most_images(targets))
        structure, sizes = {}, {}
        shape, example = model.config.input_shape, max(target.batch_example for target in targets)
        export_onnx(model, context.out / TWIN, input_shape=shape, batch_example=example)
        # Several engines often open the same file: it is compressed for the table once.
        measured: dict[tuple[str, str], dict[str, Any]] = {}
        for done, target in enumerate(targets):
            context.progress.step(done, len(targets), {}, target.name)

            def progress(done: int, total: int, what: str, name: str = target.name) -> None:
                context.progress.step(done, total, {}, f"{name}: {what}")

            folder = context.out / "engines" / target.name
            leaving, completion, twin = model, None, context.out / TWIN
            if target.complete != "none":
                leaving, completion = completed_twin(context, target)
                twin = folder / TWIN
                folder.mkdir(parents=True)
                export_onnx(leaving, twin, input_shape=shape, batch_example=example)
            files = export_engine(
                leaving,
                target,
                folder,
                input_shape=shape,
                aids=ExportAids(
                    calibration=None if calibration is None else calibration[: target.calibration_images],
                    dense=twin,
                    timing_cache=context.cache / "tensorrt.timing",
                    progress=progress,
                ),
            )
            structure[target.name] = recount(files.graph).to_json()
            if completion is not None:
                structure[target.name]["completion"] = completion
            content = digest_of_file(files.dense), digest_of_file(files.model)
            if content not in measured:
                measured[content] = size_table(files.dense, files.model).to_json()
            sizes[target.name] = measured[content]
        write_json(context.out / "structure.json", structure)
        write_json(context.out / "sizes.json", sizes)


def _most_images(targets: list[Target]) -> int:
    """Number of calibration images that the targets need; 0 if none is int8."""
    return max((target.calibration_images for target in targets if target.precision == "int8"), default=0)


def _calibration(recipe: Recipe, count: int) -> Array | None:
    """Unmodified training images, drawn at random; validation and test images must not influence the engine."""
    if not count:
        return None
    import torch

    from tscnc_deploy import data
    from tscnc_deploy.seeds import derive_generator

    train = data.load(recipe.data).train
    order = torch.randperm(len(train), generator=derive_generator(recipe.seed, "calibration"))
    images, _ = train.batch(order[:count])
    array: Array = images.numpy()
    return array
