"""Stage 6: the exported engines are opened and attacked themselves, beside their twin."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tscnc_deploy.engines import can_run, load_target
from tscnc_deploy.pipeline.stages.attacking import beyond_attacks, evaluate_victim
from tscnc_deploy.pipeline.stages.base import Context, Stage, write_json, write_tensors
from tscnc_deploy.pipeline.stages.latency import measure_latency
from tscnc_deploy.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.models import Classifier
    from tscnc_deploy.robustness import Attack, EngineVictim, Evaluation, Victim


class Reverify(Stage):
    """Writes evaluation.json (by target), examples.safetensors (each engine's own), outcomes.safetensors, latency.json.

    An engine that this machine cannot run is listed with the reason instead of figures.
    """

    name = "reverify"
    reads = {  # noqa: RUF012
        "finetune": ("model.safetensors",),
        "verify": ("examples.safetensors", "outcomes.safetensors"),
        "export": ("engines",),
    }

    def settings(self, recipe: Recipe) -> dict[str, Any]:
        return {
            # What could not run yesterday may run today, with the same files and versions.
            "unavailable": {target: can_run(load_target(target)) for target in recipe.export.targets},
            "threat": recipe.threat.model_dump(),
            "engine_attacks": list(recipe.verify.engine_attacks),
            "measures": list(recipe.verify.measures),
            "batch_size": recipe.verify.batch_size,
            "cascade": recipe.verify.cascade,
            "seed": recipe.seed,
        }

    def run(self, context: Context) -> None:
        import torch
        from safetensors.torch import load_file

        from tscnc_deploy import models
        from tscnc_deploy.devices import choose_device, deterministic
        from tscnc_deploy.engines import engine_facts, open_engine
        from tscnc_deploy.engines.target import read_target
        from tscnc_deploy.robustness import EngineVictim

        recipe = context.recipe
        device = choose_device(context.device)
        twin = models.load_model(context.inputs["finetune"] / "model.safetensors").to(device)
        examples = load_file(context.inputs["verify"] / "examples.safetensors", device=str(device))
        twin_outcomes = load_file(context.inputs["verify"] / "outcomes.safetensors")
        twin_stands = torch.stack([v.bool() for k, v in twin_outcomes.items() if k.startswith("twin.")]).all(dim=0)
        record: dict[str, Any] = {}
        found: dict[str, Tensor] = {}
        outcomes: dict[str, Tensor] = {}
        for folder in sorted((context.inputs["export"] / "engines").iterdir()):
            target = read_target(folder / "target.json")
            name = target.name
            reason = can_run(target)
            facts = engine_facts(folder)
            if reason is not None:
                made_for = ", ".join(facts.get("made_for", []))
                built = f"built for {made_for}, not run here: " if made_for else ""
                record[name] = facts | {"unavailable": built + reason}
                continue
            engine = open_engine(folder)
            completed = folder / "twin.safetensors"
            # Gradients and logits to compare with are those of the network that left; what it lost is counted from
            # the one that the build ended with.
            own = models.load_model(completed).to(device) if completed.exists() else twin
            with deterministic(tf32=False):
                victim = EngineVictim(engine, own)
                evaluation = evaluate_victim(
                    context, name, victim, examples["images"], examples["labels"], _attacks(recipe, examples["twin"])
                )
                beside = _beside_twin(context, victim, examples, evaluation, target.tolerance)
                beside["comparison"] = _comparison(context, twin, examples, evaluation, twin_stands)
                beside |= beyond_attacks(context, name, victim, examples["images"], examples["labels"], evaluation)
            record[name] = facts | evaluation.to_json() | beside | {"provider": engine.spec.provider}
            found[name] = evaluation.adversarial
            for attack, mask in {"clean": evaluation.correct, **evaluation.robust_by_attack}.items():
                outcomes[f"{name}.{attack}"] = mask.to(torch.uint8)
        write_json(context.out / "evaluation.json", record)
        if found:
            context.progress.step(0, 1, {}, "latency")
            ran = [context.inputs["export"] / "engines" / name for name in found]
            write_json(context.out / "latency.json", measure_latency(ran))
        write_tensors(context.out / "examples.safetensors", found)
        write_tensors(context.out / "outcomes.safetensors", outcomes)


def _attacks(recipe: Recipe, examples: Tensor) -> list[Attack]:
    """Replay of the twin's examples, then the recipe's attacks with the engine's logits in the loop."""
    from tscnc_deploy.robustness import Replay, TwinAPGD, parse_attacks

    attacks: list[Attack] = [Replay(examples)]
    for attack in parse_attacks(recipe.verify.engine_attacks):
        # Restarts from the twin's best examples are worth more than random ones.
        attacks.append(replace(attack, starts=examples) if isinstance(attack, TwinAPGD) else attack)
    return attacks


def _beside_twin(
    context: Context,
    victim: EngineVictim,
    examples: dict[str, Tensor],
    evaluation: Evaluation,
    tolerance: float,
) -> dict[str, Any]:
    """Parity of logits, and flips."""
    from tscnc_deploy.robustness import compare_logits

    images = examples["images"]
    adversarial = evaluation.adversarial.to(images.device)
    parity = compare_logits(
        _logits(context, victim, images),
        _logits(context, victim.twin, images),
        _logits(context, victim, adversarial),
        _logits(context, victim.twin, adversarial),
        tolerance,
    )
    return {
        "parity": parity.to_json(),
        "flips": len(parity.flips_clean) + len(parity.flips_adversarial),
        "max_abs_diff": parity.to_json()["max_abs_diff"],
    }


def _comparison(
    context: Context, twin: Classifier, examples: dict[str, Tensor], evaluation: Evaluation, twin_stands: Tensor
) -> dict[str, Any]:
    """The paired comparison with the build's twin, in which both face all examples of both."""
    from tscnc_deploy.robustness import ModelVictim, compare

    labels = examples["labels"]
    predicted = _logits(context, ModelVictim(twin), evaluation.adversarial.to(labels.device)).argmax(1)
    return compare(twin_stands & (predicted == labels).cpu(), evaluation.robust_mask).to_json()


def _logits(context: Context, victim: Victim, images: Tensor) -> Tensor:
    import torch

    return torch.cat([victim.logits(part) for part in torch.split(images, context.recipe.verify.batch_size)])
