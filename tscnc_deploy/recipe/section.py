"""The base class of the tables of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the recipe; refuses unknown keys, wrong types and values out of range."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


S = TypeVar("S", bound=Section)


def without(contradictions: Iterator[str], section: S) -> S:
    """Checks for contradictions; returns the section, as pydantic's validators must.

    Raises:
        ValueError: Its settings contradict each other; the message has one line per contradiction.
    """
    problems = "\n".join(contradictions)
    if problems:
        raise ValueError(problems)
    return section
