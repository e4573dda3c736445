"""reproduce.sh: rebuilds a bundle from its recipe, with the versions of the original build."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from tscnc_deploy.arch import parse_arch
from tscnc_deploy.bundle.provenance.code import Code
from tscnc_deploy.bundle.provenance.distributions import ROOT, Distribution
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.templates import fill


def render_script(
    recipe: Recipe, code: Code, distributions: Mapping[str, Distribution], *, python: str, device: str, threads: int
) -> str:
    """The script, for a POSIX shell; equal builds give equal text.

    Args:
        recipe: Recipe of the build.
        code: Version of this package.
        distributions: See `build_distributions`; local parts of versions, such as +cpu, are dropped, because package
            indexes do not have them.
        python: Version of Python.
        device: "cpu" or "cuda".
        threads: Number of PyTorch's CPU threads, which can affect rounding.

    Raises:
        UnavailableError: The templates are missing from the installation.
    """
    pins = [f"{each.name}=={each.version.partition('+')[0]}" for each in distributions.values() if each.name != ROOT]
    network = parse_arch(recipe.model.arch)
    # Indices hold releases only: "0.1.dev5+g1a2b3c4" is a checkout, "0+unknown" one that was never installed.
    released = not re.search(r"\+|\.dev", code.version)
    return fill(
        "reproduce.sh.j2",
        autoescape=False,
        name=recipe.name,
        code=code,
        package=shlex.quote(f"{ROOT}=={code.version}") if released else None,
        pins=[shlex.quote(pin) for pin in pins],
        python=python,
        minor=".".join(python.split(".")[:2]),
        seed=recipe.seed,
        own=network.name if network.own else None,
        # Between quotes of the shell.
        place=re.sub(r"[^\w.-]", "?", network.place, flags=re.ASCII),
        # If the bundle withholds its images, the check takes them from the data set.
        dataset=None if recipe.verify.ship_images else recipe.data.dataset,
        device=device,
        threads=threads,
    )
