"""Messages about invalid settings of a recipe, with what would be valid."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from tscnc_deploy.recipe.toml import toml_value
from tscnc_deploy.text import any_of, did_you_mean

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_LONGEST = 80  # characters of a value that a message shows

# Pydantic's error type -> what the value should have been; names in braces are filled in from the error's context.
_EXPECTED = {
    "bool_type": ("true", "false"),
    "int_type": ("a whole number",),
    "float_type": ("a number",),
    "finite_number": ("a finite number",),
    "string_type": ("a string",),
    "tuple_type": ("an array",),
    "list_type": ("an array",),
    "dict_type": ("a table",),
    "greater_than": ("above {gt:g}",),
    "greater_than_equal": ("at least {ge:g}",),
    "less_than": ("below {lt}",),
    "less_than_equal": ("at most {le:g}",),
}


@dataclass(frozen=True)
class Setting:
    """One value that the user set, and how messages refer to where it was set.

    Attributes:
        value: The value from TOML or the command line.
        origin: "mine.toml:", "--set", or an option such as "--sparsity".
        key: The dotted key, such as "prune.sparsity"; empty for an option, whose name implies it.
        overrides: Whether it replaces a value from the file.
    """

    value: object
    origin: str
    key: str = ""
    overrides: bool = False

    def introduce(self, value: object, index: int | None = None) -> str:
        """The beginning of a message about this setting's value, or about one element of it."""
        if not self.key:
            return f"{self.origin} {_as_typed(value)}"
        element = "" if index is None else f"[{index}]"
        return f"{self.origin} {self.key}{element} = {shown(value)}"


def shown(value: object) -> str:
    """A value of any TOML type as it would be written in a file, truncated if it is long."""
    match value:
        case dict():
            return "{...}"
        case list() if any(isinstance(item, dict | list) for item in value):
            return "[...]"
        case int() if value.bit_length() > 1024:
            text = hex(value)  # Python refuses to write huge integers in decimal
        case str() | int() | float() | list() | tuple():
            text = toml_value(value)
        case _:
            text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def explain(error: ValidationError, settings: Mapping[str, Setting], file: str) -> Iterator[str]:
    """One message for every invalid setting and for every contradiction between settings.

    Args:
        error: Pydantic's error about the settings.
        settings: The settings by dotted key.
        file: Name of the recipe's file, for messages.
    """
    for place, group in groupby(error.errors(include_url=False), key=lambda details: _place(details, settings)):
        details = list(group)
        if place is None:
            for contradiction in str(details[0]["ctx"]["error"]).splitlines():
                yield f"{_with_overrides(file, contradiction, settings)}: {contradiction}"
        else:
            key, index = place
            yield f"{settings[key].introduce(details[0]['input'], index)} {_problem(details)}"


def _place(details: ErrorDetails, settings: Mapping[str, Setting]) -> tuple[str, int | None] | None:
    """The key, and the index within an array, that an error is about; None if it is about several keys."""
    location = details["loc"]
    for depth in (1, 2):
        key = ".".join(str(part) for part in location[:depth])
        if len(location) >= depth and key in settings:
            # After the key come indices, and branches of a union, which mean nothing to a user.
            return key, next((part for part in location[depth:] if isinstance(part, int)), None)
    return None


def _with_overrides(file: str, contradiction: str, settings: Mapping[str, Setting]) -> str:
    overrides = [s.introduce(s.value) for key, s in settings.items() if s.overrides and key in contradiction]
    return f"{file} with {' '.join(overrides)}" if overrides else file


def _problem(details: list[ErrorDetails]) -> str:
    """The problem with one value, combined from all branches of a union."""
    first = details[0]
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    expected = [words.format(**d.get("ctx", {})) for d in details for words in _expected(d)]
    return f"is not {any_of(expected)}{_hint(first['input'], expected)}"


def _expected(details: ErrorDetails) -> tuple[str, ...]:
    if details["type"] == "literal_error":
        # pydantic lists them as "'a', 'b' or 'c'".
        return tuple(f'"{choice}"' for choice in details["ctx"]["expected"].split("'")[1::2])
    return _EXPECTED[details["type"]]


def _hint(value: object, expected: list[str]) -> str:
    match value:
        case str() if "an array" in expected:
            return f"; write [{shown(value)}]"
        case str() if any(choice.startswith('"') for choice in expected):
            return did_you_mean(value, [choice.strip('"') for choice in expected])
        case str() if _is_unquoted(value):
            return "; write it without quotes"
        case float() if "a whole number" in expected and value.is_integer():
            return f"; write {int(value)}"
        case int() | float() if "a string" in expected and len(shown(value)) < _LONGEST:
            return f'; write "{shown(value)}"'
    return ""


def _is_unquoted(text: str) -> bool:
    try:
        return not isinstance(tomllib.loads(f"value = {text}")["value"], str)
    except (ValueError, RecursionError):
        return False


def _as_typed(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)
