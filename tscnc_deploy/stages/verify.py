"""Stage 4: clean and robust accuracy of the dense network and of the twin, on test images."""

from __future__ import annotations

from typing import Any

from tscnc_deploy.recipe import Recipe
from tscnc_deploy.stages.base import Context, Stage, test_data, write_json, write_tensors


class Verify(Stage):
    """Writes evaluation.json, examples.safetensors (images, labels, the twin's examples) and outcomes.safetensors.

    Dense network and twin face the same attacks, so that what pruning cost is a paired comparison.
    """

    name = "verify"
    reads = {"train": ("model.safetensors",), "finetune": ("model.safetensors",)}  # noqa: RUF012
    code = ("stages/verify.py", "robustness", "data", "models", "training/device.py", "training/seeds.py")
    libraries = ("torch", "torchvision", "numpy", "pillow", "scipy")

    def settings(self, recipe: Recipe) -> dict[str, Any]:
        return {
            "data": test_data(recipe),
            "threat": recipe.threat.model_dump(),
            "verify": recipe.verify.model_dump(exclude={"engine_attacks", "evidence_images"}),
            "seed": recipe.seed,
        }

    def run(self, context: Context) -> None:
        import torch

        from tscnc_deploy import data, models
        from tscnc_deploy.data.sampling import stratified
        from tscnc_deploy.robustness import ModelVictim, Threat, check_masking, compare, evaluate, parse_attacks
        from tscnc_deploy.training.device import choose_device, deterministic
        from tscnc_deploy.training.seeds import derive_generator

        recipe, verify = context.recipe, context.recipe.verify
        test = data.load(recipe.data).test
        index = torch.arange(len(test))
        if 0 < verify.samples < len(test):
            index = stratified(test.labels, verify.samples, derive_generator(recipe.seed, "verify"))
        device = choose_device(context.device)
        images, labels = (part.to(device) for part in test.batch(index))
        threat = Threat(norm=recipe.threat.norm, epsilon=recipe.threat.epsilon)
        attacks = parse_attacks(verify.attacks)

        evaluations = {}
        for who, stage in (("dense", "train"), ("twin", "finetune")):
            model = models.load_model(context.inputs[stage] / "model.safetensors").to(device)
            with deterministic(tf32=False):
                evaluations[who] = evaluate(
                    ModelVictim(model),
                    images,
                    labels,
                    threat,
                    attacks,
                    seed=recipe.seed,
                    batch_size=verify.batch_size,
                    cascade=verify.cascade,
                    progress=lambda name, done, total, who=who: context.progress.step(  # type: ignore[misc]
                        done, total, {}, f"{who}: {name}"
                    ),
                )
        dense, twin = evaluations["dense"], evaluations["twin"]
        record: dict[str, Any] = {who: evaluation.to_json() for who, evaluation in evaluations.items()}
        context.progress.step(0, 1, {}, "twin: signs of gradient masking")
        with deterministic(tf32=False):
            signs = check_masking(
                ModelVictim(model), images, labels, threat, twin, seed=recipe.seed, batch_size=verify.batch_size
            )
        record["twin"]["warnings"] = [sign.to_json() for sign in signs]
        record["comparison"] = compare(dense.robust_mask, twin.robust_mask).to_json()
        write_json(context.out / "evaluation.json", record)
        examples = {"images": images, "labels": labels, "index": index, "twin": twin.adversarial}
        write_tensors(context.out / "examples.safetensors", examples)
        outcomes = {
            f"{who}.{attack}": mask.to(torch.uint8)
            for who, evaluation in evaluations.items()
            for attack, mask in {"clean": evaluation.correct, **evaluation.standing}.items()
        }
        write_tensors(context.out / "outcomes.safetensors", outcomes)
