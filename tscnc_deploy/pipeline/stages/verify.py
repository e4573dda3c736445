"""Stage 4: measures clean and robust accuracy of the dense network and the twin on test images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tscnc_deploy.pipeline.stages.attacking import beyond_attacks, case_of, evaluate, outcomes_of
from tscnc_deploy.pipeline.stages.base import Context, Stage, test_data, write_json, write_tensors
from tscnc_deploy.recipe import Recipe


class Verify(Stage):
    """Writes evaluation.json, examples.safetensors (images, labels, the twin's examples) and outcomes.safetensors.

    Dense network and twin face the same attacks, so the cost of pruning is a paired comparison.
    """

    name = "verify"
    reads = {"train": ("model.safetensors",), "finetune": ("model.safetensors",)}  # noqa: RUF012

    def settings(self, recipe: Recipe) -> dict[str, Any]:
        return {
            "data": test_data(recipe),
            "threat": recipe.threat.model_dump(),
            "verify": recipe.verify.model_dump(exclude={"engine_attacks", "evidence_images", "ship_images"}),
            "seed": recipe.seed,
        }

    def run(self, context: Context) -> None:
        import torch

        from tscnc_deploy import data
        from tscnc_deploy.data.sampling import stratified
        from tscnc_deploy.devices import choose_device
        from tscnc_deploy.robustness import ModelVictim, Reference, parse_attacks
        from tscnc_deploy.seeds import derive_generator

        recipe, verify = context.recipe, context.recipe.verify
        test = data.load(recipe.data).test
        index = torch.arange(len(test))
        if 0 < verify.samples < len(test):
            index = stratified(test.labels, verify.samples, derive_generator(recipe.seed, "verify"))
        device = choose_device(context.device)
        images, labels = test.batch(index)
        attacks = parse_attacks(verify.attacks)

        dense, twin = (
            case_of(
                recipe,
                ModelVictim(context.network(stage).to(device)),
                images,
                labels,
                attacks,
            )
            for stage in ("train", "finetune")
        )
        before = evaluate(context, "dense", replace(dense, masking=False, measures=()))
        reference = Reference(before.evaluation.robust_mask)
        after = evaluate(context, "twin", replace(twin, surrogate=dense.victim, reference=reference))
        assert after.comparison is not None
        record = {
            "dense": before.evaluation.record.to_json(),
            "twin": after.evaluation.record.to_json() | beyond_attacks(after),
            "comparison": after.comparison.to_json(),
        }
        write_json(context.out / "evaluation.json", record)
        examples = {"images": images, "labels": labels, "index": index, "twin": after.evaluation.adversarial}
        write_tensors(context.out / "examples.safetensors", examples)
        outcomes = outcomes_of("dense", before.evaluation) | outcomes_of("twin", after.evaluation)
        write_tensors(context.out / "outcomes.safetensors", outcomes)
