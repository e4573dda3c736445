"""The threat model, gates and sparsity that a bundle is checked against, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tscnc_deploy.check.result import CheckResult, pass_or_fail
from tscnc_deploy.recipe.file import load_recipe
from tscnc_deploy.text import escaped

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.recipe import Recipe
    from tscnc_deploy.robustness import Threat

Source = Literal["recipe", "baseline", "bundle"]
_NAMES: dict[Source, str] = {"recipe": "--recipe", "baseline": "the baseline", "bundle": "the bundle itself"}


@dataclass(frozen=True)
class Policy:
    """The threat model, gates and sparsity that a bundle must meet.

    Attributes:
        recipe: The recipe that contains them.
        source: Where the recipe comes from. If it is the bundle, whoever made the bundle chose the limits.
    """

    recipe: Recipe
    source: Source

    @property
    def threat(self) -> Threat:
        """What the attacker may do."""
        from tscnc_deploy.robustness import Threat

        return Threat(norm=self.recipe.threat.norm, epsilon=self.recipe.threat.epsilon)

    @property
    def name(self) -> str:
        """The source in words, for messages."""
        return _NAMES[self.source]


def choose_policy(
    bundle: Bundle, baseline: Bundle | None = None, recipe: str | None = None, overrides: Sequence[str] = ()
) -> Policy:
    """The user's recipe if there is one, otherwise the baseline's, otherwise the bundle's own.

    Args:
        bundle: The bundle to check.
        baseline: The bundle that it is compared with.
        recipe: Name or file of the user's recipe.
        overrides: Changes to the chosen recipe, KEY=VALUE.

    Raises:
        RecipeError: The recipe cannot be read, or the changes contradict each other or it.
    """
    if recipe is not None:
        return Policy(load_recipe(recipe, overrides), "recipe")
    if baseline is not None:
        return Policy(baseline.load_recipe(overrides), "baseline")
    return Policy(bundle.load_recipe(overrides), "bundle")


def compare_policy(bundle: Bundle, policy: Policy) -> Iterator[CheckResult]:
    """Whether the bundle was built against an attacker and gates at least as strong as the policy requires."""
    threat, required = bundle.manifest.threat, policy.threat
    message = (
        f"the bundle was built for {threat.norm} {threat.epsilon:g}, {policy.name} requires {required.norm} "
        f"{required.epsilon:g}"
    )
    strong = threat.norm == required.norm and threat.epsilon >= required.epsilon * (1 - 1e-6)
    yield pass_or_fail("threat model: as strong as required", strong, message, threat.epsilon, required.epsilon)
    if policy.source == "bundle":
        message = "set by the bundle itself, so by whoever made it; use --recipe or --baseline to apply your own"
        yield CheckResult("gates: source", "note", message)
        return
    own = bundle.load_recipe()
    lowered = [
        f"gates.{key} is {have:g} in the bundle's recipe, {policy.name} requires {want:g}"
        for key, have, want in (
            ("clean", own.gates.clean, policy.recipe.gates.clean),
            ("robust", own.gates.robust, policy.recipe.gates.robust),
        )
        if have < want
    ]
    yield pass_or_fail("gates: as strict as required", not lowered, "; ".join(lowered))
    yield _compare_engines(bundle, policy)


def _compare_engines(bundle: Bundle, policy: Policy) -> CheckResult:
    """Whether the bundle has the policy's engines, and of a recipe no others, which somebody may serve."""
    wanted, found = {Path(target).stem for target in policy.recipe.export.targets}, set(bundle.engines)
    missing, others = sorted(wanted - found), sorted(found - wanted) if policy.source == "recipe" else []
    said = [f"{policy.name} requires {', '.join(missing)}"] * bool(missing)
    said += [f"{policy.name} does not name {', '.join(escaped(name) for name in others)}"] * bool(others)
    listed = json.dumps(sorted(bundle.engines))
    message = f"{'; '.join(said)}; if the bundle's engines are right, use --set 'export.targets={escaped(listed, 300)}'"
    return pass_or_fail("engines: those required", not said, message)
