"""Sweeps: many recipes that differ in a few settings, written as one TOML file.

description = "which constraint helps"
recipe = "digits"                  # base of all builds
seeds = [0, 1, 2]
[set]                              # settings of all builds
model.width = 0.25
[grid]                             # every combination of these values
prune.sparsity = [0.9, 0.95]
[variants.tscnc]                   # with the settings of each variant
[variants.unconstrained]
constrain.constraint = "none"
"""

from __future__ import annotations

import itertools
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from tscnc_deploy.arch import parse_arch
from tscnc_deploy.errors import InputError, RecipeError
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.recipe.file import load_recipe
from tscnc_deploy.recipe.section import Section
from tscnc_deploy.recipe.toml import toml_value
from tscnc_deploy.recipe.values import RecipeName, Seed, Text
from tscnc_deploy.resources import folder
from tscnc_deploy.text import not_among


class _File(Section):
    description: Text = ""
    recipe: Text = "digits"
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1000)]
    set: dict[str, Any] = Field({})
    grid: dict[str, Any] = Field({})
    variants: Annotated[dict[RecipeName, dict[str, Any]], Field(min_length=1)]


@dataclass(frozen=True)
class Sweep:
    """The builds of a sweep.

    Attributes:
        name: Name of the file, without suffix.
        description: Description in one line.
        recipes: By name of the run; ordered by seed, so that the results of an interrupted sweep are still comparable.
    """

    name: str
    description: str
    recipes: Mapping[str, Recipe]


def list_sweeps() -> list[Sweep]:
    """The built-in sweeps, sorted by name."""
    return [load_sweep(name) for name in _shipped()]


def load_sweep(
    sweep: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    data_root: str | None = None,
    seeds: Sequence[int] = (),
) -> Sweep:
    """Reads a sweep and validates every recipe in it.

    Args:
        sweep: Name of a built-in sweep, or path of a TOML file.
        overrides: Assignments such as "train.epochs=5" that override the file's in every build.
        data_root: Overrides data.root.
        seeds: Replace the file's seeds unless empty.

    Raises:
        RecipeError: The sweep is not found or not TOML, an entry is invalid, or the settings of a build are, which the
            message names.
    """
    path = _find(os.fspath(sweep))
    content = _read(path)
    base = content.recipe
    if base.endswith(".toml") and not Path(base).is_absolute():
        base = str(path.parent / base)
    recipes: dict[str, Recipe] = {}
    for seed in dict.fromkeys(seeds or content.seeds):
        for name, settings in _combinations(path, content):
            assignments = [f"{key}={toml_value(value)}" for key, value in settings.items()]
            run = f"{name}-seed{seed}"
            try:
                recipe = load_recipe(base, [*assignments, *overrides], data_root=data_root, seed=seed)
            except RecipeError as error:
                msg = "\n".join(f"{path.name}, {run}: {line}" for line in str(error).splitlines())
                raise RecipeError(msg) from None
            recipes[run] = recipe.model_copy(update={"name": name})
    return Sweep(path.stem, content.description, recipes)


def _combinations(path: Path, content: _File) -> Iterator[tuple[str, dict[str, object]]]:
    """Name and settings of every build of one seed."""
    axes: dict[str, Any] = dict(_flat(content.grid))
    for key, values in axes.items():
        if not isinstance(values, list) or not values:
            msg = f"{path.name}: grid.{key} = {toml_value(values)} is not an array of values to try"
            raise RecipeError(msg)
    for point in itertools.product(*axes.values()):
        place = dict(zip(axes, point, strict=True))
        suffix = "".join(f"-{_named(key, value)}" for key, value in place.items())
        for variant, settings in content.variants.items():
            yield variant + suffix, dict(_flat(content.set)) | place | dict(_flat(settings))


def _named(key: str, value: Any) -> str:
    """A value as a part of a run's name, which is also a folder's."""
    if isinstance(value, float):
        return f"{value:g}"
    with suppress(InputError):
        value = parse_arch(value).slug if key == "model.arch" and isinstance(value, str) else value
    return re.sub(r"[^A-Za-z0-9._-]+", "-", str(value)).strip("-") or "-"


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted((folder("pipelines") / "sweeps").glob("*.toml"))}


def _find(sweep: str) -> Path:
    shipped = _shipped()
    if sweep in shipped:
        return shipped[sweep]
    if Path(sweep).is_file():
        return Path(sweep)
    if sweep.endswith(".toml"):
        msg = f"{sweep}: file not found"
        raise RecipeError(msg)
    msg = f"sweep {sweep} {not_among(sweep, [*shipped, 'the path of a .toml file'])}"
    raise RecipeError(msg)


def _read(path: Path) -> _File:
    try:
        return _File.model_validate(tomllib.loads(path.read_text("utf-8-sig")))
    except ValidationError as error:
        first = error.errors()[0]
        msg = f"{path.name}: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
    except (ValueError, RecursionError) as error:
        msg = f"{path.name}: is not TOML: {error}"
    except OSError as error:
        msg = f"{path.name}: cannot be read: {error.strerror}"
    raise RecipeError(msg)
