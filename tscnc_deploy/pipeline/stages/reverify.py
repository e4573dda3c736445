"""Stage 6: opens and attacks the exported engines themselves, and compares them with their twin."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tscnc_deploy.engines import can_run, load_target
from tscnc_deploy.names import TWIN
from tscnc_deploy.pipeline.stages.attacking import beyond_attacks, case_of, evaluate, outcomes_of
from tscnc_deploy.pipeline.stages.base import Context, Stage, write_json, write_tensors
from tscnc_deploy.pipeline.stages.latency import measure_latency
from tscnc_deploy.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from tscnc_deploy.robustness import Attack, CaseResult


class Reverify(Stage):
    """Writes evaluation.json (by target), examples.safetensors (each engine's own), outcomes.safetensors, latency.json.

    For an engine that this machine cannot run, the reason is written instead of figures.
    """

    name = "reverify"
    reads = {  # noqa: RUF012
        "finetune": ("model.safetensors",),
        "verify": ("examples.safetensors", "outcomes.safetensors"),
        "export": ("engines",),
    }

    def settings(self, recipe: Recipe) -> dict[str, Any]:
        return {
            # An engine that could not run earlier may run now, with the same files and versions.
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

        from tscnc_deploy.devices import choose_device
        from tscnc_deploy.engines import engine_facts, open_engine
        from tscnc_deploy.engines.onnx.differentiable import open_twin
        from tscnc_deploy.engines.target import read_target
        from tscnc_deploy.robustness import EngineVictim, ModelVictim, Reference

        recipe = context.recipe
        device = choose_device(context.device)
        twin = context.network("finetune").to(device)
        examples = load_file(context.inputs["verify"] / "examples.safetensors", device=str(device))
        twin_outcomes = load_file(context.inputs["verify"] / "outcomes.safetensors")
        twin_robust = torch.stack([v.bool() for k, v in twin_outcomes.items() if k.startswith("twin.")]).all(dim=0)
        # The engine has been attacked with the twin's examples (replay); the twin also gets the engine's.
        reference = Reference(twin_robust, ModelVictim(twin))
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
            completed = folder / TWIN
            # Gradients and logits for comparison are those of the exported network; losses are counted relative to the
            # build's final network.
            own = open_twin(completed).to(device) if completed.exists() else twin
            attacks = _attacks(recipe, examples["twin"])
            case = case_of(recipe, EngineVictim(engine, own), examples["images"], examples["labels"], attacks)
            result = evaluate(context, name, replace(case, tolerance=target.tolerance, reference=reference))
            record[name] = facts | _entry(result) | {"provider": engine.spec.provider}
            found[name] = result.evaluation.adversarial
            outcomes |= outcomes_of(name, result.evaluation)
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
        # Restarts from the twin's best examples are more effective than random ones.
        attacks.append(replace(attack, starts=examples) if isinstance(attack, TwinAPGD) else attack)
    return attacks


def _entry(result: CaseResult) -> dict[str, Any]:
    """The record's entry for an attacked engine."""
    parity, comparison = result.parity, result.comparison
    assert parity is not None
    assert comparison is not None
    return {
        **result.evaluation.record.to_json(),
        "parity": parity.to_json(),
        "flips": len(parity.flips_clean) + len(parity.flips_adversarial),
        "max_abs_diff": parity.to_json()["max_abs_diff"],
        "comparison": comparison.to_json(),
        **beyond_attacks(result),
    }
