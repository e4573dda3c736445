"""Stage 4: clean and robust accuracy of the dense network and of the twin, on test images."""

from __future__ import annotations

from typing import Any

from tscnc_deploy.pipeline.stages.attacking import beyond_attacks, evaluate_victim
from tscnc_deploy.pipeline.stages.base import Context, Stage, test_data, write_json, write_tensors
from tscnc_deploy.recipe import Recipe


class Verify(Stage):
    """Writes evaluation.json, examples.safetensors (images, labels, the twin's examples) and outcomes.safetensors.

    Dense network and twin face the same attacks, so that what pruning cost is a paired comparison.
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

        from tscnc_deploy import data, models
        from tscnc_deploy.data.sampling import stratified
        from tscnc_deploy.devices import choose_device, deterministic
        from tscnc_deploy.robustness import ModelVictim, compare, parse_attacks
        from tscnc_deploy.seeds import derive_generator

        recipe, verify = context.recipe, context.recipe.verify
        test = data.load(recipe.data).test
        index = torch.arange(len(test))
        if 0 < verify.samples < len(test):
            index = stratified(test.labels, verify.samples, derive_generator(recipe.seed, "verify"))
        device = choose_device(context.device)
        images, labels = test.batch(index)
        attacks = parse_attacks(verify.attacks)

        victims = {
            who: ModelVictim(models.load_model(context.inputs[stage] / "model.safetensors").to(device))
            for who, stage in (("dense", "train"), ("twin", "finetune"))
        }
        with deterministic(tf32=False):
            evaluations = {
                who: evaluate_victim(context, who, victim, images, labels, attacks) for who, victim in victims.items()
            }
            dense, twin = evaluations["dense"], evaluations["twin"]
            beyond = beyond_attacks(context, "twin", victims["twin"], images, labels, twin, victims["dense"])
        record: dict[str, Any] = {who: evaluation.to_json() for who, evaluation in evaluations.items()}
        record["twin"] |= beyond
        record["comparison"] = compare(dense.robust_mask, twin.robust_mask).to_json()
        write_json(context.out / "evaluation.json", record)
        examples = {"images": images, "labels": labels, "index": index, "twin": twin.adversarial}
        write_tensors(context.out / "examples.safetensors", examples)
        outcomes = {
            f"{who}.{attack}": mask.to(torch.uint8)
            for who, evaluation in evaluations.items()
            for attack, mask in {"clean": evaluation.correct, **evaluation.robust_by_attack}.items()
        }
        write_tensors(context.out / "outcomes.safetensors", outcomes)
