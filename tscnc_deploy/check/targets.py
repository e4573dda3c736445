"""How closely an engine must match its twin. The checker says so, never the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tscnc_deploy.engines.target import Target, list_targets, load_target

if TYPE_CHECKING:
    from tscnc_deploy.check.policy import Policy

# Largest share of labels that may differ from the twin's, by the precision of the engine. Rounding flips images on the
# decision boundary, where adversarial examples are.
_FLIPS = {"fp32": 0.01, "fp16": 0.05, "int8": 0.15}


def checkers_target(policy: Policy, theirs: Target) -> Target:
    """The target whose tolerance applies to an engine.

    Args:
        policy: With the user's own recipe, its target of the same name counts.
        theirs: The target that the bundle contains; only its name, engine and precision are used.

    Returns:
        The recipe's target of that name, else the shipped one, if it has the same engine and precision; otherwise the
        shipped target with the largest tolerance of those that have.

    Raises:
        RecipeError: The recipe's target cannot be read.
    """
    if policy.source == "recipe":
        for name in policy.recipe.export.targets:
            if Path(name).stem == theirs.name:
                target = load_target(name)
                # A target of that name for something else allows what does not apply here.
                if (target.engine, target.precision) == (theirs.engine, theirs.precision):
                    return target
    alike = [each for each in list_targets() if (each.engine, each.precision) == (theirs.engine, theirs.precision)]
    named = [each for each in alike if each.name == theirs.name]
    # Without any, the default tolerance is that of float32.
    return max(named or alike, key=lambda each: each.tolerance, default=Target(name=theirs.name))


def allowed_flips(target: Target) -> float:
    """Largest share of images, in [0, 1], whose label may differ from the twin's."""
    return _FLIPS[target.precision]
