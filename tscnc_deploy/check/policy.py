"""Whose bounds a bundle is held to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tscnc_deploy.check.result import CheckResult, holds
from tscnc_deploy.recipe.file import load_recipe

if TYPE_CHECKING:
    from tscnc_deploy.bundle import Bundle
    from tscnc_deploy.recipe import Recipe
    from tscnc_deploy.robustness import Threat

Origin = Literal["recipe", "baseline", "bundle"]
_SAYS: dict[Origin, str] = {"recipe": "--recipe", "baseline": "the baseline", "bundle": "the bundle itself"}


@dataclass(frozen=True)
class Policy:
    """Threat model, gates and sparsity that a bundle must keep.

    Attributes:
        recipe: Holds them.
        origin: Whose recipe it is. Whoever made the bundle chose those of the bundle itself.
    """

    recipe: Recipe
    origin: Origin

    @property
    def threat(self) -> Threat:
        """What the attacker may do."""
        from tscnc_deploy.robustness import Threat

        return Threat(norm=self.recipe.threat.norm, epsilon=self.recipe.threat.epsilon)

    @property
    def says(self) -> str:
        """Whose it is, in words."""
        return _SAYS[self.origin]


def choose_policy(
    bundle: Bundle, baseline: Bundle | None = None, recipe: str | None = None, overrides: Sequence[str] = ()
) -> Policy:
    """The user's recipe if there is one, else the baseline's, else the bundle's own.

    Args:
        bundle: What is checked.
        baseline: What it is compared with.
        recipe: Name or file of the user's recipe.
        overrides: Changes of the form KEY=VALUE to whichever it is.

    Raises:
        RecipeError: It cannot be read, or the changes ask for something impossible.
    """
    if recipe is not None:
        return Policy(load_recipe(recipe, overrides), "recipe")
    chosen = bundle if baseline is None else baseline
    return Policy(
        chosen.load_recipe(overrides),
        "bundle" if baseline is None else "baseline",
    )


def compare_policy(bundle: Bundle, policy: Policy) -> Iterator[CheckResult]:
    """Whether the bundle was built for as strong an attacker, and to as strict gates, as the policy asks for."""
    threat, wanted = bundle.manifest.threat, policy.threat
    said = f"the bundle was built for {threat.norm} {threat.epsilon:g}, {policy.says} asks for "
    said += f"{wanted.norm} {wanted.epsilon:g}"
    strong = threat.norm == wanted.norm and threat.epsilon >= wanted.epsilon * (1 - 1e-6)
    yield holds("threat model: as strong as asked for", strong, said, threat.epsilon, wanted.epsilon)
    if policy.origin == "bundle":
        message = "chosen by whoever made the bundle; --recipe or --baseline holds it to yours"
        yield CheckResult("gates: whose they are", "note", message)
        return
    own = bundle.load_recipe()
    lowered = [
        f"gates.{key} is {have:g} in the bundle's recipe, {want:g} by {policy.says}"
        for key, have, want in (
            ("clean", own.gates.clean, policy.recipe.gates.clean),
            ("robust", own.gates.robust, policy.recipe.gates.robust),
        )
        if have < want
    ]
    yield holds("gates: as strict as asked for", not lowered, "; ".join(lowered))
