"""What the tables of a recipe have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the recipe: unknown keys, wrong types and values out of range are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


S = TypeVar("S", bound=Section)


def without(contradictions: Iterator[str], section: S) -> S:
    """The section, for a validator to return.

    Raises:
        ValueError: Its settings contradict each other; has one line for each contradiction.
    """
    problems = "\n".join(contradictions)
    if problems:
        raise ValueError(problems)
    return section
