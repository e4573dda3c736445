"""Reads a built-in or a user's TOML file, applies overrides from the command line, and validates the `Recipe`."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tscnc_deploy.arch import parse_arch
from tscnc_deploy.errors import RecipeError
from tscnc_deploy.recipe import Recipe
from tscnc_deploy.recipe.problems import Setting, explain, shown
from tscnc_deploy.recipe.section import Section
from tscnc_deploy.recipe.toml import key_of, to_toml
from tscnc_deploy.resources import folder
from tscnc_deploy.text import any_of, closest, did_you_mean, not_among

__all__ = ["RecipeInfo", "default_recipe", "list_recipes", "load_recipe", "parse_assignment", "recipe_name", "to_toml"]


def _keys() -> Iterator[str]:
    for name, field in Recipe.model_fields.items():
        if isinstance(field.default, Section):
            inner = type(field.default).model_fields.items()
            yield from (f"{name}.{key_of(inner_name, inner_field)}" for inner_name, inner_field in inner)
        else:
            yield name


_KEYS = tuple(_keys())
# More dots than a list of numbers in a recipe has.
_MAX_DOTS = 4000
# A key whose value is a table of the user's own keys.
_TABLE = "model.args"
_OWN_FILE = "the path of a .toml file"
_SECTIONS = tuple(dict.fromkeys(key.partition(".")[0] for key in _KEYS if "." in key))


@dataclass(frozen=True)
class RecipeInfo:
    """A built-in recipe: its name for `--recipe`, its description, and its file."""

    name: str
    description: str
    path: Path


def list_recipes() -> list[RecipeInfo]:
    """The built-in recipes, sorted by name.

    Raises:
        RecipeError: One of their files is not a valid recipe, for example after an edit.
    """
    return [RecipeInfo(path.stem, load_recipe(path).description, path) for path in _shipped().values()]


def default_recipe(dataset: str | None) -> str:
    """The name of the recipe to build with if only the data set is known.

    Args:
        dataset: Name of the data set, or None for digits, which needs no download.

    Returns:
        The built-in recipe of that name; for other data sets "images", which suits colour photographs and has no limits
        on accuracy.
    """
    if dataset is None:
        return "digits"
    return dataset if dataset in _shipped() else "images"


def load_recipe(
    recipe: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    arch: str | None = None,
    sparsity: float | None = None,
    dataset: str | None = None,
    data_root: str | None = None,
    targets: Sequence[str] = (),
    seed: int | None = None,
    text: str | None = None,
) -> Recipe:
    """Reads and validates a recipe. Individual arguments take precedence over `overrides`, which override the file.

    Args:
        recipe: Name of a built-in recipe, or path of a TOML file.
        overrides: Assignments such as "prune.sparsity=0.9", see `parse_assignment`.
        arch: Overrides model.arch; messages refer to this and the following arguments by their options, such as --arch.
        sparsity: Overrides prune.sparsity, a share in [0, 1).
        dataset: Overrides data.dataset.
        data_root: Overrides data.root.
        targets: Override export.targets unless empty.
        seed: Overrides seed.
        text: Content of the file if it was already read; `recipe` is then only its name.

    Returns:
        The recipe; its name is the file's name without .toml, unless the file sets one.

    Raises:
        RecipeError: The recipe or file is not found or not TOML, or settings are unknown, invalid or contradictory; the
            message lists each problem on its own line.
    """
    path = _find(os.fspath(recipe)) if text is None else Path(recipe)
    file = _short(path)
    settings: dict[str, Setting] = {}
    problems = list(_collect(_parse(path, text), file, settings))
    for assignment in overrides:
        key, value = parse_assignment(assignment)
        if key.startswith(f"{_TABLE}."):
            before = settings[_TABLE].value if _TABLE in settings else {}
            value = (before if isinstance(before, dict) else {}) | {key.removeprefix(f"{_TABLE}."): value}
            key = _TABLE
        settings[key] = Setting(value, "--set", key, overrides=True)
    options = {
        "model.arch": (arch, "--arch"),
        "prune.sparsity": (sparsity, "--sparsity"),
        "data.dataset": (dataset, "--dataset"),
        "data.root": (data_root, "--data-root"),
        "export.targets": (list(targets) or None, "--target"),
        "seed": (seed, "--seed"),
    }
    for key, (value, option) in options.items():
        if value is not None:
            settings[key] = Setting(value, option, overrides=True)
    problems += _unknown_targets(settings.get("export.targets"))
    try:
        loaded = Recipe.model_validate(_nested(settings))
    except ValidationError as error:
        problems += explain(error, settings, file)
    if problems:
        raise RecipeError("\n".join(problems)) from None
    named = settings.get("model.arch")
    if text is None and parse_arch(loaded.model.arch).own and not (named and named.overrides):
        _refuse_code_of_a_bundle(path, loaded.model.arch)
    return loaded if loaded.name else loaded.model_copy(update={"name": recipe_name(path)})


def _refuse_code_of_a_bundle(path: Path, arch: str) -> None:
    if (path.parent / "manifest.json").exists():
        msg = (
            f"{_short(path)}: is a bundle's recipe, and names code for its network ({arch}); code is not run because a "
            "bundle says so: give your copy with --arch FILE.py:FUNCTION"
        )
        raise RecipeError(msg)


def recipe_name(file: Path) -> str:
    """The default name of the recipe in a file: the file's name without suffix and invalid characters."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._")[:100] or "recipe"


