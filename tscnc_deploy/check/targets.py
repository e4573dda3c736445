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


def named_target(policy: Policy, theirs: Target) -> Target | None:
    """The recipe's target of an engine's name, else the shipped one, if it has the same engine and precision.

    Args:
        policy: With the user's own recipe, its targets count.
        theirs: The target that the bundle contains; only its name, engine and precision are used.

    Raises:
        RecipeError: The recipe's target cannot be read.
    """
    if policy.source == "recipe":
        for name in policy.recipe.export.targets:
            if Path(name).stem == theirs.name:
                target = load_target(name)
                # A target of that name for something else allows what does not apply here.
                if _alike(target, theirs):
                    return target
    return next((each for each in list_targets() if each.name == theirs.name and _alike(each, theirs)), None)


def checkers_target(policy: Policy, theirs: Target) -> Target:
    """The target whose tolerance applies to an engine.

    Args and Raises: See `named_target`.

    Returns:
        That of `named_target`, else the shipped target with the largest tolerance of those with the same engine and
        precision.
    """
    alike = [each for each in list_targets() if _alike(each, theirs)]
    # Without any, the default tolerance is that of float32.
    largest = max(alike, key=lambda each: each.tolerance, default=Target(name=theirs.name))
    return named_target(policy, theirs) or largest


def _alike(one: Target, other: Target) -> bool:
    return (one.engine, one.precision) == (other.engine, other.precision)


def allowed_flips(target: Target) -> float:
    """Largest share of images, in [0, 1], whose label may differ from the twin's."""
    return _FLIPS[target.precision]
