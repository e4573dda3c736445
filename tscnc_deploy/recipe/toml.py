"""Writes a recipe as TOML with a description of every key, both for a file to edit and for the record of a run."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from pydantic.fields import FieldInfo

from tscnc_deploy.recipe import Recipe
from tscnc_deploy.recipe.section import Section

_WIDTH = 110


def toml_value(value: object) -> str:
    """A boolean, number or string, or an array or table of them, as TOML; None becomes "none", which unsets a key."""
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return '"none"'
        case str():
            # JSON and TOML use the same escapes, except for DEL, which only TOML forbids in a string.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return f"[{', '.join(toml_value(item) for item in value)}]"
        case dict():
            return f"{{{', '.join(f'{name} = {toml_value(item)}' for name, item in value.items())}}}"
        case _:
            return repr(value)


def to_toml(recipe: Recipe, comments: bool = True) -> str:
    """The recipe as a TOML file that reads back as an equal recipe.

    Args:
        recipe: The recipe; every key is written, including those with their default.
        comments: Whether to add the description of every section and key, and the defaults.
    """
    return "\n".join(_lines(recipe, comments)) + "\n"


def key_of(name: str, field: FieldInfo) -> str:
    """The key of a field in TOML; they differ for lambda, which is a Python keyword."""
    return field.alias or name


def _lines(recipe: Recipe, comments: bool) -> Iterator[str]:
    sections: dict[str, Section] = {}
    if comments:
        yield f"# {Recipe.__doc__}"
        yield '# An omitted key has its default; "none" unsets a key that can be unset.'
    for name, field in Recipe.model_fields.items():
        value = getattr(recipe, name)
        if isinstance(value, Section):
            sections[name] = value
        else:
            yield from _key(name, field, value, comments)
    for section, settings in sections.items():
        yield from ("", f"[{section}]")
        if comments:
            yield from _comment(settings.__doc__ or "")
        for name, field in type(settings).model_fields.items():
            yield from _key(name, field, getattr(settings, name), comments)


def _key(name: str, field: FieldInfo, value: object, comments: bool) -> Iterator[str]:
    if comments:
        yield ""
        yield from _comment(f"{field.description} (default: {toml_value(field.default)})")
    yield f"{key_of(name, field)} = {toml_value(value)}"


def _comment(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
