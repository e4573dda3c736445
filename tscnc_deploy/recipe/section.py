"""What all tables of a recipe share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the recipe: unknown keys, wrong types and values out of range are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


S = TypeVar("S", bound=Section)


def without(contradictions: Iterator[str], section: S) -> S:
    """The section, if its settings do not contradict each other.

    Raises:
        ValueError: They do; one contradiction on a line.
    """
    problems = "\n".join(contradictions)
    if problems:
        raise ValueError(problems)
    return section