def parse_assignment(assignment: str) -> tuple[str, object]:
    """Splits "section.key=value" and parses the value as TOML; a bare word that is not TOML is taken as a string.

    Raises:
        RecipeError: Not an assignment, an unknown key, or a value that begins like TOML but is invalid.
    """
    key, equals, text = (part.strip() for part in assignment.partition("="))
    if not equals:
        msg = f"--set {assignment} is not KEY=VALUE; write, for example, --set prune.sparsity=0.9"
        raise RecipeError(msg)
    if key in _SECTIONS:
        msg = f"--set {assignment} sets a whole section; set one of its keys, such as {_keys_of(key)[0]}"
        raise RecipeError(msg)
    if key not in _KEYS and not key.startswith(f"{_TABLE}."):
        msg = f"--set {assignment}: {key} {_unknown(key)}"
        raise RecipeError(msg)
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        if text.startswith(("[", "{", '"', "'")):
            msg = (
                f"--set {assignment}: {text} is not a TOML value; the shell may have removed its quotes, so write "
                f'--set \'{key}=["a", "b"]\' for an array'
            )
            raise RecipeError(msg) from None
        return key, text
    value = document["value"]
    # A second line could set a second key; TOML parses words such as 2026-01-31 as dates.
    return key, text if len(document) > 1 or isinstance(value, date | time) else value


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder("pipelines").glob("*.toml"), key=lambda path: path.stem)}


def _find(recipe: str) -> Path:
    shipped = _shipped()
    if recipe in shipped:
        return shipped[recipe]
    path = Path(recipe)
    with suppress(OSError):  # a name that is too long for the file system is not a file either
        if path.is_dir():
            msg = f"{recipe} is a folder; give a recipe ({any_of(shipped)}) or a .toml file in it"
            raise RecipeError(msg)
        if path.exists():
            return path
    if path.suffix == ".toml" or path.name != recipe:
        msg = f"{recipe}: file not found; to create a recipe to edit, run: tscnc-deploy init {recipe}"
        raise RecipeError(msg)
    msg = f"--recipe {recipe} {not_among(recipe, [*shipped, _OWN_FILE])}"
    raise RecipeError(msg)


