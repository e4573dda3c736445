"""Stage 5: the twin leaves as engines, and what they weigh and hold is counted on the files."""

from __future__ import annotations

from typing import Any

from tscnc_deploy.engines.target import load_target
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.stages.base import Context, Stage, write_json


class Export(Stage):
    """Writes engines/TARGET/ for every target, structure.json (recounted sparsity) and sizes.json."""

    name = "export"
    reads = {"finetune": ("model.safetensors",)}  # noqa: RUF012
    code = ("stages/export.py", "engines", "models")
    libraries = ("torch", "onnx", "onnxscript", "onnx-ir", "tensorrt", "tensorrt-rtx")

    def settings(self, recipe: Recipe) -> dict[str, Any]:
        return {"targets": [load_target(name).model_dump(mode="json") for name in recipe.export.targets]}

    def run(self, context: Context) -> None:
        from tscnc_deploy import models
        from tscnc_deploy.engines import ExportAids, export_engine
        from tscnc_deploy.engines.size import size_table
        from tscnc_deploy.engines.structure import recount

        model = models.load_model(context.inputs["finetune"] / "model.safetensors")
        targets = [load_target(name) for name in context.recipe.export.targets]
        structure, sizes = {}, {}
        for done, target in enumerate(targets):
            context.progress.step(done, len(targets), {}, target.name)

            def progress(done: int, total: int, what: str, name: str = target.name) -> None:
                context.progress.step(done, total, {}, f"{name}: {what}")

            files = export_engine(
                model,
                target,
                context.out / "engines" / target.name,
                input_shape=model.config.input_shape,
                aids=ExportAids(timing_cache=context.cache / "tensorrt.timing", progress=progress),
            )
            structure[target.name] = recount(files.graph).to_json()
            sizes[target.name] = size_table(files.dense, files.model).to_json()
        write_json(context.out / "structure.json", structure)
        write_json(context.out / "sizes.json", sizes)
