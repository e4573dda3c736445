"""The settings of each measure beyond the threat model, in words, once for all models with the same settings."""

from __future__ import annotations

from collections.abc import Mapping

from tscnc_deploy.record import Corruptions, Curve, Lipschitz, Measure, SmallestEpsilons, Smoothing
from tscnc_deploy.record.parts import Setting
from tscnc_deploy.report.wording import count, figure, setting


def conditions(results: Mapping[str, Measure]) -> str:
    """The settings of one measure by model: "twin, onnx-cpu: apgd-ce-20: loss cross-entropy · steps 20 · seed 0."."""
    models: dict[str, list[str]] = {}
    for name, result in results.items():
        models.setdefault(_of(result), []).append(name)
    return " ".join(f"{', '.join(names)}: {text}." for text, names in models.items())


def _of(result: Measure) -> str:
    match result:
        case Corruptions():
            return f"seed {setting(result.seed)}"
        case Curve():
            return "; ".join(f"{attack}: {_listed(values)}" for attack, values in result.settings.items())
        case SmallestEpsilons():
            return f"{setting(result.norm)}, searched up to {figure(result.largest)}; {_listed(result.settings)}"
        case Lipschitz():
            ball = f"{setting(result.norm)} balls of a radius up to {figure(result.epsilon)}"
            steps = {"steps": result.steps, "restarts": result.restarts, "seed": result.seed}
            return f"{ball}; {_listed(steps)}"
        case Smoothing():
            copies = f"{count(result.n0)} copies choose the class, {count(result.n)} bound its probability"
            wrong = f"a certificate is wrong with a probability of at most {figure(result.alpha)}"
            return f"σ = {figure(result.sigma)}; {copies}; {wrong}; seed {setting(result.seed)}"


def _listed(values: Mapping[str, Setting]) -> str:
    return " · ".join(f"{key} {setting(value)}" for key, value in values.items())