def _parse(path: Path, text: str | None) -> dict[str, Any]:
    file = _short(path)
    try:
        # Some editors begin a UTF-8 file with a byte-order mark, which TOML does not allow.
        text = path.read_text("utf-8-sig") if text is None else text
        _refuse_long_keys(text)
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        msg = f"{file}: is not UTF-8 text (byte {error.start}); save it as UTF-8"
    except tomllib.TOMLDecodeError as error:
        msg = f"{file}: is not TOML: {error}"
    except (ValueError, RecursionError) as error:
        msg = f"{file}: is not TOML: {error}"
    except OSError as error:
        msg = f"{file}: cannot be read: {error.strerror}"
    raise RecipeError(msg)


def _refuse_long_keys(text: str) -> None:
    # The parser's time grows quadratically with the number of parts of a dotted key, which is on one line.
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") > _MAX_DOTS:
            msg = f"line {number} contains {line.count('.')} dots; at most {_MAX_DOTS} are allowed"
            raise ValueError(msg)


def _collect(document: Mapping[str, Any], file: str, settings: dict[str, Setting]) -> Iterator[str]:
    """Adds the known keys of a file to the settings, and yields a problem for each of the others."""
    origin = f"{file}:"
    for name, value in document.items():
        if name in _SECTIONS and not isinstance(value, dict):
            yield f"{origin} {name} = {shown(value)} is not a section; write [{name}] and its keys below it"
        elif name in _SECTIONS:
            for inner, setting in value.items():
                if (key := f"{name}.{inner}") in _KEYS:
                    settings[key] = Setting(setting, origin, key)
                else:
                    yield f"{origin} {key} {_unknown(key)}"
        elif isinstance(value, dict):
            yield f"{origin} [{name}] {_unknown_section(name)}"
        elif name in _KEYS:
            settings[name] = Setting(value, origin, name)
        else:
            yield f"{origin} {name} {_unknown(name)}"


def _unknown(key: str) -> str:
    section, _, name = key.rpartition(".")
    if section and section not in _SECTIONS:
        return f"is not a key of a recipe: [{section}] {_unknown_section(section)}"
    siblings = _keys_of(section)
    # Compare names without sections: train.epoch is close to train.epochs because of its name, not its section.
    matches = _named(name) or _named(_closest(name, siblings), siblings) or _named(_closest(name, _KEYS))
    hint = f"did you mean {any_of(matches)}?" if matches else f"write {any_of(siblings)}"
    return f"is not a key of a recipe; {hint}"


def _named(name: str | None, keys: Sequence[str] = _KEYS) -> list[str]:
    return [key for key in keys if key.rpartition(".")[2] == name]


def _closest(name: str, keys: Sequence[str]) -> str | None:
    return closest(name, [key.rpartition(".")[2] for key in keys])


def _unknown_section(name: str) -> str:
    return f"is not a section of a recipe{did_you_mean(name, _SECTIONS) or f'; write {any_of(_SECTIONS)}'}"


def _keys_of(section: str) -> list[str]:
    return [key for key in _KEYS if key.rpartition(".")[0] == section]


def _unknown_targets(targets: Setting | None) -> Iterator[str]:
    if targets is None or not isinstance(targets.value, list):
        return
    known = [path.stem for path in sorted(folder("export").glob("*.toml"))]
    for index, target in enumerate(targets.value):
        if not isinstance(target, str) or target in known:
            continue
        path, found = Path(target), False
        with suppress(OSError):
            found = path.is_file()
        if path.suffix != ".toml":
            yield f"{targets.introduce(target, index)} {not_among(target, [*known, _OWN_FILE])}"
        elif not found:
            yield f"{targets.introduce(target, index)} is not a file"


def _nested(settings: Mapping[str, Setting]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, setting in settings.items():
        section, _, name = key.rpartition(".")
        table = document.setdefault(section, {}) if section else document
        table[name] = setting.value
    return document


def _short(path: Path) -> str:
    """The path as a user would type it: relative to the current folder if it is inside it."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
