"""The types of values in a recipe, and their error messages.

A message completes a sentence that begins with the key and the value: "prune.sparsity = 95 is not a share ...".
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, PositiveFloat

from tscnc_deploy.arch import parse_arch
from tscnc_deploy.errors import InputError
from tscnc_deploy.names import ATTACKS, DATASETS, ENSEMBLES, Measure
from tscnc_deploy.recipe.licenses import LICENSES
from tscnc_deploy.text import did_you_mean, not_among

# The numbers in attack names.
_NUMBERS = {
    "STEPS": r"[1-9]\d{0,5}",
    "QUERIES": r"[1-9]\d{0,6}",
    "RESTARTS": r"[1-9]\d{0,2}",
    "TARGETS": r"[1-9]\d{0,2}",
}
_FORMS = "|".join(name.form for name in ATTACKS.values()).replace("[", "(").replace("]", ")?")
# `robustness.attacks.names` creates attacks from the names; here they are checked without importing it.
_ATTACK = re.compile(
    "|".join((re.sub(r"[A-Z]+", lambda word: _NUMBERS[word[0]], _FORMS), *ENSEMBLES)),
)
_CAPABILITY = re.compile(r"SM[1-9]\d{1,2}")
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,99})?")


def _share(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value < 1:
        hint = f"; write {value / 100:g} for {value:g}%" if 1 < value < 100 else "; write 0.95 for 95%"
        msg = f"is not a share from 0 up to but not including 1{hint}"
        raise ValueError(msg)
    return value


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _unset(value: object) -> object:
    # TOML has no null, so the word "none" unsets a key that can be unset.
    return None if value == "none" else value


def _text(value: str) -> str:
    # Command-line arguments that are not UTF-8 arrive as lone surrogates, which cannot be written to a file.
    if any("\ud800" <= character <= "\udfff" for character in value):
        msg = "is not valid UTF-8 text"
        raise ValueError(msg)
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        msg = "is not a name of at most 100 letters, digits, '.', '_' and '-' that starts with a letter or a digit"
        raise ValueError(msg)
    return value


def _attack(value: str) -> str:
    if not _ATTACK.fullmatch(value):
        msg = "is not an attack such as fgsm, pgd-20, pgd-20x5 (5 restarts), apgd-ce-50, square-1000 or fast"
        raise ValueError(msg)
    return value


def _capability(value: str) -> str:
    if not _CAPABILITY.fullmatch(value):
        msg = "is not a compute capability such as SM80 or SM120, see https://developer.nvidia.com/cuda-gpus"
        raise ValueError(msg)
    return value


def _architecture(value: str) -> str:
    try:
        parse_arch(value)
    except InputError as error:
        raise ValueError(str(error)) from None
    return value


def _arguments(value: dict[str, object]) -> dict[str, object]:
    for name, entry in value.items():
        if not name.isidentifier():
            msg = f"has the name {name!r}, which is no Python name"
            raise ValueError(msg)
        items = entry if isinstance(entry, list) else [entry]
        if not all(isinstance(item, bool | int | float | str) for item in items):
            msg = f"has a value at {name} that is no number, string or truth value, and no array of them"
            raise ValueError(msg)
    return value


def _dataset(value: str) -> str:
    if value not in DATASETS:
        raise ValueError(not_among(value, DATASETS))
    return value


def _license(value: str) -> str:
    if value not in LICENSES:
        hint = did_you_mean(value, LICENSES) or '; write "other" for any other licence'
        msg = f"is not a licence in https://huggingface.co/docs/hub/repositories-licenses{hint}"
        raise ValueError(msg)
    return value


def _each_once(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if values.count(value) > 1:
            msg = f'contains "{value}" twice'
            raise ValueError(msg)
    return values


def _not_empty(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        msg = "is empty; write at least one"
        raise ValueError(msg)
    return values


Architecture = Annotated[str, AfterValidator(_text), AfterValidator(_architecture)]
Arguments = Annotated[dict[str, Any], AfterValidator(_arguments)]
DatasetName = Annotated[str, AfterValidator(_dataset)]
RecipeName = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, AfterValidator(_text)]
Share = Annotated[float, BeforeValidator(_share)]
# Not pydantic's PositiveInt, so that messages read "at least 1" instead of "above 0".
Count = Annotated[int, Field(ge=1, lt=2**31)]
Epochs = Annotated[NonNegativeInt, Field(lt=2**31)]
# 0 uses all.
Limit = Annotated[NonNegativeInt, Field(lt=2**31)]
Seed = Annotated[NonNegativeInt, Field(lt=2**31)]
OptionalText = Annotated[Text | None, BeforeValidator(_unset)]
OptionalCount = Annotated[Count | None, BeforeValidator(_unset)]
OptionalShare = Annotated[Share | None, BeforeValidator(_unset)]
OptionalPositive = Annotated[PositiveFloat | None, BeforeValidator(_unset)]
Attack = Annotated[str, AfterValidator(_attack)]
Attacks = Annotated[tuple[Attack, ...], BeforeValidator(_tuple), AfterValidator(_each_once)]
SomeAttacks = Annotated[Attacks, AfterValidator(_not_empty)]
Targets = Annotated[tuple[Text, ...], BeforeValidator(_tuple), AfterValidator(_not_empty), AfterValidator(_each_once)]
License = Annotated[str, AfterValidator(_license)]
Measures = Annotated[tuple[Measure, ...], BeforeValidator(_tuple), AfterValidator(_each_once)]
Capabilities = Annotated[
    tuple[Annotated[str, AfterValidator(_capability)], ...], BeforeValidator(_tuple), AfterValidator(_each_once)
]
Stages = Annotated[
    tuple[Literal["train", "prune", "finetune"], ...], BeforeValidator(_tuple), AfterValidator(_each_once)
]
